"""A base with a component on it as a plain model: the same function, of transformers' modules alone."""

import copy
import math

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from codestrata.components.hybrid import build_hybrid
from codestrata.components.ia3 import build_ia3
from codestrata.components.layers import build_layers
from codestrata.components.lora import build_lora
from codestrata.components.own_layers import OwnLayersComponent
from codestrata.components.weights import WeightsComponent
from codestrata.errors import ComponentError
from codestrata.exporting.comparison import compare_models
from codestrata.exporting.exports import TOLERANCE
from codestrata.exporting.plain import build_plain_model, has_deeper_decoder
from codestrata.models.families import list_stacks
from codestrata.models.fingerprints import fingerprint_model
from codestrata.settings.components import (
    HybridSettings,
    IA3Settings,
    LayersSettings,
    LoraSettings,
    OwnLayersSettings,
)

ROWS = ([5, 9, 33, 1], [7, 1], [60, 3, 3, 18, 40, 2, 11, 1])
DEPTHS = {
    "encoder-top": (4, 2),
    "decoder-top": (2, 4),
    "both": (4, 4),
    "interleaved:1": (6, 6),
}
"""Blocks of encoder and decoder after two new ones at every place of a base of 2 + 2."""


def make_component(base, kind, placement="both"):
    match kind:
        case "lora":
            return build_lora(base, LoraSettings(rank=4, alpha=8.0))
        case "dora" | "rslora":
            return build_lora(base, LoraSettings(rank=4, alpha=8.0, variant=kind))
        case "layers":
            return build_layers(base, LayersSettings(placement=placement, blocks=2))
        case "hybrid":
            return build_hybrid(base, HybridSettings(rank=4, placement=placement))
        case "ia3":
            return build_ia3(base, IA3Settings())
        case "own-layers":
            return OwnLayersComponent(base, OwnLayersSettings(placement=placement))
    return WeightsComponent(base)


def activate_trained(base, kind, placement="both"):
    """A component on ``base`` with weights far from where a newborn's are."""
    component = make_component(base, kind, placement)
    component.attach("python", seed=0)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in component.parameters("python").values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    component.activate("python")
    return component


ONE_PLACE = ("lora", "layers", "weights", "dora", "rslora", "ia3", "own-layers", "hybrid")
KINDS = [
    *((kind, "both") for kind in ONE_PLACE),
    *(("layers", placement) for placement in DEPTHS if placement != "both"),
]


@pytest.mark.parametrize(("kind", "placement"), KINDS)
def test_it_computes_the_same_and_loads_without_us(kind, placement, tiny_t5, first_tiny_t5, tmp_path):
    component = activate_trained(tiny_t5, kind, placement)
    plain = build_plain_model(tiny_t5)
    if has_deeper_decoder(plain):
        plain.generation_config.use_cache = False
    plain.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    found = compare_models(tiny_t5, loaded, ROWS, max_new_tokens=8)
    assert found.largest_difference <= 1e-5 * found.largest_logit
    assert (found.same_answers, found.prompts) == (3, 3)
    apart = compare_models(first_tiny_t5, loaded, ROWS, max_new_tokens=8)
    assert apart.largest_difference > 0.01 * apart.largest_logit  # what was compared is not the bare base
    assert component.active == "python"


DECODERS = [
    *(("llama", kind) for kind in ("lora", "layers", "weights", "own-layers", "hybrid", "between")),
    *(("qwen2", kind) for kind in ("lora", "dora", "ia3", "hybrid", "between")),  # biases beside the maps
    *(("qwen3", kind) for kind in ("ia3", "between")),
]


@pytest.mark.parametrize(("model_type", "kind"), DECODERS)
def test_decoders_compute_the_same_and_load_without_us(kind, model_type, first_tiny_decoders, tmp_path):
    base = copy.deepcopy(first_tiny_decoders[model_type])
    activate_trained(base, *(("layers", "interleaved:1") if kind == "between" else (kind, "top")))
    plain = build_plain_model(base)
    plain.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    found = compare_models(base, loaded, ROWS, max_new_tokens=8)
    assert found.largest_difference <= TOLERANCE * found.largest_logit
    assert (found.same_answers, found.prompts) == (3, 3)
    assert 3 <= found.tokens <= 3 * 8
    apart = compare_models(first_tiny_decoders[model_type], loaded, ROWS, max_new_tokens=8)
    assert apart.largest_difference > 0.01 * apart.largest_logit
    blocks = {"layers": 5, "hybrid": 4, "between": 9}.get(kind, 3)
    assert loaded.config.num_hidden_layers == len(loaded.model.layers) == blocks
    assert len(getattr(loaded.config, "layer_types", [None] * blocks)) == blocks
    assert base.config.num_hidden_layers == 3
    assert not has_deeper_decoder(plain)


def test_new_blocks_attend_as_the_blocks_they_follow(build_tiny_decoder, tmp_path):
    full, near = "full_attention", "sliding_attention"
    kinds = {"layer_types": [near, full, near], "use_sliding_window": True, "sliding_window": 4}
    base = build_tiny_decoder("qwen2", **kinds)
    activate_trained(base, "layers", "interleaved:2")
    plain = build_plain_model(base)
    assert plain.config.layer_types == [near, full, full, full, near]
    assert base.config.layer_types == [near, full, near]
    plain.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    found = compare_models(base, loaded, ROWS, max_new_tokens=8)
    assert found.same_answers == 3
    assert found.largest_difference <= TOLERANCE * found.largest_logit


@pytest.mark.parametrize("placement", DEPTHS)
def test_the_configuration_counts_new_blocks(placement, tiny_t5):
    activate_trained(tiny_t5, "layers", placement)
    plain = build_plain_model(tiny_t5)
    assert (plain.config.num_layers, plain.config.num_decoder_layers) == DEPTHS[placement]
    assert tuple(map(len, list_stacks(plain).values())) == DEPTHS[placement]
    assert (tiny_t5.config.num_layers, tiny_t5.config.num_decoder_layers) == (2, 2)
    assert has_deeper_decoder(plain) is (placement == "decoder-top")


@pytest.mark.parametrize(("kind", "placement"), KINDS[: len(ONE_PLACE)])
def test_nothing_of_ours_is_left_in_it(kind, placement, tiny_t5):
    activate_trained(tiny_t5, kind, placement)
    plain = build_plain_model(tiny_t5)
    assert not any(isinstance(module, BaseTunerLayer) for module in plain.modules())
    assert {type(module).__module__.split(".")[0] for module in plain.modules()} <= {"torch", "transformers"}
    assert not any("codestrata" in key for key in vars(plain))


@pytest.mark.parametrize(("kind", "placement"), KINDS)
def test_the_base_stays_what_it_was(kind, placement, tiny_t5):
    before = fingerprint_model(tiny_t5)
    component = activate_trained(tiny_t5, kind, placement)
    own = {name: parameter.clone() for name, parameter in component.parameters("python").items()}
    plain = build_plain_model(tiny_t5)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.zero_()
    assert all(torch.equal(own[name], found) for name, found in component.parameters("python").items())
    component.deactivate()
    assert fingerprint_model(tiny_t5) == before


def test_a_newborn_gives_the_base_again_to_the_bit(tiny_t5):
    component = make_component(tiny_t5, "lora")
    component.attach("python", seed=0)
    component.activate("python")
    plain = build_plain_model(tiny_t5)
    component.deactivate()
    assert fingerprint_model(plain) == fingerprint_model(tiny_t5)


def test_without_a_component_it_is_the_base(tiny_t5):
    assert fingerprint_model(build_plain_model(tiny_t5)) == fingerprint_model(tiny_t5)


def test_making_it_draws_nothing_from_the_random_state(tiny_t5):
    activate_trained(tiny_t5, "lora")
    before = torch.get_rng_state()
    build_plain_model(tiny_t5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["lora", "hybrid"])
def test_weights_that_overflow_are_refused(kind, tiny_t5):
    component = activate_trained(tiny_t5, kind)
    parameters = component.parameters("python")
    with torch.no_grad():
        next(own for name, own in parameters.items() if "lora_A" in name or "down" in name).fill_(math.inf)
    with pytest.raises(ComponentError, match=r"cannot be merged into the base's weights"):
        build_plain_model(tiny_t5)


def test_what_has_no_place_in_a_plain_model_is_refused(tiny_t5):
    tiny_t5.encoder.prompt = nn.Linear(2, 2)
    with pytest.raises(ComponentError, match=r"no place in a plain checkpoint: .*encoder\.prompt"):
        build_plain_model(tiny_t5)
