"""Parameters of composed models, from architectures alone."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from methods import registry
from methods.architectures import architectures
from methods.base import Unsupported
from methods.counting import Count, Skeleton, shares
from methods.tiny import TARGETS, tiny_llama

ALL_LINEAR = (*TARGETS, "gate_proj", "up_proj", "down_proj")
# Method, trained, stored: six experts of rank 64 on LLaMA-3-8B's q, k, v, o, counted by hand from its shapes.
EXPERTS = 327_155_712
ONE = 54_525_952
ROUTERS = 3_145_728
LLAMA3 = [
    ("base", 0, 0),
    ("lora", 0, ONE),
    ("uniform", 0, EXPERTS),
    ("random", 0, EXPERTS),
    ("svd", 0, ONE),
    ("svd[rank=128]", 0, 2 * ONE),
    ("ties", 0, 1_342_177_280),
    ("ties[rank=64]", 0, ONE),
    ("ties[trim=expert,tie=majority]", 0, 1_342_177_280),
    ("dare[combine=ties]", 0, 1_342_177_280),
    ("lego", 0, ONE),
    ("lego[k=32,sign_align=true,space=separately_normalised]", 0, ONE // 2),
    ("lorahub", 0, ONE + 6),
    ("lorahub[mode=pooled]", 0, ONE + 6),
    ("cat-soup", 768, EXPERTS),
    ("mixer", ROUTERS, EXPERTS),
    ("mixer[router.scope=shared_qkv]", 1_572_864, EXPERTS),
    ("mixer[router.scope=per_layer]", 786_432, EXPERTS),
    ("mixer[router.scope=global]", 24_576, EXPERTS),
    ("mixer-aux", ROUTERS, EXPERTS),
    ("mixer-none", ROUTERS, EXPERTS),
    ("mole", 1_966_208, EXPERTS),
    ("mole[gate.form=full]", 11_796_608, EXPERTS),
    ("mole[gate.form=input]", 3_145_856, EXPERTS),
    ("mole[gate.form=bottleneck]", 295_040, EXPERTS),
    ("phatgoose", ROUTERS, EXPERTS),
    ("arrow", 0, EXPERTS + ROUTERS),
    ("xlora", 24_582, EXPERTS),
    ("xlora[layerwise=true]", 3_146_496, EXPERTS),
    ("xlora[layerwise=true,depth=2]", 9_964_288, EXPERTS),
    ("gmoe", 3_145_984, EXPERTS),
    ("ds-moe", ROUTERS, EXPERTS),
    ("aesl", ROUTERS, EXPERTS),
    ("mixer-joint", 330_301_440, 0),
    ("mixlora", 734_789_632, 0),
    ("mixlora[lora.targets=[]]", 680_263_680, 0),
    ("hydralora", 162_529_280, 0),
    ("hydralora[lora.targets=[gate_proj,up_proj,down_proj]]", 453_115_904, 0),
    ("loramoe", 683_802_624, 0),
    ("loramoe[lora.targets=[q_proj,k_proj,v_proj,o_proj]]", 330_301_440, 0),
    ("ds-moe-dense", 330_301_440, 0),
    ("goat", 330_301_440, EXPERTS),
    # One transformer layer of width 4096 and a vector; seven layers have token routers alone, seven task routers alone.
    ("hmora", EXPERTS + 134_266_880 + 5_309_800, 0),
    ("hmora[mix.shift=-9]", EXPERTS + ROUTERS + 128 * 6, 0),
    # Constant features of six experts and links among seven nodes, on 32 blocks, are kept untrained.
    ("gmoe-graph", 805_314_624, 32 * (6 * 4096 + 7 * 7)),
    ("gmoe-graph[router.width=128]", 805_314_624 - 71_311_424 + 34_607_168, 32 * (6 * 4096 + 7 * 7)),
    ("multitask-lora", ONE, 0),
    ("multitask-lora[match=parameters]", EXPERTS, 0),
    ("lora-router-data", ONE, 0),
]


@cache
def skeleton(name: str, n: int = 6, rank: int = 64, **options: Any) -> Skeleton:
    return Skeleton.of(architectures()[name], rank=rank, pool="abcdefgh"[:n], **options)


def tiny(n: int = 4) -> Skeleton:
    return Skeleton(tiny_llama().config, targets=TARGETS, rank=4, pool="abcd"[:n])


@pytest.mark.parametrize("name", sorted(architectures()))
def test_base_models_have_their_published_size(name: str) -> None:
    architecture = architectures()[name]
    counted = sum(parameter.numel() for parameter in skeleton(name).model.parameters())
    if name == "flan-t5-large":
        # transformers ties the head of every T5 when it builds one; Flan-T5's weights have a head of their own.
        counted += architecture.config["vocab_size"] * architecture.config["d_model"]
    assert counted == architecture.parameters == skeleton(name).parameters


@pytest.mark.parametrize(
    ("variant", "trained", "stored"),
    [row for row in LLAMA3 if registry.parse(row[0])[0] in registry.names()],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_llama3_counts(variant: str, trained: int, stored: int) -> None:
    count = skeleton("llama3-8b").count(registry.create(*registry.parse(variant)))
    assert count.refusal is None
    assert (count.total_trainable, count.total_stored) == (trained, stored)


def test_counting_leaves_the_skeleton_as_it_was() -> None:
    found = tiny()
    modules = dict(found.model.named_modules())
    for name in registry.names():
        found.count(registry.create(name))
    assert dict(found.model.named_modules()) == modules
    assert all(parameter.is_meta for parameter in found.model.parameters())


def test_loras_of_other_shapes() -> None:
    assert skeleton("llama3-8b", targets=("q_proj", "v_proj")).one_expert() == 27_262_976
    assert skeleton("llama3-8b", targets=ALL_LINEAR).one_expert() == 167_772_160
    flan = skeleton("flan-t5-large", rank=16, n=5)
    assert flan.one_expert() == 4_718_592
    assert len(flan.experts[0].sites) == 144
    mamba = skeleton("falcon-mamba-7b")
    assert mamba.one_expert() == 203_554_816
    assert len(mamba.experts[0].sites) == 256


def test_mixlora_as_published() -> None:
    """Eight experts of rank 16; on LLaMA-2-7B 2.93 % with all that is added in the denominator, its README's 2.9 %."""
    mixlora = registry.create("mixlora")
    assert skeleton("llama3-8b", n=8, rank=16).count(mixlora).total_trainable == 241_172_480
    llama2 = skeleton("llama2-7b", n=8, rank=16)
    count = llama2.count(mixlora)
    assert shares(count.total_trainable, count, llama2.parameters).of_all == pytest.approx(2.93, abs=5e-3)


def test_one_experts_gates() -> None:
    """What LoRA-Mixer seems to count of PHATGOOSE: the gates of a single expert, rounded to 0.01 %."""
    count = skeleton("llama3-8b").count(registry.create("phatgoose"))
    assert count.total_trainable / 6 == 524_288
    assert 100 * 524_288 / architectures()["llama3-8b"].parameters == pytest.approx(0.0065, abs=5e-5)


def test_routers_of_all_linear_layers() -> None:
    count = skeleton("llama3-8b", targets=ALL_LINEAR).count(registry.create("mixer-none"))
    assert count.trainable == {"routers": 7_471_104}


def routers_anywhere(found: Skeleton, monkeypatch: pytest.MonkeyPatch) -> Count:
    """The mixer's count on an architecture that it may not support yet."""
    mixer = registry.create("mixer")
    monkeypatch.setattr(type(mixer), "check", lambda self, config, pool: None)
    return found.count(mixer)


def test_routers_of_other_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    mamba = routers_anywhere(skeleton("falcon-mamba-7b"), monkeypatch)
    assert mamba.trainable == {"routers": 7_962_624}
    assert mamba.stored == {"experts": 1_221_328_896}
    flan = skeleton("flan-t5-large", rank=16, n=5).count(registry.create("mixer"))
    assert flan.trainable == {"routers": 737_280}


def test_shares_have_both_denominators() -> None:
    base = architectures()["llama3-8b"].parameters
    joint = Count({"routers": ROUTERS, "experts": EXPERTS})
    assert shares(joint.total_trainable, joint, base).of_base == pytest.approx(4.113, abs=5e-4)
    assert shares(joint.total_trainable, joint, base).of_all == pytest.approx(3.951, abs=5e-4)
    plug = Count({"routers": ROUTERS}, {"experts": EXPERTS})
    assert shares(plug.total_trainable, plug, base).of_base == pytest.approx(0.0392, abs=5e-5)
    stored = Count(stored={"experts": EXPERTS})
    assert shares(EXPERTS, stored, base).of_base == pytest.approx(4.074, abs=5e-4)
    assert shares(EXPERTS, stored, base).of_all == pytest.approx(3.915, abs=5e-4)


@pytest.mark.parametrize(
    ("variant", "of_base", "of_all"),
    [
        ("mixlora", 9.150, 8.383),
        ("mixlora[lora.targets=[]]", 8.471, 7.810),
        ("loramoe", 8.515, 7.847),
        ("hydralora", 2.024, 1.984),
        ("hydralora[lora.targets=[gate_proj,up_proj,down_proj]]", 5.643, 5.341),
        ("multitask-lora", 0.679, 0.674),
        ("multitask-lora[match=parameters]", 4.074, 3.915),
    ],
)
def test_shares_of_methods_that_train_everything(variant: str, of_base: float, of_all: float) -> None:
    count = skeleton("llama3-8b").count(registry.create(*registry.parse(variant)))
    found = shares(count.total_trainable, count, architectures()["llama3-8b"].parameters)
    assert (found.of_base, found.of_all) == pytest.approx((of_base, of_all), abs=6e-4)


def test_what_a_method_refuses_is_a_sentence() -> None:
    two = tiny(2)
    with pytest.raises(Unsupported) as refused:
        registry.create("mixer").check(two.config, two.comparison.experts)
    assert two.count(registry.create("mixer")) == Count(refusal=str(refused.value))


def test_architectures_are_read_without_torch() -> None:
    code = (
        "import sys; from methods.architectures import architectures; "
        "assert len(architectures()) >= 5; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
