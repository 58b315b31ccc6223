"""The tools as a client meets them: results, waiting, following, cancelling, refusing."""

import base64
import io

import anyio
import pytest
from PIL import Image

from tests.protocol.conftest import ERAS, Connect
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
LIMIT_S = 20


@pytest.mark.parametrize("mode", ERAS)
async def test_a_finished_video_comes_as_link_path_and_contact_sheet(
    shared_settings: Settings, connect: Connect, mode: str
) -> None:
    with anyio.fail_after(LIMIT_S):
        async with connect(shared_settings, mode) as studio:
            answer = await studio.call("generate_video", prompt="a red circle", seed=7, steps=4)
    assert not answer.result.is_error
    job = answer.job
    [artifact] = job["artifacts"]
    assert job["status"] == "succeeded"
    assert (job["progress"], job["seed"], job["kind"]) == (1.0, 7, "video")
    assert job["request"]["prompt"] == "a red circle"
    assert (artifact["width"], artifact["height"], artifact["frames"]) == (128, 128, 17)
    assert (await anyio.Path(artifact["path"]).stat()).st_size == artifact["bytes"]
    assert job["finished_at"] > job["started_at"] > job["created_at"]
    assert job["created_at"].endswith("Z")
    [link] = answer.links
    assert (link.uri, link.mime_type, link.size) == (artifact["uri"], "video/mp4", artifact["bytes"])
    [sheet] = answer.pictures
    assert Image.open(io.BytesIO(base64.b64decode(sheet.data))).format == "JPEG"
    assert artifact["path"] in answer.text
    assert job["job_id"] in answer.text
