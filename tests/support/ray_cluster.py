"""A Ray cluster of three nodes on this machine, and a home whose queue it serves."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import psutil

from tests.fixtures.job_table import video_plan, video_request
from tests.support.patience import PATIENCE_S
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.schema.jobs import Job
from wan_mcp.settings import Settings

__all__ = ["ENVIRONMENT", "STORE_BYTES", "ClusterHome", "Nodes", "RayCluster", "cluster_of"]

ROOT = Path(__file__).parents[2]
STORE_BYTES = 80 * 1024 * 1024  # the least that Ray allows is 75 MB
NO_SPILLING = {"local_fs_capacity_threshold": 1e-6, "automatic_object_spilling_enabled": False}
"""By default Ray moves what does not fit in an object store to the disk, and a store is full when that is."""
CPUS = 6  # of each node, in Ray's books
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # by default that depends on a file in the user's home
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "PYTHONPATH": str(ROOT),
    "PYTHONSAFEPATH": "1",
}
SECRETS = {"WAN_MCP_HTTP_TOKEN": 8 * "token", "WAN_MCP_ON_DONE": "exit 3", "SOME_API_KEY": "key"}
"""What whoever started Ray on a machine may have had in the environment."""


class Nodes(Protocol):
    """The nodes of a cluster, as a dispatcher joins them."""

    address: str
    dispatcher: tuple[str, ...]
    """The command that runs a dispatcher where it can join them; empty for here."""


class RayCluster:
    """Nodes on loopback."""

    dispatcher: tuple[str, ...] = ()

    def __init__(self, nodes: Any, folder: Path) -> None:
        self.address: str = nodes.address
        self._nodes = nodes
        self._numbers = count(1)
        self.folder = folder

    def add_node(self) -> Any:
        """Let a node join."""
        try:
            return self._nodes.add_node(wait=False, **_of_node(next(self._numbers)))
        except Exception:  # Ray has no other for a machine with so much to do that no node started in 30 s
            return self._nodes.add_node(wait=False, **_of_node(next(self._numbers)))

    def remove_node(self, node: Any, *, graceful: bool) -> None:
        """End a node: in good order, or by kill -9."""
        self._nodes.remove_node(node, allow_graceful=graceful)

    @contextmanager
    def full_stores(self) -> Iterator[None]:
        """Fill the object stores of all nodes."""
        filler = Path(__file__).with_name("full_stores.py")
        command = [sys.executable, str(filler), self.address]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None and process.stdout is not None
            assert process.stdout.readline() == "full\n"
            yield
            process.stdin.close()


@contextmanager
def cluster_of(nodes: int) -> Iterator[RayCluster]:
    """Provide a cluster of so many nodes, without a dashboard, on loopback."""
    os.environ.update(ENVIRONMENT)
    from ray.cluster_utils import Cluster

    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path has 107 characters at most
    head = {**_of_node(0), "include_dashboard": False, "temp_dir": str(folder), "_system_config": NO_SPILLING}
    made = Cluster(initialize_head=True, head_node_args=head)
    cluster = RayCluster(made, folder)
    try:
        for _ in range(nodes - 1):
            cluster.add_node()
        made.wait_for_nodes()
        yield cluster
    finally:
        made.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _of_node(number: int) -> dict[str, Any]:
    """Return the options of a node: its address is one of loopback's, but 127.0.0.1, which Ray replaces."""
    return {
        "env_vars": SECRETS,
        "num_cpus": CPUS,
        "object_store_memory": STORE_BYTES,
        "node_ip_address": f"127.0.0.{2 + number}",
    }


class ClusterHome:
    """A home, and the dispatcher that serves its queue with the cluster."""

    def __init__(self, settings: Settings, cluster: Nodes, runner: str = "", lease_s: float = 6.0) -> None:
        self.settings, self.cluster = settings, cluster
        self._runner, self._lease_s = runner, lease_s
        self.database = Database(settings.database)
        self.store = JobStore(self.database)
        self.front = Supervisor(settings, self.store)
        self.folder = settings.home.parent / "machines"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the dispatcher."""
        options = ["--address", self.cluster.address, "--cpu-actors", "1", "--lease", str(self._lease_s)]
        command = [*(self._runner.split() or ["-m", "wan_mcp", "cluster"]), *options, "--folder", str(self.folder)]
        log = (self.settings.home.parent / "dispatcher.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [*self.cluster.dispatcher, sys.executable, *command],
                env=os.environ | self.settings.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )

    def kill(self) -> None:
        """Kill the dispatcher without a word."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def stop(self) -> None:
        """End the dispatcher in good order."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def close(self) -> None:
        """End the dispatcher, and leave the queue."""
        self.stop()
        self.front.leave()
        self.database.close()

    def log(self) -> str:
        """Return what the dispatcher wrote."""
        return (self.settings.home.parent / "dispatcher.log").read_text(errors="replace")

    def submit(self, prompt: str = "a red circle", **changes: Any) -> Job:
        """Queue a video."""
        plan = video_plan(prompt).model_copy(update={"steps": 4, **changes})
        return self.store.submit(video_request(prompt), plan, None, 10_000)

    def until(self, holds: Callable[[], bool]) -> None:
        """Tend the queue like a front until something holds."""
        watch, end = self.database.watch(), time.monotonic() + PATIENCE_S
        try:
            while not holds():
                assert self.process is None or self.process.poll() is None, self.log()
                assert time.monotonic() < end, (self.store.newest(), self.front.states(), self.log())
                self.front.supervise()
                watch.wait(0.2)
        finally:
            watch.close()

    def job(self, job: Job) -> Job:
        """Return a job as it is now."""
        return self.store.get(job.id)

    def serving(self) -> list[str]:
        """Return the devices of the cluster that serve."""
        return [device for device, state in self.front.states().items() if "@" in device and state != "off"]

    def machine(self, device: str) -> Path:
        """Return the folder of a device's engine, on its machine."""
        return self.folder / device.replace(":", "-")

    def actor(self, device: str) -> psutil.Process:
        """Return the process of a device's actor."""
        locks = self.machine(device) / "engines" / "cpu.lock"
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if any(Path(file.path) == locks for file in process.open_files()):
                    return process
        raise LookupError(f"no process holds {locks}")
