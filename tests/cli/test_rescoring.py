"""``codestrata score``."""

import json
import shutil

import pytest
from damaging import reseal

from codestrata.experiment.walk import run_experiment
from codestrata.files import read_jsonl, write_jsonl
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory


@pytest.fixture(scope="module")
def finished(quick_tree, tmp_path_factory):
    return run_experiment(build_settings(quick_tree()), root=tmp_path_factory.mktemp("runs"), name="mine")


@pytest.fixture
def run(finished, tmp_path):
    return RunDirectory(shutil.copytree(finished.path, tmp_path / "mine"))


@pytest.fixture
def changed(run):
    """A run whose base now answers everything right."""
    path = run.path / "base" / "predictions.jsonl"
    write_jsonl(path, [row | {"completion": row["target"]} for _, row in read_jsonl(path)])
    return run


def read_files(run):
    return {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_an_unchanged_run_scores_the_same(call, run):
    code, out, err = call("score", run.path, "--check", "-q")
    assert (code, err) == (0, "")
    assert out.endswith("computed from predictions; 0 differ from the stored ones.\n")


def test_check_names_what_differs_and_writes_nothing(call, changed):
    before = read_files(changed)
    code, out, err = call("score", changed.path, "--check", "-q")
    assert (code, err) == (1, "")
    assert "/base/cells/0/" in out
    assert read_files(changed) == before
    code, out, _ = call("score", changed.path, "--check", "-q", "--json")
    tree = json.loads(out)
    assert code == 1
    assert tree["compared"] > len(tree["changes"]) > 0
    found = {entry["pointer"]: entry["computed"] for entry in tree["changes"]}
    assert found["/base/cells/0/scores/exact_match/value"] == 1.0


def test_without_check_the_new_numbers_are_stored(call, changed):
    code, _, err = call("score", changed.path, "-q")
    assert code == 1
    assert "predictions.jsonl: is changed since the run was finished" in err
    reseal(changed)
    assert call("score", changed.path, "-q")[0] == 0
    cells = changed.read_results()["base"]["cells"]
    assert {cell["scores"]["exact_match"]["value"] for cell in cells} == {1.0}
    assert call("score", changed.path, "--check", "-q")[0] == 0


def test_progress_goes_to_stderr(call, run):
    _, out, err = call("score", run.path, "--check")
    assert "score stored predictions" in err
    assert "score stored predictions" not in out


def test_a_mistyped_run_is_misuse_with_the_nearest_name(call, run):
    code, out, err = call("score", "mien", "--runs", run.path.parent)
    assert (code, out) == (2, "")
    assert "Did you mean 'mine'?" in err
