"""Rows of tasks, and files of methods and tasks that a run brings along."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from tests.malformed.world import REFUSED, WORKS, Case, World

GONE: Any = object()
SST2: dict[str, tuple[Any, ...]] = {
    "sentence": (None, "", " ", 3, ["a"], {"a": 1}, True, "a\ud800", "a\0b", GONE, float("nan")),
    "label": (None, -1, 2, "1", 1.0, True, [1], GONE, 10**400, float("nan"), float("inf")),
    "idx": (None, 1.5, "a", [1]),
}
FILES: dict[str, str | bytes] = {
    "nothing": b"",
    "an empty line": "\n\n",
    "a list": '["a", 1]\n',
    "a number": "3\n",
    "null": "null\n",
    "text": "hello\n",
    "half a line": '{"sentence": "a", "label"',
    "not UTF-8": b'{"sentence": "\xff\xfe", "label": 1, "idx": 3}\n',
    "UTF-16": '{"sentence": "a", "label": 1, "idx": 3}\n'.encode("utf-16"),
    "zeros": b"\0" * 1000,
    "a deep list": '{"sentence": ' + "[" * 50_000 + "]" * 50_000 + "}\n",
    "a number of 5,000 digits": '{"sentence": "a", "label": ' + "9" * 5000 + "}\n",
    "a key twice": '{"sentence": "a", "sentence": "b", "label": 1, "idx": 3}\n',
    "an escaped surrogate": '{"sentence": "a\\ud800", "label": 1, "idx": 3}\n',
    "half a character in a column of no use": '{"sentence": "a", "label": 1, "idx": 3, "more": "a\\ud800"}\n',
    "half a character in a column's name": '{"sentence": "a", "label": 1, "idx": 3, "a\\ud800": "a"}\n',
    "gzip": gzip.compress(b"{}"),
}
# A name may be any text, and a text may hold any character that UTF-8 has.
SST2_ENDS = {("sentence", repr("a\0b")): (REFUSED, WORKS), ("idx", "'a'"): (REFUSED, WORKS)}
QUIZ: dict[str, tuple[Any, ...]] = {
    "question": (None, "", 3.5, ["a"], True, "\ud800", GONE, float("nan")),
    "choices": (None, [], ["a"], "ab", [1, None], ["a", "a"], ["a", ""], {"a": 1}, [["a"], ["b"]], [True, False], GONE,
                ["a", "\ud800"]),
    "answer": (None, "c", 2, -1, 1.0, True, [], {"a": 1}, "", GONE, 10**400, "\ud800"),
}  # fmt: skip
QUIZ_ENDS = {("question", "3.5"): (REFUSED, WORKS)}
CSV: dict[str, str | bytes] = {
    "nothing": "",
    "a head alone": "question,answer\n",
    "a cell too many": "question,answer\na,b,c\n",
    "a cell too few": "question,answer\na\n",
    "an open quote": 'question,answer\n"a,b\n',
    "a null character": b"question,answer\na\0,b\n",
    "not UTF-8": b"question,answer\n\xff,b\n",
    "a column twice": "question,answer,answer\na,b,c\n",
    "a cell of a megabyte": f"question,answer\n{'a' * 1_000_000},b\n",
    "choices that are no list": "question,choices,answer\na,b,c\n",
    "deep choices": f'question,choices,answer\na,"{"[" * 20_000}{"]" * 20_000}",c\n',
    "choices of 5,000 digits": f'question,choices,answer\na,"[{"9" * 5000}, 2]",0\n',
    "choices with an escaped surrogate": 'question,choices,answer\na,"[""a"", ""\\ud800""]",0\n',
    "a field misspelled": "quesion,answer\na,b\n",
    "an answer of 5,000 digits": f'question,choices,answer\na,"[""a"", ""b""]",{"9" * 5000}\n',
    "an answer in another script": 'question,choices,answer\na,"[""a"", ""b""]",²\n',
    "quotes in the middle": 'question,answer\na"b,"c"d\n',
    "an empty name": ",answer\na,b\n",
}
JSON: dict[str, str | bytes] = {
    "nothing": "",
    "an object": "{}",
    "a number": "3",
    "a list of numbers": "[1, 2]",
    "cut off": '[{"question": "a", "ans',
    "not UTF-8": b'[{"question": "\xff", "answer": "a"}]',
    "a deep list": "[" * 50_000 + "]" * 50_000,
    "a number of 5,000 digits": '[{"question": "a", "answer": ' + "9" * 5000 + "}]",
    "a key twice": '[{"question": "a", "answer": "b", "answer": "c"}]',
    "not a number": '[{"question": "a", "answer": NaN}]',
    "an infinite answer": '[{"question": "a", "answer": Infinity}]',
    "an escaped surrogate": '[{"question": "a\\ud800", "answer": "b"}]',
    "an empty list": "[]",
}


def _task(text: str = "{{question}}", rows: str = "rows.jsonl", kind: str = "multiple_choice") -> str:
    """A task file of lm-eval that is right in everything else."""
    return (
        f"task: quiz-a\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {rows}}}}}\ntest_split: test\n"
        f"output_type: {kind}\ndoc_to_text: '{text}'\n"
        "doc_to_choice: '{{choices}}'\ndoc_to_target: '{{answer}}'\n"
    )


TASKS: dict[str, str | bytes] = {
    "nothing": "",
    "a list": "- a\n",
    "a number": "3\n",
    "an open bracket": "task: [a\n",
    "no name": "dataset_path: json\n",
    "a name that is a number": "task: 3\n",
    "a name that is a list": "task: [a]\n",
    "a key twice": "task: quiz-a\ntask: quiz-b\n",
    "an anchor to itself": "&a task: quiz-a\nmetric_list: *a\n",
    "a function": "task: quiz-a\ndoc_to_text: !function utils.text\n",
    "a tag": "task: !!python/object/apply:os.system [id]\n",
    "a deep list": f"task: quiz-a\nmetric_list: {'[' * 5000}{']' * 5000}\n",
    "not UTF-8": b"task: \xff\xfe\n",
    "a group": "group: quiz\ntask: [a, b]\n",
    "an include of itself": "include: it.yaml\ntask: quiz-a\n",
    "an include of nothing": "include: nowhere.yaml\ntask: quiz-a\n",
    "an include of a number": "include: 3\ntask: quiz-a\n",
    "a template that is none": _task(text="{{question"),
    "a template that never ends": _task(text="{% for i in range(10**12) %}{% endfor %}"),
    "rows that are not there": _task(rows="nowhere.jsonl"),
    "an output of no kind": _task(kind="nobody"),
    "a surrogate": 'task: "quiz\\ud800"\n',
    "billions of laughs": "task: quiz-a\na0: &a0 [a, a, a, a, a, a, a, a, a, a]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
}  # fmt: skip
METHODS: dict[str, str | bytes] = {
    "nothing": "",
    "no Python": "def (:\n",
    "not UTF-8": b"x = '\xff'\n",
    "a null character": b"x = 1\0\n",
    "a division by zero": "1 / 0\n",
    "the end of the process": "import sys; sys.exit(3)\n",
    "an import of nothing": "import nowhere_at_all\n",
    "no method": "class A: pass\n",
    "a deep expression": "x = " + "(" * 500 + "1" + ")" * 500 + "\n",
    "a very deep expression": "x = " + "-" * 100_000 + "1\n",
    "a recursion": "def f(): return f()\nf()\n",
    "a number of 5,000 digits": f"x = {'9' * 5000}\n",
    "an error without a text": "raise Exception\n",
    "a text that is a surrogate": "raise ValueError('\\ud800')\n",
    "a class that cannot be made": "from methods.base import Method\nclass My(Method):\n    pass\n",
}


def cases() -> Iterator[Case]:
    """All of them."""
    for field, values in SST2.items():
        for value in values:
            shown = "nothing" if value is GONE else repr(value)[:30]
            yield Case(
                "rows",
                f"{field} {shown}",
                lambda world, f=field, v=value: _sst2(world, f, v),
                SST2_ENDS.get((field, shown), (REFUSED,)),
            )
    for name, text in FILES.items():
        yield Case("files of rows", name, lambda world, t=text: _rows(world, t))
    for field, values in QUIZ.items():
        for value in values:
            shown = "nothing" if value is GONE else repr(value)[:30]
            yield Case(
                "questions",
                f"{field} {shown}",
                lambda world, f=field, v=value: _quiz(world, f, v),
                QUIZ_ENDS.get((field, shown), (REFUSED,)),
            )
    for suffix, texts in (("csv", CSV), ("json", JSON), ("yaml", TASKS), ("py", METHODS)):
        for name, text in texts.items():
            ends = (REFUSED, WORKS) if name in ("a cell of a megabyte", "a group") else (REFUSED,)
            yield Case(f"{suffix} brought along", name, lambda world, s=suffix, t=text: _brought(world, s, t), ends)
    for name, special in SPECIAL.items():
        yield Case("files of rows", name, special)


def _sst2(world: World, field: str, value: Any) -> list[str]:
    data = world.copy("data")
    file = data / "glue" / "sst2" / "validation.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    if value is GONE:
        del rows[2][field]
    else:
        rows[2][field] = value
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return world.line("--methods", "base", data=data)


def _rows(world: World, text: str | bytes) -> list[str]:
    data = world.copy("data")
    world.write("data/glue/sst2/validation.jsonl", text)
    return world.line("--methods", "base", data=data)


def _quiz(world: World, field: str, value: Any) -> list[str]:
    rows: list[dict[str, Any]] = [{"question": f"{n}?", "choices": ["a", "b"], "answer": n % 2} for n in range(20)]
    if value is GONE:
        del rows[2][field]
    else:
        rows[2][field] = value
    file = world.write(_named(world, "jsonl"), "".join(json.dumps(row) + "\n" for row in rows))
    return world.line("--methods", "base", "--tasks", str(file))


def _named(world: World, suffix: str) -> str:
    """A name of its own, since files that are brought along stay known to a process."""
    return f"it-{world.here.name}.{suffix}"


def _brought(world: World, suffix: str, text: str | bytes) -> list[str]:
    world.write(
        "rows.jsonl",
        "".join(json.dumps({"question": f"{n}?", "choices": ["a", "b"], "answer": n % 2}) + "\n" for n in range(20)),
    )
    name = _named(world, suffix)
    if isinstance(text, str) and suffix == "yaml":
        text = text.replace("it.yaml", name).replace("quiz-a", f"quiz-{world.here.name}")
    file = world.write(name, text)
    if suffix == "py":
        return world.line("--methods", str(file))
    if suffix == "yaml":
        return world.line("--methods", "base", "--include", str(file), "--tasks", f"quiz-{world.here.name}")
    return world.line("--methods", "base", "--tasks", str(file))


def _fifo(world: World, name: str) -> list[str]:
    data = world.copy("data")
    file = data / "glue" / "sst2" / "validation.jsonl"
    file.unlink()
    os.mkfifo(file.with_name(name))
    return world.line("--methods", "base", data=data)


def _fifo_brought(world: World, suffix: str) -> list[str]:
    file = world.here / _named(world, suffix)
    os.mkfifo(file)
    if suffix == "py":
        return world.line("--methods", str(file))
    return world.line("--methods", "base", "--tasks", "sst2", "--include", str(file))


def _instead(world: World, name: str, content: bytes) -> list[str]:
    data = world.copy("data")
    file = data / "glue" / "sst2" / "validation.jsonl"
    file.unlink()
    file.with_name(name).write_bytes(content)
    return world.line("--methods", "base", data=data)


def _folder(world: World) -> list[str]:
    data = world.copy("data")
    file = data / "glue" / "sst2" / "validation.jsonl"
    file.unlink()
    file.mkdir()
    return world.line("--methods", "base", data=data)


SPECIAL: dict[str, Callable[[World], list[str]]] = {
    "a FIFO of lines": lambda world: _fifo(world, "validation.jsonl"),
    "a FIFO of gzip": lambda world: _fifo(world, "validation.jsonl.gz"),
    "a FIFO of Parquet": lambda world: _fifo(world, "validation.parquet"),
    "a FIFO of a method": lambda world: _fifo_brought(world, "py"),
    "a FIFO of a task": lambda world: _fifo_brought(world, "yaml"),
    "a FIFO of questions": lambda world: _fifo_brought(world, "jsonl"),
    "a FIFO of a table": lambda world: _fifo_brought(world, "csv"),
    "a FIFO of JSON": lambda world: _fifo_brought(world, "json"),
    "a folder": _folder,
    "gzip cut off": lambda world: _instead(
        world, "validation.jsonl.gz", gzip.compress(b'{"sentence": "a"}\n' * 99)[:30]
    ),
    "gzip that is none": lambda world: _instead(world, "validation.jsonl.gz", b"hello"),
    "Parquet of nothing": lambda world: _instead(world, "validation.parquet", b""),
    "Parquet that is none": lambda world: _instead(world, "validation.parquet", b"PAR1" + b"\0" * 50 + b"PAR1"),
}
