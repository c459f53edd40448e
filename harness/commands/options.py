"""From declared options to a command line: one declaration gives typer's parameters and the values a command gets."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from harness.commands.arguments import completion, place
from harness.planning.config import parse_set
from harness.planning.options import Option, declared
from results.ground.errors import HarnessError
from results.ground.names import commas


def takes(
    *groups: type, hidden: Collection[str] = (), only: Collection[str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command that also takes every option of some groups, and gets those that were given as keyword arguments.

    Args:
        groups: `TypedDict`s whose entries are declared with `harness.planning.options.Option`.
        hidden: options that the command knows only to say why it refuses them.
        only: those of the groups that it takes; None for all.
    """
    options = [one for group in groups for one in declared(group) if only is None or one[0] in only]
    names = {name for name, _, _ in options}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter
            for parameter in inspect.signature(command, eval_str=True).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD and parameter.name not in names
        ]

        @functools.wraps(command)
        def called(**given: Any) -> None:
            passed = {parameter.name: given[parameter.name] for parameter in own}
            for name, kind, option in options:
                value = given[name]
                if value is not None and value is not False:
                    passed[name] = _value(option.flag or f"--{name}", kind, name, value)
            command(**passed)

        added = [_parameter(name, kind, option, name in hidden) for name, kind, option in options]
        keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        setattr(called, "__signature__", inspect.Signature([*keywords, *added]))  # noqa: B010
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *added]}
        del called.__wrapped__
        return called

    return decorate


def _parameter(name: str, kind: Any, option: Option, hidden: bool) -> inspect.Parameter:
    flags = [option.flag or f"--{name.replace('_', '-')}"]
    complete = completion(option.names) if option.names else None
    parser = place if kind is Path else None
    info = typer.Option(*flags, help=option.help, autocompletion=complete, parser=parser, hidden=hidden)
    default: Any = None
    shape: Any
    if kind is bool:
        shape, default = bool, False
    elif _is_mapping(kind):
        shape = list[str] | None
    elif kind in (int, Path):
        shape = kind | None
    else:
        shape = str | None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[shape, info])


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) is Mapping


def _value(flag: str, kind: Any, name: str, text: Any) -> Any:
    """What a command gets for an option's text."""
    if _is_mapping(kind):
        return dict(parse_set(one) for one in text)
    if get_origin(kind) is Union or get_origin(kind) is Sequence or not isinstance(kind, type):
        parts = commas(text)
        if get_args(kind) == (int,):
            return _integers(flag, parts, text)
        return parts
    return text


def _integers(flag: str, parts: Sequence[str], text: str) -> list[int]:
    try:
        return [int(part) for part in parts]
    except ValueError as error:
        raise HarnessError(f"{flag} takes whole numbers, not '{text}'.") from error
