"""Wan video and image models."""
