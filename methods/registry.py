"""All methods by name, from their cards.

A method is a card `methods/cards/NAME.md`: Markdown with YAML front matter that names the class and the configuration
that makes this name. Reading cards imports no torch; the class is imported when a method is created. Other packages
add methods through the entry-point group `harness.methods`: each entry point names a package that holds cards. A single
file adds one through `bring`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from methods.naming import VariantError, display, flatten, nest, parse, parse_value
from results.ground import plugins
from results.ground.errors import HarnessError
from results.ground.front_matter import CardError, split
from results.ground.names import UnknownName, nearest, unknown

if TYPE_CHECKING:
    from pydantic import BaseModel

    from methods.base import Method, Track
    from methods.files import MethodFile

__all__ = [
    "Card",
    "UnknownMethod",
    "VariantError",
    "bring",
    "card",
    "cards",
    "config_keys",
    "create",
    "display",
    "identity",
    "method_class",
    "names",
    "parse",
    "parse_value",
    "usable",
]

GROUP = "harness.methods"
_FIELDS = {"name", "summary", "track", "class", "config", "paper", "trained", "task_identity", "order"}
_OPTIONAL = {"label", "note"}
_TRACKS = ("compose", "joint", "reference")
_AFTER_ALL = 10_000
_BROUGHT: dict[str, MethodFile] = {}


class UnknownMethod(UnknownName):
    """No method has that name; the message offers the nearest ones."""


@dataclass(frozen=True)
class Card:
    """Front matter of one card.

    Attributes:
        name: name on the command line and in records.
        summary: one line.
        track: `compose`, `joint` or `reference`.
        target: `module:Class`.
        config: dotted or nested values that deviate from the class's defaults under this name.
        paper: reference of the method, or an empty string.
        trained: what is trained, in words.
        task_identity: `needed` when the method is told the task at test time, else `not`.
        order: position in listings and tables.
        label: what rows of it are called for readers, where that is not its name: `gmoe` is a pair of losses of GMoE.
        note: a sentence that belongs under every table with such a row.
        source: the card's file, or the method's own.
        text: the body where there is no card's file to read it from.
        sha256: of a method's own file; empty for a packaged method, whose `version` says the same.
    """

    name: str
    summary: str
    track: Track
    target: str
    config: Mapping[str, Any]
    paper: str
    trained: str
    task_identity: str
    order: int
    source: Traversable = field(repr=False, compare=False)
    label: str = ""
    note: str = ""
    text: str = field(default="", repr=False)
    sha256: str = ""

    def sentence(self) -> str:
        """What is trained, and whether the task is known at test time."""
        needed = "is told the task at test time" if self.task_identity == "needed" else "is not told the task"
        return f"Trained: {self.trained}. It {needed}."

    def body(self) -> str:
        """The card's text below the front matter, as Markdown."""
        return self.text or split(self.source.read_text(encoding="utf-8"), self.source.name)[1] + "\n"


def cards() -> dict[str, Card]:
    """All cards by name, in table order. Broken ones of installed packages are left out; see `results.ground.plugins`.

    Raises:
        CardError: a card of ours that is malformed, or a name that two of them claim.
    """
    found = _read()[0]
    if not _BROUGHT:
        return found
    return _ordered(found | {name: _card_of(file) for name, file in _BROUGHT.items()})


@cache
def _read() -> tuple[dict[str, Card], dict[str, str]]:
    """All packaged cards in table order, and the installed packages of those that are not ours."""
    found, packages = plugins.cards(
        "methods.cards", GROUP, read_card, lambda name: CardError(f"Two cards claim the method '{name}': rename one.")
    )
    return _ordered(found), packages


def _ordered(found: Mapping[str, Card]) -> dict[str, Card]:
    return dict(sorted(found.items(), key=lambda item: (item[1].order, item[0])))


def bring(path: Path) -> str:
    """Make the method in a file known under the file's name; imports the file, and torch with it.

    An edited file takes the place of what was brought from it before.

    Returns:
        The method's name.

    Raises:
        MethodFileError: see `methods.files.read_method`.
        CardError: another method has that name.
    """
    from methods.files import method_name, read_method

    path = path.resolve()
    name = method_name(path)
    before = _BROUGHT.get(name)
    if before is None and name in cards():
        raise CardError(
            f"There is a method '{name}' already, so the one in {path} needs another name: rename the file."
        )
    new = read_method(path)
    if before is not None and before.path != path and before.sha256 != new.sha256:
        raise CardError(f"Two files hold a method '{name}', {before.path} and {path}: rename one.")
    if before is None or (before.path, before.sha256) != (path, new.sha256):
        _BROUGHT[name] = new
    return name


def identity(name: str) -> dict[str, str]:
    """What tells one content of a method's own file from another, for hashes; empty for packaged methods."""
    sha256 = card(name).sha256
    return {"file.sha256": sha256} if sha256 else {}


def _card_of(file: MethodFile) -> Card:
    return Card(
        name=file.name,
        summary=file.summary,
        track=file.cls.track,
        target=f"{file.module}:{file.cls.__name__}",
        config={},
        paper=str(getattr(file.cls, "paper", "")),
        trained=file.trained,
        task_identity=file.task_identity,
        order=_AFTER_ALL,
        source=file.path,
        text=file.text,
        sha256=file.sha256,
    )


def read_card(file: Traversable) -> Card:
    """One card from its file.

    Raises:
        CardError: no front matter, a missing or unknown field, or a value that is not allowed.
    """
    front, _ = split(file.read_text(encoding="utf-8"), file.name)
    if wrong := (front.keys() ^ _FIELDS) - _OPTIONAL:
        raise CardError(f"The card {file.name} lacks or does not know the fields {', '.join(sorted(wrong))}.")
    if file.name != f"{front['name']}.md":
        raise CardError(f"The card {file.name} names the method '{front['name']}': file and name must agree.")
    if not isinstance(front["order"], int) or not isinstance(front["config"] or {}, dict):
        raise CardError(f"The card {file.name} needs a whole number as its order and a mapping as its config.")
    if front["track"] not in _TRACKS or front["task_identity"] not in ("needed", "not"):
        raise CardError(
            f"The card {file.name} needs a track of {', '.join(_TRACKS)} and a task_identity of needed or not."
        )
    return Card(target=front.pop("class"), config=front.pop("config") or {}, source=file, **front)


def names() -> list[str]:
    """Names of all methods, in table order."""
    return list(cards())


def card(name: str) -> Card:
    """The card of a method.

    Raises:
        UnknownMethod: no method has that name.
    """
    if name not in cards():
        raise unknown("method", name, cards(), UnknownMethod)
    return cards()[name]


def method_class(name: str) -> type[Method]:
    """The class behind a name; imports it, and torch with it.

    Raises:
        UnknownMethod: no method has that name.
        PluginError: the installed package that it comes from is broken.
    """
    return plugins.target("method", name, card(name).target, _read()[1].get(name), _a_method)


def _a_method(found: Any) -> type[Method]:
    from methods.base import Method

    if not (isinstance(found, type) and issubclass(found, Method)):
        raise TypeError(f"{found!r} is no subclass of methods.base.Method")
    return found


def usable() -> list[str]:
    """Names of the methods that can be created, in table order: all of ours, and those of installed packages that are
    not broken; the others are said once on standard error."""
    found = []
    for name in names():
        try:
            create(name)
        except HarnessError as error:
            if name not in _read()[1]:
                raise
            plugins.say_once(f"{str(error).rstrip('.')}, so the method {name} is left out.")
            continue
        found.append(name)
    return found


def create(name: str, overrides: Mapping[str, Any] | None = None) -> Method:
    """A method with its configuration.

    Args:
        name: a registered name.
        overrides: values that deviate from the name's configuration, by dotted key or nested.

    Raises:
        UnknownMethod: no method has that name.
        VariantError: a key that the method does not have, or a value that its type refuses.
    """
    cls = method_class(name)
    defaults = config_keys(name)
    given = flatten(overrides or {})
    _refuse_unknown(name, given, defaults)
    return cls(_validated(cls.Config, defaults | given, name), name=name)


def config_keys(name: str) -> dict[str, Any]:
    """Every configuration key of a method, dotted, with its default as JSON data.

    Raises:
        UnknownMethod: no method has that name.
        VariantError: the card sets a key that the class does not have.
    """
    cls = method_class(name)
    base = flatten(card(name).config)
    defaults = _leaves(cls.Config())
    _refuse_unknown(f"The card of {name}", base, defaults)
    return _leaves(_validated(cls.Config, defaults | base, name))


def _validated(config: type[Any], flat: Mapping[str, Any], name: str) -> Any:
    from pydantic import ValidationError

    try:
        return config.model_validate(nest(flat))
    except RecursionError:
        raise VariantError(f"{name}: a value is nested too deeply.") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise VariantError(f"{name}{f': {key}' if key else ''}: {message.rstrip('.')}.") from error


def _leaves(config: BaseModel) -> dict[str, Any]:
    return flatten(config.model_dump(mode="json"))


def _refuse_unknown(owner: str, given: Iterable[str], known: Mapping[str, Any]) -> None:
    for key in given:
        if key not in known:
            hint = nearest(key, known) if known else "it has none."
            raise VariantError(f"{owner} has no configuration key '{key}': {hint}")
