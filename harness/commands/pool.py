"""`harness pool`: experts whose learning rate and budget are chosen on development rows, as a folder to hand on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.planning.sections import RunConfig


def pool_command(
    config: RunConfig,
    folder: Path,
    rates: Sequence[float],
    budgets: Sequence[int],
    gain: float,
    dev_rows: int,
    arguments: Sequence[str],
) -> None:
    """Grow every expert of the configuration that the folder lacks, write it, and then the pool's two files.

    Raises:
        HarnessError: a wrong number, an expert that is brought, a folder that holds another pool, or no rate that
            stays finite.
    """
    if not rates or not budgets or list(budgets) != sorted(set(budgets)) or min(budgets) < 1:
        raise HarnessError("Give at least one rate, and budgets of at least one token that rise: --tokens 8000,16000.")
    if min(rates) <= 0 or not 0 <= gain < 1 or dev_rows < 1:
        raise HarnessError("Rates are above 0, the gain is from 0 to below 1, and --dev-rows is at least 1.")
    if config.experts.paths:
        raise HarnessError(f"{', '.join(config.experts.paths)}: an expert that is brought is not grown; give its name.")
    from harness.sharing.pool import Grower

    with Grower.start(config, folder, dev_rows, gain, arguments) as grower:
        for name in config.experts.names:
            if grower.holds(name):
                continue
            grown = grower.grow(name, rates, budgets)
            typer.echo(
                f"{name}: {grown.tokens:,} tokens at {grown.rate:g}, {grown.dev_loss:.3f} nats per answer token "
                f"on {grown.dev_rows} development rows (base {grown.base_loss:.3f})",
                err=True,
            )
    typer.echo((folder / "README.md").read_text(), nl=False)


def pool_configuration(
    preset: str, experts: Sequence[str], model: str, data: str, rank: int, seed: int, settings: Sequence[str]
) -> RunConfig:
    """What is common to the trainings of a pool.

    Raises:
        HarnessError: an unknown expert, name or key.
    """
    from harness.planning.choices import known_experts
    from harness.planning.config import parse_set
    from harness.planning.options import RunOptions, configuration
    from results.ground.names import unknown

    known = known_experts()
    for name in experts:
        if name not in known:
            raise unknown("expert", name, known)
    said = {"experts.rank": rank} | dict(map(parse_set, settings))
    options: RunOptions = {
        "model": model,
        "data": data,
        "experts": experts,
        "seeds": [seed],
        "methods": ["base"],
        "settings": said,
    }
    return configuration(preset, options)
