"""Configuration files: YAML that is none, that means something else, or that never ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from tests.malformed.world import REFUSED, WORKS, Case, World

LAUGHS = "\n".join(
    ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    + [f"a{n}: &a{n} [{', '.join(f'*a{n - 1}' for _ in range(10))}]" for n in range(1, 10)]
)
TEXTS: dict[str, str | bytes] = {
    "nothing": "",
    "a comment": "# nothing\n",
    "a number": "3\n",
    "a text": "smoke\n",
    "a list": "- smoke\n",
    "null": "null\n",
    "an open bracket": "methods: [mixer\n",
    "an open quote": "preset: 'a\n",
    "a tabulator": "eval:\n\tlimit: 3\n",
    "two documents": "extends: smoke\n---\nextends: quick\n",
    "a key twice": "extends: smoke\ntune: true\ntune: false\n",
    "a key twice below": "extends: smoke\neval:\n  limit: 3\n  limit: 4\n",
    "a section twice": "extends: smoke\neval:\n  limit: 3\neval:\n  shots: 0\n",
    "a key twice in braces": "extends: smoke\neval: {limit: 3, limit: 4}\n",
    "a key twice by a merge": "extends: smoke\nx: &x {limit: 3}\neval: {<<: *x, limit: 4, limit: 5}\n",
    "an anchor to itself": "&a extends: smoke\neval: *a\n",
    "a list of itself": "extends: smoke\nmethods: &a [*a]\n",
    "a mapping of itself": "&a\nextends: smoke\njudge: *a\n",
    "a billion laughs": f"extends: smoke\n{LAUGHS}\nmethods: *a9\n",
    "a billion laughs as a judge": f"extends: smoke\njudge:\n  {LAUGHS.replace(chr(10), chr(10) + '  ')}\n",
    "a billion laughs by merging": "extends: smoke\n"
    + "\n".join(
        ["a0: &a0 {k0: 1}"]
        + [f"a{n}: &a{n} {{<<: [{', '.join(f'*a{n - 1}' for _ in range(10))}], k{n}: 1}}" for n in range(1, 9)]
    )
    + "\njudge: *a8\n",
    "a million aliases": "extends: smoke\nx: &x {a: 1}\njudge: {a: [" + "*x," * 200_000 + "]}\n",
    "a deep list": f"extends: smoke\nmethods: {'[' * 5000}{']' * 5000}\n",
    "a deep mapping": f"extends: smoke\njudge: {'{a: ' * 5000}1{'}' * 5000}\n",
    "a deep block": "extends: smoke\njudge:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 1500)),
    "deep dashes": f"extends: smoke\nmethods:\n{'- ' * 5000}a\n",
    "an unknown tag": "extends: !x smoke\n",
    "a tag of Python": "extends: !!python/object/apply:os.system [id]\n",
    "a set": "extends: smoke\nmethods: !!set {mixer}\n",
    "bytes": "extends: smoke\npreset: !!binary aGVsbG8=\n",
    "pairs": "extends: smoke\nmethods: !!pairs [a: b]\n",
    "a date": "extends: smoke\npreset: 2020-01-01\n",
    "a date that is none": "extends: smoke\npreset: 2020-99-99\n",
    "a merge of a number": "extends: smoke\neval: {<<: 3}\n",
    "a list as a key": "extends: smoke\n? [a, b]\n: 3\n",
    "a mapping as a key": "extends: smoke\n? {a: b}\n: 3\n",
    "a number as a key": "extends: smoke\n3: 4\n",
    "null as a key": "extends: smoke\n~: 4\n",
    "a switch as a key": "extends: smoke\nyes: 4\n",
    "a number as a key below": "extends: smoke\nexperts: {3: 4}\n",
    "a number as an override's key": "extends: smoke\nmethod_overrides: {3: {a: 1}}\n",
    "a number as a default's key": "extends: smoke\nmethod_defaults: {3: 4}\n",
    "a number as a tuned row": "extends: smoke\ntuned_rates: {3: {lr: 4}}\n",
    "a tuned rate as text": "extends: smoke\ntuned_rates: {mixer: {router.lr: fast}}\n",
    "a tuned rate that is infinite": "extends: smoke\ntuned_rates: {mixer: {router.lr: .inf}}\n",
    "a key that is none": "extends: smoke\nlimit: 3\n",
    "a key of another section": "extends: smoke\neval: {rank: 3}\n",
    "not UTF-8": b"extends: smoke\npreset: \xff\xfe\xfa\n",
    "Latin-1": "extends: smoke\npreset: Größe\n".encode("latin-1"),
    "UTF-16 without a mark": "extends: smoke\n".encode("utf-16-le"),
    "half a character": b"extends: smoke\npreset: \xc3",
    "null characters": b"extends: smoke\n\0\0\0",
    "a control character": "extends: smoke\npreset: a\x07b\n",
    "a lone surrogate": "extends: smoke\npreset: a\ud800b\n",
    "an escaped lone surrogate": 'extends: smoke\npreset: "a\\ud800b"\n',
    "an escaped lone surrogate as a key": 'extends: smoke\n"a\\ud800b": 3\n',
    "an escaped lone surrogate as a method": 'extends: smoke\nmethods: ["a\\ud800b"]\n',
    "a JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)) * 4,
    "zeros": b"\0" * 10_000,
    "an escape that is none": 'extends: "\\q"\n',
    "a directive": "%YAML 9.9\n---\nextends: smoke\n",
    "an unknown directive": "%WHAT\n---\nextends: smoke\n\n%",
    "a number of 5,000 digits": f"extends: smoke\nexperts: {{rank: {'9' * 5000}}}\n",
    "a hexadecimal number of 5,000 digits": f"extends: smoke\nexperts: {{rank: 0x{'f' * 5000}}}\n",
    "a number of 5,000 digits in base sixty": f"extends: smoke\nexperts: {{rank: {'59:' * 2000}59}}\n",
    "a fraction of base sixty": f"extends: smoke\nexperts: {{lr: {'59:' * 2000}59.5}}\n",
    "a fraction of 5,000 digits": f"extends: smoke\nexperts: {{lr: {'9' * 5000}.5}}\n",
    "an infinite rate": "extends: smoke\nexperts: {lr: .inf}\n",
    "no number": "extends: smoke\nexperts: {lr: .nan}\n",
    "a rank of ten to the ninth": "extends: smoke\nexperts: {rank: 1000000000}\n",
    "a fractional rank": "extends: smoke\nexperts: {rank: 4.7}\n",
    "a whole fraction for a rank": "extends: smoke\nexperts: {rank: '8'}\n",
    "a switch for a rank": "extends: smoke\nexperts: {rank: yes}\n",
    "text for a switch": "extends: smoke\ntune: 'false'\n",
    "a number for a switch": "extends: smoke\ntune: 1\n",
    "no methods": "extends: smoke\nmethods: []\n",
    "methods that are null": "extends: smoke\nmethods: null\n",
    "no tasks": "extends: smoke\ntasks: []\n",
    "no seeds": "extends: smoke\nseeds: []\n",
    "no experts": "extends: smoke\nexperts: {names: []}\n",
    "no scales": "extends: smoke\nrouters: {tuning_scales: []}\n",
    "methods as text": "extends: smoke\nmethods: mixer\n",
    "a method that is a number": "extends: smoke\nmethods: [3]\n",
    "a method that is null": "extends: smoke\nmethods: [null]\n",
    "a method that is a mapping": "extends: smoke\nmethods: [{mixer: 1}]\n",
    "a seed that is a fraction": "extends: smoke\nseeds: [0.5]\n",
    "a seed that is a switch": "extends: smoke\nseeds: [true]\n",
    "a seed that is text": "extends: smoke\nseeds: ['0']\n",
    "a section that is a list": "extends: smoke\nexperts: [a]\n",
    "a section that is null": "extends: smoke\nexperts: null\n",
    "a model that is text": "extends: smoke\nmodel: smollm2-135m\n",
    "an expert's path that is a number": "extends: smoke\nexperts: {paths: {sst2: 3}}\n",
    "files that are a text": "extends: smoke\ninclude: a.py\n",
    "files that are numbers": "extends: smoke\ninclude: [3]\n",
    "files that are null": "extends: smoke\ninclude: [null]\n",
    "a file with a null character": 'extends: smoke\ninclude: ["a\\0.py"]\n',
    "data that are a list": "extends: smoke\ndata: [bundled]\n",
    "overrides that are a list": "extends: smoke\nmethod_overrides: [a]\n",
    "an override that is text": "extends: smoke\nmethod_overrides: {uniform: a}\n",
    "overrides that are null": "extends: smoke\nmethod_overrides: null\n",
    "a judge that is a list": "extends: smoke\njudge: [a]\n",
    "extends a number": "extends: 3\n",
    "extends a list": "extends: [smoke, quick]\n",
    "extends a mapping": "extends: {a: b}\n",
    "extends a switch": "extends: true\n",
    "extends an empty text": "extends: ''\n",
    "extends nothing that is there": "extends: nowhere\n",
    "extends a file that is not there": "extends: ./nowhere.yaml\n",
    "extends a device": "extends: /dev/null.yaml\n",
    "extends itself": "extends: it.yaml\n",
    "extends itself by another name": "extends: ./../{here}/it.yaml\n",
    "extends a null character": 'extends: "a\\0.yaml"\n',
    "extends a surrogate": 'extends: "\\ud800.yaml"\n',
    "cells that are none": "cells: 3\n",
    "cells without anything": "cells: []\n",
    "cells that are null": "name: a\ncells: null\n",
    "cells of another version": "schema_version: 99\nname: a\ncells: []\n",
    "cells and numbers": "schema_version: 1\nname: a\ncells: [1, 2]\n",
    "cells and a configuration of text": "schema_version: 1\nname: a\nconfig: text\ncells: [{cell: a}]\n",
}
ENDS = {
    "a fraction of 5,000 digits": (REFUSED, WORKS),
    "overrides that are null": (REFUSED, WORKS),
    "a directive": (REFUSED, WORKS),
}


def cases() -> Iterator[Case]:
    """All of them."""
    for name, text in TEXTS.items():
        yield Case("presets", name, lambda world, t=text: _preset(world, t), ENDS.get(name, (REFUSED,)))
    for name, special in SPECIAL.items():
        yield Case("presets", name, special, ENDS.get(name, (REFUSED,)))
    yield Case("presets", "extends a file beside it", _beside, (WORKS,))
    yield Case("presets", "a byte order mark", lambda world: _preset(world, "\ufeffextends: smoke\n"), (WORKS,))


def _preset(world: World, text: str | bytes) -> list[str]:
    if isinstance(text, str):
        text = text.replace("{here}", world.here.name)
    line = world.line("--preset", str(world.write("it.yaml", text)))
    # What the file says must not be hidden by an option.
    for option in ("--methods", "--tasks", "--data", "--model"):
        if isinstance(text, str) and f"\n{option.removeprefix('--')}:" in text:
            del line[line.index(option) : line.index(option) + 2]
    if isinstance(text, str) and "names:" in text:
        del line[line.index("--set") : line.index("--set") + 2]
    return line


def _beside(world: World) -> list[str]:
    world.write("deep/below.yaml", "extends: smoke\nsummary: below\n")
    return world.line("--preset", str(world.write("deep/it.yaml", "extends: below.yaml\n")))


def _fifo(world: World) -> list[str]:
    os.mkfifo(world.here / "it.yaml")
    return world.line("--preset", str(world.here / "it.yaml"))


def _extends_fifo(world: World) -> list[str]:
    os.mkfifo(world.here / "below.yaml")
    return _preset(world, "extends: below.yaml\n")


def _folder(world: World) -> list[str]:
    (world.here / "it.yaml").mkdir()
    return world.line("--preset", str(world.here / "it.yaml"))


def _circle(world: World) -> list[str]:
    (world.here / "it.yaml").symlink_to(world.here / "it.yaml")
    return world.line("--preset", str(world.here / "it.yaml"))


def _device(world: World) -> list[str]:
    (world.here / "it.yaml").symlink_to("/dev/zero")
    return world.line("--preset", str(world.here / "it.yaml"))


def _huge(world: World) -> list[str]:
    with (world.here / "it.yaml").open("wb") as file:
        file.truncate(2**40)
    return world.line("--preset", str(world.here / "it.yaml"))


def _long_chain(world: World) -> list[str]:
    for number in range(300):
        world.write(f"{number}.yaml", f"extends: {number + 1}.yaml\n")
    return world.line("--preset", str(world.here / "0.yaml"))


SPECIAL: dict[str, Callable[[World], list[str]]] = {
    "a FIFO": _fifo,
    "extends a FIFO": _extends_fifo,
    "a folder": _folder,
    "a link to itself": _circle,
    "a device": _device,
    "a file of a terabyte": _huge,
    "a chain that ends nowhere": _long_chain,
}
