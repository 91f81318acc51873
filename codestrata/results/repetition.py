"""How much of what was answered repeats training text word for word, by the marks on predictions.

    share = completions with measurement.repetition_tokens tokens in a row out of a training example
            / completions of components

Counted are the completions of the last row of R, all samples, against the training examples of whatever
component answered; a token is a word or a mark (``data.repetition``). What the untouched base answers was
trained on nothing of the run. The same share of the test targets is what perfect answers would repeat.

What this does not do: search training text (``experiment.cells`` does, when an answer is there).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from codestrata.analysis.statistics import wilson_interval
from codestrata.data.repetition import count_tokens
from codestrata.records import Cell, Prediction
from codestrata.results.measured import Measured, Walk

OFF = "measurement.repetition_tokens is off (null)"
BASE = "the untouched base was trained on no task of the run"
CONTROL = "no component answered: a control has no training"
SAMPLED = "no interval: the answers to one prompt are not independent"


def describe_repetition(measured: Measured) -> dict[str, Any]:
    """What the last row of every walk repeats, and why nothing is said of base and controls."""
    length = measured.settings.measurement.repetition_tokens
    if length is None:
        return {"tokens": None, "reason": OFF, "entries": []}
    entries = [
        *list_entries("base", None, 0, measured.base_cells, length),
        *(
            entry
            for control in measured.controls
            for entry in list_entries(control.name, None, 0, control.cells, length, CONTROL)
        ),
        *(
            entry
            for method in measured.methods
            for walk in method.walks
            if method.method["component"] is not None
            for entry in list_entries(method.name, walk.seed, walk.order, find_last_row(walk), length)
        ),
    ]
    return {"tokens": length, "reason": None, "entries": entries}


def find_last_row(walk: Walk) -> list[Cell]:
    """The cells of R once the sequence was over."""
    last = max(cell.row for cell in walk.cells)
    return [cell for cell in walk.cells if cell.row == last]


def list_entries(
    method: str, seed: int | None, order: int, cells: Sequence[Cell], length: int, reason: str = BASE
) -> Iterator[dict[str, Any]]:
    """An entry for each cell; ``reason`` says why there is no share where nothing was looked at."""
    for cell in cells:
        looked_at = [found for found in cell.predictions if found.repeats is not None]
        targets = [found for found in looked_at if found.sample == 0]
        is_sampled = len(targets) < len(looked_at)
        yield {
            "method": method,
            "seed": seed,
            "order": order,
            "task": cell.task,
            "split": cell.split,
            "outputs": {
                "n": len(looked_at),
                "untrained": len(cell.predictions) - len(looked_at),
                "long": sum(count_tokens(found.completion) >= length for found in looked_at),
                "repeating": sum(found.repeats is True for found in looked_at),
                "share": estimate_share([found.repeats is True for found in looked_at], reason, is_sampled),
            },
            "targets": describe_targets(targets, length, reason),
        }


def describe_targets(looked_at: Sequence[Prediction], length: int, reason: str) -> dict[str, Any]:
    """The same of the targets of these predictions, one of each example."""
    return {
        "n": len(looked_at),
        "long": sum(count_tokens(found.target) >= length for found in looked_at),
        "repeating": sum(found.target_repeats is True for found in looked_at),
        "share": estimate_share([found.target_repeats is True for found in looked_at], reason),
    }


def estimate_share(repeating: Sequence[bool], reason: str, is_sampled: bool = False) -> dict[str, Any]:
    """The share of what repeats, with Wilson's interval; the reason where there is none."""
    n = len(repeating)
    if n == 0:
        return {"value": None, "interval": None, "reason": reason}
    interval = None if n == 1 or is_sampled else asdict(wilson_interval(sum(repeating), n))
    return {
        "value": sum(repeating) / n,
        "interval": interval,
        "reason": SAMPLED if is_sampled else None,
    }
