"""A run directory: names, numbers, what is refused, and what is written last."""

import errno
import json
import os
import platform
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from random import Random

import pytest

from codestrata import files, store
from codestrata.errors import RunError, SettingsError, StorageError
from codestrata.manifests import read_contents
from codestrata.presets import PRESETS
from codestrata.settings.tree import build_settings, fingerprint
from codestrata.store import (
    RunDirectory,
    create_run,
    list_directories,
    list_runs,
    open_run,
    replace_off,
    write_resume_command,
)


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
    [
        (True, "is complete", "codestrata show mine"),
        (False, "did not come to its end", "codestrata resume mine"),
    ],
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
    for name in ("mine", None):
        with pytest.raises(StorageError, match="runs cannot be made: File exists"):
            create_run(tmp_path / "runs", name, "pocket")


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
    (tmp_path / "journal").mkdir()
    written, replace, rmtree = [], os.replace, files.shutil.rmtree
    monkeypatch.setattr(os, "replace", lambda part, path: written.append(path.name) or replace(part, path))
    monkeypatch.setattr(files.shutil, "rmtree", lambda path: written.append(path.name) or rmtree(path))
    RunDirectory(tmp_path).finish({}, "analysis")
    last = ["checksums.json", "done.json", "journal"]
    assert written == ["experimental_results.json", "results_analysis.md", *last]


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


def test_an_empty_directory_of_that_name_never_began(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(RunError, match=r"It never began: choose another --name, or remove .*mine"):
        create_run(tmp_path, "mine", "pocket")


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_in_the_way_is_a_name_that_is_taken(tmp_path, dangling):
    (tmp_path / "runs").mkdir()
    if not dangling:
        (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="exists in"):
        create_run(tmp_path / "runs", "mine", "pocket")


def test_the_command_that_goes_on_can_be_pasted_into_a_shell():
    assert write_resume_command(RunDirectory(Path("runs/mine"))) == "codestrata resume mine"
    command = write_resume_command(RunDirectory(Path("/big disk/runs/mine")))
    assert shlex.split(command) == ["codestrata", "resume", "mine", "--runs", "/big disk/runs"]


def test_settings_are_read_and_their_lack_is_explained(tmp_path):
    run = create_run(tmp_path, "mine", "pocket")
    with pytest.raises(RunError, match=r"Run 'mine' in .* never wrote its settings"):
        run.read_settings()
    settings = build_settings(PRESETS["pocket"]())
    run.write_settings(settings)
    assert run.read_settings() == settings
    run.settings_file.write_text("preset = 1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="preset"):
        run.read_settings()


def test_a_run_that_never_began_is_found_by_name_and_explained(tmp_path):
    create_run(tmp_path / "runs", "mine", "pocket")
    with pytest.raises(RunError, match="never wrote its settings"):
        open_run(tmp_path / "runs", "mine")
    for other in (str(tmp_path), "..", ""):
        with pytest.raises(RunError, match="Unknown run"):
            open_run(tmp_path / "runs", other)


def test_a_run_opened_as_here_has_its_name(tmp_path, monkeypatch):
    run = make_run(tmp_path, "mine")
    monkeypatch.chdir(run.path)
    assert open_run(Path("runs"), ".").name == "mine"


def test_a_root_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(StorageError, match="cannot be read: Permission denied"):
        list_directories(tmp_path)


def finish_run(root, name="mine"):
    """A finished run made by hand, with files of every kind."""
    run = create_run(root, name, "pocket")
    run.write_settings(build_settings(PRESETS["pocket"]()))
    files.write_json(run.path / "environment.json", {"python": "3"})
    run.append_event("started", run=name)
    for folder in ("base", "controls/echo", "methods/lora/seed-0/python"):
        files.write_jsonl(
            run.path / folder / "predictions.jsonl", [{"identifier": "1", "completion": "x"}] * 9
        )
        files.write_jsonl(run.path / folder / "scores.jsonl", [{"metric": "bleu", "value": 0.5}])
    tensors = run.task_folder("lora", 0, "python") / "adapter_model.safetensors"
    files.write_bytes(tensors, Random(0).randbytes(2000))
    files.write_json(tensors.parent / "component.json", {"format": 1})
    files.write_json(run.journal_folder / "answers" / "base.json", {})
    files.write_json(run.checkpoints_folder("lora", 0, "python") / "step-00000001" / "facts.json", {})
    (run.path / "base" / ".scores.jsonl.abcdefgh.part").write_bytes(b"half")
    run.finish({"R": [[None, 0.5]]}, "analysis")
    return run


def test_a_finished_run_is_whole_and_has_no_leftovers(tmp_path):
    run = finish_run(tmp_path)
    assert run.check_files() == []
    names = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*")}
    assert not {
        name for name in names if name.startswith(("journal", "checkpoints", "lock")) or ".part" in name
    }
    assert names >= {"checksums.json", "done.json", "methods/lora/seed-0/python/adapter_model.safetensors"}
    listed = {name for name in names if (run.path / name).is_file()} - {"checksums.json", "done.json"}
    assert set(read_contents(run.path)) == listed


def test_a_flipped_bit_in_any_file_of_a_run_is_found_and_named(tmp_path):
    run, rng, tried = finish_run(tmp_path), Random(0), 0
    for path in sorted(path for path in run.path.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for _ in range(30):
            content = bytearray(whole)
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            path.write_bytes(content)
            faults = [(fault.kind, fault.path) for fault in run.check_files()]
            assert faults == [("changed", path.relative_to(run.path).as_posix())]
            tried += 1
        path.write_bytes(whole)
    assert tried >= 30 * 14
    assert run.check_files() == []


def test_files_of_an_unfinished_run_are_not_judged(tmp_path):
    with pytest.raises(RunError, match=r"did not come to its end .* codestrata resume mine --runs"):
        make_run(tmp_path, "mine").check_files()


@pytest.mark.parametrize("leftover", ["journal", "checkpoints"])
def test_a_crash_after_the_end_leaves_a_complete_run(tmp_path, monkeypatch, leftover):
    def crash(path, real=files.remove):
        if path.name == leftover:
            raise KeyboardInterrupt
        real(path)

    with monkeypatch.context() as patch:
        patch.setattr(store, "remove", crash)
        with pytest.raises(KeyboardInterrupt):
            finish_run(tmp_path)
    run = RunDirectory(tmp_path / "mine")
    assert run.is_done
    assert (run.path / leftover).exists()
    assert run.check_files() == []
    run.clear()
    assert not (run.path / leftover).exists()
    assert run.check_files() == []


@pytest.mark.parametrize("name", ["write_json", "write_text", "append_line", "seal_folder"])
def test_a_disk_that_fails_at_the_end_leaves_what_the_run_goes_on_from(tmp_path, monkeypatch, name):
    def fail(path, *_):
        raise StorageError(path, "written", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    run = create_run(tmp_path, "mine", "pocket")
    files.write_json(run.journal_folder / "a.json", {})
    monkeypatch.setattr(store, name, fail)
    with pytest.raises(StorageError, match="No space left"):
        run.finish({}, "analysis")
    assert not run.is_done
    assert (run.journal_folder / "a.json").exists()


def test_a_run_is_held_by_one_at_a_time(tmp_path):
    run = make_run(tmp_path, "mine")
    assert not run.is_held
    with run.hold():
        assert run.is_held
        owner = f"Run 'mine' is in use by process {os.getpid()} on {platform.node()}"
        with pytest.raises(RunError, match=owner), run.hold():
            pytest.fail("it is held twice")
    assert not run.is_held
    assert not (run.path / "lock").exists()


def make_link(run, place, target):
    (run.path / place).parent.mkdir(parents=True, exist_ok=True)
    (run.path / place).symlink_to(target)


@pytest.mark.parametrize("place", ["methods", "lora_python", "methods/lora/seed-0/python", "events.jsonl"])
def test_a_run_with_a_link_that_leads_out_is_not_worked_on(tmp_path, place):
    (tmp_path / "outside").mkdir()
    run = make_run(tmp_path / "runs", "mine")
    make_link(run, place, tmp_path / "outside")
    with pytest.raises(RunError, match="leads out of run 'mine'"), run.hold():
        pytest.fail("the link is there")
    assert not run.is_held


def test_a_run_may_be_a_link_and_hold_links_that_stay_inside(tmp_path):
    (tmp_path / "runs").mkdir()
    real = finish_run(tmp_path / "big-disk")
    (tmp_path / "runs" / "mine").symlink_to(real.path)
    make_link(real, "latest", "methods/lora/seed-0")
    run = open_run(tmp_path / "runs", "mine")
    with run.hold():
        assert run.inside(run.path / "latest" / "python") == run.path / "latest" / "python"
    assert run.read_results() == {"R": [[None, 0.5]]}
    assert [(fault.kind, fault.path) for fault in run.check_files()] == [("extra", "latest")]


@pytest.mark.parametrize(
    "path", ["..", "../other", "base/../../other", "/etc", "out/a", "circle", "broken", "nul\x00"]
)
def test_paths_that_lead_out_are_refused(tmp_path, path):
    (tmp_path / "other").mkdir()
    run = make_run(tmp_path, "mine")
    make_link(run, "out", tmp_path / "other")
    make_link(run, "circle", "circle")
    make_link(run, "broken", tmp_path / "absent")
    with pytest.raises(RunError, match="leads out of run 'mine'"):
        run.inside(run.path / path)


@pytest.mark.parametrize("path", [".", "base", "absent/below", "base/../methods"])
def test_paths_that_stay_inside_are_given_back(tmp_path, monkeypatch, path):
    make_run(tmp_path, "mine")
    monkeypatch.chdir(tmp_path)
    run = RunDirectory(Path("mine"))
    assert run.inside(run.path / path) == run.path / path


@pytest.mark.parametrize("name", ["settings.toml", "experimental_results.json"])
def test_what_a_run_is_read_from_may_not_lie_elsewhere(tmp_path, name):
    run = finish_run(tmp_path)
    (run.path / name).rename(tmp_path / name)
    make_link(run, name, tmp_path / name)
    with pytest.raises(RunError, match="leads out of run 'mine'"):
        (run.read_settings if name == "settings.toml" else run.read_results)()


def rewrite(run, value=0.75):
    with run.hold(), run.rewriting() as folder:
        files.write_jsonl(folder / "base" / "scores.jsonl", [{"metric": "bleu", "value": value}])
        RunDirectory(folder).write_results({"R": [[None, value]]}, "another analysis")


REWRITTEN = {"base/scores.jsonl", "experimental_results.json", "results_analysis.md", "events.jsonl"}


def test_rewriting_changes_only_the_entries_of_what_was_written(tmp_path):
    run = finish_run(tmp_path)
    before, tree = read_contents(run.path), read_tree(run.path)
    rewrite(run)
    after = read_contents(run.path)
    assert before.keys() == after.keys()
    assert {path for path in before if before[path] != after[path]} == REWRITTEN
    assert read_tree(run.path).keys() == tree.keys()
    assert run.check_files() == []
    assert run.read_results() == {"R": [[None, 0.75]]}
    events = [json.loads(line)["event"] for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert events == ["started", "done", "rewritten"]


@pytest.mark.parametrize("path", ["base/predictions.jsonl", "events.jsonl", "settings.toml"])
def test_rewriting_does_not_bless_damage(tmp_path, path):
    run = finish_run(tmp_path)
    content = bytearray((run.path / path).read_bytes())
    content[5] ^= 4
    (run.path / path).write_bytes(content)
    rewrite(run)
    assert [(fault.kind, fault.path) for fault in run.check_files()] == [("changed", path)]
    assert (run.path / path).read_bytes() == content


def test_rewriting_mends_what_it_writes_anew(tmp_path):
    run = finish_run(tmp_path)
    (run.path / "base" / "scores.jsonl").write_bytes(b"damaged")
    rewrite(run)
    assert run.check_files() == []


@pytest.mark.parametrize("path", ["checksums.json", "done.json"])
def test_a_run_whose_checksums_are_damaged_is_not_rewritten(tmp_path, path):
    run = finish_run(tmp_path)
    (run.path / path).write_bytes((run.path / path).read_bytes().replace(b"a", b"b"))
    before = read_tree(run.path)
    with pytest.raises(RunError, match=rf"{path} is changed: .* nothing was written"):
        rewrite(run)
    assert read_tree(run.path) == before


def test_an_unfinished_run_is_not_rewritten(tmp_path):
    run = make_run(tmp_path, "mine")
    with pytest.raises(RunError, match="cannot be rewritten: it did not come to its end"):
        rewrite(run)


def test_a_run_from_before_there_were_checksums_gets_them(tmp_path):
    run = finish_run(tmp_path)
    (run.path / "checksums.json").unlink()
    files.write_json(run.path / "done.json", {"finished": "2026-01-01T00:00:00+00:00"})
    rewrite(run)
    assert run.check_files() == []
    assert len(read_contents(run.path)) == 13


def test_a_rewriting_that_fails_changes_nothing(tmp_path, monkeypatch):
    def fail(path, *_):
        raise StorageError(path, "written", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    run = finish_run(tmp_path)
    before = read_tree(run.path)
    for name in ("write_json", "write_text", "write_bytes", "append_line", "seal_folder"):
        with monkeypatch.context() as patch:
            patch.setattr(store, name, fail)
            with pytest.raises(StorageError, match="No space left"):
                rewrite(run)
        assert read_tree(run.path) == before
    assert run.check_files() == []


@pytest.mark.parametrize("moves", range(6))
def test_a_run_does_not_call_itself_complete_while_files_are_put_in_place(tmp_path, monkeypatch, moves):
    run, done = finish_run(tmp_path), []

    def crash(source, target, real=files.move):
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(target)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(store, "move", crash)
        with pytest.raises(KeyboardInterrupt):
            rewrite(run)
    assert not run.is_done
    with pytest.raises(RunError, match=r"did not come to its end .* codestrata resume mine"):
        run.read_results()
    with run.hold():
        assert run.is_done
    assert run.check_files() == []
    assert run.read_results() == {"R": [[None, 0.75]]}


KILLED = """
import os, signal, sys
from pathlib import Path
from codestrata import files, store
from codestrata.store import RunDirectory

run, steps = RunDirectory(Path(sys.argv[1])), int(sys.argv[2])


def count_down(real):
    def call(*arguments, **options):
        global steps
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps -= 1
        return real(*arguments, **options)

    return call


for name in ("replace", "unlink", "mkdir", "rmdir", "write"):
    setattr(os, name, count_down(getattr(os, name)))
with run.hold(), run.rewriting() as folder:
    files.write_jsonl(folder / "base" / "scores.jsonl", [{"metric": "bleu", "value": 0.75}])
    RunDirectory(folder).write_results({"R": [[None, 0.75]]}, "another analysis")
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_rewriting_that_is_killed_anywhere_happened_or_did_not(tmp_path, stride):
    """Killed before the changes of the disk that it makes, and then the run is held once more."""
    outcomes = []
    for steps in range(0, 300, stride):
        run = finish_run(tmp_path / str(steps))
        program = [sys.executable, "-c", KILLED, str(run.path), str(steps)]
        done = subprocess.run(program, cwd=Path(store.__file__).parents[1], timeout=60)
        with run.hold():
            assert run.is_done
        assert run.check_files() == []
        assert not (run.path / "rewritten").exists()
        results = run.read_results()
        outcomes.append(results["R"][0][1])
        scores = (run.path / "base" / "scores.jsonl").read_text()
        assert json.loads(scores)["value"] == outcomes[-1]
        if done.returncode == -15:
            break
    assert done.returncode == -15
    assert outcomes == sorted(outcomes)  # the old results up to some step, the new ones from there on
    assert outcomes.count(0.5) > 2
    assert outcomes.count(0.75) > 2
