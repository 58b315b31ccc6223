"""What clients of other servers of this API send, SGLang's and vLLM-Omni's among them."""

import pytest

from tests.fixtures.video_api import SORA_ENDS, Serve
from wan_mcp.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings(SORA_ENDS)]


async def test_what_only_a_model_decides_is_accepted_if_it_is_as_the_model_has_it(
    settings: Settings, serve: Serve
) -> None:
    documented = {"prompt": "x", "model": "wan2.2-t2v-a14b", "width": 832, "height": 480, "num_frames": 33, "fps": 16}
    async with serve(settings) as api:
        other = await api.refusal("POST", "/videos", documented | {"boundary_ratio": 0.875, "flow_shift": 5.0})
        own = await api.refusal("POST", "/videos", documented | {"boundary_ratio": 0.875, "flow_shift": 12.0})
        waiting = await api.refusal("POST", "/videos/sync", {"prompt": "x"})
    assert (other["param"], other["code"]) == ("flow_shift", "invalid_value")
    assert "whose shift is 12" in other["message"]
    assert own["param"] not in ("fps", "flow_shift", "boundary_ratio"), "its weights are not here, and that is all"
    assert waiting["code"] == "not_supported"
