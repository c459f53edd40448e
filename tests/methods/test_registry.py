"""The registry: cards, names of variants, configuration keys."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods import registry
from methods.naming import display, flatten, nest, parse
from results.ground import plugins
from results.ground.errors import HarnessError
from results.ground.front_matter import CardError

CARD = """---
name: {name}
summary: An outside method.
track: compose
class: methods.uniform:Uniform
config: {{}}
paper: ""
trained: nothing
task_identity: not
order: 999
---
# {name}
"""

KEYS = st.lists(st.from_regex(r"[a-z][a-z_]{0,6}", fullmatch=True), min_size=1, max_size=3).map(".".join)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3))


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_variants_round_trip(overrides: dict[str, Any]) -> None:
    text = display("mixer", overrides)
    assert parse(text) == ("mixer", overrides)
    assert display(*parse(text)) == text


def test_display_sorts_and_reads_nested_values() -> None:
    nested = {"route": {"train_k": 2}, "loss": {"entropy": {"sign": -1}}}
    assert display("mixer", nested) == "mixer[loss.entropy.sign=-1,route.train_k=2]"
    assert display("base", {}) == "base"
    assert nest(flatten(nested)) == nested


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("m[a=1e-3]", {"a": 0.001}),
        ("m[a=.5, b=true , c=null]", {"a": 0.5, "b": True, "c": None}),
        ("m[a=[x,y],b=2]", {"a": ["x", "y"], "b": 2}),
        ("m[a=\"1\",b='x,y']", {"a": "1", "b": "x,y"}),
        ("m[]", {}),
    ],
)
def test_values_are_yaml_scalars(text: str, overrides: dict[str, Any]) -> None:
    assert parse(text) == ("m", overrides)


@pytest.mark.parametrize("text", ["", "a b", "m[a]", "m[=1]", "m[a=1,a=2]", "m[a=1", "m[a={]"])
def test_unreadable_variants_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Cannot read|stands twice|is not closed"):
        parse(text)


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys; from methods import registry; "
        "[registry.card(name) for name in registry.names()]; "
        "registry.parse('mixer[a=1]'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_unknown_method_offers_the_nearest() -> None:
    with pytest.raises(registry.UnknownMethod, match="did you mean mixer"):
        registry.create("mixr")


@pytest.mark.parametrize(
    ("key", "hint"),
    [("loss.entrpy.sign", "loss.entropy.sign"), ("eval_k", "route.eval_k"), ("loss", "loss.outer")],
)
def test_unknown_key_offers_the_nearest(key: str, hint: str) -> None:
    with pytest.raises(ValueError, match=rf"no configuration key '{key}': did you mean .*{hint}"):
        registry.create("mixer", {key: 1})
    with pytest.raises(ValueError, match="no configuration key 'x': it has none"):
        registry.create("base", {"x": 1})


def test_overrides_are_merged_deeply() -> None:
    dotted = registry.create("mixer", {"loss.entropy.sign": -1})
    nested = registry.create("mixer", {"loss": {"entropy": {"sign": -1}}})
    assert dotted.config == nested.config
    resolved = dotted.config.model_dump()
    assert resolved["loss"]["entropy"] == {"coef": 0.05, "sign": -1}
    assert resolved["loss"]["aux"]["coef"] == 0.1


def test_wrong_values_are_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^mixer: route\.train_k: it must be a whole number"):
        registry.create("mixer", {"route.train_k": "many"})
    with pytest.raises(ValueError, match=r"^mixer: routers that start at zero tie all experts"):
        registry.create("mixer", {"router.init_std": 0})


def test_config_keys_hold_defaults() -> None:
    keys = registry.config_keys("mixer")
    assert keys["loss.entropy.sign"] == 1
    assert keys["route.eval_k"] == 3
    assert registry.config_keys("base") == {}


def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str | None = None) -> None:
    """Install a package of cards and announce it as an entry point."""
    (tmp_path / "outside_cards").mkdir()
    (tmp_path / "outside_cards" / "__init__.py").touch()
    (tmp_path / "outside_cards" / f"{name}.md").write_text(text or CARD.format(name=name))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "outside_cards", raising=False)
    points = [SimpleNamespace(name="outside", value="outside_cards")]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points if group == registry.GROUP else [])
    registry._read.cache_clear()


@pytest.fixture(autouse=True)
def _fresh_cards() -> Any:
    plugins._said.clear()
    yield
    registry._read.cache_clear()


def test_outside_packages_add_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside(tmp_path, monkeypatch, "mean-again")
    assert registry.names()[-1] == "mean-again"
    assert type(registry.create("mean-again")).__name__ == "Uniform"


def test_a_name_of_ours_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    outside(tmp_path, monkeypatch, "uniform")
    assert registry.card("uniform").target.startswith("methods.")
    assert "'uniform' of the package outside_cards is left out (it has the name of one in" in capsys.readouterr().err


def test_two_of_our_own_cards_with_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_cards").mkdir()
    (tmp_path / "own_cards" / "__init__.py").write_text("")
    for name in ("a", "b"):
        (tmp_path / "own_cards" / f"{name}.md").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CardError, match="twice one"):
        plugins.cards(
            "own_cards", "none", lambda _: SimpleNamespace(name="one"), lambda name: CardError(f"twice {name}")
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# no front matter", "needs YAML front matter"),
        (CARD.format(name="other"), "file and name must agree"),
        (CARD.format(name="odd").replace("order: 999\n", ""), "lacks or does not know the fields order"),
        (CARD.format(name="odd").replace("track: compose", "track: solo"), "needs a track of"),
        (CARD.format(name="odd").replace("order: 999", "order: last"), "needs a whole number as its order"),
        (CARD.format(name="odd").replace("config: {}", "config: [a]"), "a mapping as its config"),
    ],
)
def test_malformed_cards_are_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, text: str, message: str
) -> None:
    ours = registry.names()
    outside(tmp_path, monkeypatch, "odd", text)
    assert registry.names() == registry.names() == ours
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert message in said[0]
    assert "A card of the package outside_cards is left out" in said[0]
    with pytest.raises(CardError, match=message):
        registry.read_card(tmp_path / "outside_cards" / "odd.md")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CARD.format(name="odd").replace("config: {}", "config: {a: 1}"), "The card of odd has no configuration key"),
        (CARD.format(name="odd").replace("methods.uniform:Uniform", "nowhere:Odd"), "No module named 'nowhere'"),
        (CARD.format(name="odd").replace("methods.uniform:Uniform", "json:dumps"), "is no subclass of methods.base"),
    ],
)
def test_a_broken_method_of_a_package_is_no_usable_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, text: str, message: str
) -> None:
    ours = registry.names()
    outside(tmp_path, monkeypatch, "odd", text)
    assert registry.names() == [*ours, "odd"]
    assert registry.usable() == ours
    assert message in capsys.readouterr().err
    with pytest.raises(HarnessError, match=message):
        registry.create("odd")
