"""``codestrata resume``, and what a command says that was stopped: how to go on, on a visible cursor."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import tomli_w

from codestrata.cli.comparing import hint_at_resume
from codestrata.errors import IsolationError, RunError, TrainingError
from codestrata.experiment import trainings
from codestrata.experiment.walk import run_experiment
from codestrata.settings.tree import build_settings
from codestrata.store import RunDirectory, open_run, replace_off

MAIN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from codestrata.cli.main import main; sys.exit(main(sys.argv[1:]))"
)
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
EVERY_SIGNAL = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(scope="module")
def finished(quick_tree, tmp_path_factory):
    return run_experiment(build_settings(quick_tree()), root=tmp_path_factory.mktemp("runs"), name="mine")


@pytest.fixture
def interrupted(call, quick_file, tmp_path, monkeypatch):
    """A run that was stopped when its first training began, and what the command said."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainings, "fit", interrupt)
        code, out, err = call("run", quick_file, "--runs", tmp_path / "my runs", "--name", "mine")
    assert (code, out) == (130, "")
    return RunDirectory(tmp_path / "my runs" / "mine"), err


def test_the_command_that_is_printed_goes_on_and_ends_like_run(call, interrupted, finished):
    run, err = interrupted
    assert "Traceback" not in err
    told = err.splitlines()[-1]
    assert told == f"go on with: codestrata resume mine --runs {shlex.quote(str(run.path.parent))}"
    assert not run.is_done
    command = shlex.split(told.removeprefix("go on with: "))
    code, out, err = call(*command[1:])
    assert code == 0
    assert "bleu at the end of the sequence" in out
    assert out.endswith(f"Report: {run.path / 'results_analysis.md'}\n")
    assert "lora: train early" in err
    for path in ("methods/lora/seed-0/late/predictions.jsonl", "lora_late/adapter_model.safetensors"):
        assert (run.path / path).read_bytes() == (finished.path / path).read_bytes()


def test_a_run_in_the_usual_place_is_named_without_the_place(call, quick_file, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise TrainingError("the loss is nan")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainings, "fit", fail)
    code, out, err = call("run", quick_file, "-q")
    assert (code, out) == (1, "")
    assert err == "error: the loss is nan\ngo on with: codestrata resume pocket-1\n"


def test_quiet_and_json(call, interrupted):
    run, _ = interrupted
    code, out, err = call("resume", "mine", "--runs", run.path.parent, "-q", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == open_run(run.path.parent, "mine").read_results()


@pytest.mark.parametrize("by_path", [True, False])
def test_a_complete_run_says_so_and_where_its_report_is(call, finished, by_path):
    before = {path: path.read_bytes() for path in finished.path.rglob("*") if path.is_file()}
    arguments = [finished.path] if by_path else ["mine", "--runs", finished.path.parent]
    code, out, err = call("resume", *arguments, "-q")
    assert (code, err) == (0, "")
    report = finished.path / "results_analysis.md"
    assert out == f"Run 'mine' is complete: there is nothing left to do.\nReport: {report}\n"
    assert json.loads(call("resume", *arguments, "--json", "-q")[1]) == finished.read_results()
    assert {path: path.read_bytes() for path in finished.path.rglob("*") if path.is_file()} == before


def test_an_unknown_run_comes_with_the_nearest_name(call, finished):
    code, out, err = call("resume", "mime", "--runs", finished.path.parent)
    assert (code, out) == (2, "")
    assert "Unknown run 'mime'. Did you mean 'mine'?" in err
    assert "go on with" not in err


def test_a_run_that_never_began_is_2_and_says_what_to_do(call, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = call("resume", "empty", "--runs", tmp_path)
    assert (code, out) == (2, "")
    assert "'empty'" in err
    assert "never wrote its settings" in err
    assert len(err.splitlines()) == 1
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_run_in_use_is_2_and_names_its_owner(call, interrupted):
    run, _ = interrupted
    with run.hold():
        code, out, err = call("resume", "mine", "--runs", run.path.parent)
    assert (code, out) == (2, "")
    assert str(os.getpid()) in err
    assert "go on with" not in err


def test_run_on_the_name_of_an_unfinished_run_is_2_and_prints_the_command(call, interrupted, quick_file):
    run, _ = interrupted
    code, out, err = call("run", quick_file, "--runs", run.path.parent, "--name", "mine")
    assert (code, out) == (2, "")
    assert f"codestrata resume mine --runs {shlex.quote(str(run.path.parent))}" in err


def raise_with_hint(error, begun):
    with hint_at_resume(begun):
        raise error


@pytest.mark.parametrize("error", [TrainingError("x"), MemoryError("x"), KeyboardInterrupt()])
def test_there_is_no_hint_before_there_is_a_run(error):
    with pytest.raises(type(error)) as caught:
        raise_with_hint(error, [])
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("error", [IsolationError("x"), RunError("x")])
def test_there_is_no_hint_where_going_on_is_senseless(error, tmp_path):
    with pytest.raises(type(error)) as caught:
        raise_with_hint(error, [RunDirectory(tmp_path)])
    assert not hasattr(caught.value, "__notes__")


# From here on real processes get real signals. Their runs are stand-ins: see conftest.py.


@EVERY_SIGNAL
@pytest.mark.parametrize("what", ["training", "step"])
def test_a_signal_ends_a_run_with_the_command_that_goes_on(start, number, what):
    code, out, err = start(what, "run", "--runs", "my runs", "--name", "mine").stop(number)
    assert (code, out) == (128 + number, "")
    assert err.splitlines()[-2:] == [
        f"interrupted ({signal.Signals(number).name})",
        "go on with: codestrata resume mine --runs 'my runs'",
    ]
    assert ("step finished" in err) == (what == "step")


@EVERY_SIGNAL
def test_a_signal_ends_a_resumed_run_with_the_command_that_goes_on(start, number, tmp_path, tiny_settings):
    run = RunDirectory(tmp_path / "runs" / "mine")
    run.path.mkdir(parents=True)
    run.write_settings(tiny_settings)
    code, out, err = start("training", "resume", "mine", "-q").stop(number)
    assert (code, out) == (128 + number, "")
    assert err == f"interrupted ({signal.Signals(number).name})\ngo on with: codestrata resume mine\n"


@EVERY_SIGNAL
def test_a_signal_before_there_is_a_run_is_one_line(start, number, tmp_path):
    code, out, err = start("loading", "run", "-q").stop(number)
    assert (code, out) == (128 + number, "")
    assert err == f"interrupted ({signal.Signals(number).name})\n"
    assert not (tmp_path / "runs").exists()


def test_a_second_signal_ends_a_run_within_its_step(start):
    code, out, err = start("long step", "run", "-q").stop(signal.SIGINT, signal.SIGTERM)
    assert (code, out) == (143, "")
    assert err == "interrupted (SIGTERM)\ngo on with: codestrata resume pocket-1\n"


@pytest.mark.parametrize(
    ("what", "code", "hint"),
    [("storage", 1, True), ("data", 1, True), ("isolation", 1, False), ("settings", 2, False)],
)
def test_an_error_ends_a_run_with_the_command_that_goes_on_where_that_helps(start, what, code, hint):
    found, out, err = start(what, "run", "-q").finish()
    assert (found, out) == (code, "")
    lines = err.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[1:] == (["go on with: codestrata resume pocket-1"] if hint else [])


def test_an_error_that_is_not_ours_keeps_its_traceback_and_has_the_command_below(start):
    code, _, err = start("not ours", "run", "-q").finish()
    assert code == 1
    assert "Traceback" in err
    assert err.splitlines()[-2:] == [
        "MemoryError: out of memory",
        "go on with: codestrata resume pocket-1",
    ]


def check_terminal(shown, *lines):
    """The bars were drawn, the cursor is back, and the last lines are these, each once."""
    changes = re.findall(r"\x1b\[\?25[lh]", shown)
    assert changes[0] == HIDE
    assert changes[-1] == SHOW
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n")
    assert [line for line in plain.split("\n") if line.strip()][-len(lines) :] == list(lines)
    assert "Traceback" not in plain


GO_ON = "go on with: codestrata resume pocket-1"


@pytest.mark.parametrize(
    ("what", "numbers", "code"),
    [
        ("training", [signal.SIGINT], 130),
        ("step", [signal.SIGTERM], 143),
        ("long step", [signal.SIGINT, signal.SIGINT], 130),
    ],
)
def test_on_a_terminal_a_signal_leaves_the_cursor_visible(start, what, numbers, code):
    found, shown, _ = start(what, "run", terminal=True).stop(*numbers)
    assert found == code
    check_terminal(shown, f"interrupted ({signal.Signals(numbers[-1]).name})", GO_ON)


def test_on_a_terminal_an_error_leaves_the_cursor_visible(start):
    code, shown, _ = start("training error", "run", terminal=True).finish()
    assert code == 1
    check_terminal(shown, "error: the loss is nan", GO_ON)


def test_control_c_typed_on_a_terminal_ends_a_run(start):
    termios = pytest.importorskip("termios")
    run = start("training", "run", terminal=True)
    before = termios.tcgetattr(run.terminal)
    run.wait_until_ready()
    assert termios.tcgetattr(run.terminal) == before
    os.write(run.terminal, b"\x03")
    code, shown, _ = run.finish()
    assert code == 130
    check_terminal(shown, "interrupted (SIGINT)", GO_ON)


def stop_when(condition, number, *arguments):
    """A whole real run, stopped by a signal once something is there."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        deadline = time.monotonic() + 100
        while not condition() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.slow
def test_a_real_training_is_stopped_and_resumed(call, quick_tree, tmp_path):
    tree = quick_tree(methods=["lora"], training={"steps": 40}, checkpoints={"seconds": 0.0})
    tree["tasks"] = tree["tasks"][:1]
    (tmp_path / "longer.toml").write_text(tomli_w.dumps(replace_off(tree)), encoding="utf-8")
    run = RunDirectory(tmp_path / "runs" / "mine")
    checkpoints = run.checkpoints_folder("lora", 0, "early")
    code, out, err = stop_when(
        lambda: any(checkpoints.glob("step-*/facts.json")),
        signal.SIGTERM,
        *("run", tmp_path / "longer.toml", "--runs", run.path.parent, "--name", "mine"),
    )
    assert (code, out) == (143, "")
    assert err.splitlines()[-2:] == [
        "interrupted (SIGTERM)",
        f"go on with: codestrata resume mine --runs {run.path.parent}",
    ]
    assert any(checkpoints.glob("step-*/facts.json"))
    code, out, _ = call("resume", "mine", "--runs", run.path.parent)
    assert code == 0
    assert run.is_done
    assert not checkpoints.exists()


@pytest.mark.slow
def test_signals_at_any_moment_end_a_real_run_properly(quick_file, tmp_path, call):
    """From the start of the process to the end of the run, both signals."""
    codes = []
    for moment in range(16):
        runs = tmp_path / str(moment)
        number = (signal.SIGINT, signal.SIGTERM)[moment % 2]
        until = time.monotonic() + 0.5 + 0.5 * moment
        code, out, err = stop_when(
            lambda until=until: time.monotonic() > until,
            number,
            *("run", quick_file, "--runs", runs, "--name", "mine", "--set", "training.steps=100"),
        )
        codes.append(code)
        if code == -number:  # Python was still starting, and dies its own way
            assert not out
            assert not runs.exists()
            continue
        assert code in (0, 128 + number)
        assert "Traceback" not in err
        assert code == 0 or f"interrupted ({signal.Signals(number).name})" in err.splitlines()[-2:]
        run = RunDirectory(runs / "mine")
        if code and (run.path / "settings.toml").exists():
            assert err.splitlines()[-1] == f"go on with: codestrata resume mine --runs {runs}"
            assert call("resume", "mine", "--runs", runs, "-q")[0] == 0
            assert run.is_done
        shutil.rmtree(runs, ignore_errors=True)
    assert len(set(codes)) > 1
