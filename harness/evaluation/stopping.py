"""When a generated row is finished: lm-evaluation-harness's rules for one row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Stops:
    """End tokens and stop strings.

    A row stops at an end token, or where a stop string shows in its latest tokens: as many as the string has, and two
    more, since text can be cut into tokens in several ways. HFLM looks there too, but a batch of its rows stops only
    when the same string has shown in all of them; the text is cut at the first stop string either way.

    Args:
        tokenizer: decodes.
        end_tokens: ids that end a row.
    """

    def __init__(self, tokenizer: Any, end_tokens: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self.end_tokens = frozenset(end_tokens)
        self._windows: dict[str, int] = {}

    def window(self, stop: str) -> int:
        """Latest tokens in which a stop string is looked for."""
        if stop not in self._windows:
            self._windows[stop] = len(self.tokenizer.encode(stop, add_special_tokens=False)) + 2
        return self._windows[stop]

    def finished(self, rows: Sequence[Sequence[int]], stops: Sequence[Sequence[str]]) -> list[bool]:
        """For each row's generated tokens and its stop strings, whether it is finished."""
        done = [row[-1] in self.end_tokens for row in rows]
        open_rows = [i for i, own in enumerate(stops) if own and not done[i]]
        if not open_rows:
            return done
        widest = [list(rows[i][-max(self.window(stop) for stop in stops[i]) :]) for i in open_rows]
        for i, text in zip(open_rows, self.tokenizer.batch_decode(widest), strict=True):
            done[i] = any(stop in text and self._shows(stop, rows[i]) for stop in stops[i])
        return done

    def _shows(self, stop: str, row: Sequence[int]) -> bool:
        return stop in self.tokenizer.decode(list(row[-self.window(stop) :]))

    def text(self, row: Sequence[int], stops: Sequence[str]) -> str:
        """The row's text up to its first stop string, without special tokens."""
        from lm_eval.models.utils import postprocess_generated_text  # training comes by, and needs no lm-eval

        decoded = self.tokenizer.decode(list(row), skip_special_tokens=True)
        return str(postprocess_generated_text(decoded, list(stops), None))
