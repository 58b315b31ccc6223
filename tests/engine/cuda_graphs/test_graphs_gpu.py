"""On a GPU: jobs of replayed forwards give the same files, and leave no memory behind, also where CUDA refuses."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.bench import MANIFESTS, ONE, TWO, TWO_OF_IMAGES, Bench, changed, image_plan, video_plan
from tests.support import tiny_models as models
from tests.support.loading import runner_in, unload
from tests.support.lora_files import lora_plan, write_lora
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.catalog.manifest import Quantization
from wan_mcp.engine.components.install import EMBEDDED
from wan_mcp.engine.cuda_graphs import graphs
from wan_mcp.engine.cuda_graphs.capture import CudaGraphCapture
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import ImagePlan, VideoPlan

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda", 0)
MINI = "wan-mini"
STEPS = 6
Plan = VideoPlan | ImagePlan


@pytest.fixture
def bench(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Bench]:
    """A runner on the GPU: tiny models of three layouts in FP8, and the embedded one."""
    weights = tmp_path / "embedded"
    models.save_one_expert(weights / ONE)
    models.save_two_experts(weights / TWO)
    models.save_two_experts_of_images(weights / TWO_OF_IMAGES)
    (weights / MINI).symlink_to(EMBEDDED / MINI)
    (tmp_path / "home").mkdir()
    bench = Bench(tmp_path / "home", weights, device="cuda:0")
    bench.runner._settings = bench.settings.model_copy(update={"compile": False})
    bench.catalog.manifests[MINI] = Catalog(shipped_folder()).get(MINI)
    for name in (ONE, TWO, TWO_OF_IMAGES):
        bench.catalog.manifests[name] = changed(MANIFESTS[name], quantization=Quantization(recipe="fp8-rowwise"))
    caplog.set_level("INFO")
    yield bench
    bench.store.database.close()


def plan_of(name: str, bench: Bench) -> Plan:
    mini: dict[str, Any] = {"width": 128, "height": 128, "steps": STEPS}
    from_picture: dict[str, Any] = {"task": Task.IMAGE_TO_VIDEO, "image": bench.picture()}
    plans: dict[str, Plan] = {
        "mini-picture": image_plan(MINI, **mini),
        "mini-video": video_plan(MINI, **mini, num_frames=17),
        "one-text": image_plan(steps=STEPS, guidance_scale=1.0),
        "two-texts": image_plan(steps=STEPS),
        "two-pictures": image_plan(steps=STEPS, count=2),
        "picture-to-video": video_plan(**from_picture, steps=STEPS),
        "two-experts": video_plan(TWO, steps=2 * STEPS),
        "two-experts-picture-to-video": video_plan(TWO_OF_IMAGES, **from_picture, steps=2 * STEPS),
    }
    return plans[name]


def made(bench: Bench, plan: Plan) -> list[bytes]:
    return [Path(artifact.path).read_bytes() for artifact in bench.run(plan).artifacts]


def replays(caplog: pytest.LogCaptureFixture) -> list[tuple[int, int]]:
    """Of each job that had some: how many forwards were replays, of how many."""
    found = [re.match(r"(\d+) of (\d+) forwards were replayed", line) for line in caplog.messages]
    return [(int(each[1]), int(each[2])) for each in found if each]


def memory_of_graphs() -> int:
    """Bytes that lie in pools other than the allocator's own."""
    return sum(s["total_size"] for s in torch.cuda.memory_snapshot() if s.get("segment_pool_id", (0, 0)) != (0, 0))


@pytest.mark.parametrize(
    ("name", "first"),
    [("mini-picture", 2), ("mini-video", 2), ("one-text", 1), ("two-texts", 2), ("two-pictures", 2),
     ("picture-to-video", 2), ("two-experts", 4), ("two-experts-picture-to-video", 4)],
)  # fmt: skip
def test_a_job_of_replays_gives_the_very_same_files_and_leaves_no_memory_behind(
    bench: Bench, name: str, first: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_of(name, bench)
    with monkeypatch.context() as patch:
        patch.setattr(graphs, "MAX_FLOPS", 0)
        plain = [made(bench, plan) for _ in range(2)][-1]
    assert replays(caplog) == []
    held = torch.cuda.memory_allocated()
    assert made(bench, plan) == plain
    [(replayed, forwards)] = replays(caplog)
    assert forwards - replayed == first
    assert torch.cuda.memory_allocated() <= held
    assert memory_of_graphs() == 0


def test_jobs_with_another_lora_record_anew(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    plain = image_plan(steps=STEPS)
    found = [made(bench, plain)]
    layers = runner_in(bench.runner)._model.converted["transformer"].layers
    lora = lora_plan(write_lora(bench.settings.home / "lora.safetensors", layers))
    found += [made(bench, plan) for plan in (image_plan(steps=STEPS, lora=(lora,)), plain)]
    assert found[0] == found[2] != found[1]
    assert replays(caplog) == [(2 * STEPS - 2, 2 * STEPS)] * 3


def test_a_job_that_cuda_refuses_to_record_goes_on_and_nothing_is_broken(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    plan = image_plan(steps=STEPS)
    plain = made(bench, plan)
    block = runner_in(bench.runner)._model.denoisers[0].blocks[1]
    hook = block.register_forward_hook(lambda module, inputs, output: output.sum().item() and None)
    assert made(bench, plan) == plain
    assert any("forwards are not recorded" in line for line in caplog.messages)
    hook.remove()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert memory_of_graphs() == 0
    drawn = [torch.rand(4, device=GPU) for _ in range(2)]  # a generator that believes in a capture draws no numbers
    assert not torch.equal(*drawn)
    unload(bench.runner)
    assert made(bench, plan) == plain
    assert replays(caplog) == [(2 * STEPS - 2, 2 * STEPS)] * 2


@torch.no_grad()
def test_recordings_share_memory_and_what_a_capture_refuses_leaves_all_others_alone() -> None:
    recorder, given = CudaGraphCapture(GPU), torch.ones(1 << 20, device=GPU)
    weight = torch.randn(1024, 1024, device=GPU, dtype=torch.bfloat16)

    def work(times: float) -> torch.Tensor:
        rows = (given * times).view(1024, 1024).bfloat16()
        return (rows @ weight).float().sin()

    wanted = [work(times) for times in (1.0, 2.0)]
    torch.cuda.synchronize()
    one = recorder.record(lambda: work(1.0))
    two = recorder.record(lambda: work(2.0))
    refusing = CudaGraphCapture(GPU)
    with pytest.raises(RuntimeError):
        refusing.record(lambda: work(2.0) * work(1.0).sum().item())
    refusing.close()
    late = CudaGraphCapture(GPU)
    three = late.record(lambda: work(2.0))
    for _ in range(3):
        one.replay()
        first = one.output.clone()
        two.replay()
        three.replay()
        assert torch.equal(first, wanted[0]) and torch.equal(two.output, wanted[1])
        assert torch.equal(three.output, wanted[1])
    for recording in (one, two, three):
        recording.forget()
    recorder.close()
    late.close()
    assert memory_of_graphs() == 0
