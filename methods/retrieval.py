"""Retrieval, a baseline of PHATGOOSE (arXiv 2402.05859): the expert whose rows hold the prompt's nearest neighbour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

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
    reads_encoder,
    refuse_large_k,
    wide,
)


class RetrievalConfig(MethodConfig):
    """Configuration of `retrieval`."""

    rows: PositiveInt = Field(default=1000, description="Rows of each expert that are remembered; most.")
    eval_k: PositiveInt = Field(default=1, description="Experts kept for a prompt.")
    tau: float = Field(default=1.0, gt=0, description="Temperature that divides the cosines, where several are kept.")


class RetrievalComposed(FirstPassComposed):
    """Embeddings of the experts' rows, and for each prompt the cosine with the nearest one of each expert.

    Attributes:
        embeddings: `[M, d]` of unit length.
        owners: `[M]` indices of the experts whose rows they are.
    """

    def remember(self, embeddings: Tensor, owners: Tensor, tau: float) -> None:
        """Begin with these."""
        self.embeddings, self.owners, self.tau = embeddings, owners, tau
        self.seen: list[Tensor] | None = None

    def say(self, scalings: Scalings, hidden: Tensor, side: Side) -> None:
        """See `FirstPassComposed.say`; while rows are remembered every expert weighs the same."""
        prompt = side.prompt(hidden.shape[:2], hidden.device).to(wide(hidden).dtype)[..., None]
        mean = (wide(hidden) * prompt).sum(1) / prompt.sum(1).clamp(min=1)
        found = nn.functional.normalize(mean, dim=-1)
        if self.seen is not None and scalings is (self.scalings if self.context.encoder is None else self.of_encoder):
            self.seen.append(found)
        cosines = found.new_full((len(found), len(self.experts)), -1.0)
        if len(self.owners):
            owners = self.owners.to(found.device).expand(len(found), -1)
            cosines = cosines.scatter_reduce(1, owners, found @ self.embeddings.to(found).T, "amax")
        scalings.logits = (cosines / self.tau)[:, None, None]

    def stored(self) -> dict[str, int]:
        """See `RoutedComposed.stored`."""
        return super().stored() | ({"routers": self.embeddings.numel()} if len(self.embeddings) else {})

    def state(self) -> dict[str, Tensor]:
        """See `Composed.state`."""
        return super().state() | {"embeddings": self.embeddings.clone(), "owners": self.owners.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; refuses missing or unexpected names with KeyError."""
        own = {"embeddings", "owners"}
        if missing := own - state.keys():
            raise KeyError(f"state names differ: {sorted(missing)}")
        super().load_state({name: value for name, value in state.items() if name not in own})
        self.embeddings, self.owners = state["embeddings"].clone(), state["owners"].clone()


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
        like = wide(next(model.parameters())[:0])
        embeddings = like.new_zeros(0, config.get_text_config().hidden_size)
        composed.remember(embeddings, torch.zeros(0, dtype=torch.long, device=like.device), self.config.tau)
        composed.watch(scalings, of_encoder, fixed=True)
        return composed

    def fit(self, composed: Composed, session: Session) -> None:
        """Pass each expert's own rows and remember the mean hidden states of their prompts."""
        assert isinstance(composed, RetrievalComposed)
        training = composed.model.training
        composed.model.eval()
        found: list[Tensor] = []
        try:
            for name in composed.experts:
                composed.seen = []
                session.loss(composed, f"expert:{name}", self.config.rows)
                found.append(torch.cat(composed.seen))
        finally:
            composed.seen = None
            composed.model.train(training)
        composed.embeddings = torch.cat(found)
        counts = torch.tensor([len(one) for one in found])
        composed.owners = torch.arange(len(found)).repeat_interleave(counts).to(composed.embeddings.device)
