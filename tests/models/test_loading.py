import json
import shutil

import pytest
import torch

from codestrata.errors import HubError, ModelError
from codestrata.models.fingerprints import fingerprint_model
from codestrata.models.loading import choose_device, count_parameters, has_file, load_base
from codestrata.settings.sections import BaseSettings

CPU = torch.device("cpu")


def load(folder, **values):
    return load_base(BaseSettings(name=str(folder), **values), CPU)


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("weights", ["trained", "random"])
def test_decoders_are_loaded_as_such(model_type, weights, tiny_decoder_folders):
    base = load(tiny_decoder_folders[model_type], weights=weights)
    assert type(base.model).__name__.lower() == f"{model_type}forcausallm"
    assert base.weights_format == ("safetensors" if weights == "trained" else None)
    tied = base.model.lm_head.weight is base.model.model.embed_tokens.weight
    assert tied is (model_type != "llama")
    tokenizer = base.tokenizer
    assert tokenizer.pad_token == ("</s>" if model_type == "llama" else "<pad>")
    text = "def f(xs):\n    return 12"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_random_weights_are_in_single_precision_whatever_the_stored_ones_are(tiny_qwen3_folder, tmp_path):
    folder = shutil.copytree(tiny_qwen3_folder, tmp_path / "mine")
    edit(folder / "config.json", dtype="bfloat16")
    for weights in ("random", "trained"):
        assert load(folder, weights=weights).model.dtype == torch.float32


def test_a_tokenizer_that_cannot_end_an_answer_is_refused(tiny_qwen3_folder, tmp_path):
    folder = shutil.copytree(tiny_qwen3_folder, tmp_path / "mine")
    edit(folder / "tokenizer_config.json", eos_token=None)
    with pytest.raises(ModelError, match=r"without an end token.*base\.tokenizer="):
        load(folder)


@pytest.fixture
def folder(tiny_base_folder, tmp_path):
    """A copy of the tiny base's folder, to be damaged."""
    return shutil.copytree(tiny_base_folder, tmp_path / "mine")


def test_a_loaded_base_is_frozen_and_in_evaluation_mode(tiny_base_folder):
    base = load(tiny_base_folder)
    assert base.name == str(tiny_base_folder)
    assert not base.model.training
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert {parameter.dtype for parameter in base.model.parameters()} == {torch.float32}
    assert base.device == CPU
    assert base.fingerprint == fingerprint_model(base.model) == load(tiny_base_folder).fingerprint
    assert len(base.tokenizer) == base.model.config.vocab_size


def test_other_weights_have_another_fingerprint(folder, tiny_base_folder):
    base = load(folder)
    with torch.no_grad():
        base.model.shared.weight[0, 0] += 1
    base.model.save_pretrained(folder)
    assert load(folder).fingerprint != load(tiny_base_folder).fingerprint


def test_the_tokenizer_may_come_from_elsewhere(folder, tiny_base_folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    # transformers would make up an empty tokenizer, and every text would become unknown tokens
    with pytest.raises(ModelError, match=r"no usable tokenizer; .* --set base\.tokenizer="):
        load(folder)
    base = load(folder, tokenizer=str(tiny_base_folder))
    assert base.tokenizer("x")["input_ids"] == load(tiny_base_folder).tokenizer("x")["input_ids"]


def test_random_weights_are_not_those_in_the_folder(folder):
    trained = load(folder)
    with torch.no_grad():
        trained.model.shared.weight += 1
    trained.model.save_pretrained(folder)
    assert load(folder, weights="random").fingerprint != load(folder).fingerprint


def test_random_weights_need_no_weights_file(folder, tiny_base_folder):
    (folder / "model.safetensors").unlink()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    base = load(folder, weights="random")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert load(folder, weights="random").fingerprint == base.fingerprint
    assert count_parameters(base.model) == count_parameters(load(tiny_base_folder).model)
    assert not base.model.training
    assert not any(parameter.requires_grad for parameter in base.model.parameters())


@pytest.mark.parametrize(
    "name", ["nobody-here/nothing-at-all", "no/such/folder", "/no/such/folder"], ids=["hub", "odd", "path"]
)
def test_a_base_that_cannot_be_had_is_one_line_with_a_remedy(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no attempts, no waiting
    with pytest.raises(HubError) as caught:
        load(name)
    message = str(caught.value)
    assert repr(name) in message
    assert "--set base.name=" in message
    assert "\n" not in message


def test_a_base_that_cannot_be_had_offline_names_the_switch(monkeypatch):
    monkeypatch.setenv("CODESTRATA_OFFLINE", "1")
    monkeypatch.setattr("codestrata.hub.go_offline", lambda: None)  # it would be so for good
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError) as caught:
        load("nobody-here/nothing-at-all")
    message = str(caught.value)
    assert "the hub is switched off" in message
    assert "run once without --offline and CODESTRATA_OFFLINE" in message
    assert "http" not in message
    assert "connection" not in message


def remove_weights(folder):
    (folder / "model.safetensors").unlink()


def remove_everything(folder):
    for path in folder.iterdir():
        path.unlink()


def damage_weights(folder):
    (folder / "model.safetensors").write_bytes(b"not tensors" * 99)


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def damage_config(folder):
    (folder / "config.json").write_text("{")


def change_shapes(folder):
    edit(folder / "config.json", d_ff=40)


def contradict(folder):
    edit(folder / "config.json", d_model="wide")


def damage_tokenizer(folder):
    (folder / "tokenizer.json").write_text('{"a": 1}')


def change_family(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))


def change_to_unsupported_family(folder):
    from transformers import BartConfig, BartForConditionalGeneration

    small = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    config = BartConfig(
        vocab_size=50,
        d_model=8,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        **small,
        max_position_embeddings=16,
    )
    BartForConditionalGeneration(config).save_pretrained(folder)


@pytest.mark.parametrize(
    "damage",
    [
        remove_weights,
        remove_everything,
        damage_weights,
        cut_weights,
        damage_config,
        change_shapes,
        contradict,
        damage_tokenizer,
        change_family,
        change_to_unsupported_family,
    ],
)
def test_a_folder_without_a_usable_model_is_refused(damage, folder):
    damage(folder)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert not isinstance(caught.value, HubError)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value) or "model type 'bart'" in str(caught.value)


class Bomb:
    """Creates a file when it is unpickled by anything but a checked unpickler."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_weights_load_and_nothing_else_in_a_pickle_does(folder, tmp_path):
    """Salesforce/codet5-small has its weights as a pickle; only tensors are read from one."""
    base = load(folder)
    remove_weights(folder)
    torch.save(base.model.state_dict(), folder / "pytorch_model.bin")
    assert load(folder).fingerprint == base.fingerprint
    torch.save({"shared.weight": Bomb(tmp_path / "created")}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError):
        load(folder)
    assert not (tmp_path / "created").exists()


@pytest.fixture
def present(monkeypatch):
    """Pretends that these devices are there."""

    def pretend(*, cuda=False, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ({}, "cpu"),
        ({"mps": True}, "mps"),
        ({"cuda": True}, "cuda"),
        ({"cuda": True, "mps": True}, "cuda"),
    ],
)
def test_auto_takes_the_best_that_is_there(there, chosen, present):
    present(**there)
    assert choose_device("auto") == torch.device(chosen)
    assert choose_device("cpu") == CPU


def test_a_named_device_is_taken(present):
    present(cuda=True, mps=True)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("mps") == torch.device("mps")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "tpu"])
def test_a_device_that_is_not_there_is_refused(name, present):
    present()
    with pytest.raises(ModelError, match=f"Device '{name}' is not available here. Found: cpu."):
        choose_device(name)


def test_tied_parameters_count_once(build_tiny_t5):
    tied = build_tiny_t5()
    by_hand = 64 * 16  # the embedding is also the output
    block = 4 * 16 * 16 + 2 * 16 * 32 + 2 * 16  # attention, feed forward, two norms
    cross = 4 * 16 * 16 + 16
    by_hand += 2 * block + 2 * (block + cross) + 2 * 16 + 2 * 32 * 4  # final norms, relative positions
    assert count_parameters(tied) == by_hand


CODE = """
from pathlib import Path
Path({marker!r}).write_text("code of a stranger ran")
from transformers import T5Config, T5ForConditionalGeneration, PreTrainedTokenizerFast
class StrangeConfig(T5Config):
    model_type = {model_type!r}
class StrangeModel(T5ForConditionalGeneration):
    config_class = StrangeConfig
class StrangeTokenizer(PreTrainedTokenizerFast):
    pass
"""


def bring_code(folder, marker, model_type):
    """Have all that transformers loads from the folder come with code of its own."""
    (folder / "strange.py").write_text(CODE.format(marker=str(marker), model_type=model_type))
    classes = {"AutoConfig": "strange.StrangeConfig", "AutoModelForSeq2SeqLM": "strange.StrangeModel"}
    edit(folder / "config.json", model_type=model_type, auto_map=classes)
    tokenizer = ["strange.StrangeTokenizer", "strange.StrangeTokenizer"]
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": tokenizer})


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def eager_user(monkeypatch, tmp_path):
    """Somebody who says yes to whatever transformers asks; his module cache is the test's."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    for module in ("dynamic_module_utils", "utils.hub", "utils"):
        monkeypatch.setattr(
            f"transformers.{module}.HF_MODULES_CACHE", str(tmp_path / "modules"), raising=False
        )


@pytest.mark.parametrize("weights", ["trained", "random"])
def test_code_that_comes_with_a_base_is_not_run(weights, folder, tiny_base_folder, tmp_path, eager_user):
    bring_code(folder, tmp_path / "marker", "t5")
    base = load(folder, weights=weights)
    assert base.fingerprint == load(tiny_base_folder, weights=weights).fingerprint
    assert type(base.model).__module__.startswith("transformers.")
    assert type(base.tokenizer).__module__.startswith("transformers.")
    assert not (tmp_path / "marker").exists()


def test_a_base_that_cannot_do_without_its_code_is_refused(folder, tmp_path, eager_user):
    bring_code(folder, tmp_path / "marker", "strange")
    with pytest.raises(ModelError, match="needs code of its own to be run, which is never done"):
        load(folder)
    assert not (tmp_path / "marker").exists()


def test_a_tokenizer_that_cannot_do_without_its_code_is_refused(
    folder, tiny_base_folder, tmp_path, eager_user
):
    bring_code(folder, tmp_path / "marker", "strange")
    edit(folder / "tokenizer_config.json", tokenizer_class="StrangeTokenizer")
    with pytest.raises(ModelError, match=r"usable as base\.tokenizer: it needs code of its own"):
        load(tiny_base_folder, tokenizer=str(folder))
    assert not (tmp_path / "marker").exists()


def test_the_traps_of_these_tests_work(folder, tmp_path, eager_user):
    """Whoever trusts the folder runs its code: the tests above would notice."""
    from transformers import AutoConfig

    bring_code(folder, tmp_path / "marker", "strange")
    AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"attn_implementation": "stranger/kernels"},
            r"asks for the attention 'stranger/kernels'.*eager, sdpa",
        ),
        ({"_attn_implementation": "stranger/kernels"}, r"asks for the attention 'stranger/kernels'"),
        ({"attn_implementation": "flash_attention_2"}, r"asks for the attention 'flash_attention_2'"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "has quantization_config"),
        ({"transformers_weights": "adapter_model.bin"}, "has transformers_weights"),
    ],
    ids=str,
)
def test_a_configuration_that_leads_elsewhere_is_refused(values, message, folder):
    edit(folder / "config.json", **values)
    with pytest.raises(ModelError, match=message):
        load(folder)


def test_a_configuration_may_name_plain_attention(folder, tiny_base_folder):
    edit(folder / "config.json", attn_implementation="eager")
    assert load(folder).fingerprint == load(tiny_base_folder).fingerprint


def test_a_component_is_no_base(folder):
    """Transformers would load the base that the component names."""
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "stranger/base"}))
    with pytest.raises(ModelError, match="holds a component, not a base: name the base"):
        load(folder)


def test_a_base_says_what_its_weights_were_read_from(folder, tmp_path):
    base = load(folder)
    assert base.weights_format == "safetensors"
    assert load(folder, weights="random").weights_format is None
    torch.save({"shared.weight": Bomb(tmp_path / "created")}, folder / "pytorch_model.bin")
    assert load(folder).fingerprint == base.fingerprint  # safetensors go first, the pickle is not opened
    assert not (tmp_path / "created").exists()
    remove_weights(folder)
    torch.save(base.model.state_dict(), folder / "pytorch_model.bin")
    assert load(folder).weights_format == "checked pickle"


def test_weights_in_several_safetensors_files_are_found(folder):
    base = load(folder)
    remove_weights(folder)
    base.model.save_pretrained(folder, max_shard_size="20KB")
    assert (folder / "model.safetensors.index.json").is_file()
    again = load(folder)
    assert (again.weights_format, again.fingerprint) == ("safetensors", base.fingerprint)


def test_files_of_the_hub_are_looked_for_in_the_hub(monkeypatch, tmp_path):
    from huggingface_hub import errors

    asked = []

    def download(source, name, *, revision):
        asked.append((source, name, revision))
        if name == "absent":
            raise errors.LocalEntryNotFoundError("not in the cache")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert has_file("somebody/base", "present", "main")
    assert not has_file("somebody/base", "absent", None)
    assert asked == [("somebody/base", "present", "main"), ("somebody/base", "absent", None)]
