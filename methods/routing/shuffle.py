"""A fitted router's weights given to other tokens, or to other prompts: what they know of the input is lost, and
everything else of them is kept (the control `shuffled-router`).

Weights that differ between tokens. Within a sequence the weights of the n tokens of its prompt are permuted among them,
and a token behind the prompt gets the weights of a token before it: both draws follow from the seed, n and the token's
place alone. All routers of a pass share them, so a token's weights move through all layers together. Nothing depends
on the batch, and text is the same with a key-value cache and without. What a router knows of a sequence as a whole,
such as its task, is left.

Weights that are one prompt's. The prompts of a task are put into a circle in an order that follows from the seed, and
each gets the weights of the next: all of them are seen once before the task is evaluated (`Composed.survey`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from methods.base import Composed, Level, Unsupported
from methods.routing.composed import RoutedComposed
from methods.routing.context import RoutingContext, Side
from methods.seeding import generator, seed_from

Prompt = tuple[int, ...]


class Draws:
    """Whose weights a token gets, by places in its own sequence, padding not counted."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._prompts: dict[int, list[int]] = {}
        self._later: dict[int, int] = {}

    def sources(self, prompt: int, start: int, end: int) -> list[int]:
        """Places of the tokens whose weights those at the places from `start` to `end` get.

        Args:
            prompt: tokens of the prompt, the first ones of the sequence.
            start: first place.
            end: behind the last place.
        """
        if prompt not in self._prompts:
            draw = generator("shuffled-router", "prompt", self._seed, prompt)
            self._prompts[prompt] = torch.randperm(prompt, generator=draw).tolist()
        own = self._prompts[prompt]
        return [own[place] if place < prompt else self._before(place) for place in range(start, end)]

    def _before(self, place: int) -> int:
        if place not in self._later:
            draw = generator("shuffled-router", "text", self._seed, place)
            self._later[place] = int(torch.randint(place, (), generator=draw)) if place else 0
        return self._later[place]


class Places:
    """The columns that the tokens of a pass get their weights from; shared by all routers that read one side."""

    def __init__(self, side: Side, draws: Draws) -> None:
        self.side = side
        self._draws = draws
        self._columns: list[list[int]] = []
        self._prompts: list[int] = []
        self._width = 0
        self._index: Tensor | None = None

    def clear(self) -> None:
        """A pass begins."""
        self._index = None

    def index(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Columns `[b, t]`, counted from the beginning of the cache; a padding column names itself.

        Args:
            shape: `[b, t]` of the pass.
            device: of the result.

        Raises:
            RuntimeError: a pass continues a cache that no prompt pass has filled.
        """
        if self._index is None:
            self._index = self._read(shape, device)
        return self._index.to(device)

    def _read(self, shape: torch.Size, device: torch.device) -> Tensor:
        side, (b, t) = self.side, shape
        real = torch.ones(b, t, dtype=torch.bool) if side.token_mask is None else side.token_mask.cpu()
        if not side.past_length:
            self._columns, self._width = [[] for _ in range(b)], 0
            self._prompts = side.prompt(shape, device).sum(1).tolist()
        elif side.past_length != self._width or len(self._columns) != b:
            raise RuntimeError("shuffled weights belong to the sequences of a prompt's pass: pass the prompt first.")
        index = torch.arange(self._width, self._width + t).repeat(b, 1)
        for row, (columns, prompt) in enumerate(zip(self._columns, self._prompts, strict=True)):
            start, own = len(columns), real[row].nonzero().flatten()
            columns += (own + self._width).tolist()
            sources = self._draws.sources(prompt, start, len(columns))
            index[row, own] = torch.tensor([columns[source] for source in sources], dtype=torch.long)
        self._width += t
        return index


class TokenShuffle:
    """Of one router: see `methods.routing.router.Arrangement`. Keeps the weights of a sequence while it grows."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._kept: Tensor | None = None

    def clear(self) -> None:
        """See `Arrangement.clear`."""
        self._places.clear()

    def __call__(self, w: Tensor) -> Tensor:
        """See `Arrangement`."""
        index = self._places.index(w.shape[:2], w.device)
        grows = self._places.side.past_length and self._kept is not None
        self._kept = torch.cat([self._kept, w], 1) if grows and self._kept is not None else w
        return self._kept.gather(1, index[:, :, None, None].expand_as(w))


class Circle:
    """Which prompt the sequences of a pass have, and whose weights they get; a `methods.base.Survey`."""

    def __init__(self, context: RoutingContext, seed: int) -> None:
        self._context = context
        self._seed = seed
        self._numbers: dict[Prompt, int] = {}
        self._partner: Tensor | None = None
        self._rows: Tensor | None = None
        self._stale = True
        self.looks = False

    @property
    def partner(self) -> Tensor:
        """`[prompts]`: number of the prompt whose weights each prompt gets.

        Raises:
            Unsupported: there is one prompt alone.
        """
        if self._partner is None:
            if len(self._numbers) == 1:
                raise Unsupported("One prompt alone cannot get the weights of another: evaluate more items.")
            order = sorted(self._numbers, key=lambda ids: seed_from("shuffled-router", self._seed, ids))
            partner = torch.zeros(len(order), dtype=torch.long)
            for ids, other in zip(order, [*order[1:], order[0]], strict=True):
                partner[self._numbers[ids]] = self._numbers[other]
            self._partner = partner
        return self._partner

    @contextmanager
    def looking(self) -> Iterator[None]:
        """See `methods.base.Survey.looking`; diagnostics do not see these passes."""
        collect, self._context.collect = self._context.collect, False
        self._numbers, self._partner, self._rows = {}, None, None
        self.looks = True
        try:
            yield
        finally:
            self.looks, self._context.collect = False, collect

    def clear(self) -> None:
        """A pass begins."""
        self._stale = True

    def rows(self) -> Tensor:
        """`[b]`: numbers of the prompts of a pass; those that a cache holds where it continues one.

        Raises:
            RuntimeError: a prompt that was not looked at, or embeddings in place of tokens.
        """
        grows = self._context.encoder is None and self._context.past_length > 0
        if self._stale and not (grows and self._rows is not None):
            self._rows = torch.tensor([self._number(ids) for ids in self._prompts()])
        self._stale = False
        assert self._rows is not None
        return self._rows

    def _number(self, ids: Prompt) -> int:
        if self.looks:
            return self._numbers.setdefault(ids, len(self._numbers))
        if ids not in self._numbers:
            raise RuntimeError(
                "a prompt whose weights are to be shuffled was not looked at before: use survey.looking()."
            )
        return self._numbers[ids]

    def _prompts(self) -> list[Prompt]:
        side: Side = self._context.encoder or self._context
        if side.input_ids is None:
            raise RuntimeError("shuffled weights of prompts need token ids, and the model was given embeddings.")
        mask = side.prompt(side.input_ids.shape, side.input_ids.device)
        return [tuple(ids[own].tolist()) for ids, own in zip(side.input_ids, mask, strict=True)]


class PromptShuffle:
    """Of one router: see `methods.routing.router.Arrangement`. Keeps the weights `[K, N]` of every prompt."""

    def __init__(self, circle: Circle) -> None:
        self._circle = circle
        self._found: dict[int, Tensor] = {}

    def clear(self) -> None:
        """See `Arrangement.clear`."""
        self._circle.clear()

    def __call__(self, w: Tensor) -> Tensor:
        """See `Arrangement`; the weights are the same at all tokens of a sequence."""
        rows = self._circle.rows().tolist()
        if self._circle.looks:
            self._found |= dict(zip(rows, w[:, 0].detach().clone(), strict=True))
            return w
        partner = self._circle.partner
        return torch.stack([self._found[int(partner[row])] for row in rows])[:, None].expand_as(w)


def shuffle(composed: Composed, level: Level, seed: int) -> None:
    """From now on give the weights of evaluation away; training is as before.

    Args:
        composed: fitted.
        level: what its weights differ between.
        seed: of the draws.

    Raises:
        Unsupported: it has no routers.
    """
    routers: Sequence = getattr(composed, "routers", ()) if isinstance(composed, RoutedComposed) else ()
    if not routers:
        raise Unsupported("Only weights that routers choose can be shuffled, and here there is no router.")
    if level == "token":
        draws, sides = Draws(seed), dict[int, Places]()
        for router in routers:
            places = sides.setdefault(id(router.context), Places(router.context, draws))
            router.arrangement = TokenShuffle(places)
        composed.whole_prompts = True
        return
    circle = Circle(composed.context, seed)
    for router in routers:
        router.arrangement = PromptShuffle(circle)
    composed.survey = circle
    composed.whole_prompts = True
