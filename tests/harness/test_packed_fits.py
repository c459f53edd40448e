"""A fit on packed micro-batches is the padded fit: methods say whether they pack, and those that do lose nothing."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.evaluation.passes import SharedPasses
from harness.models import BaseModel
from harness.training.data import Encoded, collate, laid, micro_batches
from harness.training.forward import target_counts, target_logits
from harness.training.loop import Recipe, train, window_backward
from harness.training.packing import packable, packed_logits, routed_passes
from harness.training.weighing import Weighing
from methods import registry
from methods.base import Composed, TrainingPhase
from methods.conformance import Subject
from methods.routing import install_hard
from methods.tiny import VOCABULARY, TinySession

PADDED = {
    "ensemble-dev": "its experts read a micro-batch one after another",
    "hmora": "task routers and their losses belong to a sequence",
    "xlora": "its first pass runs without the cache by which packed rows attend",
}
"""Methods that optimise and are padded, with the reason."""

VARIANTS: list[tuple[str, Mapping[str, Any]]] = [
    ("mixer", {"loss.stats_scope": "accum", "loss.mi.coef": 0.1, "loss.cv2.coef": 0.1}),
    ("mixer", {"loss.stats_scope": "microbatch", "loss.stats_tokens": "answer_only"}),
    ("mixer", {"router.scope": "per_layer", "loss.stats_tokens": "prompt_only"}),
]

PADDED_VARIANTS: list[tuple[str, Mapping[str, Any], str]] = [
    ("mixer", {"route.jitter": 0.1}, "noise is drawn for every position"),
    ("mole", {"gate.scope": "prompt_mean"}, "weights are a prompt's"),
    ("loramoe", {"balance.coef": 0.1, "balance.types": ["a", "b"]}, "a balance of each sequence"),
    ("gmoe", {"loss.released": True}, "padding counts"),
]


def rows(n: int = 9) -> list[Encoded]:
    """Ragged rows of four domains and two tasks; the first is all target, the second one target token long."""
    draw = torch.Generator().manual_seed(0)
    made = []
    for index in range(n):
        length = int(torch.randint(4, 20, (1,), generator=draw))
        ids = tuple(torch.randint(3, VOCABULARY, (length,), generator=draw).tolist())
        made.append(Encoded(f"{index}", f"t{index % 2}", index % 4, ids, length if index == 0 else 1 + index % 3))
    return made


def gradient(composed: Composed, groups: tuple[str, ...], by: Any, packing: SharedPasses | None) -> dict[str, Tensor]:
    """Of one window: every loss, and the gradient of every parameter of the groups."""
    parameters = {name: p for group in groups for name, p in composed.groups()[group].items()}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
        parameter.grad = None
    parts = micro_batches(rows(), 4, by_length=composed.stats_scope != "microbatch")
    window = [collate(part, 0) if packing is None else laid(part) for part in parts]
    weights = None if by == "tokens" else Weighing.of(by, rows()).window(parts)
    seen: list[float] = []
    terms = window_backward(
        composed,
        composed.model,
        window,
        torch.Tensor.backward,
        weights=weights,
        watch=lambda loss: seen.append(loss.item()),
        packing=packing,
    )
    assert sum(seen) == pytest.approx(terms["task"])
    assert composed.context.label_mask is None
    found = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in parameters.items()}
    for parameter in parameters.values():
        parameter.requires_grad_(False)
        parameter.grad = None
    return found | {name: torch.tensor(value, dtype=torch.float64) for name, value in terms.items()}


class Comparing(TinySession):
    """Trains as a tiny session does, and holds packed against padded gradients at the end of every phase."""

    def __init__(self) -> None:
        super().__init__(steps=1)
        self.phases = 0
        self.packs = False

    def train(self, composed: Composed, phase: TrainingPhase) -> None:
        super().train(composed, phase)
        self.phases += 1
        packing = routed_passes(composed, rows())
        self.packs = packing is not None
        if packing is None:
            return
        state = composed.state()
        found = []
        for passes in (None, packing):
            composed.load_state(state)
            found.append(gradient(composed, phase.groups, ("tokens", "tasks")[self.phases % 2], passes))
            composed.on_window_end()
        composed.load_state(state)
        padded, packed = found
        assert padded.keys() == packed.keys()
        assert any(bool(value.any()) for name, value in padded.items() if name in composed.state())
        for name, value in padded.items():
            torch.testing.assert_close(
                packed[name], value, rtol=0, atol=1e-9, msg=lambda text, at=name: f"{at}: {text}"
            )
        passes_over = 2 if composed.stats_scope == "accum" else 1
        assert packing.tokens == passes_over * sum(map(len, rows()))


def compared(name: str, overrides: Mapping[str, Any] | None = None) -> Comparing:
    subject, session = Subject(name, dict(overrides or {})), Comparing()
    subject.method().fit(subject.install(), session)
    return session


@pytest.mark.parametrize("name", registry.names())
def test_packed_and_padded_gradients_agree_or_the_method_is_padded_for_a_reason(name: str) -> None:
    session = compared(name)
    assert session.packs == (session.phases > 0 and name not in PADDED)
    assert not session.phases or registry.create(name).pads() == (name in PADDED), "planning expects otherwise"


@pytest.mark.parametrize(("name", "overrides"), VARIANTS, ids=[registry.display(*variant) for variant in VARIANTS])
def test_so_do_variants(name: str, overrides: Mapping[str, Any]) -> None:
    assert compared(name, overrides).packs
    assert not Subject(name, overrides).method().pads()


@pytest.mark.parametrize(("name", "overrides", "why"), PADDED_VARIANTS, ids=[why for *_, why in PADDED_VARIANTS])
def test_what_looks_at_more_than_tokens_is_padded(name: str, overrides: Mapping[str, Any], why: str) -> None:
    assert not Subject(name, overrides).install().packs
    assert Subject(name, overrides).method().pads()


def test_dropout_is_padded() -> None:
    """One mask is drawn for all positions of a micro-batch: without padding it would be another."""
    subject = Subject("mixer-joint", {"experts.dropout": 0.1})
    composed = subject.install()
    assert composed.packs
    assert subject.method().pads()
    assert routed_passes(composed, rows()) is None


def test_hard_routing_knows_whose_row_a_token_is_of() -> None:
    subject = Subject("mixer")
    model = subject.model()
    composed = install_hard(model, subject.experts(model))
    packing = routed_passes(composed, rows())
    assert packing is not None
    padded, packed = (gradient(composed, ("experts",), "examples", passes) for passes in (None, packing))
    for name, value in padded.items():
        assert value.any()
        torch.testing.assert_close(packed[name], value, rtol=0, atol=1e-9)


def test_targets_and_counts_are_those_of_padded_rows() -> None:
    composed = Subject("mixer").install()
    padded, packed = collate(rows(), 0), laid(rows())
    assert target_counts(composed.model, padded).tolist() == target_counts(composed.model, packed).tolist()
    with torch.no_grad():
        logits, wanted = target_logits(composed.model, composed.model, padded)
        same, targets = packed_logits(SharedPasses(composed.model), packed)
    assert wanted.equal(targets)
    torch.testing.assert_close(same, logits, rtol=0, atol=1e-10)


def test_a_whole_fit_is_the_same() -> None:
    def trained(packed: bool) -> dict[str, Tensor]:
        subject = Subject("mixer")
        model = subject.model()
        tokenizer: Any = SimpleNamespace(pad_token_id=0, eos_token_id=2, decode=lambda ids, **_: "")
        assert packable(BaseModel("tiny", "0", "tiny", model, tokenizer))
        composed = subject.install(model)
        recipe = Recipe({"routers": 1e-2}, 2, 8, 3, 0.0, "cosine", 0.1, seed=3)
        packing = routed_passes(composed, rows(20)) if packed else None
        train(composed, rows(20), ["routers"], recipe, pad_id=0, packing=packing, reach=True)
        assert packing is None or packing.tokens == 2 * sum(map(len, rows(20)))
        return composed.state()

    padded, packed = trained(False), trained(True)
    for name, value in padded.items():
        torch.testing.assert_close(packed[name], value, rtol=0, atol=1e-9)
