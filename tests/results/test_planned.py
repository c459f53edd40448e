"""One configuration for a whole run, wherever its rows and experts lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from results.ground.files import StoreError
from results.planned import plain
from results.schema import PlannedVariant, RunInfo


def configured(*configs: dict[str, Any]) -> RunInfo:
    variants = [PlannedVariant(config={"methods": [f"m{n}"], "seeds": [0], **one}) for n, one in enumerate(configs)]
    return RunInfo(name="run", variants=variants)


@pytest.mark.parametrize(
    ("published", "here"),
    [
        ({"data": "…/data"}, {"data": "/home/me/rows"}),
        ({"data": "bundled,arc=…/arc"}, {"data": "bundled,arc=/home/me/arc"}),
        ({"experts": {"paths": {"a": "…/a"}}}, {"experts": {"paths": {"a": "/home/me/a"}}}),
    ],
)
def test_a_run_that_another_machine_took_up_goes_on_with_its_folders(
    published: dict[str, Any], here: dict[str, Any]
) -> None:
    found = plain(configured(published, here), Path("run"))
    assert found == {
        "methods": ["m0", "m1"],
        "seeds": [0],
        "tasks": [],
        "method_overrides": {},
        "tuned_rates": {},
        **here,
    }


def test_rates_of_rows_are_joined_unless_they_contradict() -> None:
    rates = [{"mixer": {"router.lr": 1e-3}}, {"mole": {"gate.lr": 2e-3}}, {"mixer": {"router.lr": 3e-3}}]
    found = plain(configured({}, *({"tuned_rates": one} for one in rates[:2])), Path("run"))
    assert found["tuned_rates"] == rates[0] | rates[1]
    with pytest.raises(StoreError, match="set methods differently"):
        plain(configured(*({"tuned_rates": one} for one in rates)), Path("run"))


@pytest.mark.parametrize(
    ("one", "other", "key"),
    [
        ({"data": "bundled"}, {"data": "/home/me/rows"}, "data"),
        ({"data": "bundled"}, {"data": "hub"}, "data"),
        ({"data": "bundled,arc=/a"}, {"data": "bundled,boolq=/a"}, "data"),
        ({"experts": {"paths": {"a": "/a"}}}, {"experts": {"paths": {"b": "/a"}}}, r"experts\.paths"),
        ({"eval": {"limit": 2}}, {"eval": {"limit": 3}}, r"eval\.limit"),
    ],
)
def test_other_settings_are_not_chosen_among(one: dict[str, Any], other: dict[str, Any], key: str) -> None:
    with pytest.raises(StoreError, match=f"differ in {key}: a new run needs one of them"):
        plain(configured(one, other), Path("run"))
