"""What routers chose, as tables."""

import pytest

from codestrata.report.routing import explain_routing, list_routing_tables
from codestrata.results.routing import describe_router


def make_seed(seed, tasks, confusion, *, value=0.25, order=0, source="methods/lora/seed-0/python"):
    matrix = [[0.0, 0.0], [0.5, 0.0], [value, 0.5]]
    return {
        "seed": seed,
        "order": order,
        "R": {"test": {"pass@1": matrix}},
        "trainings": [{"taken_over_from": source}],
        "routing": {
            "by": "mahalanobis",
            "threshold": 0.5,
            "tasks": tasks,
            "routers": {"mahalanobis": describe_router(confusion), "perplexity": describe_router(confusion)},
            "oracle": {"R": {"test": {"pass@1": [[0.0, 0.0], [0.5, 0.0], [0.5, None]]}}},
        },
    }


def make_results(*seeds, prefixes=(None, None)):
    tasks = zip(("python", "lua"), prefixes, strict=True)
    return {
        "headline_metric": "pass@1",
        "tasks": [{"name": name, "prompt_prefix": prefix} for name, prefix in tasks],
        "orders": [seeds[0]["routing"]["tasks"]] if seeds else [["python", "lua"]],
        "methods": [
            {"name": "lora", "selection": "oracle", "seeds": [{"trainings": [{"taken_over_from": None}]}]},
            {"name": "routed", "selection": "routed", "seeds": list(seeds)},
        ],
    }


@pytest.fixture
def tables():
    first = make_seed(0, ["python", "lua"], [[3, 1, 0], [0, 2, 2]])
    second = make_seed(1, ["python", "lua"], [[4, 0, 0], [1, 3, 0]], value=0.75)
    return list_routing_tables(make_results(first, second))


def test_accuracies_of_several_seeds_are_averaged_with_their_range(tables):
    accuracy, _, _ = tables
    assert (
        accuracy.title == "How often `routed` picks the task's own component (threshold 0.5; 95 % interval)"
    )
    assert accuracy.rows[0] == ("mahalanobis (fills R)", "0.750 (0.625 to 0.875)", "2", "16")
    assert accuracy.rows[1][0] == "perplexity"


def test_a_single_seed_has_its_interval():
    (accuracy, _, _) = list_routing_tables(
        make_results(make_seed(0, ["python", "lua"], [[3, 1, 0], [0, 4, 0]]))
    )
    assert accuracy.rows[0][1].startswith("0.875 [0.")


def test_confusions_are_added_up_by_the_tasks_names(tables):
    _, confusion, _ = tables
    assert confusion.header == ("prompts of", "component python", "component lua", "base (abstained)")
    assert confusion.rows == (("python", "7", "1", "0"), ("lua", "1", "5", "2"))


def test_tasks_that_came_in_another_order_keep_their_columns():
    walk = make_seed(0, ["lua", "python"], [[4, 0, 0], [1, 2, 1]])
    _, confusion, _ = list_routing_tables(make_results(walk))
    assert confusion.rows == (("python", "2", "1", "1"), ("lua", "0", "4", "0"))


def test_r_under_routing_stands_beside_r_with_the_label(tables):
    _, _, both = tables
    assert both.rows[1] == ("after python", "0.500 (0.500)", "0.000 (0.000)")
    assert both.rows[2] == ("after lua", "0.500 (0.500)", "0.500 (-)")


def test_r_is_in_the_order_in_which_the_tasks_came():
    walk = make_seed(0, ["lua", "python"], [[4, 0, 0], [0, 4, 0]])
    _, _, both = list_routing_tables(make_results(walk))
    assert both.header == ("", "lua", "python")
    assert [row[0] for row in both.rows] == ["untouched base", "after lua", "after python"]


def test_prompts_that_name_their_task_are_told():
    walk = make_seed(0, ["python", "lua"], [[4, 0, 0], [0, 4, 0]])
    _, told, _ = explain_routing(make_results(walk, prefixes=("python: ", "lua: ")))
    assert "those of `python` with `python:`, those of `lua` with `lua:`. That is enough" in told
    _, told, _ = explain_routing(make_results(walk, prefixes=(None, "lua: ")))
    assert "all of a task begin alike, those of `lua` with `lua:`" in told


@pytest.mark.parametrize("prefixes", [(None, None), ("write: ", "write: ")])
def test_prompts_that_do_not_are_passed_over(prefixes):
    walk = make_seed(0, ["python", "lua"], [[4, 0, 0], [0, 4, 0]])
    assert len(list(explain_routing(make_results(walk, prefixes=prefixes)))) == 2


def test_later_orders_are_left_out():
    first = make_seed(0, ["python", "lua"], [[4, 0, 0], [0, 4, 0]])
    later = make_seed(0, ["lua", "python"], [[0, 4, 0], [4, 0, 0]], order=1)
    accuracy, _, _ = list_routing_tables(make_results(first, later))
    assert accuracy.rows[0][3] == "8"


def test_what_was_taken_over_is_said():
    texts = list(explain_routing(make_results(make_seed(0, ["python", "lua"], [[4, 0, 0], [0, 4, 0]]))))
    assert texts[-1] == (
        "The components of `routed` were not trained for it: they are those of `lora`, byte for byte, and "
        "so are their costs."
    )


def test_a_run_without_routers_says_nothing():
    results = make_results()
    results["methods"].pop()
    assert list_routing_tables(results) == []
    assert list(explain_routing(results)) == []
