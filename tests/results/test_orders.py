"""What the order of the tasks does to a method, against numbers worked out by hand."""

import pytest

from codestrata.records import Cell, Metric, Score
from codestrata.results.measured import Measured, MethodWalks, Walk
from codestrata.results.orders import describe_orders
from codestrata.results.references import describe_references
from codestrata.results.tree import describe_final, describe_walk
from codestrata.results.verdicts import compare_methods
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import Settings

N = 4
TASKS = ("a", "b")
METRIC = Metric(name="score", kind="score", formula="", source="", implementation="")
# Rows 0 to 2; columns as the tasks came.
FIRST = [[0.0, 0.0], [0.8, 0.1], [0.5, 0.9]]  # a, b: ACC .7, F .3
SECOND = [[0.0, 0.0], [0.6, 0.2], [0.4, 0.7]]  # b, a: ACC .55, F .2


def make_cell(row, through, task, value):
    found = Score(metric="score", value=value, n=N, per_example=(value,) * N)
    return Cell(
        row=row,
        trained_through=through,
        task=task,
        split="test",
        origin="decoded",
        predictions=(),
        scores=(found,),
        folder="base",
    )


def make_walk(values, order, seed=0, number=0):
    through = (None, *order)
    cells = [
        make_cell(row, through[row], task, values[row][place])
        for row in range(3)
        for place, task in enumerate(order)
    ]
    return Walk(seed=seed, order=number, trainings=({},), cells=tuple(cells))


def make_method(*walks, name="finetune", schedule="sequential", component="weights"):
    about = {"name": name, "component": component, "schedule": schedule}
    return MethodWalks(method=about | {"retention": None, "selection": "oracle"}, walks=walks)


def make_two():
    return make_method(make_walk(FIRST, "ab"), make_walk(SECOND, "ba", number=1))


def measure(*methods, orders="all"):
    return Measured(
        run="mine",
        settings=Settings(tasks=tuple(TaskSettings(name=name) for name in TASKS), orders=orders),
        base={},
        base_cells=(),
        tasks=tuple({"name": name} for name in TASKS),
        metrics=(METRIC,),
        execution={},
        controls=(),
        methods=methods,
        repeats=(),
    )


def test_one_order_has_nothing_to_tell():
    method = make_method(make_walk(FIRST, "ab"))
    assert describe_orders(method, measure(method, orders="given"), "score") is None


def test_every_order_has_its_own_numbers():
    method = make_two()
    found = describe_orders(method, measure(method), "score")
    assert found["metric"] == "score"
    assert [entry["average_accuracy"]["value"] for entry in found["by_order"]] == pytest.approx([0.7, 0.55])
    assert [entry["forgetting"]["value"] for entry in found["by_order"]] == pytest.approx([0.3, 0.2])
    assert all(entry["forgetting"]["structural"] is False for entry in found["by_order"])


def test_the_range_says_which_orders_and_whether_they_differ():
    method = make_two()
    found = describe_orders(method, measure(method), "score")["range"]
    entry = found["average_accuracy"]
    assert entry["value"] == pytest.approx(0.15)
    assert (entry["highest"], entry["lowest"], entry["verdict"]) == (0, 1, "differ")
    same = make_method(make_walk(FIRST, "ab"), make_walk(FIRST, "ba", number=1))
    alike = describe_orders(same, measure(same), "score")["range"]["average_accuracy"]
    assert (alike["value"], alike["verdict"], alike["structural"]) == (0.0, "cannot tell", False)


def test_what_cannot_differ_is_structural():
    walks = (
        make_walk([[0.0, 0.0], [0.8, 0.0], [0.8, 0.9]], "ab"),
        make_walk([[0.0, 0.0], [0.9, 0.0], [0.9, 0.8]], "ba", number=1),
    )
    method = make_method(*walks, schedule="isolated")
    found = describe_orders(method, measure(method), "score")["range"]
    assert all(entry["structural"] and entry["value"] == 0 for entry in found.values())


def test_what_has_no_meaning_has_no_range():
    method = make_method(make_walk(FIRST, "ab"), make_walk(SECOND, "ba", number=1), schedule="joint")
    found = describe_orders(method, measure(method), "score")
    assert found["range"]["forgetting"]["value"] is None
    assert found["range"]["forgetting"]["verdict"] is None
    assert "nothing can be forgotten" in found["range"]["forgetting"]["reason"]
    assert found["range"]["average_accuracy"]["value"] == pytest.approx(0.15)


def test_final_scores_are_of_the_task_whatever_its_place():
    final = describe_final(make_two(), ["score"], 2)["test"]
    assert final["a"]["score"]["value"] == pytest.approx((0.5 + 0.7) / 2)
    assert final["b"]["score"]["value"] == pytest.approx((0.9 + 0.4) / 2)
    assert final["a"]["score"]["seeds"] == 1


def test_a_walk_has_its_columns_as_its_tasks_came():
    method = make_two()
    found = describe_walk(method.walks[1], measure(method), "sequential")
    assert found["order"] == 1
    assert found["R"]["test"]["score"] == SECOND
    assert found["continual"]["score"]["forgetting"]["value"] == pytest.approx(0.2)


def test_gaps_are_taken_at_the_tasks_own_place():
    """J - R right after each task's own training: a is first, then second; .9 - .8 and .8 - .7."""
    joint = make_method(
        make_walk([[0.0, 0.0], [0.9, 0.0], [0.7, 0.9]], "ab"),
        make_walk([[0.0, 0.0], [0.8, 0.0], [0.6, 0.8]], "ba", number=1),
        name="joint",
        schedule="joint",
    )
    method = make_two()
    found = describe_references(method, measure(method, joint), ["score"])["intransigence"]
    assert found["reference"] == "joint"
    assert found["metrics"]["score"]["a"]["value"] == pytest.approx(0.1)
    assert found["metrics"]["score"]["a"]["seeds"] == 1


def test_methods_are_compared_order_by_order():
    """On a the first method is better by .1 in both orders, though the orders are .2 apart."""
    better = [[[0.0, 0.0], [0.8, 0.1], [0.6, 0.9]], [[0.0, 0.0], [0.6, 0.2], [0.4, 0.8]]]
    first = make_method(make_walk(better[0], "ab"), make_walk(better[1], "ba", number=1), name="first")
    found = compare_methods(measure(first, make_two()), "score")
    entry = next(entry for entry in found if entry["task"] == "a")
    assert entry["difference"] == pytest.approx(0.1)
    assert entry["seeds"] == 1
    assert entry["interval"]["high"] == pytest.approx(0.1)  # the orders add nothing
