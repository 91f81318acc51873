"""``codestrata list``, ``show`` and ``methods``."""

import json

import pytest

from codestrata.methods import METHODS
from codestrata.store import RunDirectory


@pytest.fixture
def unfinished(tmp_path, tiny_settings):
    run = RunDirectory(tmp_path / "half")
    run.path.mkdir()
    run.write_settings(tiny_settings)
    return run


def test_no_runs_and_how_to_start_one(call, tmp_path):
    code, out, err = call("list", "--runs", tmp_path / "runs")
    assert (code, err) == (0, "")
    assert out == f"No runs in {tmp_path / 'runs'}. Start one with: codestrata run\n"
    assert call("list", "--runs", tmp_path / "runs", "--json") == (0, "[]\n", "")


def test_runs_are_listed(call, tiny_run):
    code, out, err = call("list", "--runs", tiny_run.path.parent)
    assert (code, err) == (0, "")
    assert "pocket-1" in out
    assert "base lora layers finetune" in out
    assert json.loads(call("list", "--runs", tiny_run.path.parent, "--json")[1]) == [
        {
            "run": "pocket-1",
            "state": "done",
            "methods": "base lora layers finetune",
            "tasks": "python javascript",
            "seconds": round(tiny_run.read_results()["seconds"]["total"]),
        }
    ]


def test_an_unfinished_run_is_listed_as_such(call, unfinished):
    code, out, _ = call("list", "--runs", unfinished.path.parent, "--json")
    assert code == 0
    assert [(entry["run"], entry["state"]) for entry in json.loads(out)] == [("half", "not finished")]


def test_an_unfinished_run_cannot_be_shown(call, unfinished):
    code, out, err = call("show", "half", "--runs", unfinished.path.parent)
    assert (code, out) == (2, "")
    assert "did not come to its end" in err


@pytest.mark.parametrize("by_path", [True, False])
def test_a_run_is_shown_with_its_tables_and_report(call, tiny_run, by_path):
    if by_path:
        code, out, err = call("show", tiny_run.path)
    else:
        code, out, err = call("show", tiny_run.name, "--runs", tiny_run.path.parent)
    assert (code, err) == (0, "")
    assert "pass@1 at the end of the sequence" in out
    assert "What each method costs" in out
    assert "R of `finetune`" in out
    assert "(structural)" in out
    assert str(tiny_run.path / "results_analysis.md") in out


def test_a_run_as_json_is_its_results(call, tiny_run):
    code, out, err = call("show", tiny_run.path, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == tiny_run.read_results()


def test_an_unknown_run_comes_with_the_nearest_name(call, tiny_run):
    code, out, err = call("show", "poket-1", "--runs", tiny_run.path.parent)
    assert (code, out) == (2, "")
    assert "Unknown run 'poket-1'. Did you mean 'pocket-1'?" in err


def test_methods_are_listed(call):
    code, out, err = call("methods")
    assert (code, err) == (0, "")
    for name in METHODS:
        assert name in out
    entries = json.loads(call("methods", "--json")[1])
    assert [(entry["name"], entry["component"]) for entry in entries] == [
        (method.name, method.component) for method in METHODS.values()
    ]
