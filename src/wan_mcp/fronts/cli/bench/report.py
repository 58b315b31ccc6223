"""A benchmark's figures as JSON that can be shown to anybody, and as a table for the terminal.

The JSON has the machine, the versions and the request, but no paths, no names of people and no prompts.
"""

import os
import platform
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from wan_mcp import __version__
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.fronts.cli.bench.side import Side
from wan_mcp.hardware.processor import processor
from wan_mcp.schema.plans import ImagePlan, VideoPlan
from wan_mcp.settings import Settings
from wan_mcp.text import in_bytes, one_line

__all__ = ["lines_of", "report_of"]

SCHEMA = 1
LIBRARIES = ("torch", "diffusers", "transformers")
ASKED = (
    "task", "preset", "width", "height", "num_frames", "fps", "steps", "guidance_scale", "guidance_scale_2", "turbo",
    "step_cache",
)  # fmt: skip
IN_QUOTES = re.compile(r"""(['"`])[^'"`]*[/\\](?=[^'"`]*\1)""")
FOLDERS = re.compile(r"""[^\s'"`()=:,]*[/\\](?=[^\s/\\])""")
FIGURES = (("psnr_db", "PSNR in dB {}", 1), ("ssim", "SSIM {}", 3), ("flicker", "flicker in grey levels more {}", 2))


def report_of(
    manifest: Manifest,
    plan: VideoPlan | ImagePlan,
    seed: int,
    ours: Side,
    plain: Side,
    quality: dict[str, Any] | None,
    settings: Settings,
) -> dict[str, Any]:
    """Return all figures; seconds are rounded to milliseconds, None where something was not measured."""
    words = plan.model_dump(mode="json")
    return {
        "schema": SCHEMA,
        "wan_mcp": __version__,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": manifest.name,
        "repository": manifest.weights.repository,
        "weights_sha256": ours.facts.get("weights_sha256"),
        "request": {name: words[name] for name in ASKED if words.get(name) is not None},
        "seed": seed,
        "hardware": {
            "device": ours.facts.get("device") or plain.facts.get("device"),
            "processor": processor().name,
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "system": platform.platform(terse=True),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
            "cuda": plain.facts.get("cuda"),
        },
        "ours": _side(ours, settings, ("precision", "attention", "quality")),
        "diffusers": _side(plain, settings, ("precision", "placement")),
        "ratio": {"first": _ratio(plain.first_s, ours.first_s), "warm": _ratio(plain.warm_s, ours.warm_s)},
        "quality": quality,
    }


def _side(side: Side, settings: Settings, facts: tuple[str, ...]) -> dict[str, Any]:
    return {
        "first_s": _rounded(side.first_s),
        "warm_s": _rounded(side.warm_s),
        "seconds": [round(each, 3) for each in side.seconds],
        "process_bytes": side.process_bytes,
        "gpu_bytes": side.gpu_bytes,
        **{name: side.facts.get(name) for name in facts},
        "failed": side.failed,
        "ended": None if side.ended is None else _without_places(side.ended, settings),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _ratio(theirs: float | None, ours: float | None) -> float | None:
    return round(theirs / ours, 2) if theirs is not None and ours else None


def _without_places(text: str, settings: Settings) -> str:
    """Return a text in which files have no folders."""
    for folder in (settings.home, Path.home(), Path.cwd()):
        if folder != folder.parent:
            text = text.replace(str(folder), "")
    return one_line(FOLDERS.sub("", IN_QUOTES.sub(r"\1", text)))


def lines_of(report: dict[str, Any]) -> Iterator[str]:
    """Yield the table of a report, and what else a person wants to know of it."""
    request, hardware, versions = report["request"], report["hardware"], report["versions"]
    frames = f", {request['num_frames']} frames" if "num_frames" in request else ""
    yield f"{report['model']}: {request['width']}x{request['height']}{frames}, {request['steps']} steps"
    yield f"{hardware['device']}, torch {versions['torch']}, diffusers {versions['diffusers']}"
    yield ""
    yield f"{'':<10} {'first s':>9} {'warm s':>9} {'memory':>9} {'GPU':>9}"
    for name, label in (("ours", "wan-mcp"), ("diffusers", "diffusers")):
        side = report[name]
        cells = [_seconds(side["first_s"]), _seconds(side["warm_s"])]
        cells += [_bytes(side["process_bytes"]), _bytes(side["gpu_bytes"])]
        yield f"{label:<10} " + " ".join(f"{cell:>9}" for cell in cells)
    if any(ratio := report["ratio"].values()):
        yield f"{'ratio':<10} " + " ".join(f"{'–' if each is None else f'{each:.2f}x':>9}" for each in ratio)
    yield ""
    for name, label in (("ours", "wan-mcp"), ("diffusers", "diffusers")):
        if (why := report[name]["ended"]) is not None:
            yield f"{label} made {len(report[name]['seconds'])} results: {why}"
    if (quality := report["quality"]) is not None:
        figures = ", ".join(words.format(_figure(quality[name], digits)) for name, words, digits in FIGURES)
        same = f", {quality['same']} of them the very same" if quality["same"] else ""
        yield f"Against diffusers in {report['diffusers']['precision']}, {quality['results']} results{same}: {figures}."
    yield "First: with the start of the process and the load of the model. Warm: the median of the others."
    yield "Memory: the most that the process had in main memory. GPU: the most in use on it, by all processes."


def _figure(found: dict[str, float], digits: int) -> str:
    mean, low, high = (f"{found[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _bytes(value: int | None) -> str:
    return "–" if value is None else in_bytes(value)
