"""Wan2.2-A14B at its real size on an H200: our engine, diffusers as it comes, and the recipe of torchao and compile.

`python -m benchmarks.h200` measures, `python -m benchmarks.h200.table` prints what was measured. Weights are random:
the pictures show nothing, times and memory are those of the real ones.
"""
