"""Offloading: weights in host memory, copied to the device for computation."""
