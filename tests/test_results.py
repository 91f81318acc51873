"""The tree of results against hand-worked numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from codestrata.evaluation import score
from codestrata.records import Cell, Example, Prediction, Score, Task, Training
from codestrata.results import (
    METRICS,
    build_matrix,
    choose_headline,
    describe_cell,
    describe_matrix,
    describe_score,
    describe_task,
    describe_training,
    describe_walk,
    estimate_interval,
    find_value,
)
from codestrata.settings import ExecutionSettings


def make_prediction(**changes):
    return Prediction(**{"identifier": "1", "prompt": "p", "target": "t", "completion": "c", **changes})


def make_cell(row, task, value, *, origin="decoded", split="test", metric="pass@1", **changes):
    return Cell(
        row=row,
        trained_through=None if row == 0 else ("python", "javascript")[row - 1],
        task=task,
        split=split,
        origin=origin,
        predictions=(make_prediction(),),
        scores=(Score(metric=metric, value=value, n=1, reason=None if value is not None else "no tests"),),
        **changes,
    )


def make_training(**changes):
    values = {
        "task": "python",
        "folder": "methods/lora/seed-0/python",
        "seed": 0,
        "learning_rate": 0.1,
        "steps": 2,
        "examples": 6,
        "tokens": 60,
        "padding": 0.25,
        "seconds": 2.0,
        "final_loss": 1.5,
        "losses": (2.0, 1.5),
        "parameters": 25,
        "total_parameters": 100,
        "component_bytes": 100,
        "peak_memory_mib": None,
        "memory_counter": "none",
        "base_fingerprint_before": "a",
        "base_fingerprint_after": "a",
        "base_dropout": False,
    }
    return Training(**{**values, **changes})


def make_walk(values, origins=None):
    """Cells of a 3 x 2 matrix."""
    return [
        make_cell(row, task, values[row][column], origin=origins[row][column] if origins else "decoded")
        for row in range(3)
        for column, task in enumerate(("python", "javascript"))
    ]


@pytest.mark.parametrize("metric", ["exact_match", "syntax_pass", "pass@1"])
def test_a_rate_has_wilsons_interval(metric):
    interval = estimate_interval(Score(metric=metric, value=0.5, n=4, per_example=(1.0, 0.0, 1.0, 0.0)))
    assert interval.method == "wilson"
    assert (interval.low, interval.high) == pytest.approx((0.1500, 0.8500), abs=1e-4)


def test_another_mean_has_a_bootstrap_interval():
    interval = estimate_interval(Score(metric="similarity", value=0.5, n=4, per_example=(0.2, 0.4, 0.6, 0.8)))
    assert interval.method == "bootstrap"
    assert 0.2 <= interval.low < 0.5 < interval.high <= 0.8


@pytest.mark.parametrize(
    ("value", "per_example"), [(None, None), (0.5, None), (1.0, (1.0,)), (None, (1.0, 0.0))]
)
def test_no_interval_is_invented(value, per_example):
    assert estimate_interval(Score(metric="pass@1", value=value, n=2, per_example=per_example)) is None


def test_a_missing_score_keeps_its_reason():
    found = describe_score(Score(metric="pass@1", value=None, n=0, reason="no tests"))
    assert found == {"value": None, "n": 0, "interval": None, "reason": "no tests", "variant": None}


def test_a_cell_counts_unfinished_answers_and_leaves_predictions_out():
    cell = make_cell(1, "python", 1.0, origin="rechecked", identical=True)
    tree = describe_cell(cell)
    assert tree["origin"] == "rechecked"
    assert tree["identical_predictions"] is True
    assert tree["unfinished"] == 0
    assert "predictions" not in tree
    assert tree["scores"]["pass@1"]["value"] == 1.0
    cut = replace(cell, predictions=(make_prediction(finished=False), make_prediction()))
    assert describe_cell(cut)["unfinished"] == 1


def test_a_training_has_rates_and_no_list_of_losses():
    tree = describe_training(make_training())
    assert "losses" not in tree
    assert tree["examples_per_second"] == 3
    assert tree["tokens_per_second"] == 30
    assert tree["parameter_share"] == 0.25


def test_a_task_has_sizes_and_drops():
    example = Example(identifier="1", prompt="p", target="t")
    task = Task(
        name="python",
        language="python",
        objective="copy",
        evaluation_objective="continue",
        train=(example, example),
        validation=(),
        test=(example,),
        dropped={"no docstring": 3},
    )
    tree = describe_task(task, "f", {"train_prompts": 1, "train_targets": 0})
    assert tree["examples"] == {"train": 2, "validation": 0, "test": 1, "unseen": 0}
    assert tree["dropped"] == {"no docstring": 3}
    assert tree["truncated"] == {"train_prompts": 1, "train_targets": 0}
    assert (tree["objective"], tree["evaluation_objective"]) == ("copy", "continue")


def test_the_matrix_has_a_row_for_the_base_and_holes_where_nothing_was_measured():
    cells = [
        make_cell(0, "python", 0.1),
        make_cell(0, "javascript", None),
        make_cell(1, "python", 0.8),
        make_cell(1, "python", 0.3, split="unseen"),
        make_cell(2, "javascript", 0.6),
    ]
    matrix = build_matrix(cells, ["python", "javascript"], "pass@1", "test")
    np.testing.assert_array_equal(matrix, [[0.1, np.nan], [0.8, np.nan], [np.nan, 0.6]])
    tree = describe_matrix(matrix)
    assert tree == [[0.1, None], [0.8, None], [None, 0.6]]
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree
    unseen = describe_matrix(build_matrix(cells, ["python", "javascript"], "pass@1", "unseen"))
    assert unseen == [[None, None], [0.3, None], [None, None]]


def test_a_sequential_walk_by_hand():
    cells = make_walk([[0.1, 0.2], [0.9, 0.3], [0.4, 0.8]])
    walk = describe_walk(cells, [make_training()], ["python", "javascript"], isolated=False)
    found = {name: entry["value"] for name, entry in walk["continual"]["pass@1"].items()}
    assert found == pytest.approx(
        {
            "average_accuracy": 0.6,
            "learning_accuracy": 0.85,
            "backward_transfer": -0.5,
            "forward_transfer": 0.1,
            "forgetting": 0.5,
        }
    )
    assert not any(entry["structural"] for entry in walk["continual"]["pass@1"].values())
    assert walk["R"] == {"test": {"pass@1": [[0.1, 0.2], [0.9, 0.3], [0.4, 0.8]]}}
    assert len(walk["cells"]) == 6
    assert len(walk["trainings"]) == 1


def test_an_isolated_walk_is_marked_structural():
    cells = make_walk([[0.1, 0.2], [0.9, 0.2], [0.9, 0.8]])
    walk = describe_walk(cells, [], ["python", "javascript"], isolated=True)
    entries = walk["continual"]["pass@1"]
    for name in ("forgetting", "backward_transfer", "forward_transfer"):
        assert entries[name] == {"value": 0.0, "reason": None, "structural": True}
    assert not entries["average_accuracy"]["structural"]
    assert not entries["learning_accuracy"]["structural"]


def test_what_cannot_be_computed_is_none_with_a_reason_and_not_structural():
    cells = [make_cell(0, "python", 0.1), make_cell(1, "python", 0.8)]
    entries = describe_walk(cells, [], ["python"], isolated=True)["continual"]["pass@1"]
    assert entries["forgetting"]["value"] is None
    assert "at least 2" in entries["forgetting"]["reason"]
    assert not entries["forgetting"]["structural"]
    holes = describe_walk(make_walk([[None] * 2] * 3), [], ["python", "javascript"], isolated=True)
    for entry in holes["continual"]["pass@1"].values():
        assert entry["value"] is None
        assert "not measured" in entry["reason"]


def test_the_headline_is_the_pass_rate_where_every_task_has_it():
    def make_scored(task, split, rate):
        scores = (Score(metric="pass@1", value=rate, n=1), Score(metric="bleu", value=0.1, n=1))
        return replace(make_cell(0, task, 0.0, split=split), scores=scores)

    tested = [make_scored("python", "test", 0.0), make_scored("javascript", "test", 0.5)]
    assert choose_headline(tested) == "pass@1"
    assert choose_headline([*tested, make_scored("lua", "unseen", None)]) == "pass@1"
    assert choose_headline([*tested, make_scored("lua", "test", None)]) == "bleu"


def test_a_value_is_found_by_its_metric():
    scores = (Score(metric="bleu", value=0.25, n=1),)
    assert find_value(scores, "bleu") == 0.25
    assert find_value(scores, "pass@1") is None


def test_every_metric_that_is_scored_is_described():
    scored = {found.metric for found in score([], "python", ExecutionSettings())}
    assert scored == set(METRICS)
