"""What is said of a store that cannot be used, word for word, and how long it is waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.ground import network as module
from results.ground.damage import PlaceError
from results.ground.digest import text_sha256
from results.ground.errors import HarnessError
from results.ground.network import Network, NetworkError, mend, said, within
from tests.results.stores import Memory, Overwrites, fails, first, network


class NoCredentialsError(Exception):
    """As botocore names it."""


AGAIN = "see to network and server (AWS_ENDPOINT_URL) and give the command again, which keeps what is done"


@pytest.mark.parametrize(
    ("error", "mended"),
    [
        (NoCredentialsError(), "export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=..."),
        (PermissionError("x"), "see to its credentials (AWS_ACCESS_KEY_ID and the like) and to what they may do"),
        (
            OSError("The specified bucket does not exist"),
            "make the bucket (aws s3 mb s3://bucket), or correct HARNESS_STAGES",
        ),
        (OSError("reset"), AGAIN),
    ],
)
def test_each_trouble_has_its_mend(error: Exception, mended: str) -> None:
    assert mend(error, "s3://bucket/a/prefix") == mended


def test_an_error_is_one_line_with_its_middle_kept_and_its_secrets_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("AWS_A", "abcd"), ("AWS_B", "abcdefgh"), ("AWS_C", "xyz"), ("OTHER", "visible")):
        monkeypatch.setenv(name, value)
    assert said(OSError("of abcdefgh and abcd,\n  xyz  visible.")) == "OSError: of $AWS_B and $AWS_A, xyz visible"
    assert said(OSError("y" * 400)) == ("OSError: " + "y" * 400)[:300] + "…"
    assert said(OSError("y" * 291)) == "OSError: " + "y" * 291


def test_of_two_secrets_the_longer_is_named_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_A", "zzzz")
    monkeypatch.setenv("AWS_B", "a-zzzz-b")
    assert said(OSError("a-zzzz-b")) == "OSError: $AWS_B"


def test_a_store_that_fails_is_said_with_what_was_tried() -> None:
    memory = Memory()
    store = network(memory, tries=2)
    memory.trouble = first(99, fails, "read")
    with pytest.raises(NetworkError) as caught:
        store.read("one")
    error = caught.value
    assert error.said.startswith(
        "The stage store memory://bucket/stages cannot be read (one), at try 2 of 2 (OSError: "
    )
    assert error.mend == AGAIN
    assert str(error) == f"{error.said}: {error.mend}."


def refuse(*_: object, **__: object) -> None:
    raise OSError("no")


@pytest.mark.parametrize(
    ("operation", "what", "use"),
    [
        ("cat_file", "read (a)", lambda store, file: store.read("a")),
        ("get_file", "read (a)", lambda store, file: store.download("a", file, None)),
        ("open", "read (a)", lambda store, file: store.sha256("a", None)),
        ("modified", "read (a)", lambda store, file: store.modified("a")),
        ("ls", "listed (a)", lambda store, file: store.names("a")),
        ("pipe_file", "written (a)", lambda store, file: store.write("a", b"x")),
        ("put_file", "written (a)", lambda store, file: store.upload(file, "a", "")),
        ("rm_file", "written (removing a)", lambda store, file: store.delete("a")),
        ("rm", "written (removing a)", lambda store, file: store.clear("a")),
    ],
)
def test_every_operation_says_what_it_was(
    operation: str, what: str, use: Callable[[Network, Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, file = Memory(), tmp_path / "file"
    file.write_text("x")
    monkeypatch.setattr(memory, operation, refuse)
    with pytest.raises(NetworkError, match=rf"cannot be {what.replace('(', '.').replace(')', '.')}, at try 1 of 1"):
        use(network(memory, tries=1), file)


def test_pauses_double(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    memory = Memory()
    memory.trouble = first(99, fails)
    with pytest.raises(NetworkError):
        network(memory, tries=5, pause=0.5).write("a", b"x")
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_large_files_are_given_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: list[float] = []
    monkeypatch.setattr(module, "within", lambda limit, operation: seconds.append(limit) or operation())
    store, file = network(Memory(), deadline=10.0), tmp_path / "file"
    file.write_bytes(b"x" * 3_000_000)
    store.upload(file, "a", text_sha256("x" * 3_000_000))
    store.download("a", tmp_path / "new" / "er" / "copy", 3_000_000)
    assert store.sha256("a", 3_000_000) == text_sha256("x" * 3_000_000)
    store.download("a", file, None)
    store.read("a")
    assert seconds == pytest.approx([16.0, 16.0, 16.0, 10.0, 10.0])


def test_what_takes_too_long_is_left_behind_and_keeps_no_process_alive() -> None:
    go_on = threading.Event()
    with pytest.raises(TimeoutError, match=r"^no answer in 0 s$"):
        within(0.01, go_on.wait)
    left = [thread for thread in threading.enumerate() if thread.name == "harness-store"]
    assert left
    assert all(thread.daemon for thread in left)
    go_on.set()
    assert within(5.0, lambda: 3) == 3


def test_hasty_is_twice_and_a_sixth_of_the_time() -> None:
    store = network(Memory(), deadline=60.0, pause=0.25)
    hasty = store.hasty()
    assert (hasty.url, hasty.tries, hasty.pause, hasty.deadline) == (store.url, 2, 0.25, 10.0)


def test_names_are_the_last_parts_in_order() -> None:
    store = network(Memory())
    for name in ("folder/b", "folder/a", "folder/deep/c", "folder/deep/d", "other/e"):
        store.write(name, b"x")
    assert store.names("folder") == ["a", "b", "deep"]
    assert store.names("folder/deep") == ["c", "d"]
    store.clear("folder/deep")
    store.clear("folder/deep")
    store.delete("folder/a")
    store.delete("folder/a")
    assert store.names("folder") == ["b"]
    assert store.modified("folder/a") is None
    assert store.sha256("folder/a", None) is None
    written = store.modified("folder/b")
    assert written is not None
    assert abs(written - time.time()) < 60
    with pytest.raises(FileNotFoundError):
        store.download("folder/a", Path("never"), None)


def test_a_store_without_conditional_writes_is_said_whole_and_left_clean() -> None:
    store = Overwrites()
    with pytest.raises(PlaceError) as caught:
        network(store).require_conditional()
    assert str(caught.value) == (
        "The store memory://bucket/stages cannot write an object only where there is none (`If-None-Match: *`), so "
        "that processes could not divide the work: take a server that can (AWS S3, MinIO), or a file system that all "
        "machines see (HARNESS_STAGES=/shared/stages)."
    )
    assert store.held() == []


@pytest.mark.parametrize("url", ["s3://user@bucket", "s3://bucket?a=b", "s3://bucket#a"])
def test_a_url_with_settings_is_said_without_them(url: str) -> None:
    with pytest.raises(HarnessError) as caught:
        Network(url)
    assert str(caught.value) == (
        "The s3:// URL of HARNESS_STAGES holds a user or settings: give the bucket and a prefix alone, "
        "and credentials and endpoint in the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL)."
    )


@pytest.mark.parametrize("url", ["s3://", "S3://bucket", "://bucket", "bucket", "3s://bucket"])
def test_what_is_no_url_is_said(url: str) -> None:
    with pytest.raises(HarnessError) as caught:
        Network(url)
    assert str(caught.value) == f"{url!r} is no URL of a store: write one like s3://bucket/prefix."


def test_an_unknown_scheme_says_what_to_write() -> None:
    with pytest.raises(NetworkError) as caught:
        Network("nonesuch://bucket").read("a")
    assert str(caught.value) == "fsspec knows no nonesuch://: write a URL like s3://bucket/prefix."
