"""Every schedule in one run: what is trained on what, what answers where, what is planned and verified."""

import json
import shutil
from importlib.resources import files

import jsonschema
import pytest
import torch

from codestrata import training
from codestrata.answering import Choice, answer
from codestrata.components.weights import WeightsComponent
from codestrata.data.batches import EncodedExamples, JoinedExamples
from codestrata.experiment import cells, trainings
from codestrata.experiment.rescoring import rescore_run
from codestrata.experiment.trainings import choose_training, copy_tensors, gather_examples
from codestrata.experiment.walk import resume_experiment, run_experiment
from codestrata.files import read_json, read_jsonl
from codestrata.lab import open_lab
from codestrata.methods import METHODS, build_component
from codestrata.planning import plan_run
from codestrata.progress import Silence
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory
from codestrata.verification.runs import verify_run

WALKS = ["lora", "warm", "single", "joint", "lora-seq"]
NAMES = ("one", "two", "three")
SCHEMA = json.loads(
    (files("codestrata") / "schemas" / "experimental_results.schema.json").read_text(encoding="utf-8")
)
OWN_TO_A_SESSION = {
    "events.jsonl",
    "experimental_results.json",
    "results_analysis.md",
    "checksums.json",
    "done.json",
}


@pytest.fixture(scope="module")
def settings(long_tree):
    # Every older task is decoded again; sharp rates, so that components answer differently.
    tree = long_tree(3, methods=WALKS, measurement={"transfer": True}, training={"steps": 2})
    return build_settings(tree)


@pytest.fixture(scope="module")
def asked():
    """Every call for predictions of the run that is not interrupted."""
    return []


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    """A finished run of every schedule over three tasks; do not change it."""
    return run_experiment(settings, root=tmp_path_factory.mktemp("schedules"), name="r")


@pytest.fixture(scope="module")
def results(run):
    return run.read_results()


@pytest.fixture
def lab(settings):
    return open_lab(settings, Silence())


def find_walk(results, name):
    return next(method for method in results["methods"] if method["name"] == name)["seeds"][0]


def list_origins(results, name):
    found = {(cell["row"], cell["task"]): cell["origin"] for cell in find_walk(results, name)["cells"]}
    return [[found[row, task] for task in NAMES] for row in range(1, 4)]


def list_prints(results, name):
    found = {
        (cell["row"], cell["task"]): cell["component_fingerprint"]
        for cell in find_walk(results, name)["cells"]
    }
    return [[found[row, task] for task in NAMES] for row in range(1, 4)]


def test_where_no_component_is_the_tasks_own_yet_the_newest_warm_one_answers(results):
    again, first, none, same = "rechecked", "decoded", "structural", "taken-over"
    assert list_origins(results, "lora") == [[first, none, none], [again, first, none], [again, again, first]]
    assert list_origins(results, "warm") == [
        [same, first, first],
        [again, first, first],
        [again, again, first],
    ]
    one, two, three = (entry["component_fingerprint"] for entry in find_walk(results, "warm")["trainings"])
    assert list_prints(results, "warm") == [[one] * 3, [one, two, two], [one, two, three]]
    assert len({one, two, three}) == 3


@pytest.mark.parametrize("name", ["joint", "lora-seq"])
def test_one_component_answers_all_tasks_where_they_share_it(results, name):
    walk = find_walk(results, name)
    prints = [entry["component_fingerprint"] for entry in walk["trainings"]]
    assert list_prints(results, name) == [[found] * 3 for found in prints]
    assert len(set(prints)) == 3
    assert walk["transfer"]["reason"] == "one component serves all tasks: R[t, i] is its transfer"
    assert walk["swap"] is None


def test_own_components_of_all_weights_are_swapped_and_proven(results):
    walk = find_walk(results, "single")
    assert walk["swap"]["n"] == 50
    assert [cell["identical_predictions"] for cell in walk["cells"] if cell["origin"] == "rechecked"] == [
        True
    ] * 3
    assert len(walk["transfer"]["cells"]) == 6


def test_the_first_training_is_the_same_whatever_comes_after(results):
    def first(name):
        return find_walk(results, name)["trainings"][0]["component_fingerprint"]

    assert first("lora") == first("warm") == first("lora-seq")
    assert first("single") == first("joint")


def test_a_warm_component_goes_on_where_the_one_before_ended(results):
    warm, shared = find_walk(results, "warm"), find_walk(results, "lora-seq")
    prints = [[entry["component_fingerprint"] for entry in walk["trainings"]] for walk in (warm, shared)]
    # The same tensors after every training: only what remains of the older ones differs.
    assert prints[0] == prints[1]
    alone = [entry["component_fingerprint"] for entry in find_walk(results, "lora")["trainings"]]
    assert set(alone[1:]).isdisjoint(prints[0])


def test_joint_training_takes_all_tasks_so_far_and_their_steps(results):
    walk = find_walk(results, "joint")
    assert [entry["steps"] for entry in walk["trainings"]] == [2, 4, 6]
    assert [entry["task"] for entry in walk["trainings"]] == list(NAMES)


def test_a_component_says_what_it_was_trained_on(run, results):
    prints = {task["name"]: task["fingerprint"] for task in results["tasks"]}
    for name in WALKS:
        for position, task in enumerate(NAMES):
            about = read_json(run.task_folder(name, 0, task) / "component.json")
            seen = [task] if name in ("lora", "single") else list(NAMES[: position + 1])
            assert about["trained_on"] == {entry: prints[entry] for entry in seen}


def test_only_the_founding_schedule_has_the_founding_names(run):
    about = read_json(run.path / "lora_two" / "component.json")
    assert (about["method"], about["task"]) == ("lora", "two")


def test_joint_rows_are_other_models_and_nothing_is_claimed_of_them(results):
    (method,) = [entry for entry in results["methods"] if entry["name"] == "joint"]
    for tree in (method["continual"], method["seeds"][0]["continual"]):
        for name in ("forgetting", "backward_transfer"):
            entry = tree["bleu"][name]
            assert entry["value"] is None
            assert entry.get("interval") is None
            assert "another model" in entry["reason"]
            assert not entry["structural"]
        assert tree["bleu"]["average_accuracy"]["value"] is not None
        assert tree["bleu"]["forward_transfer"]["value"] is not None


def test_forgetting_of_warm_components_is_structural_and_what_they_carry_over_is_not(results):
    (method,) = [entry for entry in results["methods"] if entry["name"] == "warm"]
    entries = method["continual"]["bleu"]
    assert entries["forgetting"]["structural"]
    assert entries["backward_transfer"]["structural"]
    assert not entries["forward_transfer"]["structural"]


def test_the_results_have_the_published_shape_and_come_out_of_the_predictions_again(run, results):
    jsonschema.validate(results, SCHEMA)
    assert rescore_run(run).changes == ()


def test_as_much_is_decoded_and_trained_as_was_planned(checkpointed, uninterrupted, asked):
    plan = plan_run(checkpointed)
    assert plan.decoded_prompts == sum(map(len, asked))
    results = uninterrupted.read_results()
    for planned in plan.methods:
        steps = [entry["steps"] for entry in find_walk(results, planned.name)["trainings"]]
        assert list(planned.steps_per_task) == steps


def test_a_run_of_every_schedule_is_verified(run):
    report = verify_run(run)
    assert report.holds, report
    assert report.certificate.shared == ("joint", "lora-seq")
    assert {proof.method for proof in report.certificate.proofs} == {"lora", "warm", "single"}


# The first answers of the first warm component are lora's: it has the same bytes.
@pytest.mark.parametrize(("name", "folder"), [("warm", ("lora", "one")), ("joint", ("joint", "three"))])
def test_answers_are_those_of_the_component_that_serves_the_task_in_the_end(run, name, folder):
    method, through = folder
    rows = [row for _, row in read_jsonl(run.task_folder(method, 0, through) / "predictions.jsonl")]
    rows = [row for row in rows if (row["task"], row["split"]) == ("one", "test")]
    assert len(rows) == 4
    choice = Choice(method=name, seed=0, task="one")
    found = answer(run, choice, [row["prompt"] for row in rows], device="cpu")
    assert found == [row["completion"] for row in rows]


def test_a_warm_newborn_shares_no_memory_with_the_one_before(lab):
    component = build_component(METHODS["warm"], lab.base, lab.settings)
    component.attach("one", seed=0)
    for parameter in component.parameters("one").values():
        parameter.data += 1.0
    component.attach("two", seed=1)
    copy_tensors(component, "one", "two")
    before = {key: tensor.clone() for key, tensor in component.parameters("one").items()}
    for key, parameter in component.parameters("two").items():
        assert torch.equal(parameter, before[key])
        parameter.data += 1.0
    assert all(torch.equal(tensor, before[key]) for key, tensor in component.parameters("one").items())


def test_the_examples_of_joint_training_are_those_of_all_tasks_so_far_in_their_order(lab):
    joint = METHODS["joint"]
    assert gather_examples(lab, joint, lab.tasks[0]) is lab.encoded["one"]
    rows = gather_examples(lab, joint, lab.tasks[1])
    assert isinstance(rows, JoinedExamples)
    parts = [lab.encoded["one"], lab.encoded["two"]]
    assert [row.identifier for row in rows] == [row.identifier for part in parts for row in part]
    assert isinstance(gather_examples(lab, METHODS["finetune"], lab.tasks[1]), EncodedExamples)
    assert choose_training(lab, joint, lab.tasks[2]).steps == 6
    assert choose_training(lab, METHODS["warm"], lab.tasks[2]) == lab.settings.training


def test_epochs_of_joint_training_are_those_of_its_tasks(long_tree):
    tree = long_tree(2, methods=["joint"], training={"steps": None, "epochs": 1.5})
    lab = open_lab(build_settings(tree), Silence())
    assert [choose_training(lab, METHODS["joint"], task).steps for task in lab.tasks] == [3, 6]


class Crash(BaseException):
    """What no handler may stop."""


def read_files(run):
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path.relative_to(run.path).as_posix() not in OWN_TO_A_SESSION
    }


@pytest.fixture(scope="module")
def checkpointed(quick_tree):
    return build_settings(
        quick_tree(methods=["warm", "joint"], checkpoints={"seconds": 0}, training={"steps": 3})
    )


@pytest.fixture(scope="module")
def uninterrupted(checkpointed, listen, asked, tmp_path_factory):
    """The run, never interrupted; no two of its components have the same bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "predict", listen(asked))
        return run_experiment(checkpointed, root=tmp_path_factory.mktemp("uninterrupted"), name="r")


# Trainings take 3 steps each, joint's second 6: in the second of warm, between both, in the second of joint.
@pytest.mark.parametrize("steps", [*(pytest.param(n, marks=pytest.mark.slow) for n in (4, 6)), 11])
def test_every_schedule_goes_on_after_a_crash_in_any_training(
    monkeypatch, checkpointed, uninterrupted, tmp_path, steps
):
    done = []

    def differentiate_next(*arguments):
        if len(done) == steps:
            raise Crash
        done.append(None)
        return real(*arguments)

    real = training.differentiate_next
    with monkeypatch.context() as patch:
        patch.setattr(training, "differentiate_next", differentiate_next)
        with pytest.raises(Crash):
            run_experiment(checkpointed, root=tmp_path, name="r")
    found = resume_experiment(RunDirectory(tmp_path / "r"))
    assert read_files(found) == read_files(uninterrupted)
    for key in ("R", "continual"):
        for name in checkpointed.methods:
            whole = find_walk(uninterrupted.read_results(), name)
            assert find_walk(found.read_results(), name)[key] == whole[key]


@pytest.mark.slow
def test_a_damaged_component_is_trained_again_from_the_one_before(
    monkeypatch, checkpointed, uninterrupted, tmp_path
):
    def die(*_, **__):
        raise Crash

    with monkeypatch.context() as patch:  # after all components are there
        patch.setattr("codestrata.experiment.walk.describe_run", die)
        with pytest.raises(Crash):
            run_experiment(checkpointed, root=tmp_path, name="r")
    broken = RunDirectory(tmp_path / "r")
    for name in checkpointed.methods:
        shutil.rmtree(broken.task_folder(name, 0, "late"))
    fitted = []
    real = trainings.fit
    monkeypatch.setattr(trainings, "fit", lambda *a, **k: (fitted.append(k["label"]), real(*a, **k))[1])
    found = resume_experiment(broken)
    assert fitted == [f"{name}: train late" for name in checkpointed.methods]
    assert read_files(found) == read_files(uninterrupted)


def test_joint_begins_anew_for_every_task(lab):
    joint = METHODS["joint"]
    component = build_component(joint, lab.base, lab.settings)
    assert isinstance(component, WeightsComponent)
    trainings.prepare_component(lab, joint, component, lab.tasks[0], 0)
    newborn = {key: tensor.clone() for key, tensor in component.parameters("shared").items()}
    for parameter in component.parameters("shared").values():
        parameter.data += 1.0
    trainings.prepare_component(lab, joint, component, lab.tasks[1], 0)
    assert component.names == ("shared",)
    assert all(torch.equal(tensor, newborn[key]) for key, tensor in component.parameters("shared").items())
