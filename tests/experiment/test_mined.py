"""A run on functions mined out of a source tree: to its report, and on though the tree has changed."""

import json
import shutil

import pytest

from codestrata import journal as journals
from codestrata.data import mined
from codestrata.errors import DataError
from codestrata.experiment.extending import extend_run, extend_settings
from codestrata.experiment.walk import resume_experiment, run_experiment
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory
from codestrata.verification.runs import verify_run

SUBJECTS = ("ledger", "parser", "socket", "matrix", "thread", "window", "packet", "folder")
VERBS = ("open", "close", "count", "merge", "split", "print", "index")


class Crash(BaseException):
    """What no handler may stop."""


PYTHON = '''def {verb}_{subject}({subject}, limit):
    """{Verb} every {subject} below the limit."""
    {verb}ed = [{subject} * {number} for _ in range(limit)]
    return {verb}ed[{place}:]
'''
JAVASCRIPT = """/**
 * {Verb} the {subject} of a page once.
 */
function {verb}_{subject}(page) {{
  const {verb}ed = page.{subject} + {number};
  return {verb}ed;
}}
"""


def write_trees(root):
    """A Python and a JavaScript tree of documented functions in a few packages each."""
    for language, template, suffix in (("python", PYTHON, "py"), ("javascript", JAVASCRIPT, "js")):
        for number, subject in enumerate(SUBJECTS):
            functions = [
                template.format(
                    verb=verb, Verb=verb.title(), subject=subject, number=number + place, place=place
                )
                for place, verb in enumerate(VERBS)
            ]
            file = root / language / subject / f"{subject}.{suffix}"
            file.parent.mkdir(parents=True)
            file.write_text("\n\n".join(functions), encoding="utf-8")


@pytest.fixture
def trees(tmp_path):
    write_trees(tmp_path / "trees")
    return tmp_path / "trees"


@pytest.fixture
def settings(quick_tree, trees, tmp_path):
    task = {
        "source": "mined",
        "objective": "summarize",
        "near_duplicates": 1.0,
        "train_examples": 12,
        "validation_examples": 2,
        "test_examples": 4,
    }
    tasks = [
        {"name": name, "language": name, "path": str(trees / name), **task}
        for name in ("python", "javascript")
    ]
    cache = {"folder": str(tmp_path / "cache")}
    return build_settings(
        quick_tree(preset="mined", methods=["base", "lora", "layers"], tasks=tasks, cache=cache)
    )


def test_lora_and_layers_on_mined_functions_end_with_a_report(settings, tmp_path):
    run = run_experiment(settings, root=tmp_path / "runs")
    assert run.name == "mined-1"
    results = run.read_results()
    assert [task["name"] for task in results["tasks"]] == ["python", "javascript"]
    for task in results["tasks"]:
        assert any("documented functions" in note for note in task["notes"])
        assert task["examples"]["train"] == 12
    report = (run.path / "results_analysis.md").read_text(encoding="utf-8")
    assert "| lora |" in report
    assert "| layers |" in report
    assert "mined 56 documented functions" in report
    prompts = (run.path / "base" / "predictions.jsonl").read_text(encoding="utf-8")
    assert "every" not in prompts.split('"target"')[0], (
        "the documentation is not in the code that is asked about"
    )
    assert len(list((tmp_path / "cache" / "mined").iterdir())) == 2


def test_a_run_goes_on_though_its_trees_are_gone(settings, trees, tmp_path, monkeypatch):
    written = []

    def write(path, text, real=journals.write_text):
        real(path, text)
        written.append(path)
        if len(written) == 8:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(journals, "write_text", write)
        with pytest.raises(Crash):
            run_experiment(settings, root=tmp_path / "runs", name="r")
    broken = RunDirectory(tmp_path / "runs" / "r")
    assert sorted(path.name for path in broken.data_folder.iterdir()) == ["javascript.jsonl", "python.jsonl"]
    whole = run_experiment(settings, root=tmp_path / "whole", name="r")
    shutil.rmtree(trees)
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(mined, "mine", None)
    found = resume_experiment(broken)
    for path in whole.path.rglob("*.jsonl"):
        place = path.relative_to(whole.path)
        if place.name != "events.jsonl":
            assert (found.path / place).read_bytes() == path.read_bytes()
    data = next(check for check in verify_run(found).checks if check.subject == "data")
    assert (data.verdict, data.count) == ("same", 2)


def test_a_run_with_a_damaged_copy_of_its_data_does_not_go_on(settings, tmp_path, monkeypatch):
    def write(path, text, real=journals.write_text):
        real(path, text)
        if "sessions" in path.parts:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(journals, "write_text", write)
        with pytest.raises(Crash):
            run_experiment(settings, root=tmp_path / "runs", name="r")
    broken = RunDirectory(tmp_path / "runs" / "r")
    kept = broken.data_folder / "python.jsonl"
    kept.write_text(kept.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(DataError, match=r"data/python\.jsonl:"):
        resume_experiment(broken)


@pytest.mark.parametrize("how", ["tests", "excluded"])
def test_a_run_outlives_a_tree_of_its_tests_or_of_an_excluded_set(
    how, settings, quick_tree, trees, tmp_path, monkeypatch
):
    rows = [
        {"prompt": f"What is {number}?", "target": f"It is {subject}.", "group": str(number)}
        for number, subject in enumerate(SUBJECTS * 3)
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = {"name": "python", "source": "file", "path": str(path), "train_examples": 8, "test_examples": 3}
    tree = str(trees / "python")
    more = {
        "tests": {"test_source": "mined", "test_path": tree},
        "excluded": {"exclude": [f"mined:{tree}"]},
    }[how]
    cache = tmp_path / "cache"
    settings = build_settings(quick_tree(methods=["base"], tasks=[task | more], cache={"folder": str(cache)}))
    run = run_experiment(settings, root=tmp_path / "runs", name="r")
    assert len(list((cache / "mined").iterdir())) == 1, "in the cache of the settings"
    assert (run.data_folder / "python.jsonl").exists()
    shutil.rmtree(trees)
    monkeypatch.setattr(mined, "mine", None)
    data = next(check for check in verify_run(run).checks if check.subject == "data")
    assert (data.verdict, data.count) == ("same", 1)


def test_a_run_is_extended_though_its_trees_have_changed(settings, quick_tree, trees, tmp_path):
    old = run_experiment(settings, root=tmp_path / "runs", name="r")
    extra = trees / "python" / "ledger" / "more.py"
    extra.write_text(
        'def added(a):\n    """Add what was not there."""\n    b = a\n    return b\n', encoding="utf-8"
    )
    more = build_settings(quick_tree()).tasks[0]
    assert isinstance(more, TaskSettings)
    new = extend_run(old, extend_settings(old.read_settings(), [more]), root=tmp_path / "runs")
    for name in ("python.jsonl", "javascript.jsonl"):
        assert (new.data_folder / name).read_bytes() == (old.data_folder / name).read_bytes()
