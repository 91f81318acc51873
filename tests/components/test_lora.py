import pytest
import torch
from probing import disturb
from transformers import T5Config, T5ForConditionalGeneration

from codestrata.components.lora import build_lora, build_lora_config
from codestrata.errors import SettingsError
from codestrata.models.families import find_weight
from codestrata.settings.components import LoraSettings
from codestrata.settings.tree import build_settings


@pytest.fixture(scope="module")
def codet5_small():
    config = T5Config(vocab_size=32100, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8)
    with torch.device("meta"):
        return T5ForConditionalGeneration(config)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [(("q", "k", "v", "o", "wo"), 1_671_168), (None, 2_162_688)],
    ids=["founding", "all"],
)
def test_parameters_at_the_size_of_codet5_small(targets, expected, codet5_small):
    component = build_lora(codet5_small, LoraSettings(rank=16, targets=targets), fingerprint="not computed")
    component.attach("a", seed=0)
    assert sum(parameter.numel() for parameter in component.parameters("a").values()) == expected


def test_settings_reach_peft(tiny_t5):
    config = build_lora_config(LoraSettings(rank=4, alpha=6.5, dropout=0.1, targets=("q",)), tiny_t5)
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 6.5, 0.1)
    assert config.target_modules == {"q"}
    assert config.task_type == "SEQ_2_SEQ_LM"


def test_all_linear_maps_of_the_blocks_are_the_default(tiny_t5, build_tiny_t5):
    assert build_lora_config(LoraSettings(), tiny_t5).target_modules == {"q", "k", "v", "o", "wi", "wo"}
    gated = build_tiny_t5(feed_forward_proj="gated-gelu")
    assert build_lora_config(LoraSettings(), gated).target_modules == {
        "q",
        "k",
        "v",
        "o",
        "wi_0",
        "wi_1",
        "wo",
    }


def test_unknown_targets_are_refused_with_the_known_ones(tiny_t5):
    with pytest.raises(SettingsError, match=r"'wi_0'. Did you mean 'wi'\? Known: k, o, q, v, wi, wo"):
        build_lora_config(LoraSettings(targets=("q", "wi_0")), tiny_t5)
    with pytest.raises(SettingsError, match="empty"):
        build_lora_config(LoraSettings(targets=()), tiny_t5)


def test_a_second_lora_may_be_built_while_the_first_runs(tiny_t5):
    first = build_lora(tiny_t5, LoraSettings(rank=2))
    first.attach("a", seed=0)
    first.activate("a")
    assert build_lora_config(LoraSettings(), tiny_t5).target_modules == {"q", "k", "v", "o", "wi", "wo"}


def build_one_update(model, **values):
    """One matrix of the base, the tensors of its update by their last names, and the map that has both."""
    component = build_lora(model, LoraSettings(rank=4, alpha=6.0, targets=("wi",), **values))
    component.attach("a", seed=0)
    disturb(component, "a")
    weight = model.encoder.block[0].layer[1].DenseReluDense.wi.weight
    factors = {
        name.removesuffix(".weight").rpartition(".")[2]: own
        for name, own in component.parameters("a").items()
        if "encoder.block.0" in name
    }
    component.activate("a")
    return weight, factors, model.encoder.block[0].layer[1].DenseReluDense.wi


@pytest.mark.parametrize(("variant", "scale"), [("plain", 6 / 4), ("rslora", 6 / 4**0.5)])
def test_an_update_counts_as_its_variant_says(variant, scale, tiny_t5):
    weight, factors, wrapped = build_one_update(tiny_t5, variant=variant)
    hidden = torch.randn(5, 16)
    expected = hidden @ (weight + scale * factors["lora_B"] @ factors["lora_A"]).T
    assert torch.allclose(wrapped(hidden), expected, atol=1e-5)
    assert torch.allclose(hidden @ find_weight(wrapped).T, expected, atol=1e-5)


def test_dora_learns_lengths_and_directions_of_rows(tiny_t5):
    """W' = m (W + s B A) / ||W + s B A||, by rows of PyTorch's matrices (the paper's columns)."""
    weight, factors, wrapped = build_one_update(tiny_t5, variant="dora")
    direction = weight + 6 / 4 * factors["lora_B"] @ factors["lora_A"]
    lengths = direction.pow(2).sum(dim=1).sqrt()
    hidden = torch.randn(5, 16)
    expected = hidden @ (factors["lora_magnitude_vector"] / lengths * direction.T)
    assert torch.allclose(wrapped(hidden), expected, atol=1e-5)
    assert torch.allclose(hidden @ find_weight(wrapped).T, expected, atol=1e-5)


def test_doras_lengths_are_the_bases_at_birth(tiny_t5):
    component = build_lora(tiny_t5, LoraSettings(variant="dora", targets=("wi",)))
    component.attach("a", seed=0)
    for name, own in component.parameters("a").items():
        if name.endswith("lora_magnitude_vector"):
            path = name.removeprefix("base_model.model.").removesuffix(".lora_magnitude_vector")
            assert torch.equal(own, torch.linalg.norm(tiny_t5.get_submodule(path).weight, dim=1))


def test_an_unknown_variant_is_refused():
    tree = {"preset": "pocket", "tasks": [{"name": "python"}], "training": {"steps": 1}}
    assert build_settings({**tree, "lora": {"variant": "dora"}}).lora.variant == "dora"
    with pytest.raises(SettingsError, match=r"lora\.variant"):
        build_settings({**tree, "lora": {"variant": "pissa"}})
