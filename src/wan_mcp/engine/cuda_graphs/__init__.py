"""Small forwards captured as CUDA graphs."""
