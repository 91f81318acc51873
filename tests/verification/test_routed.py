"""Routed answers that are not those of the component that was picked are named."""

import shutil

import pytest

from codestrata.files import read_jsonl, write_jsonl
from codestrata.store import RunDirectory
from codestrata.verification.claims import read_claims
from codestrata.verification.inputs import build_case
from codestrata.verification.routed import compare_routed_walk, list_routed_faults

FOLDER = "methods/routed/seed-0/late"


@pytest.fixture
def whole(routed_run):
    """A finished run with a router; do not change it."""
    return routed_run


@pytest.fixture
def run(whole, tmp_path):
    """A copy of it, to be damaged."""
    return RunDirectory(shutil.copytree(whole.path, tmp_path / "copy"))


def look(run):
    case, faults = build_case(run, read_claims(run))
    assert faults == ()
    return case, list(list_routed_faults(case))


def change(run, name, select, **values):
    """Change the first line of a file in the last row that is chosen; gives what it was."""
    path = run.path / FOLDER / name
    rows = [row for _, row in read_jsonl(path)]
    row = next(row for row in rows if select(row))
    before = dict(row)
    row.update(values)
    write_jsonl(path, rows)
    return before


def test_an_untouched_run_has_no_fault_and_names_what_was_decoded_apart(whole):
    case, faults = look(whole)
    assert faults == []
    found = compare_routed_walk(case, "routed", case.walks["routed", 0])
    rows = [row for _, row in read_jsonl(whole.path / FOLDER / "routing.jsonl")]
    foreign = {(row["chosen"], row["task"]) for row in rows if row["chosen"] not in (None, row["task"])}
    assert foreign
    assert foreign <= {(entry.owner.task, entry.cell.task) for entry in found.foreign}
    assert all(entry.positions for entry in found.foreign)


def test_an_answer_that_the_picked_component_did_not_give_is_named(run):
    chosen = {
        (row["task"], row["identifier"]): row["chosen"]
        for _, row in read_jsonl(run.path / FOLDER / "routing.jsonl")
    }
    before = change(
        run,
        "predictions.jsonl",
        lambda row: chosen[row["task"], row["identifier"]] == row["task"],
        completion="return 0",
    )
    _, faults = look(run)
    assert len(faults) == 1
    assert f"{before['identifier']} has another answer than component {before['task']} gave" in faults[0]


def test_a_choice_that_was_changed_is_named(run):
    before = change(run, "routing.jsonl", lambda row: row["chosen"] == row["task"], chosen=None)
    _, faults = look(run)
    assert len(faults) == 1
    assert f"{before['identifier']} has another answer than the base gave elsewhere" in faults[0]


def test_a_component_that_nobody_knew_cannot_have_answered(run):
    change(run, "routing.jsonl", lambda row: True, chosen="../lora")
    _, faults = look(run)
    assert "was answered by '../lora', which is not known in this row" in faults[0]


def test_choices_of_other_examples_are_named(run):
    change(run, "routing.jsonl", lambda row: True, identifier="other")
    _, faults = look(run)
    assert "routing.jsonl tells of other examples than the predictions" in faults[0]


def test_missing_choices_are_named(run):
    (run.path / FOLDER / "routing.jsonl").unlink()
    _, faults = look(run)
    assert faults
    assert "routing.jsonl" in faults[0]
