"""What is known of a pool while a run is planned, before any weight is read, and reasons that several methods share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from methods.adapter_file import SiteShape


@dataclass(frozen=True)
class PoolExpert:
    """One expert of a planned pool. What is asked for is found out then, once.

    Attributes:
        name: the expert's.
        find_sites: gives `sites`.
        find_parts: gives `parts`.
    """

    name: str
    find_sites: Callable[[], Mapping[str, SiteShape]]
    find_parts: Callable[[], frozenset[str]]

    @cached_property
    def sites(self) -> Mapping[str, SiteShape]:
        """Shapes by module path, in the model's order."""
        return self.find_sites()

    @property
    def numbers(self) -> int:
        """Of one LoRA: A `[rank, d_in]` and B `[d_out, rank]` at every site."""
        return sum(one.rank * (one.d_in + one.d_out) for one in self.sites.values())

    @cached_property
    def parts(self) -> frozenset[str]:
        """Which kinds of rows there are of its own tasks: `expert-train`, `router-train`, `dev`. An expert that was
        brought along may have none."""
        return self.find_parts()


def widths_of(pool: Sequence[PoolExpert]) -> dict[str, int]:
    """Width of the input at every module path where an expert has factors; in the model's order for each expert."""
    return {site: shape.d_in for expert in pool for site, shape in expert.sites.items()}


def lacks_rows(pool: Sequence[PoolExpert], part: str, why: str) -> str | None:
    """A reason where some experts have no rows of a kind; `why` says what every expert's are needed for."""
    lacking = [f"'{expert.name}'" for expert in pool if part not in expert.parts]
    return f"{why}, and this source has none for {' and '.join(lacking)}" if lacking else None


def has_no_rows(pool: Sequence[PoolExpert], part: str, what: str) -> str | None:
    """A reason where no expert has rows of a kind, called `what`."""
    return None if any(part in expert.parts for expert in pool) else f"no expert of the pool has {what} in this source"
