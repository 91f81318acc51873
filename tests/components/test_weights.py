import copy
import json

import pytest
import torch
from probing import disturb, generate, logits
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from codestrata.components.weights import WeightsComponent
from codestrata.models.fingerprints import fingerprint_model


@pytest.fixture
def trained(tiny_t5):
    component = WeightsComponent(tiny_t5)
    component.attach("a", seed=0)
    disturb(component, "a")
    return component


def test_a_folder_is_a_plain_checkpoint(trained, tmp_path):
    trained.model.generation_config.max_length = 17
    trained.write("a", tmp_path, {})
    trained.activate("a")
    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(theirs) is type(trained.model)
    assert torch.equal(logits(theirs), logits(trained.model))
    assert generate(theirs) == generate(trained.model)
    assert theirs.generation_config.max_length == 17
    assert fingerprint_model(theirs) == fingerprint_model(trained.model)
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"config.json", "generation_config.json", "model.safetensors", "component.json"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["T5ForConditionalGeneration"]
    assert config["dtype"] == "float32"


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])  # output layer apart, and tied to the embedding
def test_so_is_that_of_a_decoder_alone(model_type, first_tiny_decoders, tmp_path):
    component = WeightsComponent(copy.deepcopy(first_tiny_decoders[model_type]))
    component.attach("a", seed=0)
    disturb(component, "a")
    component.write("a", tmp_path, {})
    component.activate("a")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(theirs) is type(component.model)
    assert torch.equal(logits(theirs), logits(component.model))
    assert fingerprint_model(theirs) == fingerprint_model(component.model)


def test_tied_tensors_stay_tied(trained):
    parameters = trained.parameters("a")
    assert "shared.weight" in parameters
    assert "lm_head.weight" not in parameters
    model = trained.model
    trained.activate("a")
    assert model.shared.weight is parameters["shared.weight"]
    assert model.shared.weight is model.lm_head.weight is model.decoder.embed_tokens.weight
    trained.deactivate()
    assert model.shared.weight is model.lm_head.weight is model.decoder.embed_tokens.weight
    assert model.shared.weight is not parameters["shared.weight"]


def test_a_newborn_is_all_of_the_base(tiny_t5):
    component = WeightsComponent(tiny_t5)
    component.attach("a", seed=5)
    base = dict(tiny_t5.named_parameters())
    newborn = component.parameters("a")
    assert list(newborn) == list(base)
    assert all(torch.equal(newborn[name], base[name]) for name in base)
    assert not any(newborn[name].data_ptr() == base[name].data_ptr() for name in base)


def test_activation_copies_nothing(trained):
    pointers = {name: parameter.data_ptr() for name, parameter in trained.parameters("a").items()}
    trained.activate("a")
    model = trained.model
    assert {name: model.get_parameter(name).data_ptr() for name in pointers} == pointers
