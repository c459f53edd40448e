"""Configurations resolve presets, refuse what cannot be meant, and never hold or show a key."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tasks.judge import JudgeConfig, JudgeUnavailable, check
from tasks.judge.config import api_key


def test_the_default_is_the_judge_of_the_paper() -> None:
    config = JudgeConfig()
    assert (config.base_url, config.model, config.api_key_env) == (
        "https://api.deepseek.com",
        "deepseek-reasoner",
        "DEEPSEEK_API_KEY",
    )
    assert config.host == "api.deepseek.com"


def test_given_fields_win_over_the_preset() -> None:
    config = JudgeConfig(preset="deepseek", model="deepseek-chat", max_tokens=99)
    assert (config.model, config.max_tokens, config.concurrency) == ("deepseek-chat", 99, 8)


def test_the_local_preset_asks_for_the_path() -> None:
    assert JudgeConfig(preset="local", model="DIR").base_url == "http://127.0.0.1:8000/v1"
    with pytest.raises(ValidationError, match="transformers serve PATH"):
        JudgeConfig(preset="local")


def test_the_generic_preset_needs_url_and_model() -> None:
    with pytest.raises(ValidationError, match="base_url is missing"):
        JudgeConfig(preset="generic", model="m")
    with pytest.raises(ValidationError, match="model is missing"):
        JudgeConfig(preset="generic", base_url="https://h/v1")


def test_it_is_frozen_and_strict() -> None:
    with pytest.raises(ValidationError):
        JudgeConfig().model = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="rubrik"):
        JudgeConfig(rubrik="medical")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "mistake",
    [
        {"base_url": "https://user:sk-secret123@host/v1"},
        {"base_url": "https://host/v1?api-key=sk-secret123"},
        {"api_key_env": "sk-secret123"},
        {"api_key": "sk-secret123"},
    ],
)
def test_a_key_in_the_wrong_field_is_refused_without_being_repeated(mistake: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as refused:
        JudgeConfig(**mistake)  # type: ignore[arg-type]
    assert "secret123" not in str(refused.value)
    assert "secret123" not in repr(refused.value)


@pytest.mark.parametrize("field", ["api_key", "X-API-Key", "Authorization", "access_token", "password"])
def test_a_secret_among_further_fields_is_refused_without_being_repeated(field: str) -> None:
    with pytest.raises(ValidationError, match="extra_body is stored and must hold no secret") as refused:
        JudgeConfig(extra_body={"inner": [{field: "sk-secret123"}]})
    assert "secret123" not in str(refused.value)
    assert JudgeConfig(extra_body={"max_completion_tokens": 3, "keys": []}).extra_body


def test_identity_holds_what_determines_a_verdict_and_nothing_else() -> None:
    base = JudgeConfig()
    for same in (
        JudgeConfig(concurrency=1, timeout=5, max_retries=0, budget_requests=3, budget_tokens=4, backoff=0),
        JudgeConfig(api_key_env="OTHER", give_up_after=1, max_wait=1),
        JudgeConfig(rubric_version=1),
    ):
        assert same.identity() == base.identity()
    for other in (
        JudgeConfig(model="deepseek-chat"),
        JudgeConfig(base_url="https://other/v1"),
        JudgeConfig(temperature=0.5),
        JudgeConfig(max_tokens=7),
        JudgeConfig(structured="none"),
        JudgeConfig(extra_body={"a": 1}),
        JudgeConfig(rubric="cross-domain"),
        JudgeConfig(repeats=2),
        JudgeConfig(attempts=3),
    ):
        assert other.identity() != base.identity()


def test_a_task_brings_its_rubric_unless_one_is_chosen() -> None:
    assert JudgeConfig().load_rubric().label == "medical-v1"
    assert JudgeConfig().with_rubric("cross-domain").load_rubric().label == "cross-domain-v1"
    assert JudgeConfig(rubric="medical").with_rubric("cross-domain").load_rubric().label == "medical-v1"


def test_a_missing_key_is_one_sentence_with_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    with pytest.raises(
        JudgeUnavailable, match=r"set DEEPSEEK_API_KEY, or start a server with `transformers serve PATH`"
    ):
        check(JudgeConfig())
    monkeypatch.setenv("DEEPSEEK_API_KEY", "   ")
    with pytest.raises(JudgeUnavailable, match="set DEEPSEEK_API_KEY"):
        check(JudgeConfig())


def test_a_key_of_two_words_is_refused_without_being_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-secret123\nexport X=1")
    with pytest.raises(JudgeUnavailable, match="DEEPSEEK_API_KEY does not hold a key") as refused:
        api_key(JudgeConfig())
    assert "secret123" not in str(refused.value)


def test_a_trailing_line_break_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-secret123\n")
    assert api_key(JudgeConfig()) == "sk-secret123"
