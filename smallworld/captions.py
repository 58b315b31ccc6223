"""Sentences about scenes: varied wording and order, attributes left out now and then, and what was said.

`caption` is what the generator learns from; `plain_caption` is the one style the captioner answers in. Both are
plain Python over `random.Random`, so a seed means the same sentences everywhere.
"""

from dataclasses import dataclass
from random import Random

from smallworld import names, phrases
from smallworld.world import Scenes


@dataclass(frozen=True)
class Thing:
    """One object by its names. In `Caption.things`, None stands for an attribute that the sentence leaves open."""

    shape: str | None
    colour: str | None
    size: str | None
    motion: str | None


@dataclass(frozen=True)
class Picture:
    """A scene by its names: what can be said about it."""

    things: tuple[Thing, ...]
    background: str | None


@dataclass(frozen=True)
class Caption:
    """A sentence and the attributes it names (None where it leaves one open)."""

    text: str
    named: Picture


def pictures(scenes: Scenes) -> list[Picture]:
    """The names of every scene in a batch."""
    shape, colour = scenes.shape.tolist(), scenes.colour.tolist()
    size, motion = scenes.size.tolist(), scenes.motion.tolist()
    present, background = scenes.present.tolist(), scenes.background.tolist()
    return [
        Picture(
            tuple(
                Thing(
                    names.SHAPES[shape[i][k]],
                    names.COLOURS[colour[i][k]],
                    names.SIZES[size[i][k]],
                    names.MOTIONS[motion[i][k]],
                )
                for k in range(2)
                if present[i][k]
            ),
            names.BACKGROUNDS[background[i]],
        )
        for i in range(len(scenes))
    ]


def caption(picture: Picture, rng: Random, still: bool = False) -> Caption:
    """A free sentence about the picture. `still` speaks of an image, mostly without motion."""
    named = _leave_out(picture, rng, 0.15 if still else 0.92)
    text = _single(named, rng) if len(named.things) == 1 else _pair(named, rng)
    return Caption(_dressed(text, rng, still), named)


def motion_only(picture: Picture, rng: Random) -> Caption:
    """A sentence for image -> video that names only how things move ("it moves left")."""
    motions = [thing.motion or "still" for thing in picture.things]
    silent = [Thing(None, None, None, motion) for motion in motions]
    if len(motions) == 1:
        subject = rng.choice(("it", "it", "the shape", "the object", "the figure"))
        form = _verb(motions[0], 1, rng)
        text = rng.choice(
            (
                f"{subject} {form}",
                f"{subject} {form}",
                f"{subject} is {_verb(motions[0], 0, rng)}",
                _verb(motions[0], 0, rng),
            )
        )
        if rng.random() < 0.25 and picture.things[0].shape:
            subject = "the " + " ".join(_noun(picture.things[0], rng, size=False))
            silent = [Thing(picture.things[0].shape, picture.things[0].colour, None, motions[0])]
            text = f"{subject} {form}"
    elif motions[0] == motions[1]:
        text = rng.choice(("they", "both", "both shapes", "the shapes")) + f" {_verb(motions[0], 2, rng)}"
    else:
        parts, silent = [], []
        for thing, motion in zip(picture.things, motions, strict=True):
            parts.append(f"the {' '.join(_noun(thing, rng, size=False))} {_verb(motion, 1, rng)}")
            silent.append(Thing(thing.shape, thing.colour, None, motion))
        text = rng.choice((" and ", " while ", ", ")).join(parts)
    return Caption(text, Picture(tuple(silent), None))


def plain_caption(picture: Picture) -> str:
    """The captioner's sentence: "a small blue star and a large pink ring on a white background"."""
    things = " and ".join(f"a {thing.size} {thing.colour} {thing.shape}" for thing in picture.things)
    return f"{things.replace('a orange', 'an orange')} on a {picture.background} background"


def _leave_out(picture: Picture, rng: Random, motion_share: float) -> Picture:
    """Drop attributes now and then; of a pair, shape and colour are always told so that it can be told apart."""
    alone = len(picture.things) == 1
    things = []
    drop_motion = rng.random() > motion_share
    for thing in picture.things:
        shape, colour, size = thing.shape, thing.colour, thing.size
        motion = None if drop_motion or (not alone and rng.random() < 0.05) else thing.motion
        if rng.random() < 0.28:
            size = None
        if alone and rng.random() < 0.06:
            colour = None
        elif alone and rng.random() < 0.05:
            shape = None
        things.append(Thing(shape, colour, size, motion))
    return Picture(tuple(things), None if rng.random() < 0.15 else picture.background)


def _noun(thing: Thing, rng: Random, size: bool = True) -> list[str]:
    words = []
    if size and thing.size:
        words.append(rng.choice(phrases.SIZE_WORDS[thing.size]))
    if thing.colour:
        words.append(rng.choice(phrases.COLOUR_WORDS[thing.colour]))
    words.append(
        rng.choice(phrases.SHAPE_WORDS[thing.shape]) if thing.shape else rng.choice(("shape", "object", "figure"))
    )
    if len(words) == 3 and rng.random() < 0.06:
        words[0], words[1] = words[1], words[0]
    return words


def _verb(motion: str, form: int, rng: Random) -> str:
    """The motion in words; form 0 "drifting left", 1 "drifts left", 2 "drift left"."""
    if motion in phrases.DIRECTION_WORDS:
        verb = rng.choice(phrases.MOTION_WORDS["moves"][form])
        return f"{verb} {rng.choice(phrases.DIRECTION_WORDS[motion])}"
    words = rng.choice(phrases.MOTION_WORDS[motion][form])
    return f"do {words}" if words.startswith("not ") and form == 2 else words


def _article(words: list[str], rng: Random) -> str:
    if rng.random() < 0.12:
        return " ".join(words)
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def _ground(background: str, rng: Random) -> str:
    word = rng.choice(phrases.BACKGROUND_WORDS[background])
    patterns = (
        "on a {} background", "on a {} background", "over a {} background", "on {}", "against a {} background",
        "against {}", "with a {} background", "in front of a {} backdrop", "on a {} backdrop", "over {}",
    )  # fmt: skip
    return rng.choice(patterns).format(word)


def _single(named: Picture, rng: Random) -> str:
    thing = named.things[0]
    noun = _noun(thing, rng)
    motion, ground = thing.motion, named.background
    pattern = rng.random()
    if motion and pattern < 0.08:  # "a spinning yellow star", "a drifting ..." keeps its direction behind
        words = rng.choice(phrases.MOTION_WORDS[motion if motion in phrases.MOTION_WORDS else "moves"][0])
        if motion in phrases.DIRECTION_WORDS:
            text = f"{_article([words.split()[0], *noun], rng)}, {rng.choice(phrases.DIRECTION_WORDS[motion])}"
        else:
            text = _article([words, *noun], rng)
        return f"{text} {_ground(ground, rng)}" if ground else text
    if pattern < 0.16:  # telegram style
        parts = [" ".join(noun)]
        parts += [_verb(motion, 0, rng)] if motion else []
        parts += [f"{rng.choice(phrases.BACKGROUND_WORDS[ground])} background"] if ground else []
        if rng.random() < 0.4:
            rng.shuffle(parts)
        return ", ".join(parts)
    text = _article(noun, rng)
    if motion:
        form = rng.choice((0, 0, 1, 1, 3, 4))
        if form == 3:
            text = f"{text} that {_verb(motion, 1, rng)}"
        elif form == 4:
            text = f"{text} is {_verb(motion, 0, rng)}"
        else:
            text = f"{text} {_verb(motion, form, rng)}"
    if not ground:
        return text
    if rng.random() < 0.12:
        return f"{_ground(ground, rng)}, {text}"
    if rng.random() < 0.08:
        return f"{text}, the background is {rng.choice(phrases.BACKGROUND_WORDS[ground])}"
    if motion and rng.random() < 0.3:  # "a red star on a navy background, drifting left"
        return f"{_article(noun, rng)} {_ground(ground, rng)}{rng.choice((', ', ' '))}{_verb(motion, 0, rng)}"
    return f"{text} {_ground(ground, rng)}"


def _pair(named: Picture, rng: Random) -> str:
    one, two = named.things if rng.random() < 0.5 else named.things[::-1]
    first, second = _article(_noun(one, rng), rng), _article(_noun(two, rng), rng)
    if one.motion and one.motion == two.motion and rng.random() < 0.6:
        form = rng.choice((0, 2))
        text = f"{first} and {second}{rng.choice((' ', ', ', ', both ', ' both '))}{_verb(one.motion, form, rng)}"
    else:
        form = rng.choice((0, 1))
        joint = rng.choice((" and ", " and ", " while ", ", "))
        parts = [
            f"{noun} {_verb(thing.motion, form, rng)}" if thing.motion else noun
            for noun, thing in ((first, one), (second, two))
        ]
        text = joint.join(parts) if one.motion else " and ".join(parts)
    if not named.background:
        return text
    ground = _ground(named.background, rng)
    return f"{ground}, {text}" if rng.random() < 0.12 else f"{text} {ground}"


def _dressed(text: str, rng: Random, still: bool) -> str:
    """Openings, a full stop, a capital, and now and then words that mean nothing here."""
    if rng.random() < 0.15:
        text = f"{rng.choice(phrases.STILL_OPENINGS if still else phrases.OPENINGS)} {text}"
    if rng.random() < 0.08:
        count = rng.randint(1, 5)
        text = f"{text}, {' '.join(_filler(rng) for _ in range(count))}"
    if rng.random() < 0.2:
        text = text[0].upper() + text[1:]
    return text + ("." if rng.random() < 0.25 else "")


def _filler(rng: Random) -> str:
    if rng.random() < 0.7:
        return rng.choice(phrases.FILLER_WORDS)
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 6)))
