"""An upgrade in place: today's fronts and engine on a home that 0.1.0 left in the middle of its work."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import diffusers
import pytest
import torch
import transformers
from mcp import Client, StdioServerParameters
from mcp.types import BlobResourceContents
from PIL import Image

from tests.conftest import ending_engines
from tests.upgrade.old_home import Json, OldHome, restore
from wan_mcp.engine.aot.compiler_check import compiler_fingerprint
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.media.receipts import read_receipt
from wan_mcp.settings import ENV_PREFIX, Settings, mistyped_variables

pytestmark = pytest.mark.timeout(400)

VERSION = Path(__file__).parent / "0.1.0"
MAX_COMMAND_S = 120
WAIT_S = 200
FINAL = ("succeeded", "failed", "cancelled")
ENCODED_BY_THE_OLD_ENGINE = ("a blue circle", "")
ENCODED_NOW = ("a red square",)
REQUEST = {"prompt": "a red square", "model": "tiny-wan", "resolution": "small", "steps": 6, "seed": 5}
"""What the user of 0.1.0 asked for as `evening-1`."""


@dataclass
class Upgrade:
    """A home of 0.1.0, and what today's fronts said of it."""

    old: OldHome
    environment: dict[str, str]
    before: dict[str, bytes]
    inodes: dict[str, int]
    """Of the files before: a file that was written again has another."""
    rows: dict[str, Json] = field(default_factory=dict)
    """The jobs as 0.1.0 left them, by id."""
    jobs: dict[str, Json] = field(default_factory=dict)
    """The same jobs at the end, as `get_job` describes them."""
    listed: list[str] = field(default_factory=list)
    """The ids that `list_jobs` lists."""
    models: Json = field(default_factory=dict)
    repeated: Json = field(default_factory=dict)
    """The answer to a repeated `request_id`."""
    caption: Json = field(default_factory=dict)
    with_lora: Json = field(default_factory=dict)
    resources: dict[str, bytes] = field(default_factory=dict)

    def run(self, *arguments: str) -> str:
        """Run a command of today in the user's environment; return what it prints."""
        ran = subprocess.run(
            [sys.executable, "-m", "wan_mcp", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MAX_COMMAND_S,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def of(self, status: str) -> list[Json]:
        """Return the jobs that 0.1.0 left in a state, as they are at the end."""
        return [self.jobs[job_id] for job_id, row in self.rows.items() if row["state"] == status]


def facts_of_today(*, as_0_1_0: bool = False) -> Json:
    """Return what the bits of embeddings depend on for an engine with one thread, or what 0.1.0 took for that."""
    threads = torch.get_num_threads()
    device = resolve_device("cpu", 1).description
    torch.set_num_threads(threads)
    if as_0_1_0:
        device = f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return {"device": device, "versions": [str(torch.__version__), transformers.__version__, diffusers.__version__]}


def encoded_here(old: OldHome) -> None:
    """Have the embeddings be those of this machine, as if 0.1.0 had run on it: their names depend on it."""
    folder = old.home / "embeddings"
    for text in ENCODED_BY_THE_OLD_ENGINE:
        there, here = (folder / old.embedding(text, facts) for facts in (old.facts, facts_of_today(as_0_1_0=True)))
        if there != here:
            shutil.move(there, here)


def rows_of(old: OldHome) -> dict[str, Json]:
    with closing(sqlite3.connect(old.home / "jobs.db")) as table:
        table.row_factory = sqlite3.Row
        return {row["id"]: dict(row) for row in table.execute("SELECT * FROM jobs ORDER BY seq")}


async def visit(seen: Upgrade) -> None:
    """Go through what a client can ask of the home, in one session with a new server."""
    server = StdioServerParameters(command=sys.executable, args=["-m", "wan_mcp", "stdio"], env=seen.environment)
    async with Client(server) as client:

        async def call(tool: str, **arguments: object) -> Json:
            result = await client.call_tool(tool, arguments)
            # A refusal has only words; each test says what it misses.
            return result.structured_content or {"refused": result.content}

        seen.models = await call("list_resolutions")
        seen.repeated = await call("generate_video", **REQUEST, request_id="evening-1", wait_s=0)
        for job_id in seen.rows:
            seen.jobs[job_id] = await call("get_job", job_id=job_id, wait_s=WAIT_S)
        seen.listed = [job["job_id"] for job in (await call("list_jobs", limit=100))["jobs"]]
        for artifact in (artifact for job in seen.of("succeeded") for artifact in job["artifacts"]):
            [content] = (await client.read_resource(artifact["uri"])).contents
            assert isinstance(content, BlobResourceContents)
            seen.resources[artifact["uri"]] = content.blob.encode()
        image = next(uri for uri in seen.resources if "/images/" in uri)
        seen.caption = await call("caption_image", image=image, wait_s=WAIT_S)
        drawn = {"prompt": "a blue square", "model": "tiny-wan", "resolution": "small", "lora": [{"name": "mine"}]}
        seen.with_lora = await call("generate_image", **drawn, style="chalk", steps=2, wait_s=WAIT_S)


@pytest.fixture(scope="module")
def upgrade(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrade]:
    """The home after a session of today's server, in which all its unfinished jobs came to their end."""
    old = restore(VERSION, tmp_path_factory.mktemp("user"))
    encoded_here(old)
    usual = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    own = {
        "HOME": str(old.user),
        "HF_HUB_CACHE": str(old.user / "hub"),
        "HF_ENDPOINT": "http://127.0.0.1:9",  # nobody: what is here needs no hub
        "WAN_MCP_HOME": str(old.home),
        "WAN_MCP_DEVICE": "cpu",
        "WAN_MCP_PRECISION": "fp8",
        "WAN_MCP_THREADS": "1",
        "WAN_MCP_COMPILE": "false",
        "WAN_MCP_MIN_FREE_MB": "1",
        "COLUMNS": "160",
        "NO_COLOR": "1",
    }
    files = old.files()
    seen = Upgrade(
        old,
        usual | own,
        before={name: file.read_bytes() for name, file in files.items()},
        inodes={name: file.stat().st_ino for name, file in files.items()},
        rows=rows_of(old),
    )
    with ending_engines(old.home):
        anyio.run(visit, seen)
        yield seen


def test_the_home_has_a_job_in_every_state() -> None:
    """Else the tests below say little."""
    script = (VERSION / "home" / "jobs.sql").read_text(encoding="utf-8")
    for state in ("queued", "running", *FINAL):
        assert f"'{state}','{{" in script


def test_every_job_is_listed_and_finished_ones_are_as_they_were(upgrade: Upgrade) -> None:
    assert sorted(upgrade.rows) == sorted(set(upgrade.listed) & set(upgrade.rows))
    for state in FINAL:
        assert upgrade.of(state)
        assert {job["status"] for job in upgrade.of(state)} == {state}
    for job_id, row in upgrade.rows.items():
        job = upgrade.jobs[job_id]
        assert job["request"]["model"] == json.loads(row["plan"])["model"]
        if row["state"] in FINAL:
            assert job["caption"] == row["caption"]
            assert (job["error"] or {}).get("code") == json.loads(row["error"] or "{}").get("code")
            assert [a["uri"] for a in job["artifacts"]] == [a["uri"] for a in json.loads(row["artifacts"])]


def test_every_artifact_is_where_its_job_says_with_its_receipt(upgrade: Upgrade) -> None:
    artifacts = [artifact for job in upgrade.of("succeeded") for artifact in job["artifacts"]]
    assert {Path(artifact["path"]).suffix for artifact in artifacts} == {".mp4", ".png"}
    for artifact in artifacts:
        file = Path(artifact["path"])
        assert file.stat().st_size == artifact["bytes"]
        receipt = read_receipt(file)
        assert receipt is not None
        assert receipt["request"]["seed"] == artifact["seed"]
        assert upgrade.resources[artifact["uri"]]


def test_queued_jobs_run_and_succeed(upgrade: Upgrade) -> None:
    queued = upgrade.of("queued")
    assert {job["kind"] for job in queued} == {"video", "image", "caption"}
    assert {job["status"] for job in queued} == {"succeeded"}
    for artifact in (artifact for job in queued for artifact in job["artifacts"]):
        assert Path(artifact["path"]).stat().st_size == artifact["bytes"]


def test_a_job_that_a_dead_engine_left_running_is_run_again(upgrade: Upgrade) -> None:
    [job] = upgrade.of("running")
    row = rows_of(upgrade.old)[job["job_id"]]
    assert (job["status"], row["attempt"], row["deaths"]) == ("succeeded", 2, 1)
    assert upgrade.rows[job["job_id"]]["attempt"] == 1


def test_a_repeated_request_id_attaches_to_the_job_that_the_old_version_queued(upgrade: Upgrade) -> None:
    [row] = [row for row in upgrade.rows.values() if row["request_id"] == "evening-1"]
    assert upgrade.repeated.get("job_id") == row["id"], upgrade.repeated


def test_old_measurements_are_the_usual_times_of_models(upgrade: Upgrade) -> None:
    usual = {model["name"]: model["usual_seconds"] for model in upgrade.models["models"]}
    assert usual["tiny-wan"]["text-to-image"] > 0
    assert usual["wan-mini"]["text-to-image"] > 0
    assert usual["wan-mini"]["image-to-video"] > 0
    assert usual["wan-mini-caption"]["image-to-text"] > 0


def test_own_models_and_styles_are_there_and_pulled_weights_are_ready(upgrade: Upgrade) -> None:
    [tiny] = [model for model in upgrade.models["models"] if model["name"] == "tiny-wan"]
    assert tiny["ready"]
    assert upgrade.models["styles"]["chalk"] == "{prompt}, drawn with chalk"
    assert not upgrade.models["broken"]


def test_an_old_result_and_an_own_lora_can_be_used(upgrade: Upgrade) -> None:
    assert (upgrade.caption["status"], bool(upgrade.caption["caption"])) == ("succeeded", True)
    assert upgrade.with_lora["status"] == "succeeded"
    assert "made the prompt: a blue square, drawn with chalk" in upgrade.with_lora["message"]
    assert upgrade.with_lora["request"]["lora"] == [{"name": "mine", "scale": 1.0}]


def test_converted_weights_are_found_and_none_are_made(upgrade: Upgrade) -> None:
    [video] = [job for job in upgrade.of("queued") if job["kind"] == "video"]
    receipt = read_receipt(Path(video["artifacts"][0]["path"]))
    assert receipt is not None
    assert receipt["precision"] == "fp8-rowwise"
    assert only_below("converted", upgrade.inodes) == only_below("converted", inodes_now(upgrade))


def test_the_names_of_embeddings_are_known(upgrade: Upgrade) -> None:
    """What the next test goes by: the formula gives names of 0.1.0."""
    kept = {file.name for file in (VERSION / "home" / "embeddings").iterdir()}
    facts = json.loads((VERSION / "facts.json").read_text(encoding="utf-8"))
    assert {upgrade.old.embedding(text, facts) for text in ENCODED_BY_THE_OLD_ENGINE} <= kept
    assert not {upgrade.old.embedding(text, facts) for text in ENCODED_NOW} & kept


def test_only_on_a_cpu_a_text_is_encoded_again_and_under_a_name_of_the_same_formula(upgrade: Upgrade) -> None:
    """0.1.0 did not note its threads and let MKL look at alignment: its bits on a CPU are not those of an engine now.

    The name of a GPU is what it was, so there the formula finds what 0.1.0 encoded.
    """
    before, now = only_below("embeddings", upgrade.inodes), only_below("embeddings", inodes_now(upgrade))
    assert {name: inode for name, inode in now.items() if name in before} == before
    texts = (*ENCODED_BY_THE_OLD_ENGINE, *ENCODED_NOW, "a blue square, drawn with chalk")
    encoded = {f"embeddings/{upgrade.old.embedding(text, facts_of_today())}" for text in texts}
    assert set(now) - set(before) == encoded


def test_no_file_is_lost_renamed_or_changed(upgrade: Upgrade) -> None:
    now = upgrade.old.files()
    assert not set(upgrade.before) - set(now)
    for name, content in upgrade.before.items():
        kept = now[name].read_bytes()
        assert kept.startswith(content) if name == "logs/engine.log" else kept == content, name


def test_the_command_line_lists_and_shows_every_job(upgrade: Upgrade) -> None:
    table = upgrade.run("jobs")
    assert all(job_id in table for job_id in upgrade.rows)
    listed = {job["id"]: job for job in json.loads(upgrade.run("jobs", "list", "--json"))}
    assert listed.keys() >= upgrade.rows.keys()
    [cancelled] = upgrade.of("cancelled")
    shown = json.loads(upgrade.run("jobs", "show", cancelled["job_id"]))
    assert (shown["state"], shown["plan"]) == ("cancelled", listed[cancelled["job_id"]]["plan"])


def test_the_command_line_lists_own_models(upgrade: Upgrade) -> None:
    assert "tiny-wan" in upgrade.run("models")


def test_the_doctor_finds_nothing_bad_and_names_the_keys_that_do_nothing(upgrade: Upgrade) -> None:
    proved = upgrade.old.home / "packages" / "compiler.json"  # tests/packages really proves it, which takes long
    proved.parent.mkdir(exist_ok=True)
    proved.write_text(json.dumps(compiler_fingerprint("g++")), encoding="utf-8")
    said = upgrade.run("doctor")
    assert not [line for line in said.splitlines() if line.startswith("BAD")]
    for key in ("pipeline.experts.sigma_max", "pipeline.experts.sigma_min", "aot.block_class"):
        assert f"'{key}'" in said


def test_every_environment_variable_still_means_what_it_meant(
    upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = upgrade.old.facts
    for name, value in facts["variables"].items():
        monkeypatch.setenv(name, value)
    assert mistyped_variables() == []
    now = Settings().model_dump(mode="json")
    assert {name: now.get(name) for name in facts["settings"]} == facts["settings"]


def test_old_frames_can_be_looked_at(upgrade: Upgrade) -> None:
    for artifact in (artifact for job in upgrade.of("succeeded") for artifact in job["artifacts"]):
        small = Path(artifact["path"])
        small = small if small.suffix == ".png" else small.with_suffix(".poster.jpg")
        with Image.open(small) as picture:
            picture.load()
            assert picture.size == (artifact["width"], artifact["height"])


def only_below(folder: str, inodes: dict[str, int]) -> dict[str, int]:
    return {name: inode for name, inode in inodes.items() if name.startswith(f"{folder}/")}


def inodes_now(upgrade: Upgrade) -> dict[str, int]:
    return {name: file.stat().st_ino for name, file in upgrade.old.files().items()}
