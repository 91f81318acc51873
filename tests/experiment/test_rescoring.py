"""A run's numbers out of its predictions: the same again, or named where they differ."""

import json
import shutil
from dataclasses import replace

import pytest
from damaging import reseal

from codestrata import locks
from codestrata.errors import DataError, RunError
from codestrata.experiment import cells, rescoring
from codestrata.experiment.rescoring import rescore_run, store_rescored
from codestrata.experiment.walk import run_experiment
from codestrata.files import read_json, read_jsonl, write_json, write_jsonl
from codestrata.manifests import read_contents
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory


@pytest.fixture
def quick(quick_run, tmp_path):
    """A copy of a finished run of all methods, to be damaged."""
    return RunDirectory(shutil.copytree(quick_run.path, tmp_path / quick_run.name))


def read_files(run):
    return {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def edit_predictions(run, folder, edit):
    path = run.path / folder / "predictions.jsonl"
    write_jsonl(path, [edit(dict(row)) for _, row in read_jsonl(path)])


def test_scoring_again_gives_the_same_results(tiny_run):
    before = read_files(tiny_run)
    rescored = rescore_run(tiny_run)
    stored = tiny_run.read_results()
    assert rescored.changes == ()
    assert json.loads(json.dumps(rescored.results)) == stored
    assert rescored.compared > 10_000  # every leaf of the results, machine and times among them
    assert read_files(tiny_run) == before


def test_storing_unchanged_scores_changes_no_file_but_the_mark_and_the_log(quick):
    before = read_files(quick)
    store_rescored(quick, rescore_run(quick))
    after = read_files(quick)
    changed = {path.name for path in before if before[path] != after[path]}
    assert before.keys() == after.keys()
    assert changed <= {"events.jsonl", "checksums.json", "done.json"}
    assert quick.check_files() == []


def test_storing_changes_the_checksums_of_what_it_wrote_alone(quick):
    edit_predictions(quick, "base", lambda row: row | {"completion": row["target"]})
    reseal(quick)
    damaged = quick.path / "lora_early" / "component.json"
    damaged.write_bytes(damaged.read_bytes() + b" ")
    before = read_contents(quick.path)
    store_rescored(quick, rescore_run(quick))
    after = read_contents(quick.path)
    changed = {path for path in before if before[path] != after[path]}
    assert "base/scores.jsonl" in changed
    assert changed <= {
        *(path for path in before if path.endswith("/scores.jsonl")),
        *("events.jsonl", "experimental_results.json", "results_analysis.md"),
    }
    assert [fault.path for fault in quick.check_files()] == ["lora_early/component.json"]


def test_the_run_is_held_while_its_scores_are_replaced(quick, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.0)
    rescored, seen = rescore_run(quick), []

    def look(root, cells, real=rescoring.write_scores):
        with pytest.raises(RunError, match=r"is in use by process \d+"), quick.hold():
            pytest.fail("two have it")
        seen.append((quick.is_held, quick.is_done))
        real(root, cells)

    monkeypatch.setattr(rescoring, "write_scores", look)
    store_rescored(quick, rescored)
    assert set(seen) == {(True, True)}
    assert not quick.is_held
    with quick.hold():
        before = read_files(quick)
        with pytest.raises(RunError, match="is in use by process"):
            store_rescored(quick, rescored)
        assert read_files(quick) == before


@pytest.mark.parametrize("folder", ["../outside", "base/../../outside", "{tmp_path}/outside"])
def test_a_folder_that_results_name_outside_the_run_is_not_touched(quick, tmp_path, folder):
    outside, named = tmp_path / "outside", folder.format(tmp_path=tmp_path)
    shutil.copytree(quick.path / "base", outside)
    before = {path: path.read_bytes() for path in outside.iterdir()}
    rescored = rescore_run(quick)
    cells = tuple(replace(cell, folder=named) for cell in rescored.cells if cell.folder == "base")
    with pytest.raises(RunError, match="leads out of run"):
        store_rescored(quick, replace(rescored, cells=cells))
    path = quick.path / "experimental_results.json"
    tree = read_json(path)
    for cell in tree["base"]["cells"]:
        cell["folder"] = named
    write_json(path, tree)
    with pytest.raises(RunError, match="leads out of run"):
        rescore_run(quick)
    assert {path: path.read_bytes() for path in outside.iterdir()} == before


def test_no_model_is_loaded(quick, monkeypatch):
    import torch

    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(torch.nn.Module, "load_state_dict", refuse)
    shutil.rmtree(quick.path / "lora_early")
    for path in quick.path.rglob("*.safetensors"):
        path.unlink()
    assert rescore_run(quick).changes == ()


def test_a_changed_prediction_changes_what_follows_from_it(quick):
    def answer_right(row):
        return row | {"completion": row["target"]} if row["task"] == "early" else row

    edit_predictions(quick, "methods/finetune/seed-0/late", answer_right)
    reseal(quick)
    rescored = rescore_run(quick)
    changes = {change.pointer: (change.stored, change.computed) for change in rescored.changes}
    assert changes["/methods/3/seeds/0/R/test/exact_match/2/0"] == (0.0, 1.0)
    assert changes["/methods/3/final/test/early/exact_match/value"] == (0.0, 1.0)
    assert not any(pointer.startswith(("/methods/1", "/base", "/controls/")) for pointer in changes)
    store_rescored(quick, rescored)
    results = quick.read_results()
    finetune = next(method for method in results["methods"] if method["name"] == "finetune")
    assert finetune["seeds"][0]["R"]["test"]["exact_match"][2][0] == 1.0
    assert finetune["final"]["test"]["early"]["exact_match"]["value"] == 1.0
    assert "1.000" in (quick.path / "results_analysis.md").read_text(encoding="utf-8")
    assert rescore_run(quick).changes == ()


def test_a_recheck_that_no_longer_agrees_is_found(quick):
    edit_predictions(
        quick,
        "methods/lora/seed-0/late",
        lambda row: row | {"completion": row["completion"] + "x"} if row["task"] == "early" else row,
    )
    lora = next(method for method in rescore_run(quick).results["methods"] if method["name"] == "lora")
    rechecked = [cell for cell in lora["seeds"][0]["cells"] if cell["origin"] == "rechecked"]
    assert [cell["identical_predictions"] for cell in rechecked] == [False]


def test_any_entry_that_was_changed_by_hand_is_found(quick):
    path = quick.path / "experimental_results.json"
    tree = read_json(path)
    tree["isolation"].update(identical_cells=0)
    tree["noise_floor"].update(largest=0.5)
    tree["above_controls"].pop()
    tree["metrics"]["bleu"].update(formula="other")
    tree["comparisons"][0].update(reason="mine")
    write_json(path, tree)
    assert {
        "/isolation/identical_cells",
        "/noise_floor/largest",
        "/above_controls/5/verdict",
        "/metrics/bleu/formula",
        "/comparisons/0/reason",
    } <= {change.pointer for change in rescore_run(quick).changes}


def test_a_number_that_cannot_be_computed_here_is_kept(quick, monkeypatch):
    def score(predictions, *rest):
        return tuple(
            replace(found, value=None, per_example=None, reason="nothing here counts letters")
            if found.metric == "chrf"
            else found
            for found in real(predictions, *rest)
        )

    real = rescoring.score
    monkeypatch.setattr(rescoring, "score", score)
    before = read_files(quick)
    rescored = rescore_run(quick)
    with pytest.raises(
        RunError,
        match=r"cannot be computed here, such as /base/cells/0/scores/chrf \(nothing here counts letters\)",
    ):
        store_rescored(quick, rescored)
    assert read_files(quick) == before


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda row: {**row, "completion": None}, "completion is None: expected a text"),
        (lambda row: {key: value for key, value in row.items() if key != "task"}, "task is None"),
        (lambda row: {**row, "tokens": "3"}, "tokens is '3': expected a whole number"),
        (lambda row: {**row, "grade": 1}, "unknown field 'grade'"),
    ],
)
def test_a_damaged_line_is_named(quick, edit, message):
    edit_predictions(quick, "base", edit)
    with pytest.raises(DataError, match=r"base.predictions\.jsonl:1: ") as refused:
        rescore_run(quick)
    assert message in str(refused.value)


def test_missing_predictions_are_named(quick):
    (quick.path / "controls" / "echo" / "predictions.jsonl").unlink()
    with pytest.raises(DataError, match=r"echo.predictions\.jsonl: cannot be read"):
        rescore_run(quick)


def test_a_task_without_its_predictions_is_named(quick):
    path = quick.path / "base" / "predictions.jsonl"
    write_jsonl(path, [row for _, row in read_jsonl(path) if row["task"] == "early"])
    with pytest.raises(RunError, match=r"base holds no predictions of late, split test"):
        rescore_run(quick)


def test_another_schema_and_an_unfinished_run_are_refused(quick):
    path = quick.path / "experimental_results.json"
    write_json(path, read_json(path) | {"schema_version": 3})
    with pytest.raises(RunError, match="schema version 3; this codestrata reads version 7"):
        rescore_run(quick)
    (quick.path / "done.json").unlink()
    with pytest.raises(RunError, match="did not come to its end"):
        rescore_run(quick)


@pytest.mark.slow
def test_a_run_that_sampled_is_scored_again_too(quick_tree, tmp_path):
    settings = build_settings(
        quick_tree(decoding={"temperature": 1.0, "samples": 2, "max_new_tokens": 4}, seeds=[0, 1])
    )
    run = run_experiment(settings, root=tmp_path)
    rescored = rescore_run(run)
    assert rescored.changes == ()
    assert json.loads(json.dumps(rescored.results)) == run.read_results()


def test_predictions_come_back_as_they_were_written(tmp_path):
    assert cells.PREDICTIONS_FILE == "predictions.jsonl"
    with pytest.raises(DataError, match="cannot be read"):
        cells.read_predictions(tmp_path)


def test_numbers_of_damaged_predictions_do_not_replace_the_runs(quick):
    path = quick.path / "methods/lora/seed-0/early/predictions.jsonl"
    before = (quick.path / "experimental_results.json").read_bytes()
    path.write_text(path.read_text(encoding="utf-8").replace('"completion": "', '"completion": "x', 1))
    with pytest.raises(DataError, match=r"predictions\.jsonl: is changed since .*'codestrata verify'"):
        store_rescored(quick, rescore_run(quick))
    assert (quick.path / "experimental_results.json").read_bytes() == before
    assert quick.is_done
