"""How isolation is shown, and how often it was."""

from dataclasses import replace

import pytest

from codestrata.records import Cell
from codestrata.results.measured import MethodWalks, Walk
from codestrata.results.rechecks import choose_recheck, describe_isolation
from codestrata.settings.sections import MeasurementSettings
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import Settings

CELL = Cell(
    row=2,
    trained_through="late",
    task="early",
    split="test",
    origin="decoded",
    predictions=(),
    scores=(),
    folder="methods/lora/seed-0/late",
)


def make_settings(tasks, recheck=None):
    return Settings(
        tasks=tuple(TaskSettings(name=f"task-{number}") for number in range(tasks)),
        measurement=MeasurementSettings(recheck=recheck),
    )


@pytest.mark.parametrize(("tasks", "chosen"), [(1, "full"), (3, "full"), (4, "canary"), (32, "canary")])
def test_many_tasks_are_shown_by_canaries_unless_asked_otherwise(tasks, chosen):
    assert choose_recheck(make_settings(tasks)) == chosen
    for asked in ("full", "canary", "off"):
        assert choose_recheck(make_settings(tasks, asked)) == asked


def test_proofs_are_counted_by_their_kind():
    again = {"origin": "rechecked", "decoded_again": 8}
    canary = {"origin": "canary", "decoded_again": 3}
    cells = (
        CELL,
        replace(CELL, origin="structural"),
        replace(CELL, origin="taken-over"),
        replace(CELL, origin="taken-over", trained_through="early"),  # another seed came to the same bytes
        *(replace(CELL, **again, identical=same) for same in (True, True, False)),
        *(replace(CELL, **canary, identical=same) for same in (True, False)),
    )
    training = {"base_fingerprint_before": "a", "base_fingerprint_after": "a"}
    trainings = (training, training | {"base_fingerprint_after": "b"})
    walk = Walk(seed=0, trainings=trainings, cells=cells)
    lora = {"name": "lora", "schedule": "isolated", "selection": "oracle"}
    finetune = {"name": "finetune", "schedule": "sequential", "selection": "oracle"}
    shared = Walk(seed=0, trainings=(), cells=(replace(CELL, origin="taken-over"),))
    walks = [MethodWalks(method=lora, walks=(walk, walk)), MethodWalks(method=finetune, walks=(shared,))]
    found = describe_isolation(walks, "canary")
    assert found == {
        "recheck": "canary",
        "rechecked_cells": 6,
        "identical_cells": 4,
        "canary_cells": 4,
        "canary_predictions": 12,
        "identical_canary_cells": 2,
        "taken_over_cells": 6,
        "trainings": 4,
        "base_unchanged": 2,
    }
