"""What `docs/paper-notes.md` says of open points: every point once, every key a key, the paper's arithmetic redone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.planning.config import dotted_keys, parse_set, preset_names, resolve
from harness.planning.sections import RunConfig
from methods import registry
from reports import catalogue
from reports.catalogue.entries import counted, paper
from reports.catalogue.published import attainable

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "paper-notes.md").read_text()
PRESET = "paper-llama3-8b"
"""The page's defaults are those of this preset."""
RUN_KEYS = set(dotted_keys(RunConfig))
POINTS = {
    int(number): (title, body)
    for number, title, body in re.findall(r"^### (\d+)\. ([^\n]+)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
RECIPE = PAGE.partition("## Silent on the recipe")[2].partition("## ")[0]


def part(body: str, label: str) -> str:
    """A point's item of that name, up to the next one; empty where it has none."""
    found = re.search(rf"^- \*\*{label}\*\*: (.*?)(?=^- \*\*|\Z)", body, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def spans(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def columns(place: int) -> str:
    """One column of the table of the recipe."""
    rows = [line.split(" | ") for line in RECIPE.splitlines() if line.startswith("| ")]
    return "\n".join(row[place] for row in rows)


def defaults() -> Iterator[tuple[str, str]]:
    """Where a default is said, and `key=value`."""
    places = {str(number): part(body, "Here") for number, (_, body) in POINTS.items()} | {"recipe": columns(1)}
    for place, text in places.items():
        yield from ((place, span) for span in spans(text) if re.fullmatch(r"[\w.]+=\S+", span))


def readings(pattern: str) -> Iterator[tuple[str, str]]:
    """Where another reading is said, and its spelling."""
    places = {str(number): part(body, "Also") for number, (_, body) in POINTS.items()} | {"recipe": columns(2)}
    for place, text in places.items():
        yield from ((place, span) for span in spans(text) if re.match(pattern, span))


def labelled(pairs: Iterator[tuple[str, str]]) -> Any:
    return [pytest.param(span, id=f"{place}-{span}") for place, span in pairs]


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def test_every_point_is_there_once() -> None:
    """As many as the README says, and each says what the paper has and what is done here."""
    numbers = [int(number) for number in re.findall(r"^### (\d+)\.", PAGE, re.MULTILINE)]
    assert sorted(numbers) == list(range(1, 31))
    assert "silent in [30 places](docs/paper-notes.md)" in " ".join((ROOT / "README.md").read_text().split())
    for number, (title, body) in POINTS.items():
        assert part(body, "Paper"), f"{number} {title}"
        assert part(body, "Here"), f"{number} {title}"


def test_a_point_with_another_reading_says_what_was_seen_of_it() -> None:
    for number, (title, body) in POINTS.items():
        if part(body, "Also"):
            assert part(body, "Seen"), f"{number} {title}"


def test_the_page_can_be_scanned() -> None:
    assert len(PAGE.split()) <= 2600


@pytest.mark.parametrize("said", labelled(defaults()))
def test_what_is_said_to_be_the_default_is_it(said: str) -> None:
    """Of `mixer`, of `mixer-joint` where only that has the key, or of the run at the paper's scale."""
    key, _, text = said.partition("=")
    value = registry.parse_value(text)
    if key in RUN_KEYS:
        found: Any = resolve(PRESET, {})
        for name in key.split("."):
            found = getattr(found, name)
        assert plain(found) == value
    else:
        keys = registry.config_keys("mixer-joint") | registry.config_keys("mixer")
        assert keys[key] == value


@pytest.mark.parametrize("spelled", labelled(readings(r"[\w-]+\[")))
def test_another_reading_is_a_row_of_its_own(spelled: str) -> None:
    """Its spelling is the canonical one, its keys exist, and it is not the default under another name."""
    name, settings = registry.parse(spelled)
    assert registry.display(name, settings) == spelled
    assert registry.create(name, settings).config != registry.create(name).config


@pytest.mark.parametrize("said", labelled(readings(r"--set ")))
def test_another_setting_of_the_run_is_a_key_of_it(said: str) -> None:
    sets = [one.strip() for one in said.split("--set ")[1:]]
    assert {parse_set(one)[0] for one in sets} <= RUN_KEYS
    assert resolve(PRESET, {}, sets) != resolve(PRESET, {})


def test_every_spelling_on_the_page_is_checked() -> None:
    """Nothing that looks like a setting stands where no test reads it."""
    checked = {span for _, span in [*defaults(), *readings(r"[\w-]+\[|--set ")]}
    settings = {span for span in spans(PAGE) if "=" in span and not span.startswith("--methods ")}
    assert settings - checked == {"key=value"}
    (example,) = (span for span in spans(PAGE) if span.startswith("--methods "))
    for one in re.findall(r"mixer(?:\[[^\]]*\])?", example):
        registry.create(*registry.parse(one))


def test_names_on_the_page_are_names() -> None:
    """Methods, presets, entries of the catalogue and files that a reader may look for."""
    from tasks import registry as tasks

    rows = {part(body, label) for _, body in POINTS.values() for label in ("Here", "Also")}
    known = {*registry.names(), *tasks.names(), *preset_names(), *RUN_KEYS}
    for text in rows:
        for span in spans(text):
            if re.fullmatch(r"[\w-]+", span):
                assert span in known, span
    for name in re.findall(r"`harness reproduce (\w+)`", PAGE):
        catalogue.entry(name)
    for path in re.findall(r"`((?:tests|reports|methods)/[\w/.-]+)`", PAGE):
        assert (ROOT / path).exists(), path


def test_every_note_of_the_catalogue_has_a_place() -> None:
    """Each belongs to a point, to the recipe or, said so, to neither; what a point is named beside exists."""
    import yaml

    notes = yaml.safe_load((ROOT / "reports" / "catalogue" / "entries.yaml").read_text())["notes"]
    listed = PAGE.partition("## Under the tables")[2].partition("\n- ")[2]
    assert sorted(spans(listed)) == sorted(notes)
    of_points = listed.partition("\n- ")[0]
    numbers = [int(n) for group in re.findall(r"([\d, ]+) `", of_points) for n in re.findall(r"\d+", group)]
    assert numbers
    assert set(numbers) <= POINTS.keys()
    assert len(numbers) == len(set(numbers))


def test_published_values_that_no_count_gives_are_counted() -> None:
    """Point 23: by table and in all; and what sampled answers would allow."""
    values: dict[int, list[float]] = {}
    for table in paper()["tables"].values():
        if "humaneval" in table.get("columns", []):
            place = table["columns"].index("humaneval")
            rows = [row for block in table["blocks"].values() for row in block.values()]
            values[table["number"]] = [row[place] for row in rows]
    impossible = {number: [v for v in found if not attainable(v, 3 * 164)] for number, found in values.items()}
    said = " ".join(part(POINTS[23][1], "Paper").split())
    every = [v for found in values.values() for v in found]
    assert f"{sum(map(len, impossible.values()))} of {len(every)} published values" in said
    for number in (1, 2, 8):
        assert f"{len(impossible[number])} of {len(values[number])} in Table {number}" in said
    marked, shown = (sum(len(found[n]) for n in (18, 19, 20)) for found in (impossible, values))
    assert f"{marked} of {shown} in Tables 18 to 20" in said
    assert sum(not attainable(v, 20 * 3 * 164) for v in every) == 1
    judged = [v for row in paper()["tables"]["t10"]["blocks"]["llama3-8b"].values() for v in row]
    assert not any(attainable(v, 3 * 200) for v in judged), "the sentence under the recipe"


def test_figures_of_the_paper_are_recomputed() -> None:
    """Points 12, 15, 16, 17 and 18: means, gaps, shares and gains as the page gives them."""
    tables, llama = paper()["tables"], "llama3-8b"
    said = {number: " ".join(body.split()) for number, (_, body) in POINTS.items()}
    main = tables["t2"]["blocks"][llama] | {"base": tables["t1"]["blocks"][llama]["base"]}
    means = {name: f"{sum(row) / len(row):.2f}" for name, row in main.items()}
    labels = {"base": "base", "lorahub": "LoRAHub", "mole": "MoLE", "mixlora": "MixLoRA", "lora": "single LoRA"}
    assert ", ".join(f"{label} {means[name]}" for name, label in labels.items()) in said[18]
    assert f"LoRA-Mixer {means['mixer']}" in said[18]
    assert means["mixer"] in said[12]
    other = tables["t21"]["blocks"][llama]
    gains = dict(zip(tables["t21"]["columns"], zip(other["mixer"], other["phatgoose"], strict=True), strict=True))
    first, second, third = (f"{gains[task][0] - gains[task][1]:+.2f}" for task in ("gsm8k", "cola", "arc-c"))
    assert f"{first}, {second} and {third}" in said[17]
    places = [tables["t2"]["columns"].index(task) for task in ("gsm8k", "cola", "arc-c")]
    for baseline in ("mixlora", "lora"):
        first, second, third = (f"{main['mixer'][place] - main[baseline][place]:+.2f}" for place in places)
        assert f"{first}, {second} and {third}" in said[17]
    series = tables["t9"]["blocks"][llama]
    gap = series["mixer"][3] - series["mixer-aux"][3]
    assert f"is {gap:+.2f}" in said[15]
    ours, theirs = (counted()["parameters"]["methods"][name]["trainable"] for name in ("mixer-joint", "mixlora"))
    base = counted()["parameters"]["base"]
    whole = sum(ours.values()), sum(theirs.values())
    # As published, MixLoRA's experts and gates without its attention LoRA.
    parts = ours["experts"], theirs["experts"] + theirs["routers"]
    for one, other_one in (parts, whole):
        percent = f"{100 * one / base:.2f} and {100 * other_one / base:.2f} %"
        assert f"{percent}, ratio {100 * one / other_one:.1f} %" in said[16]
    rows = sum(tables["t11"]["rows"][name][0] for name in ("medqa", "cola", "sst2", "gsm8k", "arc-e", "arc-c", "mbpp"))
    assert f"{rows:,} rows" in RECIPE
