"""FP8 attention simulated in torch: what a kernel with e4m3 inputs, weights and outputs computes."""

import torch
from torch import Tensor

from wan_mcp.engine.attention.fp8_quantize import QuantizedQKV
from wan_mcp.engine.ops.fp8_linear import FP8_MAX

__all__ = ["EIGHT_BITS", "by_eight_bits", "output_in_eight_bits"]

EIGHT_BITS = torch.float8_e4m3fn


def output_in_eight_bits(inputs: QuantizedQKV) -> Tensor:
    """What a kernel with e4m3 inputs, weights and outputs gives, up to the order of its sums."""
    query, key, value = (each.float().transpose(1, 2) for each in (inputs.query, inputs.key, inputs.value))
    scores = (query @ key.transpose(-1, -2)) * (inputs.query_scale * inputs.key_scale / query.shape[-1] ** 0.5)
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    summed = (weights * FP8_MAX).to(EIGHT_BITS).float() / FP8_MAX @ value
    return torch.Tensor.contiguous((summed / weights.sum(-1, keepdim=True)).to(EIGHT_BITS).transpose(1, 2))


def by_eight_bits(inputs: QuantizedQKV) -> Tensor:
    """The same with scales and means given back."""
    output = output_in_eight_bits(inputs).float()
    assert output.isfinite().all()
    heads = (output.shape[0], 1, *output.shape[2:])
    return output * inputs.value_scale.view(heads) + inputs.value_mean.view(heads)
