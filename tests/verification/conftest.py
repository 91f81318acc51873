"""Finished runs whose isolation is shown in different ways, and copies of them to damage."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from codestrata.experiment.walk import run_experiment
from codestrata.files import write_jsonl
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory
from codestrata.verification import runs
from codestrata.verification.checks import Check


@dataclass(frozen=True)
class Inputs:
    """What the runs began with, where tests may change it."""

    base: Path
    data: Path


@pytest.fixture(scope="session")
def inputs(tiny_base_folder, tmp_path_factory):
    """A base folder and a file of examples of these tests' own."""
    folder = tmp_path_factory.mktemp("inputs")
    base = Path(shutil.copytree(tiny_base_folder, folder / "base"))
    rows = [{"prompt": f"add {n} to xs", "target": f"return [x + {n} for x in xs]"} for n in range(24)]
    write_jsonl(folder / "own.jsonl", rows)
    return Inputs(base, folder / "own.jsonl")


@pytest.fixture
def restored(inputs):
    """The same, put back as they were after the test."""
    before = {path: path.read_bytes() for path in (*inputs.base.iterdir(), inputs.data)}
    yield inputs
    for path, content in before.items():
        path.write_bytes(content)


@pytest.fixture(scope="session")
def small_tree(quick_tree, inputs):
    """Makes the tree of a run over two tasks with a method that isolates and one that does not."""

    def build(count=2, **sections):
        section = quick_tree()["tasks"][0] | {"path": str(inputs.data), "test_examples": 4}
        names = ("early", "late", "last")[:count]
        small: dict[str, Any] = {
            "methods": ["lora", "finetune"],
            "tasks": [section | {"name": name, "seed": seed} for seed, name in enumerate(names)],
            "base": {"name": str(inputs.base)},
            "measurement": {"transfer": True},
        }
        return quick_tree(**small | sections)

    return build


@pytest.fixture(scope="session")
def make_run(small_tree, tmp_path_factory) -> Callable[..., RunDirectory]:
    """Makes a finished run."""

    def make(*arguments, **sections):
        settings = build_settings(small_tree(*arguments, **sections))
        return run_experiment(settings, root=tmp_path_factory.mktemp("runs"), name="mine")

    return make


@pytest.fixture(scope="session")
def small_run(make_run):
    """A finished run in which every older task is decoded again; do not change it."""
    return make_run()


@pytest.fixture(scope="session")
def canary_run(make_run):
    """A finished run of three tasks with canaries and two samples of every answer; do not change it."""
    sampling = {"temperature": 1.0, "samples": 2, "max_new_tokens": 2}
    measurement = {"transfer": False, "canary_examples": 2, "recheck": "canary"}
    return make_run(3, decoding=sampling, measurement=measurement, methods=["lora"])


@pytest.fixture
def without_scoring(monkeypatch):
    """Leaves out what takes longest, where it is not looked at."""
    nothing = Check(subject="metrics", about="nothing", count=1)
    monkeypatch.setattr(runs, "check_metrics", lambda *_, **__: nothing)


@pytest.fixture
def run(small_run, tmp_path):
    """A copy of the small run, to be damaged."""
    return RunDirectory(shutil.copytree(small_run.path, tmp_path / "mine"))


@pytest.fixture
def canaries(canary_run, tmp_path):
    """A copy of the run with canaries, to be damaged."""
    return RunDirectory(shutil.copytree(canary_run.path, tmp_path / "canaries"))
