"""One parser reads the front matter of methods' cards, tasks' cards, rubrics and prompts."""

from __future__ import annotations

import pytest

from results.ground.front_matter import CardError, split


def test_front_matter_and_body() -> None:
    assert split("---\nname: a\nk: [1, 2]\n---\n\n# A\ntext\n---\nmore\n", "a.md") == (
        {"name": "a", "k": [1, 2]},
        "# A\ntext\n---\nmore",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# A\n", "a.md needs YAML front matter"),
        ("name: a\n---\ntext", "a.md needs YAML front matter"),
        ("---\nname: a\n", "a.md needs YAML front matter"),
        ("---\nname: [a\n---\n", "front matter of a.md is not valid YAML"),
        ("---\n- a\n---\n", "front matter of a.md must be a mapping"),
    ],
)
def test_a_broken_file_is_one_sentence(text: str, reason: str) -> None:
    with pytest.raises(CardError, match=reason):
        split(text, "a.md")
