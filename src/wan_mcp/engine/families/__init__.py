"""One package for each family of models."""
