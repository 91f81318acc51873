import pytest
import torch
from peft import PeftModel
from probing import disturb, logits
from transformers import T5Config, T5ForConditionalGeneration

from codestrata.components.ia3 import build_ia3, build_ia3_config
from codestrata.settings.components import IA3Settings


def build(base, **values):
    component = build_ia3(base, IA3Settings(**values))
    component.attach("a", seed=0)
    return component


def test_parameters_at_the_size_of_codet5_small():
    config = T5Config(vocab_size=32100, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8)
    with torch.device("meta"):
        model = T5ForConditionalGeneration(config)
    component = build_ia3(model, IA3Settings(), fingerprint="not computed")
    component.attach("a", seed=0)
    # k and v of 6 + 2 x 6 attentions have 512 outputs each, wo of 12 feed-forward parts has 2048 inputs.
    count = sum(parameter.numel() for parameter in component.parameters("a").values())
    assert count == 18 * 2 * 512 + 12 * 2048 == 43_008


@pytest.mark.parametrize("form", ["relu", "gated-gelu"])
def test_keys_values_and_inner_activations_are_scaled(form, build_tiny_t5):
    """Against the same base with the scales multiplied into its matrices by hand."""
    component = build(build_tiny_t5(feed_forward_proj=form))
    disturb(component, "a")
    by_hand = build_tiny_t5(feed_forward_proj=form)
    places = set()
    with torch.no_grad():
        for name, scales in component.parameters("a").items():
            path = name.removeprefix("base_model.model.").removesuffix(".ia3_l")
            weight = by_hand.get_submodule(path).weight
            place = path.rpartition(".")[2]
            places.add(place)
            weight.mul_(scales.view(1, -1) if place == "wo" else scales.view(-1, 1))
    assert places == {"k", "v", "wo"}
    component.activate("a")
    assert torch.allclose(logits(component.model), logits(by_hand), atol=1e-5)


def test_every_scale_is_one_at_birth(tiny_t5):
    assert all(torch.equal(own, torch.ones_like(own)) for own in build(tiny_t5).parameters("a").values())


def test_attention_alone(build_tiny_t5, tmp_path):
    component = build(build_tiny_t5(), feed_forward=False)
    assert {name.split(".")[-2] for name in component.parameters("a")} == {"k", "v"}
    disturb(component, "a")
    component.write("a", tmp_path, {})
    component.activate("a")
    theirs = PeftModel.from_pretrained(build_tiny_t5(), tmp_path)
    assert torch.equal(logits(theirs), logits(component.model))
    other = build(build_tiny_t5())
    other.load("b", tmp_path)  # residents may differ in what they scale
    other.activate("b")
    assert torch.equal(logits(other.model), logits(component.model))


def test_settings_reach_peft(tiny_t5):
    config = build_ia3_config(IA3Settings(), tiny_t5)
    assert config.target_modules == {"k", "v", "wo"}
    assert config.feedforward_modules == {"wo"}
    assert config.task_type == "SEQ_2_SEQ_LM"
