"""A run without texts: every item's outcome, so that all tests can be made again, and nothing of the benchmark's rows.

The folder is a run: `harness report`, `compare` and `verify` read it like any other. It may be handed on where prompts
and answers may not, and is small enough for a repository.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.sharing.scrub import Scrubber
from reports.outcomes import answers, gold_index
from results.ground.digest import row_digest
from results.ground.errors import HarnessError
from results.schema import Item, Record, RunInfo
from results.store import RunFolder

DIGEST = re.compile(r"[0-9a-f]{12}")
"""What `row_digest` makes."""


def slim_items(items: Sequence[Item]) -> list[Item]:
    """The items of one cell without texts of theirs.

    Kept are ids, groups, metrics, log-likelihoods of choices, positions of the gold and the chosen answer, and the
    choices where all items have the same ones (`yes`, `no`). Other answers become a hash, which tells whether two are
    equal and nothing else; generated texts, prompts and verdicts in words go.
    """
    shared = {tuple(item.choices) if item.choices is not None else None for item in items}
    labels = list(next(iter(shared))) if len(shared) == 1 and None not in shared else None  # type: ignore[arg-type]
    return [_slim(item, labels) for item in items]


def write_slim(path: Path, folder: Path, scrub: Scrubber | None = None) -> RunFolder:
    """Write a run without texts.

    Args:
        path: the run; failed and refused cells go along.
        folder: new or empty.
        scrub: what takes paths and secrets out; by default what knows this machine's and the run's folders.

    Raises:
        HarnessError: no such run, nothing of it is finished, the folder is not empty, or a cell is named by a folder of
            this machine, so that its name could not be checked elsewhere.
    """
    run = RunFolder.open(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HarnessError(f"The folder {folder} is not empty: choose another.")
    records = run.records()
    if not any(record.status == "done" for record in records):
        raise HarnessError(f"Nothing in {path} is finished yet; continue it with `harness run`.")
    scrub = scrub or Scrubber([run.path, run.path.absolute().parent])
    cleaned = [_clean(record, scrub) for record in records]
    slim = RunFolder.create(folder, RunInfo.model_validate(scrub.value(run.info.model_dump(mode="json"))))
    for record in cleaned:
        slim.write_cell(record, slim_items(run.items(record.cell)) if record.status == "done" else [])
    return slim


def _slim(item: Item, labels: list[str] | None) -> Item:
    gold, both = gold_index(item), answers(item)
    places = {} if gold is None else {"gold_index": gold}
    places |= {} if both is None else {"predicted_index": both[1]}
    numbers = {key: value for key, value in item.extra.items() if isinstance(value, bool | int | float)}
    return item.model_copy(
        update={
            "prompt": "",
            "choices": labels,
            "outputs": [] if gold is None else item.outputs,
            "gold": item.gold if labels else _hashed(item.gold, item),
            "prediction": item.prediction if labels else _hashed(item.prediction, item),
            "extra": {**numbers, **places},
        }
    )


def _hashed(answer: str, item: Item) -> str:
    """The hash of an answer; of an item without texts it is one."""
    return answer if not item.prompt and DIGEST.fullmatch(answer) else row_digest(answer)


def _clean(record: Record, scrub: Scrubber) -> Record:
    data: dict[str, Any] = record.model_dump(mode="json")
    spec = data["spec"]
    if scrub.value(spec) != spec:
        raise HarnessError(
            f"{record.spec.method} on {record.spec.task} is named by a folder of this machine: take models and experts "
            "by their hub ids to hand the run on, or publish it with --to."
        )
    return Record.model_validate({**scrub.value(data), "spec": spec})
