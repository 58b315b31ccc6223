"""Ranks that notice the end of another."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S
from wan_mcp.engine.parallel.rank_watch import gone_ranks, held_rank_file, watched_ranks
from wan_mcp.errors import RankLost

OTHER = """
import sys
from pathlib import Path
from wan_mcp.engine.parallel.rank_watch import held_rank_file
with held_rank_file(Path(sys.argv[1]), 1):
    print("here", flush=True)
    if sys.stdin.readline() == "give up\\n":
        raise SystemExit("given up")
print("ended", flush=True)
sys.stdin.readline()
"""


@contextmanager
def other_rank(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run rank 1 in another process, until it is told to give up or to end."""
    command = [sys.executable, "-c", OTHER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def say(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{words}\n")
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("end", ["killed", "give up"])
def test_a_rank_that_is_killed_or_gives_up_is_noticed(tmp_path: Path, end: str) -> None:
    lost = threading.Event()
    with held_rank_file(tmp_path, 0), other_rank(tmp_path) as other:
        assert heard(other) == "here"
        with watched_ranks(tmp_path, 0, 2, lost.set):
            other.kill() if end == "killed" else say(other, end)
            assert lost.wait(PATIENCE_S)


def test_a_rank_that_ends_in_good_order_is_not_lost(tmp_path: Path) -> None:
    with other_rank(tmp_path) as other:
        assert heard(other) == "here"
        assert gone_ranks(tmp_path, [1]) == [], "it lives"
        say(other, "end")
        assert heard(other) == "ended"
        assert gone_ranks(tmp_path, [1]) == []
    assert gone_ranks(tmp_path, [1]) == [], "its process has ended"


def test_a_rank_that_comes_when_the_meeting_is_over_finds_the_others_lost(tmp_path: Path) -> None:
    with pytest.raises(RankLost, match="cannot meet"), held_rank_file(tmp_path / "removed", 0):
        raise AssertionError
