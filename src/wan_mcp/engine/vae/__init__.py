"""Wan's video autoencoders with the same weights and sums as diffusers', without its copies.

Of diffusers' eager code a third of the time goes into joining cached frames, padding, and normalizing in several
passes. Here activations lie channels last, a convolution reads its history and its input from one buffer that the
normalization before it has written, and several latent frames are coded per call.
"""
