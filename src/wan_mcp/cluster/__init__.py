"""A Ray cluster that serves this home's queue: the only package that imports ray. The command `cluster` starts it."""
