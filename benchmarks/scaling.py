"""How the cost of whole runs grows with the number of tasks and with the number of examples.

    python benchmarks/scaling.py [--tasks 2,4,8,16,32] [--factors 1,4,16]

Runs on the shipped pocket base, a few optimizer steps and test examples per task. An exponent of 1 says that
twice the tasks cost twice the time; it is the slope of a straight line through logarithms.

What this does not do: train long enough to be good at anything, or assert a time.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contest import (
    Contender,
    Figures,
    Target,
    add_options,
    hold,
    read_count,
    show_table,
    show_targets,
    take_medians,
    write_results,
)
from machine import describe_machine, prepare_process, start_fresh

from codestrata.engine.memory import MemoryGauge
from codestrata.experiment.walk import run_experiment
from codestrata.files import read_json
from codestrata.presets import build_preset
from codestrata.settings.reading import merge
from codestrata.settings.tree import build_settings

CPU = torch.device("cpu")
LANGUAGES = ("python", "javascript", "lua")
PARTS = ("loading", "training", "decoding", "scoring")
BATCH = 8
LARGEST_EXPONENT = 1.1
COLUMNS = {
    "total": "seconds",
    **{part: part for part in PARTS},
    "other": "other",
    "peak_memory_mib": "peak MiB",
    "answers": "answers stored",
}
EXPONENT_COLUMNS = {"plain": "exponent", "growth": "of what comes on top of the smallest run"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 whatever was found."""
    options = read_options(arguments)
    prepare_process(options.threads)
    machine = describe_machine(peak_size=options.peak_size, peak_seconds=options.peak_seconds)
    start_fresh()
    axes = {
        "tasks": {count: build_tree(options, tasks=count) for count in options.tasks},
        "examples": {factor: build_tree(options, factor=factor) for factor in options.factors},
    }
    tables: dict[str, dict[str, list[Figures]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        smallest = next(iter(axes["tasks"].values()))
        for axis, trees in axes.items():
            contenders = [
                Contender(
                    name=f"{size} {axis}" if axis == "tasks" else f"{axis} x{size}",
                    run=partial(measure_run, tree, Path(folder)),
                    warm_up=partial(measure_run, tree, Path(folder), 0) if tree is smallest else None,
                )
                for size, tree in trees.items()
            ]
            tables[axis] = hold(contenders, options.repeats)
    medians = {
        axis: {name: take_medians(found) for name, found in table.items()} for axis, table in tables.items()
    }
    exponents = {
        axis: fit_exponents(list(axes[axis]), list(table.values())) for axis, table in medians.items()
    }
    for axis, table in medians.items():
        show_table(f"Cost against {axis}", COLUMNS, table)
        show_table(f"Exponents against {axis}", EXPONENT_COLUMNS, exponents[axis])
    targets = list_targets(exponents)
    show_targets(targets, options.repeats)
    notes = [
        f"pocket, {', '.join(options.methods)}; each task: {options.train_examples} training examples, "
        f"{options.test_examples} test examples, one epoch in batches of {BATCH}; x4 has four times both; "
        f"two tasks where examples vary; languages alternate: {', '.join(LANGUAGES)}",
        "an exponent is fitted to all sizes by least squares on logarithms; the second one to what each size "
        "costs beyond the smallest, against how much larger it is: start-up is in neither",
        "nothing is taken from earlier runs: caches of tokens and states are off",
        "memory is the whole process's, which earlier runs have touched",
    ]
    for note in notes:
        print(f"- {note}")
    write_results(
        options,
        "scaling",
        machine=machine,
        notes=notes,
        tables=tables,
        medians=medians,
        targets=targets,
        extra={"exponents": exponents},
    )
    return 0


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the options' defaults take about ten minutes on two cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_options(parser, "scaling")
    parser.add_argument("--tasks", type=read_sizes, default=(2, 4, 8, 16, 32), help="numbers of tasks")
    parser.add_argument("--factors", type=read_sizes, default=(1, 4, 16), help="of the examples")
    parser.add_argument("--train-examples", type=read_count, default=16, help="of a task, at factor 1")
    parser.add_argument("--test-examples", type=read_count, default=8, help="of a task, at factor 1")
    parser.add_argument("--max-new-tokens", type=read_count, default=32, help="answers are cut at")
    parser.add_argument("--methods", type=lambda text: tuple(text.split(",")), default=("base", "lora"))
    return parser.parse_args(arguments)


def read_sizes(text: str) -> tuple[int, ...]:
    """Two or more different whole numbers separated by commas, in rising order."""
    sizes = tuple(sorted({read_count(part) for part in text.split(",")}))
    if len(sizes) < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: growth needs two sizes or more")
    return sizes


def build_tree(options: argparse.Namespace, *, tasks: int = 2, factor: int = 1) -> dict[str, Any]:
    """The settings of one run as a tree: preset pocket, made small."""
    size = {
        "source": "kata",
        "train_examples": options.train_examples * factor,
        "validation_examples": 0,
        "test_examples": options.test_examples * factor,
    }
    changes = {
        "methods": list(options.methods),
        "tasks": [
            {"name": f"{language}-{number}", "language": language, "seed": number, **size}
            for number in range(tasks)
            for language in [LANGUAGES[number % len(LANGUAGES)]]
        ],
        "training": {"epochs": 1.0, "batch_size": BATCH},
        "decoding": {"max_new_tokens": options.max_new_tokens},
        "measurement": {"transfer": False},
        "device": {"name": "cpu", "threads": options.threads},
        "cache": {"tokens": False, "states_mib": "null"},
    }
    return merge(build_preset("pocket"), changes)


def measure_run(tree: dict[str, Any], folder: Path, repeat: int) -> Figures:
    """The wall time of one whole run, its parts, and its memory."""
    settings = build_settings(tree)
    gauge = MemoryGauge(CPU)
    started = time.perf_counter()
    run = run_experiment(settings, root=folder)
    total = time.perf_counter() - started
    seconds = read_json(run.path / "experimental_results.json")["seconds"]
    parts = {part: float(seconds.get(part, 0.0)) for part in PARTS}
    return {
        "total": total,
        **parts,
        "other": total - sum(parts.values()),
        "peak_memory_mib": gauge.read_peak(),
        "answers": count_answers(run.path),
    }


def count_answers(folder: Path) -> int:
    """The model's answers that a run stored; those of the controls, which need no model, left out."""
    return sum(
        len(path.read_text(encoding="utf-8").splitlines())
        for path in folder.rglob("predictions.jsonl")
        if "controls" not in path.parts
    )


def fit_exponents(sizes: Sequence[int], figures: Sequence[Figures]) -> dict[str, Figures]:
    """The exponents of every column: over all sizes, and of what comes on top of the smallest."""
    return {
        part: {
            "plain": fit_exponent(sizes, [row[part] for row in figures]),
            "growth": None
            if part == "peak_memory_mib"  # a difference of two peaks of one process is mostly noise
            else fit_exponent(
                [size - sizes[0] for size in sizes[1:]],
                [row[part] - figures[0][part] for row in figures[1:]],
            ),
        }
        for part in COLUMNS
    }


def fit_exponent(sizes: Sequence[float], values: Sequence[float | None]) -> float | None:
    """The slope of log value against log size by least squares; ``None`` for one size, or a value of 0."""
    if len(sizes) < 2 or any(value is None or value <= 0 for value in values):
        return None
    slope, _ = np.polyfit(np.log(np.array(sizes, dtype=float)), np.log(np.array(values, dtype=float)), 1)
    return float(slope)


def list_targets(exponents: Mapping[str, Mapping[str, Figures]]) -> list[Target]:
    """What is asked for, beside what was found."""
    words = {"plain": "exponent of wall time against tasks", "growth": "the same, start-up taken out"}
    return [
        Target(
            name=name,
            found=exponents["tasks"]["total"][key],
            wanted=LARGEST_EXPONENT,
            sense="at most",
        )
        for key, name in words.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
