"""A method in one file of its own, without a package: `--methods ./my_router.py`.

The file holds one subclass of `Method` with a docstring; its name is the file's. What a card would say follows from the
class: `summary` is the docstring's first paragraph, `track` and `version` are the class's, `paper` and `trained` are
optional class attributes, and whether the task is known at test time is what the class says of itself. The hash of the
file's bytes is part of the names of everything that is computed with it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from results.ground.errors import HarnessError
from results.ground.reading import Unreadable, file_bytes

if TYPE_CHECKING:
    from methods.base import Method

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
TRACKS = ("compose", "joint", "reference")


class MethodFileError(HarnessError, ValueError):
    """A file that is no method; the message is one sentence that names the mend."""


@dataclass(frozen=True)
class MethodFile:
    """One method read from a file.

    Attributes:
        name: of the method, which is the file's without its ending.
        path: absolute.
        sha256: of the file's bytes.
        module: name under which the file is imported; another one for another content.
        cls: the class.
        summary: first paragraph of its docstring, on one line.
        text: the whole docstring, as a card's body.
        trained: what is trained, in words.
        task_identity: `needed` or `not`.
    """

    name: str
    path: Path
    sha256: str
    module: str
    cls: type[Method]
    summary: str
    text: str
    trained: str
    task_identity: str


def method_name(path: Path) -> str:
    """The name of the method in a file.

    Raises:
        MethodFileError: no method can have that name.
    """
    if not NAME.fullmatch(path.stem):
        raise MethodFileError(
            f"The method in {path} cannot be named '{path.stem}': name the file with letters, digits, _ and -."
        )
    return path.stem


def read_method(path: Path) -> MethodFile:
    """Import a file and find its method.

    Args:
        path: absolute.

    Raises:
        MethodFileError: there is no such file, it cannot be imported, imports a file beside it, or holds no method with
            a docstring or several.
    """
    name = method_name(path)
    source = _source(path)
    sha256 = hashlib.sha256(source).hexdigest()
    module = _module(path, source, f"harness_file_{re.sub(r'[^A-Za-z0-9]', '_', name)}_{sha256[:12]}")
    cls = _method_class(module, path)
    text = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    if not text:
        raise MethodFileError(f"The class {cls.__name__} in {path} has no docstring: say in a line what it does.")
    if cls.track not in TRACKS:
        raise MethodFileError(f"The class {cls.__name__} in {path} needs a track of {', '.join(TRACKS)}.")
    try:
        method = cls(cls.Config(), name=name)
    except Exception as error:
        raise MethodFileError(
            f"The class {cls.__name__} in {path} cannot be made from its defaults ({_said(error)}): give every key of "
            "its Config one."
        ) from error
    summary = " ".join(text.partition("\n\n")[0].split())
    return MethodFile(
        name=name,
        path=path,
        sha256=sha256,
        module=module.__name__,
        cls=cls,
        summary=summary,
        text=f"# {name}\n\n{text}\n\nFrom the file `{path}`, SHA-256 `{sha256}`.\n",
        trained=_trained(method),
        task_identity="needed" if method.uses_task_identity else "not",
    )


def _source(path: Path) -> bytes:
    try:
        return file_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        raise MethodFileError(f"There is no method file {path}: give the path of a .py file.") from None
    except Unreadable as error:
        raise MethodFileError(f"The method file {path} {error}: give the path of a .py file.") from None


def _module(path: Path, source: bytes, name: str) -> ModuleType:
    """The file as a module, imported once for each content."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        tree = ast.parse(source, str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise MethodFileError(f"The method file {path} is no valid Python ({_said(error)}): mend it there.") from error
    if beside := _imports_beside(tree, path.parent):
        raise MethodFileError(
            f"The method file {path} imports {beside}, which lies beside it and whose edits nothing would notice: put "
            "both into one file, or make a package with `harness new method`."
        )
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    # Dataclasses and pydantic look their module up while a class is made.
    sys.modules[name] = module
    try:
        # The very bytes that were hashed: a file that is edited meanwhile cannot slip in.
        exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise MethodFileError(
            f"The method file {path} cannot be imported ({_said(error, path)}): mend it there."
        ) from error
    return module


def _imports_beside(tree: ast.Module, folder: Path) -> str | None:
    """Name of a module of the same folder that is imported, which a packaged name does not hide."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or node.names[0].name] if node.level else [node.module or ""]
            if node.level:
                return f"{'.' * node.level}{names[0]}"
        for name in names:
            top = name.partition(".")[0]
            here = [folder / f"{top}.py", folder / top / "__init__.py"]
            found = next((file for file in here if file.is_file()), None)
            if found is not None and not _is_elsewhere(top, folder):
                return found.name if found.stem != "__init__" else top
    return None


def _is_elsewhere(name: str, folder: Path) -> bool:
    """Whether importing a name gives something that does not lie in this folder."""
    if name in sys.builtin_module_names:
        return True
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None and folder.resolve() not in Path(spec.origin).resolve().parents


def _method_class(module: ModuleType, path: Path) -> type[Method]:
    from methods.base import Method

    found = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
        and not name.startswith("_")
    ]
    found = list(dict.fromkeys(found))
    if not found:
        raise MethodFileError(f"The file {path} defines no method: write one subclass of methods.routing.RoutedMethod.")
    if len(found) > 1:
        listed = ", ".join(cls.__name__ for cls in found)
        raise MethodFileError(
            f"The file {path} defines {len(found)} methods ({listed}): keep one, or begin the others' names with _."
        )
    return found[0]


def _trained(method: Method) -> str:
    said = getattr(method, "trained", "")
    if said:
        return str(said)
    if not method.trains():
        return "nothing"
    phase = getattr(method, "phase", None)
    groups = getattr(phase() if callable(phase) else None, "groups", ())
    return (
        f"the groups {', '.join(groups)}" if groups else f"on the budget of {' and '.join(method.budgets())} training"
    )


def _said(error: BaseException, path: Path | None = None) -> str:
    """An exception on one line, with the file's line that raised it."""
    said: Any = error.msg if isinstance(error, SyntaxError) else str(error)
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while path is not None and trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    text = " ".join(f"{type(error).__name__}: {said}".split()).rstrip(".: ")
    return f"{text}, line {line}" if line else text
