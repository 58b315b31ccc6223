"""Acquire the device lock, so that a device has one engine, whatever name the fronts' settings use for it."""

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

# Fronts acquire the lock briefly to check for a running engine; a starting engine waits longer than that.
LOCK_PATIENCE_S = 3.0


def acquire_device(
    settings: Settings, database: Database, resolve: Callable[[str], str]
) -> tuple[BaseFileLock, str] | None:
    """Acquire the device's lock; return it and the device's name, or None if another engine holds it.

    Resolving "auto" takes seconds. Meanwhile the lock of the previous name is held, so that no other engine starts. It
    is released when the lock of the resolved name is acquired, or held by another engine.
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
        rows.register(device, time.monotonic() + settings.load_deadline_s)
        found = resolve(AUTO)
        names.record_auto(found)
        if found == device:
            other = lock
        elif not try_acquire(other := engine_lock(settings.home, found)):
            log.info("another engine holds %s, the device for auto", found)
            other = None
    finally:
        rows.unregister(device)
        if other is not lock:
            lock.release()
    return (other, found) if other is not None else None


def try_acquire(lock: BaseFileLock) -> bool:
    """Try to acquire the lock without waiting; return whether it is now held."""
    try:
        lock.acquire(timeout=LOCK_PATIENCE_S)
    except Timeout:
        return False
    return True
