"""`wan-mcp clean`: delete old jobs by age or amount, and what killed processes have left."""

import json
import sys
import time
from typing import Annotated, Any

import typer

from wan_mcp.errors import BadRequest
from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.settings import Settings
from wan_mcp.text import in_bytes, one_line, shortened

__all__ = ["clean"]

LISTED = 20
PROMPT_SHOWN = 50


def clean(
    ctx: typer.Context,
    days: Annotated[
        float | None, typer.Option("--days", min=0, help="Delete jobs that ended longer ago. By default keep_days.")
    ] = None,
    gb: Annotated[
        float | None, typer.Option("--gb", min=0, help="Delete the oldest jobs beyond so many GB. By default keep_gb.")
    ] = None,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Delete the files of results whose job is not in the table as well.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Delete old jobs with their files, and what killed processes have left.

    Kept jobs, jobs at work and the inputs of jobs at work stay. Without --days, --gb and the settings WAN_MCP_KEEP_DAYS
    and WAN_MCP_KEEP_GB, no job is deleted.
    """
    from wan_mcp.jobs.database import Database

    settings: Settings = ctx.obj
    if not settings.database.exists():
        _tell(as_json, dry_run, [], [], [])
        return
    database = Database(settings.database)
    try:
        _clean(settings, database, (days, gb), orphans, dry_run, yes, as_json)
    finally:
        database.close()


def _clean(
    settings: Settings,
    database: Any,
    limits: tuple[float | None, float | None],
    orphans: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    from wan_mcp.jobs.history import JobHistory
    from wan_mcp.media.store import MediaStore
    from wan_mcp.service.deletion import Deletion
    from wan_mcp.service.leftovers import files_of_unknown_jobs, remove, unfinished_files
    from wan_mcp.service.retention import Retention

    days, gb = (
        given if given is not None else usual
        for given, usual in zip(limits, (settings.keep_days, settings.keep_gb), strict=True)
    )
    history, media = JobHistory(database), MediaStore(settings.home)
    deletion = Deletion(history, media)
    retention = Retention(history, deletion, media)
    expired = retention.expired(days, gb, now=time.time())
    leftovers, unknown = unfinished_files(settings), files_of_unknown_jobs(media, history)
    if dry_run or not (expired or leftovers or (orphans and unknown)):
        _tell(as_json, dry_run, expired, leftovers, unknown, orphans=orphans)
        return
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise BadRequest("nobody can be asked here; add --yes to delete, or --dry-run to see what would be deleted")
        _tell(False, True, expired, leftovers, unknown, orphans=orphans)
        typer.confirm("Delete this?", abort=True, err=True)
    gone = {job.id for job in retention.delete(expired)}
    deletion.finish()
    removed = [each for each in (*leftovers, *(unknown if orphans else ())) if remove(each)]
    kept_unknown = [] if orphans else unknown
    _tell(as_json, False, [each for each in expired if each.job.id in gone], removed, kept_unknown)
    for each in expired:
        if each.job.id not in gone:
            echo(f"job {each.job.id} stays: it is kept or needed by now", err=True)


def _tell(
    as_json: bool, planned: bool, expired: list[Any], leftovers: list[Any], unknown: list[Any], *, orphans: bool = False
) -> None:
    """Print what was deleted, or is to be."""
    freed = sum(each.bytes for each in (*expired, *leftovers, *(unknown if orphans else ())))
    if as_json:
        facts = {
            "dry_run": planned,
            "jobs": [{"id": each.job.id, "bytes": each.bytes} for each in expired],
            "leftovers": [str(each.path) for each in (*leftovers, *(unknown if orphans else ()))],
            "orphans_kept": [] if orphans else [str(each.path) for each in unknown],
            "bytes": freed,
        }
        echo(json.dumps(facts, indent=2))
        return
    for each in expired[:LISTED]:
        prompt = one_line(getattr(each.job.plan, "prompt_asked", "") or "")
        echo(f"job {each.job.id}  {in_bytes(each.bytes):>9}  {shortened(prompt, PROMPT_SHOWN)}".rstrip())
    if len(expired) > LISTED:
        echo(f"and {len(expired) - LISTED} more jobs")
    for each in leftovers[:LISTED]:
        echo(f"leftover {each.path}  {in_bytes(each.bytes)}")
    if len(leftovers) > LISTED:
        echo(f"and {len(leftovers) - LISTED} more leftovers")
    if orphans:
        for each in unknown:
            echo(f"file of no job {each.path}  {in_bytes(each.bytes)}")
    elif unknown:
        size = in_bytes(sum(each.bytes for each in unknown))
        files = f"{len(unknown)} files ({size})" if len(unknown) > 1 else f"1 file ({size})"
        stay = "stay" if len(unknown) > 1 else "stays"
        echo(f"{files} of jobs that are not in the table {stay}; --orphans deletes them", err=True)
    count = len(expired)
    jobs, others = f"{count} job{'' if count == 1 else 's'}", len(leftovers) + (len(unknown) if orphans else 0)
    verb = "would be deleted" if planned else "deleted"
    echo(f"{jobs} and {others} leftover file{'' if others == 1 else 's'} {verb}, {in_bytes(freed)}")
