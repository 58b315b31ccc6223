"""One owner has a few turns at once, however many it asks for, and the others have theirs meanwhile."""

import anyio
import pytest

from tests.support.patience import PATIENCE_S
from wan_mcp.errors import QuotaReached
from wan_mcp.fronts.shares import Shares

pytestmark = pytest.mark.anyio


async def test_an_owner_with_many_turns_keeps_nobody_else_waiting() -> None:
    shares, end, begun = Shares(at_once=3, of_one=2, waiting=2), anyio.Event(), list[str]()

    async def have_a_turn(owner: str) -> None:
        async with shares.turn(owner):
            begun.append(owner)
            await end.wait()

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(have_a_turn, "alice")
            await anyio.wait_all_tasks_blocked()
            assert begun == ["alice", "alice"]
            with pytest.raises(QuotaReached):
                async with shares.turn("alice"):
                    pass
            tasks.start_soon(have_a_turn, "bob")
            await anyio.wait_all_tasks_blocked()
            assert begun == ["alice", "alice", "bob"]
            end.set()
        assert begun.count("alice") == 4
        async with shares.turn("alice"):  # nothing is left of before
            pass
