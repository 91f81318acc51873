"""The frozen prefix: what belongs to it, and that a model without it computes the same from its states."""

import pytest
import torch

from codestrata.components.layers import build_layers
from codestrata.components.lora import build_lora
from codestrata.data.batches import EncodedExample, collate
from codestrata.engine.prefixes import build_inputs, compute_states, find_prefix, shortened
from codestrata.settings.components import LayersSettings, LoraSettings

ROWS = [
    EncodedExample(
        identifier=str(length), prompt_ids=tuple(range(2, 2 + length)), target_ids=(5, *range(9, 9 + length))
    )
    for length in (3, 7, 5)
]
PLACES = {
    "encoder-top": (3, None),
    "decoder-top": (3, 4),
    "both": (3, None),
    "interleaved:2": (2, None),
    "interleaved:3": (3, None),
}


def add_layers(model, placement, *, scale=0.1):
    """New blocks that are not the identity."""
    component = build_layers(model, LayersSettings(placement=placement, blocks=2))
    component.attach("a", seed=0)
    with torch.no_grad():
        for parameter in component.parameters("a").values():
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            parameter.add_(scale * noise)
    component.activate("a")
    return component


@pytest.fixture
def model(build_tiny_t5):
    """Three blocks below, four above."""
    return build_tiny_t5(num_layers=3, num_decoder_layers=4, feed_forward_proj="gated-gelu")


@pytest.mark.parametrize(("placement", "expected"), PLACES.items())
def test_what_is_frozen(placement, expected, model):
    add_layers(model, placement)
    prefix = find_prefix(model)
    assert (prefix.encoder, prefix.decoder) == expected
    assert len(prefix.blocks["encoder"]) == expected[0]


def test_what_trains_everywhere_has_no_prefix(model):
    component = build_lora(model, LoraSettings())
    component.attach("a", seed=0)
    component.activate("a")
    assert find_prefix(model) is None
    component.deactivate()
    model.requires_grad_(True)
    assert find_prefix(model) is None


def test_a_frozen_model_is_its_own_prefix(model):
    model.requires_grad_(False)
    prefix = find_prefix(model)
    assert (prefix.encoder, prefix.decoder) == (3, 4)


def test_a_trained_norm_ends_the_prefix(model):
    add_layers(model, "decoder-top")
    model.encoder.final_layer_norm.weight.requires_grad_(True)
    prefix = find_prefix(model)
    assert (prefix.encoder, prefix.decoder) == (3, None)


@pytest.mark.parametrize("placement", PLACES)
def test_the_rest_computes_the_same_from_states(placement, model):
    component = add_layers(model, placement)
    batch = collate(ROWS, 0)

    def differentiate(states):
        logits = model(**build_inputs(model, batch, states)).logits
        (logits * torch.sin(torch.arange(logits.numel()).view_as(logits))).sum().backward()
        slopes = [parameter.grad.clone() for parameter in component.parameters("a").values()]
        model.zero_grad()
        return [logits.detach()[batch["labels"] >= 0], *slopes]

    expected = differentiate(None)
    prefix = find_prefix(model)
    outside = compute_states(model, prefix, batch)
    with shortened(model, prefix):
        inside = compute_states(model, prefix, batch)  # as for examples that are not kept
        found = differentiate(inside)
    assert torch.equal(inside.encoder, outside.encoder)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4)
    again = differentiate(None)
    assert all(torch.equal(first, second) for first, second in zip(again, expected, strict=True))


def test_nothing_below_runs_inside(model):
    add_layers(model, "decoder-top")
    batch, prefix = collate(ROWS, 0), find_prefix(model)
    states = compute_states(model, prefix, batch)
    for block in (*model.encoder.block, *list(model.decoder.block)[:-1]):
        block.register_forward_pre_hook(lambda *_: pytest.fail("a block of the prefix ran"))
    with shortened(model, prefix):
        model(**build_inputs(model, batch, states))


def test_the_model_is_whole_after_an_error(model):
    add_layers(model, "encoder-top")
    before = dict(model.named_modules())
    with pytest.raises(KeyError), shortened(model, find_prefix(model)):
        raise KeyError
    after = dict(model.named_modules())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


CAUSAL_PLACES = {"top": 3, "interleaved:2": 2, "interleaved:1": 1}


@pytest.fixture(params=["llama", "qwen3"])
def decoder(request, build_tiny_decoder):
    return build_tiny_decoder(request.param).requires_grad_(False)


@pytest.mark.parametrize(("placement", "expected"), CAUSAL_PLACES.items())
def test_what_is_frozen_of_a_decoder(placement, expected, decoder):
    add_layers(decoder, placement)
    prefix = find_prefix(decoder)
    assert (prefix.encoder, prefix.decoder) == (0, expected)
    assert len(prefix.blocks["decoder"]) == expected


def test_a_decoder_that_trains_from_its_first_block_has_no_prefix(decoder):
    component = build_lora(decoder, LoraSettings())
    component.attach("a", seed=0)
    component.activate("a")
    assert find_prefix(decoder) is None


@pytest.mark.parametrize("placement", CAUSAL_PLACES)
def test_the_rest_of_a_decoder_computes_the_same_from_states(placement, decoder):
    component = add_layers(decoder, placement)
    batch = collate(ROWS, 0, causal=True)

    def differentiate(states):
        logits = decoder(**build_inputs(decoder, batch, states)).logits[batch["labels"] >= 0]
        (logits * torch.sin(torch.arange(logits.numel()).view_as(logits))).sum().backward()
        slopes = [parameter.grad.clone() for parameter in component.parameters("a").values()]
        decoder.zero_grad()
        return [logits.detach(), *slopes]

    expected, prefix = differentiate(None), find_prefix(decoder)
    with shortened(decoder, prefix):
        states = compute_states(decoder, prefix, batch)
        for block in prefix.blocks["decoder"]:
            block.register_forward_pre_hook(lambda *_: pytest.fail("a block of the prefix ran"))
        found = differentiate(states)
    assert states.encoder.numel() == 0
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)
