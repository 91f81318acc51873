"""Predictions on disk: whole again when read, and a prelude only where there is one."""

import json

import pytest

from codestrata.errors import DataError
from codestrata.experiment.cells import PREDICTIONS_FILE, build_prediction, write_cells
from codestrata.records import Cell, Prediction

PLAIN = Prediction(
    identifier="a", prompt="p", target="t", completion="c", tests="x", tokens=3, finished=False
)
BEGUN = Prediction(identifier="b", prompt="p", target="t", completion="c", prelude="def f():\n")


def write(root, *predictions):
    cell = Cell(
        row=0,
        trained_through=None,
        task="python",
        split="test",
        origin="decoded",
        predictions=predictions,
        scores=(),
        folder="base",
    )
    write_cells(root, [cell])
    return root / "base" / PREDICTIONS_FILE


def test_predictions_are_whole_again_when_read(tmp_path):
    path = write(tmp_path, PLAIN, BEGUN)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert ["prelude" in row for row in rows] == [False, True]
    assert tuple(build_prediction(row, path, 1) for row in rows) == (PLAIN, BEGUN)


def test_a_prelude_that_is_no_text_is_refused(tmp_path):
    (row,) = map(json.loads, write(tmp_path, BEGUN).read_text(encoding="utf-8").splitlines())
    with pytest.raises(DataError, match="prelude is 3: expected a text"):
        build_prediction(row | {"prelude": 3}, tmp_path / "x", 1)
