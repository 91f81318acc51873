import copy

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from torch import nn
from transformers import BertConfig, BertModel, T5Config, T5EncoderModel

from codestrata.errors import ModelError, SettingsError
from codestrata.models.families import (
    choose_stacks,
    copy_block,
    find_family,
    find_weight,
    list_lora_targets,
    list_output_projections,
    list_running_blocks,
    list_stacks,
)


def test_t5_is_known(tiny_t5):
    assert find_family(tiny_t5).name == "t5"


def test_other_models_are_refused_with_their_type():
    config = BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    with pytest.raises(ModelError, match=r"BertModel is of model type 'bert'.*: llama, qwen2, qwen3, t5"):
        find_family(BertModel(config))
    with pytest.raises(ModelError, match=r"Linear is of model type None"):
        find_family(nn.Linear(1, 1))


def test_stacks_are_those_the_model_has(build_tiny_t5):
    model = build_tiny_t5(num_layers=1, num_decoder_layers=2)
    assert list_stacks(model) == {
        "encoder": ["encoder.block.0"],
        "decoder": ["decoder.block.0", "decoder.block.1"],
    }
    encoder = T5EncoderModel(T5Config(vocab_size=8, d_model=8, d_kv=2, d_ff=8, num_layers=1, num_heads=2))
    assert list_stacks(encoder) == {"encoder": ["encoder.block.0"]}


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_decoders_are_known(model_type, first_tiny_decoders):
    model = first_tiny_decoders[model_type]
    family = find_family(model)
    assert (family.name, family.is_causal) == (model_type, True)
    assert list_stacks(model) == {"decoder": [f"model.layers.{number}" for number in range(3)]}
    assert list_running_blocks(model, "decoder") == list(model.model.layers)
    assert list_lora_targets(model) == family.linear_maps
    block = model.model.layers[1]
    assert list_output_projections(family, block) == [block.self_attn.o_proj, block.mlp.down_proj]
    assert getattr(model.config, family.depths["decoder"]) == 3
    assert isinstance(getattr(model.model, family.final_norm), nn.Module)
    assert family.carry(("h",), "h2") == ("h2",)
    twin = copy_block(family, block, cache_index=7)
    assert (twin.self_attn.layer_idx, block.self_attn.layer_idx) == (7, 1)
    assert twin.self_attn.config is block.self_attn.config
    assert (find_weight(block.self_attn.q_proj) is None) is (model_type == "qwen2")  # it has a bias


@pytest.mark.parametrize(
    ("placement", "on_t5", "on_llama"),
    [
        ("top", ("decoder",), ("decoder",)),
        ("decoder-top", ("decoder",), ("decoder",)),
        ("encoder-top", ("encoder",), None),
        ("both", ("encoder", "decoder"), None),
    ],
)
def test_tops(placement, on_t5, on_llama, tiny_t5, tiny_llama):
    assert choose_stacks(tiny_t5, placement) == on_t5
    if on_llama is not None:
        assert choose_stacks(tiny_llama, placement) == on_llama
        return
    message = f"x is '{placement}': the base has no encoder. It is made of a decoder alone: use \"top\""
    with pytest.raises(SettingsError, match=message):
        choose_stacks(tiny_llama, placement, label="x")


def test_the_top_of_a_model_that_writes_no_answers():
    encoder = T5EncoderModel(T5Config(vocab_size=8, d_model=8, d_kv=2, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(SettingsError, match=r"no decoder\. .* use \"encoder-top\""):
        choose_stacks(encoder, "top")


def test_a_stack_without_blocks_has_no_top(build_tiny_decoder):
    with pytest.raises(SettingsError, match="the base has no decoder"):
        choose_stacks(build_tiny_decoder("llama", num_hidden_layers=0), "top")


def test_lora_targets_are_linear_maps_that_exist(tiny_t5, build_tiny_t5):
    assert list_lora_targets(tiny_t5) == ("q", "k", "v", "o", "wi", "wo")
    gated = build_tiny_t5(feed_forward_proj="gated-gelu")
    assert list_lora_targets(gated) == ("q", "k", "v", "o", "wi_0", "wi_1", "wo")


def test_a_copied_first_block_takes_the_position_bias_from_its_neighbour(tiny_t5):
    block = tiny_t5.decoder.block[0]
    before = copy.deepcopy(block.state_dict())
    twin = copy_block(find_family(tiny_t5), block, cache_index=7)
    attentions = [twin.layer[0].SelfAttention, twin.layer[1].EncDecAttention]
    assert [attention.layer_idx for attention in attentions] == [7, 7]
    assert not any(attention.has_relative_attention_bias for attention in attentions)
    assert set(before) - set(twin.state_dict()) == {"layer.0.SelfAttention.relative_attention_bias.weight"}
    assert twin.layer[0].SelfAttention.config is block.layer[0].SelfAttention.config
    assert twin.is_decoder
    twin.layer[0].SelfAttention.q.weight.data.zero_()
    assert all(torch.equal(block.state_dict()[name], tensor) for name, tensor in before.items())
    assert block.layer[0].SelfAttention.layer_idx == 0


def test_output_projections(tiny_t5):
    family = find_family(tiny_t5)
    decoder = tiny_t5.decoder.block[1].layer
    assert list_output_projections(family, tiny_t5.decoder.block[1]) == [
        decoder[0].SelfAttention.o,
        decoder[1].EncDecAttention.o,
        decoder[2].DenseReluDense.wo,
    ]


def test_arguments_carried_from_block_to_block(tiny_t5):
    family = find_family(tiny_t5)
    carried = family.carry(("h", "mask", None, "states", "states mask", None), ("h2", "bias", "cross bias"))
    assert carried == ("h2", "mask", "bias", "states", "states mask", "cross bias")


def test_blocks_that_run_are_those_of_the_base_and_what_wrappers_name(build_tiny_t5):
    model = build_tiny_t5(num_decoder_layers=3)
    encoder, decoder = list(model.encoder.block), list(model.decoder.block)
    assert list_running_blocks(model, "encoder") == encoder
    assert list_running_blocks(model, "decoder") == decoder
    wrapper, new = nn.Identity(), nn.Identity()
    wrapper.list_blocks = lambda: [decoder[1], new]
    model.decoder.block[1] = wrapper
    assert list_running_blocks(model, "decoder") == [decoder[0], decoder[1], new, decoder[2]]
    assert list_running_blocks(model, "encoder") == encoder


def test_the_weight_of_a_linear_map():
    plain = nn.Linear(3, 2, bias=False)
    assert find_weight(plain) is plain.weight
    assert find_weight(nn.Linear(3, 2)) is None
    assert find_weight(nn.Bilinear(3, 3, 2)) is None


@pytest.mark.parametrize(
    ("values", "known"),
    [
        ({}, True),
        ({"use_dora": True}, True),
        ({"use_rslora": True}, True),
        ({"lora_bias": True, "bias": "none"}, False),
    ],
)
def test_the_weight_of_a_linear_map_with_lora(values, known):
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["0"], init_lora_weights=False, **values)
    own_bias = "lora_bias" in values
    model = get_peft_model(nn.Sequential(nn.Linear(3, 4, bias=own_bias)), config).eval()
    linear = model.base_model.model[0]
    hidden = torch.randn(5, 3)
    weight = find_weight(linear)
    if not known:
        assert weight is None
        return
    assert torch.allclose(hidden @ weight.T, linear(hidden), atol=1e-6)
    assert not torch.allclose(weight, linear.base_layer.weight)
    with model.disable_adapter():
        assert find_weight(linear) is linear.base_layer.weight
    model.base_model.merge_adapter()
    assert find_weight(linear) is None


@pytest.mark.parametrize("names", [["0"], []], ids=["inputs", "outputs"])
def test_the_weight_of_a_linear_map_with_scales(names):
    torch.manual_seed(0)
    config = IA3Config(target_modules=["0"], feedforward_modules=names, init_ia3_weights=False)
    model = get_peft_model(nn.Sequential(nn.Linear(3, 4, bias=False)), config).eval()
    linear = model.base_model.model[0]
    hidden = torch.randn(5, 3)
    assert torch.allclose(hidden @ find_weight(linear).T, linear(hidden), atol=1e-6)
    with model.disable_adapter():
        assert find_weight(linear) is linear.base_layer.weight
    model.base_model.merge_adapter()
    assert find_weight(linear) is None


def test_dora_beside_another_adapter_is_left_to_calls():
    torch.manual_seed(0)
    values = {"r": 2, "target_modules": ["0"], "init_lora_weights": False}
    model = get_peft_model(nn.Sequential(nn.Linear(3, 4, bias=False)), LoraConfig(use_dora=True, **values))
    model.add_adapter("other", LoraConfig(**values))
    linear = model.base_model.model[0]
    assert find_weight(linear) is not None
    model.base_model.set_adapter(["default", "other"])
    assert find_weight(linear) is None
