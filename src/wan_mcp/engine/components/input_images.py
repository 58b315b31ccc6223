"""Read the input images of a plan from our copies in the home folder."""

from PIL import Image

from wan_mcp.errors import JobFailed
from wan_mcp.media.framing import cover
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.plans import ImagePlan, InputImage, VideoPlan

__all__ = ["open_framed", "open_input"]


def open_input(media: MediaStore, picture: InputImage) -> Image.Image:
    """Return an input image in RGB.

    Raises:
        JobFailed: its file is gone.
    """
    try:
        with Image.open(media.home / picture.file) as opened:
            return opened.convert("RGB")
    except OSError as error:
        raise JobFailed(
            "input_missing", f"The input image {picture.source} is no longer in the home folder. Submit it again."
        ) from error


def open_framed(media: MediaStore, picture: InputImage, plan: VideoPlan | ImagePlan) -> Image.Image:
    """Return an input image in the size of the plan's results, scaled to cover it and cropped.

    Raises:
        JobFailed: its file is gone.
    """
    framing = cover((picture.width, picture.height), (plan.width, plan.height))
    return open_input(media, picture).resize(framing.scaled, Image.Resampling.LANCZOS).crop(framing.box)
