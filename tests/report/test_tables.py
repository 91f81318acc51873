"""Tables read the results and nothing else."""

import copy

import pytest

from codestrata.report.tables import (
    MISSING,
    build_comparison,
    build_cost_comparison,
    build_cost_table,
    build_matrix_table,
    build_metrics_table,
    find_cell,
    list_summary_tables,
    write_counts,
    write_scores,
)


def find_row(table, name):
    return dict(zip(table.header, next(row for row in table.rows if row[0] == name), strict=True))


def find_method(results, name):
    return next(method for method in results["methods"] if method["name"] == name)


def find_value(results, method, **place):
    return find_cell(find_method(results, method)["seeds"][0], **place)["scores"]["pass@1"]["value"]


def add_seed(results, method, shift):
    """A second seed, whose pass rates and forgetting are higher by ``shift``."""
    seeds = find_method(results, method)["seeds"]
    seeds.append(copy.deepcopy(seeds[0]))
    seeds[1]["seed"] = 1
    for cell in seeds[1]["cells"]:
        cell["scores"]["pass@1"]["value"] += shift
    seeds[1]["continual"]["pass@1"]["forgetting"]["value"] += shift


@pytest.fixture
def tables(results):
    found = [*list_summary_tables(results), build_cost_table(results)]
    found += [build_matrix_table(results, method) for method in results["methods"]]
    return found + [build_metrics_table(results, split) for split in ("test", "unseen")]


def test_tables_are_rectangular_text(tables):
    assert len(tables) == 3 + 1 + 4 + 2
    for table in tables:
        assert table.title
        assert table.rows
        for row in table.rows:
            assert len(row) == len(table.header)
            assert all(isinstance(cell, str) for cell in row)


@pytest.mark.parametrize("split", ["test", "unseen"])
def test_the_comparison_shows_the_last_row_with_its_interval(results, split):
    table = build_comparison(results, split)
    assert [row[0] for row in table.rows] == ["base", "lora", "layers", "finetune"]
    for method in results["methods"]:
        row = find_row(table, method["name"])
        for task in ("python", "javascript"):
            value = find_value(results, method["name"], row=2, task=task, split=split)
            assert row[task] == f"{value:.3f} [{value - 0.05:.3f}, {value + 0.05:.3f}]"


def test_the_title_has_the_metric_the_number_of_examples_and_the_level(results):
    assert build_comparison(results).title == "pass@1 at the end of the sequence (n = 4; 95 % interval)"
    assert "no training contains (n = 2" in build_comparison(results, "unseen").title


def test_tasks_of_different_sizes_are_counted_apart(results):
    results["tasks"][1]["examples"]["test"] = 9
    assert write_counts(results, "test") == "python n = 4, javascript n = 9"


def test_forgetting_by_construction_is_marked(results):
    find_method(results, "finetune")["seeds"][0]["continual"]["pass@1"]["forgetting"]["value"] = 0.345
    table = build_comparison(results)
    assert find_row(table, "lora")["forgetting"] == "0.000 (structural)"
    assert find_row(table, "finetune")["forgetting"] == "0.345"


def test_a_split_without_examples_has_no_table(results):
    for task in results["tasks"]:
        task["examples"]["unseen"] = 0
    assert build_comparison(results, "unseen") is None
    assert build_metrics_table(results, "unseen") is None
    assert len(list_summary_tables(results)) == 2


def test_several_seeds_are_shown_as_mean_and_range(results):
    value = find_value(results, "finetune", row=2, task="python", split="test")
    find_method(results, "finetune")["seeds"][0]["continual"]["pass@1"]["forgetting"]["value"] = 0.25
    add_seed(results, "finetune", 0.5)
    row = find_row(build_comparison(results), "finetune")
    assert row["python"] == f"{value + 0.25:.3f} ({value:.3f} to {value + 0.5:.3f}, 2 seeds)"
    assert row["forgetting"] == "0.500 (0.250 to 0.750, 2 seeds)"


def test_a_structural_zero_over_several_seeds_stays_marked(results):
    add_seed(results, "lora", 0)
    row = find_row(build_comparison(results), "lora")
    assert row["forgetting"] == "0.000 (0.000 to 0.000, 2 seeds) (structural)"


def test_what_was_not_measured_is_a_dash(results):
    for cell in find_method(results, "lora")["seeds"][0]["cells"]:
        cell["scores"]["pass@1"] |= {"value": None, "interval": None, "reason": "no runtime"}
    entry = find_method(results, "lora")["seeds"][0]
    entry["continual"]["pass@1"]["forgetting"] = {"value": None, "reason": "why", "structural": False}
    assert find_row(build_comparison(results), "lora") == {
        "method": "lora",
        "python": MISSING,
        "javascript": MISSING,
        "forgetting": MISSING,
    }
    matrix = build_matrix_table(results, find_method(results, "lora"))
    assert all(cell == MISSING for row in matrix.rows for cell in row[1:])


def test_a_seed_without_a_value_lends_its_interval_to_no_other():
    lost = {"value": None, "interval": None}
    measured = {"value": 0.5, "interval": {"low": 0.4, "high": 0.6}}
    assert write_scores([lost, measured]) == write_scores([measured, lost]) == "0.500 [0.400, 0.600]"
    assert write_scores([lost, lost]) == write_scores([]) == MISSING
    assert write_scores([{"value": 0.5, "interval": None}]) == "0.500"


def test_the_matrix_says_how_each_entry_came_about(results):
    method = find_method(results, "lora")
    values = {
        (row, task): f"{find_value(results, 'lora', row=row, task=task, split='test'):.3f}"
        for row in range(3)
        for task in ("python", "javascript")
    }
    assert build_matrix_table(results, method).rows == (
        ("untouched base", values[0, "python"], values[0, "javascript"]),
        ("after python", values[1, "python"], f"{values[1, 'javascript']} (structural)"),
        ("after javascript", f"{values[2, 'python']} (decoded again, identical)", values[2, "javascript"]),
    )
    assert build_matrix_table(results, method).title == "R of `lora`, pass@1, seed 0"


def test_a_recheck_that_differs_is_shouted(results):
    method = find_method(results, "lora")
    find_cell(method["seeds"][0], row=2, task="python", split="test")["identical_predictions"] = False
    assert "NOT identical" in build_matrix_table(results, method).rows[2][1]


def test_costs_are_those_of_the_trainings(results):
    lora = find_method(results, "lora")["seeds"][0]
    lora["trainings"][0] |= {"parameters": 1234567, "parameter_share": 0.027, "component_bytes": 3 * 2**20}
    lora["trainings"][0]["seconds"], lora["trainings"][1]["seconds"] = 10.0, 20.0
    lora["swap"]["median_milliseconds"] = 1.25
    assert find_row(build_cost_comparison(results), "lora") == {
        "method": "lora",
        "trained parameters": "1,234,567",
        "share": "2.7 %",
        "seconds/task": "15.0",
        "component MiB": "3.00",
        "swap ms": "1.25",
    }
    assert find_row(build_cost_comparison(results), "base")["trained parameters"] == "0"
    assert find_row(build_cost_comparison(results), "finetune")["swap ms"] == MISSING


def test_every_training_has_a_line(results):
    training = find_method(results, "layers")["seeds"][0]["trainings"][1]
    training |= {"final_loss": 1.2345, "peak_memory_mib": None}
    table = build_cost_table(results)
    names = [(row[0], row[1], row[2]) for row in table.rows]
    tasks = ("python", "javascript")
    assert names == [(method, "0", task) for method in ("lora", "layers", "finetune") for task in tasks]
    row = dict(zip(table.header, table.rows[3], strict=True))
    assert (row["final loss"], row["peak MiB"], row["steps"]) == ("1.234", MISSING, "2")


def test_the_metrics_table_has_every_metric_of_every_method(results):
    table = build_metrics_table(results, "test")
    assert table.header == ("task", "method", "pass@1", "exact_match", "bleu", "syntax_pass")
    assert [row[:2] for row in table.rows] == [
        (task, method)
        for task in ("python", "javascript")
        for method in ("base", "lora", "layers", "finetune")
    ]
