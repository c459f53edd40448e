"""A base model with merged updates in it: added to copies of its weights, or kept beside them as factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import Composed, Expert, SiteFactors
from methods.merging.lowrank import truncate_dense
from methods.merging.updates import dense, narrow_factors, wide_type
from methods.routing.context import RoutingContext
from methods.routing.frozen import dense_bias, dense_weight, kept_elsewhere, stored_as, weight_like
from methods.routing.inject import Injection

Update = SiteFactors | Tensor
"""What a merge makes of one site: factors, or a dense `[d_out, d_in]` matrix."""


class BesideLinear(nn.Module):
    """What stands in the place of a linear layer and looks like it.

    Attributes:
        base: the frozen layer, untouched: taking this module out restores it to the bit.
    """

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.train(base.training)

    @property
    def weight(self) -> Tensor:
        """For code that looks at the frozen weight's type, shape or device, see `weight_like`."""
        return weight_like(self.base)

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias."""
        return self.base.bias

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return self.base.in_features

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self.base.out_features


class MergedLinear(BesideLinear):
    """A linear layer with an update. Shapes: input `[..., d_in]`, output `[..., d_out]`.

    Attributes:
        fold: whether the update is added to a copy of the weight, which costs nothing per token and rounds once to the
            weight's type; else it stays beside the weight, and costs two products of its rank. Beside a quantised
            weight it stays in any case: a copy would have the size of what quantising saved, and would not round
            inputs as the layer does. Then a dense update costs a product of the weight's size.
    """

    def __init__(self, base: nn.Linear, fold: bool) -> None:
        super().__init__(base)
        self.fold = fold
        self._folded: Tensor | None = None
        self._bias: Tensor | None = None
        self._factors: tuple[Tensor, ...] | None = None

    @torch.no_grad()
    def set(self, update: Update) -> None:
        """Replace the update; computed in float32 at least."""
        like = self.weight
        if self.fold and stored_as(self.base) is None:
            weight = dense_weight(self.base)
            delta = dense(update, weight) if isinstance(update, SiteFactors) else update
            folded = (weight.to(wide_type(weight.dtype)) + delta).to(weight.dtype)
            # What was too large for the device as it was is too large with the update in it.
            self._folded = folded.cpu() if kept_elsewhere(self.base) else folded
            self._bias = dense_bias(self.base)
        elif isinstance(update, SiteFactors):
            self._factors = narrow_factors(update, like)
        else:
            self._factors = (update.to(like.device, like.dtype),)

    def forward(self, x: Tensor) -> Tensor:
        """Output of the updated layer."""
        if self._folded is not None:
            return F.linear(x, self._folded.to(x.device), self._bias)
        if self._factors is None:
            raise RuntimeError("a merged layer was called before its update was set")
        y: Tensor = self.base(x)
        for factor in self._factors:
            x = F.linear(x, factor)
        return y + x


class Merged(Composed):
    """Static updates installed on a model; nothing depends on the input."""

    def __init__(
        self,
        model: nn.Module,
        experts: Sequence[str],
        sites: Sequence[str],
        merge: Callable[[str, Tensor], Update],
        *,
        fold: bool,
    ) -> None:
        """Install.

        Args:
            model: the base model.
            experts: names of the pool.
            sites: module paths of linear layers.
            merge: the update of a site, given its frozen weight. Called anew whenever it is needed, so that dense
                updates of the whole model are never in memory together.
            fold: see `MergedLinear`; dense updates need it.
        """
        super().__init__(model, RoutingContext(), experts)
        self._merge = merge
        self._sizes: dict[str, int] = {}
        self._layers: dict[str, MergedLinear] = {}
        for site in sites:
            base = model.get_submodule(site)
            assert isinstance(base, nn.Linear)
            self._layers[site] = MergedLinear(base, fold)
        self.refresh()
        self.sites.update(self._layers)
        self._injection: Injection | None = Injection(model, self._layers)

    def refresh(self) -> None:
        """Merge all sites again, after what the merge depends on has changed."""
        for site, layer in self._layers.items():
            update = self.update(site)
            self._sizes[site] = update.numel() if isinstance(update, Tensor) else update.A.numel() + update.B.numel()
            layer.set(update)

    def update(self, site: str) -> Update:
        """The merged update of one site."""
        return self._merge(site, self._layers[site].weight)

    def stored(self) -> dict[str, int]:
        """Numbers of the merged updates as they are; folded into the weights they take no memory of their own."""
        return {"merged": sum(self._sizes.values())}

    def expert(self, name: str, *, rank: int | None = None) -> Expert:
        """The merge as one ordinary LoRA expert.

        Args:
            name: the new expert's.
            rank: of dense updates, which are cut to it by a truncated SVD; None keeps them whole.
        """
        sites = {}
        for site in self._layers:
            update = self.update(site)
            if isinstance(update, Tensor):
                update = truncate_dense(update, min(update.shape) if rank is None else rank)
            sites[site] = update
        return Expert(name, sites)

    def merged(self, name: str) -> Expert:
        """See `Composed.merged`; exact, so a dense update takes the rank of its shape."""
        return self.expert(name)

    def uninstall(self) -> None:
        """See `Composed.uninstall`; a second call does nothing."""
        if self._injection is None:
            return
        self._injection.undo()
        self._injection = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
