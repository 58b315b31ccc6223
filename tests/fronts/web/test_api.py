"""The page's API: what can be chosen, pictures, estimates, jobs, and what is refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.mcp_server import png
from tests.fixtures.studio import Studio, StudioSite, done
from tests.support.far_models import add_far_model
from tests.support.videos import encode, greys, write_video
from wan_mcp.fronts.web.catalogue_shapes import Catalogue
from wan_mcp.fronts.web.shapes import EstimateAnswer, JobDetail, JobPage
from wan_mcp.media.store import MediaName, MediaStore
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


async def test_the_page_comes_from_this_host_alone_and_runs_nothing_inline(studio: Studio) -> None:
    answer = await studio.web.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    again = await studio.web.get("/", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


async def test_the_catalogue_offers_what_the_manifests_allow(studio: Studio) -> None:
    found = Catalogue.model_validate(await studio.get("/api/catalogue"))
    mini = next(model for model in found.models if model.name == "wan-mini")
    assert mini.group == "here"
    assert mini.download_bytes == 0
    assert mini.sizes is not None and mini.sizes.default == "square"
    assert mini.frames is not None and (mini.frames.multiple, mini.frames.offset) == (4, 1)
    video = next(names for kind, names in mini.offers.items() if kind == "video")
    assert "image" in video and not {"last_image", "turbo", "lora", "guidance_scale_2"} & set(video)
    assert {"check", "pick"} <= set(video), "the embedded captioner knows its world"
    large = next(model for model in found.models if model.group != "here")
    assert not {"check", "pick"} & {name for names in large.offers.values() for name in names}, "and no larger one"
    assert large.download_bytes == large.disk_bytes > 0


async def test_a_picture_becomes_an_id_that_a_job_starts_from(studio: Studio) -> None:
    answer = await studio.web.post(
        "/api/inputs", params={"width": 128, "height": 128}, content=png(60, 30), headers={"X-Wan-Mcp": "page"}
    )
    assert answer.status_code == 201, answer.text
    picture = answer.json()
    assert (picture["width"], picture["height"]) == (60, 30)
    assert picture["crop"]["left"] == pytest.approx(0.25)
    assert (await studio.web.get(picture["url"])).headers["content-type"] == "image/png"
    made = await studio.until((await studio.submit(image=picture["id"]))["id"], done)
    assert made["state"] == "succeeded"
    assert made["task"] == "image-to-video"
    assert made["images"] == [picture["url"]]
    detail = JobDetail.model_validate(await studio.get(f"/api/jobs/{made['id']}"))
    assert detail.request["image"] == picture["id"], "so the same request can be sent again"


async def test_a_form_with_a_picture_is_read_too(studio: Studio) -> None:
    files = {"file": ("a.png", png(31, 17), "image/png")}
    answer = await studio.web.post("/api/inputs", files=files, headers={"X-Wan-Mcp": "page"})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["width"], answer.json()["height"]) == (31, 17)


async def test_a_frame_of_a_video_becomes_an_id_like_a_picture(studio: Studio, tmp_path: Path) -> None:
    data, own = encode(tmp_path / "clip.webm", greys()).read_bytes(), {"X-Wan-Mcp": "page"}
    sent = [
        await studio.web.post("/api/inputs", params={"frame": frame}, content=data, headers=own)
        for frame in ("first", "-1", "2")
    ]
    assert [answer.status_code for answer in sent] == [201] * 3
    assert len({answer.json()["id"] for answer in sent}) == 3
    assert sent[2].json()["notes"] == ["frame 2 of the video is used"]
    video = (await studio.until((await studio.submit())["id"], done))["results"][0]
    path = Path(video["path"])  # this engine's video is none
    write_video(MediaStore(path.parents[2]), MediaName.parse(video["uri"]), greys(3), 8, {}, 1)
    asked = {"image": video["uri"], "frame": "last"}
    taken = await studio.web.post("/api/inputs", params=asked, headers=own)
    assert (taken.status_code, taken.json()["notes"]) == (201, ["frame 2 (the last) of the video is used"])
    for wrong in (asked | {"frame": "9"}, asked | {"frame": "x"}, asked | {"image": "/etc/passwd"}):
        assert (await studio.web.post("/api/inputs", params=wrong, headers=own)).status_code == 400


async def test_shots_are_estimated_and_made_as_one(studio: Studio) -> None:
    asked = {"kind": "video", "prompt": "a star", "num_frames": 9, "shots": [{"prompt": "it spins"}]}
    found = EstimateAnswer.model_validate((await studio.send("/api/estimate", asked)).json())
    assert found.duration_s == 2.125
    made = await studio.until((await studio.submit(**asked))["id"], done)
    assert [file["frames"] for file in made["results"]] == [17]
    detail = JobDetail.model_validate(await studio.get(f"/api/jobs/{made['id']}"))
    assert detail.request["shots"] == asked["shots"]


async def test_an_estimate_says_what_a_job_would_be_and_queues_nothing(studio: Studio) -> None:
    before = await studio.get("/api/jobs")
    answer = await studio.send("/api/estimate", {"kind": "video", "prompt": "a star", "duration_s": 1})
    found = EstimateAnswer.model_validate(answer.json())
    assert (found.num_frames, found.fps, found.width) == (9, 8.0, 128)
    assert any("duration" in note for note in found.notes)
    assert found.fits
    assert found.download_bytes == 0
    assert await studio.get("/api/jobs") == before


async def test_a_large_download_is_refused_with_the_button_that_gets_the_model(
    settings: Settings, studio_site: StudioSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    add_far_model(settings.home, 34.2)
    request = {"kind": "image", "prompt": "a star", "model": "far"}
    async with studio_site(settings) as studio:
        found = EstimateAnswer.model_validate((await studio.send("/api/estimate", request)).json())
        assert (found.fits, found.fit, found.download_needs_consent) == (True, "resident", True)
        assert (found.download_bytes, found.download_folder) == (34_200_000_000, str(tmp_path / "cache"))
        refused = await studio.send("/api/jobs", request)
        assert refused.status_code == 409
        problem = refused.json()
        assert problem["code"] == "download_needs_consent"
        assert "download=true" not in problem["error"]
        assert problem["action"] == found.action.model_dump() if found.action else None
        assert (problem["action"]["do"], problem["action"]["model"]) == ("get_model", "far")
        assert (await studio.get("/api/jobs"))["jobs"] == []
        assert (await studio.send("/api/jobs", request | {"download": "yes"})).status_code == 400
        agreed = await studio.send("/api/jobs", request | {"download": True})
        assert agreed.status_code == 202


async def test_an_estimate_writes_nothing(settings: Settings, studio_site: StudioSite) -> None:
    picture = settings.image_dirs[0] / "picture.png"
    picture.write_bytes(png(64, 48))
    async with studio_site(settings) as studio:
        before = sorted(settings.home.rglob("*"))
        answer = await studio.send("/api/estimate", {"kind": "video", "prompt": "a star", "image": str(picture)})
        assert answer.status_code == 200, answer.text
        assert sorted(settings.home.rglob("*")) == before


async def test_the_same_key_makes_one_job(studio: Studio) -> None:
    body = {"kind": "image", "prompt": "a blue square"}
    first = await studio.send("/api/jobs", body, **{"Idempotency-Key": "twice"})
    again = await studio.send("/api/jobs", body, **{"Idempotency-Key": "twice"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert first.headers["location"] == f"/api/jobs/{first.json()['id']}"
    other = await studio.send("/api/jobs", {**body, "prompt": "another"}, **{"Idempotency-Key": "twice"})
    assert other.status_code == 400


async def test_jobs_are_found_by_words_kind_and_state_page_by_page(studio: Studio) -> None:
    made = [await studio.submit(prompt=f"a ring number {number}", kind="image") for number in range(3)]
    for job in made:
        await studio.until(job["id"], done)
    page = JobPage.model_validate(await studio.get("/api/jobs", q="ring number", kind="image", limit=2))
    assert [job.id for job in page.jobs] == [made[2]["id"], made[1]["id"]]
    rest = JobPage.model_validate(await studio.get("/api/jobs", q="ring number", before=page.before, limit=2))
    assert [job.id for job in rest.jobs] == [made[0]["id"]]
    assert rest.before is None
    assert (await studio.get("/api/jobs", q="ring number", state="failed"))["jobs"] == []


async def test_results_name_their_formats_their_copy_and_their_end(settings: Settings, studio_site: StudioSite) -> None:
    saved = settings.home.parent / "saved"
    saved.mkdir()
    kept = settings.model_copy(update={"output_dir": saved, "keep_days": 30})
    async with studio_site(kept) as studio:
        made = await studio.until((await studio.submit())["id"], done)
        [file] = made["results"]
        assert [each["name"] for each in file["formats"]] == ["MP4", "GIF", "WEBM", "WEBP"]
        assert file["formats"][1]["url"] == file["url"].replace(".mp4", ".gif")
        assert Path(file["saved_as"]).parent == saved
        assert made["expires_at"] == pytest.approx(made["finished_at"] + 30 * 86_400)
        elsewhere = await studio.web.get(f"/api/jobs/{made['id']}", headers={"Via": "1.1 proxy"})
        assert elsewhere.json()["results"][0]["saved_as"] is None
        assert str(saved) not in elsewhere.text


@pytest.mark.parametrize("body", [{}, {"before": 1}, {"after": None}, {"before": None, "kept": True}])
async def test_a_move_that_says_nothing_is_refused(studio: Studio, body: dict[str, Any]) -> None:
    answer = await studio.send("/api/jobs/nothing/move", body)
    assert answer.status_code == 400
    assert "before" in answer.json()["error"]


async def test_a_job_that_does_not_wait_is_not_moved(studio: Studio) -> None:
    made = await studio.until((await studio.submit())["id"], done)
    answer = await studio.send(f"/api/jobs/{made['id']}/move", {"before": None})
    assert answer.status_code == 400
    assert "only a waiting job can be moved" in answer.json()["error"]
    assert (await studio.send("/api/jobs/nothing/move", {"before": None})).status_code == 404


async def test_a_job_is_kept_and_deleted(studio: Studio) -> None:
    job = await studio.until((await studio.submit(kind="image"))["id"], done)
    address = f"/api/jobs/{job['id']}"
    kept = await studio.send(address, {"kept": True}, method="PATCH")
    assert kept.json()["kept"]
    refused = await studio.send(address, method="DELETE")
    assert refused.status_code == 400
    assert "kept" in refused.json()["error"]
    await studio.send(address, {"kept": False}, method="PATCH")
    assert (await studio.send(address, method="DELETE")).status_code == 204
    assert (await studio.web.get(address)).status_code == 404
    assert (await studio.web.get(job["results"][0]["url"])).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"kind": "song"}, 400, "video, image, caption"),
        ({"kind": ["video"], "prompt": "x"}, 400, "kind must be"),
        ({"kind": "video"}, 400, "Prompt: "),
        ({"kind": "video", "prompt": "x", "turb": True}, 400, "turbo"),
        ({"kind": "video", "prompt": "x", "num_frames": 6}, 400, "4k+1"),
        ({"kind": "video", "prompt": "x", "model": "no-such"}, 404, "no-such"),
        ({"kind": "video", "prompt": "x", "image": "0" * 64}, 400, "no longer here"),
        ({"kind": "video", "prompt": "x", "parent": 3}, 400, "parent"),
        (["kind"], 400, "object"),
    ],
)
async def test_what_is_wrong_with_a_job_is_said_in_a_sentence(
    studio: Studio, body: Any, status: int, words: str
) -> None:
    answer = await studio.send("/api/jobs", body)
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert words in problem["error"]
    assert problem["error"][0].isupper()


@pytest.mark.parametrize("path", ["/api/jobs", "/api/estimate", "/api/engines/free", "/api/models/wan-mini/get"])
async def test_a_change_without_the_pages_own_header_is_refused(studio: Studio, path: str) -> None:
    answer = await studio.web.post(path, json={"kind": "video", "prompt": "x"})
    assert answer.status_code == 403
    assert answer.json()["code"] == "no_own_header"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:1"},  # another server of this machine
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_page_can_neither_read_nor_change_anything(studio: Studio, headers: dict[str, str]) -> None:
    for path in ("/api/jobs", "/api/events", "/api/catalogue"):
        assert (await studio.web.get(path, headers=headers)).status_code == 403
    answer = await studio.send("/api/jobs", {"kind": "video", "prompt": "x"}, **headers)
    assert answer.status_code == 403


async def test_a_page_elsewhere_reads_no_path_of_this_machine_and_names_none(studio: Studio) -> None:
    job = await studio.until((await studio.submit(kind="image"))["id"], done)
    elsewhere = {"Via": "1.1 proxy"}
    answer = await studio.web.get(f"/api/jobs/{job['id']}", headers=elsewhere)
    assert "/home" not in answer.text and "/tmp" not in answer.text
    assert answer.json()["results"][0]["path"] is None
    assert answer.json()["results"][0]["url"] == job["results"][0]["url"]
    refused = await studio.send("/api/jobs", {"kind": "video", "prompt": "x", "image": "/etc/hostname"}, **elsewhere)
    assert refused.status_code == 400
    assert "not on the server's machine" in refused.json()["error"]
    sent = await studio.web.post("/api/inputs", content=png(8, 8), headers=elsewhere | {"X-Wan-Mcp": "page"})
    taken = await studio.send("/api/jobs", {"kind": "video", "prompt": "x", "image": sent.json()["id"]}, **elsewhere)
    assert taken.status_code == 202


async def test_a_picture_that_is_too_large_or_none_is_refused(studio: Studio) -> None:
    large = b"\x89PNG" + bytes(21_000_000)
    own = {"X-Wan-Mcp": "page"}
    refused = await studio.web.post("/api/inputs", content=large, headers=own)
    assert (refused.status_code, refused.json()["error"]) == (413, "The picture is too large; the limit is 20.0 MB.")
    for content in (b"", b"<svg/>", b"\x89PNG\r\n\x1a\n"):
        answer = await studio.web.post("/api/inputs", content=content, headers=own)
        assert answer.status_code == 400, answer.text
        assert answer.json()["code"] == "bad_image"
    form = await studio.web.post(
        "/api/inputs", content=b"--x\r\nnonsense", headers=own | {"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert form.status_code == 400, form.text
    no_boundary = await studio.web.post(
        "/api/inputs", content=b"--x\r\nnonsense", headers=own | {"Content-Type": "multipart/form-data"}
    )
    assert no_boundary.status_code == 400, no_boundary.text


def test_a_server_loads_what_the_page_needs_only_when_it_is_opened() -> None:
    heavy = "[name for name in ('jinja2', 'PIL', 'torch', 'numpy') if name in sys.modules]"
    seen = f"import sys, wan_mcp.fronts.http.app; print({heavy})"
    found = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
