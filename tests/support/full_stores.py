"""Fill the object store of each node of a Ray cluster until stdin is closed: `python full_stores.py ADDRESS`."""

import sys
from typing import Any

import ray
from ray.exceptions import ObjectStoreFullError, OutOfDiskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

PIECE_BYTES = 1024 * 1024


class Filler:
    """Holds what it has put into the store of its node."""

    def fill(self) -> None:
        """Put pieces until there is no room for another."""
        self._held = []
        try:
            while True:
                self._held.append(ray.put(bytes(PIECE_BYTES)))
        except (ObjectStoreFullError, OutOfDiskError):
            return


def main(address: str) -> None:
    """Fill the stores."""
    ray.init(address=address, log_to_driver=False)
    nodes = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
    remote: Any = ray.remote(Filler)
    fillers = [remote.options(num_cpus=0, scheduling_strategy=node).remote() for node in nodes]
    ray.get([filler.fill.remote() for filler in fillers])
    sys.stdout.write("full\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
