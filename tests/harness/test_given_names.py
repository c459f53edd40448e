"""Lists of names that a run is given: none twice, none empty."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.planning.config import resolve
from results.ground.errors import HarnessError


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tasks": ["sst2", "sst2"]}, "tasks is wrong .*sst2 is in it twice: leave one out"),
        ({"tasks": ["sst2", ""]}, "tasks is wrong .*one name in it is empty: leave it out"),
        ({"tasks": []}, "tasks is wrong .*it is empty: give at least one"),
        ({"seeds": [1, 2, 1]}, "seeds is wrong .*1 is in it twice: leave one out"),
        ({"seeds": []}, "seeds is wrong .*it is empty"),
        ({"methods": []}, "methods is wrong .*it is empty"),
        ({"experts": {"names": ["sst2", "mrpc", "sst2"]}}, "experts.names is wrong .*sst2 is in it twice"),
        ({"experts": {"names": [" "]}}, "experts.names is wrong .*one name in it is empty"),
    ],
)
def test_a_list_with_a_name_twice_or_an_empty_one_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(HarnessError, match=words):
        resolve("smoke", values)


@pytest.mark.parametrize("pool", ["sst2=a,sst2=b", "sst2,=b", "sst2,,mrpc", "sst2,sst2"])
def test_a_pool_with_a_name_twice_or_an_empty_one_is_refused(
    pool: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    refusal("run", "--preset", "smoke", "--experts", pool, "--output", str(tmp_path / "run"), stages=tmp_path)
