"""Whether the hub may be asked."""

from __future__ import annotations


def offline() -> bool:
    """Whether the user switched the hub off, as `huggingface_hub` itself understands `HF_HUB_OFFLINE`."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
