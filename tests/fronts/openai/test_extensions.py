"""A video that goes on from another one, over the video API."""

import numpy as np
import pytest
from openai.types import Video

from tests.fixtures.video_api import SORA_ENDS, Serve
from tests.support.patience import PATIENCE_S
from tests.support.videos import write_video
from wan_mcp.media.store import MediaName, MediaStore
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.plans import VideoPlan
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings(SORA_ENDS)]


async def test_a_video_is_extended_in_one_file_with_its_parameters(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as api, serving(settings) as service:
        first = await api.create(seed=7, num_inference_steps=3, num_frames=9)
        job_id = first.id.removeprefix("video_")
        assert (await service.wait(job_id, PATIENCE_S)).job.state is JobState.SUCCEEDED
        name = MediaName.of(job_id, 0, Kind.VIDEO)
        frames = np.full((9, 128, 128, 3), 90, np.uint8)  # this engine's video is none
        write_video(MediaStore(settings.home), name, frames, 8, {}, 1)
        asked = {"prompt": "it stops", "seconds": "4", "video": {"id": first.id}}
        longer = await api.client.post("/videos/extensions", body=asked, cast_to=Video)  # its extend refuses objects
        plan = (await service.view(longer.id.removeprefix("video_"))).job.plan
        unknown = await api.refusal("POST", "/videos/extensions", {"prompt": "x", "video": {"id": "video_no"}})
        empty = await api.refusal("POST", "/videos/extensions", {"video": {"id": first.id}})
    assert longer.remixed_from_video_id == first.id
    assert isinstance(plan, VideoPlan) and plan.extends is not None and plan.extends.source == name.uri
    assert (plan.num_frames, plan.total_frames, plan.steps, plan.seed) == (33, 41, 3, 7)
    assert (unknown["status"], unknown["param"], empty["param"]) == (404, "video", "prompt")
