"""What each engine of this server does at the moment, and the memory of its device."""

import time
from dataclasses import dataclass

import psutil

from wan_mcp.hardware.host_memory import free_main_memory, main_memory
from wan_mcp.hardware.machine import gpu_memory
from wan_mcp.jobs.cluster_devices import is_cluster_device
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.settings import Settings

__all__ = ["EngineStatus", "engine_statuses"]


@dataclass(frozen=True)
class EngineStatus:
    """The engine of one device."""

    device: str
    name: str
    """GPU or CPU; empty while no engine has said."""
    running: bool
    ready: bool
    loaded: tuple[str, ...]
    """The models in its memory."""
    job: str | None
    """The id of the job that it runs."""
    idle_s: float | None
    """Seconds since its last job ended; None while it works, or if none runs."""
    leaves_in_s: float | None
    """Seconds until it ends by itself; None while it works, or if none runs."""
    process_bytes: int | None
    """Main memory of its process."""
    used_bytes: int | None
    """Used memory of its device, by all programs."""
    total_bytes: int | None
    hindrance: str | None


def engine_statuses(engines: Supervisor, settings: Settings) -> list[EngineStatus]:
    """Return the status of each device's engine; asks the driver's tool about GPUs.

    Raises:
        HomeUnusable: the job table cannot be used.
    """
    return [_status(device, engines, settings) for device in engines.all_devices()]


def _status(device: str, engines: Supervisor, settings: Settings) -> EngineStatus:
    machine, row = engines.machine_of(device), engines.engine(device)
    job = engines.job_on(device)
    idle_s = None
    if row is not None and job is None:
        idle_s = max(0.0, time.time() - max(engines.last_end(device) or 0.0, row.pid_created))
    elsewhere = is_cluster_device(device)  # its memory and its process are not on this machine
    used, total = (None, None) if elsewhere else _memory(device, is_gpu=machine is not None and machine.name != "CPU")
    loaded = [] if row is None else [row.loaded.generator[0] if row.loaded.generator else None, row.loaded.captioner]
    return EngineStatus(
        device=device,
        name=machine.name if machine else "",
        running=row is not None,
        ready=row is not None and row.ready,
        loaded=tuple(name for name in loaded if name is not None),
        job=job.id if job is not None else None,
        idle_s=idle_s,
        leaves_in_s=None if idle_s is None or elsewhere else max(0.0, settings.engine_idle_s - idle_s),
        process_bytes=_process_bytes(row.pid) if row is not None and not elsewhere else None,
        used_bytes=used,
        total_bytes=total,
        hindrance=engines.hindrance_of(device),
    )


def _memory(device: str, *, is_gpu: bool) -> tuple[int | None, int | None]:
    if is_gpu:
        return gpu_memory(device.partition(":")[2] or "0") or (None, None)
    total = main_memory()
    return total - free_main_memory(), total


def _process_bytes(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None
