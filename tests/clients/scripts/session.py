"""A creative session, as an agent goes through it: each step uses what an earlier one has said.

Runs in the client's own environment: standard library only.
"""

from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["session"]

Json = dict[str, Any]
Call = Callable[..., Awaitable[Json]]
SMALL = {"steps": 1, "wait_s": 240}
CLIP = {**SMALL, "num_frames": 5}


async def session(call: Call, read: Callable[[str], Awaitable[Json]]) -> Json:
    """Go from an idea to a file in ten steps and some looks. Returns the answers, by step."""
    told: Json = {}
    told["idea"] = await call("list_resolutions", task="text-to-image")
    told["image"] = await call("generate_image", prompt="a red circle on a white background", **SMALL)
    still = _uri(told["image"])
    told["variation"] = await call("remix", job_id=_id(told["image"]), seed="new", wait_s=240)
    told["video"] = await call("generate_video", prompt="a red circle moves to the right", image=still, **CLIP)
    clip = _uri(told["video"])
    told["film"] = await read(clip)
    told["extended"] = await call("generate_video", prompt="a red circle moves up", extend=clip, **CLIP)
    told["caption"] = await call("caption_image", image=clip, wait_s=240)
    told["remix"] = await call("remix", job_id=_id(told["video"]), seed="new", wait_s=240)
    begun = await call("generate_video", prompt="a blue star spins", num_frames=33, steps=50, wait_s=0)
    told["begun"] = begun
    told["cancelled"] = await call("cancel_job", job_id=_id(begun))
    told["ended"] = await call("get_job", job_id=_id(begun), wait_s=240)
    told["found"] = await call("list_jobs", query="red circle", kind="image")
    [old] = {job["job_id"] for job in told["found"]["structured"]["jobs"]} & {_id(told["image"])}
    told["deleted"] = await call("delete_job", job_id=old)
    told["gone"] = await call("get_job", job_id=old)
    return told


def _id(answer: Json) -> str:
    job_id: str = answer["structured"]["job_id"]
    return job_id


def _uri(answer: Json) -> str:
    uri: str = answer["structured"]["artifacts"][0]["uri"]
    return uri
