"""Intransigence and expert gap: by hand, against which reference, and why there is none."""

import pytest

from codestrata.analysis import matrix
from codestrata.records import Cell, Metric, Score
from codestrata.results.measured import Measured, MethodWalks, Walk
from codestrata.results.references import describe_references, find_reference
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import Settings

TASKS = ("python", "javascript")
N = 10


def make_score(value):
    if value is None:
        return Score(metric="pass@1", value=None, n=N, reason="no tests")
    passed = tuple(float(number < round(value * N)) for number in range(N))
    return Score(metric="pass@1", value=value, n=N, per_example=passed, aggregate="rate")


def make_walk(rows, seed=0):
    cells = tuple(
        Cell(
            row=row,
            trained_through=None if row == 0 else TASKS[row - 1],
            task=task,
            split="test",
            origin="decoded",
            predictions=(),
            scores=(make_score(values[column]),),
            folder="x",
        )
        for row, values in enumerate(rows)
        for column, task in enumerate(TASKS)
    )
    return Walk(seed=seed, trainings=(), cells=cells)


def make_method(name, component, schedule, *rows, retention=None, selection="oracle"):
    method = {"name": name, "component": component, "schedule": schedule, "retention": retention}
    method["selection"] = selection
    return MethodWalks(method=method, walks=tuple(make_walk(of_seed, n) for n, of_seed in enumerate(rows)))


def make_measured(*methods):
    return Measured(
        run="mine",
        settings=Settings(tasks=(TaskSettings(name="python"),)),
        base={},
        base_cells=(),
        tasks=tuple({"name": name} for name in TASKS),
        metrics=(Metric(name="pass@1", kind="rate", formula="", source="", implementation=""),),
        execution={},
        controls=(),
        methods=methods,
        repeats=(),
    )


SEQUENCE = [[0.0, 0.0], [0.8, 0.1], [0.3, 0.6]]
JOINT = [[0.0, 0.0], [0.8, 0.2], [0.7, 0.9]]
SINGLE = [[0.0, 0.0], [0.9, 0.0], [0.9, 0.8]]
OTHERS = [[0.0, 0.0], [0.5, 0.0], [0.5, 0.5]]


def describe(entry, *others):
    return describe_references(entry, make_measured(entry, *others), ["pass@1"])


def test_gaps_by_hand():
    entry = make_method("finetune", "weights", "sequential", SEQUENCE)
    joint = make_method("joint", "weights", "joint", JOINT)
    single = make_method("single", "weights", "isolated", SINGLE)
    found = describe(entry, joint, single)
    assert (found["intransigence"]["reference"], found["expert_gap"]["reference"]) == ("joint", "single")
    gaps = {task: gap["value"] for task, gap in found["intransigence"]["metrics"]["pass@1"].items()}
    assert gaps == pytest.approx({"python": 0.0, "javascript": 0.3})
    gap = found["expert_gap"]["metrics"]["pass@1"]
    assert gap["value"] == pytest.approx(0.15)
    assert gap["value"] == pytest.approx(matrix.expert_gap([0.9, 0.8], SEQUENCE))
    assert list(gaps.values()) == pytest.approx(list(matrix.intransigence([0.8, 0.9], SEQUENCE)))
    assert gap["interval"]["low"] < 0.15 < gap["interval"]["high"]
    assert (gap["seeds"], gap["reason"]) == (1, None)


def test_seeds_are_averaged():
    entry = make_method("finetune", "weights", "sequential", SEQUENCE, OTHERS)
    single = make_method("single", "weights", "isolated", SINGLE, SINGLE)
    gap = describe(entry, single)["expert_gap"]["metrics"]["pass@1"]
    assert gap["value"] == pytest.approx((0.15 + 0.35) / 2)
    assert gap["seeds"] == 2


def test_a_reference_of_the_same_kind_comes_before_one_that_trains_all_weights():
    single = make_method("single", "weights", "isolated", SINGLE)
    lora = make_method("lora", "lora", "isolated", OTHERS)
    shared = make_method("lora-seq", "lora", "sequential", SEQUENCE)
    measured = make_measured(single, lora, shared)
    assert find_reference(shared, measured, "isolated") is lora
    assert find_reference(lora, measured, "isolated") is single
    finetune = make_method("finetune", "weights", "sequential", SEQUENCE)
    assert find_reference(finetune, measured, "isolated") is single
    layers = make_method("layers", "layers", "isolated", SEQUENCE)
    assert find_reference(layers, measured, "isolated") is single
    assert isinstance(find_reference(layers, make_measured(lora, shared), "isolated"), str)


@pytest.mark.parametrize(
    ("method", "intransigence", "gap"),
    [
        (("base", None, "isolated"), "nothing was trained", "nothing was trained"),
        (("joint", "weights", "joint"), "the method is the reference itself", "add an expert for each task"),
        (("single", "weights", "isolated"), "such as 'joint'", "the method is the reference itself"),
        (("ewc", "weights", "sequential"), "such as 'joint'", "such as 'single'"),
    ],
)
def test_what_a_run_lacks_is_a_reason(method, intransigence, gap):
    found = describe(make_method(*method, SEQUENCE))
    for key, said in (("intransigence", intransigence), ("expert_gap", gap)):
        assert found[key]["reference"] is None
        entry = found[key]["metrics"]["pass@1"]
        entry = entry["python"] if key == "intransigence" else entry
        assert (entry["value"], entry["interval"]) == (None, None)
        assert said in entry["reason"]


def test_a_method_with_retention_is_no_reference():
    entry = make_method("finetune", "weights", "sequential", SEQUENCE)
    other = make_method("kept", "weights", "joint", JOINT, retention="replay")
    assert isinstance(find_reference(entry, make_measured(entry, other), "joint"), str)


def test_a_score_that_is_missing_on_either_side_is_a_reason():
    holes = [[0.0, 0.0], [0.8, 0.1], [0.3, None]]
    entry = make_method("finetune", "weights", "sequential", SEQUENCE)
    for own, reference in ((SEQUENCE, holes), (holes, SEQUENCE)):
        entry = make_method("finetune", "weights", "sequential", own)
        gaps = describe(entry, make_method("joint", "weights", "joint", reference))["intransigence"]
        assert gaps["reference"] == "joint"
        assert gaps["metrics"]["pass@1"]["javascript"]["value"] is None
        assert gaps["metrics"]["pass@1"]["javascript"]["reason"] == "no tests"
        assert gaps["metrics"]["pass@1"]["python"]["value"] == 0.0
