"""Tasks that share a part of their components: kept after the first one, or trained on with every task."""

import json
import shutil
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest
import torch
from peft import PeftModel

import codestrata
from codestrata import training
from codestrata.answering import Choice, answer
from codestrata.cli.comparing import describe_parameters
from codestrata.components.shared_layers import BLOCKS
from codestrata.errors import SettingsError
from codestrata.experiment import trainings
from codestrata.experiment.extending import extend_run
from codestrata.experiment.rescoring import rescore_run
from codestrata.experiment.walk import resume_experiment, run_experiment
from codestrata.exporting.exports import export_component
from codestrata.files import read_json, read_jsonl
from codestrata.methods import METHODS
from codestrata.planning import plan_run
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory
from codestrata.verification.runs import verify_run

NAMES = ("one", "two", "three")
KEPT, SHARED = "shared-layers", "shared-layers-seq"
OWN_TO_A_SESSION = {
    "events.jsonl",
    "experimental_results.json",
    "results_analysis.md",
    "checksums.json",
    "done.json",
}


@pytest.fixture(scope="module")
def settings(long_tree):
    """Three tasks and steps sharp enough for other answers, each with a checkpoint."""
    return build_settings(
        long_tree(
            3,
            recheck="full",
            methods=[KEPT, SHARED],
            shared_layers={"rank": 2, "placement": "both", "learning_rate": 0.1},
            training={"steps": 2},
            decoding={"max_new_tokens": 5},
            checkpoints={"seconds": 0},
        )
    )


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    """The run, never interrupted; do not change it."""
    return run_experiment(settings, root=tmp_path_factory.mktemp("sharing"), name="r")


@pytest.fixture(scope="module")
def results(run):
    return run.read_results()


def find_method(results, name):
    return next(entry for entry in results["methods"] if entry["name"] == name)


def find_walk(results, name):
    return find_method(results, name)["seeds"][0]


def list_cells(results, name, key):
    """(row, task) -> what a cell of R on the test split says."""
    return {
        (cell["row"], cell["task"]): cell[key]
        for cell in find_walk(results, name)["cells"]
        if cell["row"] and cell["split"] == "test"
    }


def read_files(run):
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path.relative_to(run.path).as_posix() not in OWN_TO_A_SESSION
    }


def read_tensors(run, name, task):
    """The blocks and the other tensors of a stored component."""
    from safetensors.torch import load_file

    tensors = load_file(run.task_folder(name, 0, task) / "adapter_model.safetensors")
    blocks = {key: tensor for key, tensor in tensors.items() if BLOCKS in key}
    return blocks, {key: tensor for key, tensor in tensors.items() if key not in blocks}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_what_is_kept_is_in_every_folder_and_in_every_fingerprint(run, results):
    blocks = [read_tensors(run, KEPT, name)[0] for name in NAMES]
    assert blocks[0]
    assert all(equal(found, blocks[0]) for found in blocks)
    trained = find_walk(results, KEPT)["trainings"]
    sizes = [sum(map(torch.numel, part.values())) for part in read_tensors(run, KEPT, "one")]
    assert [entry["parameters"] for entry in trained] == [sum(sizes), sizes[1], sizes[1]]
    assert len({entry["total_parameters"] for entry in trained}) == 1
    prints = list_cells(results, KEPT, "component_fingerprint")
    for place, entry in enumerate(trained, start=1):
        found = {prints[row, entry["task"]] for row in range(place, 4)}
        assert found == {entry["component_fingerprint"]}


def test_what_is_shared_changes_with_every_training(run, results):
    parts = [read_tensors(run, SHARED, name) for name in NAMES]
    assert not equal(parts[0][0], parts[1][0])
    assert not equal(parts[1][0], parts[2][0])
    trained = find_walk(results, SHARED)["trainings"]
    assert len({entry["parameters"] for entry in trained}) == 1
    prints = list_cells(results, SHARED, "component_fingerprint")
    assert len({prints[row, "one"] for row in (1, 2, 3)}) == 3
    assert [prints[row, name] for row, name in enumerate(NAMES, start=1)] == [
        entry["component_fingerprint"] for entry in trained
    ]


def test_both_begin_alike(results):
    first = [find_walk(results, name)["trainings"][0] for name in (KEPT, SHARED)]
    assert first[0]["component_fingerprint"] == first[1]["component_fingerprint"]
    assert first[0]["final_loss"] == first[1]["final_loss"]


def test_origins_of_cells(results):
    old = {(row, name) for row in (1, 2, 3) for name in NAMES[: row - 1]}
    future = {(row, name) for row in (1, 2, 3) for name in NAMES[row:]}
    kept, shared = (list_cells(results, name, "origin") for name in (KEPT, SHARED))
    assert {kept[place] for place in old} == {"rechecked"}
    assert {shared[place] for place in old} == {"decoded"}
    assert {found[place] for place in future for found in (kept, shared)} == {"structural"}
    assert shared[1, "one"] == "taken-over"  # from the other method: the same bytes


def test_what_the_schedule_decides_and_what_is_measured(results):
    marks = {
        name: {
            key: entry["structural"] for key, entry in find_walk(results, name)["continual"]["chrf"].items()
        }
        for name in (KEPT, SHARED)
    }
    wanted = {"forgetting": True, "backward_transfer": True, "forward_transfer": True}
    assert {key: marks[KEPT][key] for key in wanted} == wanted
    wanted |= {"forgetting": False, "backward_transfer": False}
    assert {key: marks[SHARED][key] for key in wanted} == wanted
    assert "every training changes a part of all" in find_walk(results, SHARED)["transfer"]["reason"]
    assert find_method(results, KEPT)["expert_gap"]["reference"] is None  # its experts saw task one, too


def test_the_results_have_the_published_shape_and_can_be_computed_again(run, results):
    path = files("codestrata") / "schemas" / "experimental_results.schema.json"
    jsonschema.validate(results, json.loads(path.read_text(encoding="utf-8")))
    assert rescore_run(run).changes == ()


def test_the_run_is_verified_answers_included(run):
    report = verify_run(run, decode=True)
    assert report.holds, report
    assert report.certificate.shared == (SHARED,)
    assert {proof.method for proof in report.certificate.proofs} == {KEPT}


def test_another_part_than_the_cells_say_is_found(run, tmp_path):
    folder = tmp_path / "r"
    shutil.copytree(run.path, folder)
    damaged = RunDirectory(folder)
    for file in ("adapter_model.safetensors", "component.json"):  # the blocks as "two" left them
        shutil.copy(run.task_folder(SHARED, 0, "two") / file, damaged.task_folder(SHARED, 0, "three") / file)
    check = next(found for found in verify_run(damaged).checks if found.subject == "components")
    assert any("row 3, one" in line or "row 3" in line for line in check.differences), check


def test_a_component_says_what_went_into_it(run):
    trained_on = {
        (name, task): list(read_json(run.task_folder(name, 0, task) / "component.json")["trained_on"])
        for name in (KEPT, SHARED)
        for task in NAMES
    }
    assert [trained_on[KEPT, task] for task in NAMES] == [["one"], ["one", "two"], ["one", "three"]]
    assert [trained_on[SHARED, task] for task in NAMES] == [[*NAMES[:1]], [*NAMES[:2]], [*NAMES]]


@pytest.mark.parametrize("task", ["one", "three"])
def test_answers_are_those_of_the_last_row(run, task):
    rows = [row for _, row in read_jsonl(run.task_folder(SHARED, 0, "three") / "predictions.jsonl")]
    rows = [row for row in rows if (row["task"], row["split"]) == (task, "test")]
    assert len(rows) == 4
    choice = Choice(method=SHARED, seed=0, task=task)
    found = answer(run, choice, [row["prompt"] for row in rows], device="cpu")
    assert found == [row["completion"] for row in rows]


def test_exports_are_what_answers_in_the_end(run, settings, tmp_path):
    choice = Choice(method=SHARED, seed=0, task="one")
    export = export_component(run, choice, tmp_path / "plain")
    assert export.comparison.same_answers == export.comparison.prompts
    with pytest.raises(SettingsError, match=r"trained on by later tasks.*use --format hf"):
        export_component(run, choice, tmp_path / "adapter", "peft")
    codestrata.register_with_peft()
    for name, task in ((SHARED, "three"), (KEPT, "one")):
        out = tmp_path / f"{name}-{task}"
        export_component(run, Choice(method=name, seed=0, task=task), out, "peft")
        from transformers import AutoModelForSeq2SeqLM

        PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(settings.base.name), out)
        assert "codestrata.register_with_peft()" in (out / "README.md").read_text()


def test_what_is_planned(settings, results):
    plan = {entry.name: entry for entry in plan_run(settings).methods}
    for name in (KEPT, SHARED):
        counted = [entry["parameters"] for entry in find_walk(results, name)["trainings"]]
        assert [plan[name].parameters, plan[name].later_parameters] == counted[:2]
        # One of the shared method's was found to be the other's already.
        origins = list_cells(results, name, "origin").values()
        assert plan[name].decoded_cells == sum(origin != "structural" for origin in origins)
    assert describe_parameters(plan[KEPT]).partition(", then ")[2]
    assert ", then" not in describe_parameters(plan[SHARED])


# Six trainings of two steps: in the second of each method, and in the third of the shared one.
@pytest.mark.parametrize("steps", [*(pytest.param(n, marks=pytest.mark.slow) for n in (3, 9)), 11])
def test_a_run_broken_off_in_any_training_ends_as_if_it_never_had_been(
    monkeypatch, settings, run, tmp_path, steps
):
    class Crash(BaseException):
        """What no handler may stop."""

    done, real = [], training.differentiate_next

    def differentiate_next(*arguments):
        if len(done) == steps:
            raise Crash
        done.append(None)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "differentiate_next", differentiate_next)
        with pytest.raises(Crash):
            run_experiment(settings, root=tmp_path, name="r")
    found = resume_experiment(RunDirectory(tmp_path / "r"))
    assert read_files(found) == read_files(run)
    for name in (KEPT, SHARED):
        assert find_walk(found.read_results(), name)["R"] == find_walk(run.read_results(), name)["R"]


@pytest.mark.slow
def test_a_run_that_is_extended_ends_as_one_over_all_tasks(settings, run, tmp_path):
    shorter = run_experiment(replace(settings, tasks=settings.tasks[:2]), root=tmp_path, name="two")
    longer = extend_run(shorter, settings, root=tmp_path, name="three")
    for name in (KEPT, SHARED):
        found, wanted = (find_walk(entry.read_results(), name) for entry in (longer, run))
        assert found["R"] == wanted["R"]
        for task in NAMES:
            stored, first = (read_tensors(entry, name, task) for entry in (longer, run))
            assert all(equal(*pair) for pair in zip(stored, first, strict=True))


@pytest.mark.slow
def test_a_damaged_component_is_trained_again_between_others(monkeypatch, settings, run, tmp_path):
    class Crash(BaseException):
        """What no handler may stop."""

    def die(*_, **__):
        raise Crash

    with monkeypatch.context() as patch:  # after all components are there
        patch.setattr("codestrata.experiment.walk.describe_run", die)
        with pytest.raises(Crash):
            run_experiment(settings, root=tmp_path, name="r")
    broken = RunDirectory(tmp_path / "r")
    for name in (KEPT, SHARED):
        shutil.rmtree(broken.task_folder(name, 0, "two"))
    fitted, real = [], trainings.fit
    monkeypatch.setattr(trainings, "fit", lambda *a, **k: (fitted.append(k["label"]), real(*a, **k))[1])
    found = resume_experiment(broken)
    assert fitted == [f"{name}: train two" for name in (KEPT, SHARED)]
    assert read_files(found) == read_files(run)


def test_the_table_says_how_tasks_share():
    assert METHODS[KEPT].has_component_per_task
    assert METHODS[SHARED].is_named_by_task
    assert not METHODS[SHARED].has_component_per_task
