"""A judge of the small world's pictures by classical vision: colour segmentation, outlines, tracks.

It shares nothing with the trained models or with the code that renders their training clips, only the names; its own
tables say what the names look like. `look` says what is in a clip, `compare` holds that against what was asked.
"""

from smallworld.judge.look import SeenClip, SeenThing, look
from smallworld.judge.verdict import Asked, AskedThing, Verdict, compare

__all__ = ["Asked", "AskedThing", "SeenClip", "SeenThing", "Verdict", "compare", "look"]
