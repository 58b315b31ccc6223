"""What was asked against what is seen, attribute by attribute; only what the prompt names is judged."""

from dataclasses import dataclass
from itertools import permutations

from smallworld.judge.look import SeenClip, SeenThing


@dataclass(frozen=True)
class AskedThing:
    """One object as the prompt names it; None where it leaves something open."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    motion: str | None = None


@dataclass(frozen=True)
class Asked:
    """The prompt's objects and background."""

    things: tuple[AskedThing, ...]
    background: str | None = None


@dataclass(frozen=True)
class Verdict:
    """Per attribute: right, wrong, or None where the prompt names none. `count`: as many objects as asked, no more."""

    shape: bool | None
    colour: bool | None
    size: bool | None
    motion: bool | None
    background: bool | None
    count: bool

    @property
    def all_right(self) -> bool:
        return all(value is not False for value in vars(self).values())


_ATTRIBUTES = ("shape", "colour", "size", "motion")


def compare(asked: Asked, seen: SeenClip) -> Verdict:
    """Pair the asked objects with the seen ones as well as possible, then judge each attribute over all objects."""
    missing = max(len(asked.things) - len(seen.things), 0)
    pool: list[SeenThing | None] = [*seen.things, *([None] * missing)]
    chosen = max(permutations(pool, len(asked.things)), key=lambda order: _agreement(asked.things, order))
    judged = {name: _attribute(asked.things, chosen, name) for name in _ATTRIBUTES}
    ground = None if asked.background is None else asked.background == seen.background
    return Verdict(**judged, background=ground, count=len(seen.things) == len(asked.things) and seen.clean)


def _agreement(asked: tuple[AskedThing, ...], seen: tuple[SeenThing | None, ...]) -> int:
    return sum(
        getattr(a, name) == getattr(s, name)
        for a, s in zip(asked, seen, strict=True)
        for name in _ATTRIBUTES
        if s is not None and getattr(a, name) is not None
    )


def _attribute(asked: tuple[AskedThing, ...], seen: tuple[SeenThing | None, ...], name: str) -> bool | None:
    pairs = [(getattr(a, name), s and getattr(s, name)) for a, s in zip(asked, seen, strict=True)]
    named = [pair for pair in pairs if pair[0] is not None]
    return all(wanted == found for wanted, found in named) if named else None
