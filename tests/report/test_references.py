"""The table of what methods stay behind, and what it says where the run holds nothing to compare with."""

import pytest

from codestrata.report.markdown import render_analysis
from codestrata.report.references import build_references_table, explain_references


def make_gap(value):
    interval = {"low": value - 0.05, "high": value + 0.05, "level": 0.95, "method": "bootstrap"}
    return {"value": value, "interval": interval, "seeds": 1, "reason": None}


@pytest.fixture
def held(results):
    """Results in which a joint method and experts were trained beside ``finetune``."""
    method = next(entry for entry in results["methods"] if entry["name"] == "finetune")
    gaps = {"python": make_gap(0.111), "javascript": make_gap(-0.022)}
    method["intransigence"] = {"reference": "joint", "metrics": {"pass@1": gaps}}
    method["expert_gap"] = {"reference": "single", "metrics": {"pass@1": make_gap(0.033)}}
    return results


def test_a_row_holds_a_number_per_task_and_names_its_references(held):
    table = build_references_table(held)
    assert table.header == (
        "method",
        "joint",
        "behind joint on python",
        "behind joint on javascript",
        "expert",
        "expert gap",
    )
    assert table.rows == (
        (
            "finetune",
            "joint",
            "0.111 [0.061, 0.161]",
            "-0.022 [-0.072, 0.028]",
            "single",
            "0.033 [-0.017, 0.083]",
        ),
    )


def test_what_is_missing_is_said_once_for_all_it_is_missing_for(held):
    said = list(explain_references(held))
    assert len(said) == 2
    assert said[1] == (
        "Not known for the intransigence of `lora`, the expert gap of `lora`, the intransigence of `layers`, "
        "the expert gap of `layers`: the run holds no reference."
    )


def test_there_is_no_table_where_nothing_is_known(results):
    assert build_references_table(results) is None
    assert "short of what else was trained" not in render_analysis(results)


def test_the_analysis_has_the_table(held):
    text = render_analysis(held)
    assert "| finetune | joint | 0.111 [0.061, 0.161] |" in text
    assert "Negative means that the method is ahead." in text
