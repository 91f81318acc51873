"""Shared masks: the same numbers bit for bit, and fewer large tensors."""

import pytest
import torch
from transformers.integrations import sdpa_attention

from codestrata.engine.attention import NAME, register_attention, shared_masks


def compute(model, *, padded, train_bias=False):
    """Logits and the gradients of everything trained."""
    ids = torch.randint(2, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 9 - padded :] = 0
    model.zero_grad()
    model.requires_grad_(train_bias)
    model.encoder.block[1].requires_grad_(True)
    outputs = model(input_ids=ids, attention_mask=mask, labels=ids, use_cache=False)
    outputs.loss.backward()
    return [outputs.logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("train_bias", [False, True])
@pytest.mark.parametrize("padded", [0, 4])
@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
def test_bit_equal_to_transformers(build_tiny_t5, feed_forward, padded, train_bias):
    model = build_tiny_t5(feed_forward_proj=feed_forward, num_layers=3)
    expected = compute(model, padded=padded, train_bias=train_bias)
    with shared_masks(model):
        assert model.config._attn_implementation == NAME
        found = compute(model, padded=padded, train_bias=train_bias)
    assert len(found) == len(expected)
    if train_bias:  # the shared bias's gradient is summed in another order
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)
    else:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
    assert model.config._attn_implementation == "sdpa"


def test_each_mask_is_joined_once(build_tiny_t5, monkeypatch):
    model, joined = build_tiny_t5(num_layers=4), []
    monkeypatch.setattr(
        sdpa_attention,
        "create_position_bias_mask",
        lambda *given, real=sdpa_attention.create_position_bias_mask: joined.append(1) or real(*given),
    )
    with shared_masks(model):
        compute(model, padded=2)
    assert len(joined) == 3  # of the encoder, the decoder, and between them: not one per layer


def test_other_implementations_are_left_alone(tiny_t5):
    tiny_t5.set_attn_implementation("eager")
    with shared_masks(tiny_t5):
        assert tiny_t5.config._attn_implementation == "eager"
    assert tiny_t5.config._attn_implementation == "eager"


def test_the_implementation_comes_back_after_an_error(tiny_t5):
    with pytest.raises(KeyError), shared_masks(tiny_t5):
        raise KeyError
    assert tiny_t5.config._attn_implementation == "sdpa"


def test_registering_twice_changes_nothing():
    from transformers import AttentionInterface

    register_attention()
    before = dict(AttentionInterface._global_mapping)
    register_attention()
    assert dict(AttentionInterface._global_mapping) == before
