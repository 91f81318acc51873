"""A router as a file: it chooses as before, and a damaged one is refused."""

import numpy as np
import pytest
from safetensors.numpy import load, save

from codestrata.errors import DataError
from codestrata.selection.nearest import fit_task, measure_mahalanobis, measure_nearest
from codestrata.selection.storing import ROUTER_FILE, pack_router, read_router

NAMES = ["python", "java-script"]


@pytest.fixture
def tasks():
    rng = np.random.default_rng(0)
    return {name: fit_task(rng.normal(size=(9, 4)) + shift) for shift, name in enumerate(NAMES)}


@pytest.fixture
def file(tasks, tmp_path):
    path = tmp_path / ROUTER_FILE
    path.write_bytes(pack_router(tasks))
    return path


def test_a_stored_router_measures_as_the_one_that_was_stored(tasks, file):
    states = np.random.default_rng(1).normal(size=(20, 4))
    read = read_router(file, NAMES)
    before = list(tasks.values())
    assert measure_nearest(read, states) == pytest.approx(measure_nearest(before, states), rel=1e-5)
    assert measure_mahalanobis(read, states, shrinkage=0.1) == pytest.approx(
        measure_mahalanobis(before, states, shrinkage=0.1), rel=1e-4
    )


def test_a_router_of_other_tasks_is_refused(file):
    with pytest.raises(DataError, match="knows other tasks than python, lua"):
        read_router(file, ["python", "lua"])


def test_a_missing_router_is_refused(tmp_path):
    with pytest.raises(DataError, match="get the run again"):
        read_router(tmp_path / ROUTER_FILE, NAMES)


@pytest.mark.parametrize("length", [0, 5, 60])
def test_a_torn_router_is_refused(file, length):
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(DataError, match="is no router"):
        read_router(file, NAMES)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("scatter", np.zeros((4, 3), np.float32)),
        ("scatter", np.full((4, 4), np.nan, np.float32)),
        ("mean.python", np.zeros(5, np.float32)),
        ("mean.python", np.zeros((2, 2), np.float32)),
        ("count.java-script", np.zeros(1, np.int64)),
        ("count.java-script", np.zeros(0, np.int64)),
    ],
)
def test_parts_that_do_not_fit_are_refused(file, name, tensor):
    file.write_bytes(save({**load(file.read_bytes()), name: tensor}))
    with pytest.raises(DataError, match="does not fit together"):
        read_router(file, NAMES)
