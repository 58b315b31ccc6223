"""Small forward passes captured as CUDA graphs."""
