"""The table of agreements: every method is in it, every number in it is asserted by the test that it names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from methods import registry
from methods.agreements import Agreement, agreed, agreements, table

ROOT = Path(__file__).parents[2]
PEERS = agreements().peers


def test_every_method_has_a_peer_or_a_reason() -> None:
    compared = {one.method for one in PEERS}
    own = {name for name in registry.names() if registry.card(name).target.startswith("methods.")}
    assert compared | agreements().alone.keys() == own
    assert not compared & agreements().alone.keys()
    assert all(agreements().alone.values())
    assert len({(one.method, one.setting, one.peer, one.test) for one in PEERS}) == len(PEERS)


@pytest.mark.parametrize("one", PEERS, ids=lambda one: f"{one.method}-{one.peer}")
def test_numbers_are_asserted_where_it_says(one: Agreement) -> None:
    """The named test exists, asks for this very comparison, and uses each number that is given and none that is not."""
    file, _, name = one.test.partition("::")
    source = (ROOT / file).read_text()
    (function,) = [f for f in ast.walk(ast.parse(source)) if isinstance(f, ast.FunctionDef) and f.name == name]
    calls = [
        [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "agreed"
    ]
    assert [one.method, one.peer, *([one.setting] if one.setting else [])] in calls
    used = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
    for kind in ("output", "loss", "gradient"):
        assert (getattr(one, kind) is not None) == (kind in used), kind
    assert (one.output, one.loss, one.gradient) != (None, None, None)


@pytest.mark.parametrize("one", [one for one in PEERS if one.how == "run"], ids=lambda one: one.method)
def test_versions_are_those_pinned(one: Agreement) -> None:
    """An environment with older versions may run these tests too; what is written down is the pinned one's."""
    assert f"{one.peer}=={one.version}" in (ROOT / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize("one", [one for one in PEERS if one.setting], ids=lambda one: one.method)
def test_settings_are_variants(one: Agreement) -> None:
    name, overrides = registry.parse(f"{one.method}[{one.setting}]")
    registry.create(name, overrides)


def test_rows() -> None:
    rows = table(["base", "mixlora"])
    assert rows[0][:2] == ("`base`", "none: nothing is added to the base model")
    assert rows[1] == ("`mixlora`", "mixlora 0.2.3", "1e-5", "", "1e-5")
    with pytest.raises(KeyError, match="mixer was not compared with peft"):
        agreed("mixer", "peft")
