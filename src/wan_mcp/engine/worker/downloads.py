"""Background downloads: a job that needs weights first does not block other jobs.

Each download has its own thread, at most one per model. Its job is in state running, in the
download stage, and returns to its place in the queue when the weights are complete.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future

from wan_mcp.schema.jobs import Job

__all__ = ["Downloads"]


class Downloads:
    """The current downloads."""

    def __init__(self, download: Callable[[Job], None]) -> None:
        """Start empty; `download` fetches a job's weights and writes the outcome to the job table."""
        self._download = download
        self._under_way: dict[str, tuple[threading.Thread, Future[None]]] = {}

    def start(self, job: Job) -> None:
        """Start to download the weights of a job's model, which must not be downloading already."""
        end: Future[None] = Future()

        def run() -> None:
            try:
                end.set_result(self._download(job))
            except BaseException as error:  # raised again in the engine's thread
                end.set_exception(error)

        # A daemon thread: a blocked read must not delay the exit of the process.
        thread = threading.Thread(target=run, name=f"download-{job.id}", daemon=True)
        self._under_way[job.plan.model] = thread, end
        thread.start()

    def models(self) -> tuple[str, ...]:
        """Return the models whose weights are downloading.

        Raises:
            Any unexpected exception of a download thread, whose job is still in state running.
        """
        for model, (_, end) in list(self._under_way.items()):
            if end.done():
                del self._under_way[model]
                end.result()
        return tuple(self._under_way)

    def wait(self, seconds: float) -> None:
        """Wait up to `seconds` for each download to end; the caller has signalled them to stop."""
        for thread, _ in self._under_way.values():
            thread.join(seconds)
