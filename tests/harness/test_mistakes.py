"""Mistakes of the user that lie in files: each is one sentence that names the mend, and exit code 2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.planning.config import resolve
from methods import registry as methods
from results.ground import plugins
from tasks import registry as tasks

pytestmark = [pytest.mark.assets, pytest.mark.model]

Harness = Callable[..., "subprocess.CompletedProcess[str]"]
Refusal = Callable[..., str]
SMALL = ["--preset", "smoke", "--tasks", "sst2", "--set", "experts.names=[sst2,mrpc]", "--limit", "4"]


def write(file: Path, rows: list[dict[str, object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with SST-2 and MRPC."""
    folder = tmp_path / "data"
    for split, start, count in (("train", 0, 40), ("validation", 40, 10)):
        numbers = range(start, start + count)
        sst2 = [{"sentence": f"a film number {n}", "label": n % 2, "idx": n} for n in numbers]
        write(folder / f"glue/sst2/{split}.jsonl", sst2)
        mrpc = [{"sentence1": f"lamp {n}", "sentence2": f"light {n}", "label": n % 2, "idx": n} for n in numbers]
        write(folder / f"glue/mrpc/{split}.jsonl", mrpc)
    return folder


@pytest.mark.parametrize("column", ["sentence1", "label"])
def test_an_experts_data_with_a_wrong_column(
    column: str, data: Path, tiny_model: Path, tmp_path: Path, refusal: Refusal
) -> None:
    file = data / "glue/mrpc/train.jsonl"
    file.write_text(file.read_text().replace(f'"{column}"', '"other"'))
    said = refusal(
        *("run", "--methods", "uniform", *SMALL, "--model", str(tiny_model), "--data", str(data)),
        *("--output", str(tmp_path / "run")),
        stages=tmp_path / "stages",
    )
    assert said == (
        f"harness: Row 1 of mrpc's split train (glue/mrpc) in directory {data} lacks the column '{column}': "
        "give rows with the columns sentence1, sentence2, label, idx."
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("below", ["", "run"])
def test_an_output_that_is_a_file(below: str, data: Path, tiny_model: Path, tmp_path: Path, refusal: Refusal) -> None:
    file = tmp_path / "file.txt"
    file.write_text("mine")
    said = refusal(
        *("run", "--methods", "base", *SMALL, "--model", str(tiny_model), "--data", str(data)),
        *("--output", str(file / below)),
        stages=tmp_path / "stages",
    )
    assert f"cannot be made ({file} is a file): choose another --output." in said
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"r": None}, ["has no r in adapter_config.json", "a whole number above 0", "set it there"]),
        ({"lora_alpha": None}, ["has no lora_alpha in adapter_config.json", "a number"]),
        ({"r": "eight"}, ["has r='eight'", "a whole number above 0"]),
        ({"r": 0}, ["has r=0"]),
        ({"rank_pattern": {"q_proj": 2.5}}, ["has rank_pattern at 'q_proj'=2.5"]),
        ({"alpha_pattern": {"q_proj": "x"}}, ["has alpha_pattern at 'q_proj'='x'"]),
        ({"alpha_pattern": ["q_proj"]}, ["alpha_pattern", "must map module names to numbers"]),
        ({"alpha_pattern": {"(": 1}}, ["no regular expression"]),
    ],
)
def test_an_adapter_without_what_its_function_follows_from(
    change: dict[str, object], words: list[str], data: Path, tiny_model: Path, tmp_path: Path, refusal: Refusal
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16} | change
    (adapter / "adapter_config.json").write_text(json.dumps({key: v for key, v in config.items() if v is not None}))
    (adapter / "adapter_model.safetensors").touch()
    said = refusal(
        *("run", "--methods", "uniform", *SMALL, "--model", str(tiny_model), "--data", str(data)),
        *("--experts", f"sst2,mrpc={adapter}", "--output", str(tmp_path / "run"), "--plan"),
        stages=tmp_path / "stages",
    )
    assert all(word in said for word in [str(adapter), *words]), said


@pytest.fixture
def with_code(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose code comes with it and leaves a trace where it runs."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "own-code"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own-code",
        "architectures": ["OwnForCausalLM"],
        "auto_map": {"AutoConfig": "own_config.OwnConfig", "AutoModelForCausalLM": "own_model.OwnForCausalLM"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    trace = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
    (folder / "own_config.py").write_text(
        f"{trace}from transformers import LlamaConfig\n\n\nclass OwnConfig(LlamaConfig):\n    model_type = 'own-code'\n"
    )
    (folder / "own_model.py").write_text(
        f"{trace}from transformers import LlamaForCausalLM\nfrom .own_config import OwnConfig\n\n\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    return folder


@pytest.mark.parametrize("command", ["run", "params", "agreement"])
def test_code_that_comes_with_a_model_is_never_run_unasked(
    command: str, with_code: Path, data: Path, tmp_path: Path, refusal: Refusal
) -> None:
    arguments = {
        "run": [*SMALL, "--methods", "uniform", "--data", str(data), "--output", str(tmp_path / "run")],
        "params": ["--methods", "mixer"],
        "agreement": ["--tasks", "sst2", "--data", str(data), "--items", "4"],
    }[command]
    said = refusal(command, *arguments, "--model", str(with_code), stages=tmp_path / "stages")
    assert said.endswith(
        f"The model '{with_code}' comes with code of its own, which is not run: read it, and allow it in runs of "
        "this model with --set model.trust_remote_code=true."
    )
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "run").exists()


def test_code_that_is_allowed_runs_and_counts(
    with_code: Path, tiny_model: Path, data: Path, tmp_path: Path, harness: Harness
) -> None:
    """The same weights under their own code give the same scores, in cells of other names."""
    found = {}
    for model, allowed in ((tiny_model, []), (with_code, ["--set", "model.trust_remote_code=true"])):
        output = tmp_path / f"run-{model.name}"
        done = harness(
            *("run", "--methods", "base,mole", *SMALL, "--model", str(model), *allowed, "--data", str(data)),
            *("--output", str(output)),
            stages=tmp_path / "stages",
        )
        assert done.returncode == 0, done.stderr
        records = [json.loads(file.read_text()) for file in sorted(output.glob("cells/*/record.json"))]
        found[model] = {record["spec"]["method"]: record for record in records}
    assert (tmp_path / "ran").exists()
    for method, plain in found[tiny_model].items():
        other = found[with_code][method]
        assert other["cell"] != plain["cell"]
        assert other["metrics"]["acc"]["value"] == plain["metrics"]["acc"]["value"]


def test_a_configuration_without_the_key_keeps_its_name() -> None:
    plain = resolve("smoke", {}).model_dump(mode="json")
    assert "trust_remote_code" not in plain["model"]
    allowed = resolve("smoke", {}, ["model.trust_remote_code=true"]).model_dump(mode="json")
    assert allowed["model"] == plain["model"] | {"trust_remote_code": True}
    assert resolve("smoke", {"model": {"trust_remote_code": False}}).model_dump(mode="json") == plain


METHOD = """---
name: {name}
summary: From a package.
track: compose
class: {target}
config: {{}}
paper: ""
trained: nothing
task_identity: not
order: 999
---
# {name}
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a package with cards behind an entry point, for this process and for those that it starts."""

    def forget() -> None:
        plugins._said.clear()
        for cards in (methods._read, tasks._read):
            cards.cache_clear()

    def install(name: str, group: str, files: dict[str, str]) -> None:
        site = tmp_path / "site"
        (site / name).mkdir(parents=True)
        for file, text in ({"__init__.py": ""} | files).items():
            (site / name / file).write_text(text)
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\ncards = {name}\n")
        monkeypatch.setenv("PYTHONPATH", f"{site}")
        monkeypatch.syspath_prepend(str(site))
        forget()

    before = set(sys.modules)
    yield install
    monkeypatch.undo()
    forget()
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("broken", "broken_cards", "broken_tasks", "whole_cards"):
            del sys.modules[name]


def test_a_broken_card_of_a_package_is_left_out(
    plugin: Callable[..., None], tmp_path: Path, own_process: Harness
) -> None:
    plugin("broken_cards", "harness.methods", {"odd.md": "# no front matter"})
    plugin("broken_tasks", "harness.tasks", {"odd.md": "---\nname: odd\n---\n"})
    plugin("whole_cards", "harness.methods", {"mean.md": METHOD.format(name="mean", target="methods.uniform:Uniform")})
    done = own_process("list", "methods", stages=tmp_path / "stages")
    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert {"mixer", "mean"} <= set(names)
    (said,) = done.stderr.splitlines()
    assert said.startswith("harness: A card of the package broken_cards is left out (The file odd.md needs YAML")
    done = own_process("list", "tasks", stages=tmp_path / "stages")
    assert "gsm8k" in done.stdout
    assert done.stderr.count("A card of the package broken_tasks is left out") == 1


@pytest.mark.parametrize(
    ("init", "reason"), [("import nowhere", "No module named 'nowhere'"), ("def (", "SyntaxError: invalid syntax")]
)
def test_a_package_that_cannot_be_imported_is_left_out(
    init: str, reason: str, plugin: Callable[..., None], tmp_path: Path, own_process: Harness
) -> None:
    plugin("broken", "harness.methods", {"__init__.py": init})
    done = own_process("list", "methods", stages=tmp_path / "stages")
    assert done.returncode == 0
    assert "mixer" in done.stdout
    (said,) = done.stderr.splitlines()
    assert said.startswith("harness: The package broken is left out (")
    assert reason in said


def test_a_broken_module_of_a_package_is_left_out_unless_it_is_asked_for(
    plugin: Callable[..., None], data: Path, tiny_model: Path, tmp_path: Path, harness: Harness
) -> None:
    plugin(
        "broken", "harness.methods", {"odd.md": METHOD.format(name="odd", target="broken.code:Odd"), "code.py": "1 / 0"}
    )
    sentence = "The method 'odd' of the package broken cannot be used (ZeroDivisionError: division by zero)"
    done = harness("params", "--model", str(tiny_model), "--format", "csv", stages=tmp_path / "stages")
    assert done.returncode == 0
    assert "mixer" in done.stdout
    assert "odd" not in done.stdout
    assert done.stderr == f"harness: {sentence}: repair or uninstall it, so the method odd is left out.\n"
    done = harness(
        *("run", "--methods", "odd", *SMALL, "--model", str(tiny_model), "--data", str(data)),
        stages=tmp_path / "stages",
    )
    assert done.returncode == 2
    assert done.stderr == f"harness: {sentence}: repair or uninstall it.\n"


def test_a_broken_task_of_a_package_does_not_take_its_experts_data_along(
    plugin: Callable[..., None], data: Path, tiny_model: Path, tmp_path: Path, harness: Harness
) -> None:
    """Experts learn from every task that they serve; one that cannot be imported is no reason to stop."""
    card = (Path(__file__).parents[2] / "tasks" / "cards" / "sst2.md").read_text()
    card = card.replace("name: sst2", "name: sst2-again", 1)
    target = next(line for line in card.splitlines() if line.startswith("class: "))
    plugin("broken", "harness.tasks", {"again.md": card.replace(target, "class: broken.code:Task"), "code.py": "1 / 0"})
    done = harness(
        *("run", "--methods", "uniform", *SMALL, "--model", str(tiny_model), "--data", str(data), "--plan"),
        stages=tmp_path / "stages",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("The task 'sst2-again' of the package broken cannot be used") == 1
