"""What stands as counted is what the methods' own code counts, and what the released configurations say."""

from __future__ import annotations

import pytest

from methods import registry
from methods.architectures import architectures
from methods.counting import Skeleton
from reports.catalogue import build, entry
from reports.catalogue.entries import counted
from reports.claims import claims
from reports.evidence import COMPATIBLE
from reports.tables import Table

KNOWN = counted()["parameters"]


@pytest.fixture(scope="module")
def skeleton() -> Skeleton:
    """The paper's appendix A.4: six experts of rank 64 on LLaMA-3-8B."""
    return Skeleton.of(architectures()["llama3-8b"], rank=64, pool=[f"expert-{n}" for n in range(6)], targets=None)


@pytest.mark.parametrize("method", KNOWN["methods"])
def test_stored_counts_are_those_of_the_code(skeleton: Skeleton, method: str) -> None:
    count = skeleton.count(registry.create(method))
    assert skeleton.parameters == KNOWN["base"]
    assert {"trainable": dict(count.trainable), "stored": dict(count.stored)} == KNOWN["methods"][method]


def test_shapes_are_those_of_the_configurations() -> None:
    keys = {
        "layers": "num_hidden_layers",
        "hidden_size": "hidden_size",
        "attention_heads": "num_attention_heads",
        "intermediate_size": "intermediate_size",
    }
    for model in ("mistral-7b", "llama3-8b"):
        config = architectures()[model].config
        for row, key in keys.items():
            assert counted()["shapes"][row][model] == config[key]
        kv = config["hidden_size"] // config["num_attention_heads"] * config["num_key_value_heads"]
        shown = counted()["shapes"]["attention_projections"][model]
        assert shown == f"q and o {config['hidden_size']} to 4096, k and v 4096 to {kv}"


def test_tables_of_counts_need_no_run() -> None:
    parameters, shapes = build(entry("a4"), [], {}), build(entry("t17"), [], {})
    assert isinstance(parameters, Table)
    assert isinstance(shapes, Table)
    assert parameters.cell("mixer-joint", "trained").value == 330_301_440
    assert parameters.cell("mixlora", "percent").value == pytest.approx(9.1503, abs=1e-4)
    assert parameters.cell("published/mixer", "percent").value == 3.88
    assert [panel.key for panel in shapes.panels] == ["counted", "published"]
    assert not entry("a4").needs(scaled=False)


def test_the_claim_on_parameters_is_about_the_published_architecture() -> None:
    (claim,) = (one for one in claims([], {}) if one.name == "parameters")
    assert claim.verdict == "supported"
    assert claim.size == COMPATIBLE
    assert claim.measured.startswith("45.0 %")
    assert claim.measured.endswith("48.1 % experts alone")
