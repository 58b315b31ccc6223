"""Ahead-of-time compiled block packages: what one is made for, how it is built, checked, loaded and set aside.

Only `identity`, `inputs`, `compiling`, `proving`, `runner` and `packages` import torch; `build` and what it needs does
not, so the command line may use it.
"""
