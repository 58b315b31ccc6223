"""Text encoders in fewer bits or in another memory: called as ever, and about as good as bf16."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchao
from torchao.quantization import Int8Tensor
from transformers import Qwen3Config, Qwen3Model, UMT5Config, UMT5EncoderModel

from tests.fixtures.bench import ONE
from tests.support.loading import context_of
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.engine.components.install import EMBEDDED
from wan_mcp.engine.components.text_encoder import (
    choose_plan,
    place_text_encoder,
    plan_for,
    storage_of,
)
from wan_mcp.engine.families.wan.loader import WanModel, load_wan
from wan_mcp.engine.offload import layerwise as visiting
from wan_mcp.engine.offload.layerwise import OffloadedEncoder

CPU = torch.device("cpu")
GB = 10**9
SENTENCES = ["a red circle moving left", "two blue squares rotate on a green background", "a small yellow triangle"]

Load = Callable[[str], WanModel]


@pytest.fixture(scope="module")
def trained() -> Any:
    """wan-mini's pipeline: its text encoder is a trained UMT5."""
    mini = Catalog(shipped_folder()).get("wan-mini")
    return load_wan(context_of(mini, EMBEDDED / "wan-mini", sha256="sha")).any_pipeline


def encoded(pipeline: Any) -> Any:
    with torch.no_grad():
        return torch.cat([pipeline.encode_prompt(text, do_classifier_free_guidance=False)[0] for text in SENTENCES])


def error(what: Any, true: Any) -> float:
    return float((what.float() - true.float()).norm() / true.float().norm())


def stored_bytes(encoder: Any) -> int:
    """What an encoder takes; `nbytes` of a tensor in int8 speaks of the dtype that it stands for."""
    tensors = [*encoder.parameters(), *encoder.buffers()]
    int8 = [tensor for tensor in tensors if isinstance(tensor, Int8Tensor)]
    plain = [tensor for tensor in tensors if not isinstance(tensor, Int8Tensor)]
    assert all(tensor.zero_point is None for tensor in int8)
    return sum(tensor.nbytes for tensor in [*plain, *(each for t in int8 for each in (t.qdata, t.scale))])


def int8_layers(encoder: Any) -> dict[str, Any]:
    return {name: tensor for name, tensor in encoder.named_parameters() if isinstance(tensor, Int8Tensor)}


def test_int8_strays_about_as_little_as_bf16_from_what_a_trained_encoder_gives(trained: Any) -> None:
    true = encoded(trained)
    original = trained.text_encoder
    copies = [type(original)(original.config) for _ in range(2)]
    for copy in copies:
        copy.load_state_dict(original.state_dict())
    try:
        trained.text_encoder = copies[0].to(torch.bfloat16)
        of_bf16 = error(encoded(trained), true)
        trained.text_encoder = place_text_encoder(copies[1], CPU, "int8")
        of_int8 = error(encoded(trained), true)
    finally:
        trained.text_encoder = original
    assert 0 < of_int8 < 1.5 * of_bf16
    assert of_bf16 < 0.01
    assert storage_of(copies[1]) == f"int8, groups of 64, torchao {torchao.__version__}"


def test_layers_of_real_width_stray_little_in_int8() -> None:
    torch.manual_seed(0)
    config = UMT5Config(
        vocab_size=100,
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=1,
        num_decoder_layers=1,
        num_heads=64,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    encoder = UMT5EncoderModel(config).to(torch.bfloat16).eval()
    ids = torch.arange(3, 35)[None]
    with torch.no_grad():
        before, size = encoder(ids).last_hidden_state, stored_bytes(encoder)
        small = place_text_encoder(encoder, CPU, "int8")
        after = small(ids).last_hidden_state
    assert stored_bytes(small) < 0.7 * size
    assert 0 < error(after, before) < 0.015
    assert after.dtype is torch.bfloat16


def test_attention_and_the_table_of_words_stay_as_they_are(load: Load) -> None:
    encoder = place_text_encoder(load(ONE).any_pipeline.text_encoder, CPU, "int8")
    small = [name.split(".")[-2] for name in int8_layers(encoder)]
    assert sorted(small) == ["wi_0", "wi_1", "wo"]


def test_the_scales_of_int8_keep_their_digits_when_a_pipeline_is_cast(load: Load) -> None:
    pipeline = load(ONE).any_pipeline
    encoder = pipeline.text_encoder = place_text_encoder(pipeline.text_encoder, CPU, "int8")
    before = {name: weight.scale.clone() for name, weight in int8_layers(encoder).items()}
    assert before
    pipeline.to(torch.bfloat16)
    after = {name: weight.scale for name, weight in int8_layers(encoder).items()}
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], scale) for name, scale in before.items())
    assert encoded(pipeline).dtype is torch.bfloat16


def test_a_visiting_encoder_gives_the_same_bits_and_stays_behind_when_its_pipeline_moves(load: Load) -> None:
    pipeline = load(ONE).any_pipeline
    true, encoder = encoded(pipeline), pipeline.text_encoder
    pipeline.register_modules(text_encoder=place_text_encoder(encoder, CPU, "offloaded"))
    assert isinstance(pipeline.text_encoder, OffloadedEncoder)
    assert torch.equal(encoded(pipeline), true)
    pipeline.to("meta")
    assert {tensor.device.type for tensor in encoder.parameters()} == {"cpu"}
    assert storage_of(pipeline.text_encoder) == "plain"


def test_a_visit_that_is_broken_off_leaves_the_weights_at_home(load: Load) -> None:
    pipeline = load(ONE).any_pipeline
    encoder = pipeline.text_encoder
    at_home = {name: id(tensor) for name, tensor in encoder.named_parameters()}
    visiting = place_text_encoder(encoder, CPU, "offloaded")
    abroad: list[bool] = []

    def stop(module: Any, inputs: Any) -> None:
        abroad.append(id(module.weight) not in at_home.values())
        raise InterruptedError

    handle = encoder.encoder.block[0].layer[1].DenseReluDense.wo.register_forward_pre_hook(stop)
    with pytest.raises(InterruptedError), torch.no_grad():
        visiting(torch.tensor([[3, 4, 1]]))
    handle.remove()
    assert abroad == [True]
    assert {name: id(tensor) for name, tensor in encoder.named_parameters()} == at_home
    with torch.no_grad():
        visiting(torch.tensor([[3, 4, 1]]))


@pytest.mark.parametrize("plan", ["resident", "int8", "offloaded"])
def test_encoders_of_image_models_are_placed_the_same_way(plan: Any) -> None:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
    )
    encoder = Qwen3Model(config).eval()
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        true = encoder(ids, output_hidden_states=True).hidden_states[-2]
        placed = place_text_encoder(encoder, CPU, plan)
        given = placed(ids, output_hidden_states=True).hidden_states[-2]
    assert (error(given, true) == 0) is (plan != "int8")
    assert error(given, true) < 0.01
    assert (placed.dtype, torch.device(placed.device)) == (torch.float32, CPU)


@pytest.mark.parametrize(
    ("free", "total", "host", "plan"),
    [
        (139, 141, 512, "resident"),
        (30, 80, 64, "resident"),
        (20, 24, 64, "offloaded"),
        (20, 24, 12, "offloaded"),
        (17, 18, 12, "int8"),
        (5, 18, 12, "int8"),
        (9, 10, 12, "offloaded"),
    ],
)
def test_the_plan_follows_free_gpu_memory_and_int8_only_the_size_of_the_machine(
    free: int, total: int, host: int, plan: str
) -> None:
    plain, int8, coming = int(11.4 * GB), int(8.4 * GB), 6 * GB
    assert choose_plan(plain, int8, coming, host * GB, (free * GB, total * GB)) == plan


@pytest.mark.parametrize(("host", "plan"), [(64, "resident"), (32, "int8")])
def test_on_a_cpu_only_the_size_of_its_memory_decides(host: int, plan: str) -> None:
    assert choose_plan(23 * GB, 15 * GB, 5 * GB, host * GB, None) == plan


def test_the_size_in_int8_is_foretold_as_it_comes(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    from wan_mcp.engine.components import text_encoder

    foretold: list[int] = []

    def choose(plain: int, int8: int, *_: Any) -> str:
        foretold.append(int8)
        return "int8"

    model = load(ONE)
    monkeypatch.setattr(text_encoder, "choose_plan", choose)
    encoder = model.any_pipeline.text_encoder
    assert plan_for(encoder, model.device) == "int8"
    placed = place_text_encoder(encoder, CPU, "int8")
    assert foretold == [stored_bytes(placed)]


def test_what_comes_often_is_pinned_as_far_as_there_is_memory_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visiting, "MIN_PIN_BYTES", 100)
    part = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    before = [tensor.detach().clone() for tensor in part.parameters()]
    homes = [tensor.data_ptr() for tensor in part.parameters()]
    pinned: list[int] = []

    def pin(pages: Any) -> bool:
        pinned.append(len(pages))
        return len(pinned) < 3

    assert visiting._pin(part, 300, pin) == 256, "a third weight would be too much, biases are too small"
    assert all(torch.equal(tensor, kept) for tensor, kept in zip(part.parameters(), before, strict=True))
    moved = [tensor.data_ptr() != home for tensor, home in zip(part.parameters(), homes, strict=True)]
    assert moved == [True, False, False, False, False, False]
    assert pinned == [256]


@pytest.mark.gpu
@pytest.mark.parametrize("plan", ["offloaded", "int8"])
def test_on_a_gpu_a_visitor_gives_the_same_bits_and_takes_no_room_between_its_visits(load: Load, plan: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    gpu = torch.device("cuda", 0)
    encoder = load(ONE).any_pipeline.text_encoder.to(gpu)
    ids = torch.arange(3, 12, device=gpu)[None]
    with torch.no_grad():
        true = encoder(ids).last_hidden_state.clone()
        placed = place_text_encoder(encoder, gpu, plan)
        given = placed(ids).last_hidden_state
    assert given.device == gpu
    assert torch.equal(given, true) is (plan == "offloaded")
    assert error(given, true) < 0.01
    homes = {tensor.device.type for tensor in [*encoder.parameters(), *encoder.buffers()]}
    assert homes == ({"cpu"} if plan == "offloaded" else {"cuda"})
