"""What a run found, as the plain tree of ``experimental_results.json`` (docs/results.md describes it).

What this does not do: write sentences (``report`` does), or compute anything that needs a model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from codestrata.analysis.matrix import summarize_matrix
from codestrata.records import Cell, Metric, Score, SplitName, Task, Training
from codestrata.report.tables import SCHEMA_VERSION
from codestrata.results.efficiency import describe_efficiency
from codestrata.results.estimates import estimate_continual, estimate_final, estimate_score
from codestrata.results.founding import judge_founding
from codestrata.results.measured import Control, Measured, MethodWalks, Portion, Repeat, Walk
from codestrata.results.orders import describe_orders
from codestrata.results.rechecks import choose_recheck, describe_isolation
from codestrata.results.references import describe_references
from codestrata.results.repetition import describe_repetition
from codestrata.results.routing import describe_choices
from codestrata.results.schedules import explain_no_transfer, mark_schedule
from codestrata.results.verdicts import compare_methods, compare_with_controls, judge_controls
from codestrata.settings.tree import fingerprint, to_tree

PASS_RATE, FALLBACK = "pass@", "bleu"
"""What is compared: pass@k with the smallest k, where the base has it on every task, else BLEU."""


def describe_run(measured: Measured) -> dict[str, Any]:
    """The results of a run, without environment and times."""
    headline = choose_headline(measured.base_cells)
    with_controls = compare_with_controls(measured, headline)
    tree = {
        "schema_version": SCHEMA_VERSION,
        "run": measured.run,
        "settings": to_tree(measured.settings),
        "settings_fingerprint": fingerprint(measured.settings),
        "headline_metric": headline,
        "metrics": {metric.name: describe_metric(metric) for metric in measured.metrics},
        "execution": dict(measured.execution),
        "base": {**measured.base, "cells": [describe_cell(cell) for cell in measured.base_cells]},
        "controls": [describe_control(control) for control in measured.controls],
        "tasks": [dict(task) for task in measured.tasks],
        "shared_examples": [dict(row) for row in measured.shared_examples],
        "orders": [list(order) for order in measured.orders],
        "methods": [describe_method(walks, measured, headline) for walks in measured.methods],
        "comparisons": compare_methods(measured, headline),
        "control_comparisons": with_controls,
        "above_controls": judge_controls(with_controls),
        "isolation": describe_isolation(measured.methods, choose_recheck(measured.settings)),
        "sample_efficiency": describe_efficiency(measured, headline),
        "fair": measured.fair,
        "noise_floor": describe_noise(measured.repeats, headline),
        "repetition": describe_repetition(measured),
    }
    return {**tree, "founding": judge_founding(tree)}


def describe_metric(metric: Metric) -> dict[str, Any]:
    """What the metric is; its name is the key that it stands under."""
    tree = asdict(metric)
    del tree["name"]
    return tree


def describe_control(control: Control) -> dict[str, Any]:
    """What answered without a model, and its scores."""
    return {
        "name": control.name,
        "about": control.about,
        "source": control.source,
        "cells": [describe_cell(cell) for cell in control.cells],
    }


def describe_method(entry: MethodWalks, measured: Measured, headline: str) -> dict[str, Any]:
    """A method: every walk, and over all of them its final scores and what the sequences did to it."""
    scored = [metric.name for metric in measured.metrics if metric.kind != "description"]
    return {
        **entry.method,
        "final": describe_final(entry, scored, len(measured.orders)),
        "unfinished": describe_unfinished(entry),
        "continual": {
            name: mark_schedule(
                estimate_continual(
                    [walk.cells for walk in entry.walks], measured.task_names, name, measured.orders
                ),
                entry.settled_by,
            )
            for name in scored
        },
        "orders": describe_orders(entry, measured, headline),
        **describe_references(entry, measured, scored),
        "seeds": [describe_walk(walk, measured, entry.settled_by) for walk in entry.walks],
    }


def describe_unfinished(entry: MethodWalks) -> dict[str, int]:
    """How many completions of the last row the length limit cut, over all seeds, tasks and splits."""
    last = max(cell.row for cell in entry.walks[0].cells)
    answers = [
        prediction
        for walk in entry.walks
        for cell in walk.cells
        if cell.row == last
        for prediction in cell.predictions
    ]
    return {"count": sum(not prediction.finished for prediction in answers), "n": len(answers)}


def describe_final(entry: MethodWalks, scored: Sequence[str], orders: int = 1) -> dict[str, Any]:
    """Split -> task -> metric -> the score once the sequence was over, its mean and interval over walks.

    ``scored`` metrics stay within [0, 1], and so do their intervals.
    """
    found: dict[str, Any] = {}
    last = max(cell.row for cell in entry.walks[0].cells)
    for cell in entry.walks[0].cells:
        if cell.row != last:
            continue
        same = [find_cell(walk.cells, last, cell.task, cell.split) for walk in entry.walks]
        found.setdefault(cell.split, {})[cell.task] = {
            score.metric: estimate_final(
                [find_score(of_seed.scores, score.metric) for of_seed in same],
                bounds=(0.0, 1.0) if score.metric in scored else None,
                orders=orders,
            )
            for score in cell.scores
        }
    return found


def find_cell(cells: Sequence[Cell], row: int, task: str, split: str) -> Cell:
    """The cell at a place of R."""
    return next(cell for cell in cells if (cell.row, cell.task, cell.split) == (row, task, split))


def find_score(scores: Sequence[Score], metric: str) -> Score:
    """The score of a metric."""
    return next(found for found in scores if found.metric == metric)


def describe_walk(walk: Walk, measured: Measured, schedule: str) -> dict[str, Any]:
    """One method with one seed: trainings, cells, R with its summary for every metric and split, and X."""
    tasks = measured.orders[walk.order]
    scored = [metric.name for metric in measured.metrics if metric.kind != "description"]
    splits = list(dict.fromkeys(cell.split for cell in walk.cells))
    matrices = {
        split: {name: build_matrix(walk.cells, tasks, name, split) for name in scored} for split in splits
    }
    return {
        "seed": walk.seed,
        "order": walk.order,
        "swap": walk.swap,
        "trainings": [dict(training) for training in walk.trainings],
        "cells": [describe_cell(cell) for cell in walk.cells],
        "R": {
            split: {name: describe_matrix(matrix) for name, matrix in of_split.items()}
            for split, of_split in matrices.items()
        },
        "continual": {
            name: mark_schedule(
                {key: asdict(found) for key, found in summarize_matrix(matrix).items()}, schedule
            )
            for name, matrix in matrices["test"].items()
        },
        "sample_efficiency": [describe_portion(portion) for portion in walk.curve or ()],
        "transfer": describe_transfer(walk, tasks, scored, schedule),
        "routing": describe_routing(walk, tasks, scored),
        "merging": walk.merging,
    }


def describe_routing(walk: Walk, tasks: Sequence[str], metrics: Sequence[str]) -> dict[str, Any] | None:
    """What the router chose, and R as the task's label would have it; ``None`` where the label picks."""
    if walk.routing is None:
        return None
    cells = walk.routing.oracle
    return {
        **describe_choices(walk.routing),
        "oracle": {
            "R": {
                split: {name: describe_matrix(build_matrix(cells, tasks, name, split)) for name in metrics}
                for split in dict.fromkeys(cell.split for cell in cells)
            },
            "cells": [describe_cell(cell) for cell in cells],
        },
    }


def describe_portion(portion: Portion) -> dict[str, Any]:
    """A component from a part of the training examples, and its answers' scores."""
    return {
        "fraction": portion.fraction,
        "training": dict(portion.training),
        "cell": describe_cell(portion.cell),
    }


def describe_transfer(
    walk: Walk, tasks: Sequence[str], metrics: Sequence[str], schedule: str
) -> dict[str, Any]:
    """X: every task's own component on every task, row 0 the base; R alone cannot show it."""
    if walk.transfer is None:
        if walk.order and not walk.trainings:
            reason = "nothing was trained in this order: the components are those of the first"
        else:
            reason = explain_no_transfer(schedule, trained=bool(walk.trainings))
        return {"X": None, "reason": reason, "cells": []}
    own = [cell for cell in walk.cells if cell.row == 0 or cell.task == tasks[cell.row - 1]]
    cells = [cell for cell in (*own, *walk.transfer) if cell.split == "test"]
    return {
        "X": {name: describe_matrix(build_matrix(cells, tasks, name, "test")) for name in metrics},
        "reason": None,
        "cells": [describe_cell(cell) for cell in walk.transfer],
    }


def describe_cell(cell: Cell) -> dict[str, Any]:
    """One entry of R: where it stands, where it came from, and its scores by metric."""
    return {
        "row": cell.row,
        "trained_through": cell.trained_through,
        "task": cell.task,
        "split": cell.split,
        "origin": cell.origin,
        "decoded_again": cell.decoded_again,
        "identical_predictions": cell.identical,
        "component_fingerprint": cell.component_fingerprint,
        "unfinished": sum(not prediction.finished for prediction in cell.predictions),
        "folder": cell.folder,
        "scores": {found.metric: estimate_score(found) for found in cell.scores},
    }


def describe_noise(repeats: Sequence[Repeat], headline: str) -> dict[str, Any]:
    """What two evaluations of the same weights differ by: smaller differences than this say nothing."""
    entries = [describe_repeat(repeat) for repeat in repeats]
    sizes = [abs(found) for entry in entries if (found := entry["differences"].get(headline)) is not None]
    return {
        "about": "the same weights evaluated twice under the run's decoding settings",
        "metric": headline,
        "largest": max(sizes, default=None),
        "reason": None if sizes else "no weights were evaluated twice",
        "entries": entries,
    }


def describe_repeat(repeat: Repeat) -> dict[str, Any]:
    """One pair of evaluations: how many answers were the same, and what each metric differed by."""
    pairs = list(zip(repeat.first.predictions, repeat.second.predictions, strict=True))
    return {
        "method": repeat.method,
        "seed": repeat.seed,
        "task": repeat.first.task,
        "split": repeat.first.split,
        "n": len(pairs),
        "identical": sum(first.completion == second.completion for first, second in pairs),
        "differences": {
            first.metric: None if first.value is None or second.value is None else second.value - first.value
            for first, second in zip(repeat.first.scores, repeat.second.scores, strict=True)
        },
        "first": describe_cell(repeat.first),
        "second": describe_cell(repeat.second),
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
        "duplicates": None if task.duplicates is None else dict(task.duplicates),
        "prompt_prefix": find_prefix(task),
    }


def find_prefix(task: Task) -> str | None:
    """What the task's template puts before a text, if all of its prompts begin with that; else ``None``."""
    prefix = task.prompt_template.partition("{}")[0]
    prompts = (example.prompt for part in (task.train, task.test, task.unseen) for example in part)
    return prefix if prefix and all(prompt.startswith(prefix) for prompt in prompts) else None


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


def choose_headline(base_cells: Sequence[Cell]) -> str:
    """The metric the comparison is about."""
    tests = [cell for cell in base_cells if cell.split == "test"]
    rates = [found.metric for found in tests[0].scores if found.metric.startswith(PASS_RATE)]
    for metric in sorted(rates, key=lambda name: int(name.removeprefix(PASS_RATE))):
        if all(find_value(cell.scores, metric) is not None for cell in tests):
            return metric
    return FALLBACK
