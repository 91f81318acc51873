"""What was left out as a duplicate or a leak is shown per task, with examples that break no table."""

import pytest

from codestrata.report.duplicates import (
    build_example_row,
    explain_duplicates,
    list_duplicate_tables,
    show_name,
)
from codestrata.report.markdown import render_analysis

EXAMPLE = {
    "kind": "near",
    "pair": "train-test",
    "same": "tokens",
    "jaccard": 0.9123,
    "identifier": "r:f|`<b>`\n",
    "repeats": "r:g",
    "quote": "def f",
    "removed": True,
}


@pytest.fixture
def found(results):
    """The report on one task's duplicates, in a tree of results."""
    duplicates = {
        "threshold": 0.8,
        "excluded_threshold": 0.8,
        "method": {
            "name": "MinHash",
            "library": "datasketch 2.0.0",
            "tokens_per_shingle": 5,
            "permutations": 128,
            "bands": 18,
            "rows": 7,
            "seed": 7,
            "recall_at_threshold": 0.9855,
        },
        "near_reason": None,
        "looked_at": {"test": 300, "validation": 100, "train": 1600, "excluded:humaneval": 164},
        "removed": {
            "exact": {"within test": 1, "within train": 2, "train-test": 3, "train-excluded:humaneval": 4}
            | {"train-validation": 0},
            "near": {"within test": 5, "train-validation": 6, "validation-test": 7}
            | {"train-excluded:humaneval": 0},
        },
        "kept": {"exact": {"train-test": 0}, "near": {"train-test": 0}},
        "examples": [EXAMPLE],
    }
    results["tasks"][1]["duplicates"] = duplicates
    return duplicates


def test_counts_stand_where_they_belong(results, found):
    counts, examples = list_duplicate_tables(results)
    assert counts.rows == (("javascript", "0.8", "2,164", "3 + 5", "3 + 7", "0 + 6", "4 + 0"),)
    assert examples.title == "Duplicates and leaks of javascript, first ones"
    assert examples.rows == (("`train-test`", "`r:f|'<b>' `", "`r:g`", "tokens", "0.912", "yes"),)


def test_where_near_ones_were_looked_for_among_excluded_sets_alone(results, found):
    found |= {"threshold": 1.0, "excluded_threshold": 0.7}
    found["removed"]["near"] = {"train-excluded:humaneval": 9}
    found["kept"]["near"] = {}
    counts, _ = list_duplicate_tables(results)
    assert counts.rows == (("javascript", "0.7", "2,164", "3 + -", "3 + -", "0 + -", "4 + 9"),)
    (said,) = explain_duplicates(results)
    assert "near duplicates of excluded sets, and of these alone, share at least 0.7 of" in said


def test_tests_that_another_task_is_trained_on_are_shown(results):
    assert list_duplicate_tables(results) == []
    row = {"trained": "python", "tested": "javascript", "tests": 300, "exact": 2, "near": 1, "threshold": 0.8}
    pairs = [{"test": "a`b", "repeats": "c", "kind": "near", "jaccard": 0.9}]
    results["shared_examples"] = [{**row, "examples": pairs}]
    (table,) = list_duplicate_tables(results)
    assert table.rows == (("python", "javascript", "300", "2", "1", "0.8", "`a'b`"),)
    text = render_analysis(results)
    assert "## Duplicates and leaks" in text
    assert "`tasks.exclude` of the one trained" in text


def test_names_of_strangers_are_code_in_one_line():
    assert show_name("a`b\nc") == "`a'b c`"
    assert build_example_row(EXAMPLE | {"jaccard": None, "removed": False})[4:] == (
        "-",
        "no, as allow_overlap permits",
    )


def test_the_method_and_its_recall_are_said(results, found):
    (said,) = explain_duplicates(results)
    assert "near duplicates share at least 0.8 of their sets of 5 tokens" in said
    assert "98.6 % are expected" in said or "98.5 % are expected" in said
    found["kept"]["near"]["train-test"] = 9
    assert (
        "9 records of training or validation repeat a test and were kept"
        in list(explain_duplicates(results))[1]
    )


def test_equal_ones_alone(results, found):
    found.update(method=None, near_reason="near_duplicates is 1", threshold=1.0)
    found["removed"]["near"] = found["kept"]["near"] = None
    counts, _ = list_duplicate_tables(results)
    assert counts.rows == (("javascript", "-", "2,164", "3 + -", "3 + -", "0 + -", "4 + -"),)
    assert list(explain_duplicates(results)) == ["javascript: near_duplicates is 1."]


def test_the_analysis_has_a_chapter_only_where_records_were_looked_at(results, found):
    assert "## Duplicates and leaks" in render_analysis(results)
    assert "`r:f\\|'<b>' `" in render_analysis(results)
    results["tasks"][1]["duplicates"] = None
    assert "## Duplicates and leaks" not in render_analysis(results)
