"""What a toy says of itself: which words of a prompt are outside its world, and which real model this machine can run.

The embedded models show that everything works; they know a few shapes. A result that ignores a prompt must say so.
"""

import logging
from collections.abc import Callable, Iterable

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import Fit, weights_bytes
from wan_mcp.catalog.world import unknown_words
from wan_mcp.planning.memory_check import MemoryFit
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import CaptionPlan, Plan
from wan_mcp.text import escaped, in_bytes, shortened

__all__ = ["world_note"]

log = logging.getLogger(__name__)

WORDS_SHOWN = 8
WORD_CHARACTERS = 24
BEST_FIRST = (Fit.RESIDENT, Fit.OFFLOADED, Fit.STREAMED)

FitOf = Callable[[Manifest], MemoryFit | None]
"""Returns the memory that a default job of a model needs and this machine has; None if it is unknown."""


def world_note(plan: Plan, manifest: Manifest, catalog: Catalog, fit_of: FitOf) -> str | None:
    """Return a note about what of a plan its model does not know; None if it knows all, or has no such limits.

    A captioner is given no words: the note is for images that are not results of this home.
    """
    world = manifest.world
    if world is None:
        return None
    if isinstance(plan, CaptionPlan):
        if plan.image.source.startswith("wan://"):
            return None
        return f"'{manifest.name}' knows only {world.knows}. " + _instead(plan.task, catalog, fit_of)
    words = _outside(plan.prompt_asked, manifest)
    if not words:
        return None
    shown = [escaped(shortened(word, WORD_CHARACTERS)) for word in words[:WORDS_SHOWN]]
    more = f" and {len(words) - WORDS_SHOWN} more" if len(words) > WORDS_SHOWN else ""
    known = f"'{manifest.name}' knows only {world.knows}; not understood: {', '.join(shown)}{more}"
    return f"{known}. {_instead(plan.task, catalog, fit_of)}"


def _outside(prompt: str, manifest: Manifest) -> tuple[str, ...]:
    world, folder = manifest.world, manifest.weights.embedded
    if world is None or folder is None:
        return ()
    try:
        return unknown_words(world, folder, prompt)
    except (OSError, ValueError, KeyError) as error:  # a job does not fail for a note
        log.warning("the words of %s cannot be read: %s", manifest.name, error)
        return ()


def _instead(task: Task, catalog: Catalog, fit_of: FitOf) -> str:
    """Return which real model this machine can run for a task, or why it can run none, without a full stop."""
    real = [each for each in catalog.manifests.values() if task in each.tasks and each.world is None]
    # A video model can make a still; a model of stills makes a better one.
    real = [each for each in real if each.tasks[0].kind is task.kind] or real
    if not real:
        return f"No other model here does {task}"
    fits = {each.name: fit_of(each) for each in real}
    for fit in BEST_FIRST:
        able = [each for each in real if (found := fits[each.name]) is not None and found.fit is fit]
        if able:
            return f"For anything else use model='{_largest(able)}', which fits this machine ({fit})"
    small = [(each.name, sizes) for each in real if (sizes := _smaller(fits[each.name]))]
    if small:
        name, size = small[0]
        return f"For anything else use model='{name}' with resolution='{size}', which fits this machine"
    known = sorted((found.needed, name) for name, found in fits.items() if found is not None and found.misfit)
    if len(known) < len(real):
        return f"For anything else use model='{_largest(each for each in real if not _misfit(fits[each.name]))}'"
    needed, name = known[0]
    available = next(found.available for found in fits.values() if found is not None)
    return (
        f"No other model for {task} fits this machine: the smallest, '{name}', needs about {in_bytes(needed)} of "
        f"memory, and here are {in_bytes(available)}"
    )


def _largest(models: Iterable[Manifest]) -> str:
    """Return the model with the most weights; of several of one size, the first by name."""
    return min(models, key=lambda each: (-(weights_bytes(each, "bf16") or 0), each.name)).name


def _smaller(fit: MemoryFit | None) -> str | None:
    """Return the largest named size that fits where the default one does not."""
    return next(iter(fit.largest), None) if fit is not None else None


def _misfit(fit: MemoryFit | None) -> str | None:
    return fit.misfit if fit is not None else None
