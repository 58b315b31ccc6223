"""`wan-mcp cluster`: serve this home's queue with the GPUs of a Ray cluster."""

import importlib.util
from typing import Annotated

import typer

from wan_mcp.errors import BadRequest

__all__ = ["cluster"]


def cluster(
    ctx: typer.Context,
    address: Annotated[
        str, typer.Option(help="The Ray cluster: auto (the one of this machine), HOST:PORT, or ray://HOST:PORT.")
    ] = "auto",
    cpu_actors: Annotated[
        int,
        typer.Option(min=0, max=1000, help="Run this many engines on the CPU of each machine, and none on GPUs."),
    ] = 0,
    lease: Annotated[
        float, typer.Option(min=2, help="Seconds for which an engine works on without hearing from this process.")
    ] = 60,
    folder: Annotated[
        str, typer.Option(help="Folder of the engines on each machine; by default below the machine's own home.")
    ] = "",
) -> None:
    """Serve the queue with the GPUs of a Ray cluster, until it is stopped."""
    if importlib.util.find_spec("ray") is None:
        raise BadRequest("Ray is not installed; install it on each machine with: pip install 'wan-mcp[cluster]'")
    from wan_mcp.cluster.dispatcher import ClusterOptions, run_cluster

    run_cluster(ctx.obj, ClusterOptions(address=address, cpu_actors=cpu_actors, lease_s=lease, folder=folder))
