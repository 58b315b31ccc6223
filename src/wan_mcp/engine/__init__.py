"""The process that owns a device: everything that knows torch."""

import os

from wan_mcp.engine.device import reproducible

# Libraries read what follows when torch is loaded or first used, and every way to torch leads through this package.
# OpenMP's threads spin while they wait for one another. On a machine that does anything else at the same time they
# spin for their whole time slice, and a job took 5-10 times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
reproducible.enable()
