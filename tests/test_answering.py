"""A run's components answer as they did in the run."""

import copy
import json
import shutil

import pytest

from codestrata.answering import Choice, answer, choose_component, read_run_settings
from codestrata.errors import ComponentError, RunError, SettingsError
from codestrata.store import RunDirectory


def read_predictions(run, method, task, through):
    path = run.task_folder(method, 0, through) / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["task"] == task]


@pytest.fixture
def pretend(tiny_run, tmp_path):
    """A function that makes a run directory with changed results."""

    def make(change):
        results = copy.deepcopy(tiny_run.read_results())
        change(results)
        run = RunDirectory(tmp_path)
        run.finish(results, "")
        return run

    return make


def set_final(results, method, task, value, seed=0):
    entry = next(entry for entry in results["methods"] if entry["name"] == method)["seeds"][seed]
    entry["R"]["test"][results["headline_metric"]][-1][task] = value


@pytest.mark.parametrize("method", ["lora", "layers", "finetune"])
def test_answers_are_those_of_the_run(tiny_run, method):
    through = "javascript" if method == "finetune" else "python"
    rows = read_predictions(tiny_run, method, "python", through)
    texts = [row["prompt"].removeprefix("python: ") for row in rows]
    choice = Choice(method=method, seed=0, task="python")
    assert answer(tiny_run, choice, texts, device="cpu") == [row["completion"] for row in rows]


def test_the_best_method_on_the_task_answers(pretend):
    def change(results):
        set_final(results, "lora", 0, 0.5)
        set_final(results, "layers", 0, 0.75)
        set_final(results, "layers", 1, 0.1)
        set_final(results, "finetune", 1, 0.2)

    run = pretend(change)
    assert choose_component(run, "python", None) == Choice(method="layers", seed=0, task="python")
    assert choose_component(run, "javascript", None) == Choice(method="finetune", seed=0, task="javascript")
    assert choose_component(run, "python", "lora") == Choice(method="lora", seed=0, task="python")


def test_the_best_seed_answers_and_what_was_not_measured_is_worst(pretend):
    def change(results):
        lora = next(entry for entry in results["methods"] if entry["name"] == "lora")
        lora["seeds"].append(copy.deepcopy(lora["seeds"][0]))
        lora["seeds"][1]["seed"] = 7
        set_final(results, "lora", 0, None)
        set_final(results, "lora", 0, 0.0, seed=1)

    assert choose_component(pretend(change), "python", "lora").seed == 7


@pytest.mark.parametrize(
    ("task", "method", "message"),
    [
        ("pyton", None, r"Unknown task 'pyton'. Did you mean 'python'\? Known: javascript, python"),
        ("python", "lroa", r"Unknown trained method 'lroa'. Did you mean 'lora'\?"),
        ("python", "base", "Known: finetune, layers, lora"),
    ],
)
def test_unknown_names_come_with_the_choices(tiny_run, task, method, message):
    with pytest.raises(SettingsError, match=message):
        choose_component(tiny_run, task, method)


def test_a_run_that_trained_nothing_cannot_answer(pretend):
    run = pretend(lambda results: results.update(methods=results["methods"][:1]))
    with pytest.raises(RunError, match="trained no component"):
        choose_component(run, "python", None)


def test_an_unfinished_run_cannot_answer(tmp_path):
    with pytest.raises(RunError, match="did not come to its end"):
        choose_component(RunDirectory(tmp_path), "python", None)


def test_the_settings_of_a_run_are_read_back(tiny_run, tiny_settings):
    assert read_run_settings(tiny_run) == tiny_settings


def test_another_base_under_the_same_name_is_refused(tiny_run, tiny_base_folder, build_tiny_t5, tmp_path):
    other = tmp_path / "base"
    shutil.copytree(tiny_base_folder, other)
    build_tiny_t5(
        seed=1, vocab_size=json.loads((other / "config.json").read_text())["vocab_size"]
    ).save_pretrained(other)
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(tiny_run.path, run.path)
    settings = run.path / "settings.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace(str(tiny_base_folder), str(other)), encoding="utf-8")
    with pytest.raises(ComponentError, match="base_fingerprint"):
        answer(run, Choice(method="lora", seed=0, task="python"), ["sum"], device="cpu")
