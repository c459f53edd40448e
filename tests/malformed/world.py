"""What malformed inputs are made of: a tiny model, rows, a finished run; and one call of the command line.

Everything is called in this process, since a process of its own would cost each of some hundred cases its imports.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

PATIENCE = 10.0
"""Seconds after which a command counts as hanging."""
WAITING = 12
"""Times the patience that may pass on the wall."""
SENTENCE = 2000
"""Characters that one sentence may have: a huge value is named, not repeated."""

REFUSED, RECORDED, WORKS = "refused", "recorded", "works"
"""How a case ends: exit code 2 with one sentence; exit code 1 with the failure recorded or said; or as if nothing were
wrong, for what is odd but means something."""


@dataclass(frozen=True)
class World:
    """Folders that all cases share and none changes, and `here`, one case's own.

    Attributes:
        model: a tiny random Llama with a tokenizer of bytes.
        data: rows of sst2 and mrpc.
        adapter: a PEFT directory that fits the model.
        run: a finished run of `uniform` and `base` on sst2.
        here: an empty folder.
    """

    model: Path
    data: Path
    adapter: Path
    run: Path
    here: Path

    def write(self, name: str, content: str | bytes) -> Path:
        """A file of this case."""
        file = self.here / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogatepass")
        file.write_bytes(content)
        return file

    def copy(self, what: str) -> Path:
        """A copy of one of the shared folders, to be damaged."""
        target = self.here / what
        shutil.copytree(getattr(self, what), target)
        return target

    def line(self, *more: str, model: Path | None = None, data: Path | None = None, plan: bool = True) -> list[str]:
        """A command line that only what `more` adds can be wrong with."""
        own = ["--model", str(model or self.model), "--data", str(data or self.data), "--limit", "4"]
        pool = [] if "--experts" in more else ["--set", "experts.names=[sst2,mrpc]"]
        pool += [] if "--output" in more else ["--output", str(self.here / "out")]
        given = [] if "--tasks" in more else ["--tasks", "sst2"]
        given += [] if "--methods" in more else ["--methods", "uniform"]
        preset = [] if "--preset" in more else ["--preset", "smoke"]
        return ["run", *preset, *given, *own, *pool, *(["--plan"] if plan else []), *more]


@dataclass(frozen=True)
class Case:
    """One malformed input.

    Attributes:
        kind: of malformation, for counting.
        name: tells it apart.
        line: writes what it needs and gives the command line.
        ends: REFUSED, RECORDED or WORKS; several where either is right.
        says: words that its sentence must hold.
    """

    kind: str
    name: str
    line: Callable[[World], list[str]]
    ends: tuple[str, ...] = (REFUSED,)
    says: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


@dataclass
class Outcome:
    """How a command line ended: its exit code, what it wrote, what it raised past `main`, and how long it took."""

    code: int | None
    out: str
    err: str
    raised: BaseException | None
    seconds: float
    ends: str = field(init=False)

    def __post_init__(self) -> None:
        sentences = [line for line in self.err.splitlines() if line.startswith("harness: ")]
        last = (self.err.splitlines() or [""])[-1]
        if isinstance(self.raised, Hung) or self.seconds > PATIENCE:
            self.ends = "hang"
        elif self.raised is not None or "Traceback (most recent call last)" in self.out + self.err:
            self.ends = "traceback"
        elif self.code == 2 and last.startswith("harness: "):
            whole = sentences and len(last) <= SENTENCE and last.isprintable() and last.rstrip().endswith((".", "?"))
            self.ends = REFUSED if whole else "no sentence"
        elif self.code == 2 and "Usage:" in self.err:
            self.ends = REFUSED  # what typer itself says of an option
        elif self.code == 1:
            self.ends = RECORDED
        elif self.code == 0:
            self.ends = WORKS
        else:
            self.ends = f"exit {self.code}"


class Hung(BaseException):
    """The patience has run out."""


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise Hung

    # Of the processor: a machine may be busy with something else. Whoever waits for a pipe uses none of it.
    timers = ((signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, WAITING * seconds))
    before = [signal.signal(number, end) for _, number, _ in timers]
    for timer, _, limit in timers:
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


class _Terminal(io.TextIOWrapper):
    """Standard output as a terminal has it: what is no UTF-8 cannot be written."""

    def __init__(self, errors: str) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)

    def text(self) -> str:
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined, no-any-return]


def call(line: Sequence[str], *, patience: float = PATIENCE) -> Outcome:
    """What a command line does; stopped after `patience` seconds of the processor, or many more on the wall."""
    from harness.cli import main

    out, err = _Terminal("strict"), _Terminal("backslashreplace")
    arguments, sys.argv = sys.argv, ["harness", *line]
    code: int | None = 0
    raised: BaseException | None = None
    started = time.process_time()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _patience(patience):
            main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException as error:
        code, raised = None, error
    finally:
        sys.argv = arguments
    return Outcome(code, out.text(), err.text(), raised, time.process_time() - started)


def make(root: Path) -> World:
    """The shared folders, made once; `HARNESS_STAGES` and `HARNESS_CACHE` must point below `root` already."""
    world = World(root / "model", root / "data", root / "adapter", root / "run", root)
    _model(world.model)
    _rows(world.data)
    line = world.line("--methods", "uniform,base", plan=False)
    line[line.index("--output") + 1] = str(world.run)
    ended = call(line, patience=120.0)
    assert ended.code == 0, (ended.err, ended.raised)
    trained = next((Path(os.environ["HARNESS_STAGES"]) / "expert").iterdir())
    world.adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(trained / name, world.adapter)
    return world


def _model(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", *sorted(alphabet)])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def _rows(folder: Path) -> None:
    for split, numbers in (("train", range(40)), ("validation", range(40, 52))):
        sst2 = [{"sentence": f"a film number {n}", "label": n % 2, "idx": n} for n in numbers]
        mrpc = [{"sentence1": f"lamp {n}", "sentence2": f"light {n}", "label": n % 2, "idx": n} for n in numbers]
        for name, rows in (("sst2", sst2), ("mrpc", mrpc)):
            file = folder / "glue" / name / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def changed(file: Path, change: dict[str, Any] | Callable[[Any], Any]) -> Path:
    """A JSON file with some keys set, or changed by a function."""
    value = json.loads(file.read_text())
    value = value | change if isinstance(change, dict) else change(value)
    file.write_text(json.dumps(value))
    return file
