"""What the results claim: typed, refused where no run writes such, and whose component answers in a cell."""

import pytest
from damaging import edit_results, open_case

from codestrata.errors import DataError, RunError
from codestrata.files import write_text
from codestrata.methods import METHODS
from codestrata.verification.claims import CellClaim, Owner, find_owner, read_claims

TASKS = ("early", "late")


def build_cell(**values):
    cell = {"row": 2, "trained_through": "late", "task": "early", "split": "test", "origin": "rechecked"}
    rest = {"decoded_again": 0, "identical_predictions": None, "component_fingerprint": None, "folder": "x"}
    return CellClaim(**cell | rest | values)


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (lambda tree: tree["base"].update(fingerprint=None), "$.base.fingerprint"),
        (lambda tree: tree["methods"][0]["seeds"][0].pop("trainings"), "trainings"),
        (lambda tree: tree["methods"][0]["seeds"][0]["cells"][0].update(origin="guessed"), "cells[0].origin"),
        (lambda tree: tree.update(tasks={}), "$.tasks"),
        (lambda tree: tree.update(schema_version=3), "schema version 3"),
    ],
)
def test_results_that_no_run_writes_are_refused_with_the_place(run, edit, place):
    edit_results(run, edit)
    with pytest.raises(RunError) as refused:
        read_claims(run)
    assert place in str(refused.value)


@pytest.mark.parametrize(("text", "error"), [("[]", RunError), ("{", DataError)])
def test_results_that_are_no_object_are_refused(run, text, error):
    write_text(run.path / "experimental_results.json", text)
    with pytest.raises(error):
        read_claims(run)


def test_a_case_finds_what_the_results_tell(run):
    case = open_case(run)
    assert case.task_names == ("early", "late")
    assert [str(owner) for _, owner in case.list_owners()] == [
        "lora, seed 0, component early",
        "lora, seed 0, component late",
        "finetune, seed 0, component early",
        "finetune, seed 0, component late",
    ]
    assert [owner for _, owner in case.list_owners()] == list(case.trainings)
    (cell,) = case.list_cells("lora", 0, 2, "early")
    assert (cell.origin, cell.place) == ("rechecked", "row 2, early, test")
    assert case.list_cells("lora", 1, 2, "early") == []
    assert len(case.read_answers(cell.folder, "early", "test")) == 4


@pytest.mark.parametrize("folder", ["..", "/etc", "../mine-too", "methods/../.."])
def test_no_answers_are_read_outside_the_run(run, folder):
    with pytest.raises(RunError, match="leads out of run"):
        open_case(run).read_answers(folder, "early", "test")


def test_answers_that_are_not_there_are_named(run):
    case = open_case(run)
    with pytest.raises(RunError, match="base holds no predictions of early, split unseen"):
        case.read_answers("base", "early", "unseen")
    with pytest.raises(DataError, match=r"nowhere.predictions\.jsonl: cannot be read"):
        case.read_answers("nowhere", "early", "test")


def test_the_schedule_says_whose_component_answers():
    lora, finetune = METHODS["lora"], METHODS["finetune"]
    assert find_owner(lora, 0, build_cell(), TASKS) == Owner("lora", 0, "early")
    assert find_owner(finetune, 0, build_cell(), TASKS) == Owner("finetune", 0, "late")
    assert find_owner(lora, 0, build_cell(), TASKS, is_transfer=True) == Owner("lora", 0, "late")
    assert find_owner(lora, 0, build_cell(row=0, trained_through=None), TASKS) is None
    assert find_owner(lora, 0, build_cell(origin="structural"), TASKS) is None
    future = build_cell(row=1, trained_through="early", task="late")
    for name in ("warm", "finetune", "joint"):  # the next component will begin as the newest, or there is one
        assert find_owner(METHODS[name], 0, future, TASKS) == Owner(name, 0, "early")
    assert find_owner(METHODS["warm"], 0, build_cell(), TASKS) == Owner("warm", 0, "early")
    assert find_owner(METHODS["base"], 0, build_cell(), TASKS) is None
