"""Where results go: file names that are checked before a job runs, and whole files or none afterwards."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wan_mcp.errors import BadRequest, UserError
from wan_mcp.files import atomic_file
from wan_mcp.media.content_credentials import ContentCredentials
from wan_mcp.media.conversion import convert, require_encoder
from wan_mcp.media.store import CONVERSIONS
from wan_mcp.schema.enums import Kind
from wan_mcp.schema.jobs import Job
from wan_mcp.text import one_line

__all__ = ["Delivery"]

ENDINGS = {
    Kind.VIDEO: (".mp4", *CONVERSIONS[Kind.VIDEO]),
    Kind.IMAGE: (".png", *CONVERSIONS[Kind.IMAGE]),
    Kind.CAPTION: (".txt",),
}
"""The endings of a kind of result. The first is the result's own; it is converted to the others."""


@dataclass(frozen=True)
class Delivery:
    """Where and how the caller wants the result."""

    output: Path | None = None
    force: bool = False
    as_json: bool = False
    detach: bool = False
    opens: bool = False
    """Whether the results are opened with the system's viewer."""

    def check(self, kind: Kind, count: int) -> None:
        """Refuse a delivery that would fail, before anything runs.

        Raises:
            BadRequest: a file of that name exists, its folder does not, or its ending is of another kind of file.
        """
        if self.opens and (self.detach or kind is Kind.CAPTION):
            what = "--detach: a detached job is not waited for" if self.detach else "a caption, which is printed"
            raise BadRequest(f"--open cannot be used with {what}; omit one")
        if self.output is None:
            return
        if self.detach:
            raise BadRequest("--output and --detach exclude each other: a detached job is not waited for; omit one")
        endings, shown = ENDINGS[kind], one_line(str(self.output))
        if _kind_of(self.output) == stat.S_IFDIR:
            raise BadRequest(f"{shown} is a folder; name a file in it, such as {self.output / f'result{endings[0]}'}")
        if self.output.suffix.lower() not in endings:
            has = f"ends in {self.output.suffix}" if self.output.suffix else "has no ending"
            raise BadRequest(f"{shown} {has}; {'an' if kind is Kind.IMAGE else 'a'} {kind} needs {_listed(endings)}")
        folder = self.output.absolute().parent
        if _kind_of(folder) != stat.S_IFDIR:
            raise BadRequest(f"no folder {folder}; create it or choose another -o")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise BadRequest(f"the folder {folder} cannot be written; correct its permissions or choose another -o")
        taken = [target for target in self._targets(count) if _kind_of(target) is not None]
        odd = [str(target) for target in taken if _kind_of(target) != stat.S_IFREG]
        if odd:
            raise BadRequest(f"{', '.join(odd)} is not a regular file; choose another -o")
        if taken and not self.force:
            raise BadRequest(f"{', '.join(map(str, taken))} already exists; choose another -o or add --force")
        require_encoder(kind, self.output.suffix)

    def _targets(self, count: int) -> list[Path]:
        if self.output is None:
            return []
        if count == 1:
            return [self.output]
        return [self.output.with_stem(f"{self.output.stem}-{number}") for number in range(1, count + 1)]

    def deliver(
        self, job: Job, credentials: ContentCredentials | None = None, notes: list[str] | None = None
    ) -> list[Path]:
        """Write the results to their targets, each whole or not at all, and return the paths to print.

        Conversions are signed with `credentials`; what stops that is added to `notes`.

        Raises:
            BadRequest: A target cannot be written; the message names the result's own path.
        """
        if self.output is None:
            return [Path(artifact.saved_as or artifact.path) for artifact in job.artifacts]
        sources = [Path(artifact.path) for artifact in job.artifacts]
        if job.caption is not None:
            self._write(self.output, partial(_write_text, job.caption), f"job {job.id}")
            return [self.output]
        targets = self._targets(len(sources))
        for source, target in zip(sources, targets, strict=True):
            fill = partial(convert, source, ending=target.suffix, credentials=credentials)
            note = self._write(target, fill, str(source))
            if note is not None and notes is not None:
                notes.append(f"{target}: {note}")
        return targets

    def _write(self, target: Path, fill: Callable[[Path], str | None], result: str) -> str | None:
        """Write a file with what `fill` writes, and return the note that it returns."""
        real = target.resolve() if target.is_symlink() else target
        try:
            with atomic_file(real, durable=True, replace=self.force) as file:
                return fill(file)
        except FileExistsError as error:
            raise BadRequest(
                f"{target} appeared while the job ran and was not overwritten; the result is {result}"
            ) from error
        except UserError as error:
            raise BadRequest(f"{target} was not written: {error}; the result is {result}") from error
        except OSError as error:
            raise BadRequest(f"{target} cannot be written ({error.strerror}); the result is {result}") from error


def _write_text(text: str, file: Path) -> None:
    file.write_text(f"{text}\n", encoding="utf-8")


def _kind_of(target: Path) -> int | None:
    """Return what lies under a name, as in `stat`; None if nothing does. A broken link is there.

    Raises:
        BadRequest: nothing can have that name.
    """
    try:
        return stat.S_IFMT(target.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return stat.S_IFLNK if target.is_symlink() else None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a usable name"
        raise BadRequest(f"{one_line(str(target))} cannot be written ({reason}); choose another -o") from error


def _listed(endings: tuple[str, ...]) -> str:
    return endings[0] if len(endings) == 1 else f"{', '.join(endings[:-1])} or {endings[-1]}"
