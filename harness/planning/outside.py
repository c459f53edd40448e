"""What comes with a model from outside, looked at before a library opens or runs it: files, sizes, chat templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.ground.deadline import within
from results.ground.errors import HarnessError
from results.ground.loading import asks_for_its_code
from results.ground.reading import Unreadable, check_plain, file_text, json_value, only_regular

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LAYERS, WIDTH = 10_000, 2**24
"""More layers, and more of anything else, than any model has: to build such a one would take for ever."""
_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size")
RENDERING = 10.0
"""Seconds for one conversation; they take a thousandth of one."""


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Say in a sentence what a library makes of files from outside, whatever it raises over them.

    Raises:
        HarnessError: anything was raised inside.
    """
    try:
        yield
    except (HarnessError, MemoryError):
        raise
    except Exception as error:  # of transformers, tokenizers, safetensors, or of whatever these read with
        raise unreadable(name, error) from error


def unreadable(name: str, error: Exception) -> HarnessError:
    """The sentence for a model that cannot be loaded."""
    if asks_for_its_code(error):
        return HarnessError(
            f"The model '{name}' comes with code of its own, which is not run: read it, and allow it in runs of "
            "this model with --set model.trust_remote_code=true."
        )
    lines = str(error).strip().splitlines()
    said = lines[0][:160].rstrip(". ") if lines else type(error).__name__
    if not isinstance(error, OSError | ValueError | RuntimeError):
        said = f"{type(error).__name__}: {said}"
    return HarnessError(f"The model '{name}' cannot be loaded ({said}): check its name, its files or your network.")


def check_folder(folder: Path) -> None:
    """See that a model's folder holds files that can be read, and JSON where its names say so.

    Raises:
        HarnessError: a pipe or a device, or a JSON file that is none.
    """
    try:
        only_regular(folder)
    except Unreadable as error:
        raise HarnessError(f"The model {folder} {error}: take it away or save the model again.") from error
    for path in sorted(folder.glob("*config.json")):
        try:
            found = json_value(file_text(path))
        except Unreadable as error:
            raise HarnessError(f"The file {path} {error}: mend it, or fetch or save the model again.") from error
        if not isinstance(found, dict):
            raise HarnessError(f"The file {path} holds no object: mend it, or fetch or save the model again.")


def check_sizes(name: str, config: Any) -> None:
    """See that a configuration has sizes that a model can have, before anything is built from it.

    Raises:
        HarnessError: one is no whole number above 0, or larger than any model's.
    """
    text = config.get_text_config()
    for key in ("num_hidden_layers", *_SIZES):
        value, most = getattr(text, key, None), LAYERS if key == "num_hidden_layers" else WIDTH
        if value is None or isinstance(value, list | tuple):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise HarnessError(
                f"The model '{name}' has {key}={value!r:.40} in its config.json, which must be a whole number from 1 "
                f"to {most:,}: correct it there."
            )


def renderer(name: str, tokenizer: PreTrainedTokenizerBase) -> Callable[..., str]:
    """Renders conversations with a tokenizer's own template (the protocol `tasks.base.ChatTemplate`).

    Raises:
        HarnessError: there is none, or (when it renders) it is no Jinja, fails, never ends, or gives no text.
    """
    if not tokenizer.chat_template:
        raise HarnessError(f"The model '{name}' has no chat template: set model.chat_template=false.")
    _check_template(name, tokenizer.chat_template)

    def late() -> HarnessError:
        return _wrong(name, f"has not ended after {RENDERING:.0f} seconds")

    def render(messages: list[dict[str, str]], /, *, add_generation_prompt: bool) -> str:
        try:
            with within(RENDERING, late):
                text = str(
                    tokenizer.apply_chat_template(
                        messages,
                        tokenize=False,
                        add_generation_prompt=add_generation_prompt,
                        continue_final_message=not add_generation_prompt,
                    )
                )
            check_plain(text)
        except HarnessError:
            raise
        except Unreadable as error:
            raise _wrong(name, f"gives a text that {error}") from error
        except Exception as error:  # of Jinja, and of whatever the template does
            raise _wrong(name, f"fails: {' '.join(str(error).split())[:160] or type(error).__name__}") from error
        if not any(message["content"].strip() in text for message in messages):
            raise _wrong(name, "leaves out what is said")
        return text

    return render


def _check_template(name: str, template: Any) -> None:
    """See that a template raises nothing to a power: that is compiled code, which no deadline stops."""
    import jinja2

    sources = template.values() if isinstance(template, dict) else [template]
    for source in sources:
        if not isinstance(source, str):
            raise _wrong(name, "is no text")
        try:
            tokens = list(jinja2.Environment().lex(source))
        except (jinja2.TemplateError, RecursionError) as error:
            raise _wrong(name, f"is no Jinja: {error}") from error
        if any(kind == "operator" and text == "**" for _, kind, text in tokens):
            raise _wrong(name, "raises numbers to powers, which is not supported")


def _wrong(name: str, problem: str) -> HarnessError:
    said = problem.rstrip(". ")
    return HarnessError(f"The chat template of the model '{name}' {said}: mend it, or set model.chat_template=false.")
