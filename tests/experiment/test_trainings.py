"""What a retention carries from task to task: a run that goes on ends as if it never had been broken off."""

import pytest
import torch
from safetensors.torch import load_file

from codestrata import journal as journals
from codestrata.checkpoints import TENSORS_FILE, Checkpoints
from codestrata.experiment.walk import resume_experiment, run_experiment
from codestrata.files import read_json
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory

METHODS = ["replay", "ewc", "olora", "distill"]
SLOW = pytest.mark.slow
OWN_TO_A_SESSION = {
    "events.jsonl",
    "experimental_results.json",
    "results_analysis.md",
    "checksums.json",
    "done.json",
}


class Crash(BaseException):
    """What no handler may stop."""


@pytest.fixture(scope="module")
def build(quick_tree):
    """Makes the settings of a run of some methods, with a checkpoint after every step."""

    def make(*methods, tasks=2):
        tree = quick_tree(
            methods=methods,
            checkpoints={"seconds": 0},
            training={"steps": 3},
            retention={"replay": {"size": 4}, "ewc": {"examples": 3}},
            decoding={"max_new_tokens": 2},
            measurement={"transfer": False, "agreement": False, "recheck": "off"},
        )
        (early, late) = tree["tasks"]
        three = [early, late, {**late, "name": "last", "seed": 2}]
        tree["tasks"] = [{**task, "test_examples": 2, "validation_examples": 0} for task in three[:tasks]]
        return build_settings(tree)

    return make


@pytest.fixture(scope="module")
def whole(build, tmp_path_factory):
    """Gives the finished run of a method, never interrupted; do not change it."""
    runs = {}

    def find(*methods, tasks=2):
        if (methods, tasks) not in runs:
            root = tmp_path_factory.mktemp("whole")
            runs[methods, tasks] = run_experiment(build(*methods, tasks=tasks), root=root, name="r")
        return runs[methods, tasks]

    return find


def read_files(run):
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path.relative_to(run.path).as_posix() not in OWN_TO_A_SESSION
    }


def read_losses(run):
    return [
        [entry["final_loss"] for entry in seed["trainings"]]
        for method in run.read_results()["methods"]
        for seed in method["seeds"]
    ]


def assert_same_run(found, whole):
    assert read_files(found) == read_files(whole)
    assert read_losses(found) == read_losses(whole)


def run_until(settings, root):
    with pytest.raises(Crash):
        run_experiment(settings, root=root, name="r")
    return RunDirectory(root / "r")


def break_off_in(monkeypatch, task, step, settings, root):
    """A run that dies once the checkpoint after a step of the training on ``task`` is stored."""

    def offer(self, done, build, *, last=False, real=Checkpoints.offer):
        real(self, done, build, last=last)
        if self.folder.name == task and done == step:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "offer", offer)
        return run_until(settings, root)


@pytest.mark.parametrize("method", [*METHODS[:2], *(pytest.param(name, marks=SLOW) for name in METHODS[2:])])
def test_a_run_broken_off_in_the_second_task_ends_in_the_same_bytes(
    method, monkeypatch, build, whole, tmp_path
):
    broken = break_off_in(monkeypatch, "late", 2, build(method), tmp_path)
    assert len(list((broken.journal_folder / "trainings").rglob("*.json"))) == 1
    assert_same_run(resume_experiment(broken), whole(method))


@SLOW
@pytest.mark.parametrize("method", METHODS)
def test_a_run_broken_off_in_the_third_task_ends_in_the_same_bytes(
    method, monkeypatch, build, whole, tmp_path
):
    broken = break_off_in(monkeypatch, "last", 1, build(method, tasks=3), tmp_path)
    assert_same_run(resume_experiment(broken), whole(method, tasks=3))


def test_a_run_broken_off_after_a_task_is_remembered_ends_in_the_same_bytes(
    monkeypatch, build, whole, tmp_path
):
    def write(path, text, real=journals.write_text):
        if path.as_posix().endswith("trainings/ewc/seed-0/early.json"):
            raise Crash  # what is kept of it lies there already; the training is not finished
        real(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(journals, "write_text", write)
        broken = run_until(build("ewc"), tmp_path)
    assert (broken.journal_folder / "retention/ewc/seed-0/early" / TENSORS_FILE).exists()
    assert_same_run(resume_experiment(broken), whole("ewc"))


@SLOW
def test_a_task_of_which_nothing_is_remembered_is_trained_again(monkeypatch, build, whole, tmp_path):
    broken = break_off_in(monkeypatch, "late", 2, build("ewc"), tmp_path)
    (broken.journal_folder / "retention/ewc/seed-0/early" / TENSORS_FILE).write_bytes(b"?")
    said = []
    nothing = staticmethod(lambda *_: None)
    listener = type("Listener", (), {"start": nothing, "advance": nothing, "say": staticmethod(said.append)})
    assert_same_run(resume_experiment(broken, progress=listener()), whole("ewc"))
    assert any("The task is trained again." in line for line in said)


def test_a_finished_run_keeps_nothing_of_what_was_remembered(whole):
    assert not whole("ewc").journal_folder.exists()


@pytest.mark.parametrize("method", ["replay", "ewc", pytest.param("distill", marks=SLOW)])
def test_a_retention_changes_the_second_task_and_not_the_first(method, whole):
    def read(name, task):
        (path,) = (whole(name).path / f"methods/{name}/seed-0/{task}").glob("*.safetensors")
        return path.read_bytes()

    assert read(method, "early") == read("finetune", "early")
    assert read(method, "late") != read("finetune", "late")


@SLOW
def test_orthogonal_ranks_of_the_first_task_keep_their_bytes(whole):
    def read(task):
        return load_file(whole("olora").path / f"methods/olora/seed-0/{task}/adapter_model.safetensors")

    early, late = read("early"), read("late")
    for name, before in early.items():
        after = late[name]
        if ".lora_B." in name:
            before, after = before.t(), after.t()
        assert before.shape[0] == 4  # two ranks for each of two tasks
        assert torch.equal(before[:2], after[:2])
        assert not torch.equal(before[2:], after[2:])
        if ".lora_B." in name:
            assert not before[2:].any()


def test_a_component_says_what_protected_earlier_tasks(whole):
    about = read_json(whole("ewc").task_folder("ewc", 0, "late") / "component.json")
    assert about["retention"] == {"kind": "ewc", "strength": 10000.0, "decay": 1.0, "examples": 3}


def test_a_component_that_nothing_protected_says_so(quick_run):
    about = read_json(quick_run.task_folder("finetune", 0, "late") / "component.json")
    assert about["retention"] is None
