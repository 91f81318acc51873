"""What the doctor says of bases: what can be had is what a run then has, and the rest says why not."""

import json
import shutil

import pytest
import torch
from transformers import GenerationConfig

from codestrata import diagnosis
from codestrata.diagnosis import diagnose, list_component_methods
from codestrata.engine.decoding import can_decode
from codestrata.methods import METHODS, build_component
from codestrata.models.loading import count_parameters, load_base
from codestrata.settings.tree import build_settings


def ask(folder, **sections):
    base = {"name": str(folder), **sections.pop("base", {})}
    return diagnose(build_settings({"tasks": [{"name": "python"}], "base": base, **sections}))


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def folder(tiny_qwen2_folder, tmp_path):
    """A copy of the tiny Qwen2's folder, to be changed."""
    return shutil.copytree(tiny_qwen2_folder, tmp_path / "mine")


@pytest.fixture(scope="module")
def folders(tiny_base_folder, tiny_decoder_folders):
    return {"t5": tiny_base_folder, **tiny_decoder_folders}


@pytest.mark.parametrize("family", ["t5", "llama", "qwen2", "qwen3"])
def test_it_counts_what_a_run_would_train(family, folders):
    settings = build_settings({"tasks": [{"name": "python"}], "base": {"name": str(folders[family])}})
    found = diagnose(settings)
    assert found.is_usable
    assert (found.model_type, found.family, found.problems) == (family, family, ())
    base = load_base(settings.base, torch.device("cpu"))
    assert found.parameters == count_parameters(base.model)
    assert found.blocks == ({"encoder": 2, "decoder": 2} if family == "t5" else {"decoder": 3})
    assert found.is_causal is (family != "t5")
    assert found.decoding.by == ("own" if can_decode(base.model) else "generate")
    counts = {entry.kind: entry.parameters for entry in found.components}
    assert set(counts) == {method.component for method in METHODS.values()} - {None}
    for method in list_component_methods():
        component = build_component(method, base, settings)
        component.attach("a", seed=0)
        trained = sum(parameter.numel() for parameter in component.parameters("a").values())
        assert counts[method.component] == trained, method.component


def test_placements_of_an_encoder_decoder(tiny_base_folder):
    found = {entry.placement: entry for entry in ask(tiny_base_folder).placements}
    new = {name: entry.new_blocks for name, entry in found.items()}
    wanted = {"top": 1, "encoder-top": 1, "decoder-top": 1, "both": 2, "interleaved:1": 4, "interleaved:2": 2}
    assert new == wanted
    assert found["both"].parameters == found["encoder-top"].parameters + found["decoder-top"].parameters
    assert {entry.reason for entry in found.values()} == {None}


def test_placements_of_a_decoder_alone(tiny_llama_folder):
    found = {entry.placement: entry for entry in ask(tiny_llama_folder).placements}
    missing = {name for name, entry in found.items() if entry.new_blocks is None}
    assert missing == {"encoder-top", "both"}
    assert all(
        'no encoder. It is made of a decoder alone: use "top"' in found[name].reason for name in missing
    )
    assert {name: entry.new_blocks for name, entry in found.items() if name not in missing} == {
        "top": 1,
        "decoder-top": 1,
        "interleaved:1": 3,
        "interleaved:3": 1,
    }


def test_settings_are_those_asked_about(tiny_llama_folder):
    found = ask(tiny_llama_folder, lora={"targets": ["q", "v"]}, layers={"placement": "both"})
    refused = {entry.kind: entry.reason for entry in found.components if entry.reason is not None}
    assert set(refused) == {"lora", "layers"}
    assert "linear map in lora.targets 'q'" in refused["lora"]
    assert "layers.placement is 'both': the base has no encoder" in refused["layers"]
    assert found.is_usable
    small, large = (ask(tiny_llama_folder, lora={"rank": rank}).components[0] for rank in (2, 4))
    assert (small.kind, large.parameters) == ("lora", 2 * small.parameters)


def test_nothing_of_the_weights_is_touched(folder):
    whole = ask(folder)
    (folder / "model.safetensors").write_bytes(b"not tensors")
    assert ask(folder) == whole
    state = torch.get_rng_state()
    assert ask(folder) == whole
    assert torch.equal(torch.get_rng_state(), state)


def test_parameters_at_the_size_of_qwen_coder(folder):
    """The shape of Qwen2.5-Coder-0.5B, whose parameters are counted here by hand; no memory is taken."""
    edit(
        folder / "config.json",
        **{"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "layer_types": None},
        **{"num_attention_heads": 14, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 151_936},
    )
    found = ask(folder)
    attention = 2 * 896 * 896 + 896 + 2 * (896 * 128 + 128)
    block = attention + 3 * 896 * 4864 + 2 * 896
    assert found.parameters == 151_936 * 896 + 24 * block + 896 == 494_032_768
    assert found.memory_mib == 1885
    counts = {entry.kind: entry.parameters for entry in found.components}
    sides = (896 + 896, 896 + 128, 896 + 128, 896 + 896, 896 + 4864, 896 + 4864, 4864 + 896)
    assert counts["lora"] == 16 * 24 * sum(sides)
    assert counts["layers"] == counts["own-layers"] == block
    assert counts["ia3"] == 24 * (128 + 128 + 4864)
    assert counts["weights"] == found.parameters
    assert [entry.reason for entry in found.components] == [None] * len(found.components)


@pytest.mark.parametrize("model_type", ["gpt2", "bert", "bart", "qwen2_vl"])
def test_other_families_are_named_and_the_known_ones_too(model_type, folder):
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    found = ask(folder)
    assert not found.is_usable
    (problem,) = found.problems
    assert (
        f"of model type '{model_type}', whose blocks are not known. Known: llama, qwen2, qwen3, t5" in problem
    )
    assert (found.model_type, found.family, found.components) == (model_type, None, ())
    assert found.tokenizer is not None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"num_attention_heads": 0}, "usable as base.name"),
        ({"hidden_act": "nonsense"}, "nonsense"),
        ({"num_hidden_layers": 0, "layer_types": None}, "gives the decoder no blocks"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "has quantization_config"),
        ({"attn_implementation": "flash_attention_2"}, "asks for the attention"),
        ({"model_type": None}, "usable as base.name"),
        ({"vocab_size": 100}, "has 957 tokens, the model embeddings for 100"),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_used(values, message, folder):
    edit(folder / "config.json", **values)
    found = ask(folder)
    assert not found.is_usable
    assert any(message in problem and "\n" not in problem for problem in found.problems), found.problems


def test_a_folder_that_is_a_component(folder):
    (folder / "adapter_config.json").write_text("{}")
    (problem,) = ask(folder).problems
    assert "holds a component, not a base: name the base" in problem


def test_a_folder_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in (tmp_path / "nothing", "nobody-here/nothing-at-all"):
        found = ask(name)
        (problem,) = found.problems
        assert repr(str(name)) in problem
        assert "--set base.name=FOLDER" in problem
        assert (found.is_usable, found.model_type) == (False, None)


def test_an_empty_folder(tmp_path):
    (problem,) = ask(tmp_path).problems
    assert str(tmp_path) in problem


def test_a_tokenizer_that_is_missing_and_one_that_is_named_instead(folder, tiny_llama_folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    found = ask(folder)
    assert not found.is_usable
    assert any("--set base.tokenizer=FOLDER" in problem for problem in found.problems)
    assert (found.tokenizer, found.family) == (None, "qwen2")
    assert ask(folder, base={"tokenizer": str(tiny_llama_folder)}).is_usable


def test_padding_is_the_end_token_where_there_is_no_other(tiny_llama_folder, tiny_qwen3_folder):
    llama, qwen = ask(tiny_llama_folder), ask(tiny_qwen3_folder)
    assert (llama.tokenizer.end, llama.tokenizer.padding) == ("</s>", "</s>")
    assert (qwen.tokenizer.end, qwen.tokenizer.padding) == ("</s>", "<pad>")
    told = "filled up with the end token"
    assert [any(told in note for note in found.notes) for found in (llama, qwen)] == [True, False]


def test_who_decodes_and_why_it_is_not_us(folder):
    assert ask(folder).decoding.by == "own"
    GenerationConfig(repetition_penalty=1.1, eos_token_id=1).save_pretrained(folder)
    found = ask(folder)
    assert (found.decoding.by, found.decoding.reason) == (
        "generate",
        "generation_config.json sets repetition_penalty",
    )
    assert any("transformers' generate, slower" in note for note in found.notes)
    (folder / "generation_config.json").unlink()
    edit(folder / "config.json", attn_implementation="eager")
    assert "'eager'" in ask(folder).decoding.reason
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    edit(folder / "config.json", attn_implementation="sdpa", layer_types=kinds, use_sliding_window=True)
    assert "near tokens only" in ask(folder).decoding.reason


def test_number_formats(folder):
    assert ask(folder).notes == ()
    edit(folder / "config.json", dtype="bfloat16")
    found = ask(folder, training={"epochs": 1, "precision": "fp32"}, device={"name": "cpu"})
    assert (found.stored_dtype, found.precision, found.decoding.by) == ("bfloat16", "fp32", "own")
    assert any("stored as bfloat16 and loaded as float32" in note for note in found.notes)


def test_a_folder_without_weights_says_what_it_is_good_for(folder):
    (folder / "model.safetensors").unlink()
    assert any("--set base.weights=random" in note for note in ask(folder).notes)
    assert ask(folder, base={"weights": "random"}).notes == ()


def test_an_encoder_decoder_without_start(tiny_base_folder, tmp_path):
    folder = shutil.copytree(tiny_base_folder, tmp_path / "mine")
    edit(folder / "config.json", decoder_start_token_id=None)
    found = ask(folder)
    assert not found.is_usable
    assert any("no decoder_start_token_id" in problem for problem in found.problems)


def test_blocks_below_all_that_trains(tiny_base_folder):
    found = {entry.kind: entry.frozen_blocks for entry in ask(tiny_base_folder).components}
    assert (found["layers"], found["own-layers"], found["weights"], found["lora"]) == (4, 3, 0, 0)


def test_a_model_that_nothing_fits_is_not_usable(folder, monkeypatch):
    entry = diagnosis.ComponentSupport(kind="lora", parameters=None, frozen_blocks=None, reason="no")
    monkeypatch.setattr(diagnosis, "try_component", lambda *_: entry)
    assert not ask(folder).is_usable


def test_blocks_that_attend_in_different_ways_are_never_computed_once(folder):
    """A training refuses to keep their states."""
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    counts = {
        entry.kind: entry.frozen_blocks for entry in ask(folder, layers={"placement": "top"}).components
    }
    assert counts["layers"] == 3
    edit(folder / "config.json", layer_types=kinds, use_sliding_window=True, sliding_window=8)
    found = ask(folder, layers={"placement": "top"})
    assert {entry.frozen_blocks for entry in found.components if entry.reason is None} == {0}


def test_who_decodes_with_a_component(tiny_base_folder, folder):
    for base, by in ((tiny_base_folder, "own"), (folder, "generate")):
        found = {entry.kind: entry for entry in ask(base, layers={"placement": "top"}).components}
        assert found["prompt"].decoded_by == by
        assert {entry.decoded_by for kind, entry in found.items() if kind != "prompt"} <= {"own", None}
        assert all((entry.decoded_by is None) is (entry.reason is not None) for entry in found.values())
