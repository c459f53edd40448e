"""Clusters of several raylets on this machine."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

collect_ignore = [] if importlib.util.find_spec("ray") else ["test_ray.py"]

SMALL = 80 * 2**20
"""Bytes of a raylet's object store, the least that Ray takes: what workers hand back is a few words."""


@contextmanager
def raylets(count: int, **options: Any) -> Iterator[tuple[Any, list[Any]]]:
    """A head that computes nothing and some nodes of one CPU each, with this process joined."""
    import ray
    from ray.cluster_utils import Cluster

    heeded = signal.getsignal(signal.SIGTERM)
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 5}
    head = {"num_cpus": 0, "object_store_memory": SMALL, "include_dashboard": False, "_system_config": quick}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.getcwd())
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes = [cluster.add_node(num_cpus=1, object_store_memory=SMALL, **options) for _ in range(count)]
            patch.setenv("RAY_ADDRESS", cluster.address)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            yield cluster, nodes
        finally:
            ray.shutdown()
            cluster.shutdown()
            signal.signal(signal.SIGTERM, heeded)
