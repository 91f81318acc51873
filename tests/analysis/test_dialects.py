"""What other libraries report, against matrices worked by hand from their formulas."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.analysis import matrix
from codestrata.analysis.dialects import DIALECTS
from codestrata.analysis.matrix import report_as
from codestrata.errors import MatrixError, SettingsError

DOCUMENT = Path(__file__).parents[2] / "docs" / "matrix.md"
NAN = math.nan

# The example that DESIGN pins: both earlier tasks improve after their own training.
IMPROVING = [
    [NAN, NAN, NAN],
    [0.80, NAN, NAN],
    [0.85, 0.70, NAN],
    [0.90, 0.75, 0.60],
]
# Task 1 peaks in the middle and falls, task 2 falls, nothing is missing.
FALLING = [
    [0.10, 0.20, 0.05],
    [0.60, 0.30, 0.10],
    [0.70, 0.50, 0.25],
    [0.40, 0.35, 0.90],
]
# Task 2 was best before its own training, which harmed it.
HARMED = [
    [0.50, 0.50, 0.50],
    [0.60, 0.80, 0.40],
    [0.50, 0.60, 0.30],
    [0.55, 0.40, 0.70],
]
# The same, where only tasks trained so far were scored.
HARMED_BELOW = [
    [NAN, NAN, NAN],
    [0.60, NAN, NAN],
    [0.50, 0.60, NAN],
    [0.55, 0.40, 0.70],
]
PAIR = [
    [0.05, 0.10],
    [0.50, 0.30],
    [0.70, 0.60],
]
LONG = [
    [NAN, NAN, NAN, NAN],
    [0.90, NAN, NAN, NAN],
    [0.80, 0.70, NAN, NAN],
    [0.60, 0.90, 0.50, NAN],
    [0.70, 0.30, 0.40, 0.80],
]
MATRICES = {
    "improving": IMPROVING,
    "falling": FALLING,
    "harmed": HARMED,
    "harmed below": HARMED_BELOW,
    "pair": PAIR,
    "long": LONG,
}

# library, name -> matrix -> the sum written out from the library's formula
WORKED = {
    ("codestrata", "average_accuracy"): {"improving": 0.75, "falling": 0.55, "pair": 0.65, "long": 0.55},
    ("codestrata", "learning_accuracy"): {"improving": 0.70, "falling": 2.00 / 3, "pair": 0.55},
    ("codestrata", "backward_transfer"): {"improving": 0.075, "falling": -0.175, "pair": 0.20},
    ("codestrata", "forward_transfer"): {"improving": None, "falling": 0.15, "pair": 0.20},
    ("codestrata", "forgetting"): {
        "improving": -0.05,
        "falling": 0.225,
        "harmed": (0.05 + 0.20) / 2,
        "harmed below": (0.05 + 0.20) / 2,
        "pair": -0.20,
        "long": (0.20 + 0.60 + 0.10) / 3,
    },
    ("avalanche", "Top1_Acc_Stream"): {"falling": None},
    ("avalanche", "StreamForgetting"): {
        "improving": -0.075,
        "falling": (0.20 + 0.15) / 2,
        "harmed": (0.05 + 0.20) / 2,
        "pair": -0.20,
        "long": (0.20 + 0.40 + 0.10) / 3,
    },
    ("avalanche", "StreamBWT"): {"improving": 0.075, "falling": -0.175, "pair": 0.20},
    ("avalanche", "StreamForwardTransfer"): {"improving": None, "falling": 0.15, "pair": 0.20},
    ("mammoth", "mean accuracy"): {"improving": 0.75, "falling": 0.55},
    ("mammoth", "backward_transfer"): {"improving": 0.075, "falling": -0.175},
    ("mammoth", "forward_transfer"): {"improving": None, "falling": 0.15, "harmed": (0.30 - 0.20) / 2},
    ("mammoth", "forgetting"): {
        "improving": 0.0,
        "falling": (0.30 + 0.15) / 2,
        "harmed": (0.05 + 0.40) / 2,
        "harmed below": (0.05 + 0.20) / 2,
        "pair": 0.0,
        "long": (0.20 + 0.60 + 0.10) / 3,
    },
    ("gem", "Final Accuracy"): {"improving": 0.75, "falling": 0.55},
    ("gem", "Backward"): {"improving": 0.15 / 3, "falling": -0.35 / 3, "pair": 0.20 / 2},
    ("gem", "Forward"): {"improving": None, "falling": 0.30 / 3, "pair": 0.20 / 2},
    ("chaudhry", "average accuracy A"): {"improving": 0.75, "harmed": 0.55},
    ("chaudhry", "forgetting F"): {
        "improving": -0.05,
        "falling": 0.225,
        "harmed": (0.05 + 0.40) / 2,
        "harmed below": (0.05 + 0.20) / 2,
        "pair": -0.20,
        "long": (0.20 + 0.60 + 0.10) / 3,
    },
    ("agem", "average accuracy"): {"improving": 0.75, "pair": 0.65},
    ("agem", "average forgetting"): {
        "improving": None,
        "falling": 0.225,
        "harmed": (0.05 + 0.40) / 2,
        "harmed below": None,
        "pair": -0.20,
    },
    ("continuum", "accuracy"): {"falling": None},
    ("continuum", "accuracy_A"): {
        "improving": 4.60 / 6,
        "falling": 3.45 / 6,
        "pair": 1.80 / 3,
        "long": 6.60 / 10,
    },
    ("continuum", "backward_transfer"): {
        "improving": 0.10 / 3,
        "falling": -0.20 / 3,
        "pair": 0.0,
        "long": (-0.30 - 0.20 - 0.40) / 6,
    },
    ("continuum", "positive_backward_transfer"): {"improving": 0.10 / 3, "falling": 0.0, "long": 0.0},
    ("continuum", "remembering"): {"improving": 1.0, "falling": 1 - 0.20 / 3, "long": 1 - 0.90 / 6},
    ("continuum", "forward_transfer"): {
        "improving": 2.50 / 3,
        "falling": 1.45 / 3,
        "pair": 0.70,
        "long": 3.70 / 6,
    },
    ("continuum", "forgetting"): {
        "improving": (0.80 - 0.90) / 2,
        "falling": (0.60 - 0.40) / 2,
        "pair": 0.0,
        "long": (0.20 + 0.40) / 3,
    },
    ("facil", "TAg Acc"): {"improving": 0.75, "long": 0.55},
    ("facil", "TAg Forg"): {"improving": -0.05, "harmed": (0.05 + 0.20) / 2, "long": 0.90 / 3},
    ("pycil", "Average Accuracy"): {"falling": None},
    ("pycil", "Forgetting"): {
        "improving": 0.0,
        "falling": 0.225,
        "harmed": (0.05 + 0.20) / 2,
        "pair": 0.0,
        "long": (0.20 + 0.60 + 0.10) / 3,
    },
    ("l2p", "Acc@1"): {"improving": 0.75, "falling": 0.55},
    ("l2p", "Backward"): {"improving": 0.075, "pair": 0.20},
    ("l2p", "Forgetting"): {"improving": 0.0, "falling": 0.225, "harmed": (0.05 + 0.20) / 2, "pair": 0.0},
    ("sequoia", "Average Final Performance"): {"falling": None},
}
CASES = [
    (library, name, example, value)
    for (library, name), values in WORKED.items()
    for example, value in values.items()
]


@pytest.mark.parametrize(("library", "name", "example", "value"), CASES)
def test_a_library_reports_what_was_worked_by_hand(library, name, example, value):
    found = report_as(np.array(MATRICES[example]), library)[name]
    if value is None:
        assert found.value is None
        assert found.reason
    else:
        assert found.value == pytest.approx(value, abs=1e-12)
        assert found.reason is None


def test_every_definition_has_a_worked_case():
    defined = {(library, found.name) for library, entry in DIALECTS.items() for found in entry.definitions}
    assert defined == set(WORKED)


def test_the_same_word_means_different_numbers_on_the_pinned_matrix():
    scores = np.array(IMPROVING)
    assert report_as(scores, "codestrata")["forgetting"].value == pytest.approx(-0.05)
    assert report_as(scores, "avalanche")["StreamForgetting"].value == pytest.approx(-0.075)
    assert report_as(scores, "mammoth")["forgetting"].value == 0


def test_ours_are_the_metrics_of_the_matrix():
    ours = report_as(np.array(FALLING), "codestrata")
    assert ours == matrix.summarize_matrix(np.array(FALLING))


@pytest.mark.parametrize(
    ("entry", "library", "name"),
    [
        ((2, 0), "mammoth", "forgetting"),
        ((1, 0), "pycil", "Forgetting"),
        ((2, 0), "chaudhry", "forgetting F"),
        ((1, 1), "agem", "average forgetting"),
        ((3, 1), "continuum", "forward_transfer"),
        ((1, 0), "continuum", "forgetting"),
        ((2, 1), "gem", "Backward"),
    ],
)
def test_a_missing_entry_is_a_reason(entry, library, name):
    scores = np.array(FALLING)
    scores[entry] = NAN
    found = report_as(scores, library)[name]
    assert found.value is None
    assert f"R[{entry[0]}, {entry[1] + 1}]" in found.reason


@pytest.mark.parametrize("library", DIALECTS)
def test_one_task_has_no_transfer(library):
    values = report_as(np.array([[0.1], [0.5]]), library)
    for found in DIALECTS[library].definitions:
        if found.quantity in ("backward transfer", "forward transfer", "forgetting"):
            assert values[found.name].value is None
            assert "at least 2" in values[found.name].reason


def test_an_unknown_library_comes_with_the_nearest_name():
    with pytest.raises(SettingsError, match=r"Unknown library 'mamoth'\. Did you mean 'mammoth'\?"):
        report_as(np.array(FALLING), "mamoth")


@pytest.mark.parametrize("scores", [np.zeros((3, 3)), np.full((3, 2), 2.0), np.zeros((2, 3, 2))])
def test_what_is_no_matrix_is_refused(scores):
    with pytest.raises(MatrixError):
        report_as(scores, "avalanche")


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_relations_between_the_libraries(tasks, seed):
    scores = np.random.default_rng(seed).random((tasks + 1, tasks))
    values = {library: report_as(scores, library) for library in DIALECTS}
    ours = values["codestrata"]

    def value(library, name):
        return values[library][name].value

    assert value("avalanche", "StreamForgetting") == -value("avalanche", "StreamBWT")
    assert value("facil", "TAg Forg") == ours["forgetting"].value
    assert value("pycil", "Forgetting") >= max(0, ours["forgetting"].value - 1e-12)
    assert value("mammoth", "forgetting") >= value("chaudhry", "forgetting F") - 1e-12
    assert value("chaudhry", "forgetting F") >= ours["forgetting"].value - 1e-12
    assert value("agem", "average forgetting") == pytest.approx(value("chaudhry", "forgetting F"))
    assert value("gem", "Backward") * tasks == pytest.approx(ours["backward_transfer"].value * (tasks - 1))


@pytest.mark.parametrize("library", DIALECTS)
def test_the_documentation_has_every_definition_with_its_source(library):
    text = DOCUMENT.read_text(encoding="utf-8")
    dialect = DIALECTS[library]
    assert f"| {dialect.title} | {dialect.source} |" in text
    for found in dialect.definitions:
        assert f"| {dialect.title} | `{found.name}` | {found.formula} |" in text
