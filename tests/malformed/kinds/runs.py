"""Run folders whose files are cut, changed, of other versions, or never were what they are called."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.malformed.world import RECORDED, REFUSED, WORKS, Case, World

COMMANDS: dict[str, Callable[[World, Path], list[str]]] = {
    "report": lambda world, run: ["report", str(run)],
    "page": lambda world, run: ["report", str(run), "--format", "html"],
    "compare": lambda world, run: ["compare", str(run)],
    "verify": lambda world, run: ["verify", str(run)],
    "export": lambda world, run: ["export", str(run), "--method", "uniform", "--output", str(world.here / "model-out")],
    "merge": lambda world, run: ["merge", str(run), str(world.run), "--output", str(world.here / "merged")],
    "clean": lambda world, run: ["clean", "--run", str(run)],
    "into": lambda world, run: ["run", "--into", str(run), "--plan"],
    "publish": lambda world, run: ["publish", str(run), "--to", "a/b", "--dry-run", str(world.here / "dry")],
    "preset": lambda world, run: ["run", "--preset", f"{run}/run.yaml", "--output", f"{world.here}/new", "--plan"],
    "rescore": lambda world, run: ["rescore", str(run), "--task", "sst2"],
}  # fmt: skip
READS_PLAN = tuple(COMMANDS)
READS_RECORDS = ("report", "page", "compare", "verify", "merge", "publish")
READS_ITEMS = ("report", "page", "compare", "verify", "publish")


def _cell(name: str) -> str:
    return f"schema_version: 2\nname: a\ncells: [{{cell: {name}, method: a, task: b, seed: 0}}]\n"


PLANS: dict[str, str | bytes] = {
    "nothing": b"",
    "a number": "3\n",
    "a list": "[]\n",
    "not UTF-8": b"name: \xff\n",
    "zeros": b"\0" * 3000,
    "a key twice": "schema_version: 2\nname: a\nname: b\ncells: []\n",
    "an anchor to itself": "&a\nschema_version: 2\nname: a\nvariants: [*a]\ncells: []\n",
    "a billion laughs": "schema_version: 2\nname: a\nx0: &x0 [a, a, a, a, a, a, a, a, a, a]\n"
    + "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 10)),
    "a deep list": f"schema_version: 2\nname: a\ncells: {'[' * 5000}{']' * 5000}\n",
    "a number of 5,000 digits": f"schema_version: {'9' * 5000}\nname: a\n",
    "version 99": "schema_version: 99\nname: a\ncells: []\n",
    "version 0": "schema_version: 0\nname: a\ncells: []\n",
    "a version of text": "schema_version: '3'\nname: a\ncells: []\n",
    "a version of a switch": "schema_version: true\nname: a\ncells: []\n",
    "a version of a fraction": "schema_version: 2.5\nname: a\ncells: []\n",
    "cells that are text": "schema_version: 2\nname: a\ncells: [a]\n",
    "version 1 with cells that are text": "schema_version: 1\nname: a\ncells: [a]\n",
    "version 1 with cells that are null": "schema_version: 1\nname: a\ncells: null\n",
    "version 1 with a model that is text": "schema_version: 1\nname: a\nconfig: {model: a}\ncells: []\n",
    "a configuration that is text": "schema_version: 2\nname: a\nvariants: [{config: a}]\ncells: []\n",
    "a surrogate": 'schema_version: 2\nname: "\\ud800"\ncells: []\n',
    "a cell above the folder": _cell("../../x"),
    "a cell of a null character": 'schema_version: 2\nname: a\ncells: [{cell: "a\\0b", method: a, task: b, seed: 0}]\n',
    "a cell of 10,000 characters": _cell("a" * 10_000),
    "a cell without a name": "schema_version: 2\nname: a\ncells: [{cell: '', method: a, task: b, seed: 0}]\n",
}  # fmt: skip
RECORDS: dict[str, str | bytes] = {
    "nothing": b"",
    "a list": "[]",
    "a number": "3",
    "text": "hello",
    "an empty object": "{}",
    "not UTF-8": b'{"schema_version": 1, "cell": "\xff"}',
    "a deep list": '{"schema_version": 1, "cell": ' + "[" * 50_000 + "}",
    "a version of 5,000 digits": '{"schema_version": ' + "9" * 5000 + "}",
    "a version of text": '{"schema_version": "1"}',
    "version 99": '{"schema_version": 99}',
}
FIELDS: dict[str, tuple[Any, ...]] = {
    "status": (None, "finished", 3),
    "cell": (None, 3, "another"),
    "metrics": (None, [], {"acc": 3}, {"acc": {"value": "a", "n": 1}}, {"acc": {"value": 1e999, "n": 1}}, {}),
    "primary": (None, 3, "nothing"),
    "n_items": (None, "a", -1, 3, 10**400),
    "spec": (None, [], {}),
    "cost": (None, {"seconds": {"fit": None}}, {"seconds": {"fit": -1e308}}),
    "parameters": (None, {"trainable": {"a": "b"}, "stored": {}}),
    "chance": (None, float("nan"), 2.0),
    "training_log": (3, [3], [{"step": "a"}]),
    "extra": (3,),
    "notes": ("a", [3]),
    "arguments": ("a", [3]),
    "a field of tomorrow": (3,),
}
ITEMS: dict[str, bytes] = {
    "nothing": b"",
    "no gzip": b"hello",
    "gzip cut off": gzip.compress(b"{}\n" * 99)[:20],
    "an empty line": gzip.compress(b"\n"),
    "a number": gzip.compress(b"3\n"),
    "an empty object": gzip.compress(b"{}\n"),
    "half a line": gzip.compress(b'{"id": "a"'),
    "not UTF-8": gzip.compress(b'{"id": "\xff"}\n'),
    "a deep list": gzip.compress(b"[" * 50_000),
    "a damaged body": gzip.compress(b"{}" * 999)[:30] + b"\xff" * 30,
}
CONTRADICTED = {("metrics", "{}"), ("primary", "'nothing'"), ("cell", "'another'"), ("n_items", "3"), ("n_items", "-1")}
"""What `verify` must notice; other odd values may be what was meant."""
ANY = (REFUSED, RECORDED, WORKS)
NOTED = (REFUSED, RECORDED)


def cases() -> Iterator[Case]:
    """All of them."""
    for number, (name, text) in enumerate(PLANS.items()):
        for command in _some(READS_PLAN, number, 3):
            # Commands that look at no cell need not mind one whose name is odd.
            ends = ANY if name.startswith("a cell") or name in ("a surrogate",) else NOTED
            yield Case("run.yaml", f"{command}: {name}", lambda world, c=command, t=text: _plan(world, c, t), ends)
    for share in (1, 3, 7, 9):
        for command in READS_PLAN:
            yield Case(
                "run.yaml", f"{command}: {share} tenths", lambda world, c=command, s=share: _half(world, c, s), NOTED
            )
    for number, (name, text) in enumerate(RECORDS.items()):
        for command in _some(READS_RECORDS, number, 2):
            yield Case(
                "records", f"{command}: {name}", lambda world, c=command, t=text: _record(world, c, lambda _: t), NOTED
            )
    for field, values in FIELDS.items():
        for number, value in enumerate(values):
            for command in ("verify", "report")[: 1 + number % 2]:
                shown = repr(value)[:30]
                yield Case(
                    "records",
                    f"{command}: {field} {shown}",
                    lambda world, c=command, f=field, v=value: _field(world, c, f, v),
                    NOTED if (field, shown) in CONTRADICTED and command == "verify" else ANY,
                )
    for number, (name, data) in enumerate(ITEMS.items()):
        for command in _some(READS_ITEMS, number, 2):
            yield Case("items", f"{command}: {name}", lambda world, c=command, d=data: _items(world, c, d), NOTED)
    for number, (name, special) in enumerate(SPECIAL.items()):
        for command in _some(READS_RECORDS, number, 2):
            yield Case(
                "run folders",
                f"{command}: {name}",
                lambda world, c=command, s=special: COMMANDS[c](world, s(world)),
                ANY,
            )
    for command in COMMANDS:
        yield Case("run folders", f"{command}: a FIFO for run.yaml", lambda world, c=command: _fifo(world, c), NOTED)
    for name in ("$x$", "a_b^{c", "$\\frac{", "\\end{document}", "<script>", "\\", "a\nb", "a&b#c~d%s{}"):
        for command in ("page", "pareto"):
            yield Case(
                "odd names", f"{command}: {name!r}", lambda world, c=command, n=name: _name(world, c, n), (WORKS,)
            )


def _some(commands: tuple[str, ...], number: int, count: int) -> list[str]:
    """Other ones each time, so that each sees much and the whole stays quick."""
    return [commands[(number + step) % len(commands)] for step in range(count)]


def _plan(world: World, command: str, text: str | bytes) -> list[str]:
    run = world.copy("run")
    world.write("run/run.yaml", text)
    return COMMANDS[command](world, run)


def _half(world: World, command: str, share: int) -> list[str]:
    run = world.copy("run")
    data = (run / "run.yaml").read_bytes()
    (run / "run.yaml").write_bytes(data[: len(data) * share // 10])
    return COMMANDS[command](world, run)


def _record(world: World, command: str, change: Callable[[str], str | bytes]) -> list[str]:
    """A record that is changed, and a marker that says it is whole: as if it had been written so."""
    run = world.copy("run")
    file = sorted(run.glob("cells/*/record.json"))[0]
    text = change(file.read_text())
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    _seal(file.parent)
    return COMMANDS[command](world, run)


def _field(world: World, command: str, field: str, value: Any) -> list[str]:
    return _record(world, command, lambda text: json.dumps(json.loads(text) | {field: value}))


def _items(world: World, command: str, data: bytes) -> list[str]:
    run = world.copy("run")
    file = sorted(run.glob("cells/*/items.jsonl.gz"))[0]
    file.write_bytes(data)
    _seal(file.parent)
    return COMMANDS[command](world, run)


def _seal(folder: Path) -> None:
    from results.ground import files

    (folder / "DONE").unlink()
    files._mark(folder)


def _fifo(world: World, command: str) -> list[str]:
    run = world.copy("run")
    (run / "run.yaml").unlink()
    os.mkfifo(run / "run.yaml")
    return COMMANDS[command](world, run)


def _cell_fifo(world: World, name: str) -> Path:
    run = world.copy("run")
    file = sorted(run.glob(f"cells/*/{name}"))[0]
    file.unlink()
    os.mkfifo(file)
    return run


def _marker(world: World, text: bytes) -> Path:
    run = world.copy("run")
    sorted(run.glob("cells/*/DONE"))[0].write_bytes(text)
    return run


def _no_cells(world: World) -> Path:
    import shutil

    run = world.copy("run")
    shutil.rmtree(run / "cells")
    return run


def _cell_file(world: World) -> Path:
    run = _no_cells(world)
    (run / "cells").write_text("not a folder")
    return run


SPECIAL: dict[str, Callable[[World], Path]] = {
    "a FIFO for a record": lambda world: _cell_fifo(world, "record.json"),
    "a FIFO for items": lambda world: _cell_fifo(world, "items.jsonl.gz"),
    "a FIFO for a marker": lambda world: _cell_fifo(world, "DONE"),
    "a marker of nothing": lambda world: _marker(world, b""),
    "a marker of a list": lambda world: _marker(world, b"[]"),
    "a marker of another version": lambda world: _marker(world, b'{"version": 99, "sha256": {}}'),
    "a marker of numbers": lambda world: _marker(world, b'{"sha256": {"record.json": 3}, "bytes": {}}'),
    "a marker of paths": lambda world: _marker(world, b'{"version": 2, "sha256": {"../../../x": "a"}, "bytes": {}}'),
    "a marker of null characters": lambda world: _marker(world, b'{"sha256": {"a\\u0000b": "a"}, "bytes": {}}'),
    "a deep marker": lambda world: _marker(world, b"[" * 50_000),
    "a marker not in UTF-8": lambda world: _marker(world, b'{"version": "\xff"}'),
    "no cells": _no_cells,
    "cells that are a file": _cell_file,
}  # fmt: skip


def _name(world: World, command: str, name: str) -> list[str]:
    """A run with a method, a task and a model of an odd name, as a package of one's own may bring them."""

    from results.ground.digest import digest
    from results.schema import Command, PlannedCell, RunInfo
    from results.store import RunFolder

    source = RunFolder.open(world.run)
    records = []
    for record in source.records():
        spec = record.spec.model_copy(
            update={"method": f"m {name}" if record.spec.method == "uniform" else "base", "task": f"t {name}"}
        )
        model = record.model.model_copy(update={"label": f"model {name}"})
        records.append((record.cell, record.model_copy(update={"spec": spec, "cell": digest(spec), "model": model})))
    cells = [PlannedCell(cell=r.cell, method=r.spec.method, task=r.spec.task, seed=r.spec.seed) for _, r in records]
    run = RunFolder.create(
        world.here / "odd", RunInfo(name=name, commands=[Command(time="2026-01-01T00:00:00+00:00")], cells=cells)
    )
    for before, record in records:
        run.write_cell(record, source.items(before))
    if command == "pareto":
        return ["report", str(run.path), "--table", "pareto", "--format", "md"]
    return COMMANDS[command](world, run.path)
