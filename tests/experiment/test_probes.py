"""Controls, transfer and the noise floor of a whole tiny run."""

import pytest

from codestrata.experiment.walk import run_experiment
from codestrata.files import read_jsonl
from codestrata.settings.tree import build_settings

TASKS = ("python", "javascript")


@pytest.fixture(scope="module")
def results(tiny_run):
    return tiny_run.read_results()


@pytest.fixture(scope="module")
def sampled(quick_tree, tmp_path_factory):
    """A run that samples twice per prompt with two seeds."""
    decoding = {"temperature": 1.0, "samples": 2, "max_new_tokens": 6}
    quiet = {"transfer": False}
    tree = quick_tree(decoding=decoding, seeds=[0, 1], methods=["lora", "finetune"], measurement=quiet)
    return run_experiment(build_settings(tree), root=tmp_path_factory.mktemp("sampled"))


def read_rows(path):
    return [row for _, row in read_jsonl(path)]


def find_seed(results, name):
    return next(method for method in results["methods"] if method["name"] == name)["seeds"][0]


def test_echo_repeats_and_nearest_answers_with_a_training_target(tiny_run, results):
    assert [control["name"] for control in results["controls"]] == ["echo", "nearest"]
    for control in results["controls"]:
        places = [(cell["task"], cell["split"], cell["origin"]) for cell in control["cells"]]
        assert places == [(task, split, "control") for task in TASKS for split in ("test", "unseen")]
    rows = read_rows(tiny_run.path / "controls" / "echo" / "predictions.jsonl")
    assert len(rows) == 12
    assert all(row["completion"] == row["prompt"] for row in rows)
    rows = read_rows(tiny_run.path / "controls" / "nearest" / "predictions.jsonl")
    assert all(row["completion"] and row["completion"] != row["prompt"] for row in rows)


@pytest.mark.parametrize("name", ["lora", "layers"])
def test_transfer_holds_every_component_on_every_task(results, name):
    entry = find_seed(results, name)
    cells = entry["transfer"]["cells"]
    assert [(cell["trained_through"], cell["task"], cell["split"]) for cell in cells] == [
        ("python", "javascript", "test"),
        ("javascript", "python", "test"),
    ]
    for metric, matrix in entry["transfer"]["X"].items():
        own = entry["R"]["test"][metric]
        assert matrix[0] == own[0]
        assert matrix[1] == [own[1][0], cells[0]["scores"][metric]["value"]]
        assert matrix[2] == [cells[1]["scores"][metric]["value"], own[2][1]]


def test_where_one_component_serves_all_there_is_no_second_matrix(results):
    transfer = find_seed(results, "finetune")["transfer"]
    assert transfer["X"] is None
    assert "one component serves all tasks" in transfer["reason"]


def test_transfer_is_left_out_unless_asked_for(sampled):
    transfer = find_seed(sampled.read_results(), "lora")["transfer"]
    assert transfer == {"X": None, "reason": "not asked for: set measurement.transfer", "cells": []}


def test_without_sampling_the_noise_floor_is_nought_and_it_was_looked(results):
    noise = results["noise_floor"]
    assert noise["largest"] == 0.0
    assert [(entry["method"], entry["task"]) for entry in noise["entries"]] == [
        ("lora", "python"),
        ("layers", "python"),
        ("base", "javascript"),  # no recheck covers the last task
    ]
    for entry in noise["entries"]:
        assert entry["identical"] == entry["n"] == 4
        assert set(entry["differences"].values()) <= {0.0, None}


def test_with_sampling_the_same_weights_answer_otherwise(sampled):
    noise = sampled.read_results()["noise_floor"]
    entries = noise["entries"]
    assert [(entry["method"], entry["seed"], entry["task"]) for entry in entries] == [
        (method, seed, task)
        for method in ("lora", "finetune")
        for seed in (0, 1)
        for task in ("early", "late")
    ]
    assert sum(entry["identical"] for entry in entries) < sum(entry["n"] for entry in entries)
    assert any(entry["differences"]["bleu"] != 0 for entry in entries)
    sizes = [abs(entry["differences"][noise["metric"]]) for entry in entries]
    assert noise["largest"] == max(sizes)


def test_all_samples_of_an_example_are_kept_together(sampled):
    rows = read_rows(sampled.path / "base" / "predictions.jsonl")
    early = [row for row in rows if row["task"] == "early"]
    assert [row["sample"] for row in early] == [0, 1] * (len(early) // 2)
    assert all(
        first["identifier"] == second["identifier"]
        for first, second in zip(early[::2], early[1::2], strict=True)
    )
    assert any(
        first["completion"] != second["completion"]
        for first, second in zip(early[::2], early[1::2], strict=True)
    )


def test_a_run_without_any_repeat_decodes_the_base_twice(quick_tree, tmp_path):
    run = run_experiment(build_settings(quick_tree(methods=["base"])), root=tmp_path)
    entries = run.read_results()["noise_floor"]["entries"]
    assert [(entry["method"], entry["seed"]) for entry in entries] == [("base", None)] * 2
    assert (run.path / "noise" / "base" / "early" / "predictions.jsonl").is_file()


def test_the_base_agrees_with_itself_and_was_asked_about_components(tiny_run, results):
    rows = read_rows(tiny_run.task_folder("lora", 0, "python") / "predictions.jsonl")
    assert all(0 <= row["agreed"] + row["shifted"] <= row["tokens"] for row in rows)
    assert all(row["agreed"] is None for row in read_rows(tiny_run.path / "base" / "predictions.jsonl"))
    cell = find_seed(results, "lora")["cells"][4]
    total = sum(row["tokens"] for row in rows if row["split"] == "test")
    agreed = sum(row["agreed"] for row in rows if row["split"] == "test")
    assert cell["scores"]["base_agreement"]["value"] == pytest.approx(agreed / total)
    assert results["base"]["cells"][0]["scores"]["base_agreement"]["value"] is None


def test_agreement_can_be_left_out(quick_tree, tmp_path):
    run = run_experiment(build_settings(quick_tree(measurement={"agreement": False})), root=tmp_path)
    rows = read_rows(run.task_folder("lora", 0, "early") / "predictions.jsonl")
    assert all(row["agreed"] is None for row in rows)
