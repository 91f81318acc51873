"""The analysis says what the results say."""

import json
import re

import pytest

from codestrata.report.markdown import render_analysis, render_row, render_table
from codestrata.report.tables import Table, find_cell


def find_method(results, name):
    return next(method for method in results["methods"] if method["name"] == name)


def list_numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for entry in value for number in list_numbers(entry)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_the_stored_analysis_follows_from_the_stored_json_alone(tiny_run):
    text = (tiny_run.path / "experimental_results.json").read_text(encoding="utf-8")
    stored = (tiny_run.path / "results_analysis.md").read_bytes()
    assert render_analysis(json.loads(text)).encode() == stored
    assert render_analysis(json.loads(text)).encode() == stored


def test_writing_leaves_the_results_as_they_are(results):
    before = json.dumps(results)
    render_analysis(results)
    assert json.dumps(results) == before


def test_no_number_is_invented(results):
    known = {f"{number:.3f}" for number in list_numbers(results)}
    text = render_analysis(results)
    written = re.findall(r"(?<![\d.])\d+\.\d{3}(?![\d.])", text)
    assert len(written) > 50
    assert set(written) <= known


def test_the_sections_stand_in_order(results):
    headings = re.findall(r"^##? (.*)$", render_analysis(results), flags=re.MULTILINE)
    assert headings == [
        f"Run `{results['run']}`",
        "Findings",
        "Comparison",
        "R, task by task",
        "Metrics",
        "Cost",
        "Data",
        "Reproduce",
    ]


def test_findings_are_read_from_the_results(results):
    finetune = find_method(results, "finetune")["seeds"][0]
    for row, value in ((1, 0.876), (2, 0.123)):
        find_cell(finetune, row=row, task="python", split="test")["scores"]["pass@1"]["value"] = value
    text = render_analysis(results)
    assert "`finetune` (seed 0) had 0.876 on python after learning it, and 0.123 after javascript." in text
    assert "4 cells of older tasks were decoded again after later training; 4 gave the same" in text
    assert "kept its fingerprint in 6 of 6 trainings" in text
    assert "`lora` (seed 0) had" not in text


def test_a_broken_isolation_is_counted(results):
    lora = find_method(results, "lora")["seeds"][0]
    find_cell(lora, row=2, task="python", split="test")["identical_predictions"] = False
    lora["trainings"][0]["base_fingerprint_after"] = "other"
    text = render_analysis(results)
    assert "4 cells of older tasks were decoded again after later training; 3 gave the same" in text
    assert "kept its fingerprint in 5 of 6 trainings" in text


@pytest.mark.parametrize("metric", ["pass@1", "bleu", "exact_match", "syntax_pass"])
def test_a_metric_without_a_value_shows_its_reason(results, metric):
    for cell in results["base"]["cells"]:
        cell["scores"][metric] |= {"value": None, "interval": None, "reason": "the reason is this"}
    line = next(line for line in render_analysis(results).splitlines() if line.startswith(f"- **{metric}**"))
    assert "not computed: the reason is this" in line


def test_a_metric_over_a_part_of_the_examples_says_so(results):
    results["base"]["cells"][0]["scores"]["pass@1"]["reason"] = "1 of 4 predictions have no tests"
    line = next(line for line in render_analysis(results).splitlines() if line.startswith("- **pass@1**"))
    assert "1 of 4 predictions have no tests" in line
    assert "not computed" not in line


def test_missing_forgetting_shows_its_reason(results):
    assert "not computed" not in render_analysis(results)
    for method in results["methods"]:
        method["seeds"][0]["continual"]["pass@1"]["forgetting"] = {
            "value": None,
            "reason": "it needs at least 2 tasks",
            "structural": False,
        }
    assert render_analysis(results).count("Forgetting was not computed: it needs at least 2 tasks") == 1


def test_a_run_that_trained_nothing_can_be_written(results):
    results["methods"] = results["methods"][:1]
    text = render_analysis(results)
    assert "Isolation:" not in text
    assert "none, nothing was trained" in text


def test_data_and_machine_are_told(results):
    results["tasks"][0]["dropped"] = {"no docstring": 17}
    results["tasks"][0]["truncated"] = {"train_prompts": 5, "train_targets": 8, "test_prompts": 3}
    text = render_analysis(results)
    assert "dropped: 17 no docstring" in text
    assert "cut to the limit: 5 training prompts, 8 targets, 3 evaluation prompts" in text
    assert results["environment"]["platform"] in text
    assert f"torch {results['environment']['packages']['torch']}" in text
    assert results["settings_fingerprint"] in text


def test_completions_cut_at_the_limit_are_counted(results):
    for method in results["methods"]:
        for entry in method["seeds"]:
            for cell in entry["cells"]:
                cell["unfinished"] = 0
    assert "length limit cut" not in render_analysis(results)
    method = results["methods"][1]
    last = max(cell["row"] for cell in method["seeds"][0]["cells"])
    next(cell for cell in method["seeds"][0]["cells"] if cell["row"] == last)["unfinished"] = 7
    assert f"`{method['name']}`: the length limit cut 7 of its completions" in render_analysis(results)


def test_several_seeds_are_said(results):
    results["settings"]["seeds"] = [0, 1]
    text = render_analysis(results)
    assert "; 2 seeds." in text
    assert "for this seed only" not in text


def test_a_table_in_markdown():
    text = render_table(Table("Title", ("a", "b"), (("1", "x|y"), ("2", "|"))))
    assert text.splitlines() == [
        "**Title**",
        "",
        "| a | b |",
        "| --- | --- |",
        "| 1 | x\\|y |",
        "| 2 | \\| |",
    ]


def test_every_line_of_a_table_has_as_many_cells(results):
    for table in re.findall(r"(?:^\|.*\|\n?)+", render_analysis(results), flags=re.MULTILINE):
        lines = table.splitlines()
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(counts) == 1


def test_pipes_cannot_make_a_new_cell():
    assert render_row(("a|b", "c")) == "| a\\|b | c |"
