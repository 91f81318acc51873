"""Planted duplicates and leaks, from a file to the results and the report of a run."""

import json
import random
from importlib.resources import files

import jsonschema
import pytest

from codestrata.experiment.walk import run_experiment
from codestrata.settings.tree import build_settings
from codestrata.verification.runs import verify_run


def make_code(number):
    rng = random.Random(number)
    names = [f"{rng.choice('abcdefgh')}{rng.randrange(10**6)}" for _ in range(20)]
    lines = [f"    {name} = {rng.randrange(10**6)}" for name in names]
    return "\n".join([f"def f{number}(x):", *lines, "    return x"])


def make_row(name, partition, code):
    return {
        "code": code,
        "docstring": f"Answer {name}.",
        "func_name": name,
        "language": "python",
        "repo": "owner/repository",
        "partition": partition,
    }


@pytest.fixture
def settings(quick_tree, tmp_path):
    """A task of 20 functions with a near copy of a test and an equal copy of an excluded one in training."""
    parts = ("train", "train", "train", "validation", "test")
    rows = [make_row(f"f{n}", parts[n % 5], make_code(n)) for n in range(20)]
    rows.append(make_row("leak", "train", make_code(4) + " + 0"))
    rows.append(make_row("held", "train", make_code(100)))
    path, excluded = tmp_path / "functions.jsonl", tmp_path / "excluded.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    excluded.write_text(json.dumps({"prompt": "Answer.", "target": make_code(100)}) + "\n", encoding="utf-8")
    task = {"name": "python", "source": "codesearchnet", "path": str(path), "exclude": [str(excluded)]}
    return build_settings(quick_tree(tasks=[task], measurement={"transfer": False}))


def test_planted_leaks_are_in_the_results_and_the_report(settings, tmp_path):
    run = run_experiment(settings, root=tmp_path / "runs")
    results = run.read_results()
    schema = json.loads(
        (files("codestrata") / "schemas" / "experimental_results.schema.json").read_text(encoding="utf-8")
    )
    jsonschema.validate(results, schema)
    (task,) = results["tasks"]
    (name,) = settings.tasks[0].exclude
    assert task["examples"] == {"train": 12, "validation": 4, "test": 4, "unseen": 0}
    assert task["dropped"] == {
        f"repeats a record of the excluded {name}": 1,
        "nearly repeats a record of a held-out split": 1,
    }
    found = task["duplicates"]
    assert found["removed"]["near"]["train-test"] == 1
    assert found["removed"]["exact"][f"train-excluded:{name}"] == 1
    assert {example["quote"].split("(")[0] for example in found["examples"]} == {"def f4", "def f100"}
    report = (run.path / "results_analysis.md").read_text(encoding="utf-8")
    assert "## Duplicates and leaks" in report
    assert "| python | 0.8 | 23 | 0 + 0 | 0 + 1 | 0 + 0 | 1 + 0 |" in report
    assert verify_run(run).holds
