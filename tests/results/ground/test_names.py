"""Names that people type: near ones are offered, lists are split where a person would."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from methods.naming import display, parse
from results.ground.names import ListError, UnknownName, commas, nearest, respelled, unknown


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("mixer,mole", ["mixer", "mole"]),
        (" mixer , mole ,", ["mixer", "mole"]),
        ("mixer[a=1,b=[2,3]],mole", ["mixer[a=1,b=[2,3]]", "mole"]),
        ("a={x: 1, y: 2},b", ["a={x: 1, y: 2}", "b"]),
        ('lorahub[transfer.from="a,b]c"],mole', ['lorahub[transfer.from="a,b]c"]', "mole"]),
        (r'a="x\",y",b', [r'a="x\",y"', "b"]),
        ("a='it''s, so',b", ["a='it''s, so'", "b"]),
        ("math=/home/o'neil/lora,code", ["math=/home/o'neil/lora", "code"]),
        ("", []),
    ],
)
def test_commas_inside_brackets_and_quotes_do_not_split(text: str, parts: list[str]) -> None:
    assert commas(text) == parts


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("mixer[a=1,mole", r"the bracket \[ is not closed: add \]\."),
        ("mixer[a=[1,2],mole", r"the bracket \[ is not closed"),
        ("mixer],mole", r"the bracket \] closes none that is open"),
        ("mixer[a={1]}", r"the bracket \] closes none"),
        ('mixer[a="x],mole', 'the quote " is not closed: close it'),
        ("sst2,,mrpc", "nothing stands before a comma: give a name there"),
        (",sst2", "nothing stands before a comma"),
        (" , ", "nothing stands before a comma"),
    ],
)
def test_what_is_left_open_is_one_sentence(text: str, mend: str) -> None:
    with pytest.raises(ListError, match=mend):
        commas(text)


VALUES = st.text(max_size=9) | st.integers() | st.lists(st.text(max_size=3), max_size=3)
OVERRIDES = st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), max_size=3)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(OVERRIDES)
@example([{"a": "..."}])
def test_variants_as_they_are_shown_are_split_again(variants: list[dict[str, object]]) -> None:
    shown = [display("mixer", overrides) for overrides in variants]
    assert commas(",".join(shown)) == [text.strip() for text in shown]
    assert [parse(text)[1] for text in commas(",".join(shown))] == variants


@pytest.mark.parametrize(
    ("typed", "row"),
    [
        ("mixer[b=2, a=1]", "mixer[a=1,b=2]"),
        (" mixer[a=1,b=2]", "mixer[a=1,b=2]"),
        ("mixer", "mixer"),
        ("mixer[a=1]", "mixer[a=1]"),
        ("mixer[a=1,b=[2,1]]", "mixer[a=1,b=[2,1]]"),
        ("mixer[a=1", "mixer[a=1"),
        ("mixer]", "mixer]"),
        ("lora (seed 1)", "lora (seed 1)"),
    ],
)
def test_settings_in_another_order_name_the_same_row(typed: str, row: str) -> None:
    assert (
        respelled(typed, ["mixer[a=1] (run)", "mixer", "mixer[a=1,b=[1,2]]", "mixer[a=1,b=2]", "lora (seed 1)"]) == row
    )


def test_up_to_three_near_names_are_offered_else_all() -> None:
    assert nearest("mixr", ["mixer", "mole", "mixer-joint"]) == "did you mean mixer or mixer-joint?"
    assert nearest("entropy.sign", ["loss.entropy.sign"]) == "did you mean loss.entropy.sign?"
    assert nearest("zzz", ["mixer", "mole"]) == "known: mixer, mole."
    assert nearest("zzz", []) == "there is none."


def test_an_unknown_name_is_one_sentence_of_the_class_asked_for() -> None:
    class UnknownMethod(UnknownName):
        pass

    error = unknown("method", "mixr", ["mixer"], UnknownMethod)
    assert type(error) is UnknownMethod
    assert str(error) == "Unknown method 'mixr': did you mean mixer?"
