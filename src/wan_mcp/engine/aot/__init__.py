"""Ahead-of-time compiled block packages: their cache keys, and building, verifying, loading and removing them.

`builder`, `compiler_check`, `store` and `build_main` import no torch, so the command line may use them.
"""
