"""Evidence has the number that stands at its pointer, or a reason."""

import pytest

from codestrata.results.evidence import (
    find_comparison,
    find_final,
    find_method,
    find_noise,
    find_rechecks,
    find_taken_over,
    find_task,
    find_trainings,
)


def make_cell(origin, *, identical=None, task="one"):
    return {"origin": origin, "identical_predictions": identical, "task": task, "trained_through": "two"}


def make_tree():
    score = {"value": 0.4, "interval": None, "reason": None}
    entry = {
        "seed": 7,
        "cells": [make_cell("decoded"), make_cell("rechecked", identical=True)],
        "trainings": [
            {"task": "one", "seconds": 3.0, "peak_memory_mib": None, "memory_counter": "none here"}
        ],
    }
    return {
        "tasks": [{"name": "one", "language": "lua"}, {"name": "two", "language": "lua"}],
        "methods": [
            {
                "name": "lora",
                "schedule": "isolated",
                "final": {"test": {"one": {"bleu": score}}},
                "seeds": [entry, entry | {"cells": [make_cell("rechecked", identical=False)]}],
            }
        ],
        "comparisons": [{"first": "lora", "second": "finetune", "task": "one", "metric": "bleu"}],
        "noise_floor": {
            "reason": None,
            "entries": [
                {"task": "one", "differences": {"bleu": 0.01, "chrf": None}},
                {"task": "two", "differences": {"bleu": -0.03}},
            ],
        },
    }


def test_places_are_found_by_name_and_language():
    tree = make_tree()
    assert (find_method(tree, "lora"), find_method(tree, "layers")) == (0, None)
    assert (find_task(tree, "lua"), find_task(tree, "python")) == ("one", None)


def test_a_score_has_its_pointer():
    found = find_final(make_tree(), "bleu", "lora", "lua")
    assert (found.pointer, found.value, found.reason) == ("/methods/0/final/test/one/bleu", 0.4, None)
    missing = find_final(make_tree(), "bleu", "lora", "python")
    assert (missing.pointer, missing.value) == (None, None)
    assert missing.reason == "this run has no such method or task"


def test_the_largest_noise_keeps_its_sign():
    tree = make_tree()
    assert find_noise(tree, "bleu", None).value == -0.03
    assert find_noise(tree, "bleu", None).pointer == "/noise_floor/entries/1/differences/bleu"
    assert find_noise(tree, "bleu", "one").value == 0.01
    assert find_noise(tree, "chrf", None).reason == "chrf was not measured twice"


def test_rechecks_are_counted_over_all_seeds():
    tree = make_tree()
    evidence, count = find_rechecks(tree, "lora")
    assert (evidence.value, evidence.pointer, count) == (0.5, "/methods/0/seeds", 2)
    tree["methods"][0]["schedule"] = "sequential"
    evidence, count = find_rechecks(tree, "lora")
    assert (evidence.value, count) == (None, 0)


def test_canaries_are_rechecks_and_stand_on_bytes_too():
    tree = make_tree()
    cells = tree["methods"][0]["seeds"][0]["cells"]
    assert find_taken_over(tree, "lora").reason == "no cell was taken over"
    cells += [
        make_cell("canary", identical=True),
        make_cell("taken-over"),
        make_cell("taken-over", task="two"),
    ]
    evidence, count = find_rechecks(tree, "lora")
    assert (evidence.value, count) == (pytest.approx(2 / 3), 3)
    taken = find_taken_over(tree, "lora")
    assert (taken.value, taken.pointer) == (2.0, "/methods/0/seeds")  # the task's own training does not count
    tree["methods"][0]["schedule"] = "sequential"
    assert find_taken_over(tree, "lora").value is None


def test_trainings_are_listed_for_every_seed():
    tree = make_tree()
    found = find_trainings(tree, "lora", "seconds")
    assert [entry.pointer for entry in found] == [
        f"/methods/0/seeds/{number}/trainings/0/seconds" for number in (0, 1)
    ]
    assert {entry.value for entry in found} == {3.0}
    assert find_trainings(tree, "lora", "peak_memory_mib")[0].reason == "not counted: none here"
    assert find_trainings(tree, "layers", "seconds")[0].reason == "this run has no such training"


def test_a_comparison_of_others_is_not_taken():
    assert find_comparison(make_tree(), "lua").value is None
