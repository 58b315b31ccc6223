"""One job on several GPUs against one: see `python -m benchmarks.parallel --help`."""
