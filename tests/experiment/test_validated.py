"""A run whose trainings are validated: what it keeps, says, and does after it was broken off."""

import json

import pytest

from codestrata.checkpoints import Checkpoints
from codestrata.data.batches import JoinedExamples
from codestrata.data.tasks import load_task
from codestrata.errors import DataError, SettingsError
from codestrata.experiment import trainings
from codestrata.experiment.walk import resume_experiment, run_experiment
from codestrata.files import write_jsonl
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory

METHODS = ["joint", "replay"]
APART = {"seconds", "swap", "peak_memory_mib", "sessions", "examples_per_second", "tokens_per_second"}


class Crash(BaseException):
    """What no handler may stop."""


@pytest.fixture(scope="module")
def build(quick_tree, tmp_path_factory):
    """Makes the settings of a validated run; every training overfits soon."""
    path = tmp_path_factory.mktemp("own") / "own.jsonl"
    write_jsonl(path, [{"prompt": f"add {n} to xs", "target": f"return [x + {n}]"} for n in range(40)])

    def make(**training):
        tree = quick_tree(
            methods=METHODS,
            checkpoints={"seconds": 0},
            training={
                "steps": 6,
                "decay": "constant",
                "validation_steps": 1,
                "patience": 1,
                "keep": "best",
                **training,
            },
            weights={"learning_rate": 0.3},
            retention={"replay": {"size": 4}},
            decoding={"max_new_tokens": 2},
            measurement={"transfer": False, "agreement": False, "recheck": "off"},
        )
        counts = {"test_examples": 2, "path": str(path)}
        first, second = ({**task, **counts} for task in tree["tasks"])
        tree["tasks"] = [{**first, "validation_examples": 2}, {**second, "validation_examples": 1}]
        return build_settings(tree)

    return make


@pytest.fixture(scope="module")
def whole(build, tmp_path_factory):
    """The run, never interrupted; do not change it."""
    return run_experiment(build(), root=tmp_path_factory.mktemp("whole"), name="r")


def list_trainings(results):
    return {
        (method["name"], training["task"]): training
        for method in results["methods"]
        for entry in method["seeds"]
        for training in entry["trainings"]
    }


def forget_times(value):
    if isinstance(value, dict):
        return {key: forget_times(entry) for key, entry in value.items() if key not in APART}
    return [forget_times(entry) for entry in value] if isinstance(value, list) else value


def test_the_results_say_what_validation_saw_and_decided(whole):
    found = list_trainings(whole.read_results())
    assert len(found) == 4
    examples = {key: training["validation"]["examples"] for key, training in found.items()}
    assert examples == {
        ("joint", "early"): 2,
        ("joint", "late"): 3,  # of both its tasks
        ("replay", "early"): 2,
        ("replay", "late"): 1,
    }
    for training in found.values():
        validation = training["validation"]
        losses = [entry["loss"] for entry in validation["losses"]]
        assert validation["best_loss"] == min(losses)
        assert validation["kept_step"] == validation["best_step"] == 1 + losses.index(min(losses))
        assert [entry["step"] for entry in validation["losses"]] == list(range(1, len(losses) + 1))
        assert training["planned_steps"] in (6, 12)
        assert training["stopped"] == ("patience" if losses[-1] != min(losses) else "all steps")
        assert 0 < validation["seconds"] < training["seconds"]
    assert any(training["stopped"] == "patience" for training in found.values())


def test_the_report_and_the_events_say_it_too(whole):
    analysis = (whole.path / "results_analysis.md").read_text(encoding="utf-8")
    assert "## Validation\n" in analysis
    assert "none of its test examples had a part in any choice" in analysis
    events = [json.loads(line) for line in (whole.path / "events.jsonl").read_text("utf-8").splitlines()]
    trained = [event for event in events if event["event"] == "trained"]
    assert all(event["validation"]["losses"] for event in trained)


@pytest.mark.parametrize(
    "crash_at", [pytest.param(3, marks=pytest.mark.slow), 7, pytest.param(10, marks=pytest.mark.slow)]
)
def test_a_run_that_goes_on_keeps_the_same_weights(crash_at, build, whole, tmp_path, monkeypatch):
    offered = []

    def offer(self, step, build, *, last=False):
        offered.append(step)
        if len(offered) == crash_at:
            raise Crash
        kept(self, step, build, last=last)

    kept = Checkpoints.offer
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "offer", offer)
        with pytest.raises(Crash):
            run_experiment(build(), root=tmp_path, name="r")
    resumed = resume_experiment(RunDirectory(path=tmp_path / "r"))
    assert forget_times(resumed.read_results()) == forget_times(whole.read_results())
    for path in whole.path.rglob("*.safetensors"):
        assert (resumed.path / path.relative_to(whole.path)).read_bytes() == path.read_bytes()


def test_nothing_is_validated_on_that_the_task_trains_on_or_is_tested_on(build, tmp_path, monkeypatch):
    seen, fit = [], trainings.fit

    def look(component, name, rows, settings, *, validation, label, **values):
        parts = validation.parts if isinstance(validation, JoinedExamples) else [validation]
        seen.append((label, len(rows), [part.identifiers for part in parts]))
        return fit(component, name, rows, settings, validation=validation, label=label, **values)

    monkeypatch.setattr(trainings, "fit", look)
    settings = build(steps=1)
    run_experiment(settings, root=tmp_path, name="r")
    early, late = map(load_task, settings.tasks)
    held_out = [
        tuple(example.identifier for example in task.validation)
        for task in (early, late)
        if not {example.identifier for example in task.validation}
        & {example.identifier for example in (*task.train, *task.test)}
    ]
    assert [len(identifiers) for identifiers in held_out] == [2, 1]
    assert [entry for entry in seen if entry[0] != "joint: train late"] == [
        (f"{name}: train {task}", 6, [held_out[place]])
        for name in METHODS
        for place, task in enumerate(("early", "late"))
        if (name, task) != ("joint", "late")
    ]
    assert ("joint: train late", 12, held_out) in seen


def test_a_task_without_validation_examples_is_refused_by_name(build, quick_tree, tmp_path):
    path = tmp_path / "one-prompt.jsonl"  # which is never in two splits
    rows = [{"prompt": "add", "target": f"return {n}"} for n in range(9)]
    write_jsonl(path, rows)
    write_jsonl(tmp_path / "test.jsonl", [{"prompt": "add 99", "target": "return 99"}])
    tree = quick_tree(training={"validation_steps": 1})
    tree["tasks"][1] |= {"path": str(path), "test_path": str(tmp_path / "test.jsonl")}
    with pytest.raises(DataError, match=r"Task 'late' has no validation examples \(100 were asked for"):
        run_experiment(build_settings(tree), root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    tree["tasks"][1]["validation_examples"] = 0
    with pytest.raises(SettingsError, match=r"tasks.validation_examples is 0 for 'late'"):
        build_settings(tree)
