"""Random numbers from meaningful names: adding a site, an expert or a method never moves another's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from results.ground.digest import wide_seed


def seed_from(*names: object) -> int:
    """A 63-bit seed, the widest that torch takes, that follows from `names` alone."""
    return wide_seed(*names, bits=63)


def generator(*names: object) -> torch.Generator:
    """A CPU generator seeded from names. Draw on the CPU and move, so that values do not depend on the device."""
    return torch.Generator().manual_seed(seed_from(*names))


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Let modules that are made inside draw from torch's own generator with `seed`, and leave no trace outside.

    Only the generator of the default device is touched. `torch.manual_seed` would also change those of accelerators
    that are in use, and for each kind that is not would keep a formatted stack: more work than making a router.
    """
    device = torch.get_default_device()
    if device.type in ("cpu", "meta"):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
    else:
        with torch.random.fork_rng(devices=[device.index or 0], device_type=device.type):
            torch.manual_seed(seed)
            yield
