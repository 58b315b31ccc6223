"""What ranks do in tests: each function gets this rank's group first, and returns what can travel through a pipe.

Functions import what they need: a rank that only exchanges numbers starts in a fraction of the time.
"""

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from wan_mcp.engine.parallel import rank_group
from wan_mcp.engine.parallel.context_parallel import ContextParallel, context_parallel, current_context
from wan_mcp.engine.parallel.job_ranks import JobRanks
from wan_mcp.engine.parallel.rank_group import LOST_WITHIN_S, RankGroup

__all__ = [
    "ask_in_vain",
    "decode_together",
    "die",
    "exchange",
    "forward",
    "guided_step",
    "job",
    "joined_attention",
    "leave_before_the_last_frames",
    "put_out_of_step",
    "send_from_first",
    "together",
]

CPU = torch.device("cpu")
GRID = (3, 5, 7)
LOADED: dict[Any, Any] = {}


def _denoiser(embedded: Path, name: str, *, fp8: bool) -> Any:
    """Load a tiny denoiser once for each process."""
    from tests.fixtures.bench import MANIFESTS
    from tests.support.denoisers import in_fp8
    from tests.support.loading import context_of
    from wan_mcp.engine.families.wan.loader import load_wan

    if (name, fp8) not in LOADED:
        manifest = in_fp8(name) if fp8 else MANIFESTS[name]
        LOADED[name, fp8] = load_wan(context_of(manifest, embedded / name, "fp8" if fp8 else "auto"))
    return LOADED[name, fp8].denoisers[0]


def forward(group: RankGroup, embedded: Path, name: str, *, size: tuple[int, int], turbo: bool = False) -> Any:
    """Run a pass of a denoiser with blocks in FP8, shared by all ranks."""
    from tests.support.denoisers import a_pass
    from wan_mcp.engine.attention import Turbo, attention_mode

    denoiser = _denoiser(embedded, name, fp8=True)
    mode = attention_mode(Turbo(density=0.5, dense_steps=0) if turbo else None, grid=(2, size[0] // 2, size[1] // 2))
    with mode, context_parallel(group):
        return a_pass(denoiser, name, size=size).numpy()


def guided_step(group: RankGroup, embedded: Path, *, fp8: bool) -> Any:
    """Run both passes of a step, as a pipeline calls them."""
    from tests.fixtures.bench import TWO
    from tests.support.denoisers import a_pass

    denoiser = _denoiser(embedded, TWO, fp8=fp8)
    texts = [torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    passes = 0
    plain = type(denoiser).forward

    def counted(self: Any, *given: Any, **named: Any) -> Any:
        nonlocal passes
        passes += 1
        return plain(self, *given, **named)

    with patch.object(type(denoiser), "forward", counted), JobRanks(group, guidance=True).sharing([denoiser], texts):
        return [a_pass(denoiser, TWO, text=text).numpy() for text in texts], passes


def joined_attention(group: RankGroup, *, kernel: bool) -> Any:
    """Return this rank's rows of self-attention in FP8, dequantized, with or without the fused kernel.

    The kernel is in plain torch; the exchange is the real one.
    """
    from tests.support.simulated_fp8 import output_in_eight_bits
    from wan_mcp.engine.attention import Attention, QKVProjection
    from wan_mcp.engine.attention.accuracy import synthetic_qkv_projection
    from wan_mcp.engine.attention.fused_qkv import output_rows_reference, quantize_projection_reference
    from wan_mcp.engine.attention.sdpa import TorchKernel
    from wan_mcp.engine.attention.selector import _IN_USE
    from wan_mcp.engine.transformer.self_attention import fused_self_attention

    class InTorch(TorchKernel):
        used = 0

        def attend_fused(
            self, projection: QKVProjection, context: ContextParallel | None = None
        ) -> tuple[Tensor, Tensor]:
            self.used += 1
            inputs = quantize_projection_reference(projection, context)
            output = output_in_eight_bits(inputs)
            return output_rows_reference(output if context is None else context.to_groups(output), inputs)

    whole = synthetic_qkv_projection(64, GRID, heads=4)
    fused = InTorch("sdpa")
    attention = Attention([fused, TorchKernel("sdpa")], head_dim=64, fused=fused if kernel else None)
    with patch.dict(_IN_USE, {CPU: attention}), context_parallel(group):
        mine = (whole.qkv, whole.cos, whole.sin)
        if (context := current_context()) is not None:
            context.begin(whole.qkv.shape[1])
            mine = (context.mine(whole.qkv, 1), context.mine(whole.cos, 0), context.mine(whole.sin, 0))
        qkv, cos, sin = mine
        rows, scales = fused_self_attention(qkv, whole.query_norm, whole.key_norm, cos, sin, whole.heads, whole.eps)
    assert fused.used == kernel
    return (rows.float() * scales).numpy()


def decode_together(group: RankGroup, *, layout: str, rows: int, columns: int) -> Any:
    """Decode a random clip in strips; return the first rank's frames, as bytes."""
    from tests.fixtures.autoencoders import random_latents, random_vae
    from wan_mcp.engine.vae.chunked import ChunkedVAE
    from wan_mcp.engine.vae.shared_decode import SharedDecode

    vae = random_vae(layout)
    one = random_latents(vae, 3)
    latents = torch.randn(
        1, one.shape[1], 3, rows, columns, generator=torch.Generator().manual_seed(4), dtype=one.dtype
    )
    coders = ChunkedVAE(vae)
    shared = SharedDecode(coders, latents, group) if group.size > 1 else None
    parts = []
    for _, video in coders.decode(latents, None if shared is None else shared.mine, 2):
        pixels = (video.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
        finite = torch.tensor(True)
        if shared is not None:
            pixels, finite = shared.whole(pixels, finite)
        assert finite
        parts.append(pixels)
    return torch.cat(parts).numpy(), shared is not None and shared.mine is not None


def exchange(group: RankGroup, *, tokens: int, heads: int) -> Any:
    """Exchange tokens for heads and back; return whether every element came where it belongs."""
    whole = torch.arange(tokens * heads * 2).view(1, tokens, heads, 2).float()
    with context_parallel(group) as context:
        assert context is not None
        context.begin(tokens)
        mine = context.mine(whole, 1)
        by_heads = context.to_heads(mine).finish()[None]
        each = heads // group.size
        wanted = whole[:, :, group.rank * each : (group.rank + 1) * each]
        back = context.to_tokens(by_heads)
        everything = context.gathered(mine.flatten(2))
    return bool((by_heads == wanted).all() and (back == mine).all() and (everything == whole.flatten(2)).all())


def together(group: RankGroup, *, stops: int | None) -> str:
    """End three steps together; rank `stops` raises in the second."""
    ranks = JobRanks(group, guidance=False)
    for step in range(3):
        with ranks.together():
            if group.rank == stops and step == 1:
                raise InterruptedError
    return "done"


def die(group: RankGroup, *, rank: int, after: int) -> str:
    """Exchange many times; one rank is killed."""
    for number in range(1000):
        if group.rank == rank and number == after:
            os._exit(9)
        assert int(group.all_gather(torch.tensor([number], device=group.device)).max()) == number
    return "done"


def put_out_of_step(group: RankGroup, *, rank: int) -> str:
    """Have one rank never call a collective that all others call."""
    if group.rank != rank:
        group.least(1)
    else:
        import time

        time.sleep(1.5)  # longer than the time limit of this group
    return "done"


def ask_in_vain(group: RankGroup) -> int:
    """Ask for the least number in a collective that ends as NCCL's do at their time limit: nothing came, no error."""
    with patch.object(rank_group, "_all_gather", lambda out, mine, group: None):
        return group.least(2)


def leave_before_the_last_frames(group: RankGroup, *, columns: int) -> Any:
    """Decode one latent frame; all but the first rank stop once the pixels are exchanged."""
    from contextlib import closing
    from types import SimpleNamespace

    from tests.fixtures.autoencoders import random_latents, random_vae
    from wan_mcp.engine.families.wan.decode import FrameDecoder
    from wan_mcp.engine.vae.chunked import ChunkedVAE

    vae, ranks = random_vae("wan-mini"), JobRanks(group, guidance=False)
    latents = random_latents(vae, 1)[..., :1, :1].expand(-1, -1, -1, 2, columns)
    model: Any = SimpleNamespace(vae=vae, coders=ChunkedVAE(vae))
    report: Any = SimpleNamespace(check=lambda: None)
    decoder = FrameDecoder(model)
    if group.rank:
        shared = decoder._shared(latents, ranks)
        assert shared is not None
        ranks.agree()
        [*decoder._fast(model.coders, latents, shared)]
        with ranks.together():
            raise InterruptedError
    with closing(decoder.frames(latents, report, ranks)) as frames:
        return next(frames).shape


def send_from_first(group: RankGroup, *, dtype: str) -> Any:
    """Send a tensor from the first rank to all others, which do not know its shape."""
    ranks = JobRanks(group, guidance=False)
    made = torch.arange(6).view(1, 2, 3).to(getattr(torch, dtype)) if ranks.first else None
    found = ranks.from_first(made)
    return str(found.dtype), found.float().tolist()


def job(
    group: RankGroup,
    *,
    home: Path,
    embedded: Path,
    plan: Any,
    fp8: bool = False,
    stop_after: int | None = None,
    die: tuple[int, int] | None = None,
    older: int | None = None,
) -> Any:
    """Run a job: the first rank through the job table and to a file, the others help.

    Args:
        group: all ranks of the job.
        home: of all ranks.
        embedded: the folder of the tiny models; of others, the embedded ones of the package are used.
        plan: of the job.
        fp8: whether blocks are in FP8.
        stop_after: the step after which somebody cancels the job.
        die: a rank, and the step after which it is killed.
        older: a rank of an older version.

    Returns:
        On the first rank, the pixels of all results and the last receipt; on the others, how often they were asked
        whether they should stop.
    """
    import numpy as np

    from wan_mcp.errors import JobCancelled
    from wan_mcp.media.receipts import read_receipt
    from wan_mcp.media.video_writer import VideoWriter
    from wan_mcp.schema.enums import JobState, Stage

    if older == group.rank:
        with patch("wan_mcp.engine.components.receipt.__version__", "0.0.1"):
            return job(group, home=home, embedded=embedded, plan=plan, fp8=fp8)
    bench, runner = _runner(home, embedded, plan.model, fp8=fp8)
    steps = 0

    def stepped() -> None:
        nonlocal steps
        steps += 1
        if die == (group.rank, steps):
            os._exit(9)

    if group.rank:
        runner.help(plan, group, stepped)
        return steps
    ear = bench.ear(plan)
    heard = ear.step

    def step(step: int, steps: int) -> None:
        if step:
            stepped()
        heard(step, steps)

    ear.step = step
    ear.error = JobCancelled
    ear.stop_at = lambda ear: steps == stop_after and (Stage.DENOISE, 1) in ear.heard
    written: list[Any] = []
    add = VideoWriter.add

    def keep(writer: VideoWriter, pixels: Any) -> None:
        written.append(pixels)
        add(writer, pixels)

    try:
        with patch.object(VideoWriter, "add", keep), ear as report:
            if group.size == 1:
                runner.run(ear.job.id, plan, report)
            else:
                runner.run_shared(ear.job.id, plan, report, group)
                assert ear.allowed_s == LOST_WITHIN_S
    except BaseException:
        bench.store.finish(ear.job, JobState.CANCELLED, caption=None)
        raise
    bench.store.finish(ear.job, JobState.SUCCEEDED, caption=None)
    files = [Path(artifact.path) for artifact in bench.store.get(ear.job.id).artifacts]
    if not written:
        from PIL import Image

        written = [np.asarray(Image.open(file))[None] for file in files]
    return np.concatenate(written), read_receipt(files[-1])


def _runner(home: Path, embedded: Path, name: str, *, fp8: bool) -> Any:
    """Load a model once for each process, and open the home."""
    key = ("runner", name, fp8, home)
    if key not in LOADED:
        from dataclasses import replace

        from tests.fixtures.bench import MANIFESTS, Bench
        from tests.support.denoisers import in_fp8
        from tests.support.loading import context_of
        from wan_mcp.catalog.catalog import Catalog, shipped_folder
        from wan_mcp.engine.components.install import EMBEDDED
        from wan_mcp.engine.device.device import resolve_device
        from wan_mcp.engine.families.wan.entry import load_wan_family

        bench = Bench(home, embedded)
        if name in MANIFESTS:
            manifest, folder = (in_fp8(name) if fp8 else MANIFESTS[name]), embedded / name
        else:
            manifest = Catalog(shipped_folder()).get(name)
            folder = EMBEDDED / (manifest.weights.embedded or name)
        device = resolve_device("cpu", threads=1)
        context = context_of(manifest, folder, "fp8" if fp8 else "auto", device=device)
        settings = bench.settings.model_copy(update={"compile": False})
        LOADED[key] = bench, load_wan_family(replace(context, settings=settings))
    return LOADED[key]
