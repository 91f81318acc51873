"""Calling the command line in this process or in one of its own, and experiment files to call it with."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli_w

from codestrata.cli.main import main
from codestrata.store import replace_off


@pytest.fixture
def call(capsys, monkeypatch):
    """A function that calls ``codestrata ARGUMENTS`` and gives exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def quick_file(quick_tree, tmp_path):
    """An experiment file of a run in half a second, over one's own examples."""
    path = tmp_path / "quick.toml"
    path.write_text(tomli_w.dumps(replace_off(quick_tree())), encoding="utf-8")
    return path


STAND_IN = """
import signal, sys, time, types
from pathlib import Path

from codestrata import errors
from codestrata.cli import inspecting
from codestrata.cli.main import main
from codestrata.store import create_run

what, ready, on_terminal = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "True"
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started the tests may ignore it
if on_terminal:
    import fcntl, termios
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C typed there reaches this process

ERRORS = {
    "storage": errors.StorageError("a.json", "written", OSError(28, "No space left on device")),
    "training error": errors.TrainingError("the loss is nan"),
    "data": errors.DataError("is gone", path="a.jsonl"),
    "isolation": errors.IsolationError("the base changed"),
    "settings": errors.SettingsError("no such thing"),
    "in use": errors.RunError("in use"),
    "not ours": MemoryError("out of memory"),
}


def pause(here, seconds=60.0):
    if what == here:
        ready.touch()
        time.sleep(seconds)


def work(run, progress, interrupts):
    progress.start("train", 10)
    progress.advance(1, "loss 1.0")
    time.sleep(0.3 if on_terminal else 0)  # for the bars to be drawn
    if what in ERRORS:
        raise ERRORS[what]
    pause("training")
    with interrupts.postponed():
        if what == "step":
            ready.touch()
            while interrupts.pending is None:
                time.sleep(0.01)
            progress.say("step finished")
        pause("long step")
    return run


def run_experiment(settings, *, root, name, progress, interrupts, begun):
    progress.start("load", 2)
    pause("loading")
    run = create_run(root, name, settings.preset)
    run.write_settings(settings)
    begun(run)
    return work(run, progress, interrupts)


def resume_experiment(run, *, progress, interrupts):
    return work(run, progress, interrupts)


walk = types.ModuleType("codestrata.experiment.walk")
walk.run_experiment, walk.resume_experiment = run_experiment, resume_experiment
sys.modules[walk.__name__] = walk
if what == "listing":
    inspecting.list_directories = lambda root: pause("listing")
sys.exit(main(sys.argv[4:]))
"""
"""A command line in a process of its own, whose runs do nothing but what they are told by the first word."""


@dataclass
class Started:
    """A process that runs a command; ``terminal`` is our end of its terminal, if it has one."""

    process: subprocess.Popen
    ready: Path
    terminal: int | None

    def wait_until_ready(self):
        """Until the stand-in has come to where it waits."""
        deadline = time.monotonic() + 30
        while not self.ready.exists():
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self, *numbers):
        """Send signals as soon as the process is ready; gives what ``finish`` gives."""
        self.wait_until_ready()
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(0.1)  # the same signal twice at once arrives once
        return self.finish()

    def finish(self):
        """Exit code, stdout and stderr; on a terminal all that was shown there, and ""."""
        if self.terminal is None:
            out, err = self.process.communicate(timeout=30)
            return self.process.returncode, out, err
        shown = b"".join(iter(self._read_terminal, b"")).decode()
        return self.process.wait(timeout=30), shown, ""

    def _read_terminal(self):
        try:
            return os.read(self.terminal, 65536)
        except OSError:  # Linux: the other end was closed
            return b""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A function that starts ``codestrata ARGUMENTS`` with a stand-in, without or with a terminal."""
    monkeypatch.chdir(tmp_path)
    started = []

    def launch(what, *arguments, terminal=False):
        ready = tmp_path / f"ready-{len(started)}"
        ours, theirs = pytest.importorskip("pty").openpty() if terminal else (None, None)
        streams = [subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE] if theirs is None else [theirs] * 3
        process = subprocess.Popen(
            [sys.executable, "-c", STAND_IN, what, str(ready), str(terminal), *map(str, arguments)],
            **dict(zip(("stdin", "stdout", "stderr"), streams, strict=True)),
            text=True,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
        )
        if theirs is not None:
            os.close(theirs)
        started.append(Started(process, ready, ours))
        return started[-1]

    yield launch
    for entry in started:
        entry.process.kill()
        with entry.process:
            pass
        if entry.terminal is not None:
            os.close(entry.terminal)
