"""Family-wise error and power of a table's tests, by simulation: `python benchmarks/family_error.py`.

Latent score = an item's ease + what a method makes of an item whatever the seed + what a seed makes of a method +
noise; an item is right where it is positive. Without a gain all methods are equal in the long run over items and seeds.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.ranking import MEAN, Family, Question, family
from reports.scores import Key, Scores
from reports.statistics import PairedTest, holm, paired_test, sign_flip

METHODS = ("a", "b", "c", "d", "e")
GAIN, SEED_SD = 0.165, 0.1
"""Latent shifts that come to 5.7 and 3.7 points of accuracy."""
RANDOM: Any = SimpleNamespace(
    spec=SimpleNamespace(pool={"expert": "hash"}), parameters=SimpleNamespace(trainable={}), extra={}
)


@dataclass(frozen=True)
class World:
    """What is drawn.

    Attributes:
        seed_sd: latent shift of one trained model, for each method or for all.
        gain: latent advantage of the first method.
        taste: how much methods differ in which items they get right, whatever the seed.
        frozen: the last method is the same for every seed.
    """

    items: int = 1000
    seeds: int = 3
    tasks: int = 3
    seed_sd: float | tuple[float, ...] = SEED_SD
    gain: float = 0.0
    taste: float = 0.35
    noise: float = 0.25
    frozen: bool = False

    def draw(self, generator: np.random.Generator) -> list[NDArray[np.float64]]:
        """Right and wrong, `[seeds, methods, items]` for each task."""
        count = len(METHODS)
        shift = generator.normal(0, 1, (self.seeds, count)) * np.asarray(self.seed_sd)
        shift[:, 0] += self.gain
        if self.frozen:
            shift[:, -1] = 0
        found = []
        for _ in range(self.tasks):
            ease = generator.normal(0.3, 1, self.items)
            taste = generator.normal(0, self.taste, (count, self.items))
            noise = generator.normal(0, self.noise, (self.seeds, count, self.items))
            right = (ease + taste + shift[:, :, None] + noise > 0).astype(float)
            if self.frozen:
                right[:, -1] = right[:1, -1]
            found.append(right)
        return found


def family_of(tasks: list[NDArray[np.float64]], question: Question) -> Family:
    """The tests that a table of these scores would show."""
    columns: dict[str, dict[str, Scores]] = {}
    for place, right in enumerate(tasks):
        seeds = tuple(range(right.shape[0]))
        ids = tuple(map(str, range(right.shape[2])))
        columns[f"task {place}"] = {
            method: Scores(
                Key("model", method, f"task {place}"), "acc", "fraction", True, right[:, i], ids, seeds, (RANDOM,)
            )
            for i, method in enumerate(METHODS)
        }
    return family(columns, list(columns) if len(columns) > 1 else (), question)


def former(tasks: list[NDArray[np.float64]]) -> Family:
    """What was tested before: every pair, one family, each pair's own variance, Satterthwaite's degrees of freedom."""
    columns = {f"task {place}": right for place, right in enumerate(tasks)} | {MEAN: np.concatenate(tasks, axis=2)}
    found: dict[tuple[str, str, str], PairedTest] = {}
    for column, right in columns.items():
        for i, j in itertools.combinations(range(len(METHODS)), 2):
            test = paired_test(right[:, i], right[:, j])
            if test.n_seeds > 1:
                variance = sum(part.variance for part in test.parts)
                df = variance**2 / sum(part.variance**2 / part.df for part in test.parts if part.variance > 0)
                items = sign_flip((right[:, i] - right[:, j]).mean(axis=0))
                test = replace(test, p=max(items, 2 * float(stats.t.sf(abs(test.difference) / variance**0.5, df))))
            found[column, METHODS[i], METHODS[j]] = replace(test, decisive=True)
    return Family(dict(zip(found, holm(list(found.values())), strict=True)), Question(None))


def rates(
    world: World,
    question: Question,
    repetitions: int,
    seed: int = 1,
    procedure: Callable[[list[NDArray[np.float64]], Question], Family] = family_of,
) -> dict[str, float]:
    """Share of tables with a false alarm, and share of true differences found, on the mean and on single tasks.

    False alarms are counted among pairs without the first method where that has a gain, and among all otherwise.
    """
    generator = np.random.default_rng(seed)
    alarms: dict[str, list[bool]] = {"mean": [], "tasks": []}
    hits: dict[str, list[float]] = {"mean": [], "tasks": []}
    for _ in range(repetitions):
        tests = procedure(world.draw(generator), question).tests
        for name in alarms:
            own = {key: test for key, test in tests.items() if (key[0] == MEAN) == (name == "mean")}
            equal = [t for key, t in own.items() if world.gain == 0 or METHODS[0] not in key]
            better = [t for key, t in own.items() if world.gain > 0 and key[1] == METHODS[0]]
            alarms[name].append(any(test.significant for test in equal))
            hits[name] += [float(test.significant and test.difference > 0) for test in better]
    found = {f"error {name}": float(np.mean(own)) for name, own in alarms.items()}
    return found | {f"power {name}": float(np.mean(own)) for name, own in hits.items() if own}


def main() -> None:
    """Print the table for 1, 2, 3, 5 and 10 seeds as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 5, 10])
    given = parser.parse_args()
    say = sys.stdout.write
    say("| seeds | question | error, mean | error, tasks | power, mean | power, tasks |\n|---|---|---|---|---|---|\n")
    for seeds in given.seeds:
        for label, question, procedure in (
            ("before: all pairs", Question(None), lambda tasks, _: former(tasks)),
            ("all pairs", Question(None), family_of),
            ("one against all", Question("a"), family_of),
        ):
            null = rates(World(given.items, seeds), question, given.repetitions, procedure=procedure)
            gain = rates(World(given.items, seeds, gain=GAIN), question, given.repetitions, procedure=procedure)
            cells = [null["error mean"], null["error tasks"], gain["power mean"], gain["power tasks"]]
            say(f"| {seeds} | {label} | {' | '.join(f'{100 * cell:.0f} %' for cell in cells)} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
