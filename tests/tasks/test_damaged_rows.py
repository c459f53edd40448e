"""Any value in any column: a row is refused in one sentence, or it can be shown, trained on and evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks import registry
from tasks.base import TaskSettings
from tasks.rows import BadRow
from tasks.sources import DirectorySource
from tests.tasks.conftest import ROWS
from tests.tasks.damage import LOST, changed, write_with

NAMES = [name for name in registry.names() if (registry.card(name).set, registry.card(name).config) in ROWS]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["1", "A", " "])
)
VALUES = st.just(LOST) | st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(["text", "label", "A", "B", "contexts"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def joined(name: str, root: Path) -> tuple[Any, BadRow | None]:
    try:
        return registry.create(name).bind(DirectorySource(root), TaskSettings()), None
    except BadRow as error:
        return None, error


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_value_is_a_traceback(name: str, data: st.DataObject, tmp_path: Path) -> None:
    card = registry.card(name)
    field, value = data.draw(st.sampled_from(list(card.columns)), "column"), data.draw(VALUES, "value")
    write_with(tmp_path, name, changed(field, value))
    bound, refused = joined(name, tmp_path)
    if refused is not None:
        assert (refused.task, refused.split, refused.number) == (name, card.roles.eval, 4)
        assert "\n" not in str(refused)
        return
    for doc in (doc for part in bound.parts.values() for doc in part):
        assert bound.example(doc).target
        requests = bound.requests(doc, 0)
        assert requests
        assert json.dumps(dict(doc.row), allow_nan=True)
        answers: list[Any] = ["x"] if bound.generative else [(-1.0, False)] * len(requests)
        if not (bound.runs_code or bound.needs_judge):
            bound.score(doc, answers)
