"""Settings that a person writes: each of the kind it is declared with, every number finite and of a usual size."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from results.ground.reading import Unreadable, check_plain

LARGEST = 2**63
"""Of whole numbers: what arrays and files count with."""
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


class Settings(BaseModel):
    """Base of configurations. Nothing is taken for something else: `"false"` is no switch, `true` is no number, and
    `"8"` is no rank; NaN and the infinities are no settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        _check(value, _kinds(cls.model_fields[str(info.field_name)].annotation))
        return value


def _check(value: Any, kinds: frozenset[type]) -> None:
    """See that each single value is of one of some kinds.

    Raises:
        ValueError: it is of another.
    """
    if isinstance(value, Mapping):
        for key, one in value.items():
            _check_text(key)
            _check(one, kinds)
    elif isinstance(value, list | tuple):
        for one in value:
            _check(one, kinds)
    elif isinstance(value, bool | int | float | str):
        if isinstance(value, str):
            _check_text(value)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(value, int) and abs(value) >= LARGEST:
            raise ValueError("it is larger than anything that is counted: give a smaller one")
        fits = not kinds or type(value) in kinds or (number and kinds & {int, float}) or not kinds <= _WORDS.keys()
        if not fits:
            raise ValueError(f"it must be {' or '.join(_WORDS[kind] for kind in _WORDS if kind in kinds)}")


def _check_text(text: Any) -> None:
    if isinstance(text, str) and "\0" in text:
        raise ValueError("it holds a null character: take it out")
    try:
        check_plain(text)
    except Unreadable as error:
        raise ValueError(f"it {error}") from None


def _kinds(annotation: Any) -> frozenset[type]:
    """Types of the single values that an annotation allows, whatever holds them; empty for any."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin is Literal:
        return frozenset(type(one) for one in get_args(annotation))
    if annotation in (Any, Ellipsis, NoneType) or annotation is None:
        return frozenset()
    if origin in (Union, UnionType):
        return frozenset().union(*(_kinds(one) for one in get_args(annotation) if one is not NoneType))
    if origin is not None:
        # Keys of mappings are texts, which nobody takes for something else.
        parts = (
            get_args(annotation)[-1:]
            if isinstance(origin, type) and issubclass(origin, Mapping)
            else get_args(annotation)
        )
        return frozenset().union(*(_kinds(one) for one in parts if one is not Ellipsis))
    return frozenset({annotation}) if isinstance(annotation, type) else frozenset()
