"""The engine's compute device."""
