"""Routing by kernels gives what routing by torch's own operations gives.

Triton comes with torch for CUDA. It needs a GPU, or `TRITON_INTERPRET=1 pytest tests/methods/routing/test_kernels.py`;
without either, the way to the kernels is tested with functions that do their work by torch.
"""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.base import Unsupported
from methods.routing.composed import RoutedComposed
from methods.routing.method import RoutedMethod
from methods.routing.sparsify import Sparsifier
from methods.tiny import tiny_batch, tiny_experts, tiny_llama, uneven_experts

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 5e-2}


def weighted(h: Tensor, logits: Tensor, experts: int, sites: int, kept: int, renorm: bool) -> Tensor:
    """What the kernels compute, `[tokens, sites, experts, rank]`."""
    w = Sparsifier(kept, kept, "sum" if renorm else "none")(logits.unflatten(1, (-1, experts)), False)
    return h.unflatten(1, (sites, experts, -1)) * w.to(h.dtype).unsqueeze(-1)


def by_torch(few: int, called: list[str]) -> Any:
    def weigh(h: Tensor, logits: Tensor, experts: int, sites: int, kept: int, renorm: bool) -> None:
        called.append("weigh")
        h.copy_(weighted(h, logits, experts, sites, kept, renorm).flatten(1))

    def weigh_and_add(y: Tensor, h: Tensor, logits: Tensor, B: Tensor, kept: int, renorm: bool) -> None:
        called.append("weigh_and_add")
        y.addmm_(weighted(h, logits, logits.shape[1], 1, kept, renorm).flatten(1), B)

    return SimpleNamespace(FEW=few, takes=lambda x: True, weigh=weigh, weigh_and_add=weigh_and_add)


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"


@pytest.fixture
def kernels() -> Any:
    """The module, where it can run."""
    pytest.importorskip("triton", reason="Triton comes with torch for CUDA")
    if DEVICE == "cpu" and not INTERPRETED:
        pytest.skip("Triton needs a GPU or TRITON_INTERPRET=1")
    return importlib.import_module("methods.routing.kernels")


def install(model: Any, experts: Any, **changes: Any) -> RoutedComposed:
    method = registry.create("mixer", {"route": {"train_k": 2, "eval_k": 2}, **changes})
    assert isinstance(method, RoutedMethod)
    return method.install(model, experts, seed=0)


@torch.no_grad()
def logits_of(model: Any) -> Tensor:
    found: Tensor = model(input_ids=tiny_batch().input_ids).logits
    return found


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("few", [0, 10_000])
@pytest.mark.parametrize("scope", ["per_projection", "shared_qkv", "per_layer"])
def test_logits_are_those_without_kernels(scope: str, few: int, dtype: torch.dtype) -> None:
    model = tiny_llama(dtype=dtype)
    composed = install(model, uneven_experts(tiny_experts(model)), router={"scope": scope})
    plain, called = logits_of(model), []
    for group in composed._groups:
        group.kernels = by_torch(few, called)  # type: ignore[union-attr]
    torch.testing.assert_close(logits_of(model), plain, rtol=0, atol=TOLERANCE[dtype])
    # A layer's router has its weights from elsewhere at all but one of its inputs.
    assert set(called) == (set() if scope == "per_layer" else {"weigh_and_add" if few else "weigh"})
    composed.uninstall()
    assert (logits_of(model) - plain).abs().max() > 0.1


@pytest.mark.parametrize("name", [name for name in registry.names() if registry.card(name).track == "compose"])
@pytest.mark.parametrize("few", [0, 10_000])
def test_methods_over_frozen_experts_are_the_same_with_kernels(name: str, few: int) -> None:
    model = tiny_llama(dtype=torch.float32)
    composed = registry.create(name).install(model, tiny_experts(model), seed=0)
    plain = logits_of(model)
    for group in getattr(composed, "_groups", ()):
        group.kernels = by_torch(few, [])
    torch.testing.assert_close(logits_of(model), plain, rtol=0, atol=TOLERANCE[torch.float32])
    composed.uninstall()


def test_passes_that_somebody_looks_at_use_no_kernel() -> None:
    model = tiny_llama()
    composed = install(model, tiny_experts(model))
    plain = logits_of(model)
    broken = SimpleNamespace(takes=lambda x: True)
    for group in composed._groups:
        group.kernels = broken  # type: ignore[union-attr]
    with pytest.raises(AttributeError):
        logits_of(model)
    with composed.task("a", None):
        assert torch.equal(logits_of(model), plain)
    assert torch.equal(model(input_ids=tiny_batch().input_ids).logits, model(input_ids=tiny_batch().input_ids).logits)
    composed.uninstall()


@pytest.mark.skipif(find_spec("triton") is not None, reason="Triton is installed")
def test_kernels_without_triton_are_refused() -> None:
    model = tiny_llama()
    composed = install(model, tiny_experts(model))
    with pytest.raises(Unsupported, match="Triton"):
        composed.use_kernels()
    composed.uninstall()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("sites", "routers", "experts", "rank", "kept"), [(3, 3, 6, 16, 3), (3, 1, 5, 4, 1), (1, 1, 7, 3, 7)]
)
@pytest.mark.parametrize("renorm", [True, False])
def test_triton_computes_what_torch_does(
    kernels: Any, sites: int, routers: int, experts: int, rank: int, kept: int, renorm: bool, dtype: torch.dtype
) -> None:
    draw = torch.Generator().manual_seed(0)
    width, tokens, d_out = sites * experts * rank, 5, 70
    both = torch.randn(tokens, width + 3, generator=draw).to(DEVICE, dtype)
    h, rest = both[:, :width], both[:, width:].clone()
    logits = torch.randn(tokens, routers * experts + 2, generator=draw).to(DEVICE)[:, :-2]
    y = torch.randn(tokens, d_out, generator=draw).to(DEVICE, dtype)
    B = torch.randn(experts * rank, d_out, generator=draw).to(DEVICE, dtype)
    expected = weighted(h, logits, experts, sites, kept, renorm)
    added = torch.addmm(y.double(), expected[:, 0].flatten(1).double(), B.double())
    kernels.weigh_and_add(y, h[:, : experts * rank], logits[:, :experts], B, kept, renorm)
    torch.testing.assert_close(y.double(), added, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    kernels.weigh(h, logits, experts, sites, kept, renorm)
    torch.testing.assert_close(h, expected.flatten(1), rtol=0, atol=TOLERANCE[dtype])
    assert torch.equal(both[:, width:], rest)


@pytest.mark.parametrize("rows", [1, 9])
def test_triton_routes_a_model(kernels: Any, rows: int) -> None:
    model: Any = tiny_llama().to(DEVICE)
    composed = install(model, tiny_experts(model))
    ids = tiny_batch().input_ids[:1, :2].repeat(rows, 1).to(DEVICE)
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        composed.use_kernels()
        torch.testing.assert_close(model(input_ids=ids).logits, plain, rtol=0, atol=TOLERANCE[torch.float32])
    composed.uninstall()


def test_double_precision_is_left_to_torch(kernels: Any) -> None:
    assert kernels.takes(torch.zeros(1, device=DEVICE))
    assert not kernels.takes(torch.zeros(1, dtype=torch.float64, device=DEVICE))


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton comes with torch for CUDA")
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_kernels_compile_for_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """The interpreter takes more than the compiler does: what names an argument's type, for one."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter compiles nothing")
    monkeypatch.setenv("TRITON_ALWAYS_COMPILE", "1")
    triton: Any = importlib.import_module("triton")
    source = importlib.import_module("triton.compiler").ASTSource
    target = importlib.import_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    module: Any = importlib.import_module("methods.routing.kernels")
    sizes = {"experts": 6, "rank": 16, "kept": 3, "renorm": True, "block_n": 8, "block_r": 16}
    tensors = {"y": f"*{dtype}", "h": f"*{dtype}", "logits": "*fp32", "B": f"*{dtype}"}
    for kernel, more in ((module._weigh, {"routers": 3}), (module._weigh_and_add, {"columns": 64})):
        constants = sizes | more
        others = {name: "constexpr" if name in constants else "i32" for name in kernel.arg_names}
        signature = {name: tensors.get(name, kind) for name, kind in others.items()}
        assert triton.compile(source(kernel, signature, constants), target=target).asm["cubin"]
