"""`wan-mcp doctor`: check everything that a job needs, and say how to repair what is broken."""

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer

from wan_mcp import __version__
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.families import FAMILIES
from wan_mcp.child_environment import child_environment
from wan_mcp.errors import UserError
from wan_mcp.fronts.cli.checks.device import check_libraries_and_device, check_memory
from wan_mcp.fronts.cli.checks.finding import Finding
from wan_mcp.fronts.cli.checks.home import check_home
from wan_mcp.fronts.cli.checks.hub import check_hub
from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.jobs.cluster_devices import is_cluster_device
from wan_mcp.media.content_credentials import ContentCredentials
from wan_mcp.service.engine_control import engines_of
from wan_mcp.settings import Settings, mistyped_variables
from wan_mcp.text import one_line

__all__ = ["doctor"]

PROBE_S = 120


def doctor(
    ctx: typer.Context,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Recover the jobs of a damaged job table, and mend unreadable ones."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check the installation, the home folder, the job table and the engine; exit code 1 if something is broken."""
    settings: Settings = ctx.obj
    if repair:
        from wan_mcp.service.repair import repair_table

        echo(repair_table(settings), err=as_json)
    if as_json:
        found = list(_findings(settings))
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
        sys.exit(0 if all(each.good for each in found) else 1)
    broken = False
    for finding in _findings(settings):
        broken |= not finding.good
        echo("ok  " if finding.good else "BAD ", fg="green" if finding.good else "red", nl=False)
        echo(one_line(f"{finding.what}: {finding.says}"))
    if broken:
        sys.exit(1)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding("wan-mcp", f"{__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}")
    needed = []
    for check in (check_libraries_and_device(settings), check_home(settings)):
        for finding in check:
            needed.append(finding)
            yield finding
    yield check_memory()
    yield _ffmpeg()
    yield from check_hub()
    yield from _credentials(settings)
    if all(finding.good for finding in needed):
        from wan_mcp.fronts.cli.screen import Screen

        Screen().print("...  compiler: building a test package, unless it was checked before; it takes minutes")
        yield _compiler(settings)
    yield from _cluster(settings)
    catalog = Catalog.of(settings.home)
    yield Finding("models", ", ".join(sorted(catalog.manifests)), bool(catalog.manifests))
    yield from _embedded(catalog)
    yield from (Finding("family", f"{family.name}, from {family.package}") for family in FAMILIES if family.package)
    yield from (Finding("family", why, good=False) for why in FAMILIES.broken.values())
    yield from (Finding("manifest", str(error), good=False) for error in catalog.broken.values())
    yield from (Finding("manifest", remark) for remark in catalog.remarks)
    yield from (Finding("environment", sentence, good=False) for sentence in mistyped_variables())


def _cluster(settings: Settings) -> Iterator[Finding]:
    with suppress(UserError):  # of a table that cannot be used, `check_home` has told
        for each in engines_of(settings.home):
            if is_cluster_device(each.device):
                yield Finding("cluster", f"{each.device} {'runs job ' + each.job if each.job else 'is idle'}")


def _embedded(catalog: Catalog) -> Iterator[Finding]:
    from wan_mcp.engine.components.install import EMBEDDED

    for name, manifest in sorted(catalog.manifests.items()):
        folder = manifest.weights.embedded
        if folder is not None and not any((EMBEDDED / folder).rglob("*.safetensors")):
            yield Finding("weights", f"the weights of '{name}' are missing from the package; reinstall it", good=False)


def _credentials(settings: Settings) -> Iterator[Finding]:
    try:
        if (credentials := ContentCredentials.of(settings)) is None:
            return
        credentials.require_usable()
    except UserError as error:
        yield Finding("content credentials", str(error), good=False)
        return
    yield Finding("content credentials", f"results are signed with {credentials.certificate}")


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
