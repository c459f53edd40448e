"""What a pass tells routers: which tokens count, which are the prompt, and where in the text they stand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.base import Unsupported
from methods.routing.context import RoutingContext
from methods.routing.passes import PassHook
from methods.routing.sides import EncoderSide, SideCounts, reads_encoder
from methods.routing.tokens import check_pass, in_sequences, in_towers
from methods.tiny import tiny_llama

CPU = torch.device("cpu")


def mask(*rows: str) -> Tensor:
    """`xx.` is two tokens that are meant and one that is not."""
    return torch.tensor([[c == "x" for c in row] for row in rows])


def said(found: Tensor | None) -> list[str] | None:
    return None if found is None else ["".join("x" if one else "." for one in row) for row in found.tolist()]


def test_tokens_that_are_counted() -> None:
    context = RoutingContext()
    assert context.counted("all_nonpad") is None
    context.token_mask = mask("xxx.", "xxxx")
    assert said(context.counted("all_nonpad")) == ["xxx.", "xxxx"]
    with pytest.raises(RuntimeError, match=r"^stats_tokens=answer_only needs the label mask of the pass: set context"):
        context.counted("answer_only")
    context.label_mask = mask(".xxx", "..xx")
    assert said(context.counted("answer_only")) == [".xx.", "..xx"]
    assert said(context.counted("prompt_only")) == ["x...", "xx.."]
    context.token_mask = None
    assert said(context.counted("answer_only")) == [".xxx", "..xx"]


def test_the_prompt_is_all_that_is_not_known_to_be_something_else() -> None:
    context, shape = RoutingContext(), torch.Size((2, 4))
    assert said(context.prompt(shape, CPU)) == ["xxxx", "xxxx"]
    context.token_mask = mask(".xxx", "xxxx")
    assert said(context.prompt(shape, CPU)) == [".xxx", "xxxx"]
    context.label_mask = mask("...x", "..xx")
    assert said(context.prompt(shape, CPU)) == [".xxx", "xxxx"]  # in evaluation nobody looks at answers
    context.training = True
    assert said(context.prompt(shape, CPU)) == [".xx.", "xx.."]
    context.prompt_mask = mask("xx", "x.")
    assert said(context.prompt(shape, CPU)) == [".x..", "x..."]


def test_the_prompt_of_an_encoder_decoder_model_is_the_encoders_and_the_start_token() -> None:
    context = RoutingContext()
    side = context.side("encoder.block.0")
    assert isinstance(side, EncoderSide)
    assert side is context.side("decoder.block.0.EncDecAttention.k") is context.encoder
    assert context.side("decoder.block.0.SelfAttention.q") is context
    context.position_ids = torch.tensor([[0, 1, 2]])
    context.training, context.label_mask = True, mask("xxx", "xxx")
    assert said(context.prompt(torch.Size((2, 3)), CPU)) == ["x..", "x.."]
    assert said(side.prompt(torch.Size((1, 2)), CPU)) == ["xx"]
    side.token_mask = mask("x.")
    assert said(side.prompt(torch.Size((1, 2)), CPU)) == ["x."]


@pytest.mark.parametrize(
    ("site", "encoders"),
    [
        ("encoder.block.0", True),
        ("decoder.block.1.EncDecAttention.v", True),
        ("decoder.block.1.EncDecAttention.q", False),
        ("model.encoder.block", False),
        ("decoder.block.1.SelfAttention.k", False),
    ],
)
def test_what_a_site_reads(site: str, encoders: bool) -> None:
    assert reads_encoder(site) is encoders


def test_an_encoders_side_shares_what_is_not_about_tokens() -> None:
    context = RoutingContext(training=True, collect=True, with_graph=True, domain=torch.tensor([1]))
    side = EncoderSide(context)
    assert (side.training, side.collect, side.with_graph, side.entered) == (True, True, True, True)
    assert side.domain is context.domain
    context.entered = False
    assert not side.entered
    assert side.past_length == 0


@pytest.mark.parametrize("window", [None, (10, 30)])
def test_means_over_a_window_do_not_depend_on_how_it_is_cut(window: tuple[int, int] | None) -> None:
    counts = SideCounts(mask("xxx.", "x..."), mask("xx"), window)
    assert counts.tokens == 6
    weights = counts.weights(True, torch.float64), counts.weights(False, torch.float64)
    if window is None:
        assert [float(one.sum()) for one in weights] == pytest.approx([1.0, 1.0])
    else:
        # Weighted by the micro-batch's 6 of the window's 40 tokens, each value counts 1/10 or 1/30.
        assert [float(one.max()) * 6 / 40 for one in weights] == pytest.approx([1 / 10, 1 / 30])
    assert (weights[0] > 0).equal(counts.encoder)
    assert SideCounts(mask(".."), mask("x")).weights(True, torch.float64).sum() == 0


def test_both_sides_are_counted_where_there_are_two() -> None:
    context = RoutingContext(token_mask=mask("xx"), window=(3, 4))
    assert context.side_counts(whole_window=True) is None
    context.encoder = EncoderSide(context)
    assert context.side_counts(whole_window=True) is None
    context.encoder.token_mask = mask("x")
    whole, alone = context.side_counts(whole_window=True), context.side_counts(whole_window=False)
    assert whole is not None
    assert alone is not None
    assert (whole.window, alone.window) == ((3, 4), None)
    assert (said(whole.encoder), said(whole.decoder)) == (["x"], ["xx"])
    context.token_mask = None
    assert context.side_counts(whole_window=True) is None


def test_a_task_begins_and_ends() -> None:
    class Listener:
        resets = 0

        def reset_diagnostics(self) -> None:
            self.resets += 1

    listener = Listener()
    context = RoutingContext(training=True, listeners=[object(), listener])
    context.begin_task("sst2", 3)
    assert (context.task, context.own_expert, context.collect, context.training) == ("sst2", 3, True, False)
    assert listener.resets == 1
    context.end_task()
    assert (context.task, context.own_expert, context.collect) == (None, None, False)
    assert listener.resets == 1


def told(**call: Any) -> RoutingContext:
    """The context of a tiny model's pass."""
    model, context = tiny_llama(), RoutingContext(**call.pop("before", {}))
    hook = PassHook(model, context, ())
    with torch.no_grad():
        model(**call)
    hook.remove()
    return context


IDS = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]])


def test_without_a_mask_all_tokens_count_and_stand_in_order() -> None:
    context = told(input_ids=IDS)
    assert context.token_mask is None
    assert context.input_ids is not None
    assert context.input_ids.equal(IDS)
    assert context.position_ids is not None
    assert context.position_ids.tolist() == [[0, 1, 2, 3]]
    assert (context.past_length, context.shape, context.entered, context.with_graph) == (0, (2, 4), True, False)


def test_padding_has_no_place_of_its_own() -> None:
    context = told(input_ids=IDS, attention_mask=torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]))
    assert said(context.token_mask) == ["..xx", "xxxx"]
    assert context.position_ids is not None
    assert context.position_ids.tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]


def test_places_that_are_given_count_and_a_mask_that_is_given_counts_once() -> None:
    places = torch.tensor([[3, 4, 5, 6]])
    context = told(input_ids=IDS, position_ids=places, before={"given_mask": mask("xx..", "xxxx")})
    assert context.position_ids is places
    assert said(context.token_mask) == ["xx..", "xxxx"]
    assert context.given_mask is None


def test_a_pass_goes_on_where_its_cache_ends() -> None:
    model, context = tiny_llama(), RoutingContext()
    hook = PassHook(model, context, ())
    with torch.no_grad():
        cache = model(input_ids=IDS, use_cache=True).past_key_values
        model(input_ids=IDS[:, :1], past_key_values=cache)
        assert (context.past_length, context.position_ids.tolist()) == (4, [[4]])  # type: ignore[union-attr]
        grown = torch.tensor([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
        model(input_ids=IDS[:, :1], past_key_values=cache, attention_mask=grown)
    hook.remove()
    assert context.position_ids is not None
    assert (context.past_length, context.position_ids.tolist()) == (5, [[4], [5]])
    assert said(context.token_mask) == ["x", "x"]
    assert context.shape == (2, 1)


def test_embeddings_have_no_ids() -> None:
    model = tiny_llama()
    context = told(inputs_embeds=model.get_input_embeddings()(IDS).detach())
    assert context.input_ids is None
    assert context.shape == (2, 4)


def test_layers_forget_before_each_pass_and_what_follows_knows_the_pass() -> None:
    class Part:
        cleared = 0

        def clear(self) -> None:
            self.cleared += 1

    model, context, part, seen = tiny_llama(), RoutingContext(), Part(), []
    hook = PassHook(model, context, [part])
    hook.follow.append(lambda module, args, kwargs: seen.append(context.shape))
    with torch.no_grad():
        model(input_ids=IDS)
        model(input_ids=IDS[:1])
        hook.remove()
        model(input_ids=IDS)
    assert part.cleared == 2
    assert seen == [(2, 4), (1, 4)]


def test_whose_tokens_a_layer_is_given() -> None:
    context = RoutingContext(shape=torch.Size((2, 3)))
    x = torch.zeros(2, 3, 5)
    assert in_sequences(x, None, "up") is x
    assert in_sequences(x.flatten(0, 1), context, "up").shape == (2, 3, 5)
    for wrong, side in ((torch.zeros(5, 4), context), (torch.zeros(6, 4), None), (torch.zeros(1, 2, 3, 4), context)):
        with pytest.raises(Unsupported) as caught:
            in_sequences(wrong, side, "layers.0.up")
        assert str(caught.value) == (
            f"The layer layers.0.up is given inputs of shape {tuple(wrong.shape)}, which are not all tokens of a pass, "
            "so that they cannot be routed: leave it out of the experts' target modules."
        )


def test_paths_in_towers() -> None:
    assert in_towers("vision.layers.0", ("vision",))
    assert in_towers("vision", ("audio", "vision"))
    assert not in_towers("visionary.layers.0", ("vision",))
    assert not in_towers("vision", ())


def test_what_routers_cannot_know_is_refused() -> None:
    check_pass(RoutingContext())
    with pytest.raises(RuntimeError, match=r"padding is not known to routers: choose another base model\.$"):
        check_pass(RoutingContext(entered=False))
    with torch.no_grad(), pytest.raises(Unsupported, match=r'enable it with {"use_reentrant": False}\.$'):
        check_pass(RoutingContext(training=True, with_graph=True))
    with torch.no_grad():
        check_pass(RoutingContext(training=False, with_graph=True))
        check_pass(RoutingContext(training=True, with_graph=False))
    check_pass(RoutingContext(training=True, with_graph=True))
