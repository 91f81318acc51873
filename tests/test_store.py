"""A run directory: names, numbers, what is refused, and what is written last."""

import json
import tomllib

import pytest

from codestrata import store
from codestrata.errors import RunError, SettingsError
from codestrata.presets import PRESETS
from codestrata.settings import build_settings, fingerprint
from codestrata.store import RunDirectory, create_run, list_runs, open_run, replace_off


def make_run(root, name, *, done=False):
    """A directory that looks like a run."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "settings.toml").write_text("", encoding="utf-8")
    if done:
        (folder / "done.json").write_text("{}", encoding="utf-8")
    return RunDirectory(folder)


def read_tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_runs_without_a_name_are_numbered(tmp_path):
    root = tmp_path / "deep" / "runs"
    assert [create_run(root, None, "pocket").name for _ in range(3)] == ["pocket-1", "pocket-2", "pocket-3"]


def test_numbers_go_on_from_the_highest_and_are_per_preset(tmp_path):
    for name in ("founding-7", "founding-sound-40", "founding-x", "founding", "my-founding-90"):
        (tmp_path / name).mkdir()
    assert create_run(tmp_path, None, "founding").name == "founding-8"
    assert create_run(tmp_path, None, "founding-sound").name == "founding-sound-41"
    assert create_run(tmp_path, None, "pocket").name == "pocket-1"


def test_a_number_that_is_taken_meanwhile_is_skipped(tmp_path):
    (tmp_path / "pocket-1").write_text("a file is in the way", encoding="utf-8")
    assert create_run(tmp_path, None, "pocket").name == "pocket-2"


@pytest.mark.parametrize(
    ("done", "state", "advice"),
    [(True, "is complete", "codestrata show mine"), (False, "did not come to its end", "settings.toml")],
)
def test_an_existing_name_is_refused_and_nothing_is_touched(tmp_path, done, state, advice):
    run = make_run(tmp_path, "mine", done=done)
    before = read_tree(run.path)
    with pytest.raises(RunError, match=state) as caught:
        create_run(tmp_path, "mine", "pocket")
    assert advice in str(caught.value)
    assert "--name" in str(caught.value)
    assert read_tree(run.path) == before


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "/tmp/x", "a b", "-flag", "ä", "x" * 65])
def test_bad_names_are_refused(tmp_path, name):
    with pytest.raises(SettingsError, match="run's name"):
        create_run(tmp_path / "runs", name, "pocket")
    assert not (tmp_path / "runs").exists()


def test_a_preset_cannot_lead_out_of_the_root(tmp_path):
    with pytest.raises(SettingsError, match="preset"):
        create_run(tmp_path / "runs", None, "../elsewhere")
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_a_file_is_named(tmp_path):
    (tmp_path / "runs").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match="cannot be made"):
        create_run(tmp_path / "runs", "mine", "pocket")


def test_places_in_a_run(tmp_path):
    run = RunDirectory(tmp_path / "r")
    assert run.name == "r"
    assert run.task_folder("lora", 3, "python") == tmp_path / "r/methods/lora/seed-3/python"
    assert run.founding_folder("lora", "python") == tmp_path / "r/lora_python"
    assert run.founding_folder("layers", "javascript") == tmp_path / "r/full_javascript"
    assert run.founding_folder("weights", "python") is None


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_read_back_are_equal(tmp_path, preset):
    settings = build_settings(PRESETS[preset]())
    RunDirectory(tmp_path).write_settings(settings)
    again = build_settings(tomllib.loads((tmp_path / "settings.toml").read_text(encoding="utf-8")))
    assert again == settings
    assert fingerprint(again) == fingerprint(settings)


def test_off_is_a_word_in_toml():
    assert replace_off({"a": None, "b": [{"c": None}, 1]}) == {"a": "null", "b": [{"c": "null"}, 1]}


def test_events_are_appended_as_lines(tmp_path):
    run = RunDirectory(tmp_path)
    run.append_event("started", run="ä")
    run.append_event("done")
    lines = [
        json.loads(line) for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [line["event"] for line in lines] == ["started", "done"]
    assert lines[0]["run"] == "ä"
    assert lines[0]["time"] <= lines[1]["time"]


def test_done_is_written_last(tmp_path, monkeypatch):
    written = []
    for name in ("write_json", "write_text"):
        monkeypatch.setattr(store, name, lambda path, _: written.append(path.name))
    RunDirectory(tmp_path).finish({}, "analysis")
    assert written == ["experimental_results.json", "results_analysis.md", "done.json"]


def test_a_run_whose_results_cannot_be_written_is_not_done(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        RunDirectory(tmp_path).finish({"loss": float("nan")}, "analysis")
    assert not RunDirectory(tmp_path).is_done
    assert list(tmp_path.iterdir()) == []


def test_results_of_an_unfinished_run_are_refused(tmp_path):
    run = make_run(tmp_path, "mine")
    (run.path / "experimental_results.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match="did not come to its end"):
        run.read_results()


def test_finished_results_are_read_back(tmp_path):
    run = RunDirectory(tmp_path)
    run.finish({"R": [[None, 0.5]]}, "analysis")
    assert run.is_done
    assert run.read_results() == {"R": [[None, 0.5]]}


def test_runs_are_listed_by_name_and_other_folders_are_not(tmp_path):
    for name in ("b", "a"):
        make_run(tmp_path, name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert [run.name for run in list_runs(tmp_path)] == ["a", "b"]
    assert list_runs(tmp_path / "missing") == []


def test_a_run_opens_by_name_and_by_path(tmp_path):
    run = make_run(tmp_path / "runs", "mine")
    assert open_run(tmp_path / "runs", "mine") == run
    assert open_run(tmp_path / "elsewhere", str(run.path)) == run


def test_an_unknown_run_comes_with_the_nearest_name(tmp_path):
    for name in ("pocket-1", "mine"):
        make_run(tmp_path, name)
    with pytest.raises(
        RunError, match=r"Unknown run 'poket-1'. Did you mean 'pocket-1'\? Known: mine, pocket-1"
    ):
        open_run(tmp_path, "poket-1")
