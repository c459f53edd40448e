"""Other configurations of merges do what every method must do."""

from __future__ import annotations

from typing import Any

import pytest

from methods import conformance, registry

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("ties", {"trim": "expert", "tie": "majority"}),
    ("ties", {"rank": 3, "fold": False}),
    ("dare", {"combine": "ties", "rank": 3}),
    ("svd", {"fold": False, "rank": 2}),
    ("lego", {"fold": False, "space": "separately_normalised", "sign_align": True, "norm": "l2"}),
    ("lorahub", {"mode": "pooled", "fold": False, "budget": 12}),
    ("cat-soup", {"lr": None}),
]


@pytest.mark.parametrize(("name", "overrides"), VARIANTS, ids=[registry.display(*variant) for variant in VARIANTS])
def test_variants_conform(name: str, overrides: dict[str, Any]) -> None:
    conformance.check(name, overrides)
