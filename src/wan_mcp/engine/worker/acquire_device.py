"""Acquire the device lock, so that a device has one engine, whatever name the fronts' settings use for it."""

import logging
import time
from collections.abc import Callable, Sequence

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
    settings: Settings, database: Database, auto_devices: Callable[[], Sequence[str]]
) -> tuple[BaseFileLock, str] | None:
    """Acquire the device's lock; return it and the device's name, or None if another engine holds it.

    Of several devices that the settings name, this is the first that is free. Auto is the first device there is:
    fronts start the engines of the others by name. `auto_devices` returns all, which takes seconds. Meanwhile the lock
    of the previous name is held, so that no other engine starts. It is released when the lock of the resolved name is
    acquired, or held by another engine.
    """
    names, rows = DeviceNames(database), WorkerRegistry(database)
    if settings.device != AUTO:
        return _first_free(settings, names.of(settings.device))
    [device, *_] = names.of(AUTO)
    lock = engine_lock(settings.home, device)
    if not try_acquire(lock):
        log.info("another engine holds %s", device)
        return None
    other = None
    try:
        rows.register(device, time.monotonic() + settings.load_deadline_s)
        [found, *others] = auto_devices()
        names.record_auto(found, *others)
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


def _first_free(settings: Settings, devices: Sequence[str]) -> tuple[BaseFileLock, str] | None:
    for device in devices:
        if try_acquire(lock := engine_lock(settings.home, device)):
            return lock, device
        log.info("another engine holds %s", device)
    return None


def try_acquire(lock: BaseFileLock) -> bool:
    """Try to acquire the lock without waiting; return whether it is now held."""
    try:
        lock.acquire(timeout=LOCK_PATIENCE_S)
    except Timeout:
        return False
    return True
