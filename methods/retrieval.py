"""Retrieval, a baseline of PHATGOOSE (arXiv 2402.05859): the expert whose rows hold the prompt's nearest neighbour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from methods.base import Level
from methods.pool import PoolExpert, lacks_rows
from methods.routing import (
    Composed,
    Expert,
    FirstPassComposed,
    MethodConfig,
    RoutedLinear,
    RoutedMethod,
    Routing,
    RoutingContext,
    Scalings,
    ScalingsReader,
    Session,
    Side,
    Sparsifier,
    install_routed,
    model_like,
    reads_encoder,
    refuse_large_k,
    wide,
)


class RetrievalConfig(MethodConfig):
    """Configuration of `retrieval`."""

    rows: PositiveInt = Field(default=512, description="Rows of each expert that are remembered; most.")
    eval_k: PositiveInt = Field(default=1, description="Experts kept for a prompt.")
    tau: float = Field(default=1.0, gt=0, description="Temperature that divides the cosines, where several are kept.")


class RetrievalComposed(FirstPassComposed):
    """Embeddings of the experts' rows, and for each prompt the cosine with the nearest one of each expert.

    Attributes:
        embeddings: `[N, rows, d]` of unit length; zero beyond an expert's own rows.
        counts: `[N]`, how many rows each expert has.
    """

    def remember(self, like: Tensor, rows: int, d: int, tau: float) -> None:
        """Begin with room for so many rows of each expert, of width d, in the type of `like`."""
        self.embeddings = like.new_zeros(len(self.experts), rows, d)
        self.counts = torch.zeros(len(self.experts), dtype=torch.long, device=like.device)
        self.tau = tau
        self.seen: list[Tensor] | None = None

    def keep(self, index: int) -> None:
        """Keep the embeddings that were seen as those of an expert."""
        assert self.seen is not None
        found = torch.cat(self.seen)
        self.embeddings[index, : len(found)] = found.to(self.embeddings)
        self.counts[index] = len(found)

    def say(self, scalings: Scalings, hidden: Tensor, side: Side) -> None:
        """See `FirstPassComposed.say`."""
        prompt = side.prompt(hidden.shape[:2], hidden.device).to(wide(hidden).dtype)[..., None]
        mean = (wide(hidden) * prompt).sum(1) / prompt.sum(1).clamp(min=1)
        found = nn.functional.normalize(mean, dim=-1)
        # An encoder's states are said twice, to its own sites and to the decoder's.
        if self.seen is not None and scalings is (self.scalings if self.context.encoder is None else self.of_encoder):
            self.seen.append(found)
        cosines = torch.einsum("bd,nmd->bnm", found, self.embeddings.to(found))
        unused = torch.arange(cosines.shape[-1], device=found.device) >= self.counts.to(found.device)[:, None]
        scalings.logits = (cosines.masked_fill(unused, -1.0).amax(-1) / self.tau)[:, None, None]

    def stored(self) -> dict[str, int]:
        """See `RoutedComposed.stored`."""
        return super().stored() | {"routers": self.embeddings.numel()}

    def state(self) -> dict[str, Tensor]:
        """See `Composed.state`."""
        return super().state() | {"embeddings": self.embeddings.clone(), "counts": self.counts.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; refuses missing or unexpected names with KeyError."""
        own = {"embeddings": self.embeddings, "counts": self.counts}
        if missing := own.keys() - state.keys():
            raise KeyError(f"state names differ: {sorted(missing)}")
        super().load_state({name: value for name, value in state.items() if name not in own})
        for name, value in own.items():
            value.copy_(state[name])


class Retrieval(RoutedMethod):
    """One expert for a whole prompt: the one whose rows hold the nearest neighbour of its mean hidden state."""

    Config: ClassVar[type[MethodConfig]] = RetrievalConfig
    config: RetrievalConfig

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        refuse_large_k(len(pool), self.config.eval_k, "eval")

    def trains(self) -> bool:
        """See `Method.trains`."""
        return True

    def takes(self, pool: Sequence[PoolExpert]) -> str | None:
        """See `Method.takes`."""
        return lacks_rows(pool, "router-train", "every expert's own rows are remembered")

    def routes(self) -> Level | None:
        """See `Method.routes`."""
        return "example"

    def has_learning_rate(self) -> bool:
        """See `Method.has_learning_rate`."""
        return False

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> RetrievalComposed:
        """See `Method.install`."""
        scalings, of_encoder = Scalings(), Scalings()

        def provider(name: str, site: RoutedLinear) -> ScalingsReader:
            return ScalingsReader(of_encoder if reads_encoder(name) else scalings, 0)

        routing = Routing(provider, Sparsifier(self.config.eval_k, self.config.eval_k))
        composed = install_routed(model, experts, RoutingContext(), routing, fuse=self.fuse, handle=RetrievalComposed)
        assert isinstance(composed, RetrievalComposed)
        config: Any = model.config
        width = config.get_text_config().hidden_size
        composed.remember(wide(model_like(model)), self.config.rows, width, self.config.tau)
        composed.watch(scalings, of_encoder, fixed=True)
        return composed

    def fit(self, composed: Composed, session: Session) -> None:
        """Pass each expert's own rows and remember the mean hidden states of their prompts."""
        assert isinstance(composed, RetrievalComposed)
        training = composed.model.training
        composed.model.eval()
        try:
            for index, name in enumerate(composed.experts):
                composed.seen = []
                session.read(composed, f"expert:{name}", self.config.rows)
                composed.keep(index)
                session.progress(index + 1, len(composed.experts))
        finally:
            composed.seen = None
            composed.model.train(training)
