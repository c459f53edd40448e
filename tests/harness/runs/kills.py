"""Ends a tiny run at many points and sees what is left: `python -m tests.harness.runs.kills --changes 100 --times 100`.

A process that has imported everything forks one child for each run, so that a run costs about a second. A child is
ended by SIGKILL just before its n-th change of the file system (seen by an audit hook) or after a random time, by
SIGINT or SIGTERM after a random time, or its disk is full from its n-th change on; or it keeps a checkpoint after every
step and is ended at a change of those. The same command is given again afterwards, and then all must be as if nothing
had happened: see `Trials.after`.
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
TASKS = ("sst2", "mrpc", "rte")
HEAVY = ("harness.cli", "harness.runs", "harness.training.fitting", "harness.training.experts", "harness.evaluation.lm",
         "transformers.trainer", "peft", "datasets", "reports.api", "pandas")  # fmt: skip
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate")
_CREATES = ("open", "os.mkdir")

Act = Callable[[str, int], None]
"""Called before a change of the file system with its audit event and its number, from 1."""


def watch(root: str, act: Act) -> None:
    """Call `act` before every change below `root` that this process makes."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            path, _, flags = arguments
            if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
                return
        elif event in CHANGES:
            path = arguments[0]
        else:
            return
        # `shutil.rmtree` names files below a folder that it holds open.
        inner = event in ("os.remove", "os.rmdir") and arguments[1] not in (-1, None)
        if inner or str(path).startswith(root):
            seen += 1
            act(event, seen)

    sys.addaudithook(hook)


def kill_at(number: int) -> Act:
    """End this process at a change, as a power cut would."""

    def act(event: str, seen: int) -> None:
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def full_from(number: int) -> Act:
    """From a change on nothing can be created any more."""

    def act(event: str, seen: int) -> None:
        if seen >= number and event in _CREATES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return act


def count_into(file: Path) -> Act:
    """Keep the number of changes so far in a file outside of what is watched."""

    def act(event: str, seen: int) -> None:
        file.write_text(str(seen))

    return act


def make_inputs(folder: Path) -> list[str]:
    """Write a tiny model and rows; returns the command that uses them, without its output."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from tasks import registry
    from tests.tasks.conftest import ROWS, write_rows

    bytes_ = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    tokenizer.train_from_iterator(
        ["the answer is yes or no"],
        trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=bytes_),
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    wrapped.save_pretrained(folder / "model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(wrapped), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    for name in TASKS:
        card = registry.card(name)
        splits, make = ROWS[card.set, card.config]
        for place, split in enumerate(splits):
            rows = [make(100 * place + i) for i in range(24)]
            write_rows(folder / "data" / card.set / card.config / f"{split}.jsonl", rows)
    budgets = ["experts.tokens=200", "routers.tokens=200", f"experts.names=[{','.join(TASKS)}]"]
    return [
        "run", "--preset", "smoke", "--methods", "uniform,mixer", "--tasks", "sst2", "--limit", "2",
        *(word for budget in budgets for word in ("--set", budget)),
        "--model", str(folder / "model"), "--data", str(folder / "data"),
    ]  # fmt: skip


def forked(
    arguments: list[str], home: Path, act: Act | None = None, modules: Path | None = None, *, stepwise: bool = False
) -> int:
    """Start the command line in a child whose files lie below `home`; the child's number.

    Args:
        arguments: of the command.
        home: holds `stages`, `run`, `tmp`, and takes `log`.
        act: see `watch`.
        stepwise: whether there is a checkpoint after every step, whose changes alone `act` sees.
        modules: file that takes the names of all that the child has imported.
    """
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
        os.environ |= {"HARNESS_STAGES": str(home / "stages"), "TMPDIR": str(home / "tmp")}
        tempfile.tempdir = None
        log = os.open(home / "log", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["harness", *arguments, "--output", str(home / "run")]
        os.environ["HARNESS_CHECKPOINT_SECONDS"] = "0" if stepwise else "30"
        if act is not None:
            watch(str(home / "stages" / "partial" if stepwise else home), act)
        from harness.cli import main

        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
        if modules is not None:
            modules.write_text(json.dumps(sorted(sys.modules)))
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)


def ended(child: int) -> int:
    """Exit code of a child, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def results_of(run: Path) -> dict[str, Any]:
    """What a run's tables are made of."""
    from results.store import RunFolder

    folder = RunFolder.open(run)
    assert folder.verify() == [], folder.verify()
    return {
        record.cell: (
            {name: metric.model_dump() for name, metric in record.metrics.items()},
            [item.model_dump() for item in folder.items(record.cell)],
        )
        for record in folder.records()
    }


def finished(home: Path) -> dict[str, Any]:
    """Stamps of everything that is complete: stages, and cells of the run."""
    from results.ground.files import is_finished, stamp

    places = [*(home / "stages").glob("[eco]*/*"), *(home / "run" / "cells").glob("*")]
    return {str(path.relative_to(home)): stamp(path) for path in places if path.name[0] != "." and is_finished(path)}


def leftovers(home: Path) -> list[str]:
    """What no finished command leaves behind."""
    hidden = [path for path in home.rglob(".*") if path.name != ".lock"]
    notes = (home / "stages" / "locks").glob("*.owner")
    parts = (home / "stages" / "partial").glob("*")
    return [str(path.relative_to(home)) for path in [*hidden, *notes, *parts, *(home / "tmp").iterdir()]]


def ended_parts(home: Path) -> list[str]:
    """What a command that was told to end leaves behind, but for what its next run goes on from."""
    return [name for name in leftovers(home) if not name.startswith("stages/partial/")]


class Trials:
    """Runs that are ended, and what is wrong after each; `faults` are sentences.

    Args:
        root: folder for everything; what is in it is replaced.
        seed: of the points.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.root = root
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        for name in HEAVY:
            importlib.import_module(name)
        inputs = root / "inputs"
        self.arguments = make_inputs(inputs)
        reference, modules, count = root / "reference", root / "modules.json", root / "count"
        if (code := ended(forked(self.arguments, reference, count_into(count), modules))) != 0:
            raise RuntimeError(f"the run itself ends with {code}: {(reference / 'log').read_text()}")
        for name in json.loads(modules.read_text()):
            with suppress(Exception):
                importlib.import_module(name)
        gc.freeze()  # what the fits of each fork would look through, and copy by that
        self.changes = int(count.read_text())
        self.results = results_of(reference / "run")
        self.stages = len([name for name in finished(reference) if name.startswith("stages")])
        warm = root / "warm"
        started = time.monotonic()
        assert ended(forked(self.arguments, warm)) == 0
        self.seconds = time.monotonic() - started
        assert results_of(warm / "run") == self.results

    def trial(
        self, kind: str, act: Act | None, end: Callable[[int], None], codes: tuple[int, ...], *, stepwise: bool = False
    ) -> None:
        """One run that is ended, and one that goes on from there."""
        home = self.root / "trial"
        shutil.rmtree(home, ignore_errors=True)
        started = time.monotonic()
        child = forked(self.arguments, home, act, stepwise=stepwise)
        end(child)
        code = ended(child)
        if code == 0:  # it came to its end: so long does a run take by now
            self.seconds = time.monotonic() - started
        said = (home / "log").read_text() if (home / "log").exists() else ""
        for fault in [*self._during(kind, code, codes, said, home), *self.after(home)]:
            self.faults.append(f"{kind} {self.counts[kind]}: {fault}")
        self.counts[kind] += 1
        self.counts[f"{kind}, ended with {code}"] += 1
        sys.stderr.write(f"{json.dumps(self.counts)} {len(self.faults)} faults {self.faults[-1:]}\n")

    def _during(self, kind: str, code: int, codes: tuple[int, ...], said: str, home: Path) -> Iterator[str]:
        if code not in (0, *codes):
            yield f"it ended with {code}: {said[-600:]}"
        if "Traceback" in said:
            yield f"it said {said[-600:]}"
        if code != -signal.SIGKILL and (left := ended_parts(home)):
            yield f"it left {left}"
        if kind == "full" and code == 2:
            last = said.strip().splitlines()[-1]
            if not (last.startswith("harness: ") and "the disk is full: free some space" in last):
                yield f"it said {last}"

    def after(self, home: Path) -> Iterator[str]:
        """Give the command again: tables are equal, nothing complete was made again, and nothing else is left."""
        before = finished(home)
        code = ended(forked(self.arguments, home))
        said = (home / "log").read_text()
        if code != 0:
            yield f"going on ended with {code}: {said[-600:]}"
            return
        if results_of(home / "run") != self.results:
            yield "the results differ"
        now = finished(home)
        if changed := [name for name, stamp in before.items() if now.get(name) != stamp]:
            yield f"made again: {changed}"
        missing = self.stages - len([name for name in before if name.startswith("stages")])
        cells = len([name for name in before if name.startswith("run")])
        made = said.count(": done in")
        if made != missing and cells < len(self.results):
            yield f"{made} units were computed and {missing} stages were missing"
        self.counts["went on inside a stage"] += said.count(": goes on ")
        if lines := [line for line in said.splitlines() if "is damaged" in line or "the checkpoint of" in line]:
            yield f"something was damaged: {lines}"
        if left := leftovers(home):
            yield f"left behind: {left}"

    def at_changes(self, n: int) -> None:
        """SIGKILL at changes of the file system, spread evenly and at random within each part."""
        for point in self._points(n):
            self.trial("change", kill_at(point), lambda _child: None, (-signal.SIGKILL,))

    def in_stages(self, n: int) -> None:
        """SIGKILL at changes of checkpoints, of which there is one after every step of a training or evaluation."""
        if not n:
            return
        count, home = self.root / "steps", self.root / "stepwise"
        if (code := ended(forked(self.arguments, home, count_into(count), stepwise=True))) != 0:
            raise RuntimeError(f"with checkpoints the run ends with {code}: {(home / 'log').read_text()}")
        assert results_of(home / "run") == self.results
        assert leftovers(home) == []
        for point in self._points(n, int(count.read_text())):
            self.trial("step", kill_at(point), lambda _child: None, (-signal.SIGKILL,), stepwise=True)

    def full(self, n: int) -> None:
        """No space from a change on."""
        for point in self._points(n):
            self.trial("full", full_from(point), lambda _child: None, (2,))

    def at_times(self, n: int) -> None:
        """SIGKILL at random times."""
        for _ in range(n):
            self.trial("time", None, self._later(signal.SIGKILL), (-signal.SIGKILL,))

    def signals(self, n: int) -> None:
        """SIGINT and SIGTERM in turn at random times, once the command has begun."""
        for index in range(n):
            number = (signal.SIGINT, signal.SIGTERM)[index % 2]
            self.trial("signal", None, self._later(number, 0.25), (128 + number,))

    def _points(self, n: int, changes: int | None = None) -> list[int]:
        part = (changes or self.changes) / max(n, 1)
        return [1 + int(part * (index + self.random.random())) for index in range(n)]

    def _later(self, number: int, least: float = 0.0) -> Callable[[int], None]:
        def end(child: int) -> None:
            point = time.monotonic() + self.seconds * (least + (1 - least) * self.random.random())
            while time.monotonic() < point:
                if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    return
                time.sleep(0.005)
            os.kill(child, number)

        return end


def main() -> None:
    """Print what was done as JSON; exit code 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    for kind in ("changes", "times", "signals", "full", "steps"):
        parser.add_argument(f"--{kind}", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="harness-kills-") as scratch:
        os.environ |= {"HARNESS_CACHE": f"{scratch}/cache"}
        import torch

        torch.set_num_threads(1)
        started = time.monotonic()
        trials = Trials(Path(scratch), asked.seed)
        trials.at_changes(asked.changes)
        trials.at_times(asked.times)
        trials.signals(asked.signals)
        trials.full(asked.full)
        trials.in_stages(asked.steps)
        made = {
            "changes of the file system in one run": trials.changes,
            "seconds of one run": round(trials.seconds, 2),
            "seconds in all": round(time.monotonic() - started, 1),
            "trials": dict(trials.counts),
            "faults": trials.faults,
        }
    sys.stdout.write(json.dumps(made, indent=1) + "\n")
    raise SystemExit(1 if trials.faults else 0)


if __name__ == "__main__":
    main()
