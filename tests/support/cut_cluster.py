"""A Ray cluster of two machines, each a network namespace, with a cable between them that can be cut."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.patience import PATIENCE_S
from tests.support.ray_cluster import ENVIRONMENT, STORE_BYTES

__all__ = ["CutCluster", "cut_cluster", "why_not"]

PORT = 6379
ADDRESSES = ("198.18.0.1", "198.18.0.2")  # a range for tests (RFC 2544), and seen in these namespaces only
RAY = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "2"]
STORE = ["--object-store-memory", str(STORE_BYTES)]
DEAD_AFTER = "1000"  # failed checks of a node's health: what Ray does by itself when a cut lasts is not what is tried


class CutCluster:
    """The two machines: the first one is the head, on which the dispatcher runs."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.address = f"{ADDRESSES[0]}:{PORT}"
        self._spaces = [f"{name}-{number}" for number in range(2)]
        self._nodes: list[subprocess.Popen[bytes]] = []
        self.dispatcher = _inside(self._spaces[0])

    def lay(self) -> None:
        """Make the machines and the cable."""
        near, far = self._spaces
        for space in self._spaces:
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
        _ip("link", "add", "cable", "netns", near, "type", "veth", "peer", "name", "cable", "netns", far)
        for space, address in zip(self._spaces, ADDRESSES, strict=True):
            _ip("-n", space, "address", "add", f"{address}/30", "dev", "cable")
            _ip("-n", space, "link", "set", "cable", "up")

    def start(self) -> None:
        """Start Ray on both."""
        roles = (["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self.folder}"],
                 [f"--address={self.address}"])  # fmt: skip
        for space, address, role in zip(self._spaces, ADDRESSES, roles, strict=True):
            log = (self.folder / f"{space}.log").open("wb")
            with log:
                node = subprocess.Popen(
                    [*_inside(space), *RAY, *STORE, *role, f"--node-ip-address={address}"],
                    env=os.environ | ENVIRONMENT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            self._nodes.append(node)
            self._until_started(node, log.name)

    def cut(self) -> None:
        """Cut the cable."""
        _ip("-n", self._spaces[1], "link", "set", "cable", "down")

    def mend(self) -> None:
        """Join its ends again."""
        _ip("-n", self._spaces[1], "link", "set", "cable", "up")

    def is_far(self, process: psutil.Process) -> bool:
        """Check whether a process runs on the machine without the dispatcher."""
        return process.pid in _processes_in(self._spaces[1])

    def remove(self) -> None:
        """End all that runs on the machines, and remove them."""
        for space in reversed(self._spaces):
            while left := _processes_in(space):
                for process in left:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                psutil.wait_procs([psutil.Process(each) for each in left if psutil.pid_exists(each)], 1)
            _ip("netns", "delete", space)
        for node in self._nodes:
            node.wait(PATIENCE_S)

    def _until_started(self, node: subprocess.Popen[bytes], log: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while "Ray runtime started" not in (said := Path(log).read_text(errors="replace")):
            assert node.poll() is None and time.monotonic() < end, said
            time.sleep(0.1)


@contextmanager
def cut_cluster() -> Iterator[CutCluster]:
    """Provide the two machines."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path has 107 characters at most
    cluster = CutCluster(f"wan-{os.getpid()}", folder)
    try:
        cluster.lay()
        cluster.start()
        yield cluster
    finally:
        cluster.remove()
        shutil.rmtree(folder, ignore_errors=True)


def why_not() -> str:
    """Return why namespaces cannot be made here; empty if they can."""
    if shutil.which("ip") is None:
        return "there is no command 'ip'"
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    name = f"wan-{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces cannot be made: {made.stderr.strip()}"
    _ip("netns", "delete", name)
    return ""


def _inside(space: str) -> tuple[str, ...]:
    """Return how a command begins that runs on a machine, without what a cluster of this process has set for Ray."""
    others = [
        word for name in os.environ if name.startswith("RAY_") and name not in ENVIRONMENT for word in ("-u", name)
    ]
    return "ip", "netns", "exec", space, "env", *others, f"RAY_health_check_failure_threshold={DEAD_AFTER}"


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def _processes_in(space: str) -> list[int]:
    return [int(each) for each in _ip("netns", "pids", space).split()]
