"""What a publication must not hold: secrets, and paths of the machine that it was made on."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from results.ground.places import ELSEWHERE

SECRET = "[secret]"
HOME = "~"

_SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_SECRET_NAME = r"(?:[\w.-]*[._-])?(?:api_?key|token|secret|password)"
_SECRETS = (
    re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}"),
    re.compile(r"\bsk-[A-Za-z0-9_-]{12,}"),
    re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"),
    re.compile(r"(?<=\bBearer )[\w.~+/=-]{8,}"),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
    re.compile(rf"(?i)(?<![\w.-])(?P<name>--)?(?P<key>{_SECRET_NAME})(?P<is>[=:]\s*)(?P<value>[^\s,\]&'\"]+)"),
)
_KEY = re.compile(rf"(?i){_SECRET_NAME}")
_LAST = r"[\w.@+-]+"
_PATHS = re.compile(
    r"file://[^\s'\"]+"
    rf"|(?<![\w/.…~])(?:~[\w.-]*)?/(?:{_LAST}/)+(?:{_LAST})?"
    rf"|(?<![\w/])~[\w.-]*/{_LAST}"
    rf"|(?<!\w)[A-Za-z]:\\(?:[^\\\s:*?\"<>|]+\\?)+"
)
_WHOLE = re.compile(r"(?:file:/|~[\w.-]*)?/[^\n]+|~[\w.-]*|[A-Za-z]:[\\/][^\n]+|\\\\[^\n]+")


class Scrubber:
    """Takes secrets and the machine's paths out of texts and JSON data.

    A path becomes `…/NAME` with its last part, a secret `[secret]`. Secrets are values of environment variables whose
    names say so, and what looks like one.

    Args:
        folders: whose paths are known, spaces and all; the home, working and temporary folders always are.
        secrets: known ones beside the environment's.
        environment: default the process's.
    """

    def __init__(
        self,
        folders: Iterable[Path | str] = (),
        secrets: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        environment = os.environ if environment is None else environment
        named = (value for name, value in environment.items() if _SECRET_VARIABLE.search(name))
        # A variable such as SSH_KEY may hold a path, which is no secret.
        told = {one for one in (*named, *secrets) if len(one) >= 8 and not one.startswith(("/", "~", "."))}
        self._secrets = sorted(told, key=len)[::-1]
        places = [*map(Path, folders), Path.home(), Path.cwd(), Path(tempfile.gettempdir())]
        both = {str(one) for place in places for one in (place.absolute(), place.resolve())}
        self._folders = sorted((one for one in both if len(one) > 1), key=len)[::-1]

    def secrets(self, text: str) -> str:
        """A text of the benchmark or the model, which stays as it is but for secrets."""
        for secret in self._secrets:
            text = text.replace(secret, SECRET)
        for pattern in _SECRETS:
            text = pattern.sub(_hidden, text)
        return text

    def text(self, text: str) -> str:
        """A text that the harness wrote, such as a note or an error."""
        text = self.secrets(text)
        for folder in self._folders:
            text = re.sub(rf"{re.escape(folder)}(?![\w.-])", ELSEWHERE, text)
        text = re.sub(rf"{ELSEWHERE}(?:[/\\]{_LAST})*[/\\]({_LAST})", rf"{ELSEWHERE}/\1", text)
        return _PATHS.sub(lambda found: _shortened(found.group()), text)

    def value(self, value: Any) -> Any:
        """JSON data that the harness wrote; a string that is a path is one whatever characters it has, and so are the
        parts of `NAME=PATH,NAME=PATH`."""
        if isinstance(value, Mapping):
            return {
                self.text(str(key)): SECRET
                if isinstance(one, str) and one and _KEY.fullmatch(str(key))
                else self.value(one)
                for key, one in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        if not isinstance(value, str):
            return value
        parts = re.split(r"([=,])", value)
        homes = (str(Path.home()), str(Path.home().resolve()))
        whole = [HOME if part in homes else _shortened(part) if is_path(part) else part for part in parts]
        return self.text("".join(whole))

    def found(self, text: str) -> str | None:
        """What of a written text should not be there, escaped for Markdown or not: a known secret or a known folder;
        None when all is well."""
        text = f"{text}\n{text.replace(chr(92), '')}"
        if any(secret in text for secret in self._secrets):
            return "a secret of this machine's environment"
        return next((folder for folder in self._folders if re.search(rf"{re.escape(folder)}(?![\w.-])", text)), None)

    def secret_in(self, data: bytes) -> bool:
        """Whether bytes hold a known secret."""
        return any(secret.encode() in data for secret in self._secrets)


def is_path(text: str) -> bool:
    """Whether a whole text is an absolute path, or one below a home."""
    return _WHOLE.fullmatch(text.strip()) is not None


def _hidden(found: re.Match[str]) -> str:
    """A match without its secret; the name of one that has a name stays, as does that of a variable that holds it."""
    groups = found.groupdict()
    if "key" not in groups:
        return SECRET
    return f"{groups['name'] or ''}{groups['key']}{groups['is']}{SECRET}"


def _shortened(path: str) -> str:
    """`…/NAME`; the home of a user, whose last part is a name that nobody needs, is `~`."""
    parts = [part for part in re.split(r"[/\\]+", path.strip().removeprefix("file://")) if part]
    of_a_user = 1 < len(parts) <= 3 and parts[-2] in ("home", "Users")
    if not parts or of_a_user or (len(parts) == 1 and path.startswith("~")):
        return HOME
    return f"{ELSEWHERE}/{parts[-1]}"
