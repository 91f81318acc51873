import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from probing import MASK, PROMPTS, TARGETS, disturb, generate, layers, logits
from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration

from codestrata.components.layers import LayersConfig, build_layers, list_places, register_layers
from codestrata.errors import SettingsError
from codestrata.models.fingerprints import fingerprint_model
from codestrata.settings.components import LayersSettings


@pytest.fixture(autouse=True)
def _registered():
    register_layers()


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ("encoder-top", ["encoder.block.1"]),
        ("decoder-top", ["decoder.block.2"]),
        ("both", ["encoder.block.1", "decoder.block.2"]),
        (
            "interleaved:1",
            ["encoder.block.0", "encoder.block.1", "decoder.block.0", "decoder.block.1", "decoder.block.2"],
        ),
        ("interleaved:2", ["encoder.block.1", "decoder.block.1"]),
        ("interleaved:3", ["decoder.block.2"]),
    ],
)
def test_places(placement, expected, build_tiny_t5):
    model = build_tiny_t5(num_layers=2, num_decoder_layers=3)
    assert list(list_places(model, placement)) == expected


@pytest.mark.parametrize(
    ("placement", "message"),
    [
        ("interleaved:3", "too few blocks .2 in the encoder, 2 in the decoder"),
        ("interleaved:1.5", "whole number"),
    ],
)
def test_places_that_do_not_exist(placement, message, tiny_t5):
    with pytest.raises(SettingsError, match=message):
        build_layers(tiny_t5, LayersSettings(placement=placement))


def test_a_base_without_decoder():
    config = T5Config(vocab_size=8, d_model=8, d_kv=2, d_ff=8, num_layers=2, num_heads=2)
    model = T5EncoderModel(config)
    assert list_places(model, "interleaved:2") == ("encoder.block.1",)
    with pytest.raises(SettingsError, match="no decoder"):
        build_layers(model, LayersSettings(placement="both"))


def test_new_blocks_own_no_position_bias_and_their_own_place_in_the_cache(build_tiny_t5):
    model = build_tiny_t5()
    component = layers(placement="interleaved:1", blocks=2)(model)
    component.attach("a", seed=0)
    component.activate("a")
    assert not any("relative_attention_bias" in name for name in component.parameters("a"))
    attentions = [
        (path, module)
        for path, module in model.named_modules()
        if path.startswith("decoder") and path.endswith(("SelfAttention", "EncDecAttention"))
    ]
    for kind in ("SelfAttention", "EncDecAttention"):
        numbers = [module.layer_idx for path, module in attentions if path.endswith(kind)]
        assert sorted(numbers) == list(range(6))
    with_bias = [path for path, module in attentions if module.has_relative_attention_bias]
    assert with_bias == ["decoder.block.0.base_layer.layer.0.SelfAttention"]


def test_a_new_block_is_its_neighbour_with_output_projections_of_zero(tiny_t5):
    component = layers(placement="encoder-top")(tiny_t5)
    component.attach("a", seed=0)
    for name, parameter in component.parameters("a").items():
        inner = name.removeprefix("base_model.model.encoder.block.1.layers_blocks.0.")
        neighbour = tiny_t5.encoder.block[1].get_parameter(inner)
        zeroed = inner.endswith((".o.weight", ".wo.weight"))
        assert torch.equal(parameter, torch.zeros_like(neighbour) if zeroed else neighbour)


@pytest.mark.parametrize(
    "values", [{"num_layers": 3, "num_decoder_layers": 1}, {"feed_forward_proj": "gated-gelu"}]
)
def test_other_shapes_of_t5(values, build_tiny_t5):
    model = build_tiny_t5(**values)
    bare = logits(model)
    component = layers(placement="interleaved:1", blocks=2)(model)
    component.attach("a", seed=0)
    component.activate("a")
    assert torch.equal(logits(model), bare)
    disturb(component, "a")
    assert generate(model) == generate(model, use_cache=False)


def test_generation_with_a_static_cache(tiny_t5):
    component = layers(placement="both", blocks=2)(tiny_t5)
    component.attach("a", seed=0)
    disturb(component, "a")
    component.activate("a")
    assert generate(tiny_t5, cache_implementation="static") == generate(tiny_t5, use_cache=False)


def test_new_blocks_keep_the_bases_dtype_and_attention_implementation(tiny_t5):
    tiny_t5.to(torch.bfloat16)
    component = layers(placement="both")(tiny_t5)
    component.attach("a", seed=0)
    assert {parameter.dtype for parameter in component.parameters("a").values()} == {torch.bfloat16}
    component.activate("a")
    tiny_t5.set_attn_implementation("eager")
    configs = {
        id(module.config) for path, module in tiny_t5.named_modules() if path.endswith("SelfAttention")
    }
    assert configs == {id(tiny_t5.encoder.config), id(tiny_t5.decoder.config)}


def test_scaled_blocks_are_fresh_blocks_times_the_scale(build_tiny_t5):
    component = layers(placement="both", init="scaled:0.01")(build_tiny_t5(d_model=64, d_ff=128, d_kv=16))
    component.attach("a", seed=0)
    parameters = component.parameters("a").values()
    for inputs in (64, 128):
        drawn = [p.flatten() for p in parameters if p.dim() == 2 and p.shape[1] == inputs]
        assert torch.cat(drawn).std().item() == pytest.approx(0.01 / inputs**0.5, rel=0.03)
        assert torch.cat(drawn).mean().item() == pytest.approx(0, abs=1e-4)
    assert all(torch.equal(p, torch.full_like(p, 0.01)) for p in parameters if p.dim() == 1)


def test_scaled_blocks_have_biases_of_zero(tiny_qwen2):
    component = layers(placement="top", init="scaled:0.5")(tiny_qwen2)
    with torch.no_grad():
        tiny_qwen2.model.layers[2].self_attn.q_proj.bias.fill_(3.0)
    component.attach("a", seed=0)
    biases = {name: own for name, own in component.parameters("a").items() if name.endswith(".bias")}
    assert len(biases) == 3
    assert all(torch.equal(own, torch.zeros_like(own)) for own in biases.values())


def test_new_blocks_drop_out_in_training_only(tiny_t5):
    component = layers(placement="both")(tiny_t5)
    component.attach("a", seed=0)
    disturb(component, "a")
    own_before = set(tiny_t5.modules())
    component.activate("a")
    assert torch.equal(logits(tiny_t5), logits(tiny_t5))
    for module in tiny_t5.modules():
        if module not in own_before:
            module.training = True
    assert not torch.equal(logits(tiny_t5), logits(tiny_t5))


def test_one_encoder_block_of_codet5_small_has_3146752_parameters():
    config = T5Config(vocab_size=32100, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8)
    with torch.device("meta"):
        model = T5ForConditionalGeneration(config)
    component = build_layers(model, LayersSettings(placement="encoder-top"), fingerprint="not computed")
    component.attach("a", seed=0)
    assert sum(parameter.numel() for parameter in component.parameters("a").values()) == 3_146_752


def test_registering_twice_changes_nothing():
    before = dict(PEFT_TYPE_TO_CONFIG_MAPPING)
    register_layers()
    assert before == PEFT_TYPE_TO_CONFIG_MAPPING
    assert PEFT_TYPE_TO_CONFIG_MAPPING["LAYERS"] is LayersConfig


def test_peft_users_find_what_they_expect(build_tiny_t5, tmp_path):
    base = build_tiny_t5()
    bare = logits(base)
    model = get_peft_model(base, LayersConfig(task_type="SEQ_2_SEQ_LM", placement="encoder-top"))
    model.add_adapter(
        "deep", LayersConfig(task_type="SEQ_2_SEQ_LM", placement="interleaved:1", init="scaled:0.5")
    )
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all(".layers_blocks.default." in name for name in trainable)
    assert torch.equal(logits(model), bare)

    model.set_adapter("deep")
    deep = logits(model)
    assert not torch.equal(deep, bare)
    assert all(".deep." in name for name, parameter in model.named_parameters() if parameter.requires_grad)
    with model.disable_adapter():
        assert torch.equal(logits(model), bare)
    assert torch.equal(logits(model), deep)
    model(input_ids=PROMPTS, attention_mask=MASK, labels=TARGETS).loss.backward()

    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(build_tiny_t5(), tmp_path / "deep", adapter_name="other")
    assert torch.equal(logits(again), deep)
    assert not any(parameter.requires_grad for parameter in again.parameters())
    again.load_adapter(tmp_path, "default")
    assert torch.equal(logits(again), deep)

    model.delete_adapter("deep")
    assert list(model.peft_config) == ["default"]
    assert torch.equal(logits(model), bare)
    assert torch.equal(logits(model.unload()), bare)
    assert fingerprint_model(base) == fingerprint_model(build_tiny_t5())


def test_deleting_the_active_adapter_chooses_one_for_all_places(build_tiny_t5):
    model = get_peft_model(build_tiny_t5(), LayersConfig(placement="both"))
    model.add_adapter("a-decoder", LayersConfig(placement="decoder-top", init="scaled:0.5"))
    model.add_adapter("b-encoder", LayersConfig(placement="encoder-top", init="scaled:0.5"))
    model.delete_adapter("default")
    assert model.active_adapters == ["a-decoder"]
    after = logits(model)
    model.set_adapter("a-decoder")
    assert torch.equal(logits(model), after)
    model.delete_adapter("b-encoder")
    model.delete_adapter("a-decoder")
    assert model.active_adapters == []


def test_wrappers_name_the_blocks_that_run(build_tiny_t5):
    base = build_tiny_t5()
    own = list(base.decoder.block)
    model = get_peft_model(base, LayersConfig(placement="decoder-top", blocks=2))
    model.add_adapter("deep", LayersConfig(placement="interleaved:1"))
    wrappers = list(base.decoder.block)

    def name():
        return [wrapper.list_blocks() for wrapper in wrappers]

    top = wrappers[1].layers_blocks["default"]
    assert name() == [[own[0]], [own[1], top[0], top[1]]]
    model.set_adapter("deep")
    assert name() == [[own[n], wrappers[n].layers_blocks["deep"][0]] for n in range(2)]
    with model.disable_adapter():
        assert name() == [[own[0]], [own[1]]]


def test_what_new_blocks_cannot_do(tiny_t5):
    model = get_peft_model(tiny_t5, LayersConfig(placement="both"))
    with pytest.raises(NotImplementedError, match="cannot be merged"):
        model.merge_and_unload()
    model.add_adapter("other", LayersConfig(placement="both"))
    with pytest.raises(ValueError, match="One adapter"):
        model.base_model.set_adapter(["default", "other"])
