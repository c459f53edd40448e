"""A method in one file: what it is called, what a card would say, what is refused; and what a provider needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import methods.routing
from methods import conformance, registry
from methods.files import MethodFileError
from methods.routing import face
from results.ground.front_matter import CardError

FILE = '''
from torch import nn

from methods.routing import DENSE, Provider, RoutedMethod, Routing, TrainingPhase


class Gate(Provider):
    packs = True

    def __init__(self, d_in, n_experts):
        super().__init__()
        self.linear = nn.Linear(d_in, n_experts)

    def forward(self, x, h):
        return self.linear(x)


class Mine(RoutedMethod):
    """Dense linear gates,
    written in one file.

    More about them.
    """

    paper = "Me 2026"

    def routing(self, context, pool, seed):
        return Routing(lambda name, site: Gate(site.in_features, len(pool)), DENSE)

    def phase(self):
        return TrainingPhase("gates", "routing", ("routers",))
'''


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_BROUGHT", {})


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(text: str = FILE, name: str = "mine", folder: str = "a") -> Path:
        path = tmp_path / folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return written


def test_its_card_follows_from_the_class(write: Callable[..., Path]) -> None:
    assert registry.bring(write()) == "mine"
    card = registry.card("mine")
    assert (card.summary, card.track, card.paper) == ("Dense linear gates, written in one file.", "compose", "Me 2026")
    assert card.sentence() == "Trained: the groups routers. It is not told the task."
    assert "More about them." in card.body()
    assert registry.names()[-1] == "mine"
    assert registry.create("mine").name == "mine"


@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_a_provider_with_forward_alone_does_all_that_methods_must(
    write: Callable[..., Path], architecture: str
) -> None:
    """It trains, saves, loads, generates, counts, and starts from the seed, though `nn.Linear` draws its own values."""
    registry.bring(write())
    conformance.check("mine", architecture=architecture)


def test_an_edited_file_is_another_method(write: Callable[..., Path]) -> None:
    path = write()
    registry.bring(path)
    before, identity = registry.method_class("mine"), registry.identity("mine")
    registry.bring(path)
    assert registry.method_class("mine") is before
    registry.bring(write(FILE + "\n# edited\n"))
    assert registry.method_class("mine") is not before
    assert registry.identity("mine") != identity
    assert registry.identity("mixer") == {}


TWO = FILE + '\n\nclass Other(Mine):\n    """Another."""\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "defines no method"),
        (TWO, r"defines 2 methods \(Mine, Other\)"),
        (FILE.replace('"""', "# ", 1).replace('"""', "# ", 1).replace("    written", "    # written").replace(
            "    More", "    # More"), "has no docstring"),
        (FILE + "\nboom\n", r"NameError: name 'boom' is not defined, line \d+"),
        ("def f(:\n", "is no valid Python .*line 1"),
        ("import helper\n" + FILE, "imports helper.py, which lies beside it"),
        ("from . import helper\n" + FILE, "imports .helper, which lies beside it"),
        (FILE.replace('paper = "Me 2026"', 'track = "solo"'), "needs a track of compose"),
    ],
)  # fmt: skip
def test_what_is_no_method_is_one_sentence(write: Callable[..., Path], text: str, message: str) -> None:
    path = write(text)
    (path.parent / "helper.py").touch()
    with pytest.raises(MethodFileError, match=message) as caught:
        registry.bring(path)
    assert "\n" not in str(caught.value)


def test_a_helper_class_is_marked_with_an_underscore(write: Callable[..., Path]) -> None:
    assert registry.bring(write(TWO.replace("class Other", "class _Other"))) == "mine"


def test_names_are_taken_once(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(MethodFileError, match="There is no method file"):
        registry.bring(tmp_path / "nowhere.py")
    with pytest.raises(CardError, match="There is a method 'mixer' already"):
        registry.bring(write(name="mixer"))
    registry.bring(write())
    with pytest.raises(CardError, match=r"Two files hold a method 'mine', .*a/mine.py and .*b/mine.py"):
        registry.bring(write(FILE + "\n# other\n", folder="b"))


def test_the_face_of_routing_is_what_it_says() -> None:
    public = {name for name in vars(face) if not name.startswith("_")} - {"annotations"}
    assert set(methods.routing.__all__) == public
    assert all(getattr(methods.routing, name) is getattr(face, name) for name in public)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        methods.routing.nonsense  # noqa: B018
