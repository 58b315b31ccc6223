"""The device that an engine computes on."""
