"""Downloads beside the engine's line: a job whose weights have to come first holds up nobody.

Each runs in a thread of its own, at most one for a model. Its job is running, in the stage of
downloading, and goes back to its old place in the queue when the weights are here.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future

from wan_mcp.schema.jobs import Job

__all__ = ["Downloads"]


class Downloads:
    """Those that are under way."""

    def __init__(self, download: Callable[[Job], None]) -> None:
        """`download` brings what a job lacks and says in the job table how it ended."""
        self._download = download
        self._under_way: dict[str, tuple[threading.Thread, Future[None]]] = {}

    def start(self, job: Job) -> None:
        """Bring the weights of a job's model; none of that model's may be under way."""
        end: Future[None] = Future()

        def run() -> None:
            try:
                end.set_result(self._download(job))
            except BaseException as error:  # handed over to the engine's thread, which raises it
                end.set_exception(error)

        # A daemon: a read that hangs must not hold up the end of the process.
        thread = threading.Thread(target=run, name=f"download-{job.id}", daemon=True)
        self._under_way[job.plan.model] = thread, end
        thread.start()

    def models(self) -> tuple[str, ...]:
        """The models whose weights are coming.

        Raises:
            Whatever broke a download in spite of all that is caught: its job is still running, and nobody's.
        """
        for model, (_, end) in list(self._under_way.items()):
            if end.done():
                del self._under_way[model]
                end.result()
        return tuple(self._under_way)

    def wait(self, seconds: float) -> None:
        """Wait for all to end, each at most so long; they were told to stop by other means."""
        for thread, _ in self._under_way.values():
            thread.join(seconds)
