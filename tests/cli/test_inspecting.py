"""``codestrata list``, ``show`` and ``methods``."""

import json
import shutil
import subprocess
import sys

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


def list_states(call, root):
    code, out, err = call("list", "--runs", root, "--json")
    assert (code, err) == (0, "")
    return {entry["run"]: entry["state"] for entry in json.loads(out)}


def test_an_unfinished_run_is_listed_with_its_plan_and_how_to_go_on(call, unfinished):
    root = unfinished.path.parent
    code, out, _ = call("list", "--runs", root, "--json")
    assert code == 0
    plan = {"methods": "base lora layers finetune", "tasks": "python javascript", "seconds": ""}
    assert json.loads(out) == [{"run": "half", "state": "interrupted", **plan}]
    assert f"codestrata resume half --runs {root}" in call("list", "--runs", root)[1]


def test_a_run_that_a_process_holds_is_running(call, unfinished):
    with unfinished.hold():
        assert list_states(call, unfinished.path.parent) == {"half": "running"}
        assert "codestrata resume" not in call("list", "--runs", unfinished.path.parent)[1]
    assert list_states(call, unfinished.path.parent) == {"half": "interrupted"}


def test_a_run_whose_process_was_killed_is_interrupted(call, unfinished):
    statement = (
        "import sys, time; from pathlib import Path; from codestrata.store import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).hold():\n    print('held', flush=True)\n    time.sleep(60)"
    )
    arguments = [sys.executable, "-c", statement, str(unfinished.path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert list_states(call, unfinished.path.parent) == {"half": "running"}
        process.kill()
    assert list_states(call, unfinished.path.parent) == {"half": "interrupted"}


def test_what_is_no_run_is_not_listed_and_what_never_began_is(call, tmp_path):
    for name in ("empty", "notes", "crashed"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.txt").write_text("", encoding="utf-8")
    (tmp_path / "notes" / "todo.md").write_text("", encoding="utf-8")
    (tmp_path / "crashed" / ".settings.toml.x.part").write_text("", encoding="utf-8")
    assert list_states(call, tmp_path) == {"crashed": "never begun", "empty": "never begun"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not JSON"),
        (b"\xff", "not UTF-8"),
        ("[]", "does not hold a run's results"),
        ("{}", "does not hold a run's results"),
        ('{"methods": [], "tasks": [], "seconds": {"total": null}}', "does not hold a run's results"),
        ('{"methods": [], "tasks": [], "seconds": {"total": 1e999}}', "damaged"),
        ('{"methods": [{"name": 3}], "tasks": [], "seconds": {"total": 1}}', "does not hold"),
        (None, "cannot be read"),
    ],
)
def test_a_damaged_run_does_not_break_the_list(call, unfinished, tiny_run, content, reason):
    root = unfinished.path.parent
    shutil.copytree(tiny_run.path, root / "broken")
    results = root / "broken" / "experimental_results.json"
    if content is None:
        results.unlink()
    else:
        results.write_bytes(content.encode() if isinstance(content, str) else content)
    states = list_states(call, root)
    assert states["broken"].startswith("damaged: ")
    assert reason in states["broken"]
    assert states["half"] == "interrupted"


@pytest.mark.parametrize("content", ["[", "steps = 3", 'preset = "poket"\nmethods = 3', None])
def test_damaged_settings_do_not_break_the_list(call, unfinished, content):
    other = RunDirectory(unfinished.path.parent / "other")
    shutil.copytree(unfinished.path, other.path)
    other.append_event("started")
    if content is None:
        other.settings_file.unlink()
    else:
        other.settings_file.write_text(content, encoding="utf-8")
    states = list_states(call, unfinished.path.parent)
    assert states["other"].startswith("damaged: ")
    assert states["half"] == "interrupted"


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
