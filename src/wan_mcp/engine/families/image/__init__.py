"""Image models that run as diffusers pipelines."""
