"""Rubrics are versioned texts."""

from __future__ import annotations

import pytest

from tasks.judge.rubric import load_rubric, parse_rubric, rubric_files

PUBLISHED = {
    ("medical", 1): "95dc3a953c2baaf6",
    ("cross-domain", 1): "026863a482b0f1cc",
}


def test_a_published_rubric_never_changes() -> None:
    """A change of wording is a new version: the digests here are added to, never edited."""
    assert {key: load_rubric(*key).digest for key in rubric_files()} == PUBLISHED


def test_the_newest_version_is_the_default() -> None:
    assert load_rubric("medical") == load_rubric("medical", max(v for name, v in rubric_files() if name == "medical"))


@pytest.mark.parametrize("key", sorted(rubric_files()))
def test_texts_are_put_in_as_they_are(key: tuple[str, int]) -> None:
    system, user = load_rubric(*key).messages("a {answer} \\1 {{x}}?", "use {reference} {question}", "G {question}")
    assert system["role"] == "system"
    for text in ("a {answer} \\1 {{x}}?", "use {reference} {question}", "G {question}"):
        assert user["content"].count(text) == 1


def test_without_a_reference_nothing_of_it_remains() -> None:
    user = load_rubric("medical").messages("q", "a", None)[1]["content"]
    assert "<reference_answer>" not in user
    assert "{{" not in user
    assert "<reference_answer>\ng\n</reference_answer>" in load_rubric("medical").messages("q", "a", "g")[1]["content"]


def test_half_a_surrogate_pair_does_not_end_the_run() -> None:
    load_rubric("medical").messages("q", "a\ud800b", None)[1]["content"].encode()


def test_unknown_names_and_versions_are_said() -> None:
    with pytest.raises(ValueError, match=r"Unknown rubric 'medcial': did you mean medical"):
        load_rubric("medcial")
    with pytest.raises(ValueError, match=r"'medical' has no version 99"):
        load_rubric("medical", 99)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("# System\na\n# User\n{question}{answer}", "front matter"),
        ("---\nname: x\nversion: 1\ntitle: t\n---\n# System\nno user", "User"),
        ("---\nname: x\nversion: 1\ntitle: t\n---\n# System\na\n# User\n{question}", "{answer}"),
    ],
)
def test_malformed_files_are_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse_rubric(text)
