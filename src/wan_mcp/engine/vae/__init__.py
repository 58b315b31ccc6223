"""Wan's video autoencoders with the same weights and arithmetic as in diffusers, without its copies.

Diffusers' eager code spends a third of its time on concatenating cached frames, padding, and normalizing in several
passes. Here activations are channels-last, a convolution reads its history and its input from one buffer written by the
preceding normalization, and several latent frames are processed per call.
"""
