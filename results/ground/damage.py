"""What happens to files from outside (full disks, foreign folders, impossible names), as sentences."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from results.ground.errors import HarnessError


class StoreError(HarnessError, ValueError):
    """Something stored cannot be used. The message is one sentence that names the mend."""


class PlaceError(StoreError):
    """A place cannot be written to or read from, whatever is put there: to go on would be for nothing.

    The message is one sentence that names the mend.
    """


LONGEST = 1500
"""Characters of a sentence."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MENDS = {
    errno.ENOSPC: "the disk is full: free some space (`harness clean` prunes the stage cache) and give the command "
    "again",
    errno.EDQUOT: "your quota is used up: free some space (`harness clean` prunes the stage cache) and give the "
    "command again",
    errno.EROFS: "the file system is read-only: choose another place",
    errno.EACCES: "you may not: choose another place, or have its owner open it to your group",
    errno.EPERM: "you may not: choose another place, or have its owner open it to your group",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ENOTDIR: "a part of the path is a file: choose another place",
    errno.EISDIR: "it is a folder: choose another name",
    errno.EEXIST: "a file has that name: choose another place",
    errno.ELOOP: "its links lead in a circle: choose another place",
    errno.EIO: "the disk cannot be read or written: see to the disk",
    errno.ESTALE: "the network's file system has lost it: give the command again",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
    errno.EFBIG: "the file is larger than your limit: raise `ulimit -f`",
}
_WORDS = {"no space left on device": errno.ENOSPC, "disk quota exceeded": errno.EDQUOT}
"""What libraries that write for themselves (safetensors, torch) say instead of raising `OSError`."""


def damage(error: BaseException, place: Path | str | None = None) -> PlaceError | None:
    """The sentence for an error that the file system is behind; None for any other.

    Args:
        error: anything that was raised.
        place: what was being used, where the error does not say it.
    """
    number = _number(error)
    if number is None or number not in _MENDS:
        return None
    named = getattr(error, "filename", None)
    # A file descriptor or nothing says less than the place does.
    where = place if place is not None and (number in _FULL or not isinstance(named, str)) else named
    name = str(where) if where is not None else "A file"
    if len(name) > 200:
        name = f"{name[:90]}…{name[-60:]}"
    return PlaceError(f"{name} cannot be used: {_MENDS[number]}.")


def in_words(error: HarnessError | OSError) -> str:
    """The sentence of a mistake, or of damage; any other error is raised as it is.

    A value that it repeats may be of any length and hold any character: of a long sentence the middle is left out, and
    what cannot be printed is escaped.
    """
    sentence = error if isinstance(error, HarnessError) else damage(error)
    if sentence is None:
        raise error
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(str(sentence).split()))
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 :]}"
    return text if text.endswith((".", "?", "!")) else f"{text}."


def full(error: BaseException) -> bool:
    """Whether a full disk or a used up quota is behind an error."""
    return _number(error) in _FULL


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error).lower()
    return next((code for words, code in _WORDS.items() if words in text), None)


@contextmanager
def said_of(place: Path | str) -> Iterator[None]:
    """Raise what the file system does to `place` as a sentence.

    Raises:
        PlaceError: the disk is full, the place is read-only or foreign, its name is impossible, or the like.
    """
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        if (sentence := damage(error, place)) is not None:
            raise sentence from error
        raise
