"""The analysis says what the results say."""

import json
import re
from importlib.resources import files

import jsonschema
import pytest

from codestrata.errors import RunError
from codestrata.report.findings import list_findings
from codestrata.report.markdown import render_analysis, render_row, render_table
from codestrata.report.pointers import read_pointer
from codestrata.report.tables import Table


def list_numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for entry in value for number in list_numbers(entry)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_the_made_results_have_the_published_shape(results):
    text = (files("codestrata") / "schemas" / "experimental_results.schema.json").read_text(encoding="utf-8")
    jsonschema.validate(results, json.loads(text))


def test_the_stored_analysis_follows_from_the_stored_json_alone(tiny_run):
    text = (tiny_run.path / "experimental_results.json").read_text(encoding="utf-8")
    stored = (tiny_run.path / "results_analysis.md").read_bytes()
    assert render_analysis(json.loads(text)).encode() == stored
    assert render_analysis(json.loads(text)).encode() == stored


def test_every_pointer_of_a_real_analysis_leads_somewhere(tiny_run):
    real = tiny_run.read_results()
    text = (tiny_run.path / "results_analysis.md").read_text(encoding="utf-8")
    pointers = re.findall(r"^- .* \(`(/[^`]+)`\)$", text, flags=re.MULTILINE)
    assert len(pointers) == len(list_findings(real)) > 20
    for pointer in pointers:
        read_pointer(real, pointer)


def test_writing_leaves_the_results_as_they_are(results):
    before = json.dumps(results)
    render_analysis(results)
    assert json.dumps(results) == before


def test_no_number_is_invented(results):
    known = {f"{number:.3f}" for number in list_numbers(results)}
    known |= {f"{abs(number):.3f}" for number in list_numbers(results)}
    text = render_analysis(results)
    written = re.findall(r"(?<![\d.])\d+\.\d{3}(?![\d.])", text)
    assert len(written) > 300
    assert set(written) <= known


def test_another_schema_is_refused(results):
    with pytest.raises(RunError, match="schema version 1"):
        render_analysis(results | {"schema_version": 1})


def test_the_sections_stand_in_order(results):
    headings = re.findall(r"^##? (.*)$", render_analysis(results), flags=re.MULTILINE)
    assert headings == [
        f"Run `{results['run']}`",
        "Findings",
        "Comparison",
        "Differences",
        "R, task by task",
        "X, every component on every task",
        "Metrics",
        "What confined generated programs",
        "Training text repeated word for word",
        "Cost",
        "Data",
        "Reproduce",
    ]


def test_every_sentence_of_findings_has_a_pointer(results):
    text = render_analysis(results)
    findings = text[text.index("## Findings") : text.index("## Comparison")]
    lines = [line for line in findings.splitlines() if line.startswith("- ")]
    assert len(lines) == len(list_findings(results))
    for line in lines:
        assert re.search(r"\. \(`/[^`]+`\)$", line), line


def test_every_table_of_scores_shows_the_controls(results):
    tables = re.findall(r"^\*\*(.*)\*\*\n\n((?:\|.*\n?)+)", render_analysis(results), flags=re.MULTILINE)
    of_scores = [(title, body) for title, body in tables if title.startswith(("pass@1", "R of", "X of"))]
    of_scores += [(title, body) for title, body in tables if ", split `" in title]
    assert len(of_scores) == 2 + 4 + 2 + 8
    for title, body in of_scores:
        assert "echo" in body, title
        assert "nearest" in body, title


@pytest.mark.parametrize("metric", ["pass@1", "bleu", "syntax_pass"])
def test_a_metric_without_a_value_shows_its_reason(results, metric):
    for cell in results["base"]["cells"]:
        cell["scores"][metric] |= {"value": None, "interval": None, "reason": "the reason is this"}
    line = next(line for line in render_analysis(results).splitlines() if line.startswith(f"- **{metric}**"))
    assert "not computed for base: the reason is this" in line


def test_missing_forgetting_shows_its_reason(results):
    assert "Forgetting was not computed" not in render_analysis(results)
    for method in results["methods"]:
        method["continual"]["pass@1"]["forgetting"] |= {
            "value": None,
            "interval": None,
            "reason": "it needs at least 2 tasks",
            "structural": False,
        }
    assert render_analysis(results).count("Forgetting was not computed: it needs at least 2 tasks") == 1


def test_reasons_beside_differences_are_listed_once(results):
    assert render_analysis(results).count("Note: one seed does not say how seeds differ.") == 1


def test_refused_rungs_are_listed_with_their_reasons(results):
    text = render_analysis(results)
    assert "- **python**: `landlock`, Python 3.11; `bubblewrap` refused: bwrap is not installed." in text
    results["execution"]["python"] |= {"rung": None, "reason": "no rung passes"}
    assert "- **python**: not run: no rung passes; `bubblewrap` refused" in render_analysis(results)


def test_methods_without_transfer_say_why(results):
    assert "No X for `finetune`: one component serves all tasks." in render_analysis(results)


def test_a_run_that_trained_nothing_can_be_written(results):
    results |= {"methods": results["methods"][:1], "above_controls": []}
    results |= {"comparisons": [], "control_comparisons": []}
    text = render_analysis(results)
    assert "none, nothing was trained" in text
    assert "Nothing was trained, so there is no difference to test." in text


def test_data_and_machine_are_told(results):
    hostile = "licence <img src=x onerror=alert(1)>`|"
    results["tasks"][0]["dropped"] = {"no docstring": 17, hostile: 1}
    results["tasks"][0]["notes"] = [f"mined {hostile}"]
    results["tasks"][0]["truncated"] = {"train_prompts": 5, "train_targets": 8, "test_prompts": 3}
    text = render_analysis(results)
    assert "dropped: 17 `no docstring`; 1 `licence <img src=x onerror=alert(1)>'|`" in text
    assert "`mined licence <img src=x onerror=alert(1)>'|`" in text
    assert "cut to the limit: 5 training prompts, 8 targets, 3 evaluation prompts" in text
    assert results["environment"]["platform"] in text
    assert f"torch {results['environment']['packages']['torch']}" in text
    assert results["settings_fingerprint"] in text


def test_several_seeds_are_said(results):
    results["settings"]["seeds"] = [0, 1]
    assert "; 2 seeds." in render_analysis(results)


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
