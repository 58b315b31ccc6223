"""Models of their real size, with random weights, through the ordinary path on a GPU.

    python -m benchmarks.real_size              # Wan2.2 TI2V-5B, 1280x704, 121 frames
    python -m benchmarks.real_size --tiny       # the same script in seconds, on any CPU

No hub is asked: the weights are made on the device, written to disk in the layout of the model's
repository, and locked as if they had been downloaded. From there on everything is as a user has
it: manifest, job table, an engine process of its own, mp4. Pictures of random weights show nothing;
times and memory are those of the real ones.
"""

import argparse
import gc
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import torch

from benchmarks.machine import keep
from wan_mcp.engine.weights import EMBEDDED
from wan_mcp.jobs.service import JobView, serving
from wan_mcp.manifests import Catalogue, Manifest, shipped_folder
from wan_mcp.settings import Settings
from wan_mcp.specs import JobState, VideoRequest
from wan_mcp.weights.lock import LockedFile, WeightsLock

MODEL = "wan2.2-ti2v-5b"
COMMIT = "0" * 40

# The published configurations: 5.0 B denoiser, Wan2.2 VAE, UMT5-XXL encoder.
TRANSFORMER: dict[str, Any] = {
    "num_layers": 30,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "ffn_dim": 14336,
    "in_channels": 48,
    "out_channels": 48,
    "text_dim": 4096,
    "freq_dim": 256,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
}
VAE: dict[str, Any] = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
    "is_residual": True,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "scale_factor_temporal": 4,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}
TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_decoder_layers": 1,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
TINY = {
    "transformer": {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 32, "ffn_dim": 64, "text_dim": 32},
    "vae": {"base_dim": 8, "decoder_base_dim": 8, "num_res_blocks": 1},
    "text_encoder": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2},
}


def write_weights(folder: Path, *, tiny: bool) -> None:
    """Make the pipeline with random bf16 weights and write it part by part, so that one part is in memory."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

    small: dict[str, dict[str, Any]] = TINY if tiny else {"transformer": {}, "vae": {}, "text_encoder": {}}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)

    def save(name: str, make: Any) -> None:
        with torch.device(device):
            torch.set_default_dtype(torch.bfloat16)
            part = make()
            torch.set_default_dtype(torch.float32)
        part.save_pretrained(folder / name, safe_serialization=True)
        del part
        gc.collect()

    save("transformer", lambda: WanTransformer3DModel(**(TRANSFORMER | small["transformer"])))
    save("vae", lambda: AutoencoderKLWan(**(VAE | small["vae"])))
    save("text_encoder", lambda: UMT5EncoderModel(UMT5Config(**(TEXT_ENCODER | small["text_encoder"]))))
    if device == "cuda":
        torch.cuda.empty_cache()
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "wan-mini" / "tokenizer", local_files_only=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)
    scheduler.save_pretrained(folder / "scheduler")
    parts = {
        "_class_name": WanPipeline.__name__,
        "expand_timesteps": True,
        "boundary_ratio": None,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", type(tokenizer).__name__],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": [None, None],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (folder / "model_index.json").write_text(json.dumps(parts), encoding="utf-8")


def lock_weights(manifest: Manifest, folder: Path, home: Path) -> int:
    """Lock the files as a download would have; gives their bytes."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]

    def locked(file: Path) -> LockedFile:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        facts = file.stat()
        return LockedFile(size=facts.st_size, sha256=digest, etag=digest, mtime_ns=facts.st_mtime_ns)

    with ThreadPoolExecutor() as threads:
        entries = dict(zip((f.relative_to(folder).as_posix() for f in files), threads.map(locked, files), strict=True))
    lock = WeightsLock(
        model=manifest.name,
        repository=manifest.weights.repository or "",
        revision=manifest.weights.revision,
        patterns=manifest.weights.files,
        commit=COMMIT,
        folder=folder,
        files=entries,
    )
    lock.write(manifest, home)
    return sum(entry.size for entry in entries.values())


async def run(settings: Settings, request: VideoRequest) -> tuple[JobView, dict[str, float]]:
    """Run a job; gives it and the seconds until each stage was first seen."""
    seen: dict[str, float] = {}
    began = time.perf_counter()

    async def look(view: JobView) -> None:
        if view.job.progress is not None:
            seen.setdefault(view.job.progress.stage, round(time.perf_counter() - began, 2))

    async with serving(settings) as service:
        view = await service.submit(request)
        view = await service.wait(view.job.id, 560, look)
    seen["done"] = round(time.perf_counter() - began, 2)
    return view, seen


def measure(steps: list[int], *, tiny: bool) -> list[dict[str, Any]]:
    """All rows: the first job of a fresh engine, then warm ones."""
    manifest = Catalogue(shipped_folder()).get(MODEL)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as root:
        home, folder = Path(root) / "home", Path(root) / "snapshot"
        began = time.perf_counter()
        write_weights(folder, tiny=tiny)
        written = time.perf_counter() - began
        size = lock_weights(manifest, folder, home)
        rows.append({"row": "weights on disk", "gb": round(size / 1e9, 2), "write_s": round(written, 1)})
        settings = Settings(home=home, engine_idle_s=20, min_free_mb=1)
        shape: dict[str, Any] = {"resolution": "480p-landscape", "num_frames": 5} if tiny else {}
        for count in steps:
            request = VideoRequest(prompt="a red circle moving left", model=MODEL, steps=count, seed=1, **shape)
            view, seen = anyio.run(run, settings, request)
            plan = view.job.plan
            row = {"row": MODEL, "steps": count, "state": view.job.state, "first_seen_s": seen}
            row["shape"] = f"{plan.width}x{plan.height}x{plan.num_frames}"  # type: ignore[union-attr]
            if view.job.state is not JobState.SUCCEEDED:
                row["error"] = view.job.error and view.job.error.message
                row["log"] = settings.log_file.read_text(encoding="utf-8", errors="replace")[-2000:]
            if torch.cuda.is_available():
                free, total = torch.cuda.mem_get_info()
                row["gpu_memory_used_gb"] = round((total - free) / 1e9, 1)
            rows.append(row)
            print(row, flush=True)  # noqa: T201
            keep("real_size", rows)
    return rows


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 4, 50])
    arguments = parser.parse_args()
    rows = measure(arguments.steps, tiny=arguments.tiny)
    print(keep("real_size", rows))  # noqa: T201


if __name__ == "__main__":
    main()
