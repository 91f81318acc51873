"""Tables read the results and nothing else."""

import copy
import io

import pytest
from rich.console import Console

from codestrata.cli.display import render
from codestrata.errors import RunError
from codestrata.report.tables import (
    MISSING,
    build_comparison,
    build_controls_table,
    build_cost_comparison,
    build_differences,
    build_matrix_table,
    build_transfer_table,
    find_cell,
    list_summary_tables,
    split_evenly,
    write_counts,
    write_mean,
)

CONTENDERS = ["base", "echo", "nearest", "lora", "layers", "finetune"]
TERMINAL_COLUMNS = 100


def find_row(table, name):
    return dict(zip(table.header, next(row for row in table.rows if row[0] == name), strict=True))


def find_method(results, name):
    return next(method for method in results["methods"] if method["name"] == name)


def find_value(results, method, **place):
    return find_cell(find_method(results, method)["seeds"][0], **place)["scores"]["pass@1"]["value"]


def write_expected(value):
    return f"{value:.3f} [{value - 0.05:.3f}, {value + 0.05:.3f}]"


def add_seed(results, method, shift):
    """A second seed, whose pass rates are higher by ``shift``."""
    seeds = find_method(results, method)["seeds"]
    seeds.append(copy.deepcopy(seeds[0]) | {"seed": 1})
    for cell in [*seeds[1]["cells"], *seeds[1]["transfer"]["cells"]]:
        cell["scores"]["pass@1"]["value"] += shift


def test_another_schema_is_refused_with_the_remedy(results):
    results["schema_version"] = 3
    for build in (list_summary_tables, lambda tree: build_matrix_table(tree, tree["methods"][1])):
        with pytest.raises(RunError, match=r"schema version 3; this codestrata reads version 7"):
            build(results)


def test_tables_are_rectangular_text(results):
    tables = [*list_summary_tables(results), build_differences(results, "control_comparisons", detailed=True)]
    tables += [build_matrix_table(results, method) for method in results["methods"]]
    tables += [build_transfer_table(results, method) for method in results["methods"][1:3]]
    assert len(tables) == 5 + 1 + 4 + 2
    for table in tables:
        assert table.title
        assert table.rows
        for row in table.rows:
            assert len(row) == len(table.header)
            assert all(isinstance(cell, str) for cell in row)


def test_summary_tables_fit_into_a_terminal(results):
    results["tasks"] = [
        *results["tasks"],
        *(task | {"name": "x" + task["name"]} for task in results["tasks"]),
    ]
    for entry in results["above_controls"][:]:
        results["above_controls"].append(entry | {"task": "x" + entry["task"]})
    for table in list_summary_tables(results):
        out = io.StringIO()
        Console(file=out, width=1000).print(render(table))
        box = [line for line in out.getvalue().splitlines() if line and line[0] in "┏┡│└┃"]
        assert max(map(len, box)) <= TERMINAL_COLUMNS


@pytest.mark.parametrize("split", ["test", "unseen"])
def test_the_comparison_shows_controls_and_methods_with_intervals(results, split):
    (table,) = build_comparison(results, split)
    assert [row[0] for row in table.rows][:6] == CONTENDERS
    for method in results["methods"][1:]:
        for task in ("python", "javascript"):
            value = find_value(results, method["name"], row=2, task=task, split=split)
            assert find_row(table, method["name"])[task] == write_expected(value)
    for control in results["controls"]:
        for cell in control["cells"]:
            if cell["split"] == split:
                value = cell["scores"]["pass@1"]["value"]
                assert find_row(table, control["name"])[cell["task"]] == write_expected(value)


def test_the_noise_floor_is_a_row_of_the_test_split(results):
    (table,) = build_comparison(results)
    assert find_row(table, "noise floor") == {
        "method": "noise floor",
        "python": "0.000",
        "javascript": "0.004",
        "forgetting": MISSING,
    }
    (table,) = build_comparison(results, "unseen")
    assert [row[0] for row in table.rows] == CONTENDERS
    results["noise_floor"]["entries"] = []
    (table,) = build_comparison(results)
    assert [row[0] for row in table.rows] == CONTENDERS


def test_the_title_has_the_metric_the_number_of_examples_and_the_level(results):
    (table,) = build_comparison(results)
    assert table.title == "pass@1 at the end of the sequence (n = 300; 95 % interval)"
    (table,) = build_comparison(results, "unseen")
    assert "no training contains (n = 60" in table.title


def test_tasks_of_different_sizes_are_counted_apart(results):
    for cell in results["base"]["cells"]:
        if (cell["task"], cell["split"]) == ("javascript", "test"):
            cell["scores"]["pass@1"]["n"] = 9
    assert write_counts(results, "test") == "python n = 300, javascript n = 9"


def test_several_seeds_are_in_the_title(results):
    results["settings"]["seeds"] = [0, 1, 2]
    assert write_counts(results, "test") == "n = 300, mean of 3 seeds"


def test_forgetting_by_construction_is_marked(results):
    (table,) = build_comparison(results)
    assert find_row(table, "lora")["forgetting"] == "0.000 (structural)"
    assert find_row(table, "finetune")["forgetting"] == "0.345 [0.295, 0.395]"
    assert find_row(table, "base")["forgetting"] == find_row(table, "echo")["forgetting"] == MISSING


def test_a_split_without_examples_has_no_table(results):
    for task in results["tasks"]:
        task["examples"]["unseen"] = 0
    assert build_comparison(results, "unseen") == []
    assert len(list_summary_tables(results)) == 4


def test_many_tasks_make_several_tables(results):
    assert split_evenly("abcd", 3) == ["ab", "cd"]
    assert split_evenly("abcdefg", 3) == ["abc", "def", "g"]
    assert split_evenly("abc", 3) == ["abc"]
    results["tasks"] += [task | {"name": f"late-{task['name']}"} for task in results["tasks"]]
    first, second = build_comparison(results)
    assert first.header == ("method", "python", "javascript", "late-python")
    assert second.header == ("method", "late-javascript", "forgetting")


def test_what_was_not_measured_is_a_dash(results):
    method = find_method(results, "lora")
    for cell in method["seeds"][0]["cells"]:
        cell["scores"]["pass@1"] |= {"value": None, "interval": None, "reason": "no runtime"}
    for task in ("python", "javascript"):
        method["final"]["test"][task]["pass@1"] |= {"value": None, "interval": None, "reason": "no runtime"}
    method["continual"]["pass@1"]["forgetting"] |= {"value": None, "interval": None, "structural": False}
    (table,) = build_comparison(results)
    assert set(find_row(table, "lora").values()) == {"lora", MISSING}
    matrix = build_matrix_table(results, method)
    assert all(cell == MISSING for row in matrix.rows[:3] for cell in row[1:])


def test_methods_are_above_the_controls_or_the_table_says_not(results):
    table = build_controls_table(results)
    assert table.title == "Above the controls (base, echo, nearest) in pass@1?"
    assert table.rows == (
        ("lora", "above", "above"),
        ("layers", "cannot tell", "cannot tell"),
        ("finetune", "NOT above", "NOT above"),
    )


def test_a_run_without_training_has_no_verdicts(results):
    results |= {"methods": results["methods"][:1], "above_controls": []}
    results |= {"comparisons": [], "control_comparisons": []}
    assert build_controls_table(results) is None
    assert build_differences(results, "comparisons") is None
    assert [table.title for table in list_summary_tables(results)][-1] == "What each method costs"


def test_differences_have_their_adjusted_interval_and_verdict(results):
    table = build_differences(results, "comparisons")
    assert table.title.startswith("Differences between methods in pass@1")
    assert table.rows[:3] == (
        ("python", "lora - layers", "+0.211 [+0.161, +0.261]", "lora", "0.064"),
        ("python", "lora - finetune", "+0.011 [-0.039, +0.061]", "cannot tell", "0.064"),
        ("python", "layers - finetune", "-0.231 [-0.281, -0.181]", "finetune", "0.064"),
    )
    against = build_differences(results, "control_comparisons")
    assert against.title.startswith("Differences from the controls")
    assert ("python", "finetune - nearest", "-0.100 [-0.150, -0.050]", "nearest", "0.064") in against.rows


def test_details_of_a_difference(results):
    results["comparisons"][1] |= {"sign_flip_p": 0.0625, "seeds": 5, "seeds_needed": 3}
    table = build_differences(results, "comparisons", detailed=True)
    assert table.header[5:] == ("adjusted p", "sign-flip p", "n", "seeds", "more examples", "more seeds")
    assert table.rows[1][5:] == ("0.0369", "0.0625", "300", "5", "1,234", "3")
    assert table.rows[0][5:] == ("0.0369", MISSING, "300", "1", "0", MISSING)


def test_a_pair_that_was_not_compared_is_shown(results):
    keys = ("first", "second", "task", "split", "metric")
    old = results["comparisons"][0]
    results["comparisons"][0] = {key: old[key] for key in keys} | {"verdict": None, "reason": "no runtime"}
    table = build_differences(results, "comparisons", detailed=True)
    assert table.rows[0] == ("python", "lora - layers", MISSING, "not compared", *[MISSING] * 7)


def test_the_matrix_says_how_each_entry_came_about(results):
    method = find_method(results, "lora")
    values = {
        (row, task): write_expected(find_value(results, "lora", row=row, task=task, split="test"))
        for row in range(3)
        for task in ("python", "javascript")
    }
    table = build_matrix_table(results, method)
    assert table.title == "R of `lora`, pass@1, seed 0"
    assert table.rows[:3] == (
        ("untouched base", values[0, "python"], values[0, "javascript"]),
        ("after python", values[1, "python"], f"{values[1, 'javascript']} (structural)"),
        ("after javascript", f"{values[2, 'python']} (again, same)", values[2, "javascript"]),
    )
    assert [row[0] for row in table.rows[3:]] == ["echo (control)", "nearest (control)"]


def test_a_recheck_that_differs_is_shouted(results):
    method = find_method(results, "lora")
    find_cell(method["seeds"][0], row=2, task="python", split="test")["identical_predictions"] = False
    assert "(again, DIFFERENT)" in build_matrix_table(results, method).rows[2][1]


@pytest.mark.parametrize(
    ("changes", "mark"),
    [
        ({"origin": "taken-over"}, "(same bytes)"),
        ({"origin": "canary", "decoded_again": 32, "identical_predictions": True}, "(canary, same)"),
        ({"origin": "canary", "decoded_again": 32, "identical_predictions": False}, "(canary, DIFFERENT)"),
    ],
)
def test_a_cell_that_was_taken_over_says_on_what_proof(results, changes, mark):
    method = find_method(results, "lora")
    cell = find_cell(method["seeds"][0], row=2, task="python", split="test")
    cell |= {"decoded_again": 0, "identical_predictions": None} | changes
    assert build_matrix_table(results, method).rows[2][1].endswith(f"] {mark}")


def test_a_matrix_over_several_seeds_is_mean_and_range(results):
    value = find_value(results, "finetune", row=1, task="python", split="test")
    add_seed(results, "finetune", 0.5)
    table = build_matrix_table(results, find_method(results, "finetune"))
    assert table.title == "R of `finetune`, pass@1, 2 seeds"
    assert table.rows[1][1] == f"{value + 0.25:.3f} ({value:.3f} to {value + 0.5:.3f})"


def test_a_seed_without_a_value_leaves_no_mean():
    lost = {"value": None, "interval": None}
    measured = {"value": 0.5, "interval": {"low": 0.4, "high": 0.6}}
    assert write_mean([lost, measured]) == write_mean([measured, lost]) == write_mean([None]) == MISSING
    assert write_mean([measured]) == "0.500 [0.400, 0.600]"
    assert write_mean([{"value": 0.5, "interval": None}]) == "0.500"
    assert write_mean([{"value": -1e-9, "interval": None}]) == "0.000"


def test_transfer_is_every_component_on_every_task(results):
    method = find_method(results, "lora")
    own = find_value(results, "lora", row=1, task="python", split="test")
    foreign = method["seeds"][0]["transfer"]["cells"][0]["scores"]["pass@1"]["value"]
    table = build_transfer_table(results, method)
    assert table.rows[1] == ("component of python", write_expected(own), write_expected(foreign))
    assert [row[0] for row in table.rows] == [
        "untouched base",
        "component of python",
        "component of javascript",
        "echo (control)",
        "nearest (control)",
    ]
    assert build_transfer_table(results, find_method(results, "finetune")) is None


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
