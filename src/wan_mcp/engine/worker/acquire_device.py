"""How an engine takes its device, so that each has one engine, whatever names the settings of fronts give it."""

import logging
import time
from collections.abc import Callable

from filelock import BaseFileLock, Timeout

from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.devices import AUTO, DeviceNames
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.settings import Settings

__all__ = ["acquire_device", "try_acquire"]

log = logging.getLogger(__name__)

# Fronts take the lock for an instant to see whether an engine lives; a starting engine outwaits that.
LOCK_PATIENCE_S = 3.0


def acquire_device(
    settings: Settings, database: Database, resolve: Callable[[str], str]
) -> tuple[BaseFileLock, str] | None:
    """The lock of the device, held, and the device's name; None if another engine has it.

    What auto stands for takes seconds to find out. Meanwhile the name that it went by so far is held, so that no
    further engine starts; it is let go when the other is held, or was found taken.
    """
    names, rows = DeviceNames(database), WorkerRegistry(database)
    device = names.of(settings.device)
    lock = engine_lock(settings.home, device)
    if not try_acquire(lock):
        log.info("another engine holds %s", device)
        return None
    if settings.device != AUTO:
        return lock, device
    other = None
    try:
        rows.register(device, time.time() + settings.load_deadline_s)
        found = resolve(AUTO)
        names.record_auto(found)
        if found == device:
            other = lock
        elif not try_acquire(other := engine_lock(settings.home, found)):
            log.info("another engine holds %s, which auto is here", found)
            other = None
    finally:
        rows.unregister(device)
        if other is not lock:
            lock.release()
    return (other, found) if other is not None else None


def try_acquire(lock: BaseFileLock) -> bool:
    """Whether the lock could be had; it is held then."""
    try:
        lock.acquire(timeout=LOCK_PATIENCE_S)
    except Timeout:
        return False
    return True
