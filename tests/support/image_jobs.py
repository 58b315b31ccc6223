"""Small jobs of the shipped image models, and a look at what ran them."""

from typing import Any

from PIL import Image

from tests.fixtures.served_models import Place
from tests.support.loading import runner_in
from wan_mcp.schema.enums import Task
from wan_mcp.schema.requests import ImageRequest

__all__ = ["STEPS", "model_of", "pixels", "request"]

STEPS = 3


def request(name: str, task: Task, **changes: Any) -> ImageRequest:
    image = None if task is Task.TEXT_TO_IMAGE else "the picture"
    values = {"prompt": "a red circle", "resolution": "64x96", "steps": STEPS, "seed": 5, "model": name, "image": image}
    return ImageRequest(**(values | changes))


def pixels(path: str) -> bytes:
    with Image.open(path) as opened:
        return opened.tobytes()


def model_of(place: Place) -> Any:
    return runner_in(place.runner)._model
