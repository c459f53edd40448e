"""Random numbers from meaningful names: adding a site, an expert or a method never moves another's numbers."""

from __future__ import annotations

import torch

from results.ground.digest import wide_seed


def seed_from(*names: object) -> int:
    """A 63-bit seed, the widest that torch takes, that follows from `names` alone."""
    return wide_seed(*names, bits=63)


def generator(*names: object) -> torch.Generator:
    """A CPU generator seeded from names. Draw on the CPU and move, so that values do not depend on the device."""
    return torch.Generator().manual_seed(seed_from(*names))
