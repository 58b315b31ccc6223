"""Every client on every transport gets all that the server promises."""

import base64
import hashlib
import io
import json
from itertools import pairwise
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from tests.clients.conftest import TOOLS, Story
from wan_mcp.fronts.mcp.results import JobResult

JOBS = ("video", "started", "finished", "image", "caption")
FILES = ("video", "finished", "image")


def test_the_tools_are_listed(story: Story) -> None:
    assert {tool["name"] for tool in story.told["tools"]} == TOOLS


@pytest.mark.parametrize("call", JOBS)
def test_structured_content_validates(story: Story, call: str) -> None:
    answer = story.told[call]
    JobResult.model_validate(answer["structured"])
    published = {tool["name"]: tool.get("outputSchema") for tool in story.told["tools"]}
    if schema := published[answer["tool"]]:  # LangChain does not show it
        Draft202012Validator(schema).validate(answer["structured"])


@pytest.mark.parametrize("call", FILES)
def test_a_result_has_text_with_its_path_a_link_and_a_small_picture(story: Story, call: str) -> None:
    answer, artifact = story.told[call], story.artifact(call)
    assert not answer["is_error"]
    assert answer["structured"]["status"] == "succeeded"
    assert artifact["path"] in answer["text"]
    assert answer["structured"]["job_id"] in answer["text"]
    assert answer["links"] == [{"uri": artifact["uri"], "mime_type": artifact["mime_type"]}]
    [picture] = answer["pictures"]
    jpeg = base64.b64decode(picture["data"], validate=True)
    assert len(jpeg) <= 25_000
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.format == "JPEG"
        image.load()


@pytest.mark.parametrize("call", ["video", "finished"])
def test_progress_rises_strictly_with_total_and_message(story: Story, call: str) -> None:
    answer = story.told[call]
    values = [value for value, _, _ in answer["progress"]]
    assert len(values) >= 2
    assert all(later > earlier for earlier, later in pairwise(values))
    assert values[-1] == 100
    assert all(total == 100 and message for _, total, message in answer["progress"])
    assert len(values) <= 4 * answer["seconds"] + 3


def test_progress_names_the_steps_of_a_long_job(story: Story) -> None:
    steps = story.told["finished"]["structured"]["request"]["steps"]
    messages = [message for _, _, message in story.told["finished"]["progress"]]
    assert any(message.startswith("Denoising step ") and f"/{steps}" in message for message in messages)


def test_a_call_with_a_short_wait_returns_before_its_job_ends_and_the_job_goes_on(story: Story) -> None:
    started, finished = story.told["started"], story.told["finished"]
    assert started["structured"]["status"] in ("queued", "running")
    assert started["structured"]["job_id"] in started["text"]
    assert "get_job" in started["text"]
    assert finished["structured"]["job_id"] == started["structured"]["job_id"]
    assert finished["structured"]["status"] == "succeeded"
    assert finished["structured"]["created_at"] == started["structured"]["created_at"]


def test_a_resource_read_gives_the_very_file_whole_and_in_pieces(story: Story) -> None:
    artifact = story.artifact("video")
    content = Path(artifact["path"]).read_bytes()
    assert len(content) == artifact["bytes"]
    assert story.told["whole"]["mime_type"] == "video/mp4"
    assert story.told["whole"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert story.told["pieces"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(story.told["pieces"]["sizes"]) == 2


def test_a_still_is_readable_and_captioned_by_its_address(story: Story) -> None:
    artifact = story.artifact("image")
    assert story.told["still"]["mime_type"] == "image/png"
    assert story.told["still"]["sha256"] == hashlib.sha256(Path(artifact["path"]).read_bytes()).hexdigest()
    caption = story.told["caption"]["structured"]
    assert caption["request"]["image"] == artifact["uri"]
    assert caption["caption"]
    assert caption["caption"] in story.told["caption"]["text"]


def test_jobs_and_the_gallery_are_resources(story: Story) -> None:
    job = json.loads(story.told["job"]["text"])
    assert JobResult.model_validate(job).job_id == story.told["started"]["structured"]["job_id"]
    results = json.loads(story.told["gallery"]["text"])["results"]
    assert {story.artifact(call)["uri"] for call in FILES} <= {result["uri"] for result in results}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("bad_value", ("steps", "9999", "1 to 50")),
        ("bad_name", ("frames", "did you mean num_frames")),
        ("unknown_job", ("nosuchjob", "list_jobs")),
    ],
)
def test_a_refusal_says_what_was_wrong_and_what_to_do(story: Story, call: str, words: tuple[str, ...]) -> None:
    answer = story.told[call]
    assert answer["is_error"]
    assert all(word in answer["text"] for word in words), answer["text"]
    assert "Traceback" not in answer["text"]


def test_a_read_of_nothing_says_so(story: Story) -> None:
    refusal = story.told["unknown_media"]["error"]
    assert "nosuchvideo" in refusal
    assert "wan://gallery" in refusal
