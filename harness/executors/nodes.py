"""The nodes of a Ray cluster: what a worker takes of one, how many fit, and whether they share the run's folders."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.executors.units import see
from harness.executors.worker import greet, sources, token_file
from results.ground.damage import said_of
from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.engine import Engine

_HANDED = re.compile(
    r"HARNESS_|HF_|HUGGINGFACE_|TRANSFORMERS_|TOKENIZERS_|XDG_CACHE_HOME|(?i:(HTTPS?|ALL|NO)_PROXY)"
    r"|AWS_|FSSPEC_|AZURE_STORAGE_|GOOGLE_APPLICATION_CREDENTIALS"
)
"""Variables that decide what a run reads: caches, hub, proxies, a remote store. A judge's key is added by its name."""
_GREETING = 120.0
"""Seconds for a node to import the harness and answer."""


@dataclass(frozen=True)
class Node:
    """A node that is alive.

    Attributes:
        key: its id.
        name: for people: the host, and the beginning of the id.
        cpus, gpus, memory: what it offers; bytes.
    """

    key: str
    name: str
    cpus: float
    gpus: float
    memory: float


@dataclass(frozen=True)
class Share:
    """What one worker takes: threads, graphics processors, bytes of memory."""

    cpus: int
    gpus: int
    memory: int

    def fits(self, node: Node) -> int:
        """Workers that a node has room for."""
        room = [node.cpus // self.cpus, node.memory // self.memory]
        return int(min([*room, node.gpus // self.gpus] if self.gpus else room))

    def options(self) -> dict[str, Any]:
        """The same as Ray's options of an actor; a worker that is lost is nobody's to start again but the run's."""
        return {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "memory": self.memory,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
        }

    def said(self) -> str:
        """In words."""
        gpu = "" if not self.gpus else "one GPU, " if self.gpus == 1 else f"{self.gpus} GPUs, "
        return f"{gpu}{self.cpus} CPU and {self.memory / 2**30:.1f} GiB"


def alive(found: Iterable[Mapping[str, Any]]) -> list[Node]:
    """The living ones of `ray.nodes()`."""
    nodes = []
    for one in found:
        if one["Alive"]:
            has, key = one["Resources"], str(one["NodeID"])
            name = f"{one['NodeManagerHostname']} ({key[:8]})"
            nodes.append(Node(key, name, *(float(has.get(kind, 0)) for kind in ("CPU", "GPU", "memory"))))
    return nodes


def share(engines: Sequence[Engine], nodes: Sequence[Node], threads: int) -> Share:
    """What a worker of a run takes, its memory what `--plan` prints for the largest base model.

    A GPU each where the run may use one and the cluster has any, with an equal part of its node's cores, and all GPUs
    of a node where a base model is spread over them; else as many cores as this process has threads, so that sums are
    taken in the same order as here.

    Raises:
        HarnessError: the run asks for GPUs, and the cluster has none.
    """
    asked = {engine.plan.config.model.device for engine in engines}
    memory = max(one.facts.memory for one in engines)
    on_gpus = [node for node in nodes if node.gpus >= 1] if asked != {"cpu"} else []
    if not on_gpus and (device := next((one for one in asked if one not in ("auto", "cpu")), None)):
        raise HarnessError(f"No node of the cluster has a GPU for the device '{device}': choose --device auto or cpu.")
    if on_gpus:
        spread = any(engine.plan.config.model.device_map is not None for engine in engines)
        gpus = int(min(node.gpus for node in on_gpus)) if spread else 1
        return Share(max(1, min(int(node.cpus * gpus // node.gpus) for node in on_gpus)), gpus, memory)
    most = max((int(node.cpus) for node in nodes), default=1)
    return Share(max(1, min(threads, most)), 0, memory)


def places(part: Share, nodes: Sequence[Node]) -> int:
    """Workers that the cluster has room for.

    Raises:
        HarnessError: none.
    """
    if found := sum(part.fits(node) for node in nodes):
        return found
    rooms = "; ".join(
        f"{node.name} has {node.gpus:g} GPU, {node.cpus:g} CPU, {node.memory / 2**30:.1f} GiB" for node in nodes
    )
    raise HarnessError(
        f"No node of the cluster has room for a worker, which takes {part.said()} ({rooms}): set OMP_NUM_THREADS "
        "for fewer threads, add a node, or say --workers N where nodes are added on demand."
    )


def handed(engines: Sequence[Engine], address: str) -> dict[str, str]:
    """The variables that workers take over from this process.

    Args:
        engines: of the run; the judges of their tasks may name variables with keys.
        address: of the stage store.
    """
    from harness.assets import cache_root

    names = {name for name in os.environ if _HANDED.match(name)}
    for judge in (engine.plan.config.judge for engine in engines):
        names |= _variables(judge)
    found = {name: os.environ[name] for name in sorted(names) if name in os.environ}
    return found | {"HARNESS_STAGES": address, "HARNESS_CACHE": str(cache_root().resolve())}


def _variables(judge: Mapping[str, Any]) -> set[str]:
    from tasks.judge import PRESETS

    given = [judge.get("api_key_env"), PRESETS.get(str(judge.get("preset")), {}).get("api_key_env")] if judge else []
    return {str(name) for name in given if name}


class Handshake:
    """Sees before any work, node by node, that it has the same harness and the same folders as this machine.

    Args:
        cluster: the module `ray`.
        folders: the run's and, unless it is remote, the stage store's; absolute.
        directory: that relative paths of the run start from.
    """

    def __init__(self, cluster: Any, folders: Sequence[Path], directory: Path) -> None:
        self._cluster = cluster
        self._folders = [str(folder) for folder in folders]
        self._directory = str(directory)
        self._sources = sources()

    def refusals(self, nodes: Sequence[Node]) -> dict[str, str]:
        """One sentence, by id, for each node that cannot take part; they are asked at the same time."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        token = uuid.uuid4().hex[:12]
        ask = self._cluster.remote(num_cpus=0, max_retries=0)(greet)
        try:
            for folder in self._folders:
                with said_of(Path(folder)):
                    Path(folder).mkdir(parents=True, exist_ok=True)
                    token_file(folder, token).write_text(token)
            answers = {
                node: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.key, soft=False)).remote(
                    self._folders, self._directory, token, node.key
                )
                for node in nodes
            }
            found = {node.key: self._refusal(node, answer, token) for node, answer in answers.items()}
            return {key: said for key, said in found.items() if said}
        finally:
            for folder in self._folders:
                for file in Path(folder).glob(f".handshake-{token}*"):
                    with contextlib.suppress(OSError):
                        file.unlink()

    def _refusal(self, node: Node, answer: Any, token: str) -> str:
        from ray.exceptions import GetTimeoutError, RayError

        here, mend = self._sources, "install the same version there"
        try:
            theirs, folder, why = self._cluster.get(answer, timeout=_GREETING)
        except GetTimeoutError:
            return f"The node {node.name} did not answer within {_GREETING:.0f} s: take it out of the cluster."
        except RayError as error:
            said = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
            return f"The node {node.name} cannot start this harness ({said.strip():.120}): {mend}."
        if theirs != here:
            return f"The node {node.name} has another harness than this machine (sources {theirs}, {here}): {mend}."
        shared = "put it on a file system that all nodes see"
        if why:
            return f"The node {node.name} cannot use {folder} ({why}): {shared}."
        for place in self._folders:
            try:
                see(token_file(place, token, node.key).exists, place)
            except RuntimeError:
                return f"The node {node.name} has a {place} of its own: {shared}."
        return ""
