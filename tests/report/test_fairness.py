"""The tables of what was solved and tried, and what is said about them."""

import pytest

from codestrata.report.fairness import explain_fairness, list_fair_tables, write_amount
from codestrata.report.markdown import render_analysis


def make_own(**values):
    return {
        "knob": "lora.rank",
        "values": {},
        "steps": None,
        "seconds_per_step": None,
        "target": 1000,
        "reached": 1000,
        "deviation": 0.0,
        "within_tolerance": True,
        "reason": None,
        "learning_rate": 0.01,
        "search": None,
        **values,
    }


def make_search(**values):
    trials = [
        {"rate": 0.001, "loss": 1.23456, "reason": None},
        {"rate": 0.01, "loss": 0.5, "reason": None},
        {"rate": 0.1, "loss": None, "reason": "the training diverged"},
    ]
    return {
        "task": "python",
        "steps": 20,
        "seed": 0,
        "trials": trials,
        "chosen": 0.01,
        "edge": None,
        **values,
    }


@pytest.fixture
def fair(results):
    """Results of a run that was matched on parameters; what is in its entry may be changed."""
    results["fair"] = {
        "match": "parameters",
        "unit": "trained parameters",
        "reference": "lora",
        "target": 1000,
        "tolerance": 0.05,
        "machine_dependent": False,
        "methods": {
            "lora": make_own(),
            "layers": make_own(
                knob="layers.blocks",
                values={"layers.blocks": 2, "layers.learning_rate": 0.01},
                reached=1100,
                deviation=0.1,
                within_tolerance=False,
                reason="layers.blocks 2 comes nearest of all whole numbers that it can have",
            ),
        },
    }
    return results


def test_a_row_says_what_was_solved_and_how_far_off_it_is(fair):
    (table,) = list_fair_tables(fair)
    assert table.title == "What was solved for equal trained parameters"
    assert table.rows == (
        ("lora", "as set", "1,000", "1,000", "+0.0 %"),
        (
            "layers",
            "layers.blocks 2",
            "1,000",
            "1,100",
            "+10.0 % (layers.blocks 2 comes nearest of all whole numbers that it can have)",
        ),
    )
    said = list(explain_fairness(fair))
    assert said[0].startswith("Methods were matched on parameters: every training of a method changes")
    assert "The target is what `lora` has as it is set; a method counts as matched within 5 %." in said[0]
    assert said[1].startswith("Not matched: `layers`.")


def test_steps_and_what_has_no_setting_are_said_too(fair):
    fair["fair"] |= {"match": "time", "unit": "seconds", "reference": None}
    fair["fair"]["methods"] = {
        "lora": make_own(knob="training.steps", steps={"python": 3, "javascript": 4}, target=12.34),
        "ia3": make_own(knob=None, reached=999.5),
    }
    (table,) = list_fair_tables(fair)
    assert [row[:4] for row in table.rows] == [
        ("lora", "training.steps 3, 4", "12.3", "1,000"),
        ("ia3", "-", "1,000", "999.5"),
    ]
    (said,) = explain_fairness(fair)
    assert "The numbers of steps hold for this machine only. The target was given;" in said


def test_a_search_shows_every_loss_and_the_edge(fair):
    fair["fair"] |= {"match": None, "unit": None, "reference": None}
    fair["fair"]["methods"] = {
        "lora": make_own(search=make_search()),
        "layers": make_own(search=make_search(chosen=0.001, edge="lowest")),
        "finetune": make_own(),
    }
    (table,) = list_fair_tables(fair)
    losses = "0.001: 1.235, 0.01: 0.500, 0.1: diverged"
    assert table.rows == (
        ("lora", "20", losses, "0.01", "no"),
        ("layers", "20", losses, "0.001", "lowest: widen it"),
    )
    (said,) = explain_fairness(fair)
    assert said.startswith("Every method had 3 trials on `python`, the first task,")


def test_the_analysis_has_the_chapter_where_something_was_made_comparable(fair):
    text = render_analysis(fair)
    assert "## How the methods were made comparable" in text
    assert "| layers | layers.blocks 2 | 1,000 | 1,100 |" in text
    fair["fair"] = None
    assert "made comparable" not in render_analysis(fair)
    assert list_fair_tables(fair) == []
    assert list(explain_fairness(fair)) == []


def test_amounts_are_as_exact_as_they_need_to_be():
    assert [write_amount(value) for value in (7, 7.0, 7.25, 1234567.8)] == ["7", "7", "7.2", "1,234,568"]
