"""What a prompt or a caption names, thing by thing, and what of the one is missing in the other.

Works with the words of a manifest's `caption.check`. Knows no model: a caption is a text.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from wan_mcp.catalog.captions import CheckSpec

__all__ = ["Comparison", "Thing", "compare", "things_in"]


@dataclass(frozen=True)
class Thing:
    """A noun, with the adjectives before it and the motions after it; the noun is empty where there is none."""

    noun: str
    adjectives: frozenset[str] = frozenset()
    motions: frozenset[str] = frozenset()

    @property
    def features(self) -> int:
        """Return how many words it consists of."""
        return bool(self.noun) + len(self.adjectives) + len(self.motions)


@dataclass(frozen=True)
class Comparison:
    """What of a prompt is missing."""

    missing: tuple[str, ...]
    score: float | None
    """Share of the named features that are there; None if the prompt names none that can be compared."""


@dataclass
class _Reader:
    """Collects things, word by word."""

    things: list[Thing] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    """Adjectives whose noun has not come."""

    def read(self, sort: str, name: str) -> None:
        match sort:
            case "noun":
                self.things.append(Thing(name, frozenset(self.waiting)))
                self.waiting.clear()
            case "adjective":
                self.waiting.add(name)
            case _:
                last = next((at for at in reversed(range(len(self.things))) if self.things[at].noun != GROUND), None)
                if last is None:
                    self.things.append(Thing("", motions=frozenset({name})))
                else:
                    self.things[last] = replace(self.things[last], motions=self.things[last].motions | {name})


GROUND = "background"
"""A noun that does not move."""


def things_in(text: str, spec: CheckSpec) -> list[Thing]:
    """Return what a text names, in its order. Adjectives without a noun after them stand for themselves."""
    names = {
        wording: (sort, name)
        for sort, words in (("noun", spec.nouns), ("adjective", spec.adjectives), ("motion", spec.motions))
        for name, others in words.items()
        for wording in (name, *others)
    }
    longest_first = sorted(names, key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, longest_first))})(?:e?s)?(?![\w-])")
    reader = _Reader()
    for found in pattern.finditer(" ".join(text.lower().split())):
        reader.read(*names[found[1]])
    if reader.waiting:
        reader.things.append(Thing("", frozenset(reader.waiting)))
    return reader.things


def compare(asked: Sequence[Thing], seen: Sequence[Thing], *, moves: bool) -> Comparison:
    """Return what of `asked` is not in `seen`. Without `moves`, as for an image, motions are not compared."""
    if not moves:
        asked = [replace(thing, motions=frozenset()) for thing in asked]
    total = sum(thing.features for thing in asked)
    if total == 0:
        return Comparison((), None)
    left, missing, lacking = list(seen), [], 0
    for thing in sorted(asked, key=lambda each: not each.noun):  # those with a noun choose first
        match = max(left, key=lambda other: _agreement(thing, other), default=None) if thing.noun else None
        if thing.noun and (match is None or match.noun != thing.noun):
            missing.append(_in_words(thing, thing))
            lacking += thing.features
            continue
        if match is not None:
            left.remove(match)
        shown = match or _all_of(seen)
        lack = Thing("", thing.adjectives - shown.adjectives, thing.motions - shown.motions)
        if lack.features:
            missing.append(_in_words(thing, lack))
            lacking += lack.features
    return Comparison(tuple(missing), round(1 - lacking / total, 3))


def _agreement(asked: Thing, seen: Thing) -> tuple[bool, int]:
    common = len(asked.adjectives & seen.adjectives) + len(asked.motions & seen.motions)
    return asked.noun == seen.noun, common


def _all_of(things: Iterable[Thing]) -> Thing:
    found = list(things)
    adjectives: frozenset[str] = frozenset().union(*(each.adjectives for each in found))
    return Thing("", adjectives, frozenset().union(*(each.motions for each in found)))


def _in_words(thing: Thing, lack: Thing) -> str:
    """Return what a thing lacks: `red (circle)`, or `large red circle moving left` if all of it is missing."""
    words = sorted(lack.adjectives)
    words += [lack.noun] if lack.noun else []
    words += [MOVING.get(motion, motion) for motion in sorted(lack.motions)]
    said = " ".join(words)
    return f"{said} ({thing.noun})" if thing.noun and not lack.noun else said


MOVING: Mapping[str, str] = {way: f"moving {way}" for way in ("left", "right", "up", "down")}
