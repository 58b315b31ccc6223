"""The nodes of the cluster, as Ray lists them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ray

__all__ = ["Node", "gone_devices", "listed_nodes"]

ENDED = (1, 3, 4)  # NodeDeathInfo in gcs.proto: expected termination, and drained by the autoscaler


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    id: str
    host: str
    gpus: int
    """Of a dead node Ray lists none."""
    lives: bool
    """As far as Ray knows: a node that cannot be reached counts as dead after a while."""
    ended: bool
    """Whether it is dead and has said so itself: then nothing runs there any more."""


def listed_nodes() -> list[Node]:
    """Return the nodes that Ray lists, dead ones included."""
    return [_node(each) for each in ray.nodes()]


def gone_devices(node_ids: Mapping[str, str], nodes: Iterable[Node]) -> dict[str, bool]:
    """Return the devices whose nodes are dead, each with whether its node has said so itself.

    `node_ids` are the ids of the devices' nodes.
    """
    dead = {node.id: node.ended for node in nodes if not node.lives}
    return {device: dead[node_id] for device, node_id in node_ids.items() if node_id in dead}


def _node(listed: dict[str, Any]) -> Node:
    return Node(
        id=listed["NodeID"],
        host=listed["NodeManagerHostname"],
        gpus=int(listed["Resources"].get("GPU", 0)),
        lives=listed["Alive"],
        ended=listed["DeathReason"] in ENDED,
    )
