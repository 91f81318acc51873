"""What validation decided is shown, and only where there was any."""

from codestrata.report.markdown import render_analysis
from codestrata.report.validations import build_validation_table, explain_validation


def make_validation(**changes):
    return {
        "validation_steps": 50,
        "patience": 2,
        "examples": 100,
        "seconds": 1.5,
        "losses": [{"step": 50, "loss": 0.75}, {"step": 100, "loss": 0.5}, {"step": 150, "loss": 0.625}],
        "best_step": 100,
        "best_loss": 0.5,
        "kept": "best",
        "kept_step": 100,
        **changes,
    }


def set_validation(results, **changes):
    training = results["methods"][1]["seeds"][0]["trainings"][1]
    training |= {"steps": 150, "stopped": "patience", "validation": make_validation(**changes)}
    return results


def test_a_run_without_validation_says_nothing_of_it(results):
    assert build_validation_table(results) is None
    assert "## Validation" not in render_analysis(results)


def test_every_validated_training_has_a_line(results):
    table = build_validation_table(set_validation(results))
    (row,) = (dict(zip(table.header, row, strict=True)) for row in table.rows)
    assert row == {
        "method": "lora",
        "seed": "0",
        "task": "javascript",
        "steps": "150 of 300",
        "validations": "3",
        "lowest loss": "0.500 (step 100)",
        "last loss": "0.625",
        "stopped by": "patience",
        "weights kept": "best (step 100)",
    }


def test_what_was_decided_and_by_what(results):
    text = explain_validation(set_validation(results))
    assert "after every 50 steps and after the last: a training stopped once 2 in a row" in text
    assert "and the component has the weights of the lowest loss" in text
    assert text.endswith("none of its test examples had a part in any choice.")
    assert "stopped once it was no better than the best before" in explain_validation(
        set_validation(results, patience=1)
    )
    assert "nothing was decided by it" in explain_validation(
        set_validation(results, patience=None, kept="last")
    )
    assert f"## Validation\n\n{text}" in render_analysis(set_validation(results))
