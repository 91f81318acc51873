"""The tree of results against hand-worked numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from codestrata.records import Cell, Example, Metric, Prediction, Score, Task, Training
from codestrata.results.measured import Measured, MethodWalks, Repeat, Walk
from codestrata.results.tree import (
    build_matrix,
    choose_headline,
    describe_cell,
    describe_final,
    describe_matrix,
    describe_noise,
    describe_task,
    describe_training,
    describe_transfer,
    describe_walk,
    find_value,
)
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import Settings

TASKS = ({"name": "python"}, {"name": "javascript"})
RATE = Metric(name="pass@1", kind="rate", formula="", source="", implementation="")


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
        folder="base",
        **changes,
    )


def make_training(**changes):
    values = {
        "task": "python",
        "folder": "methods/lora/seed-0/python",
        "seed": 0,
        "learning_rate": 0.1,
        "steps": 2,
        "planned_steps": 2,
        "taken_over_from": None,
        "stopped": "all steps",
        "examples": 6,
        "tokens": 60,
        "padding": 0.25,
        "seconds": 2.0,
        "final_loss": 1.5,
        "losses": (2.0, 1.5),
        "parameters": 25,
        "total_parameters": 100,
        "component_bytes": 100,
        "component_fingerprint": "c" * 64,
        "peak_memory_mib": None,
        "memory_counter": "none",
        "base_fingerprint_before": "a",
        "base_fingerprint_after": "a",
        "base_dropout": False,
        "precision": "fp32",
        "passes": 2,
        "batch_tokens": 60,
        "states": None,
        "validation": None,
    }
    return Training(**{**values, **changes})


def make_walk(values, origins=None):
    """Cells of a 3 x 2 matrix."""
    return [
        make_cell(row, task, values[row][column], origin=origins[row][column] if origins else "decoded")
        for row in range(3)
        for column, task in enumerate(("python", "javascript"))
    ]


def make_measured(*walks, tasks=TASKS, schedule="sequential"):
    """A whole run of one method, as far as its matrices need it."""
    method = {"name": "lora", "component": "lora", "schedule": schedule, "retention": None}
    method["selection"] = "oracle"
    return Measured(
        run="mine",
        settings=Settings(tasks=(TaskSettings(name="python"),)),
        base={},
        base_cells=(),
        tasks=tasks,
        metrics=(RATE,),
        execution={},
        controls=(),
        methods=(MethodWalks(method=method, walks=walks),),
        repeats=(),
    )


def describe(cells, trainings=(), tasks=TASKS, *, schedule):
    walk = Walk(seed=0, trainings=tuple(map(describe_training, trainings)), cells=tuple(cells))
    return describe_walk(walk, make_measured(walk, tasks=tasks), schedule)


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


@pytest.mark.parametrize(
    ("template", "test", "prefix"),
    [
        ("lua: {}", "lua: b", "lua: "),
        ("lua: {} now", "lua: b", "lua: "),
        ("lua: {}", "b", None),
        ("{}", "lua: b", None),
    ],
)
def test_a_task_whose_prompts_all_begin_as_its_template_says_so(template, test, prefix):
    examples = [Example(identifier=prompt, prompt=prompt, target="t") for prompt in ("lua: a", test)]
    task = Task(
        name="lua",
        language="lua",
        objective="generate",
        evaluation_objective="generate",
        train=(examples[0],),
        validation=(),
        test=(examples[1],),
        prompt_template=template,
    )
    assert describe_task(task, "f", {})["prompt_prefix"] == prefix


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
    walk = describe(cells, [make_training()], schedule="sequential")
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
    walk = describe(cells, schedule="isolated")
    entries = walk["continual"]["pass@1"]
    for name in ("forgetting", "backward_transfer", "forward_transfer"):
        assert entries[name] == {"value": 0.0, "reason": None, "structural": True}
    assert not entries["average_accuracy"]["structural"]
    assert not entries["learning_accuracy"]["structural"]


def test_what_cannot_be_computed_is_none_with_a_reason_and_not_structural():
    cells = [make_cell(0, "python", 0.1), make_cell(1, "python", 0.8)]
    entries = describe(cells, tasks=TASKS[:1], schedule="isolated")["continual"]["pass@1"]
    assert entries["forgetting"]["value"] is None
    assert "at least 2" in entries["forgetting"]["reason"]
    assert not entries["forgetting"]["structural"]
    holes = describe(make_walk([[None] * 2] * 3), schedule="isolated")
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


def make_seed(value):
    return Walk(seed=0, trainings=(), cells=tuple(make_walk([[0.0, 0.0], [0.5, 0.0], [value, 0.25]])))


def test_final_scores_are_means_over_seeds_of_the_last_row():
    walks = [make_seed(0.5), make_seed(1.0)]
    final = describe_final(MethodWalks(method={"name": "lora"}, walks=tuple(walks)), ["pass@1"])
    assert list(final["test"]) == ["python", "javascript"]
    found = final["test"]["python"]["pass@1"]
    assert (found["value"], found["seeds"], found["n"]) == (0.75, 2, 1)
    assert final["test"]["javascript"]["pass@1"]["value"] == 0.25


def test_a_seed_without_a_value_leaves_the_mean_without_one():
    final = describe_final(
        MethodWalks(method={"name": "lora"}, walks=(make_seed(0.5), make_seed(None))), ["pass@1"]
    )
    found = final["test"]["python"]["pass@1"]
    assert (found["value"], found["reason"]) == (None, "no tests")


def test_transfer_puts_own_and_foreign_scores_into_one_matrix():
    cells = make_walk([[0.1, 0.2], [0.9, 0.2], [0.9, 0.8]])
    foreign = (make_cell(1, "javascript", 0.3), make_cell(2, "python", 0.4))
    walk = Walk(seed=0, trainings=(), cells=tuple(cells), transfer=foreign)
    found = describe_transfer(walk, ["python", "javascript"], ["pass@1"], "isolated")
    assert found["X"] == {"pass@1": [[0.1, 0.2], [0.9, 0.3], [0.4, 0.8]]}
    assert len(found["cells"]) == 2


def test_noise_is_the_largest_difference_of_the_headline_metric():
    def repeat(first, second):
        return Repeat(
            method="lora", seed=0, first=make_cell(2, "python", first), second=make_cell(2, "python", second)
        )

    noise = describe_noise([repeat(0.5, 0.25), repeat(0.5, 0.625), repeat(None, 0.5)], "pass@1")
    assert noise["largest"] == 0.25
    assert [entry["differences"]["pass@1"] for entry in noise["entries"]] == [-0.25, 0.125, None]
    assert [entry["identical"] for entry in noise["entries"]] == [1, 1, 1]
    empty = describe_noise([], "pass@1")
    assert (empty["largest"], empty["reason"]) == (None, "no weights were evaluated twice")
