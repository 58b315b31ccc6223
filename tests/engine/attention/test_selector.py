"""What blocks call gives softmax attention, whichever kernels a device has, and stays one node in packages."""

import pytest
import torch
from torch import Tensor, nn

from tests.fixtures.attention import distance, exact
from wan_mcp.engine.attention import (
    KERNEL_NAMES,
    Attention,
    attend,
    attend_self,
    attention_in_use,
    choose_attention,
)
from wan_mcp.engine.attention.accuracy import AttentionAccuracy
from wan_mcp.engine.attention.sdpa import TORCH_KERNELS, TorchKernel
from wan_mcp.engine.attention.selector import LIMIT, kernel_of
from wan_mcp.errors import JobFailed
from wan_mcp.settings import Settings

CPU = torch.device("cpu")
Data = tuple[Tensor, Tensor, Tensor]


def test_views_of_one_product_give_softmax_attention_in_one_piece(data: Data) -> None:
    query, key, value = torch.stack(data, 2).unbind(2)
    given = attend_self(query, key, value)
    assert given.is_contiguous()
    assert given.shape == query.shape
    assert distance(given, exact(query, key, value)) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_queries_attend_to_another_number_of_keys_in_their_own_type(data: Data, dtype: torch.dtype) -> None:
    query, key, value = (tensor.to(dtype) for tensor in (data[0], data[1][:, :33], data[2][:, :33]))
    given = attend(query, key, value)
    assert given.dtype == dtype
    assert distance(given, exact(query, key, value)) < (1e-6 if dtype == torch.float32 else 0.01)


def test_the_operator_keeps_the_rules_of_operators(data: Data) -> None:
    torch.library.opcheck(attend_self, data)
    torch.library.opcheck(attend_self, tuple(torch.stack(data, 2).unbind(2)))


class OnlyAttention(nn.Module):
    def forward(self, product: Tensor) -> Tensor:
        query, key, value = (part.unflatten(-1, (4, 16)) for part in product.split(64, -1))
        out: Tensor = attend_self(query, key, value)
        return out.flatten(-2)


def test_exported_it_is_one_node() -> None:
    length = torch.export.Dim("length", min=16, max=100_000)
    program = torch.export.export(
        OnlyAttention(), (torch.randn(1, 50, 192),), dynamic_shapes=({1: length},), strict=False
    )
    assert [str(node.target) for node in program.graph.nodes].count("wan_mcp.attend_self.default") == 1


class Broken:
    """A kernel that takes everything and fails at it."""

    name = "broken"
    widths = (64,)

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0

    def supports(self, query: Tensor, key: Tensor) -> bool:
        return True

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self.calls += 1
        raise self.error


def test_a_kernel_that_fails_at_a_shape_is_replaced_and_not_asked_again_for_it(
    data: Data, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken(RuntimeError("no engine proposed a plan\nmore words"))
    attention = Attention([broken, TorchKernel("sdpa")], head_dim=64)
    assert attention.name == "broken"
    for _ in range(2):
        assert distance(attention(*data), exact(*data)) < 1e-6
    assert broken.calls == 1
    assert "broken does not support [1, 315, 4, 64]: RuntimeError: no engine proposed a plan" in caplog.text
    attention(*(tensor[:, :100] for tensor in data))
    assert broken.calls == 2


def test_a_kernel_is_not_asked_for_heads_that_it_did_not_prove_itself_with(data: Data) -> None:
    broken = Broken(RuntimeError())
    assert distance(Attention([broken, TorchKernel("sdpa")], head_dim=128)(*data), exact(*data)) < 1e-6
    assert broken.calls == 0


def test_a_full_memory_is_not_taken_for_a_broken_kernel(data: Data) -> None:
    attention = Attention([Broken(torch.OutOfMemoryError("full")), TorchKernel("sdpa")], head_dim=64)
    with pytest.raises(torch.OutOfMemoryError):
        attention(*data)


def test_on_the_cpu_torch_chooses() -> None:
    assert choose_attention(CPU).name == "sdpa"
    assert attention_in_use() == attention_in_use(CPU) == "sdpa"
    assert choose_attention(CPU, "sdpa").name == "sdpa"


@pytest.mark.parametrize("name", ["cudnn-fp8", "sage-fp8", "flash"])
def test_a_kernel_that_is_not_here_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(JobFailed, match=f"{name} does not work on cpu"):
        choose_attention(CPU, name)


def test_a_name_that_no_kernel_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(JobFailed, match=r"'quick'\. Use one of auto, cudnn-fp8, sage-fp8, cudnn,"):
        choose_attention(CPU, "quick")


NAMES = [name for name in Settings.model_json_schema()["properties"]["attention"]["enum"] if name != "auto"]


@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_that_can_be_set_is_known(name: str) -> None:
    try:
        choose_attention(CPU, name)
    except JobFailed as refused:
        assert refused.code == "no_attention"  # it is none of the CPU's: not a name that nothing has
    assert name == "sdpa" or name in TORCH_KERNELS or kernel_of(CPU, name) is None


def test_every_known_kernel_can_be_set() -> None:
    assert tuple(NAMES) == KERNEL_NAMES


def test_a_misspelt_kernel_of_torch_is_an_error_not_another_kernel() -> None:
    with pytest.raises(KeyError, match="flsh"):
        TorchKernel("flsh")


def test_a_trial_passes_what_is_right_and_fails_what_is_slightly_wrong(trial: AttentionAccuracy) -> None:
    plain = TorchKernel("sdpa")
    assert trial.error(plain) < LIMIT / 100
    assert trial.error(lambda query, key, value: plain(query, key[:, 16:], value[:, 16:])) > LIMIT
    assert trial.error(lambda query, key, value: plain(query * 1.1, key, value)) > LIMIT
    assert trial.error(lambda query, key, value: plain(query, key, value) * float("nan")) == float("inf")
