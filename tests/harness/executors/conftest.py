"""Clusters of several raylets on this machine."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from methods import registry

collect_ignore = [] if importlib.util.find_spec("ray") else ["test_ray.py"]

SMALL = 80 * 2**20
"""Bytes of a raylet's object store, the least that Ray takes: what workers hand back is a few words."""


@pytest.fixture(autouse=True, scope="module")
def _nothing_stays_behind() -> Iterator[None]:
    """Methods in files stay here; and this process computes with one thread, like each of the workers."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_BROUGHT", dict(registry._BROUGHT))
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


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
        patch.setenv("RAY_worker_niceness", "0")  # 15 by default: on a busy machine they would hardly start
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


SLEEPY = Path(__file__).with_name("sleepy.py")


def sleepers(count: int, seconds: float) -> str:
    """So many methods that sleep, each a composed model of its own."""
    return ",".join(f"{SLEEPY}[seconds={seconds + at / 10000}]" for at in range(count))


def sleeps(log: Path) -> dict[str, list[tuple[float, float]]]:
    """When who slept: by node, in order."""
    found = defaultdict(list)
    for entry in log.read_text().splitlines() if log.exists() else []:
        node, began, ended = entry.split()
        found[node].append((float(began), float(ended)))
    return {node: sorted(times) for node, times in found.items()}


def busy(log: Path) -> float:
    """The share of the time between its first and its last cell that a worker sleeps, of all workers."""
    spans = sleeps(log).values()
    return sum(end - start for times in spans for start, end in times) / sum(
        times[-1][1] - times[0][0] for times in spans
    )


@pytest.fixture(scope="module")
def three() -> Iterator[tuple[Any, list[Any]]]:
    """Three nodes."""
    with raylets(3) as found:
        yield found
