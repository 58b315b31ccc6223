"""`wan-mcp doctor`: check everything that a job needs.

Checks that need torch run in a separate process, so this one stays light and a broken
installation cannot take it down.
"""

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from wan_mcp import __version__
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.families import FAMILIES
from wan_mcp.child_environment import child_environment
from wan_mcp.errors import UserError
from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.media.store import MediaStore
from wan_mcp.settings import Settings, mistyped_variables
from wan_mcp.text import in_bytes, last_line, one_line

__all__ = ["doctor"]

PROBE_S = 120
UNREADABLE_SHOWN = 10  # jobs
# Runs in a process that may import torch, and prints its facts as one line of JSON.
PROBE = """
import json, platform
import torch, diffusers, transformers
cuda = torch.cuda.is_available()
print(json.dumps({
    "torch": torch.__version__, "diffusers": diffusers.__version__, "transformers": transformers.__version__,
    "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
    "memory": torch.cuda.get_device_properties(0).total_memory if cuda else None,
}))
"""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    what: str
    says: str
    good: bool = True


def doctor(
    ctx: typer.Context,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Recover the jobs of a damaged job table, and mend unreadable ones."),
    ] = False,
) -> None:
    """Check the installation, the home folder, the job table and the engine; exit code 1 if something is broken."""
    settings: Settings = ctx.obj
    if repair:
        from wan_mcp.service.repair import repair_table

        echo(repair_table(settings))
    broken = False
    for finding in _findings(settings):
        broken |= not finding.good
        echo("ok  " if finding.good else "BAD ", fg="green" if finding.good else "red", nl=False)
        echo(one_line(f"{finding.what}: {finding.says}"))
    if broken:
        sys.exit(1)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding("wan-mcp", f"{__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}")
    needed = [*_libraries(), *_home(settings)]
    yield from needed
    yield _ffmpeg()
    if all(finding.good for finding in needed):
        yield _compiler(settings)
    catalog = Catalog.of(settings.home)
    yield Finding("models", ", ".join(sorted(catalog.manifests)), bool(catalog.manifests))
    yield from _embedded(catalog)
    yield from (Finding("family", f"{family.name}, from {family.package}") for family in FAMILIES if family.package)
    yield from (Finding("family", why, good=False) for why in FAMILIES.broken.values())
    yield from (Finding("manifest", str(error), good=False) for error in catalog.broken.values())
    yield from (Finding("manifest", remark) for remark in catalog.remarks)
    yield from (Finding("environment", sentence, good=False) for sentence in mistyped_variables())


def _embedded(catalog: Catalog) -> Iterator[Finding]:
    from wan_mcp.engine.components.install import EMBEDDED

    for name, manifest in sorted(catalog.manifests.items()):
        folder = manifest.weights.embedded
        if folder is not None and not any((EMBEDDED / folder).rglob("*.safetensors")):
            yield Finding("weights", f"the weights of '{name}' are missing from the package; reinstall it", good=False)


def _libraries() -> Iterator[Finding]:
    try:
        run = subprocess.run(
            [sys.executable, "-P", "-c", PROBE],  # -P: nothing is imported from the current folder
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield Finding("torch", f"importing it took longer than {PROBE_S} s", good=False)
        return
    if run.returncode:
        last = last_line(run.stderr.splitlines()) or f"exit code {run.returncode}"
        yield Finding("torch", f"cannot be used: {last}; reinstall the package", good=False)
        return
    facts: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    memory = f", {in_bytes(facts['memory'])}" if facts["memory"] else ""
    yield Finding("libraries", ", ".join(f"{name} {facts[name]}" for name in ("torch", "diffusers", "transformers")))
    yield Finding("device", f"{facts['device']}{memory}")


def _ffmpeg() -> Finding:
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        program = get_ffmpeg_exe()
        run = subprocess.run(
            [program, "-version"],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=True,
        )
    except (ImportError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        return Finding("ffmpeg", f"does not run ({error}); set IMAGEIO_FFMPEG_EXE to a working ffmpeg", good=False)
    return Finding("ffmpeg", run.stdout.splitlines()[0])


def _compiler(settings: Settings) -> Finding:
    from wan_mcp.engine.aot.compiler_check import check_compiler

    try:
        proof = check_compiler(settings.home)
    except OSError as error:
        return Finding("compiler", f"cannot be tested: {settings.home} is not writable ({error.strerror})", good=False)
    return Finding("compiler", proof.says, proof.good)


def _home(settings: Settings) -> Iterator[Finding]:
    from wan_mcp.jobs.database import Database
    from wan_mcp.jobs.devices import DeviceNames
    from wan_mcp.jobs.in_the_way import InTheWay
    from wan_mcp.jobs.processes import Processes
    from wan_mcp.jobs.workers import WorkerRegistry
    from wan_mcp.service.repair import defects, unreadable_rows

    try:
        free = MediaStore(settings.home).free_bytes()
    except OSError as error:
        yield Finding("home", f"{settings.home} cannot be used: {error.strerror}", good=False)
        return
    yield Finding("home", f"{settings.home}, {in_bytes(free)} free", free >= settings.min_free_bytes)
    if not settings.database.exists():
        yield Finding("job table", "none yet")
        return
    try:
        found = defects(settings.database)
        if found:
            yield Finding(
                "job table", f"damaged ({found}); 'wan-mcp doctor --repair' recovers the readable jobs", good=False
            )
            return
        database = Database(settings.database)
        row = WorkerRegistry(database).get(DeviceNames(database).of(settings.device))
        unreadable = unreadable_rows(database)
        names, rows = DeviceNames(database), WorkerRegistry(database)
        in_the_way = InTheWay(settings.home, rows, Processes()).now(names.of(settings.device))
        database.close()
    except UserError as error:
        yield Finding("job table", str(error), good=False)
        return
    yield Finding("job table", str(settings.database))
    for job in unreadable[:UNREADABLE_SHOWN]:
        yield Finding("job", str(job), good=False)
    if len(unreadable) > UNREADABLE_SHOWN:
        yield Finding("job", f"{len(unreadable) - UNREADABLE_SHOWN} more are unreadable", good=False)
    if in_the_way is not None:
        yield Finding("engine", in_the_way, good=False)
        return
    alive = row is not None and row.process() is not None
    yield Finding("engine", f"running, pid {row.pid}" if alive and row else "not running; the next job starts one")
