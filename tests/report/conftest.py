"""Hand-made results of a whole run: every score a number of its own, verdicts of every kind."""

import itertools

import pytest

TASKS = ("python", "javascript")
COUNTS = {"test": 300, "unseen": 60}
METRICS = {
    "pass@1": "rate",
    "bleu": "score",
    "bleu_codexglue": "score",
    "syntax_pass": "rate",
    "codebleu": "score",
    "length_ratio": "description",
    "base_agreement": "description",
}
METHODS = {
    "base": (None, "isolated"),
    "lora": ("lora", "isolated"),
    "layers": ("layers", "isolated"),
    "finetune": ("weights", "sequential"),
}


class TreeMaker:
    """Makes the parts of a tree; headline scores count up from 0.101 in steps of 0.001."""

    def __init__(self):
        self._numbers = (round(0.001 * number, 3) for number in itertools.count(101))

    def make_score(self, metric, split):
        if metric == "base_agreement":
            reason = "the base was not asked about these completions"
            return make_entry(None, n=COUNTS[split], reason=reason, variant=None, isolation=None)
        value = next(self._numbers) if metric == "pass@1" else 0.5
        return make_entry(value, n=COUNTS[split], variant="parser 1.0", isolation="landlock")

    def make_cell(self, row, task, split, origin="decoded", folder="base"):
        return {
            "row": row,
            "trained_through": None if row == 0 else TASKS[row - 1],
            "task": task,
            "split": split,
            "origin": origin,
            "decoded_again": COUNTS[split] if origin == "rechecked" else 0,
            "identical_predictions": True if origin == "rechecked" else None,
            "component_fingerprint": "d" * 64 if folder.startswith("methods/") else None,
            "unfinished": 0,
            "folder": folder,
            "scores": {metric: self.make_score(metric, split) for metric in METRICS},
        }

    def make_cells(self, row=0, origin="decoded", folder="base"):
        return [self.make_cell(row, task, split, origin, folder) for task in TASKS for split in COUNTS]

    def make_seed(self, name, base_cells):
        schedule = METHODS[name][1]
        cells = list(base_cells)
        for row, through in enumerate(TASKS, start=1):
            for index, task in enumerate(TASKS, start=1):
                kind = "decoded" if schedule == "sequential" or index == row else "rechecked"
                if name == "base" or (schedule == "isolated" and index > row):
                    kind = "structural"
                folder = "base" if kind == "structural" else f"methods/{name}/seed-0/{through}"
                cells += [self.make_cell(row, task, split, kind, folder) for split in COUNTS]
        own = [] if METHODS[name][0] is None else [make_training(name, task) for task in TASKS]
        shared = schedule == "sequential" or name == "base"
        foreign = [(1, "javascript"), (2, "python")]
        folder = f"methods/{name}/seed-0/python/transfer"
        matrix = [[None, None]] * 3
        swap = {"n": 50, "median_milliseconds": 0.25, "largest_milliseconds": 0.75}
        return {
            "seed": 0,
            "order": 0,
            "swap": None if shared else swap,
            "routing": None,
            "merging": None,
            "trainings": own,
            "cells": cells,
            "R": {split: {metric: matrix for metric in METRICS} for split in COUNTS},
            "continual": {metric: make_continual(name, per_seed=True) for metric in METRICS},
            "sample_efficiency": [],
            "transfer": {"X": None, "reason": "one component serves all tasks", "cells": []}
            if shared
            else {
                "X": {metric: matrix for metric in METRICS},
                "reason": None,
                "cells": [self.make_cell(row, task, "test", "decoded", folder) for row, task in foreign],
            },
        }

    def make_method(self, name, base_cells):
        component, schedule = METHODS[name]
        entry = self.make_seed(name, base_cells)
        last = [cell for cell in entry["cells"] if cell["row"] == len(TASKS)]
        return {
            "name": name,
            "component": component,
            "retention": None,
            "schedule": schedule,
            "selection": "oracle",
            "about": f"about {name}",
            "verified": None,
            "source": None,
            "unfinished": {"count": 0, "n": 720},
            "final": {
                split: {
                    cell["task"]: {metric: make_final(score) for metric, score in cell["scores"].items()}
                    for cell in last
                    if cell["split"] == split
                }
                for split in COUNTS
            },
            "continual": {metric: make_continual(name) for metric in METRICS},
            "orders": None,
            "intransigence": {
                "reference": None,
                "metrics": {metric: {task: make_gap() for task in TASKS} for metric in METRICS},
            },
            "expert_gap": {"reference": None, "metrics": {metric: make_gap() for metric in METRICS}},
            "seeds": [entry],
        }


def make_interval(value, method="bootstrap"):
    return {"low": round(value - 0.05, 3), "high": round(value + 0.05, 3), "level": 0.95, "method": method}


def make_entry(value, **more):
    interval = None if value is None else make_interval(value)
    return {"value": value, "interval": interval, "reason": None} | more


def make_final(score):
    return {"seeds": 1} | {key: score[key] for key in ("value", "n", "interval", "reason")}


def make_continual(name, *, per_seed=False):
    isolated = METHODS[name][1] == "isolated"
    lost = 0.0 if isolated else 0.345
    values = {
        "average_accuracy": 0.456,
        "learning_accuracy": 0.567,
        "backward_transfer": -lost,
        "forward_transfer": 0.0 if isolated else 0.012,
        "forgetting": lost,
    }
    found = {}
    for key, value in values.items():
        structural = isolated and value == 0
        found[key] = make_entry(value, structural=structural)
        if per_seed:
            del found[key]["interval"]
        else:
            found[key]["seeds"] = 1
    return found


def make_gap():
    return make_entry(None, seeds=1, reason="the run holds no reference")


def make_states():
    return {
        "encoder_blocks": 3,
        "decoder_blocks": None,
        "examples": 4000,
        "kept": 4000,
        "computed": 2000,
        "mib": 20.0,
        "seconds": 1.25,
        "reason": None,
    }


def make_training(name, task):
    parameters = {"lora": 1_000_000, "layers": 2_000_000, "finetune": 60_000_000}[name]
    return {
        "task": task,
        "folder": f"methods/{name}/seed-0/{task}",
        "seed": 0,
        "learning_rate": 0.01,
        "steps": 300,
        "planned_steps": 300,
        "taken_over_from": None,
        "stopped": "all steps",
        "examples": 7200,
        "tokens": 400_000,
        "padding": 0.17,
        "seconds": 30.0,
        "final_loss": 0.044,
        "parameters": parameters,
        "total_parameters": 60_000_000,
        "component_bytes": 4 * parameters,
        "component_fingerprint": "c" * 64,
        "peak_memory_mib": 800.0,
        "memory_counter": "VmHWM of the process",
        "base_fingerprint_before": "a" * 64,
        "base_fingerprint_after": "a" * 64,
        "base_dropout": False,
        "precision": "fp32",
        "passes": 310,
        "batch_tokens": 8192,
        "states": make_states() if name == "layers" else None,
        "validation": None,
        "examples_per_second": 240.0,
        "tokens_per_second": 13333.3,
        "parameter_share": parameters / 60_000_000,
    }


def make_comparison(first, second, task, difference, verdict):
    needed = {"first": 0, "second": 0, "cannot tell": 1234}[verdict]
    return {
        "first": first,
        "second": second,
        "task": task,
        "split": "test",
        "metric": "pass@1",
        "difference": difference,
        "interval": make_interval(difference, "paired"),
        "p": 0.0123,
        "adjusted_p": 0.0369,
        "verdict": verdict,
        "n": 300,
        "seeds": 1,
        "for_this_seed_only": True,
        "family": 6,
        "sign_flip_p": None,
        "minimum_detectable_effect": 0.064,
        "minimum_detectable_effect_reason": None,
        "examples_needed": needed,
        "examples_needed_reason": None,
        "seeds_needed": None,
        "seeds_needed_reason": "one seed does not say how seeds differ",
    }


def make_comparisons():
    """Per task: lora beats layers, lora and finetune cannot be told apart, finetune beats layers."""
    return [
        make_comparison(first, second, task, round(difference + 0.001 * index, 3), verdict)
        for index, task in enumerate(TASKS)
        for first, second, difference, verdict in (
            ("lora", "layers", 0.211, "first"),
            ("lora", "finetune", 0.011, "cannot tell"),
            ("layers", "finetune", -0.231, "second"),
        )
    ]


def make_control_comparisons():
    """Lora is above all, layers cannot be told from nearest, and nearest is better than finetune."""
    against = {
        "lora": {"base": (0.7, "first"), "echo": (0.6, "first"), "nearest": (0.5, "first")},
        "layers": {"base": (0.4, "first"), "echo": (0.3, "first"), "nearest": (0.02, "cannot tell")},
        "finetune": {"base": (0.2, "first"), "echo": (0.03, "cannot tell"), "nearest": (-0.1, "second")},
    }
    return [
        make_comparison(method, control, task, round(difference + 0.001 * index, 3), verdict)
        for index, task in enumerate(TASKS)
        for method, controls in against.items()
        for control, (difference, verdict) in controls.items()
    ]


def judge(comparisons):
    verdicts = {"lora": "above", "layers": "cannot tell", "finetune": "not above"}
    found = [(method, task) for task in TASKS for method in verdicts]
    return [
        {
            "method": method,
            "task": task,
            "verdict": verdicts[method],
            "against": {
                entry["second"]: entry["verdict"]
                for entry in comparisons
                if (entry["first"], entry["task"]) == (method, task)
            },
        }
        for method, task in found
    ]


def make_noise(maker):
    entries = []
    for task, size in zip(TASKS, (0.0, -0.0042), strict=True):
        first = maker.make_cell(0, task, "test")
        entries.append(
            {
                "method": "base",
                "seed": None,
                "task": task,
                "split": "test",
                "n": 300,
                "identical": 299,
                "differences": {metric: size for metric in METRICS},
                "first": first,
                "second": first | {"folder": f"noise/base/{task}"},
            }
        )
    return {"about": "twice", "metric": "pass@1", "largest": 0.0042, "reason": None, "entries": entries}


def make_isolation(language):
    return {
        "language": language,
        "rung": "landlock",
        "runtime": "Python 3.11",
        "refused": {"bubblewrap": "bwrap is not installed"},
        "reason": None,
    }


def make_task(name):
    return {
        "name": name,
        "language": name,
        "objective": "generate",
        "evaluation_objective": "generate",
        "fingerprint": "b" * 64,
        "examples": {"train": 4000, "validation": 100, **COUNTS},
        "dropped": {},
        "notes": [],
        "truncated": {"train_prompts": 0, "train_targets": 0, "test_prompts": 0},
        "duplicates": None,
    }


def make_results():
    """The whole tree."""
    maker = TreeMaker()
    base_cells = maker.make_cells()
    about = {"formula": "share of x | y", "source": "someone", "implementation": "ours"}
    against = make_control_comparisons()
    packages = {"codestrata": "0.1.0", "torch": "2.13.0"}
    return {
        "schema_version": 7,
        "extended_from": None,
        "sessions": 1,
        "run": "made-1",
        "settings": {"preset": "pocket", "seeds": [0], "base": {"weights": "trained"}},
        "settings_fingerprint": "c" * 64,
        "headline_metric": "pass@1",
        "metrics": {name: {"kind": kind, **about} for name, kind in METRICS.items()},
        "execution": {task: make_isolation(task) for task in TASKS},
        "base": {"name": "pocket", "fingerprint": "a" * 64, "parameters": 59_000_000, "cells": base_cells},
        "controls": [
            {
                "name": name,
                "about": f"what {name} answers",
                "source": "ours",
                "cells": maker.make_cells(origin="control", folder=f"controls/{name}"),
            }
            for name in ("echo", "nearest")
        ],
        "tasks": [make_task(task) for task in TASKS],
        "orders": [list(TASKS)],
        "methods": [maker.make_method(name, base_cells) for name in METHODS],
        "comparisons": make_comparisons(),
        "control_comparisons": against,
        "above_controls": judge(against),
        "isolation": {
            "recheck": "full",
            "rechecked_cells": 4,
            "identical_cells": 4,
            "canary_cells": 0,
            "canary_predictions": 0,
            "identical_canary_cells": 0,
            "taken_over_cells": 0,
            "trainings": 6,
            "base_unchanged": 6,
        },
        "fair": None,
        "shared_examples": [],
        "sample_efficiency": None,
        "noise_floor": make_noise(maker),
        "repetition": {"tokens": 50, "reason": None, "entries": [make_repetition(task) for task in TASKS]},
        "founding": None,
        "environment": {
            "device": "cpu",
            "device_name": "a processor",
            "cpu_count": 2,
            "threads": 1,
            "cpu_capability": "AVX2",
            "allocator": "glibc keeps buffers",
            "platform": "an operating system",
            "python": "3.11.7",
            "packages": packages,
        },
        "seconds": {"loading": 1.0, "training": 2.0, "decoding": 3.0, "scoring": 4.0, "total": 10.0},
    }


def make_repetition(task):
    """What the answers of `lora` on a task repeat of the training text: a quarter of them."""
    counts = {"n": COUNTS["test"], "long": 200, "repeating": 75}
    share = {"value": 0.25, "interval": None, "reason": None}
    return {
        "method": "lora",
        "seed": 0,
        "order": 0,
        "task": task,
        "split": "test",
        "outputs": {**counts, "untrained": 0, "share": share},
        "targets": {**counts, "share": share},
    }


@pytest.fixture
def results():
    """A tree to change at will."""
    return make_results()
