"""What is repeated, counted from flags by hand."""

from dataclasses import replace

import pytest

from codestrata.records import Cell, Prediction
from codestrata.results.measured import Walk
from codestrata.results.repetition import BASE, SAMPLED, find_last_row, list_entries

LONG, SHORT = " ".join(f"w{n}" for n in range(50)), " ".join(f"w{n}" for n in range(49))


def said(completion=LONG, repeats=False, target=SHORT, target_repeats=False, sample=0):
    return Prediction(
        identifier="a",
        prompt="p",
        target=target,
        completion=completion,
        sample=sample,
        repeats=repeats,
        target_repeats=target_repeats,
    )


def make_cell(*predictions, row=1, task="python", split="test"):
    return Cell(
        row=row,
        trained_through=None,
        task=task,
        split=split,
        origin="decoded",
        predictions=predictions,
        scores=(),
        folder="f",
    )


def describe(*predictions):
    (entry,) = list_entries("lora", 3, 1, [make_cell(*predictions)], 50)
    return entry


def test_answers_are_counted_and_long_ones_apart():
    entry = describe(said(repeats=True), said(), said(SHORT), said("", target=LONG, target_repeats=True))
    assert [entry[key] for key in ("method", "seed", "order", "task", "split")] == [
        "lora", 3, 1, "python", "test",
    ]  # fmt: skip
    outputs, targets = entry["outputs"], entry["targets"]
    assert [outputs[key] for key in ("n", "untrained", "long", "repeating")] == [4, 0, 2, 1]
    assert [targets[key] for key in ("n", "long", "repeating")] == [4, 1, 1]
    assert (outputs["share"]["value"], outputs["share"]["reason"]) == (0.25, None)
    interval = outputs["share"]["interval"]
    assert [round(interval[key], 4) for key in ("low", "high")] == [0.0456, 0.6994]  # Wilson's of 1 in 4


def test_what_the_base_answered_is_counted_apart():
    entry = describe(said(repeats=True), said(repeats=None, target_repeats=None))
    assert [entry["outputs"][key] for key in ("n", "untrained", "repeating")] == [1, 1, 1]
    assert entry["outputs"]["share"] == {"value": 1.0, "interval": None, "reason": None}
    assert entry["targets"]["n"] == 1


def test_where_nothing_was_looked_at_there_is_a_reason_and_no_nought():
    entry = describe(said(repeats=None, target_repeats=None))
    for part in ("outputs", "targets"):
        assert entry[part]["share"] == {"value": None, "interval": None, "reason": BASE}


def test_several_answers_to_a_prompt_have_no_interval_but_their_targets_have():
    entry = describe(*(said(repeats=True, sample=sample) for sample in (0, 1)), said(), said(sample=1))
    assert entry["outputs"]["n"] == 4
    assert entry["outputs"]["share"] == {"value": 0.5, "interval": None, "reason": SAMPLED}
    assert entry["targets"]["n"] == 2
    assert entry["targets"]["share"]["interval"] is not None


def test_the_last_row_alone_is_looked_at():
    cells = tuple(make_cell(said(), row=row, task=task) for row in (0, 1, 2) for task in ("python", "lua"))
    walk = Walk(seed=0, trainings=(), cells=cells)
    assert find_last_row(walk) == list(cells[4:])


def test_a_whole_run_holds_an_entry_for_every_cell_of_its_last_rows(tiny_run):
    found = tiny_run.read_results()["repetition"]
    assert (found["tokens"], found["reason"]) == (1, None)
    places = [(entry["method"], entry["task"], entry["split"]) for entry in found["entries"]]
    assert places == [
        (method, task, split)
        for method in ("base", "echo", "nearest", "lora", "layers", "finetune")
        for task in ("python", "javascript")
        for split in ("test", "unseen")
    ]
    counted = {entry["outputs"]["n"] for entry in found["entries"] if entry["seed"] is not None}
    assert counted == {4, 2}


@pytest.mark.parametrize(("completion", "long"), [(SHORT, 0), (LONG, 1), (f"{LONG} x", 1)])
def test_long_is_from_that_many_tokens_on(completion, long):
    entry = describe(replace(said(), completion=completion))
    assert entry["outputs"]["long"] == long
