"""Random numbers from meaningful names: adding a site, an expert or a method never moves another's numbers."""

from __future__ import annotations

import hashlib

import torch


def seed_from(*names: object) -> int:
    """A 63-bit seed from the SHA-256 of the names' texts."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*names: object) -> torch.Generator:
    """A CPU generator seeded from names. Draw on the CPU and move, so that values do not depend on the device."""
    return torch.Generator().manual_seed(seed_from(*names))
