"""`wan-mcp pull`: download a model's weights, verify them, or update them to a newer commit."""

import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import UnknownModel, WeightsUnavailable
from wan_mcp.fronts.cli.completion import complete_models
from wan_mcp.fronts.cli.terminal import echo, echo_path
from wan_mcp.settings import Settings
from wan_mcp.text import in_bytes
from wan_mcp.weights.download_progress import Download
from wan_mcp.weights.fetch import fetch, news
from wan_mcp.weights.hub import DEFAULT_REVISION, Hub
from wan_mcp.weights.installed import damaged_files, discard, is_installed
from wan_mcp.weights.lockfile import WeightsLock
from wan_mcp.weights.repositories import sources

if TYPE_CHECKING:
    from wan_mcp.fronts.cli.screen import Screen

__all__ = ["pull"]

INTERRUPTED = 130


def pull(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Model name; see 'wan-mcp models'.", autocompletion=complete_models)],
    variant: Annotated[
        str | None,
        typer.Option(
            "--variant", help="Variant of the model, such as 4step, fast or q4-k-m; it is listed as a separate model."
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the hash of every downloaded file; download damaged ones again.")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Update to the newest commit instead of keeping the pinned one.")
    ] = False,
) -> None:
    """Download a model's weights. An interrupted download resumes."""
    from wan_mcp.fronts.cli.screen import Screen

    settings: Settings = ctx.obj
    screen = Screen()
    catalog = Catalog.of(settings.home)
    if variant is not None:
        model = _variant(catalog, model, variant)
        screen.print(f"'{variant}' is the model '{model}'")
    manifest = catalog.get(model)
    if manifest.weights.repository is None:
        echo(f"'{model}' ships with wan-mcp: nothing to pull.")
        return
    try:
        _remember_ctrl_c()
        if verify:
            for source in sources(manifest):
                _verify(source, settings, screen)
        if not update and is_installed(manifest, settings.home):
            _tell_news(manifest, settings, screen)
        else:
            _fetch(manifest, settings, screen, update=update)
    except KeyboardInterrupt:
        screen.print(f"Stopped. 'wan-mcp pull {model}' resumes the download.")
        sys.exit(INTERRUPTED)
    lock = WeightsLock.read(manifest, settings.home)
    if lock is not None:
        echo_path(lock.folder)


_stopped = threading.Event()


def _remember_ctrl_c() -> None:
    """Stop at Ctrl-C at once, or else at the next check: Python drops an exception raised in a destructor."""

    def stop(number: int, frame: FrameType | None) -> None:
        _stopped.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)


def _variant(catalog: Catalog, model: str, variant: str) -> str:
    """Return the name of a model's variant: the model's name, a dash and the variant's.

    Raises:
        UserError: There is no such variant; the message lists those that exist.
    """
    base = catalog.get(model)
    name = f"{model}-{variant.lower().replace('_', '-')}"
    found = sorted(
        other.name
        for other in catalog.manifests.values()
        if other.name.startswith(f"{model}-")
        and other.pipeline.family == base.pipeline.family
        and set(other.tasks) & set(base.tasks)
    )
    if name in found:
        return name
    there = ", ".join(other.removeprefix(f"{model}-") for other in found)
    raise UnknownModel(
        f"'{model}' has no variant '{variant}'; "
        + (f"available: {there}. " if there else "it has no variants. ")
        + "Precision is not a variant: set WAN_MCP_PRECISION; the same files serve every precision."
    )


def _fetch(manifest: Manifest, settings: Settings, screen: "Screen", *, update: bool) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    licence = manifest.licence
    screen.print(f"{manifest.title} from {manifest.weights.repository}, licence {licence.id}")
    for words in (licence.conditions, "Gated: accept its licence on Hugging Face first." if licence.gated else None):
        if words:
            screen.print(words)
    for source in sources(manifest):
        screen.print(_trusted(source, settings, update=update))
    size = in_bytes(manifest.weights.disk_bytes)
    screen.print(f"About {size} on the disk; only tensors (safetensors, GGUF) and texts, no pickles and no code")
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}", markup=False), console=screen, transient=True) as bar:
        line = bar.add_task("asking the hub", total=None)

        def tell(download: Download) -> None:
            if _stopped.is_set():
                raise KeyboardInterrupt
            words = download.note or ("" if download.total else "asking the hub")
            bar.update(line, description=words, completed=download.done, total=download.total or None)

        done = fetch(manifest, settings.home, tell, update=update, reserve=settings.min_free_bytes)
    for note in done.notes:
        screen.print(note)
    of_all = f"{len(done.lock.files)} files, {in_bytes(sum(file.size for file in done.lock.files.values()))}"
    screen.print(f"Downloaded {in_bytes(done.came)}; commit {done.lock.commit[:12]} is complete: {of_all}")
    screen.print(f"Commits and the SHA-256 of every file are locked in {settings.home / 'weights'}")


def _trusted(source: Manifest, settings: Settings, *, update: bool) -> str:
    """Return which commit of which repository is trusted, and why that one."""
    lock = WeightsLock.read(source, settings.home)
    pinned = source.required_revision if update else source.weights.revision
    where = f"Trusting {Hub.from_environment().endpoint}/{source.weights.repository}"
    if lock is not None and not update:
        return f"{where} at commit {lock.commit}, as locked before"
    if pinned is not None:
        return f"{where} at {pinned}, as the manifest says"
    why = "as --update asks" if update else "since the manifest pins none"
    return f"{where} at the newest commit of '{DEFAULT_REVISION}', {why}"


def _verify(manifest: Manifest, settings: Settings, screen: "Screen") -> None:
    lock = WeightsLock.read(manifest, settings.home)
    if lock is None:
        return
    with screen.status("checking") as status:
        damaged = damaged_files(lock, lambda path: status.update(f"checking {path}"))
    if damaged:
        screen.print(f"Damaged, downloading again: {', '.join(damaged)}")
        discard(lock, damaged)
    else:
        screen.print(f"All {len(lock.files)} files are intact")


def _tell_news(manifest: Manifest, settings: Settings, screen: "Screen") -> None:
    """Report that everything is downloaded, and whether the repository has a newer commit."""
    lock = WeightsLock.read(manifest, settings.home)
    screen.print(f"'{manifest.name}' is already downloaded, commit {lock.commit[:12] if lock else ''}")
    try:
        changes = news(manifest, settings.home)
    except WeightsUnavailable as error:
        screen.print(f"Cannot check for a newer commit. {error}")
        return
    for change in changes:
        screen.print(change)
    if changes:
        screen.print(f"'wan-mcp pull {manifest.name} --update' downloads it.")
