"""Operations on a store: bounded tries, deadlines, read back, conditional writes, one sentence that keeps secrets."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from results.ground.damage import PlaceError
from results.ground.digest import text_sha256
from results.ground.errors import HarnessError
from results.ground.network import Network, said
from tests.results.stores import Memory, Overwrites, fails, first, hangs, loses, network

TROUBLE = pytest.mark.parametrize("trouble", [fails, hangs, loses])


@TROUBLE
def test_what_goes_wrong_a_few_times_is_tried_again(trouble: object, tmp_path: Path) -> None:
    memory = Memory()
    store = network(memory, deadline=0.2)
    (tmp_path / "file").write_bytes(b"content")
    for write in (
        lambda: store.write("one", b"content"),
        lambda: store.create("two", b"content"),
        lambda: store.upload(tmp_path / "file", "three", text_sha256("content")),
    ):
        memory.trouble = first(2, trouble)  # type: ignore[arg-type]
        write()
    assert [store.read(name) for name in ("one", "two", "three")] == [b"content"] * 3


@TROUBLE
def test_what_goes_wrong_every_time_is_one_sentence(
    trouble: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://10.1.2.3:9000")
    memory = Memory()
    store = network(memory, deadline=0.05, tries=3)
    memory.trouble = first(99, trouble)  # type: ignore[arg-type]
    for write in (store.write, store.create):
        with pytest.raises(PlaceError, match=r"stages cannot be written .one., at try 3 of 3") as error:
            write("one", b"content")
        assert "give the command again" in str(error.value)
        assert "10.1.2.3" not in str(error.value)
        assert "AKIAEXAMPLE" not in str(error.value)


def test_a_read_that_fails_is_not_a_thing_that_is_missing() -> None:
    memory = Memory()
    store = network(memory, tries=2)
    assert store.read("one") is None
    assert store.names("folder") == []
    memory.trouble = first(99, fails, "read")
    with pytest.raises(PlaceError, match="cannot be read"):
        store.read("one")
    memory.trouble = first(99, fails, "list")
    with pytest.raises(PlaceError, match="cannot be listed"):
        store.names("folder")


def test_what_no_further_try_mends_is_not_tried_again() -> None:
    class NoCredentialsError(Exception):
        pass

    def refuses(refusal: Exception) -> Any:
        raise refusal

    for refusal, mend in (
        (PermissionError("Access Denied"), "what they may do"),
        (NoCredentialsError("Unable to locate credentials"), "export AWS_ACCESS_KEY_ID"),
        (FileNotFoundError("The specified bucket does not exist"), "make the bucket"),
    ):
        memory = Memory()
        memory.trouble = first(99, partial(refuses, refusal))
        with pytest.raises(PlaceError, match=rf"try 1 of 5 .*{mend}"):
            network(memory).write("one", b"")


def test_a_conditional_write_whose_answer_was_lost_is_known_by_what_is_there() -> None:
    memory = Memory()
    store = network(memory)
    answers = iter([OSError("connection reset")])
    create = memory.pipe_file

    def unheard(path: str, value: bytes, mode: str = "overwrite") -> None:
        create(path, value, mode)
        for error in answers:
            raise error

    memory.pipe_file = unheard  # type: ignore[method-assign, assignment]
    assert store.create("claim", b"mine")
    assert not store.create("claim", b"another's")
    assert store.read("claim") == b"mine"


class Looks(Memory):
    """A server that looks whether there is one, and then writes."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: object) -> None:
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        hangs()
        super().pipe_file(path, value)


class Unwritten(LocalFileSystem):
    """fsspec's own way, which looks and then writes."""


def test_a_store_whose_conditional_writes_are_none_is_refused() -> None:
    memory = Memory()
    network(memory).require_conditional()
    assert memory.held() == []
    for store in (Overwrites(), Looks(), Unwritten()):
        with pytest.raises(PlaceError, match=r"If-None-Match.*HARNESS_STAGES=/shared/stages"):
            network(store).require_conditional()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://", "like s3://bucket/prefix"),
        ("s3:///", "like s3://bucket/prefix"),
        ("://bucket", "like s3://bucket/prefix"),
        ("s3://AKIAEXAMPLE:topsecret@bucket/prefix", "AWS_ACCESS_KEY_ID"),
        ("s3://bucket/prefix?endpoint=topsecret", "AWS_ENDPOINT_URL"),
    ],
)
def test_a_url_that_is_none_or_holds_secrets_is_refused(url: str, words: str) -> None:
    with pytest.raises(HarnessError, match=words) as error:
        Network(url)
    assert "topsecret" not in str(error.value)


def test_a_scheme_that_fsspec_lacks_is_a_sentence() -> None:
    with pytest.raises(HarnessError, match="knows no nonesuch://"):
        Network("nonesuch://bucket").read("one")


def test_nothing_is_contacted_before_it_is_asked() -> None:
    assert Network("s3://bucket/prefix").url == "s3://bucket/prefix"


def test_errors_name_the_variable_and_not_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "very-long-token")
    assert said(OSError("refused very-long-token.")) == "OSError: refused $AWS_SESSION_TOKEN"
