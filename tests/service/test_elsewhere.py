"""What clients on other machines may name: their own images and results, and LoRAs of the server's folder."""

import pytest

from wan_mcp.errors import BadRequest
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, LoraRequest, Request, VideoRequest
from wan_mcp.service.elsewhere import require_nameable

COPY = f"wan://inputs/{'ab' * 32}.png"


@pytest.mark.parametrize(
    ("request_", "parameter"),
    [
        (CaptionRequest(image="/home/a/x.png"), "image"),
        (CaptionRequest(image="~/x.png"), "image"),
        (CaptionRequest(image="x.png"), "image"),
        (CaptionRequest(image="file:///home/a/x.png"), "image"),
        (CaptionRequest(image="FILE:/home/a/x.png"), "image"),
        (CaptionRequest(image=" /home/a/x.png"), "image"),
        (CaptionRequest(image="ab" * 32), "image"),
        (CaptionRequest(image=COPY), "image"),
        (CaptionRequest(image=f"\n{COPY.upper()}"), "image"),
        (CaptionRequest(image="wan:inputs/x.png"), "image"),
        (ImageRequest(prompt="a", image="../media/inputs/x.png"), "image"),
        (VideoRequest(prompt="a", image="wan://images/0-0.png", last_image="/x.png"), "last_image"),
        (VideoRequest(prompt="a", last_image=COPY), "last_image"),
        (VideoRequest(prompt="a", lora=(LoraRequest(path="/x.safetensors"),)), "lora"),
        (ImageRequest(prompt="a", lora=(LoraRequest(name="x"), LoraRequest(path="x"))), "lora"),
    ],
)
def test_requests_that_name_a_file_or_an_image_of_another_client_are_refused(request_: Request, parameter: str) -> None:
    with pytest.raises(BadRequest, match="not on the server's machine") as refused:
        require_nameable(request_)
    assert refused.value.param == parameter


def test_an_image_url_is_called_one() -> None:
    with pytest.raises(BadRequest, match="is a URL"):
        require_nameable(CaptionRequest(image="https://example.org/x.png"))


def test_results_data_and_named_loras_may_be_used() -> None:
    require_nameable(CaptionRequest(image=" data:image/png;base64,AAAA"))
    require_nameable(VideoRequest(prompt="a", image="wan://images/0-0.png", lora=(LoraRequest(name="x"),)))
    require_nameable(VideoRequest(prompt="a", image="WAN://videos/0-0.mp4", last_image="/x.png"), {"/x.png"})
