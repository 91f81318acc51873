"""The tables about orders of the tasks, from made results."""

import copy

import pytest

from codestrata.report.markdown import render_analysis
from codestrata.report.orders import build_order_table, build_range_table, list_order_tables, list_own_orders
from codestrata.report.tables import build_transfer_table, list_matrix_tables

ORDERS = [["python", "javascript"], ["javascript", "python"]]
NAMES = ("average_accuracy", "learning_accuracy", "backward_transfer", "forward_transfer", "forgetting")


def make_range(value, low, verdict="cannot tell", structural=False, reason=None):
    interval = None if low is None else {"low": low, "high": 0.5, "level": 0.95, "method": "hierarchical"}
    return {
        "value": value,
        "interval": interval,
        "highest": 0,
        "lowest": 1,
        "seeds": 1,
        "reason": reason,
        "structural": structural,
        "verdict": verdict,
    }


@pytest.fixture
def turned(results):
    """The made results with a second order, in which finetune does worse and has a walk of its own."""
    results["orders"] = ORDERS
    for method in results["methods"]:
        second = copy.deepcopy(method["seeds"][0]) | {"order": 1}
        isolated = method["schedule"] == "isolated"
        if isolated:
            second |= {"trainings": [], "transfer": {"X": None, "reason": "of the first", "cells": []}}
        for cell in second["cells"]:
            cell["trained_through"] = None if cell["row"] == 0 else ORDERS[1][cell["row"] - 1]
        method["seeds"].append(second)
        found = copy.deepcopy(method["continual"]["pass@1"])
        other = copy.deepcopy(found)
        if not isolated:
            for name in NAMES:
                other[name]["value"] = found[name]["value"] - 0.2
        made = make_range(0.0, 0.0, structural=True) if isolated else make_range(0.2, 0.1, "differ")
        method["orders"] = {
            "metric": "pass@1",
            "by_order": [found, other],
            "range": {name: dict(made) for name in NAMES},
        }
    return results


def find_row(table, name):
    return next(row for row in table.rows if row[0] == name)


def test_one_order_has_no_tables(results):
    assert list_order_tables(results) == []
    assert "## Orders of the tasks" not in render_analysis(results)


def test_the_range_of_every_trained_method(turned):
    table = build_range_table(turned)
    assert [row[0] for row in table.rows] == ["lora", "layers", "finetune"]
    found = turned["methods"][3]["orders"]["by_order"][0]["average_accuracy"]["value"]
    row = find_row(table, "finetune")
    assert row[1] == f"{found - 0.2:.3f} to {found:.3f}"
    assert row[2] == "differ, 0.200 [0.100, 0.500]"
    assert find_row(table, "lora")[2] == "structural"
    assert "2 orders" in table.title


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (make_range(None, None, None, reason="why"), "-"),
        (make_range(0.1, None, None), "not compared, 0.100"),
        (make_range(0.1, 0.0), "cannot tell, 0.100 [0.000, 0.500]"),
    ],
)
def test_what_is_shown_of_a_range(turned, made, text):
    turned["methods"][3]["orders"]["range"]["forgetting"] = made
    assert find_row(build_range_table(turned), "finetune")[4] == text


def test_a_number_that_an_order_lacks_leaves_no_span(turned):
    turned["methods"][3]["orders"]["by_order"][1]["forgetting"]["value"] = None
    assert find_row(build_range_table(turned), "finetune")[3] == "-"


def test_order_by_order_only_what_hangs_on_it(turned):
    table = build_order_table(turned)
    assert [row[:2] for row in table.rows] == [
        ("finetune", "python > javascript"),
        ("finetune", "javascript > python"),
    ]
    assert list_own_orders(turned, turned["methods"][1]) == [0]
    assert list_own_orders(turned, turned["methods"][3]) == [0, 1]


def test_every_order_that_was_walked_has_its_r(turned):
    assert len(list_matrix_tables(turned, turned["methods"][1])) == 1
    first, second = list_matrix_tables(turned, turned["methods"][3])
    assert first.header == ("", "python", "javascript")
    assert second.header == ("", "javascript", "python")
    assert [row[0] for row in second.rows[:3]] == ["untouched base", "after javascript", "after python"]
    assert second.title.endswith("javascript > python")


def test_x_is_that_of_the_first_order(turned):
    table = build_transfer_table(turned, turned["methods"][1])
    assert table.header == ("", "python", "javascript")


def test_the_analysis_has_a_chapter(turned):
    text = render_analysis(turned)
    assert "tasks in 2 orders, from python, javascript; methods" in text
    assert "## Orders of the tasks" in text
    assert "mean of 2 orders)" in text.split("## Comparison")[1].replace("; 95 % interval", "")
    assert "may be that seed's luck in it" in text
    turned["settings"]["seeds"] = [0, 1]
    assert "may be that seed's luck in it" not in render_analysis(turned)
