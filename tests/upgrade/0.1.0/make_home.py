"""Makes the home beside this file with the code of 0.1.0; README.md says how to run it.

It uses the commands that a user of 0.1.0 had, on a CPU, and ends as an accident does: the engine is killed in the
middle of a job while others wait. What it writes are the files of that home and of the hub's cache, with the folder
of the user as a placeholder, and the job table as SQL.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import diffusers
import torch
import transformers
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from mcp import Client, StdioServerParameters
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from tests.support.loopback import loopback_hub
from wan_mcp.settings import Settings

USER = Path("/home/user")
"""The folder that this user would have: no file of a real one may be below it."""
PLACEHOLDER = "@USER@"
HOME = USER / "wan"
CACHE = USER / "hub"
PICTURE = USER / "Pictures" / "start.png"
WAN = [sys.executable, "-m", "wan_mcp"]
TEXTS = (".json", ".toml", ".sql", ".log")

MANIFEST = """\
# A model of one's own, as 0.1.0 wanted it: the tables and keys that are gone or renamed since are all here.
schema = 1
name = "tiny-wan"
title = "Tiny Wan"
summary = "Random weights, to try a manifest."
tasks = ["text-to-video", "image-to-video", "text-to-image", "image-to-image"]

[licence]
id = "Apache-2.0"

[weights]
repository = "acme/tiny-wan"
files = [
  "model_index.json", "scheduler/*", "text_encoder/*", "tokenizer/*", "transformer/*", "vae/*",
]
disk_bytes = 200_000

[pipeline]
family = "wan"
text_tokens = 16
experts = [{ name = "only", subfolder = "transformer", sigma_max = 1.0, sigma_min = 0.0 }]

[quantisation]
recipe = "fp8-rowwise"
exclude = ["patch_embedding"]

[aot]
block_class = "WanTransformerBlock"

[frames]
multiple = 4
minimum = 1
maximum = 17
default = 5
fps = 8

[sizes]
multiple = 32
default = "square"
named = [{ name = "square", width = 64, height = 64 }, { name = "small", width = 32, height = 32 }]

[limits]
steps = [1, 1000]
loras = 2
"""
VARIABLES = {
    f"WAN_MCP_{name}": value
    for name, value in {
        "HOME": str(HOME),
        "DEVICE": "cuda:1",
        "PRECISION": "full",
        "ATTENTION": "cudnn",
        "COMPILE": "false",
        "THREADS": "3",
        "VIDEO_MODEL": "wan2.2-ti2v-5b",
        "IMAGE_MODEL": "z-image-turbo",
        "CAPTION_MODEL": "blip-large",
        "AUTO_DOWNLOAD": "no",
        "WAIT_S": "7.5",
        "MAX_WAIT_S": "90",
        "ENGINE_IDLE_S": "12",
        "STEP_DEADLINE_S": "33",
        "LOAD_DEADLINE_S": "44",
        "QUEUE_LIMIT": "5",
        "MAX_COUNT": "2",
        "MIN_FREE_MB": "77",
        "IMAGE_DIRS": f"{USER}/Pictures:{USER}/scans",
        "LORA_DIRS": f"{USER}/adapters",
        "IMAGE_MAX_MB": "3",
        "IMAGE_MAX_MEGAPIXELS": "9",
        "RESOURCE_MAX_KB": "64",
        "HTTP_TOKEN": "a word",
        "HTTP_HOSTS": "studio.example,other.example",
        "ENGINE_COMMAND": "nice -n 10 wan-mcp engine",
        "LOG_LEVEL": "WARNING",
    }.items()
}
"""Every setting of 0.1.0, with another value than its default."""
STYLES = 'chalk = "{prompt}, drawn with chalk"\n'


def save_tiny(folder: Path) -> None:
    """Write a Wan2.2 TI2V of random weights, as small as the classes allow."""
    torch.manual_seed(0)
    words = ["a", "red", "blue", "circle", "square"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -3.0) for word in words), ("▁", -12.0)]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=16)
    text_encoder = UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_decoder_layers=1, num_heads=2,
            feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1, tie_word_embeddings=False,
        )
    )  # fmt: skip
    vae = AutoencoderKLWan(
        base_dim=2, decoder_base_dim=2, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        temperal_downsample=[False, True, True], is_residual=True, in_channels=12, out_channels=12, patch_size=2,
        scale_factor_temporal=4, scale_factor_spatial=16, latents_mean=[0.1] * 4, latents_std=[0.7] * 4,
    )  # fmt: skip
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=1, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=16,
        freq_dim=16, ffn_dim=32, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
        rope_max_seq_len=64,
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
    )
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder.bfloat16(),
        vae=vae.bfloat16(),
        scheduler=scheduler,
        transformer=transformer.bfloat16(),
        expand_timesteps=True,
    ).save_pretrained(folder)


def save_lora(file: Path) -> None:
    """Write a LoRA for the tiny model, as trainers for diffusers do."""
    random = torch.Generator().manual_seed(1)
    tensors = {}
    for block in range(2):
        for layer in ("to_q", "to_v"):
            name = f"transformer.blocks.{block}.attn1.{layer}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(1, 16, generator=random)
            tensors[f"{name}.lora_B.weight"] = torch.randn(16, 1, generator=random)
    file.parent.mkdir(parents=True)
    save_file(tensors, file)


def save_picture() -> None:
    """Draw what the user has in the folder of pictures."""
    picture = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(picture).ellipse((40, 40, 88, 88), fill="green")
    PICTURE.parent.mkdir(parents=True)
    picture.save(PICTURE)


def environment(**settings: str) -> dict[str, str]:
    """The environment of the user's commands."""
    own = {
        "HOME": str(USER),
        "HF_HUB_CACHE": str(CACHE),
        "WAN_MCP_HOME": str(HOME),
        "WAN_MCP_THREADS": "1",
        "WAN_MCP_COMPILE": "false",
        "WAN_MCP_MIN_FREE_MB": "1",
    }
    return {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **own, **settings}


def wan(*arguments: str, fails: bool = False, **settings: str) -> str:
    """Run a command of 0.1.0; what it prints."""
    sys.stderr.write(f"wan-mcp {' '.join(arguments)}\n")
    ran = subprocess.run([*WAN, *arguments], env=environment(**settings), capture_output=True, text=True, check=False)
    assert bool(ran.returncode) == fails, ran.stderr + (HOME / "logs" / "engine.log").read_text()
    return ran.stdout


def rows(query: str) -> list[Any]:
    """What the job table has."""
    with closing(sqlite3.connect(f"file:{HOME / 'jobs.db'}?mode=ro", uri=True)) as table:
        return table.execute(query).fetchall()


def newest() -> str:
    """The id of the job that was asked for last."""
    return str(rows("SELECT id FROM jobs ORDER BY seq DESC LIMIT 1")[0][0])


def wait_for(query: str) -> None:
    """Wait until a query finds something."""
    end = time.monotonic() + 300
    while not rows(query):
        assert time.monotonic() < end, query
        time.sleep(0.05)


def engine() -> int:
    """The process of the newest engine."""
    [(pid,)] = rows("SELECT pid FROM engines ORDER BY seq DESC LIMIT 1")
    return int(pid)


@contextmanager
def ended(number: int) -> Iterator[None]:
    """End the engine after the block, with this signal."""
    try:
        yield
    finally:
        os.kill(pid := engine(), number)
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.05)


async def submit(arguments: dict[str, Any], **settings: str) -> None:
    """Ask for a video as an MCP client does, and go."""
    server = StdioServerParameters(command=WAN[0], args=[*WAN[1:], "stdio"], env=environment(**settings))
    async with Client(server) as client:
        result = await client.call_tool("generate_video", {**arguments, "wait_s": 0})
        assert not result.is_error, result


def live(endpoint: str) -> None:
    """Do what a user does in some days."""
    wan("models")  # makes nothing yet
    (HOME / "manifests").mkdir(parents=True)
    (HOME / "manifests" / "tiny-wan.toml").write_text(MANIFEST)
    (HOME / "manifests" / "styles.toml").write_text(STYLES)
    save_lora(HOME / "loras" / "mine.safetensors")
    save_picture()
    offline = {"WAN_MCP_AUTO_DOWNLOAD": "false"}
    small = ("--steps", "4", "--seed", "7")
    with ended(signal.SIGTERM):
        ring_asked = ("generate", "image", "a green ring on a white background", "--style", "chalk", "--count", "2")
        wan(*ring_asked, *small, **offline)
        ring = f"wan://images/{newest()}-0.png"
        wan("generate", "video", "a green circle grows", "--image", str(PICTURE), "--frames", "5", *small)
        wan("caption", str(PICTURE))
        wan("caption", ring, "--model", "florence-2-base", fails=True, **offline)
        wan("generate", "video", "a red circle moves right", "--frames", "33", "--steps", "50", "--detach")
        wait_for("SELECT 1 FROM jobs WHERE state = 'running' AND json_extract(progress, '$.stage') = 'denoising'")
        wan("jobs", "cancel", newest())
        wait_for("SELECT 1 FROM jobs WHERE state = 'cancelled'")
    wan("pull", "tiny-wan", HF_ENDPOINT=endpoint)
    fp8 = {"WAN_MCP_PRECISION": "fp8", "WAN_MCP_STEP_DEADLINE_S": "3600", **offline}
    tiny = ("--model", "tiny-wan", "--resolution", "small")
    with ended(signal.SIGKILL):
        wan("generate", "image", "a blue square", *tiny, "--seed", "3", **fp8)
        wan("generate", "image", "a blue square", *tiny, "--steps", "8", "--lora", "mine:0.5", "--seed", "4", **fp8)
        wan("generate", "video", "a blue circle", *tiny, "--frames", "17", "--steps", "300", "--detach", **fp8)
        wait_for("SELECT 1 FROM jobs WHERE state = 'running' AND json_extract(progress, '$.step') > 3")
        os.kill(engine(), signal.SIGSTOP)  # it is still at that job when the others are there
        video = {"prompt": "a red square", "model": "tiny-wan", "resolution": "small", "steps": 6, "seed": 5}
        anyio.run(lambda: submit({**video, "request_id": "evening-1"}, **fp8))
        wan("generate", "image", "a blue circle", *tiny, "--steps", "6", "--seed", "6", "--detach", **fp8)
        wan("caption", ring, "--detach", **fp8)


def facts() -> dict[str, Any]:
    """What the files do not say of themselves: names and meanings of 0.1.0, and what its embeddings depend on."""
    os.environ |= VARIABLES
    settings = Settings()
    assert settings.environment().keys() == VARIABLES.keys()
    assert all(
        value != field.default
        for field, value in zip(Settings.model_fields.values(), dict(settings).values(), strict=True)
    )
    versions = [str(torch.__version__), transformers.__version__, diffusers.__version__]
    return {
        "variables": VARIABLES,
        "settings": settings.model_dump(mode="json"),
        "device": f"cpu {torch.backends.cpu.get_cpu_capability()}",
        "versions": versions,
    }


def keep(folder: Path) -> None:
    """Write the home and the hub's cache below a folder."""
    for name in ("home", "hub"):
        shutil.rmtree(folder / name, ignore_errors=True)
    tables = ("jobs.db", "jobs.db-wal", "jobs.db-shm")
    shutil.copytree(HOME, folder / "home", ignore=shutil.ignore_patterns(*tables))
    shutil.copytree(CACHE, folder / "hub", symlinks=True, ignore=shutil.ignore_patterns(".locks"))
    with closing(sqlite3.connect(HOME / "jobs.db")) as table:
        [version] = table.execute("PRAGMA user_version").fetchone()
        lines = [*table.iterdump(), f"PRAGMA user_version = {version};", ""]
    (folder / "home" / "jobs.sql").write_text("\n".join(lines))
    (folder / "facts.json").write_text(json.dumps(facts(), indent=1) + "\n")
    for file in folder.rglob("*"):
        if file.suffix in TEXTS and not file.is_symlink():
            file.write_text(file.read_text().replace(str(USER), PLACEHOLDER))


def main() -> None:
    assert not USER.exists(), f"{USER} is somebody's"
    with tempfile.TemporaryDirectory() as folder, loopback_hub() as hub:
        save_tiny(Path(folder))
        hub.add("acme/tiny-wan", Path(folder))
        try:
            live(hub.endpoint)
            keep(Path(__file__).parent)
        finally:
            shutil.rmtree(USER, ignore_errors=True)


if __name__ == "__main__":
    main()
