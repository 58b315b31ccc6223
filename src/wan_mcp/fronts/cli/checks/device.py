"""Check the libraries, the devices that the settings ask for, and the memory of this machine.

Torch is asked in another process, so this one stays light and a broken installation cannot take it down. The driver's
tool is asked as well: it also lists the GPUs that torch cannot use.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from wan_mcp.child_environment import child_environment
from wan_mcp.fronts.cli.checks.finding import Finding
from wan_mcp.hardware.host_memory import free_main_memory, main_memory
from wan_mcp.hardware.machine import listed_gpus
from wan_mcp.settings import Settings
from wan_mcp.text import in_bytes, last_line

__all__ = ["check_libraries_and_device", "check_memory", "device_finding"]

PROBE = "wan_mcp.engine.device.probe_main"
PROBE_S = 120
LITTLE_MEMORY = 2_000_000_000
"""Bytes of main memory; the engine with the embedded model needs about half of it."""
TAKEN = " ('nvidia-smi' lists the programs that use the rest; an engine with a loaded model is one)"
HIDING = "CUDA_VISIBLE_DEVICES"
BUILD_FOR_GPUS = "cu130"


def check_libraries_and_device(settings: Settings) -> Iterator[Finding]:
    """Check that the libraries can be imported, and that each device can be used."""
    try:
        run = subprocess.run(
            [sys.executable, "-P", "-m", PROBE, settings.device],  # -P: nothing is imported from the current folder
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
    yield Finding("libraries", ", ".join(f"{name} {facts[name]}" for name in ("torch", "diffusers", "transformers")))
    listed, devices = listed_gpus(), facts["devices"]
    for device, known in devices.items():
        if len(devices) == 1:
            yield device_finding(settings.device, facts | known, listed)
        else:
            found = device_finding(device, facts | known, listed)
            yield Finding(found.what, f"{device}: {found.says}", found.good)


def device_finding(asked: str, facts: dict[str, Any], listed: Sequence[str]) -> Finding:
    """Return whether the device that is asked for can be used, and how to repair it.

    Args:
        asked: The setting: auto, cpu, cuda or cuda:N.
        facts: What torch says, see `probe_main`.
        listed: The GPUs that the driver's tool lists.
    """
    on_cpu = Finding("device", f"CPU, {facts['threads']} threads")
    if asked == "cpu" or (asked == "auto" and not listed and not facts["gpus"]):
        unused = "; Apple's GPU is not used" if facts["mps"] and asked == "auto" else ""
        return Finding("device", on_cpu.says + unused)
    gpus = ", ".join(listed) or "GPU"
    wish = f"{asked} is asked for, but " if asked != "auto" else f"there is a GPU ({gpus}), but "
    if not facts["for_gpus"]:
        version = facts["torch"].partition("+")[0]
        return _bad(
            f"{wish}torch {facts['torch']} is a build for CPUs; install one for GPUs with 'TORCH=torch=={version}+"
            f"{BUILD_FOR_GPUS} scripts/install run' (PIP_EXTRA_INDEX_URL names the index that has it), "
            "or set WAN_MCP_DEVICE=cpu"
        )
    if not facts["gpus"]:
        return _bad(f"{wish}{_why_torch_sees_none(facts, listed)}")
    index = int(asked.partition(":")[2] or 0)
    if index >= facts["gpus"]:
        there = ", ".join(f"cuda:{number}" for number in range(facts["gpus"]))
        hidden = f" ({HIDING} is {os.environ[HIDING]!r})" if HIDING in os.environ else ""
        return _bad(
            f"there is no {asked}: torch sees {facts['gpus']} GPU{'s' if facts['gpus'] > 1 else ''}, {there}{hidden}; "
            f"set WAN_MCP_DEVICE={there.split(', ')[0]}, or auto"
        )
    if facts["fault"] is not None:
        return _bad(f"{facts['name']} cannot be used: {facts['fault']}; {_remedy(facts['fault'])}")
    says = f"{facts['name']}, {in_bytes(facts['memory'])}, {in_bytes(facts['free'])} free"
    return Finding("device", says + (TAKEN if facts["free"] < facts["memory"] // 2 else ""))


def _bad(says: str) -> Finding:
    return Finding("device", says, good=False)


def _why_torch_sees_none(facts: dict[str, Any], listed: Sequence[str]) -> str:
    if HIDING in os.environ:
        return f"{HIDING} is {os.environ[HIDING]!r}, which hides it; unset it, or set WAN_MCP_DEVICE=cpu"
    if listed:
        fault = facts["fault"] or "it says no reason"
        return f"torch {facts['torch']} cannot use it: {fault}; {_remedy(fault)}"
    return (
        "the driver lists no GPU; install its driver (in a container, start it with access to the GPU, such as "
        "'--gpus all'), or set WAN_MCP_DEVICE=auto"
    )


def _remedy(fault: str) -> str:
    lower = fault.lower()
    if "driver" in lower and ("old" in lower or "insufficient" in lower):
        return "update the GPU's driver, or install a torch for the CUDA version that 'nvidia-smi' shows"
    if "no kernel image" in lower or "not compatible" in lower:
        return "this build of torch does not support the GPU: install another build, or set WAN_MCP_DEVICE=cpu"
    if "out of memory" in lower:
        return "other programs use its memory, which 'nvidia-smi' lists: end them, or set WAN_MCP_DEVICE"
    if "busy" in lower or "exclusive" in lower:
        return "another program uses it exclusively: end it, or set 'nvidia-smi --compute-mode=0'"
    return "check it with 'nvidia-smi' (a restart of the machine helps some drivers), or set WAN_MCP_DEVICE=cpu"


def check_memory() -> Finding:
    """Check the main memory."""
    free = free_main_memory()
    says = f"{in_bytes(main_memory())}, {in_bytes(free)} free"
    if free < LITTLE_MEMORY:
        return Finding("memory", f"{says}: too little for an engine; end other programs", good=False)
    return Finding("memory", f"{says} ({platform.machine()})")
