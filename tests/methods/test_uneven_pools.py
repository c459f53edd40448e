"""Experts from outside: of unequal ranks, scales and sites, in every method that takes experts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.base import Expert, SiteFactors, Unsupported
from methods.tiny import TinySession, model_logits, tiny_batch, tiny_comparison, tiny_experts, tiny_llama

NAMES = ("a", "b", "c", "d")
TAKING = [name for name in registry.names() if registry.create(name).depends_on(NAMES, "a")]
REFUSED = {"lorahub": "LoRAHub adds the factors of its experts, and 'a' has rank 4 .* where 'b' has rank 2"}
# The number of units and their mean rank are the merge's own business, and zero units would be some.
COUNTS_UNITS = {"lego"}


def uneven(model: Any) -> list[Expert]:
    """`b` of rank 2, `c` without two sites, `d` scaled as rsLoRA would."""
    a, b, c, d = tiny_experts(model, NAMES)
    low = {site: SiteFactors(f.A[:2], f.B[:, :2], 0.5) for site, f in b.sites.items()}
    absent = ("model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.o_proj")
    fewer = {site: f for site, f in c.sites.items() if site not in absent}
    rooted = {site: SiteFactors(f.A, f.B, 8 / 4**0.5) for site, f in d.sites.items()}
    return [a, Expert("b", low), Expert("c", fewer), Expert("d", rooted)]


def evened(pool: list[Expert]) -> list[Expert]:
    """The same updates with equal ranks and sites: zeros fill what is missing."""
    shapes = {site: (f.A.shape[1], f.B.shape[0]) for expert in pool for site, f in expert.sites.items()}
    made = []
    for expert in pool:
        sites = {}
        for site, (d_in, d_out) in shapes.items():
            A, B = torch.zeros(4, d_in, dtype=torch.float64), torch.zeros(d_out, 4, dtype=torch.float64)
            scale = 1.0
            if site in expert.sites:
                f = expert.sites[site]
                A[: len(f.A)], B[:, : len(f.A)], scale = f.A, f.B, f.scale
            sites[site] = SiteFactors(A, B, scale)
        made.append(Expert(expert.name, sites))
    return made


def outcome(name: str, *, even: bool, overrides: dict[str, Any] | None = None) -> tuple[Tensor, Tensor]:
    """Logits as installed and as fitted."""
    model = tiny_llama(dtype=torch.float64)
    method = registry.create(name, overrides).within(tiny_comparison(NAMES))
    pool = uneven(model)
    wanted = method.depends_on(NAMES, "b")
    pool = [expert for expert in (evened(pool) if even else pool) if expert.name in wanted]
    composed = method.install(model, pool, seed=0)
    batch, found = tiny_batch(), []
    with composed.task("b", "b"):
        for fitted in (False, True):
            if fitted:
                method.fit(composed, TinySession(steps=2))
            with torch.no_grad():
                found.append(model_logits(model, batch.input_ids, batch.attention_mask))
    return found[0], found[1]


@pytest.mark.parametrize("name", [name for name in TAKING if name not in REFUSED])
def test_what_is_missing_counts_as_zero(name: str) -> None:
    """A lower rank is a higher one with zeros, and a missing site a zero update; scales are each expert's own."""
    for mine, theirs in zip(outcome(name, even=False), outcome(name, even=True), strict=True):
        assert bool(mine.isfinite().all())
        if name not in COUNTS_UNITS:
            assert (mine - theirs).abs().max() < 1e-9


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_added_is_refused_by_name(name: str) -> None:
    with pytest.raises(Unsupported, match=REFUSED[name]):
        outcome(name, even=False)
    assert bool(outcome(name, even=True)[1].isfinite().all())


def test_scales_are_not_taken_from_another_expert() -> None:
    """The control: with one scale for all, the uniform average is another."""
    model = tiny_llama(dtype=torch.float64)
    pool = [
        Expert(expert.name, {site: SiteFactors(f.A, f.B, 2.0) for site, f in expert.sites.items()})
        for expert in uneven(model)
    ]
    registry.create("uniform").install(model, pool, seed=0)
    batch = tiny_batch()
    with torch.no_grad():
        flat = model_logits(model, batch.input_ids, batch.attention_mask)
    assert (flat - outcome("uniform", even=False)[0]).abs().max() > 1e-3
