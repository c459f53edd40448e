"""What stands in the check for a name or an object of the candidate's process."""

from __future__ import annotations

from collections import deque

from . import literals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    Ask = Callable[[dict[str, Any] | None], Any]

ONE_BY_ONE = 32
"""So many items of an iterator are fetched singly, so that what happens between two of them stays in order."""

MOST_AT_ONCE = 1024


class Stop(BaseException):
    """Ends the check with an outcome. Derives from BaseException, so that no check catches it."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


class Lacking(AttributeError, TypeError):
    """The object has no such attribute, or its type no such operation: what Python itself would raise for either."""


class Remote:
    """An object that can be called, iterated, asked for parts and passed back.

    What a check asks of it takes no value of the check's that could give the expected answer away, and what comes
    back is a value like any other. Comparison is by identity where the class compares so; an equality that the
    candidate wrote is refused.
    """

    def __init__(self, target: str | int, label: str, ask: Ask, *, identity: bool = False) -> None:
        object.__setattr__(self, "_remote", (target, label, ask, identity))
        object.__setattr__(self, "_fetched", deque())
        object.__setattr__(self, "_state", {"count": 0, "done": False})

    def _request(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        target, _, ask, _ = object.__getattribute__(self, "_remote")
        encoded = {
            "op": op,
            "target": target,
            "args": [literals.encode(arg, number_of) for arg in args],
            "kwargs": {key: literals.encode(value, number_of) for key, value in kwargs.items()},
        }
        return ask(encoded)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._request("call", args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._request("get", (name,), {})

    def __setattr__(self, name: str, value: Any) -> None:
        self._request("set", (name, value), {})

    def __bool__(self) -> bool:
        """Asking the object itself gives the candidate no more than answering a bool would have."""
        truth = self._request("bool", (), {})
        if truth is True or truth is False:
            return truth
        raise Stop("failed", "the answer has no truth value")

    def __next__(self) -> Any:
        fetched, state = object.__getattribute__(self, "_fetched"), object.__getattribute__(self, "_state")
        if not fetched and not state["done"]:
            more = 1 if state["count"] < ONE_BY_ONE else min(state["count"], MOST_AT_ONCE)
            answer = self._request("next", (more,), {})
            if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[0], list):
                raise Stop("failed", "malformed answer: not the next items")
            fetched.extend(answer[0])
            state["done"] = answer[1] is not False or not answer[0]
            state["count"] += len(answer[0])
        if not fetched:
            raise StopIteration
        return fetched.popleft()

    def __eq__(self, other: object) -> bool:
        target, _, _, identity = object.__getattribute__(self, "_remote")
        if isinstance(target, str) or identity:
            return self is other
        return self._refuse()

    def __hash__(self) -> int:
        identity = object.__getattribute__(self, "_remote")[3]
        return id(self) if identity else self._refuse()

    def _refuse(self, *args: Any) -> NoReturn:
        label = object.__getattribute__(self, "_remote")[1]
        raise Stop("failed", f"the answer is a {label}, not a plain literal")

    __lt__ = __le__ = __gt__ = __ge__ = _refuse


def _asking(name: str) -> Callable[..., Any]:
    def special(self: Remote, *args: Any) -> Any:
        return self._request(name, args, {})

    return special


SPECIALS = (
    *("len", "iter", "reversed", "getitem", "str", "repr", "int", "float", "complex", "index"),
    *("abs", "neg", "pos", "invert", "round", "trunc", "floor", "ceil"),
)
"""Operations that take nothing of the check's but an index or a number of digits."""

for _name in SPECIALS:
    setattr(Remote, f"__{_name}__", _asking(_name))


def number_of(thing: Any) -> int:
    """The reference behind an argument.

    Raises:
        Stop: the check passes something that cannot cross (a function, an object of its own).
    """
    if isinstance(thing, Remote):
        target = object.__getattribute__(thing, "_remote")[0]
        if isinstance(target, int):
            return target
    raise Stop("unscorable", f"the check passes a {type(thing).__name__}, which cannot cross the pipe")
