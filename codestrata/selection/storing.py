"""A router as a file, so that a finished run can choose a component for a new prompt without its data.

The file is one of safetensors: for every task its mean (D,) and the number of its prompts; one scatter (D, D)
of all tasks together, in single precision.

What this does not do: choose (``nearest`` does), or touch the disk beyond reading.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from codestrata.errors import DataError
from codestrata.files import open_plain
from codestrata.selection.nearest import TaskStatistics

ROUTER_FILE = "router.safetensors"
LARGEST_BYTES = 2**30


def pack_router(tasks: Mapping[str, TaskStatistics]) -> bytes:
    """The content of the file, for tasks by name."""
    scatter = sum(
        (task.scatter for task in list(tasks.values())[1:]), start=next(iter(tasks.values())).scatter
    )
    tensors = {"scatter": scatter.astype(np.float32)}
    for name, task in tasks.items():
        tensors[f"mean.{name}"] = task.mean.astype(np.float32)
        tensors[f"count.{name}"] = np.array([task.count], np.int64)
    return save(tensors)


def read_router(path: Path, names: list[str]) -> list[TaskStatistics]:
    """The statistics of the tasks of those names, in that order; the first has the scatter of all.

    Raises: DataError: the file is missing or damaged, or knows other tasks.
    """
    try:
        with open_plain(path) as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}): get the run again", path=path) from error
    if len(content) > LARGEST_BYTES:
        raise DataError("is larger than any router: get the run again", path=path)
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise DataError(f"is no router ({error}): get the run again", path=path) from error
    wanted = {"scatter"} | {f"{part}.{name}" for part in ("mean", "count") for name in names}
    if set(tensors) != wanted:
        raise DataError(f"knows other tasks than {', '.join(names)}: get the run again", path=path)
    scatter = tensors["scatter"].astype(float)
    statistics: list[TaskStatistics] = []
    for name in names:
        mean, count = tensors[f"mean.{name}"].astype(float), tensors[f"count.{name}"]
        fits = scatter.shape == (*mean.shape, *mean.shape) and mean.ndim == 1 and count.shape == (1,)
        if not fits or count[0] < 1 or not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
            raise DataError(f"does not fit together at task {name}: get the run again", path=path)
        rest = scatter if not statistics else np.zeros_like(scatter)
        statistics.append(TaskStatistics(count=int(count[0]), mean=mean, scatter=rest))
    return statistics
