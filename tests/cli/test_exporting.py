"""``codestrata export``."""

import json

import pytest


@pytest.fixture
def export(call, tiny_run):
    return lambda *arguments: call("export", tiny_run.name, "--runs", tiny_run.path.parent, *arguments)


def test_a_checkpoint_is_written_and_its_folder_printed(export, tmp_path):
    out = tmp_path / "model"
    code, shown, err = export("--task", "python", "--method", "lora", "--out", out)
    assert (code, shown) == (0, f"{out}\n")
    assert err.startswith("lora, seed 0, of run pocket-1\nCompared on 4 of the run's prompts: logits differ")
    assert "4 of 4 greedy answers are the same." in err
    assert (out / "model.safetensors").is_file()
    assert (out / "README.md").is_file()


def test_json_says_what_was_compared(export, tmp_path):
    out = tmp_path / "model"
    code, shown, _ = export("--task", "python", "--method", "layers", "--seed", 0, "--out", out, "--json")
    found = json.loads(shown)
    assert (code, found["folder"]) == (0, str(out))
    assert found["choice"] == {"method": "layers", "seed": 0, "task": "python"}
    assert found["comparison"]["prompts"] == 4


def test_an_adapter_is_written(export, tmp_path):
    out = tmp_path / "adapter"
    code, shown, _ = export("--task", "python", "--method", "lora", "--format", "peft", "--out", out)
    assert (code, shown) == (0, f"{out}\n")
    assert (out / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "pyton"], "Unknown task 'pyton'. Did you mean 'python'?"),
        (["--task", "python", "--method", "lroa"], "Unknown trained method 'lroa'. Did you mean 'lora'?"),
        (["--task", "python", "--seed", "7"], "Unknown seed '7'. Known: 0."),
        (
            ["--task", "python", "--format", "hff"],
            "Unknown format 'hff'. Did you mean 'hf'? Known: hf, peft.",
        ),
        (["--task", "python", "--method", "finetune", "--format", "peft"], "use --format hf"),
    ],
)
def test_misuse_is_2(export, arguments, message, tmp_path):
    code, shown, err = export(*arguments, "--out", tmp_path / "out")
    assert (code, shown) == (2, "")
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_taken_is_2(export, tmp_path):
    (tmp_path / "mine").write_text("", encoding="utf-8")
    code, shown, err = export("--task", "python", "--out", tmp_path)
    assert (code, shown) == (2, "")
    assert "is a folder that is not empty" in err


def test_a_run_that_is_not_there_is_2(call, tmp_path, tiny_run):
    code, _, err = call(
        "export", "poket-1", "--runs", tiny_run.path.parent, "--task", "python", "--out", tmp_path / "out"
    )
    assert code == 2
    assert "Did you mean 'pocket-1'?" in err
