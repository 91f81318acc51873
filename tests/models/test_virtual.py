import copy

import pytest
import torch
from torch import nn

from codestrata.models.fingerprints import fingerprint_model, list_slots
from codestrata.models.virtual import (
    PLACE,
    VirtualTokens,
    count_virtual_tokens,
    find_first_stack,
    hang_in,
    take_out,
    widen,
)

IDS = torch.tensor([[5, 9, 33], [0, 17, 40]])
MASK = torch.tensor([[1, 1, 1], [0, 1, 1]])


@pytest.fixture(params=["t5", "llama"])
def base(request, build_tiny_t5, first_tiny_decoders):
    return build_tiny_t5() if request.param == "t5" else copy.deepcopy(first_tiny_decoders[request.param])


@pytest.fixture
def tokens(base):
    torch.manual_seed(0)
    return VirtualTokens(nn.Embedding(4, base.get_input_embeddings().embedding_dim)).eval()


def run(base, **inputs):
    """Logits of the fixed rows, without a cache."""
    if base.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = IDS
    with torch.inference_mode():
        return base(attention_mask=MASK, use_cache=False, **inputs).logits


def test_they_are_read_before_every_prompt_and_gone_without_a_trace(base, tokens):
    bare, before = run(base, input_ids=IDS), fingerprint_model(base)
    names = [slot.name for slot in list_slots(base)]
    handles = hang_in(base, tokens)
    assert count_virtual_tokens(base) == 4
    assert run(base, input_ids=IDS).shape == bare.shape
    assert not torch.allclose(run(base, input_ids=IDS), bare)
    assert fingerprint_model(base) == before
    assert [slot.name for slot in list_slots(base)] == names
    take_out(base, handles)
    assert count_virtual_tokens(base) == 0
    assert torch.equal(run(base, input_ids=IDS), bare)
    assert not hasattr(find_first_stack(base), PLACE)
    assert all(not module._forward_pre_hooks and not module._forward_hooks for module in base.modules())


def test_embeddings_instead_of_ids(base, tokens):
    hang_in(base, tokens)
    embedded = base.get_input_embeddings()(IDS).detach()
    assert torch.equal(run(base, inputs_embeds=embedded), run(base, input_ids=IDS))


def test_they_are_what_embeddings_written_out_before_the_prompt_would_be(base, tokens):
    embedded = torch.cat([tokens.embedding.weight.expand(2, -1, -1), base.get_input_embeddings()(IDS)], dim=1)
    inputs = {"inputs_embeds": embedded, "attention_mask": widen(MASK, 4), "use_cache": False}
    if base.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = IDS
    with torch.inference_mode():
        wanted = base(**inputs).logits[:, -3:]
    hang_in(base, tokens)
    assert torch.allclose(run(base, input_ids=IDS), wanted, atol=1e-6)


def test_a_cache_reads_them_once_and_positions_go_on(first_tiny_decoders):
    base = copy.deepcopy(first_tiny_decoders["llama"])
    hang_in(base, VirtualTokens(nn.Embedding(4, 32)).eval())
    with torch.inference_mode():
        whole = base(input_ids=IDS[:1], use_cache=False).logits
        positions = torch.arange(3)[None]
        assert torch.equal(base(input_ids=IDS[:1], position_ids=positions, use_cache=False).logits, whole)
        first = base(input_ids=IDS[:1, :2], use_cache=True)
        assert first.past_key_values.get_seq_length() == 6
        then = base(input_ids=IDS[:1, 2:], past_key_values=first.past_key_values)
        placed = base(input_ids=IDS[:1, :2], use_cache=True).past_key_values
        again = base(input_ids=IDS[:1, 2:], past_key_values=placed, position_ids=positions[:, 2:])
    assert torch.allclose(torch.cat([first.logits, then.logits], dim=1), whole, atol=1e-6)
    assert torch.equal(again.logits, then.logits)


def test_a_mask_is_widened_by_open_places():
    assert widen(None, 2) is None
    assert widen(MASK, 2).tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 1, 1]]
    assert torch.equal(widen(MASK, 0), MASK)
