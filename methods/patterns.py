"""Which module paths an adapter's configuration means, as PEFT resolves names, regular expressions and layer numbers.

An adapter comes from anywhere, so its regular expressions are matched within a budget of seconds: PEFT itself, whose
`re` has none, hangs on a pattern that backtracks for ever.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import regex

from results.ground.errors import HarnessError

SECONDS = 5.0
"""For all patterns of one adapter together; a thousand sites and patterns take about one."""
LONGEST = 20_000

# What the package `regex` reads otherwise than `re`: fuzzy matching, and classes by name.
_OTHER_MEANING = re.compile(r"\{(?![0-9]*,?[0-9]*\})|\[\[?:|\\[pPLmMXRK]")


class AdapterError(HarnessError, ValueError):
    """An adapter directory that cannot be used as an expert; the message is one sentence that says why."""


@dataclass
class Matcher:
    """Matches the patterns of one adapter, whose owner every complaint names.

    Attributes:
        owner: begins complaints, e.g. `The adapter at a/b`.
        left: seconds.
    """

    owner: str
    left: float = field(default_factory=lambda: SECONDS)
    _compiled: dict[str, Any] = field(default_factory=dict)

    def compiled(self, key: str, pattern: str, form: str = "{}") -> Any:
        """A pattern of the configuration's `key`, inside the form that PEFT gives it.

        Raises:
            AdapterError: it is no regular expression, or one that Python's `re` reads in a way of its own.
        """
        whole = form.replace("{}", pattern)
        if whole not in self._compiled:
            try:
                if len(pattern) > LONGEST:
                    raise ValueError(f"of {len(pattern)} characters, of which {LONGEST} are allowed")
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    re.compile(whole)
                if found := _OTHER_MEANING.search(pattern):
                    raise ValueError(f"not supported here is {found[0]}")
                self._compiled[whole] = regex.compile(whole, regex.VERSION0)
            except (re.error, regex.error, ValueError, OverflowError, RecursionError) as error:
                raise AdapterError(
                    f"{self.owner} has '{_short(pattern)}' in {key}, no regular expression ({error}): correct it there."
                ) from error
        return self._compiled[whole]

    def match(self, key: str, pattern: str, path: str, form: str = "{}", *, whole: bool = False) -> Any:
        """What `re.match` (or `re.fullmatch`) of a pattern finds in a module path, or None.

        Raises:
            AdapterError: see `compiled`; or the patterns of this adapter have taken too long.
        """
        compiled = self.compiled(key, pattern, form)
        started = time.perf_counter()
        try:
            return (compiled.fullmatch if whole else compiled.match)(path, timeout=max(self.left, 1e-3))
        except TimeoutError as error:
            raise AdapterError(
                f"{self.owner} has '{_short(pattern)}' in {key}, which takes for ever to match {path}: "
                "write it without nested repetition."
            ) from error
        finally:
            self.left -= time.perf_counter() - started

    def check_ending(self, key: str, pattern: str) -> None:
        """See that a key of `rank_pattern` or `alpha_pattern` is a regular expression.

        Raises:
            AdapterError: see `compiled`.
        """
        self.compiled(key, pattern, _ENDING)

    def key(self, name: str, patterns: Mapping[str, Any], path: str) -> str:
        """The first pattern that matches the end of a module path, as PEFT resolves it, else the path itself."""
        return next((key for key in patterns if self.match(name, key, path, _ENDING)), path)


_ENDING = r"(.*\.)?({})$"
_CONTAINER = r"(?:^|.*?\.){}\.(?P<idx>\d+)\."


@dataclass(frozen=True)
class Targets:
    """What `target_modules` and its companions name.

    Attributes:
        modules: a regular expression, or names of which a path is one or ends in one.
        excluded: the same, for what is left out; None for nothing.
        layers: indices of layers, for names that end a path; None for all.
        containers: names of the lists of layers that are counted; empty for any.
    """

    modules: str | tuple[str, ...]
    excluded: str | tuple[str, ...] = ()
    layers: tuple[int, ...] | None = None
    containers: tuple[str, ...] = ()

    @property
    def all_linear(self) -> bool:
        """Whether every linear layer but the output layer is meant."""
        return isinstance(self.modules, str) and self.modules.lower() == "all-linear"

    def name(self, path: str, matcher: Matcher) -> bool:
        """Whether a module path is meant (PEFT's `check_target_module_exists`)."""
        if self._excludes(path, matcher):
            return False
        if self.all_linear:
            return True
        if isinstance(self.modules, str):
            return matcher.match("target_modules", self.modules, path, whole=True) is not None
        if path in self.modules:
            return True
        return any(path.endswith(f".{name}") for name in self.modules) and self._in_layers(path, matcher)

    def check(self, matcher: Matcher) -> None:
        """See that all expressions can be read.

        Raises:
            AdapterError: see `Matcher.compiled`.
        """
        if isinstance(self.modules, str) and not self.all_linear:
            matcher.compiled("target_modules", self.modules)
        if isinstance(self.excluded, str):
            matcher.compiled("exclude_modules", self.excluded)
        for container in self.containers:
            matcher.compiled("layers_pattern", container, _CONTAINER)

    def _excludes(self, path: str, matcher: Matcher) -> bool:
        if isinstance(self.excluded, str):
            return matcher.match("exclude_modules", self.excluded, path, whole=True) is not None
        return path in self.excluded or any(path.endswith(f".{name}") for name in self.excluded)

    def _in_layers(self, path: str, matcher: Matcher) -> bool:
        if not self.layers:
            # PEFT reads an empty list as all layers.
            return True
        if not self.containers:
            found = re.match(r".*?\.[^.]*\.(?P<idx>\d+)\.", path)
            return found is not None and int(found["idx"]) in self.layers
        matches = (matcher.match("layers_pattern", container, path, _CONTAINER) for container in self.containers)
        first = next((match for match in matches if match is not None), None)
        return first is not None and int(first["idx"]) in self.layers


def _short(pattern: str) -> str:
    return pattern if len(pattern) <= 60 else f"{pattern[:57]}..."
