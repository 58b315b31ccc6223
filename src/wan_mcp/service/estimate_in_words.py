"""An estimate as callers get it: facts for programs, and the same in lines for people and models."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import Fit
from wan_mcp.schema.plans import InputImage, Plan
from wan_mcp.service.describe import what_it_makes
from wan_mcp.service.estimate import Estimate
from wan_mcp.service.repeatable_request import repeatable_request
from wan_mcp.text import duration, in_bytes, one_line

__all__ = ["estimate_facts", "estimate_lines", "request_as_it_would_run"]

FITS = {
    Fit.RESIDENT: "resident: all of it stays in the memory that computes",
    Fit.OFFLOADED: "offloaded: one expert at a time is on the GPU",
    Fit.STREAMED: "streamed from main memory, which is slower",
}


ONLY_HOME_USER = "only the user of this server's home may start it"


def estimate_facts(found: Estimate) -> dict[str, Any]:
    """Return an estimate for programs; sizes in bytes, times in seconds, None where something is unknown."""
    memory, download = found.memory, found.download
    return {
        "seconds": _rounded(found.seconds),
        "wait_s": _rounded(found.wait_s),
        "jobs_ahead": found.jobs_ahead,
        "fit": found.fit,
        "misfit": found.misfit,
        "needed_bytes": memory.needed if memory else None,
        "memory_bytes": memory.available if memory else None,
        "download": None
        if download is None
        else {
            "bytes": download.size,
            "folder": str(download.folder),
            "free_bytes": download.free,
            "seconds": _rounded(download.seconds),
            "needs_consent": download.needs_consent,
        },
    }


def request_as_it_would_run(plan: Plan, manifest: Manifest | None, home: Path) -> dict[str, Any]:
    """Return the request with every gap filled, to be sent as it is; without images that came in the call itself."""
    words = repeatable_request(plan, manifest, home)
    for name, image in plan.images.items():
        if words.get(name) == image.uri and not _is_here(image, home):
            del words[name]
    return words


def _is_here(image: InputImage, home: Path) -> bool:
    return (home / image.file).is_file()


def estimate_lines(found: Estimate) -> Iterable[str]:
    """Yield one fact a line: what would run, its time, its memory, its download, and the notes that it would have."""
    plan = found.plan
    steps = f", {plan.steps_run} steps" if plan.shape is not None else ""
    yield f"Dry run, nothing was queued: {what_it_makes(plan)} by '{plan.model}'{steps}."
    yield f"Time: {_time(found)}."
    yield f"Memory: {_memory(found)}"
    yield f"Download: {_download(found)}."
    yield from (f"Note: {one_line(note)}." for note in plan.notes)


def _time(found: Estimate) -> str:
    own = "unknown, nothing similar was measured on this machine yet"
    if found.seconds is not None:
        own = f"about {duration(found.seconds)}"
    if not found.jobs_ahead:
        return own
    ahead = f"{found.jobs_ahead} job{'s' if found.jobs_ahead > 1 else ''} ahead"
    return f"{own}, after {ahead}" + ("" if found.wait_s is None else f" ({duration(found.wait_s)})")


def _memory(found: Estimate) -> str:
    memory = found.memory
    if memory is None:
        return "unknown."
    if memory.misfit is not None:
        return f"does not fit, the call would be refused: {memory.misfit}"
    how = FITS.get(memory.fit, "unknown whether it fits") if memory.fit else "unknown whether it fits"
    return f"{how} (needs about {in_bytes(memory.needed)} of {in_bytes(memory.available)})."


def _download(found: Estimate) -> str:
    needed = found.download
    if needed is None:
        return "nothing"
    if not needed.allowed:
        return f"{needed}; jobs download nothing here, 'wan-mcp pull {needed.model}' does"
    if not needed.needs_consent:
        return str(needed)
    return f"{needed}; {'it starts only with download=true' if needed.agreeable else ONLY_HOME_USER}"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
