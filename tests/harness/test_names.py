"""What a row is called: losses of a method are not the method, and a spelled-out default is no variant."""

from __future__ import annotations

import pytest

from harness.planning.choices import choose_methods
from harness.planning.config import resolve
from harness.planning.sections import RunConfig
from methods import registry
from results.ground.errors import HarnessError


def config(*methods: str, **values: object) -> RunConfig:
    experts = {"target_modules": ["q_proj", "o_proj"]}
    base = {"methods": list(methods), "experts": experts, "method_defaults": {}}
    return resolve("smoke", {**base, **values})


def display(*methods: str, **values: object) -> list[str]:
    return [choice.display for choice in choose_methods(config(*methods, **values))]


@pytest.mark.parametrize(("name", "full"), [("gmoe", "gmoe-graph"), ("ds-moe", "ds-moe-dense"), ("aesl", "AESL")])
def test_losses_of_a_method_are_called_so(name: str, full: str) -> None:
    """On the command line the name stays; the card says what rows are called and why."""
    card = registry.card(name)
    assert card.label == f"{name} loss"
    assert full in card.note
    assert " not " in card.note
    assert card.note.endswith(".")
    assert display(name) == [name]


def test_all_others_are_called_by_their_names() -> None:
    assert [name for name, card in registry.cards().items() if card.label] == ["gmoe", "ds-moe", "aesl"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mixer[route.eval_k=3]", "mixer"),
        ("mixer[route.eval_k=3,route.train_k=2]", "mixer[route.train_k=2]"),
        ("mixer[loss.entropy.coef=5e-2]", "mixer"),
        ("mixer[route.eval_k=2]", "mixer[route.eval_k=2]"),
        # A rank of its own moves alpha, so that the comparison's alpha is no default beside it.
        ("mixlora[lora.rank=16,lora.alpha=8.0]", "mixlora[lora.alpha=8.0,lora.rank=16]"),
    ],
)
def test_a_default_that_is_spelled_out_is_no_variant(text: str, shown: str) -> None:
    assert display(text) == [shown]
    (one,), (other,) = choose_methods(config(text)), choose_methods(config(shown))
    assert one.config == other.config


def test_the_comparisons_own_values_are_defaults() -> None:
    within = config("mixlora").experts
    assert display(f"mixlora[lora.rank={within.rank}]", f"hydralora[lora.lr={within.lr}]") == ["mixlora", "hydralora"]


def test_presets_move_defaults() -> None:
    """What a preset sets is the default: spelling that out is no variant, and going back to the card's is one."""
    moved = {"route.eval_k": 2}
    assert display("mixer[route.eval_k=2]", method_defaults=moved) == ["mixer"]
    assert display("mixer[route.eval_k=3]", method_defaults=moved) == ["mixer[route.eval_k=3]"]


RATES = {"mixer": {"router.lr": 1e-3}, "mixer[loss.entropy.sign=-1]": {"router.lr": 2e-3}}


def test_a_rate_that_trials_chose_is_of_its_row_alone_and_in_no_name() -> None:
    rows = ("mixer", "mixer[loss.entropy.sign=-1]", "mixer[route.eval_k=2]", "mixer-aux")
    chosen = choose_methods(config(*rows, tuned_rates=RATES))
    assert [one.display for one in chosen] == list(rows)
    assert [one.config["router"]["lr"] for one in chosen] == [1e-3, 2e-3, None, None]
    assert [dict(one.tuned) for one in chosen] == [{"router.lr": 1e-3}, {"router.lr": 2e-3}, {}, {}]
    # The same fit as a row that says the rate itself, so nothing is computed twice.
    (said,) = choose_methods(config("mixer[router.lr=1e-3]"))
    assert said.config == chosen[0].config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tuned_rates": {"mixr": {"router.lr": 1e-3}}}, "Unknown method 'mixr'"),
        ({"tuned_rates": {"mixer": {"route.eval_k": 1}}}, "Unknown learning rate of the method mixer 'route.eval_k'"),
        ({"tuned_rates": {"uniform": {"lr": 1}}}, "Unknown learning rate of the method uniform"),
        ({"tuned_rates": RATES, "tune": True}, "leave one out"),
    ],
)
def test_a_rate_of_nothing_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        choose_methods(config("mixer", **values))


def test_one_row_is_not_chosen_twice() -> None:
    with pytest.raises(HarnessError, match=r"mixer is chosen twice \(mixer\[route\.eval_k=3\] is the same\)"):
        choose_methods(config("mixer", "mixer[route.eval_k=3]"))


def test_a_preset_leaves_what_makes_a_name() -> None:
    """A key that a card sets is the method's own: MoR-LoRA routes to one expert under presets that ask for two."""
    for preset in ("smoke", "quick"):
        values = {"methods": ["mor-lora", "mixer", "lag"], "experts": {"target_modules": ["q_proj"]}}
        chosen = {choice.name: choice.config for choice in choose_methods(resolve(preset, values))}
        assert chosen["mor-lora"]["route"]["train_k"] == chosen["mor-lora"]["route"]["eval_k"] == 1
        assert chosen["lag"]["route"]["eval_k"] == 1
        assert chosen["mixer"]["route"]["eval_k"] == chosen["lag"]["route"]["filter_k"] == 2
