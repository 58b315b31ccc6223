"""Weights in host memory, brought to the device for the work."""
