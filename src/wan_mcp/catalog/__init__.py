"""Models as data: their manifests, and what follows from them without torch."""
