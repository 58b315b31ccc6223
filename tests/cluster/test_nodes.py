"""Nodes of a cluster as Ray lists them."""

from typing import Any

import pytest
import ray

from wan_mcp.cluster.nodes import gone_devices, listed_nodes

ALIVE: dict[str, Any] = {"NodeManagerHostname": "box", "Alive": True, "DeathReason": 0, "Resources": {"GPU": 2.0}}
DEAD = ALIVE | {"Alive": False, "DeathReason": 2, "Resources": {}}
"""As Ray 2.60 lists a node that died: without its GPUs."""
DRAINED = DEAD | {"DeathReason": 4}


def test_all_gpus_of_a_dead_node_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    table = [ALIVE | {"NodeID": "a"}, DEAD | {"NodeID": "b"}, DRAINED | {"NodeID": "c"}, DEAD | {"NodeID": "d"}]
    monkeypatch.setattr(ray, "nodes", lambda: table)
    node_ids = {"cuda:0@a": "a", "cuda:0@b": "b", "cuda:1@b": "b", "cuda:0@c": "c", "cuda:0@new": "e"}
    assert gone_devices(node_ids, listed_nodes()) == {"cuda:0@b": False, "cuda:1@b": False, "cuda:0@c": True}
