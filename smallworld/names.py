"""The names of the small world and what they look like: pure data, no behaviour.

The order of each tuple is the index used in tensors everywhere under `training/`. The judge keeps its own tables on
purpose (see `smallworld/judge`), so a mistake made here shows up there.
"""

SHAPES = ("circle", "square", "triangle", "star", "ring", "diamond")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "pink", "cyan")
SIZES = ("small", "medium", "large")
MOTIONS = ("left", "right", "up", "down", "growing", "shrinking", "spinning", "bouncing", "still")
BACKGROUNDS = ("black", "white", "gray", "navy", "teal", "brown", "sky")

COLOUR_RGB = {
    "red": (225, 30, 35),
    "green": (40, 175, 50),
    "blue": (45, 85, 255),
    "yellow": (250, 225, 40),
    "purple": (140, 45, 190),
    "orange": (255, 140, 0),
    "pink": (255, 130, 190),
    "cyan": (30, 230, 235),
}
BACKGROUND_RGB = {
    "black": (8, 8, 10),
    "white": (246, 246, 246),
    "gray": (128, 128, 128),
    "navy": (14, 22, 84),
    "teal": (0, 104, 104),
    "brown": (104, 64, 32),
    "sky": (158, 206, 246),
}

# Side of the square of equal filled area, as a fraction of the frame's short side. A ring counts with its hole
# filled. The word names the size in the first frame; growing and shrinking start from there.
SIZE_SIDE = {"small": 0.15, "medium": 0.23, "large": 0.35}

# A circle or a ring looks the same at every angle, so "spinning" would not be visible: the world has none.
ROUND_SHAPES = frozenset({"circle", "ring"})

# Frame sizes (width, height) in pixels, frames per second, and the lengths that training shows.
FRAME_SIZES = ((128, 128), (160, 96), (96, 160))
FPS = 8
DEFAULT_FRAMES = 17
LONGEST_FRAMES = 33

__all__ = [
    "BACKGROUNDS",
    "BACKGROUND_RGB",
    "COLOURS",
    "COLOUR_RGB",
    "DEFAULT_FRAMES",
    "FPS",
    "FRAME_SIZES",
    "LONGEST_FRAMES",
    "MOTIONS",
    "ROUND_SHAPES",
    "SHAPES",
    "SIZES",
    "SIZE_SIDE",
]
