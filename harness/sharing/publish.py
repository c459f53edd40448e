"""From a run to folders that hold what is published, and from there to the hub."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.sharing.cards import data_card, model_card
from harness.sharing.dataset import write_dataset
from harness.sharing.scrub import Scrubber, is_path
from results.ground.errors import HarnessError
from results.ground.offline import offline
from results.store import RunFolder

if TYPE_CHECKING:
    from harness.export import Form

CARD = "README.md"
_VERBATIM = ("tokenizer.json", "vocab.json")
"""Files whose texts are a vocabulary, in which anything may stand."""
_PLACES = ("location", "name", "source", "base_model_name_or_path", "name_or_path", "_name_or_path")


@dataclass(frozen=True)
class Model:
    """Which composed model is published with a run; see `harness.export.export`."""

    method: str
    task: str | None = None
    seed: int | None = None
    variant: str | None = None
    form: Form = "composed"


@dataclass(frozen=True)
class Repository:
    """One repository of the hub, as a folder that holds exactly its files."""

    name: str
    kind: Literal["dataset", "model"]
    folder: Path

    @property
    def url(self) -> str:
        """Where it is, or would be."""
        return f"https://huggingface.co/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    @property
    def files(self) -> list[Path]:
        """Its files, by name."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def stage(path: Path, to: str, folder: Path, model: Model | None = None) -> list[Repository]:
    """Write what is published of a run: `FOLDER/dataset`, and `FOLDER/model` if one is asked for.

    Args:
        path: the run.
        to: `ORG/NAME`.
        folder: new or empty.
        model: its repository is `ORG/NAME-METHOD`.

    Raises:
        HarnessError: no such run, nothing of it is finished, a name that the hub does not take, a folder that is not
            empty, the model cannot be exported, or something of this machine would be published.
    """
    _check_name(to)
    run = RunFolder.open(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HarnessError(f"The folder {folder} is not empty: choose another.")
    if not any(record.status == "done" for record in run.records()):
        raise HarnessError(f"Nothing in {path} is finished yet; continue it with `harness run`.")
    scrub = Scrubber(_folders(run))
    try:
        made = [_stage_dataset(run, to, folder / "dataset", scrub)]
        if model is not None:
            made.append(_stage_model(path, run, to, folder / "model", model, scrub))
        for repository in made:
            _prove_clean(repository, scrub)
    except BaseException:
        for part in ("dataset", "model"):
            shutil.rmtree(folder / part, ignore_errors=True)
        raise
    return made


def _stage_dataset(run: RunFolder, to: str, folder: Path, scrub: Scrubber) -> Repository:
    folder.mkdir(parents=True)
    counts = write_dataset(run, folder, scrub)
    (folder / CARD).write_text(data_card(run, to, counts, scrub), encoding="utf-8")
    return Repository(to, "dataset", folder)


def _stage_model(path: Path, run: RunFolder, to: str, folder: Path, model: Model, scrub: Scrubber) -> Repository:
    from harness.runs import Run

    name = f"{to}-{re.sub(r'[^A-Za-z0-9]+', '-', model.method).strip('-')}"
    _check_name(name)
    opened = Run.open(path)
    exported = opened.export(
        model.method, folder, task=model.task, seed=model.seed, variant=model.variant, form=model.form
    )
    names = {record.spec.method: record.model.name for record in run.records()}
    base = scrub.value(names.get(model.method, opened.variants[0].config.model.name))
    for file in sorted(folder.rglob("*.json")):
        if file.name not in _VERBATIM:
            content = json.loads(file.read_text(encoding="utf-8"))
            cleaned = _without_places(content, base, scrub)
            if cleaned != content:
                file.write_text(json.dumps(cleaned, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / CARD).write_text(model_card(exported, run, name, to, base, scrub), encoding="utf-8")
    return Repository(name, "model", folder)


def _without_places(value: Any, base: str, scrub: Scrubber) -> Any:
    """Content of a model's file in which places on this machine are names: of the base model, or the last part."""
    if isinstance(value, list):
        return [_without_places(one, base, scrub) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: (scrub.value(one) if key == "source" else base)
        if key in _PLACES and isinstance(one, str) and is_path(one)
        else _without_places(one, base, scrub)
        for key, one in value.items()
    }


def _folders(run: RunFolder) -> list[Path]:
    """Folders of this machine that a run speaks of."""
    from harness.assets import cache_root
    from harness.planning.stores import stage_store

    return [run.path, run.path.absolute().parent, cache_root(), stage_store().root]


def _prove_clean(repository: Repository, scrub: Scrubber) -> None:
    """Raises:
    HarnessError: a file holds a secret, or a text a path, that is known to be this machine's.
    """
    for file in repository.files:
        data = file.read_bytes()
        text = file.suffix in (".md", ".yaml", ".json") and file.name not in _VERBATIM
        left = scrub.found(data.decode("utf-8")) if text else "a secret" if scrub.secret_in(data) else None
        if left is not None:
            raise HarnessError(
                f"Nothing is published: {file.relative_to(repository.folder)} would hold {left}; please report this."
            )


def _check_name(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if name.count("/") != 1:
        raise HarnessError(f"--to takes ORG/NAME, not '{name}'.")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise HarnessError(f"The hub takes no repository named '{name}': {str(error).splitlines()[0]}") from error


def check_online() -> None:
    """Raises:
    HarnessError: the hub is switched off.
    """
    if offline():
        raise HarnessError(
            "HF_HUB_OFFLINE is set, so nothing can be pushed: unset it, or write what would be with --dry-run DIR."
        )


def push(repositories: Sequence[Repository], *, public: bool, api: Any = None) -> None:
    """Create the repositories that are missing, private unless `public`, and upload their folders.

    Args:
        api: default `huggingface_hub.HfApi()`, with the user's own token.

    Raises:
        HarnessError: the hub is switched off or away, refuses, or holds a public repository of that name while `public`
            was not said.
    """
    check_online()
    from huggingface_hub import HfApi, errors

    api = HfApi() if api is None else api
    # The base class of the HTTP library's errors, whichever of its forks huggingface_hub uses.
    network: type[BaseException] = errors.HfHubHTTPError.__bases__[0]
    try:
        for one in repositories:
            exists = api.repo_exists(one.name, repo_type=one.kind)
            if exists and not public and not api.repo_info(one.name, repo_type=one.kind).private:
                raise HarnessError(f"{one.url} exists and is public: say --public, or choose another --to.")
        for one in repositories:
            api.create_repo(one.name, repo_type=one.kind, private=not public, exist_ok=True)
            api.upload_folder(
                repo_id=one.name,
                repo_type=one.kind,
                folder_path=one.folder,
                commit_message="Publish a run of lora-harness",
            )
    except (OSError, ValueError, network) as error:
        if isinstance(error, HarnessError):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise HarnessError(
            f"The hub did not take it ({reason}): check the network and `hf auth login`, or use --dry-run DIR."
        ) from error
