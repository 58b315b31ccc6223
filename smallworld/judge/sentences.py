"""Reads the captioner's sentences back into names, strictly.

"a small blue star and a large pink ring on a white background"
"""

import re

from smallworld.judge.colours import GROUND_COLOURS, OBJECT_COLOURS
from smallworld.judge.outlines import PERIOD
from smallworld.judge.verdict import Asked, AskedThing

_THING = re.compile(rf"(small|medium|large) ({'|'.join(OBJECT_COLOURS)}) ({'|'.join(PERIOD)})")
_GROUND = re.compile(rf"on an? ({'|'.join(GROUND_COLOURS)}) background")


def read(sentence: str) -> Asked:
    """What a caption says; objects it does not name in full are not there."""
    ground = _GROUND.search(sentence)
    things = tuple(AskedThing(shape, colour, size) for size, colour, shape in _THING.findall(sentence))
    return Asked(things, ground and ground.group(1))
