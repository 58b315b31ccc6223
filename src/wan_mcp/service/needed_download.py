"""The download that a job needs before it can run, whether it may start unasked, and who may agree to it.

The home's own user may; other owners only if the settings say so: their jobs would fill a disk that is not theirs.
"""

from dataclasses import dataclass
from pathlib import Path

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import ConsentNeeded, DownloadNotAllowed
from wan_mcp.service.owners import HOME_USER, owner_now
from wan_mcp.settings import Settings
from wan_mcp.text import duration, in_bytes
from wan_mcp.weights.download_rate import expected_seconds
from wan_mcp.weights.hub import Hub
from wan_mcp.weights.hub_cache import free_bytes
from wan_mcp.weights.installed import is_installed
from wan_mcp.weights.missing import missing_bytes

__all__ = ["NeededDownload", "may_agree", "needed_download", "require_consent"]


@dataclass(frozen=True)
class NeededDownload:
    """What a model lacks on this machine."""

    model: str
    size: int
    """Bytes that are missing."""
    folder: Path
    """Where they would be kept."""
    free: int
    """Bytes that may be written to its disk; the reserve of the settings is not among them."""
    seconds: float | None
    """At the rate of the last large download; None if there was none."""
    limit: int | None
    """The most bytes that may start unasked; None for any number."""
    allowed: bool
    """False where the settings forbid jobs to download."""
    agreeable: bool
    """True if the caller may agree to a large one."""

    @property
    def needs_consent(self) -> bool:
        """True if it does not start unasked."""
        return self.allowed and self.limit is not None and self.size > self.limit

    @property
    def has_room(self) -> bool:
        """True if the disk has room for it."""
        return self.size <= self.free

    def __str__(self) -> str:
        """Return it in words, without a full stop."""
        time = "" if self.seconds is None else f", about {duration(self.seconds, precise=False)} at the last rate"
        room = f"{in_bytes(self.free)} are free on its disk" + ("" if self.has_room else ": too little")
        return f"{in_bytes(self.size)} to {self.folder} ({room}){time}"


def may_agree(settings: Settings) -> bool:
    """Check whether the current caller may agree to large downloads."""
    return owner_now() == HOME_USER or settings.owners_may_download


def needed_download(manifest: Manifest, settings: Settings) -> NeededDownload | None:
    """Return the download that a job of a model needs; None if the model is here. Uses no network."""
    if is_installed(manifest, settings.home):
        return None
    size = missing_bytes(manifest, settings.home)
    folder = Hub.from_environment().cache
    return NeededDownload(
        model=manifest.name,
        size=size,
        folder=folder,
        free=max(0, free_bytes(folder) - settings.min_free_bytes),
        seconds=expected_seconds(settings.home, size),
        limit=settings.max_download_bytes,
        allowed=settings.auto_download,
        agreeable=may_agree(settings),
    )


def require_consent(needed: NeededDownload | None) -> None:
    """Refuse a job whose download may not start unasked.

    Raises:
        ConsentNeeded: The message says how large it is, where it goes, and how to consent.
        DownloadNotAllowed: The caller may not consent to it.
    """
    if needed is None or not needed.needs_consent:
        return
    if not needed.agreeable:
        raise DownloadNotAllowed(
            f"'{needed.model}' is not on this machine and nothing was started: it needs a download of "
            f"{in_bytes(needed.size)}, and only the user of this server's home may agree to more than "
            f"{in_bytes(needed.limit or 0)}. Ask that person, or use another model (list_resolutions)"
        )
    raise ConsentNeeded(
        needed.model,
        needed.size,
        f"'{needed.model}' is not on this machine and nothing was started: it needs a download of {needed}, and more "
        f"than {in_bytes(needed.limit or 0)} is not downloaded unasked",
        f"If the user agrees, call again with download=true, or run 'wan-mcp pull {needed.model}'; "
        "or use another model (list_resolutions)",
    )
