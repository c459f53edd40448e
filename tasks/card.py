"""A task's card: what it is, where its rows are, who publishes them, and how it is scored.

One Markdown file with YAML front matter per task. The front matter is data that the registry and the loader read; the
body is for people (`harness show NAME`, the documentation).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources.abc import Traversable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from results.ground.front_matter import CardError, split
from tasks.sources.base import DatasetRef

PartSizes = dict[Literal["expert-train", "router-train", "dev", "eval"], int]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LmEvalFile(_Model):
    """The task file of lm-evaluation-harness whose prompt, parsing and metrics are used."""

    file: str = Field(description="Path under lm_eval/tasks.")
    version: str = Field(description="Its `metadata.version` when this card was written; `none` if it has none.")


class Roles(_Model):
    """Which official split serves as what."""

    eval: str
    dev: str | None = None
    train: str | None = None


class TaskCard(_Model):
    """The front matter of a card, and its body."""

    name: str
    summary: str = Field(description="One line.")
    family: str = Field(description="Groups tasks in lists: science, mathematics, language, ...")
    target: str = Field(alias="class", description="`module:Object`, a `Task` that takes this card.")
    version: int = Field(default=1, description="Raised when our code changes this task's results.")
    set: str = Field(description="Folder of the data set in a data directory.")
    config: str = Field(description="Configuration of the data set in a data directory.")
    hub_id: str | None = Field(default=None, description="Data set on the Hugging Face hub.")
    hub_config: str | None = Field(default=None, description="Its configuration there; null for the only one.")
    hub_splits: tuple[str, ...] | None = Field(default=None, description="Splits on the hub if they differ.")
    columns: tuple[str, ...] = Field(description="Columns of a row, as on the hub.")
    values: dict[str, str | tuple[int | str, ...]] = Field(
        default={}, description="Kind of each column (`tasks.rows.KINDS`), or the list of its values."
    )
    inputs: tuple[str, ...] = Field(description="Columns that make two rows the same question.")
    group_by: tuple[str, ...] = Field(
        default=(), description="Columns that rows may share (a passage, a sentence): such rows stay in one part."
    )
    id_column: str | None = Field(default=None, description="Column with the item's id; null hashes the content.")
    splits: dict[str, int] = Field(description="Official row counts.")
    roles: Roles
    licence: str
    lm_eval: LmEvalFile | None = None
    expert: str = Field(description="The expert that serves it.")
    metrics: tuple[str, ...]
    primary: str = Field(description="The metric of tables (letters prompts: `acc`).")
    generative: bool = False
    shots: int = Field(default=0, description="Few-shot examples unless the comparison says otherwise.")
    letters: bool = Field(default=False, description="Whether `prompt=letters` changes its requests.")
    chance: float | None = Field(default=None, description="Uniform guess on the official evaluation split.")
    majority: float | None = Field(default=None, description="Most frequent gold there.")
    sources: tuple[Literal["bundled", "hub", "dir", "file"], ...]
    parts: dict[Literal["bundled", "hub"], PartSizes] = Field(default={}, description="Sizes of the parts.")
    references: tuple[str, ...] = Field(default=(), description="Papers and pages.")
    body: str = ""

    @property
    def dataset(self) -> DatasetRef:
        """How sources find the rows."""
        return DatasetRef(self.set, self.config, self.hub_id, self.hub_config, self.hub_splits)

    def facts(self) -> dict[str, str]:
        """What the front matter says, label by label, for people."""
        levels = {"chance": self.chance, "majority": self.majority}
        labelled = {
            "data directory": f"{self.set}/{self.config}",
            "hub": " ".join(part for part in (self.hub_id, self.hub_config) if part),
            "columns": ", ".join(self.columns),
            "kept together": ", ".join(self.group_by),
            "official rows": _counts(self.splits),
            "evaluated": self.roles.eval,
            **{f"parts ({source})": _counts(sizes) for source, sizes in self.parts.items()},
            "licence": self.licence,
            "lm-eval": f"{self.lm_eval.file}, version {self.lm_eval.version}" if self.lm_eval else "",
            "expert": self.expert,
            "metrics": ", ".join(f"{name} (primary)" if name == self.primary else name for name in self.metrics),
            "shots": str(self.shots),
            "letters": "options can be listed" if self.letters else "",
            "levels": ", ".join(f"{name} {value:.1%}" for name, value in levels.items() if value is not None),
            "sources": ", ".join(self.sources),
            "references": " ".join(self.references),
        }
        return {label: text for label, text in labelled.items() if text}


def read_card(file: Traversable) -> TaskCard:
    """Parse one card.

    Raises:
        CardError: no front matter, broken YAML, a missing or unknown field.
    """
    values, body = split(file.read_text(encoding="utf-8"), file.name)
    try:
        return TaskCard(**values, body=body)
    except (ValidationError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise CardError(f"The card {file.name} cannot be read ({reason}): correct it there.") from error


def _counts(sizes: Mapping[Any, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sizes.items())
