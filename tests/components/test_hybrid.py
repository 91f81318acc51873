import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from probing import MASK, PROMPTS, TARGETS, disturb, edit_json, generate, logits, sign

import codestrata
from codestrata.components.hybrid import HybridConfig, UpdatedMap, build_hybrid, register_with_peft
from codestrata.components.layers import LayersConfig, LayersLayer, build_layers
from codestrata.components.lora import build_lora
from codestrata.engine.prefixes import find_prefix
from codestrata.errors import ComponentError, SettingsError
from codestrata.models.families import find_weight
from codestrata.models.fingerprints import fingerprint_model, fingerprint_tensors
from codestrata.settings.components import HybridSettings, LayersSettings, LoraSettings

PARTS = {"rank": 2, "alpha": 6.0, "targets": ("q", "wi")}


def build(base, **values):
    component = build_hybrid(base, HybridSettings(**{**PARTS, "placement": "both", **values}))
    component.attach("a", seed=0)
    return component


def count(component):
    return sum(parameter.numel() for parameter in component.parameters("a").values())


def test_it_has_the_parameters_of_both_its_parts(build_tiny_t5):
    lora = build_lora(build_tiny_t5(), LoraSettings(**PARTS))
    layers = build_layers(build_tiny_t5(), LayersSettings(placement="both", blocks=2))
    for part in (lora, layers):
        part.attach("a", seed=0)
    assert count(build(build_tiny_t5(), blocks=2)) == count(lora) + count(layers)


def move_into_hybrid(part, hybrid):
    """Give a hybrid the values of a LoRA or of layers; how many tensors were moved."""
    ours = {name.replace(".base_layer.", "."): own for name, own in hybrid.parameters("a").items()}
    names = {"lora_A": "layers_down", "lora_B": "layers_up"}
    with torch.no_grad():
        for name, own in part.parameters("a").items():
            for theirs, mine in names.items():
                name = name.replace(theirs, mine)
            ours[name].copy_(own)
    return len(part.parameters("a"))


@pytest.mark.parametrize("part", ["lora", "layers"])
def test_either_part_alone_is_what_the_component_of_that_name_is(part, build_tiny_t5):
    """The other part is the identity at birth, so the hybrid computes what lora or layers does."""
    hybrid, other = build(build_tiny_t5()), build_tiny_t5()
    alone = {
        "lora": lambda: build_lora(other, LoraSettings(**PARTS)),
        "layers": lambda: build_layers(other, LayersSettings(placement="both")),
    }[part]()
    alone.attach("a", seed=0)
    disturb(alone, "a")
    moved = move_into_hybrid(alone, hybrid)
    assert 0 < moved < len(hybrid.parameters("a"))
    alone.activate("a")
    hybrid.activate("a")
    assert torch.allclose(logits(hybrid.model), logits(other), atol=1e-5)
    assert not torch.allclose(logits(other), logits(build_tiny_t5()), atol=1e-2)


def test_updates_lie_beside_the_bases_maps_and_not_inside_new_blocks(tiny_t5):
    component = build(tiny_t5, blocks=2)
    component.activate("a")
    wrapped = [path for path, module in tiny_t5.named_modules() if isinstance(module, UpdatedMap)]
    # q of 2 encoder and 2 x 2 decoder attentions, wi of 4 feed-forward parts
    assert len(wrapped) == 6 + 4
    assert not any("layers_blocks" in path for path in wrapped)
    blocks = [module for module in tiny_t5.modules() if isinstance(module, LayersLayer)]
    assert [len(block.list_blocks()) for block in blocks] == [3, 3]


def test_the_matrix_of_a_map_is_that_of_its_calls(tiny_t5):
    component = build(tiny_t5, dropout=0.3)
    disturb(component, "a")
    component.activate("a")
    for module in tiny_t5.modules():
        if isinstance(module, UpdatedMap):
            hidden = torch.randn(5, module.base_layer.in_features)
            assert torch.allclose(hidden @ find_weight(module).T, module(hidden), atol=1e-5)
            assert not torch.allclose(find_weight(module), module.base_layer.weight, atol=1e-2)
    biased = UpdatedMap(torch.nn.Linear(3, 4))
    assert find_weight(biased) is None


def test_updates_in_the_first_block_leave_no_prefix(tiny_t5):
    component = build(tiny_t5)
    component.activate("a")
    assert find_prefix(tiny_t5) is None


def test_dropout_of_updates_is_on_in_training_only(tiny_t5):
    component = build(tiny_t5, dropout=0.9)
    disturb(component, "a")
    component.activate("a")
    updated = next(module for module in tiny_t5.modules() if isinstance(module, UpdatedMap))
    hidden = torch.randn(5, updated.base_layer.in_features)
    assert torch.equal(updated(hidden), updated(hidden))
    component.model.train()
    assert not torch.equal(updated(hidden), updated(hidden))


def test_plain_peft_trains_saves_and_loads_one(build_tiny_t5, tmp_path):
    codestrata.register_with_peft()
    base = build_tiny_t5()
    bare, fingerprint = logits(base), fingerprint_model(base)
    model = get_peft_model(base, HybridConfig(task_type="SEQ_2_SEQ_LM", placement="both", **PARTS)).eval()
    assert torch.equal(logits(model), bare)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(trainable) == len(build(build_tiny_t5()).parameters("a"))
    model(input_ids=PROMPTS, attention_mask=MASK, labels=TARGETS).loss.backward()
    with torch.no_grad():
        for parameter in trainable:
            parameter.add_(0.1 * torch.ones_like(parameter))
    trained = logits(model)
    with model.disable_adapter():
        assert torch.equal(logits(model), bare)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(build_tiny_t5(), tmp_path)
    assert torch.equal(logits(again), trained)
    assert generate(again) == generate(again, use_cache=False)
    with pytest.raises(ValueError, match="holds one hybrid"):
        model.add_adapter("other", HybridConfig(placement="both", **PARTS))
    with pytest.raises(NotImplementedError, match="cannot be merged"):
        model.merge_and_unload()
    assert fingerprint_model(base) == fingerprint


def test_residents_may_differ_in_everything(build_tiny_t5, tmp_path):
    other = build(build_tiny_t5(), rank=3, targets=("k",), placement="interleaved:1", init="scaled:0.5")
    disturb(other, "a")
    other.write("a", tmp_path, {})
    other.activate("a")
    component = build(build_tiny_t5())
    component.load("b", tmp_path)
    component.activate("b")
    assert torch.equal(logits(component.model), logits(other.model))
    assert fingerprint_tensors(component.parameters("b")) == fingerprint_tensors(other.parameters("a"))


@pytest.mark.parametrize(
    "values",
    [
        {"rank": 0},
        {"rank": 2.0},
        {"alpha": -1},
        {"dropout": 2},
        {"targets": ["q", "shared"]},
        {"targets": [["q"]]},
        {"targets": []},
        {"targets": None},
        {"targets": ["q"]},  # and target_modules say otherwise
        {"placement": "sideways"},
        {"placement": "interleaved:9"},
        {"blocks": 0},
        {"init": "scaled:nan"},
        {"target_modules": ["encoder.block.1"]},
        {"target_modules": ".*"},
        {"peft_type": "LAYERS"},
        {"stranger": 1},
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit_is_refused(values, tiny_t5, tmp_path):
    bare = logits(tiny_t5)
    component = build(tiny_t5)
    component.write("a", tmp_path, {})
    edit_json(tmp_path / "adapter_config.json", **values)
    sign(tmp_path)
    with pytest.raises(ComponentError, match="adapter_config"):
        component.load("b", tmp_path)
    assert component.names == ("a",)
    assert torch.equal(logits(tiny_t5), bare)


def test_settings_that_do_not_fit_the_base_are_refused(tiny_t5):
    with pytest.raises(SettingsError, match=r"'wi_0'. Did you mean 'wi'"):
        build(tiny_t5, targets=("wi_0",))
    with pytest.raises(SettingsError, match=r"hybrid\.targets is empty"):
        build(tiny_t5, targets=())
    with pytest.raises(SettingsError, match="too few blocks"):
        build(tiny_t5, placement="interleaved:9")


def test_registering_twice_changes_nothing():
    register_with_peft()
    before = dict(PEFT_TYPE_TO_CONFIG_MAPPING)
    register_with_peft()
    assert before == PEFT_TYPE_TO_CONFIG_MAPPING
    assert PEFT_TYPE_TO_CONFIG_MAPPING["HYBRID"] is HybridConfig
    assert PEFT_TYPE_TO_CONFIG_MAPPING["LAYERS"] is LayersConfig
