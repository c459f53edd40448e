"""A pool of experts as a folder: one PEFT adapter each, and `pool.json` on how they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from results.ground.files import read_json
from results.schema import Environment, ModelProvenance

POOL = "pool.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tried(_Model):
    """One training of an expert."""

    rate: float = Field(description="Learning rate.")
    budget: int = Field(description="Tokens it might use.")
    tokens: int = Field(description="Tokens it used.")
    dev_loss: float | None = Field(description="Nats per answer token on development rows; null if not finite.")
    error: str = Field(default="", description="Why there is no loss.")


class Grown(_Model):
    """One expert of a pool."""

    name: str = Field(description="Name, which is its folder's too.")
    tasks: list[str] = Field(description="Tasks whose expert-train rows it learned from.")
    origins: list[str] = Field(description="Where the rows of each task came from.")
    fingerprints: list[str] = Field(description="Hash over the rows of each task.")
    rate: float = Field(description="Learning rate, chosen at the smallest budget.")
    tokens: int = Field(description="Tokens it was trained on.")
    dev_rows: int = Field(description="Development rows it was chosen on.")
    base_loss: float = Field(description="The base model's loss on them, in nats per answer token.")
    dev_loss: float = Field(description="Its own, as stored.")
    trials: list[Tried] = Field(description="Every training, in order.")
    sha256: str = Field(description="Of `adapter_model.safetensors`.")


class Pool(_Model):
    """What `pool.json` says."""

    version: Literal[1] = 1
    model: ModelProvenance
    rank: int = Field(description="Of every expert.")
    alpha: float = Field(description="LoRA alpha of every expert.")
    targets: list[str] = Field(description="Names of the layers that experts are on.")
    dtype: str = Field(description="Type that weights are stored in.")
    seed: int = Field(description="Of initial values and order.")
    gain: float = Field(description="Share of the loss that a larger budget had to take off.")
    environment: Environment
    experts: list[Grown]


def read_pool(folder: Path) -> Pool:
    """What the pool in a folder says of itself.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    return read_json(folder / POOL, Pool)
