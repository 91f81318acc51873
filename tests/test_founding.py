"""The founding experiment whole, without the hub: codet5-small's architecture and tokenizer, real records."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

from codestrata.cli.main import main
from codestrata.files import read_jsonl
from codestrata.methods import METHODS, build_component
from codestrata.models.loading import Base
from codestrata.presets import build_preset
from codestrata.settings.tree import build_settings
from codestrata.store import open_run

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
RECORDS = SHARED_DATA / "codesearchnet"
TOKENIZER = SHARED_DATA / "codet5-tokenizer"
SENTINELS = [f"<extra_id_{number}>" for number in range(100)]

LORA_PARAMETERS = 1_671_168
LORA_SOUND_PARAMETERS = 2_162_688
BLOCK_PARAMETERS = 3_146_752
BASE_PARAMETERS = 60_492_288  # of Salesforce/codet5-small

needs_records = pytest.mark.skipif(not RECORDS.is_dir(), reason=f"real records are not here: {RECORDS}")
needs_tokenizer = pytest.mark.skipif(
    not TOKENIZER.is_dir(), reason=f"the real tokenizer is not here: {TOKENIZER}"
)


def build_config():
    """The configuration of Salesforce/codet5-small."""
    return T5Config(
        vocab_size=32100,
        d_model=512,
        d_kv=64,
        d_ff=2048,
        num_layers=6,
        num_decoder_layers=6,
        num_heads=8,
        feed_forward_proj="relu",
        dropout_rate=0.1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=0,
        architectures=["T5ForConditionalGeneration"],
    )


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    """A folder as Salesforce/codet5-small has it, without weights."""
    if not TOKENIZER.is_dir():
        pytest.skip(f"the real tokenizer is not here: {TOKENIZER}")
    folder = tmp_path_factory.mktemp("codet5") / "codet5-small"
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(TOKENIZER / name, folder / name)
    build_config().save_pretrained(folder)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    classes = {"sep_token": "</s>", "cls_token": "<s>", "mask_token": "<mask>"}
    about = {"tokenizer_class": "RobertaTokenizer", "additional_special_tokens": SENTINELS}
    text = json.dumps({**special, **classes, **about, "model_max_length": 512})
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
    return folder


def count_parameters(tree, method):
    """What a preset's method trains on codet5-small, counted without weights."""
    with torch.device("meta"):
        model = T5ForConditionalGeneration(build_config())
        base = Base("codet5-small", model, None, torch.device("meta"), "not needed")
        component = build_component(METHODS[method], base, build_settings(tree))
        component.attach("python", seed=0)
    total = sum(parameter.numel() for parameter in model.parameters())
    return sum(parameter.numel() for parameter in component.parameters("python").values()), total


@pytest.mark.parametrize(
    ("preset", "method", "count"),
    [
        ("founding", "lora", LORA_PARAMETERS),
        ("founding-sound", "lora", LORA_SOUND_PARAMETERS),
        ("founding", "layers", BLOCK_PARAMETERS),
        ("founding-sound", "layers", BLOCK_PARAMETERS),
    ],
)
def test_parameters_are_counted_not_claimed(preset, method, count):
    assert count_parameters(build_preset(preset), method) == (count, BASE_PARAMETERS)


@needs_tokenizer
def test_the_tokenizer_is_that_of_codet5(base_folder):
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    assert len(tokenizer) == 32100
    names = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    assert tokenizer.convert_tokens_to_ids(names) == [0, 1, 2, 3, 4]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.convert_tokens_to_ids(SENTINELS) == list(range(32000, 32100))
    ids = tokenizer("x = <extra_id_0> + 1")["input_ids"]
    assert 32000 in ids
    assert (ids[0], ids[-1]) == (1, 2)


@needs_tokenizer
@needs_records
@pytest.mark.parametrize("language", ["python", "javascript"])
def test_real_code_comes_back_from_its_tokens(base_folder, language):
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    codes = [row["code"] for _, row in read_jsonl(RECORDS / language / "test.jsonl")][:100]
    for code in codes:
        ids = tokenizer(code, verbose=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == code


@pytest.fixture(scope="module")
def run(base_folder, tmp_path_factory):
    """The preset ``founding`` on a few dozen records, as the command line walks it."""
    if not RECORDS.is_dir():
        pytest.skip(f"real records are not here: {RECORDS}")
    runs = tmp_path_factory.mktemp("runs")
    data = tmp_path_factory.mktemp("records")
    for language in ("python", "javascript"):
        lines = (RECORDS / language / "test.jsonl").read_text(encoding="utf-8").splitlines()
        (data / f"{language}.jsonl").write_text("\n".join(lines[:40]), encoding="utf-8")
    changes = [
        f"base.name={base_folder}",
        "base.weights=random",
        f"tasks.python.path={data / 'python.jsonl'}",
        f"tasks.javascript.path={data / 'javascript.jsonl'}",
        "tasks.*.train_examples=8",
        "tasks.*.validation_examples=2",
        "tasks.*.test_examples=2",
        "training.steps=2",
        "training.batch_size=2",
        "training.max_prompt_tokens=48",
        "training.max_target_tokens=48",
        "decoding.max_new_tokens=8",
        "device.threads=1",
    ]
    options = [part for change in changes for part in ("--set", change)]
    arguments = ["run", "--preset", "founding", "--runs", str(runs), "-q", "--device", "cpu", *options]
    assert main(arguments) == 0
    return open_run(runs, "founding-1")


def test_the_whole_preset_is_walked(run):
    results = run.read_results()
    assert run.is_done
    assert [method["name"] for method in results["methods"]] == ["base", "lora", "layers"]
    assert [task["name"] for task in results["tasks"]] == ["python", "javascript"]
    for task in results["tasks"]:
        assert (task["objective"], task["evaluation_objective"]) == ("copy", "continue")
        assert task["examples"] == {"train": 8, "validation": 2, "test": 2, "unseen": 0}
        assert task["truncated"]["train_prompts"] > 0
        assert task["truncated"]["train_prompts"] == task["truncated"]["train_targets"]
    for name in ("lora_python", "lora_javascript", "full_python", "full_javascript"):
        assert (run.path / name / "adapter_model.safetensors").is_file()
        assert not (run.path / name).is_symlink()


def test_parameters_of_the_run_are_those_of_the_founding_experiment(run):
    results = run.read_results()
    assert results["base"]["parameters"] == BASE_PARAMETERS
    counts = {"lora": LORA_PARAMETERS, "layers": BLOCK_PARAMETERS}
    for method in results["methods"][1:]:
        for training in method["seeds"][0]["trainings"]:
            assert training["parameters"] == counts[method["name"]]
            assert training["total_parameters"] == BASE_PARAMETERS + counts[method["name"]]
            assert training["base_fingerprint_before"] == training["base_fingerprint_after"]
            assert training["base_dropout"] is True
    shares = [method["seeds"][0]["trainings"][0]["parameter_share"] for method in results["methods"][1:]]
    assert shares == pytest.approx([0.0269, 0.0494], abs=1e-4)
    assert "1,671,168" in (run.path / "results_analysis.md").read_text(encoding="utf-8")


def test_evaluation_continues_code_and_scores_against_the_whole(run):
    rows = [row for _, row in read_jsonl(run.path / "base" / "predictions.jsonl")]
    assert [row["task"] for row in rows] == ["python", "python", "javascript", "javascript"]
    for row in rows:
        assert row["target"].startswith(row["prompt"])
        assert len(row["prompt"]) < len(row["target"])
        assert row["tests"] is None
        assert 0 < row["tokens"] <= 8


def test_old_tasks_were_decoded_again_and_nothing_was_forgotten(run):
    results = run.read_results()
    assert results["headline_metric"] == "bleu"
    for method in results["methods"][1:]:
        entry = method["seeds"][0]
        rechecked = [cell for cell in entry["cells"] if cell["origin"] == "rechecked"]
        assert [(cell["task"], cell["identical_predictions"]) for cell in rechecked] == [("python", True)]
        assert entry["continual"]["bleu"]["forgetting"]["value"] == 0.0
        assert entry["R"]["test"]["pass@1"] == [[None, None]] * 3
        assert entry["swap"]["median_milliseconds"] > 0


def test_the_founding_script_is_the_preset(monkeypatch):
    import runpy

    called = []
    monkeypatch.setattr("codestrata.cli.main.main", lambda arguments: called.append(arguments) or 0)
    script = ROOT / "lora_vs_full_layer_training_mac_and_cuda.py"
    monkeypatch.setattr("sys.argv", [str(script), "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert called == [["run", "--preset", "founding", "--device", "cpu"]]
