"""Nothing secret leaves the machine unasked."""

import json
import types

import pytest

from codestrata.answering import Choice
from codestrata.data.tasks import note_taken
from codestrata.errors import SettingsError
from codestrata.exporting.disclosure import check_texts, check_training
from codestrata.exporting.exports import export_component
from codestrata.settings.tasks import TaskSettings

TOKEN = "ghp_" + "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zAbC5d"
TASK = TaskSettings(name="ours", source="file", path="x.jsonl", keep_secrets=True)


def note(count, task=TASK):
    sieve = types.SimpleNamespace(with_secrets=count, count_shared_tests=lambda: 0)
    return list(note_taken(task, sieve, 10))


def check(task, notes):
    check_training({"tasks": [{"name": task.name, "notes": notes}]}, types.SimpleNamespace(tasks=(task,)))


def test_a_run_that_trained_on_secrets_is_refused():
    with pytest.raises(SettingsError, match=r"'ours', of which 3 examples .*--allow-secrets"):
        check(TASK, ["something else", *note(3)])


def test_a_run_that_met_none_is_not():
    check(TASK, note(0))
    check(TaskSettings(name="ours"), [])
    check_training({}, types.SimpleNamespace(tasks=(TASK,)))


@pytest.mark.parametrize("name", ["README.md", "component.json"])
def test_a_text_with_a_secret_is_refused_without_telling_it(name):
    with pytest.raises(SettingsError, match=rf"{name} .*line 2 \(GitHub token\).*--allow-secrets") as caught:
        check_texts({"a.json": b"{}", name: f"one\n{TOKEN}\n".encode()})
    assert TOKEN not in str(caught.value)


def test_weights_and_vocabularies_are_not_read():
    check_texts(
        {"adapter_model.safetensors": TOKEN.encode(), "tokenizer.json": TOKEN.encode(), "x.json": b"\xff"}
    )


def plant(run):
    """Have the run say that it trained on secrets."""
    path = run.path / "experimental_results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    results["tasks"][0]["notes"] = note(2)
    return results


@pytest.mark.parametrize("form", ["hf", "peft"])
def test_an_export_is_refused_unless_it_is_allowed(form, small_run, small_settings, tmp_path, monkeypatch):
    choice = Choice(method="lora", seed=0, task="early")
    task = types.SimpleNamespace(name=small_settings.tasks[0].name, keep_secrets=True)
    results = plant(small_run)
    monkeypatch.setattr(
        "codestrata.exporting.exports.check_training",
        lambda _, settings: check_training(results, types.SimpleNamespace(tasks=(task,))),
    )
    with pytest.raises(SettingsError, match="--allow-secrets"):
        export_component(small_run, choice, tmp_path / "out", form)
    assert not (tmp_path / "out").exists()
    export_component(small_run, choice, tmp_path / "out", form, allow_secrets=True)
    assert (tmp_path / "out" / "README.md").is_file()


@pytest.mark.parametrize("form", ["hf", "peft"])
def test_a_card_with_a_secret_is_not_written(form, small_run, tmp_path, monkeypatch):
    name = "write_checkpoint_card" if form == "hf" else "write_adapter_card"
    monkeypatch.setattr(f"codestrata.exporting.exports.{name}", lambda *_, **__: f"# {TOKEN}\n")
    with pytest.raises(SettingsError, match=r"README\.md"):
        export_component(small_run, Choice(method="lora", seed=0, task="early"), tmp_path / "out", form)
    assert list(tmp_path.iterdir()) == []
