"""Ways to answer in another type, as a function `answer` around the value of a right program.

Each is a line of what is defined, then the expression for `value`. Many are right for one check and wrong for another:
what counts is that both checkers say the same.
"""

from __future__ import annotations

LISTS = {
    "as it is": "value",
    "tuple": "tuple(value)",
    "iterator": "iter(value)",
    "generator": "(item for item in value)",
    "map": "map(lambda item: item, value)",
    "reversed": "reversed(value[::-1])",
    "deque": "__import__('collections').deque(value)",
    "user list": "__import__('collections').UserList(value)",
    "list subclass": "type('Own', (list,), {})(value)",
    "set": "set(value)",
    "frozenset": "frozenset(value)",
    "keys view": "dict.fromkeys(value).keys()",
    "values view": "dict(enumerate(value)).values()",
    "items view": "dict(enumerate(value)).items()",
    "array": "__import__('array').array('q', value)",
    "sequence class": "type('Own', (), {'__len__': lambda s: len(value), '__getitem__': lambda s, i: value[i]})()",
    "iterable class": "type('Own', (), {'__iter__': lambda s: iter(value)})()",
    "nested iterators": "[iter([item]) for item in value]",
    "one too many": "[*value, 0]",
    "generator with one too many": "(item for item in [*value, 0])",
    "generator that raises": "(item // 0 for item in value)",
    "deque of other order": "__import__('collections').deque(value[::-1])",
}
NUMBERS = {
    "as it is": "value",
    "fraction": "__import__('fractions').Fraction(value)",
    "decimal": "__import__('decimal').Decimal(value)",
    "complex": "complex(value)",
    "float": "float(value)",
    "int subclass": "type('Own', (type(value),), {})(value)",
    "float by method": "type('Own', (), {'__float__': lambda s: float(value)})()",
    "text": "str(value)",
    "in a list": "[value]",
    "one more": "value + 1",
    "fraction off": "__import__('fractions').Fraction(value) + 1",
    "not a number": "float('nan')",
    "none": "None",
}
TEXTS = {
    "as it is": "value",
    "user string": "__import__('collections').UserString(value)",
    "subclass": "type('Own', (str,), {})(value)",
    "bytes": "value.encode()",
    "list": "list(value)",
    "generator": "(sign for sign in value)",
    "path": "__import__('pathlib').PurePosixPath(value)",
    "with a surrogate": "value + chr(0xD800)",
}
TRUTHS = {
    "as it is": "value",
    "int": "int(value)",
    "fraction": "__import__('fractions').Fraction(value)",
    "truth by method": "type('Own', (), {'__bool__': lambda s: value})()",
    "function": "lambda: value",
    "negated": "not value",
    "list": "[1] if value else []",
}
TUPLES = {
    "as it is": "value",
    "list": "list(value)",
    "named tuple": "__import__('collections').namedtuple('Own', 'a b')(*value)",
    "iterator": "iter(value)",
    "user list": "__import__('collections').UserList(value)",
    "deque": "__import__('collections').deque(value)",
    "range": "range(value[0], value[0] + 2)",
}
MAPPINGS = {
    "as it is": "value",
    "ordered": "__import__('collections').OrderedDict(value)",
    "default": "__import__('collections').defaultdict(int, value)",
    "counter": "__import__('collections').Counter(value)",
    "user dict": "__import__('collections').UserDict(value)",
    "chain": "__import__('collections').ChainMap({}, value)",
    "proxy": "__import__('types').MappingProxyType(value)",
    "items": "value.items()",
    "pairs": "list(value.items())",
    "namespace": "__import__('types').SimpleNamespace(**value)",
}

AROUND = """

_inner = {entry}


def {entry}(*args, **kwargs):
    value = _inner(*args, **kwargs)
    return {answer}
"""


def around(entry: str, answer: str) -> str:
    """Text to append to a right program."""
    return AROUND.format(entry=entry, answer=answer)
