"""What a saved composed model says about itself: the schema of `manifest.json`.

A saved model is one folder::

    manifest.json                   this
    experts/NAME/                   each expert as a PEFT adapter directory, unless only referred to by its hash
    fits/all/composed.safetensors   what fitting decided; `fits/TASK` for methods that are fitted for each task
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from results.ground.errors import HarnessError
from results.ground.files import schema_of
from results.ground.reading import Unreadable, file_text

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
EVERY_TASK = "all"


class SavedModelError(HarnessError, ValueError):
    """A saved composed model that cannot be written or used; the message is one sentence that names the mend."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SavedBase(_Data):
    """The base model, which is not part of the folder."""

    name: str = Field(description="Name that people know it by.")
    location: str = Field(description="Hub id or folder that transformers loads it from.")
    revision: str | None = Field(default=None, description="Hub commit, or hash of the weights' files.")
    architecture: str = Field(description="Class of the model.")
    dtype: str = Field(description="Floating-point type that the composed model was fitted in.")
    shapes: dict[str, tuple[int, int]] = Field(description="(d_out, d_in) of its linear layers by module path.")
    quantization: dict[str, Any] | None = Field(
        default=None, description="Arguments of transformers' BitsAndBytesConfig that it was quantised with, if it was."
    )

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a key that older versions do not know, where it says nothing."""
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if key != "quantization" or value is not None}


class SavedExpert(_Data):
    """One expert of the pool."""

    name: str
    digest: str = Field(description="Content hash of its adapter directory.")
    folder: str | None = Field(description="Its adapter directory inside this folder; null when it is referred to.")
    source: str | None = Field(default=None, description="Where it came from: a path or hub id.")


class SavedFit(_Data):
    """One fitted model. Methods that are fitted for each task have several."""

    task: str | None = Field(description="The task that it is for; null where one fit serves all.")
    own: str | None = Field(default=None, description="The task's own expert, for methods that are told it.")
    experts: tuple[str, ...] = Field(description="Names of its pool, in order.")
    folder: str | None = Field(description="Folder of `composed.safetensors`; null where nothing is fitted.")
    trained: dict[str, int] = Field(description="Counts of trained parameters by group.")
    stored: dict[str, int] = Field(description="Counts of frozen parameters by group.")


class Manifest(_Data):
    """A composed model without its weights."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["composed-lora-experts"] = "composed-lora-experts"
    method: str = Field(description="Registered name.")
    version: int = Field(description="Version of the method's code.")
    config: dict[str, Any] = Field(description="Its whole configuration.")
    seed: int = Field(description="Seed of initial values and random choices.")
    base: SavedBase
    experts: tuple[SavedExpert, ...] = Field(description="All experts of all fits, in the pool's order.")
    fits: tuple[SavedFit, ...]

    def fit(self, task: str | None) -> SavedFit:
        """The fit for a task; the only one needs no task.

        Raises:
            SavedModelError: no task was given and there are several, or there is none for it.
        """
        known = {fit.task for fit in self.fits}
        if None in known or (task is None and len(self.fits) == 1):
            return self.fits[0]
        for fit in self.fits:
            if fit.task == task:
                return fit
        given = f"has no fit for the task '{task}'" if task else "has a fit for each task"
        raise SavedModelError(
            f"This {self.method} {given}: give task={' or task='.join(repr(fit.task) for fit in self.fits)}."
        )

    def expert(self, name: str) -> SavedExpert:
        """One expert by name."""
        return next(expert for expert in self.experts if expert.name == name)

    def same_but_fits(self, other: Manifest) -> bool:
        """Whether two manifests describe one method on one base, so that one folder can hold the fits of both."""
        fields: Iterable[str] = ("method", "version", "config", "seed", "base")
        shared = {expert.name: expert.digest for expert in self.experts}
        return all(getattr(self, field) == getattr(other, field) for field in fields) and all(
            shared.get(expert.name, expert.digest) == expert.digest for expert in other.experts
        )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a saved model.

    Raises:
        SavedModelError: there is none, it cannot be read, or it is of a newer schema.
    """
    path = folder / MANIFEST
    try:
        text = file_text(path)
    except Unreadable as error:
        raise SavedModelError(f"The file {path} {error}: save the model again with this version.") from None
    except (FileNotFoundError, NotADirectoryError):
        raise SavedModelError(
            f"There is no {MANIFEST} in {folder}: give a folder that `harness export` or `methods.save` wrote."
        ) from None
    version = schema_of(text.encode())
    if version is not None and version > SCHEMA_VERSION:
        raise SavedModelError(f"The file {path} has schema {version}, newer than {SCHEMA_VERSION}: update to load it.")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise SavedModelError(
            f"The file {path} cannot be read ({place}: {first['msg']}): save the model again with this version."
        ) from error
