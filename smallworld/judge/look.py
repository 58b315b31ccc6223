"""What is in a clip: the background and every object with its shape, colour, size and motion."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smallworld.judge import colours
from smallworld.judge.blobs import Blob, background, blobs
from smallworld.judge.motion import motion, turned
from smallworld.judge.outlines import OUTLINE_LENGTH, PERIOD, Likeness, likeness

# Side of the square of equal filled area / short side of the frame: the words part between these.
_SMALL_BELOW = 0.186
_LARGE_FROM = 0.284
# How far off an outline may be on average, as a fraction of the object's side, before it is no shape with a name.
# At this value 3 random pebbles in 100 get a name; at 0.055 it would be 20.
_TOLERANCE = 0.0475
# In this share of the looked-at frames the same shape must win.
_LEAST_AGREEMENT = 0.6
# An object is there if it is seen in this share of the frames.
_LEAST_PRESENCE = 0.8
# A second piece of the same colour this large (of the object) makes the object two.
_STRAY = 0.25


@dataclass(frozen=True)
class SeenThing:
    """One object as seen; None where it fits no name."""

    shape: str | None
    colour: str
    size: str
    motion: str


@dataclass(frozen=True)
class SeenClip:
    """A clip as seen. `clean` is false where pieces are about that belong to no object."""

    background: str | None
    things: tuple[SeenThing, ...]
    clean: bool


def look(frames: NDArray[np.uint8]) -> SeenClip:
    """Look at a clip (or one still) [T, H, W, 3]."""
    ground = background(frames)
    by_frame = [blobs(frame, ground) for frame in frames]
    present = Counter(colour for found in by_frame for colour in {blob.colour for blob in found} if colour)
    needed = _LEAST_PRESENCE * len(frames)
    short_side = float(min(frames.shape[1:3]))
    tracks = []
    for colour in sorted(colour for colour, count in present.items() if count >= needed):
        # Blobs come largest first: the track follows the largest of its colour.
        largest = (next((blob for blob in found if blob.colour == colour), None) for found in by_frame)
        track = [blob for blob in largest if blob is not None]
        tracks.append((colour, track))
    things = tuple(_thing(colour, track, short_side) for colour, track in tracks)
    return SeenClip(colours.name(ground, colours.GROUND_COLOURS), things, _clean(by_frame, tracks))


def _thing(colour: str, track: list[Blob], short_side: float) -> SeenThing:
    likenesses = [likeness(blob) for blob in track]
    shape = _shape(likenesses)
    side = float(np.sqrt(track[0].filled_area)) / short_side
    size = "small" if side < _SMALL_BELOW else "medium" if side < _LARGE_FROM else "large"
    angles = [like.angle[shape] for like in likenesses] if shape else []
    moved = motion(
        np.array([blob.centre for blob in track]),
        np.sqrt([blob.filled_area for blob in track]),
        turned(angles, PERIOD[shape]) if shape else 0.0,
        short_side,
    )
    return SeenThing(shape, colour, size, moved)


def _shape(likenesses: list[Likeness]) -> str | None:
    """The shape of a track: it overlaps best on average, well enough, and in most frames."""
    average = {shape: float(np.mean([like.overlap[shape] for like in likenesses])) for shape in PERIOD}
    best = max(average, key=lambda shape: average[shape])
    agreement = np.mean([like.best == best for like in likenesses])
    return best if average[best] >= 1 - _TOLERANCE * OUTLINE_LENGTH[best] and agreement >= _LEAST_AGREEMENT else None


def _clean(by_frame: list[list[Blob]], tracks: list[tuple[str, list[Blob]]]) -> bool:
    """Whether nearly all frames show the objects and nothing else of any size."""
    usual = {colour: float(np.median([blob.filled_area for blob in track])) for colour, track in tracks}
    least = min(usual.values(), default=0.0)
    dirty = 0
    for found in by_frame:
        seen: set[str | None] = set()
        for blob in found:
            first = blob.colour in usual and blob.colour not in seen
            seen.add(blob.colour)
            dirty += not first and blob.filled_area > _STRAY * usual.get(blob.colour or "", least)
    return dirty <= 0.2 * len(by_frame)
