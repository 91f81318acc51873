"""Which differences count: pairs of methods, controls, and what cannot be compared."""

import numpy as np
import pytest

from codestrata.records import Cell, Score
from codestrata.results.measured import Control, Measured, MethodWalks, Walk
from codestrata.results.verdicts import compare_methods, compare_with_controls, judge_controls
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import Settings

N = 100


def make_cell(task, passes, *, row=1, split="test"):
    score = Score(metric="pass@1", value=None, n=0, reason="no tests")
    if passes is not None:
        values = tuple(map(float, passes))
        score = Score(
            metric="pass@1", value=float(np.mean(values)), n=len(values), per_example=values, aggregate="rate"
        )
    return Cell(
        row=row,
        trained_through=None if row == 0 else "python",
        task=task,
        split=split,
        origin="decoded",
        predictions=(),
        scores=(score,),
        folder="base",
    )


def share(count, n=N):
    """The first ``count`` of n examples pass."""
    return [1] * count + [0] * (n - count)


def make_method(name, *passes_of_seeds, component="lora"):
    walks = tuple(
        Walk(
            seed=seed, trainings=(), cells=(make_cell("python", share(0), row=0), make_cell("python", passes))
        )
        for seed, passes in enumerate(passes_of_seeds)
    )
    return MethodWalks(method={"name": name, "component": component, "schedule": "isolated"}, walks=walks)


def measure(*methods, base=None, echo=None):
    controls = (Control(name="echo", about="", source="", cells=(make_cell("python", echo or share(0)),)),)
    return Measured(
        run="mine",
        settings=Settings(tasks=(TaskSettings(name="python"),)),
        base={},
        base_cells=(make_cell("python", base or share(0), row=0),),
        tasks=({"name": "python"},),
        metrics=(),
        execution={},
        controls=controls,
        methods=methods,
        repeats=(),
    )


def test_a_clear_difference_has_a_winner_and_a_small_one_has_none():
    good, better, bad = (
        make_method("good", share(80)),
        make_method("better", share(82)),
        make_method("bad", share(30)),
    )
    found = compare_methods(measure(good, better, bad), "pass@1")
    assert [(entry["first"], entry["second"], entry["verdict"]) for entry in found] == [
        ("good", "better", "cannot tell"),
        ("good", "bad", "first"),
        ("better", "bad", "first"),
    ]
    for entry in found:
        low, high = entry["interval"]["low"], entry["interval"]["high"]
        assert low <= entry["difference"] <= high
        assert (entry["verdict"] == "cannot tell") == (low <= 0 <= high)
        assert (entry["n"], entry["seeds"], entry["for_this_seed_only"]) == (N, 1, True)
    assert found[0]["difference"] == pytest.approx(-0.02)
    assert found[0]["examples_needed"] > 0


def test_the_untrained_base_is_no_contender():
    base = MethodWalks(method={"name": "base", "component": None, "schedule": "isolated"}, walks=())
    assert compare_methods(measure(base, make_method("lora", share(50))), "pass@1") == []


def test_a_difference_that_the_seeds_do_not_agree_on_is_no_verdict():
    first = make_method("first", share(60), share(90), share(30))
    second = make_method("second", share(40), share(30), share(70))
    (entry,) = compare_methods(measure(first, second), "pass@1")
    assert entry["verdict"] == "cannot tell"
    assert (entry["seeds"], entry["for_this_seed_only"]) == (3, False)
    assert entry["sign_flip_p"] is not None


def test_a_pair_without_a_value_has_a_reason_and_leaves_the_family():
    found = compare_methods(
        measure(make_method("good", share(80)), make_method("blind", None), make_method("bad", share(10))),
        "pass@1",
    )
    assert [entry["verdict"] for entry in found] == [None, "first", None]
    assert found[0]["reason"] == "no tests"
    assert found[1]["family"] == 1


def test_above_the_controls_means_above_each_of_them():
    methods = [make_method("lora", share(60)), make_method("weak", share(2)), make_method("worse", share(10))]
    found = compare_with_controls(measure(*methods, base=share(1), echo=share(40)), "pass@1")
    assert [(entry["first"], entry["second"]) for entry in found[:2]] == [("lora", "base"), ("lora", "echo")]
    judged = judge_controls(found)
    assert [(entry["method"], entry["verdict"]) for entry in judged] == [
        ("lora", "above"),
        ("weak", "not above"),
        ("worse", "not above"),
    ]
    assert judged[1]["against"] == {"base": "cannot tell", "echo": "second"}


def test_a_control_that_cannot_be_told_apart_leaves_it_open():
    found = compare_with_controls(measure(make_method("lora", share(43)), echo=share(40)), "pass@1")
    (judged,) = judge_controls(found)
    assert judged["verdict"] == "cannot tell"
    assert judged["against"] == {"base": "first", "echo": "cannot tell"}


def test_controls_meet_every_seed():
    found = compare_with_controls(measure(make_method("lora", share(60), share(62))), "pass@1")
    assert {entry["seeds"] for entry in found} == {2}
