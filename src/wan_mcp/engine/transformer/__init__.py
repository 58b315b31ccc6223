"""The transformer blocks of a Wan denoiser as plain functions of tensors: quantised, compiled, with shared weights."""
