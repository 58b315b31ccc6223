"""Files of results that are finished in a thread, while the next result is made."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from wan_mcp.schema.jobs import Artifact

__all__ = ["FinishingFiles", "finishing_files"]


class FinishingFiles:
    """Files that are finished behind the work on the next result, one after the other."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._begun: list[Future[None]] = []

    def finish(self, make: Callable[[], Artifact], add: Callable[[Artifact], None]) -> None:
        """Have `make` finish a file, and `add` told of it."""
        self._begun.append(self._pool.submit(lambda: add(make())))

    def require_no_failure(self, *, wait: bool = False) -> None:
        """Raise what the first file failed for, of those that are done, or of all."""
        for each in self._begun:
            if wait or each.done():
                each.result()


@contextmanager
def finishing_files() -> Iterator[FinishingFiles]:
    """Provide files that are all finished when the block ends, or abandoned if it fails."""
    with ThreadPoolExecutor(1, "files") as pool:
        files = FinishingFiles(pool)
        yield files
        files.require_no_failure(wait=True)
