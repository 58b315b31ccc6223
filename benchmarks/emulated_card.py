"""A card with less memory, emulated on a GPU with more.

Another process holds the rest of the GPU's memory, so a card's memory ends where it would. An engine is told the totals
of the card and of the machine around it: what torch and psutil report of memory is replaced in its process.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from wan_mcp.jobs.database import Database
from wan_mcp.settings import Settings

__all__ = ["CARDS_MIB", "GB", "Peaks", "emulate", "held", "hold", "link_rate", "tell_engines"]

GB, MIB = 1_000_000_000, 1024 * 1024
CARDS_MIB = {"24 GB": 24_564, "16 GB": 16_376, "12 GB": 12_282}
"""What nvidia-smi lists for an RTX 4090, 4080 and 4070."""
DRIVER_BYTES = 600_000_000
"""Of that, what the driver keeps for itself (a 4090 reports 23.5 GiB to programs)."""
HOLDER = "import sys; from benchmarks.emulated_card import hold; hold(int(sys.argv[1]))"
CARD = "EMULATED_CARD"
"""The variable by which an engine is told its card, as JSON."""
LOOK_S = 0.05


@contextmanager
def held(card: str | None) -> Iterator[int | None]:
    """Hold what a GPU has more than a card; yield the bytes that are left, None without a GPU."""
    if not torch.cuda.is_available():
        yield None
        return
    torch.zeros(1, device="cuda")  # the context of this process comes first: it is not the engine's
    free, _ = torch.cuda.mem_get_info()
    if card is None:
        yield free
        return
    wanted = CARDS_MIB[card] * MIB - DRIVER_BYTES
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(wanted)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdin is not None and holder.stdout is not None
    try:
        if not holder.stdout.readline():
            raise RuntimeError("the memory of the GPU could not be held")
        yield torch.cuda.mem_get_info()[0]
    finally:
        holder.stdin.close()
        holder.wait()


def hold(wanted: int) -> None:
    """Allocate until that many bytes of the GPU are free, say so, and keep them until the input ends."""
    kept = []
    for size in (1024 * MIB, 64 * MIB, 2 * MIB):
        while torch.cuda.mem_get_info()[0] - size >= wanted:
            kept.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
    sys.stdout.write("held\n")
    sys.stdout.flush()
    sys.stdin.read()


def tell_engines(card: str | None, main_memory: int) -> None:
    """Tell the engines that this process starts from now on what they have: a card, or the whole GPU."""
    gpu = CARDS_MIB[card] * MIB - DRIVER_BYTES if card is not None and torch.cuda.is_available() else None
    os.environ[CARD] = json.dumps({"gpu": gpu, "main_memory": main_memory})


def emulate() -> None:
    """Let torch and psutil report the memory of the card in this process, an engine."""
    import psutil

    from wan_mcp.engine.device.device import Device

    facts = json.loads(os.environ[CARD])
    host, real_host = int(facts["main_memory"]), psutil.virtual_memory

    def main_memory() -> Any:
        now, own = real_host(), psutil.Process().memory_info()
        used = own.rss - getattr(own, "shared", 0) + _kilobytes("RssShmem", "self")
        return now._replace(total=min(now.total, host), available=max(0, min(now.available, host - used)))

    psutil.virtual_memory = main_memory
    if facts["gpu"] is None:
        return
    total, real_info, real_machine = int(facts["gpu"]), torch.cuda.mem_get_info, Device.machine

    def info(device: Any = None) -> tuple[int, int]:
        return min(real_info(device)[0], total), total

    def machine(self: Device) -> Any:
        found = real_machine(self)
        return type(found)(found.name, found.precision, total, found.has_fp8, found.model)

    torch.cuda.mem_get_info = info
    setattr(Device, "machine", machine)  # noqa: B010 - mypy forbids to assign to a method


def _kilobytes(name: str, pid: str) -> int:
    """Return a figure of a process in bytes; 0 without such a process."""
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


class Peaks(threading.Thread):
    """Sees the most memory that an engine has: of the GPU with its children, and main memory without mapped files."""

    def __init__(self, settings: Settings, free: int | None) -> None:
        super().__init__(daemon=True)
        self._settings, self._free = settings, free
        self._ended = threading.Event()
        self.gpu = self.main = 0
        self.start()

    def run(self) -> None:
        database = Database(self._settings.database)
        while not self._ended.wait(LOOK_S):
            if self._free is not None:
                self.gpu = max(self.gpu, self._free - torch.cuda.mem_get_info()[0])
            for row in database.read("SELECT pid FROM engines WHERE pid IS NOT NULL"):
                pid = str(row["pid"])
                self.main = max(self.main, _kilobytes("RssAnon", pid) + _kilobytes("RssShmem", pid))
        database.close()

    def end(self) -> dict[str, float]:
        self._ended.set()
        self.join()
        gpu = {"gpu_peak_gb": round(self.gpu / GB, 2)} if self._free is not None else {}
        return gpu | {"main_peak_gb": round(self.main / GB, 2)}


def link_rate() -> float | None:
    """Return the bytes per second of copies from pinned memory to the GPU."""
    if not torch.cuda.is_available():
        return None
    source = torch.empty(256 * MIB, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(source, device="cuda")
    best = 0.0
    for _ in range(5):
        torch.cuda.synchronize()
        began = time.perf_counter()
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize()
        best = max(best, source.nbytes / (time.perf_counter() - began))
    return best
