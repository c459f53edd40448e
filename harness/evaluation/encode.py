"""Text to token ids, as lm-evaluation-harness's HFLM does it, with whole lists handed to the tokenizer at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from results.ground.errors import HarnessError
from results.ground.names import shown

Backend = Literal["causal", "seq2seq"]


@dataclass(frozen=True)
class Scored:
    """A continuation to score.

    Attributes:
        context: what is given. Causal: never empty (`BOS`, or `EOS`, where the text is). Seq2seq: the encoder's input.
        targets: token ids of the continuation, at least one.
        truncated: context tokens that were cut from the left to fit the model.
    """

    context: list[int]
    targets: list[int]
    truncated: int = 0

    @property
    def inputs(self) -> list[int]:
        """Causal: what is fed, `[len(context) + len(targets) - 1]`; its last `len(targets)` positions are scored."""
        return [*self.context, *self.targets[:-1]]


class Encoder:
    """Tokenisation of contexts and continuations.

    Args:
        tokenizer: a transformers tokenizer; it is not changed.
        backend: `causal` encodes context and continuation together and splits them; `seq2seq` encodes them apart.
        max_length: most tokens the model takes.
        add_bos: whether special tokens are added; None leaves it to the tokenizer (lm-eval's default).
    """

    def __init__(self, tokenizer: Any, *, backend: Backend, max_length: int, add_bos: bool | None = None) -> None:
        self.tokenizer = tokenizer
        self.backend = backend
        self.max_length = max_length
        self.add_bos = add_bos
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.prefix_token = bos if bos is not None else eos
        if self.prefix_token is None:
            raise HarnessError("The tokenizer has neither a BOS nor an EOS token: set its eos_token.")
        self._prefix_text = tokenizer.decode([self.prefix_token])

    @property
    def pad_token(self) -> int:
        """An id for padding columns; which one does not matter, since they are masked."""
        known = (self.tokenizer.pad_token_id, self.tokenizer.unk_token_id, self.tokenizer.eos_token_id, 0)
        return int(next(token for token in known if token is not None))

    def encode(
        self, texts: Sequence[str], *, add_special_tokens: bool | None = None, bos_text: str | None = None
    ) -> list[list[int]]:
        """Token ids of each text. Where special tokens are left to the tokenizer, a text that already starts with
        `bos_text` (default: the prefix token's text) gets none."""
        written = self._prefix_text if bos_text is None else bos_text
        special = {text: self._special(text, add_special_tokens, written) for text in texts}
        ids: dict[str, list[int]] = {}
        for flag in (None, True, False):
            chosen = [text for text, own in special.items() if own is flag]
            if chosen:
                given = {} if flag is None else {"add_special_tokens": flag}
                encoded = self.tokenizer(chosen, verbose=False, return_attention_mask=False, **given)
                ids.update(zip(chosen, encoded["input_ids"], strict=True))
        return [list(ids[text]) for text in texts]

    def _special(self, text: str, asked: bool | None, written: str) -> bool | None:
        if asked is not None:
            return asked
        from lm_eval.models.utils import has_bos_prefix  # training, which comes here too, needs no lm-eval

        return False if has_bos_prefix(text, written or None) else self.add_bos

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Scored]:
        """Encode (context, continuation) pairs.

        Trailing spaces of a context move to its continuation; an empty context becomes the prefix token.

        Raises:
            HarnessError: an empty continuation, or one longer than the model.
        """
        moved = [_move_spaces(context, continuation) for context, continuation in pairs]
        contexts = self.encode([context for context, _ in moved])
        if self.backend == "causal":
            wholes = self.encode(["".join(pair) for pair in moved])
            rests = [whole[len(context) :] for whole, context in zip(wholes, contexts, strict=True)]
        else:
            rests = self.encode([continuation for _, continuation in moved], add_special_tokens=False)
        alone = iter(self.encode([pair[1] for pair in pairs if not pair[0]], add_special_tokens=False))
        scored = []
        for pair, context, rest in zip(pairs, contexts, rests, strict=True):
            text = pair[1]
            if not pair[0]:
                rest = next(alone)
                starts_with_prefix = len(rest) > 1 and rest[0] == self.prefix_token
                context, rest = (rest[:1], rest[1:]) if starts_with_prefix else ([self.prefix_token], rest)
            scored.append(self.fit(context or [self.prefix_token], rest, text))
        return scored

    def fit(self, context: list[int], targets: list[int], text: str = "") -> Scored:
        """Cut the context from the left so that the input fits the model; `text` is what the targets say.

        Raises:
            HarnessError: no targets, or more than the model takes.
        """
        if not targets:
            raise HarnessError("A continuation has no tokens: give every choice a text.")
        if len(targets) > self.max_length:
            which = f"The continuation {shown(text)}" if text else "A continuation"
            raise HarnessError(
                f"{which} of {len(targets)} tokens exceeds the model's {self.max_length}: "
                "shorten it or use a model with a longer context."
            )
        room = self.max_length + 1 - len(targets) if self.backend == "causal" else self.max_length
        surplus = max(0, len(context) - room)
        return Scored(context[surplus:], targets, surplus)

    def prompts(self, texts: Sequence[str], room: Iterable[int]) -> list[tuple[list[int], int]]:
        """Ids of prompts to continue, each cut from the left to its `room`, and how many tokens were cut."""
        bos_text = self.tokenizer.bos_token or ""
        encoded = self.encode(texts, bos_text=bos_text) if self.backend == "causal" else self.encode(texts)
        cut = []
        for ids, most in zip(encoded, room, strict=True):
            ids = ids or [self.prefix_token]
            cut.append((ids[-most:], max(0, len(ids) - most)))
        return cut


def _move_spaces(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation
