"""A quick run of all methods; and runs over five tasks, one for every way to show isolation."""

from dataclasses import dataclass
from typing import Any

import pytest

from codestrata.experiment import cells
from codestrata.experiment.walk import run_experiment
from codestrata.files import write_jsonl
from codestrata.settings.tree import Settings, build_settings
from codestrata.store import RunDirectory

NAMES = ("one", "two", "three", "four", "five")


@dataclass(frozen=True)
class LongRun:
    """A finished run, its results, and the identifiers of every call for predictions in their order."""

    settings: Settings
    run: RunDirectory
    results: dict[str, Any]
    calls: list[list[str]]


@pytest.fixture(scope="session")
def quick_settings(quick_tree):
    """The settings of ``quick_run``."""
    return build_settings(quick_tree(methods=["base", "lora", "layers", "finetune"]))


@pytest.fixture(scope="session")
def quick_run(quick_settings, tmp_path_factory):
    """A finished run of all methods in which no program runs; do not change it."""
    return run_experiment(quick_settings, root=tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="session")
def listen():
    """Makes a ``predict`` that asks the real model and notes the identifiers it is asked."""
    real = cells.predict

    def build(calls):
        def predict(base, examples, *rest, **settings):
            calls.append([example.identifier for example in examples])
            return real(base, examples, *rest, **settings)

        return predict

    return build


@pytest.fixture(scope="session")
def long_tree(quick_tree, tmp_path_factory):
    """Makes the tree of a run with some of five tasks, each of four test examples, two of them canaries."""
    path = tmp_path_factory.mktemp("many") / "many.jsonl"
    write_jsonl(path, [{"prompt": f"add {n} to xs", "target": f"return [x + {n}]"} for n in range(60)])

    def build(count=5, *, recheck=None, **sections):
        (task, _) = quick_tree()["tasks"]
        tasks = [
            {**task, "path": str(path), "name": name, "seed": seed, "test_examples": 4}
            for seed, name in enumerate(NAMES[:count])
        ]
        small = {
            "tasks": tasks,
            "methods": ["lora"],
            "measurement": {
                "transfer": False,
                "agreement": False,
                "canary_examples": 2,
                "recheck": recheck,
            },
            "training": {"steps": 1},
            "decoding": {"max_new_tokens": 3},
        }
        return quick_tree(**small | sections)

    return build


@pytest.fixture(scope="session")
def long_runs(long_tree, listen, tmp_path_factory):
    """Finished runs by how isolation is shown, by canaries unless asked otherwise; do not change them."""
    runs = {}
    for name, recheck, methods in (
        ("full", "full", ["lora"]),
        ("canary", None, ["lora", "finetune"]),
        ("off", "off", ["lora"]),
    ):
        settings = build_settings(long_tree(recheck=recheck, methods=methods))
        calls: list[list[str]] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cells, "predict", listen(calls))
            run = run_experiment(settings, root=tmp_path_factory.mktemp(name))
        runs[name] = LongRun(settings, run, run.read_results(), calls)
    return runs
