"""Files that go from one machine to another in pieces: which ones a job needs, and how they are put together."""

import hashlib
from pathlib import Path

from wan_mcp.cluster.messages import FileHere
from wan_mcp.errors import UserError
from wan_mcp.files import sha256_of
from wan_mcp.permissions import make_folder
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import CaptionPlan, Plan, VideoPlan

__all__ = ["INLINE_BYTES", "PIECE_BYTES", "Incoming", "bare", "below", "files_for", "localized", "read_piece"]

PIECE_BYTES = 4 * 1024 * 1024
INLINE_BYTES = 64 * 1024
"""Pieces of this size travel with the answer itself: Ray puts only results above 100 kB into its object store."""
LORAS = "loras/cluster"


class NotHere(UserError):
    """A file that a message names cannot be one of this home."""


def below(home: Path, place: str) -> Path:
    """Return the path of a place below the home.

    Raises:
        NotHere: it is not below the home.
    """
    path = home / place
    if not path.resolve().is_relative_to(home.resolve()):
        raise NotHere(f"'{place}' is not a file of this home")
    return path


def read_piece(path: Path, offset: int, size: int) -> bytes:
    """Return up to `size` bytes of a file from `offset` on.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


class Incoming:
    """A file that comes in pieces, in their order; it has its name when it is whole."""

    def __init__(self, target: Path, file: FileHere, unfinished: Path) -> None:
        """Begin to write `file` at `unfinished`, which is on the same disk as `target`."""
        self._target, self._file, self._unfinished = target, file, unfinished
        make_folder(target.parent)
        make_folder(unfinished.parent)
        self._unfinished.write_bytes(b"")
        self._hash = hashlib.sha256()
        self._size = 0

    def add(self, offset: int, piece: bytes) -> None:
        """Add the piece that begins at `offset`, if it is the next one: calls that were made again come twice.

        Raises:
            OSError: it cannot be written.
            ValueError: the whole file is not the one that was announced.
        """
        if offset != self._size:
            return
        with self._unfinished.open("ab") as file:
            file.write(piece)
        self._hash.update(piece)
        self._size += len(piece)
        if self._size < self._file.bytes:
            return
        if self._size > self._file.bytes or self._file.sha256 not in ("", self._hash.hexdigest()):
            self._unfinished.unlink()
            raise ValueError(f"{self._file.place} came damaged")
        self._unfinished.replace(self._target)


def files_for(plan: Plan, home: Path) -> tuple[Plan, dict[str, Path], tuple[FileHere, ...]]:
    """Return a plan for another home, where its files are here by their places there, and these files.

    Those are its images and videos, its LoRAs, and the manifests that are not shipped with wan-mcp.

    Raises:
        OSError: a file cannot be read.
    """
    sources: dict[str, Path] = {}
    files: list[FileHere] = []

    def add(place: str, source: Path, sha256: str) -> None:
        if place not in sources:
            sources[place] = source
            files.append(FileHere(place=place, bytes=source.stat().st_size, sha256=sha256))

    images = [*plan.images.values(), *(plan.more_frames if isinstance(plan, CaptionPlan) else ())]
    for image in images:
        add(image.file, home / image.file, "")
    if isinstance(plan, VideoPlan) and plan.extends is not None:
        add(plan.extends.file, home / plan.extends.file, "")
    if not isinstance(plan, CaptionPlan) and plan.lora:
        moved = []
        for lora in plan.lora:
            place = f"{LORAS}/{lora.sha256}{Path(lora.file).suffix}"
            add(place, Path(lora.file), lora.sha256)
            moved.append(lora.model_copy(update={"file": place}))
        plan = plan.model_copy(update={"lora": tuple(moved)})
    if plan.engine is not None:  # results are signed here: the key does not travel
        plan = plan.model_copy(update={"engine": plan.engine.model_copy(update={"credentials": None})})
    manifests = home / "manifests"
    for manifest in sorted(manifests.rglob("*.toml")):
        add(manifest.relative_to(home).as_posix(), manifest, sha256_of(manifest))
    return plan, sources, tuple(files)


def bare(job: Job, plan: Plan) -> Job:
    """Return what an engine of another home needs of a job, with `plan` for that home.

    Whose job it is, and where its results are here, concerns no other machine.
    """
    return Job(
        id=job.id,
        request_id=None,
        state=job.state,
        plan=plan,
        created_at=job.created_at,
        attempt=job.attempt,
        crashes=job.crashes,
        download_limit=job.download_limit,
    )


def localized(plan: Plan, home: Path) -> Plan:
    """Return a plan that came from another home with the paths of this one."""
    if isinstance(plan, CaptionPlan) or not plan.lora:
        return plan
    loras = tuple(each.model_copy(update={"file": str(below(home, each.file))}) for each in plan.lora)
    return plan.model_copy(update={"lora": loras})
