"""What a run found, as the plain tree of ``experimental_results.json`` (docs/results.md describes it).

What this does not do: write sentences (``report`` does), or compute anything that needs a model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from codestrata.analysis.matrix import summarize_matrix
from codestrata.analysis.statistics import Interval, bootstrap_interval, wilson_interval
from codestrata.records import Cell, Score, SplitName, Task, Training

SCHEMA_VERSION = 1
RATES = ("exact_match", "syntax_pass", "pass@1")
"""Metrics that are a share of examples: their interval is Wilson's."""
HEADLINES = ("pass@1", "bleu")
"""Which metric the comparison is about: the first that could be computed for the base on every task."""
METRICS: Mapping[str, str] = {
    "pass@1": "share of completions that run through their tests to the end (one completion each)",
    "exact_match": "share of completions equal to the target, trailing white space aside",
    "bleu": "sacrebleu corpus BLEU / 100",
    "syntax_pass": "share of completions that tree-sitter parses without an error",
}
STRUCTURAL_WHEN_ISOLATED = ("backward_transfer", "forward_transfer", "forgetting")
"""Zero by construction where every task has its own component: not findings."""


def estimate_interval(found: Score) -> Interval | None:
    """The 95 % interval of a score: Wilson for rates, BCa bootstrap for means, else ``None``."""
    if found.value is None or found.per_example is None or len(found.per_example) < 2:
        return None
    if found.metric in RATES:
        return wilson_interval(round(sum(found.per_example)), len(found.per_example))
    return bootstrap_interval(np.array(found.per_example))


def describe_score(found: Score) -> dict[str, Any]:
    """A score with its n, interval, reason and variant; single examples' values stay in scores.jsonl."""
    interval = estimate_interval(found)
    return {
        "value": found.value,
        "n": found.n,
        "interval": None if interval is None else asdict(interval),
        "reason": found.reason,
        "variant": found.variant,
    }


def describe_cell(cell: Cell) -> dict[str, Any]:
    """One entry of R: where it stands, where it came from, and its scores by metric."""
    return {
        "row": cell.row,
        "trained_through": cell.trained_through,
        "task": cell.task,
        "split": cell.split,
        "origin": cell.origin,
        "identical_predictions": cell.identical,
        "unfinished": sum(not prediction.finished for prediction in cell.predictions),
        "scores": {found.metric: describe_score(found) for found in cell.scores},
    }


def describe_training(training: Training) -> dict[str, Any]:
    """What a training did and cost, with its rates; single losses stay in ``events.jsonl``."""
    tree = asdict(training)
    del tree["losses"]
    return tree | {
        "examples_per_second": training.examples / training.seconds,
        "tokens_per_second": training.tokens / training.seconds,
        "parameter_share": training.parameters / training.total_parameters,
    }


def describe_task(task: Task, fingerprint: str, truncated: Mapping[str, int]) -> dict[str, Any]:
    """A task's identity, sizes, and what was dropped or cut."""
    return {
        "name": task.name,
        "language": task.language,
        "objective": task.objective,
        "evaluation_objective": task.evaluation_objective,
        "fingerprint": fingerprint,
        "examples": {
            "train": len(task.train),
            "validation": len(task.validation),
            "test": len(task.test),
            "unseen": len(task.unseen),
        },
        "dropped": dict(task.dropped),
        "notes": list(task.notes),
        "truncated": dict(truncated),
    }


def build_matrix(cells: Sequence[Cell], tasks: Sequence[str], metric: str, split: SplitName) -> np.ndarray:
    """R of one metric on one split, shape (T + 1, T); NaN where it was not or could not be measured."""
    matrix = np.full((len(tasks) + 1, len(tasks)), np.nan)
    for cell in cells:
        value = find_value(cell.scores, metric)
        if cell.split == split and value is not None:
            matrix[cell.row, tasks.index(cell.task)] = value
    return matrix


def find_value(scores: Sequence[Score], metric: str) -> float | None:
    """The value of a metric among scores; ``None`` where it is absent or could not be computed."""
    return next((found.value for found in scores if found.metric == metric), None)


def describe_matrix(matrix: np.ndarray) -> list[list[float | None]]:
    """R as JSON: ``null`` where it was not measured."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in matrix]


def describe_walk(
    cells: Sequence[Cell], trainings: Sequence[Training], tasks: Sequence[str], *, isolated: bool
) -> dict[str, Any]:
    """One method with one seed: trainings, cells, and R with its summary for every metric and split."""
    metrics = [found.metric for found in cells[0].scores]
    splits = list(dict.fromkeys(cell.split for cell in cells))
    matrices = {
        split: {name: build_matrix(cells, tasks, name, split) for name in metrics} for split in splits
    }
    return {
        "trainings": [describe_training(training) for training in trainings],
        "cells": [describe_cell(cell) for cell in cells],
        "R": {
            split: {name: describe_matrix(matrix) for name, matrix in of_split.items()}
            for split, of_split in matrices.items()
        },
        "continual": {
            name: describe_summary(matrix, isolated=isolated) for name, matrix in matrices["test"].items()
        },
    }


def describe_summary(matrix: np.ndarray, *, isolated: bool) -> dict[str, Any]:
    """ACC, LA, BWT, FWT and F of one R; ``structural`` marks what the schedule alone decides."""
    return {
        name: {
            "value": found.value,
            "reason": found.reason,
            # Another value than 0 would say that a recheck differed: that is a finding.
            "structural": isolated and name in STRUCTURAL_WHEN_ISOLATED and found.value == 0,
        }
        for name, found in summarize_matrix(matrix).items()
    }


def choose_headline(base_cells: Sequence[Cell]) -> str:
    """The metric the comparison is about."""
    tests = [cell for cell in base_cells if cell.split == "test"]
    for metric in HEADLINES:
        if all(find_value(cell.scores, metric) is not None for cell in tests):
            return metric
    return HEADLINES[-1]
