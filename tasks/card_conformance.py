"""What every task's card must say, whoever wrote it; part of `tasks.conformance`."""

from __future__ import annotations

from collections.abc import Callable

from tasks import registry
from tasks.base import PARTS, BoundTask, Task
from tasks.card import TaskCard


def check_card(card: TaskCard) -> None:
    """Everything that can be seen without rows.

    Raises:
        AssertionError: one sentence for the first thing that is wrong.
    """
    for one in CARD_CHECKS:
        one(card)


def reads_well(card: TaskCard) -> None:
    """A summary of one line and one sentence, and a text."""
    assert card.summary.endswith("."), f"{card.name}: the card's summary does not end in a full stop."
    assert "\n" not in card.summary, f"{card.name}: the card's summary is longer than a line."
    assert card.body, f"{card.name}: the card has no text."
    assert card.licence, f"{card.name}: the card names no licence."


def metrics_are_there(card: TaskCard) -> None:
    """The primary metric is one of the metrics."""
    assert card.primary in card.metrics, f"{card.name}: the primary metric {card.primary} is not among its metrics."


def levels_are_stated(card: TaskCard) -> None:
    """Tasks with choices state chance and majority level, and open generation neither."""
    if not card.splits:  # rows are known when they are read
        return
    absent = (card.chance is None, card.majority is None)
    if card.generative:
        assert absent == (True, True), f"{card.name}: open generation has no chance and no majority level."
        return
    assert card.chance is not None, f"{card.name}: the card states no chance level."
    assert card.majority is not None, f"{card.name}: the card states no majority level."
    # A few rows of a file of one's own may be as uneven as they like.
    ordered = card.sources == ("file",) or card.chance <= card.majority < 1
    assert ordered, f"{card.name}: the majority level {card.majority} is not between chance {card.chance} and 1."


def splits_are_there(card: TaskCard) -> None:
    """Roles name official splits, and the parts on the hub are their rows, less a few repeated questions."""
    if not card.splits:
        return
    named = set(card.roles.model_dump(exclude_none=True).values())
    assert named <= set(card.splits), f"{card.name}: the roles name splits that are not there: {sorted(named)}."
    if (sizes := card.parts.get("hub")) is None:
        return
    assert sizes["eval"] == card.splits[card.roles.eval], f"{card.name}: the hub's eval part is not its eval split."
    used = sum(card.splits[split] for split in (card.roles.train, card.roles.dev, card.roles.eval) if split)
    total = sum(sizes.values())
    assert used - 20 <= total <= used, f"{card.name}: the parts on the hub hold {total} rows of {used}."


def names_its_class(card: TaskCard) -> None:
    """The class makes a task with the card's name, expert and sources."""
    task = registry.create(card.name)
    assert isinstance(task, Task), f"{card.name}: {card.target} makes no task."
    assert task.name == card.name, f"{card.name}: the class calls itself {task.name}."
    assert task.expert == card.expert, f"{card.name}: the card's expert is {card.expert}, the class's {task.expert}."
    assert len(task.sources()) == len(card.sources), f"{card.name}: card and class disagree on sources."


def parts_are_as_stated(task: BoundTask) -> None:
    """Where the card states the sizes of the parts in this kind of source, they are these."""
    stated = registry.card(task.name).parts.get(task.source)  # type: ignore[call-overload]
    if stated is None or any("official rows" in deviation for deviation in task.deviations):
        return
    found = {part: len(task.parts[part]) for part in PARTS}
    assert found == stated, f"{task.name}: the card states parts of {stated}, {task.source} has {found}."


def levels_are_true(task: BoundTask) -> None:
    """Where the whole official split is evaluated, chance and majority level are those that the card states."""
    card = registry.card(task.name)
    official = card.splits.get(card.roles.eval, 0)
    whole = task.split_rows.get(card.roles.eval) == official and official - 10 <= len(task.parts["eval"]) <= official
    if not whole or card.chance is None or card.majority is None or card.primary != task.primary:
        return
    full = task.with_settings(task.settings.model_copy(update={"limit": None}))
    chance, majority = full.chance(), full.majority()
    assert abs(chance - card.chance) <= 5e-5, (
        f"{task.name}: the card's chance level is {card.chance}, not {chance:.4f}."
    )
    assert majority is not None, f"{task.name}: the card states a majority level, the task has none."
    off = abs(majority - card.majority)
    assert off <= 5e-4, f"{task.name}: the card's majority level is {card.majority}, not {majority:.4f}."


def card_is_sound(task: BoundTask) -> None:
    """The card says what every card must say, and only what is true of these rows."""
    card = registry.card(task.name)
    check_card(card)
    assert task.official_rows == card.splits, f"{task.name}: official rows and the card's splits differ."
    other = [deviation for deviation in task.deviations if "the card knows" in deviation]
    assert not other, f"{task.name}: {other[0] if other else ''}"
    parts_are_as_stated(task)
    levels_are_true(task)


CARD_CHECKS: tuple[Callable[[TaskCard], None], ...] = (
    reads_well,
    metrics_are_there,
    levels_are_stated,
    splits_are_there,
    names_its_class,
)
