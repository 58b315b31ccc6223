"""The transformer blocks of a Wan denoiser as plain functions of tensors: quantized, compiled, with shared weights."""
