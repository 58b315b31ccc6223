"""Processes that are the ranks of jobs, started once: importing torch takes longer than what they are asked to do."""

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

__all__ = ["TIME_LIMIT_S", "RankProcesses", "rank_processes"]

TIME_LIMIT_S = 120.0
"""Of a rank's collectives: generous: ranks share few cores, and import libraries at different speeds."""
PATIENCE_S = 300.0


class RankProcesses:
    """Some processes, each with one end of a pipe; `run` has as many of them as are asked for form a group."""

    def __init__(self, count: int, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self.processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, device), daemon=True)
            process.start()
            theirs.close()
            self._ends.append(ours)
            self.processes.append(process)

    def run(self, ranks: int, work: str, time_limit_s: float = TIME_LIMIT_S, **given: Any) -> list[Any]:
        """Call `rank_work.WORK(group, **given)` on ranks 0 to `ranks` - 1.

        Returns:
            What each returned, or the error that it raised as `(its class's name, its words)`; None for a dead process.
        """
        with tempfile.TemporaryDirectory() as folder:
            for rank, end in enumerate(self._ends[:ranks]):
                end.send((folder, rank, ranks, time_limit_s, work, given))
            return [self._answer(end) for end in self._ends[:ranks]]

    def _answer(self, end: Connection) -> Any:
        if not end.poll(PATIENCE_S):
            raise TimeoutError("a rank does not answer")
        try:
            return end.recv()
        except EOFError:
            return None

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.join()
        for end in self._ends:
            end.close()


@contextmanager
def rank_processes(count: int, device: str = "cpu") -> Iterator[RankProcesses]:
    """Provide processes within the `with` block: on the CPU, or each on a GPU of its own ("cuda")."""
    processes = RankProcesses(count, device)
    try:
        yield processes
    finally:
        processes.close()


def _serve(end: Connection, device: str) -> None:
    """Do what a rank is asked to, until the test ends."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from tests.support import rank_work
    from wan_mcp.engine.parallel.rank_group import joined_ranks

    torch.set_num_threads(1)
    while True:
        try:
            folder, rank, ranks, time_limit_s, work, given = end.recv()
        except EOFError:
            return
        try:
            mine = torch.device(f"cuda:{rank}" if device == "cuda" else device)
            with joined_ranks(Path(folder), rank, ranks, mine, time_limit_s) as group:
                answer = getattr(rank_work, work)(group, **given)
        except Exception as error:
            answer = (type(error).__name__, str(error))
        end.send(answer)
