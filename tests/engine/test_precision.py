"""The choice of number format, and weights that come back bit for bit."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from codestrata.components.lora import build_lora
from codestrata.engine import precision
from codestrata.engine.precision import (
    choose_precision,
    compute_in,
    list_lowerable,
    lowered_weights,
    refuse_fp16,
)
from codestrata.errors import SettingsError, TrainingError
from codestrata.models.fingerprints import fingerprint_model
from codestrata.models.loading import load_base
from codestrata.settings.components import LoraSettings
from codestrata.settings.sections import BaseSettings

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({}, "fp32"), ({"avx2": True}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")],
)
def test_auto_asks_the_processor(capabilities, expected, monkeypatch):
    monkeypatch.setattr(precision.torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_precision("auto", CPU) == expected
    assert choose_precision("fp32", CPU) == "fp32"
    assert choose_precision("bf16", CPU) == "bf16"


def test_fp16_is_refused_with_the_reason():
    with pytest.raises(SettingsError, match=r"^Unknown precision 'fp16'.*T5's activations .* 65504"):
        choose_precision("fp16", CPU)
    with pytest.raises(SettingsError, match=r"Known: auto, bf16, fp32\.$"):
        choose_precision("fp8", CPU)


def test_a_model_in_fp16_is_refused_by_the_name_of_a_weight(tiny_t5):
    refuse_fp16(tiny_t5)
    refuse_fp16(tiny_t5.to(torch.bfloat16))
    tiny_t5.decoder.block[1].half()
    with pytest.raises(TrainingError, match=r"^decoder\.block\.1\.\S+ is fp16\. T5's activations"):
        refuse_fp16(tiny_t5)


def test_a_base_stored_in_fp16_is_loaded_in_fp32(tiny_base_folder, tmp_path):
    """So a training cannot get there by the settings."""
    folder = shutil.copytree(tiny_base_folder, tmp_path / "base")
    model = load_base(BaseSettings(name=str(folder)), CPU).model
    model.half().save_pretrained(folder)
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float16}
    loaded = load_base(BaseSettings(name=str(folder)), CPU).model
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    refuse_fp16(loaded)


def test_products_are_computed_as_asked():
    linear = torch.nn.Linear(4, 4)
    with compute_in("bf16", CPU):
        assert linear(torch.ones(1, 4)).dtype == torch.bfloat16
    with compute_in("fp32", CPU):
        assert linear(torch.ones(1, 4)).dtype == torch.float32


@pytest.mark.parametrize("tied", [True, False])
def test_frozen_linear_maps_are_lowered_and_come_back(build_tiny_t5, tied):
    model = build_tiny_t5()
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(model.shared.weight.detach().clone())
    component = build_lora(model, LoraSettings(rank=2))
    component.attach("a", seed=0)
    component.activate("a")
    before = fingerprint_model(model)
    trained = {name: parameter.dtype for name, parameter in component.parameters("a").items()}
    with lowered_weights(model, "bf16"):
        assert model.encoder.block[0].layer[0].SelfAttention.q.weight.dtype == torch.bfloat16
        assert model.shared.weight.dtype == torch.float32
        assert model.lm_head.weight.dtype == (torch.float32 if tied else torch.bfloat16)
        assert model.encoder.block[0].layer[0].layer_norm.weight.dtype == torch.float32
        assert {name: entry.dtype for name, entry in component.parameters("a").items()} == trained
    with pytest.raises(KeyError), lowered_weights(model, "bf16"):
        raise KeyError
    assert fingerprint_model(model) == before


def test_fp32_lowers_nothing(tiny_t5):
    tiny_t5.requires_grad_(False)
    assert list_lowerable(tiny_t5)
    with lowered_weights(tiny_t5, "fp32"):
        assert all(parameter.dtype == torch.float32 for parameter in tiny_t5.parameters())
