"""The ids of this API: a job's id with a word in front, as its clients expect it, and back."""

import re

__all__ = ["image_id", "job_id_of", "video_id"]

VIDEO_ID = re.compile(r"(?:video_)?(?P<job>[0-9a-z]{20})")


def video_id(job_id: str) -> str:
    """Return the id of a video job here."""
    return f"video_{job_id}"


def image_id(job_id: str, index: int) -> str:
    """Return the id of one image of a job here."""
    return f"image_{job_id}-{index}"


def job_id_of(video: str) -> str | None:
    """Return the id of the job in the table; None if it cannot be one. The id of another front is as good."""
    match = VIDEO_ID.fullmatch(video)
    return match["job"] if match else None
