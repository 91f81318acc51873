"""What is decoded and what is taken over, row by row, in runs over five tasks."""

import json
from importlib.resources import files
from types import SimpleNamespace

import jsonschema
import pytest

from codestrata.errors import IsolationError
from codestrata.experiment import cells, rows, walk
from codestrata.experiment.archive import Archive
from codestrata.experiment.rescoring import rescore_run
from codestrata.experiment.rows import SHARED, evaluate_base, evaluate_row
from codestrata.experiment.walk import run_experiment
from codestrata.files import read_json, write_json
from codestrata.lab import open_lab
from codestrata.methods import METHODS, build_component, resolve_methods
from codestrata.planning import count_prompts
from codestrata.progress import Silence
from codestrata.settings.tree import build_settings

MODES = ("full", "canary", "off")
TASKS, TESTS, CANARIES = 5, 4, 2
SCHEMA = json.loads(
    (files("codestrata") / "schemas" / "experimental_results.schema.json").read_text(encoding="utf-8")
)


def find_seed(results, name):
    return next(method for method in results["methods"] if method["name"] == name)["seeds"][0]


def list_cells(results, name, *, row):
    return [cell for cell in find_seed(results, name)["cells"] if cell["row"] == row]


@pytest.mark.parametrize(
    ("mode", "lora", "finetune"),
    [
        ("full", TASKS * (TASKS + 1) // 2 * TESTS, 0),
        # The component of finetune serves all tasks, and changes with every training.
        ("canary", TASKS * TESTS + (TASKS - 1) * CANARIES, TASKS * TASKS * TESTS),
        ("off", TASKS * TESTS, 0),
    ],
)
def test_prompts_are_decoded_as_often_as_isolation_asks_and_as_was_planned(long_runs, mode, lora, finetune):
    run = long_runs[mode]
    base = TASKS * TESTS + TESTS  # row 0, and the last task once more for the noise floor
    decoded = sum(map(len, run.calls))
    assert decoded == base + lora + finetune
    lab = open_lab(run.settings, Silence())
    assert count_prompts(lab, resolve_methods(run.settings.methods)) == decoded


@pytest.mark.parametrize("mode", MODES)
def test_every_cell_says_where_it_comes_from(long_runs, mode):
    older = {"full": "rechecked", "canary": "taken-over", "off": "taken-over"}[mode]
    last = {"full": "rechecked", "canary": "canary", "off": "taken-over"}[mode]
    results = long_runs[mode].results
    for row in range(1, TASKS + 1):
        before = last if row == TASKS else older
        wanted = [before] * (row - 1) + ["decoded"] + ["structural"] * (TASKS - row)
        assert [cell["origin"] for cell in list_cells(results, "lora", row=row)] == wanted
    assert results["isolation"]["recheck"] == mode


def test_older_cells_point_to_the_predictions_and_bytes_of_their_own_training(long_runs):
    for mode in ("canary", "off"):
        rows = [list_cells(long_runs[mode].results, "lora", row=row) for row in range(TASKS + 1)]
        for index in range(1, TASKS):
            own, later = rows[index][index - 1], [rows[row][index - 1] for row in range(index + 1, TASKS + 1)]
            for cell in later:
                assert cell["folder"] == own["folder"] == f"methods/lora/seed-0/{own['task']}"
                assert cell["component_fingerprint"] == own["component_fingerprint"]
                assert cell["scores"] == own["scores"]
        prints = {cell["component_fingerprint"] for row in rows for cell in row}
        assert len(prints) == TASKS + 1  # one of every task, and none for the bare base


def test_a_shared_component_has_other_bytes_after_every_training(long_runs):
    found = find_seed(long_runs["canary"].results, "finetune")["cells"]
    assert {cell["origin"] for cell in found} == {"decoded"}
    assert len({cell["component_fingerprint"] for cell in found if cell["row"]}) == TASKS


def test_however_isolation_is_shown_the_scores_are_the_same(long_runs):
    full = long_runs["full"].results
    for mode in ("canary", "off"):
        results = long_runs[mode].results
        for part in ("R", "continual"):
            assert find_seed(results, "lora")[part] == find_seed(full, "lora")[part]
        assert results["methods"][0]["final"] == full["methods"][0]["final"]


@pytest.mark.parametrize("mode", ["canary", "off"])
def test_results_have_the_published_shape_and_come_out_of_the_predictions_again(long_runs, mode):
    run = long_runs[mode].run
    jsonschema.validate(long_runs[mode].results, SCHEMA)
    rescored = rescore_run(run)
    assert rescored.changes == ()
    assert json.loads(json.dumps(rescored.results)) == long_runs[mode].results


@pytest.mark.parametrize(
    ("mode", "proofs"),
    [
        ("full", ["Isolation by decoding: 10 cells"]),
        (
            "canary",
            ["Isolation by decoding: 8 predictions, canaries of 4 cells", "Isolation by bytes: 10 cells"],
        ),
        ("off", ["Isolation by bytes: 10 cells"]),
    ],
)
def test_the_analysis_says_what_was_shown_by_decoding_and_what_by_bytes(long_runs, mode, proofs):
    text = (long_runs[mode].run.path / "results_analysis.md").read_text(encoding="utf-8")
    assert [proof for proof in proofs if proof in text] == proofs
    assert text.count("Isolation by") == len(proofs)
    marks = {"full": "(again, same)", "canary": "(canary, same)", "off": "(same bytes)"}
    assert marks[mode] in text


def test_a_fingerprint_that_was_changed_by_hand_is_found(long_tree, tmp_path):
    run = run_experiment(build_settings(long_tree(2, recheck="off", methods=["lora"])), root=tmp_path)
    path = run.path / "experimental_results.json"
    tree = read_json(path)
    (cell,) = [cell for cell in tree["methods"][0]["seeds"][0]["cells"] if cell["origin"] == "taken-over"]
    cell["component_fingerprint"] = "0" * 64
    write_json(path, tree)
    (change,) = rescore_run(run).changes
    assert change.pointer.endswith("/component_fingerprint")


@pytest.mark.parametrize("recheck", ["canary", "off"])
def test_a_component_that_another_training_touches_ends_the_run(long_tree, tmp_path, monkeypatch, recheck):
    def train(lab, run, method, component, task, seed, *rest):
        training = real(lab, run, method, component, task, seed, *rest)
        if task.name == "two":
            next(iter(component.parameters("one").values())).data.flatten()[0] += 1e-6
        return training

    real = walk.train_task
    monkeypatch.setattr(walk, "train_task", train)
    settings = build_settings(long_tree(2, recheck=recheck, methods=["lora"]))
    with pytest.raises(
        IsolationError,
        match=r"'lora' answers 'one' with changed until after the training on 'two': when it was decoded, "
        r"the component's fingerprint was [0-9a-f]{64} on the base [0-9a-f]{64}; now it is [0-9a-f]{64} on",
    ):
        run_experiment(settings, root=tmp_path, name="touched")
    assert not (tmp_path / "touched" / "done.json").exists()


def test_the_same_bytes_are_not_asked_twice(long_tree, listen, monkeypatch):
    monkeypatch.setattr(rows, "list_trained_on", lambda lab, *_: lab.tasks)  # the same in both rows
    lab = open_lab(build_settings(long_tree(2)), Silence())
    component = build_component(METHODS["finetune"], lab.base, lab.settings)
    component.attach(SHARED, seed=0)
    archive, calls = Archive(lab), []
    monkeypatch.setattr(cells, "predict", listen(calls))

    def evaluate(task):
        training = SimpleNamespace(task=task, seed=0, base_fingerprint_after=lab.base.fingerprint)
        return evaluate_row(lab, archive, METHODS["finetune"], component, training, found)

    found = evaluate_base(lab)
    first = evaluate("one")
    assert len(calls) == 4
    second = evaluate("two")
    assert len(calls) == 4
    assert [cell.origin for cell in (*first, *second)] == ["decoded"] * 2 + ["taken-over"] * 2
    assert [(cell.row, cell.trained_through) for cell in second] == [(2, "two")] * 2
    assert [cell.folder for cell in second] == ["methods/finetune/seed-0/one"] * 2
    assert [cell.predictions for cell in second] == [cell.predictions for cell in first]
    next(iter(component.parameters(SHARED).values())).data.flatten()[0] += 1e-6
    assert [cell.origin for cell in evaluate("two")] == ["decoded"] * 2
    assert component.active is None
