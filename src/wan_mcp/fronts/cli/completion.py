"""What a shell can complete beyond options: names of models, styles and presets, and ids of jobs.

A completion that fails is none: the shell shows nothing, and the command says what is wrong.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import get_args

from wan_mcp.errors import WanError
from wan_mcp.settings import Settings

__all__ = ["COMPLETERS", "complete_jobs", "complete_models"]

JOBS = 50


def _matching(names: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    found: list[str] = []
    with suppress(WanError, OSError, ValueError):
        found = [name for name in names() if name.startswith(incomplete)]
    return found


def complete_models(incomplete: str) -> list[str]:
    """Return the models whose names begin so."""
    from wan_mcp.catalog.catalog import Catalog

    return _matching(lambda: sorted(Catalog.of(Settings().home).manifests), incomplete)


def complete_styles(incomplete: str) -> list[str]:
    """Return the styles whose names begin so."""
    from wan_mcp.catalog.catalog import Catalog

    return _matching(lambda: sorted(Catalog.of(Settings().home).styles), incomplete)


def complete_presets(incomplete: str) -> list[str]:
    """Return the presets whose names begin so."""
    from wan_mcp.catalog.presets import PresetName

    return _matching(lambda: get_args(PresetName), incomplete)


def complete_jobs(incomplete: str) -> list[str]:
    """Return the newest jobs whose ids begin so, and `latest`."""
    from wan_mcp.jobs.database import Database
    from wan_mcp.jobs.store import JobStore

    def ids() -> list[str]:
        file = Settings().database
        if not file.exists():
            return []
        database = Database(file)
        try:
            return ["latest", *(job.id for job in JobStore(database).newest(limit=JOBS))]
        finally:
            database.close()

    return _matching(ids, incomplete)


COMPLETERS: dict[str, Callable[[str], list[str]]] = {
    "model": complete_models,
    "style": complete_styles,
    "preset": complete_presets,
}
"""Completers by the names of requests' parameters."""
