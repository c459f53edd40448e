"""Front matter: YAML between two lines of three dashes at the head of a Markdown file."""

from __future__ import annotations

from typing import Any

from results.ground.errors import HarnessError
from results.ground.reading import Unreadable, yaml_value


class CardError(HarnessError, ValueError):
    """A card or rubric that cannot be read. The message names the file and what is wrong with it."""


def split(text: str, name: str) -> tuple[dict[str, Any], str]:
    """Front matter and body (stripped) of a file.

    Args:
        text: the whole file.
        name: of the file, for messages.

    Raises:
        CardError: no front matter, no valid YAML in it, or something else than a mapping.
    """
    front, separator, body = text.partition("\n---\n")
    if not separator or not front.startswith("---\n"):
        raise CardError(f"The file {name} needs YAML front matter between two lines of three dashes.")
    try:
        values = yaml_value(front.removeprefix("---\n"))
    except Unreadable as error:
        raise CardError(f"The front matter of {name} {error}: correct it there.") from error
    if not isinstance(values, dict):
        raise CardError(f"The front matter of {name} must be a mapping of keys to values.")
    return values, body.strip()
