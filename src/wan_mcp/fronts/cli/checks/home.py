"""Check the home folder: who may use it, its disk, the folders in it, the job table and the engine."""

from collections.abc import Iterator
from pathlib import Path

from wan_mcp.errors import UserError
from wan_mcp.files import require_writable
from wan_mcp.fronts.cli.checks.finding import Finding
from wan_mcp.media.store import MediaStore
from wan_mcp.permissions import open_home
from wan_mcp.settings import Settings
from wan_mcp.text import in_bytes

__all__ = ["check_home"]

UNREADABLE_SHOWN = 10  # jobs
WRITTEN = ("media", "media/inputs", "media/images", "media/videos", "logs", "logs/engine.log", "engines", "tmp")
WRITTEN_AS_WELL = ("weights", "packages", "cache", "jobs.db")
"""What a job can do without, at the cost of time; or what is checked elsewhere with more words."""
OTHERS = 0o007


def check_home(settings: Settings) -> Iterator[Finding]:
    """Check the home folder, who may use it, the job table, and whether an engine runs."""
    from wan_mcp.jobs.database import Database
    from wan_mcp.jobs.devices import DeviceNames
    from wan_mcp.jobs.in_the_way import InTheWay
    from wan_mcp.jobs.processes import Processes
    from wan_mcp.jobs.workers import WorkerRegistry
    from wan_mcp.service.repair import defects, unreadable_rows

    home = settings.home
    try:
        open_home(home)
        free = MediaStore(home).free_bytes()
    except UserError as error:
        yield Finding("home", str(error), good=False)
        return
    enough = "" if free >= settings.min_free_bytes else f"; {in_bytes(settings.min_free_bytes)} must stay free"
    yield Finding("home", f"{home}, {in_bytes(free)} free{enough}", not enough)
    yield from _folders(home)
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
        unreadable = unreadable_rows(database)
        rows, devices = WorkerRegistry(database), DeviceNames(database).of(settings.device)
        strangers = [InTheWay(home, rows, Processes()).now(each) for each in devices]
        running = {each: row.pid for each in devices if (row := rows.get(each)) is not None and row.process()}
        database.close()
    except UserError as error:
        yield Finding("job table", str(error), good=False)
        return
    yield Finding("job table", str(settings.database))
    for job in unreadable[:UNREADABLE_SHOWN]:
        yield Finding("job", str(job), good=False)
    if len(unreadable) > UNREADABLE_SHOWN:
        yield Finding("job", f"{len(unreadable) - UNREADABLE_SHOWN} more are unreadable", good=False)
    in_the_way = [each for each in strangers if each is not None]
    for stranger in in_the_way:
        yield Finding("engine", stranger, good=False)
    for each, pid in running.items():
        where = f" on {each}" if len(devices) > 1 else ""
        yield Finding("engine", f"running{where}, pid {pid}")
    if not in_the_way and not running:
        yield Finding("engine", "not running; the next job starts one")


def _folders(home: Path) -> Iterator[Finding]:
    for name in (*WRITTEN, *WRITTEN_AS_WELL):
        try:
            require_writable(home / name)
        except UserError as error:
            yield Finding("folder", str(error), good=False)
    if home.stat().st_mode & OTHERS:
        says = f"other users of this machine can use {home}, and wan-mcp may not change that; its owner can: chmod 700"
        yield Finding("access", says, good=False)
