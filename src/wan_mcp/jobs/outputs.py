"""The output folders that jobs were asked with, and what was saved there: the folder travels in the job's row."""

from pathlib import Path

from wan_mcp.jobs.database import Database

__all__ = ["output_folder", "saved_by_another"]


def output_folder(database: Database, job_id: str) -> Path | None:
    """Return the folder in which a job's results are to be saved, if the front that asked for it has one."""
    rows = database.read("SELECT output_dir FROM jobs WHERE id = ?", job_id)
    return Path(rows[0]["output_dir"]) if rows and rows[0]["output_dir"] else None


def saved_by_another(database: Database, job_id: str, path: Path) -> bool:
    """Check whether a file is what another job has saved."""
    rows = database.read(
        "SELECT 1 FROM jobs, json_each(CASE WHEN json_valid(artifacts) THEN artifacts ELSE '[]' END) AS artifact"
        " WHERE jobs.id <> :id AND instr(artifacts, 'saved_as') AND json_extract(artifact.value, '$.saved_as') = :path"
        " LIMIT 1",
        id=job_id,
        path=str(path),
    )
    return bool(rows)
