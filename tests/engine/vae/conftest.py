"""The fixtures of these tests."""

from tests.fixtures.autoencoders import vae

__all__ = ["vae"]
