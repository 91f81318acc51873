"""The tables about parts of the training data, from made results."""

import pytest

from codestrata.report.efficiency import explain_efficiency, list_efficiency_tables
from codestrata.report.markdown import render_analysis

FRACTIONS = [0.1, 0.25, 0.5, 1.0]


def make_score(value):
    return {
        "value": value,
        "n": 300,
        "seeds": 1,
        "interval": {"low": value - 0.05, "high": value + 0.05, "level": 0.95, "method": "wilson"},
        "reason": None,
    }


def make_comparison(verdict):
    numbers = {"difference": 0.1, "interval": {"low": 0.02, "high": 0.18, "level": 0.99, "method": "paired"}}
    return {"first": "lora", "second": "lora on part of it", "task": "python", "verdict": verdict, **numbers}


@pytest.fixture
def measured(results):
    points = [
        {"fraction": fraction, "examples": round(4000 * fraction), "scores": {"pass@1": make_score(fraction)}}
        for fraction in FRACTIONS
    ]
    verdicts = ("first", "second", "cannot tell")
    results["sample_efficiency"] = {
        "about": "a component for each task",
        "metric": "pass@1",
        "fractions": FRACTIONS,
        "methods": {"lora": {"python": points}},
        "not_measured": {"base": "nothing is trained", "finetune": "it is shared", "ewc": "it is shared"},
        "comparisons": [
            {"method": "lora", "fraction": fraction, "comparison": make_comparison(verdict)}
            for fraction, verdict in zip(FRACTIONS[:-1], verdicts, strict=True)
        ],
    }
    return results


def test_a_run_without_parts_says_nothing_of_them(results):
    assert list_efficiency_tables(results) == []
    assert "How much data" not in render_analysis(results)


def test_scores_stand_beside_the_number_of_examples(measured):
    first, second, _ = list_efficiency_tables(measured)
    assert first.header == ("method", "task", "0.1 of the data", "0.25 of the data")
    assert second.header == ("method", "task", "0.5 of the data", "1 of the data")
    assert first.rows == (("lora", "python", "0.100 [0.050, 0.150] (400)", "0.250 [0.200, 0.300] (1,000)"),)


def test_what_is_shown_of_every_part(measured):
    table = list_efficiency_tables(measured)[-1]
    assert table.header == ("method", "task", "1 - 0.1", "1 - 0.25", "1 - 0.5")
    numbers = "+0.100 [+0.020, +0.180]"
    assert table.rows == (
        (
            "lora",
            "python",
            f"more data helps, {numbers}",
            f"less is better, {numbers}",
            f"cannot tell, {numbers}",
        ),
    )


def test_a_pair_that_was_not_compared_says_so(measured):
    measured["sample_efficiency"]["comparisons"][0]["comparison"] = {
        "first": "lora",
        "second": "lora on 0.1 of the data",
        "task": "python",
        "verdict": None,
        "reason": "no value",
    }
    assert list_efficiency_tables(measured)[-1].rows[0][2] == "not compared"


def test_methods_without_parts_are_named_with_the_reason(measured):
    text = "\n".join(explain_efficiency(measured))
    assert "Not measured for `base`: nothing is trained." in text
    assert "Not measured for `finetune`, `ewc`: it is shared." in text
    assert "## How much data does it need" in render_analysis(measured)


def test_where_no_method_has_parts_only_the_reasons_are_told(measured):
    measured["sample_efficiency"] |= {"methods": {}, "comparisons": []}
    assert list_efficiency_tables(measured) == []
    assert "Not measured for `base`" in render_analysis(measured)
