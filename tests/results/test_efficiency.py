"""Scores by the part of the training data, against numbers worked out by hand."""

import pytest

from codestrata.records import Cell, Metric, Score
from codestrata.results.efficiency import describe_efficiency, explain_no_curve
from codestrata.results.measured import Measured, MethodWalks, Portion, Walk
from codestrata.settings.sections import MeasurementSettings
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import Settings

N = 60
METRIC = Metric(name="pass@1", kind="rate", formula="", source="", implementation="")


def make_cell(passes, row=1):
    values = [1.0] * passes + [0.0] * (N - passes)
    found = Score(metric="pass@1", value=passes / N, n=N, per_example=tuple(values), aggregate="rate")
    return Cell(
        row=row,
        trained_through="a" if row else None,
        task="a",
        split="test",
        origin="decoded",
        predictions=(),
        scores=(found,),
        folder="base",
    )


def make_walk(whole, half, seed=0, order=0):
    parts = (Portion(fraction=0.5, training={"examples": 5}, cell=make_cell(half)),)
    return Walk(
        seed=seed,
        order=order,
        trainings=({},),
        cells=(make_cell(0, row=0), make_cell(whole)),
        curve=None if order else parts,
    )


def make_method(*walks, name="lora", schedule="isolated", component="lora", selection="oracle"):
    method = {"name": name, "component": component, "schedule": schedule, "selection": selection}
    return MethodWalks(method=method, walks=walks)


def measure(*methods, fractions=(0.5,)):
    return Measured(
        run="mine",
        settings=Settings(
            tasks=(TaskSettings(name="a"),),
            measurement=MeasurementSettings(data_fractions=fractions),
        ),
        base={},
        base_cells=(),
        tasks=({"name": "a", "examples": {"train": 10}},),
        metrics=(METRIC,),
        execution={},
        controls=(),
        methods=methods,
        repeats=(),
    )


def test_nothing_is_told_where_nothing_was_asked():
    assert describe_efficiency(measure(make_method(make_walk(30, 20)), fractions=()), "pass@1") is None


def test_every_part_has_its_scores_over_seeds():
    found = describe_efficiency(measure(make_method(make_walk(30, 20), make_walk(36, 10, seed=1))), "pass@1")
    half, whole = found["methods"]["lora"]["a"]
    assert (half["fraction"], half["examples"]) == (0.5, 5)
    assert (whole["fraction"], whole["examples"]) == (1.0, 10)
    assert half["scores"]["pass@1"]["value"] == pytest.approx(15 / N)
    assert whole["scores"]["pass@1"]["value"] == pytest.approx(33 / N)
    assert (half["scores"]["pass@1"]["seeds"], half["scores"]["pass@1"]["n"]) == (2, N)
    assert half["scores"]["pass@1"]["interval"]["method"] == "hierarchical"


@pytest.mark.parametrize(
    ("whole", "half", "verdict"), [(50, 10, "first"), (10, 50, "second"), (31, 30, "cannot tell")]
)
def test_whether_more_data_helps_is_tested_pair_by_pair(whole, half, verdict):
    found = describe_efficiency(measure(make_method(make_walk(whole, half))), "pass@1")
    (entry,) = found["comparisons"]
    assert (entry["method"], entry["fraction"]) == ("lora", 0.5)
    assert entry["comparison"]["difference"] == pytest.approx((whole - half) / N)
    assert entry["comparison"]["verdict"] == verdict
    assert (entry["comparison"]["first"], entry["comparison"]["second"]) == (
        "lora",
        "lora on 0.5 of the data",
    )


def test_all_parts_are_one_family():
    methods = (make_method(make_walk(30, 20)), make_method(make_walk(30, 25), name="ia3"))
    found = describe_efficiency(measure(*methods), "pass@1")
    assert {entry["comparison"]["family"] for entry in found["comparisons"]} == {2}


def test_parts_are_those_of_the_first_order():
    method = make_method(make_walk(30, 20), make_walk(40, 0, order=1))
    found = describe_efficiency(measure(method), "pass@1")
    assert found["methods"]["lora"]["a"][1]["scores"]["pass@1"]["value"] == pytest.approx(0.5)


def test_methods_without_parts_say_why():
    found = describe_efficiency(
        measure(
            make_method(make_walk(30, 20)),
            make_method(make_walk(0, 0, order=1), name="finetune", schedule="sequential"),
        ),
        "pass@1",
    )
    assert list(found["not_measured"]) == ["finetune"]


@pytest.mark.parametrize(
    ("component", "schedule", "selection", "said"),
    [
        (None, "isolated", "oracle", "nothing is trained"),
        ("lora", "isolated", "routed", "told the task"),
        ("weights", "joint", "oracle", "share what is trained"),
        ("lora", "isolated", "oracle", None),
        ("lora", "warm", "oracle", None),
    ],
)
def test_which_methods_have_parts(component, schedule, selection, said):
    reason = explain_no_curve(component, schedule, selection)
    assert reason is None if said is None else said in reason
