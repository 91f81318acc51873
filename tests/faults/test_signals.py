"""SIGINT and SIGTERM through the command line, and the command it prints, run by a shell."""

import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from attempts import Order, Trouble
from chains import NAME
from sameness import list_differences

HINT = "go on with: "
UNDER_WAY = ("journal", "predictions", "scores", "checkpoint", "component", "results", "analysis")
PROGRAM = """#!{python}
import sys
from codestrata.cli.main import main
sys.exit(main())
"""


@pytest.fixture
def shell(place):
    """A function that has a shell run a command line in which ``codestrata`` is this installation's."""
    program = place / "bin" / "codestrata"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    root = Path(__file__).parents[2]

    def run(line, cache):
        own = {
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(root),
            "XDG_CACHE_HOME": str(cache),
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, timeout=300, env={**os.environ, **own}
        )

    return run


@pytest.fixture
def interrupt(nursery, place, write_command):
    """A function that has a command line begin a run and get a signal; gives the order and its outcome."""

    def start(whole, **when):
        folder = Path(tempfile.mkdtemp(dir=place, prefix="some runs "))  # the command must be quoted
        words = [str(folder) if word == str(place / "runs") else word for word in write_command(whole.tree)]
        order = Order(run=str(folder / NAME), cache=str(place / "cache"), command=tuple(words), **when)
        return order, nursery.attempt(order)

    return start


def check_interrupted(order, outcome, number):
    """It ended as a signal should end it; gives the command that goes on, empty where there is no run yet."""
    run = Path(order.run)
    assert outcome.code == 128 + number, outcome.err
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert lines[0] == f"interrupted ({signal.Signals(number).name})"
    assert not (run / "lock").exists()
    if not (run / "settings.toml").is_file():
        assert lines[1:] == []
        return ""
    assert lines[1:] == [f"{HINT}codestrata resume {NAME} --runs {shlex.quote(str(run.parent))}"]
    return lines[1].removeprefix(HINT)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_command_that_is_printed_ends_the_run_as_if_nothing_had_been(
    nursery, interrupt, shell, small, number
):
    rng = random.Random(int(number))
    where = rng.choice(UNDER_WAY)
    trouble = Trouble(number=rng.randint(1, small.outcome.moments[where]), where=where, signal=number)
    order, outcome = interrupt(small, trouble=trouble)
    line = check_interrupted(order, outcome, number)
    if number == signal.SIGTERM:
        done = shell(line, order.cache)
        assert done.returncode == 0, done.stderr
    else:  # a shell costs seconds
        again = nursery.attempt(replace(order, command=tuple(shlex.split(line)[1:]), trouble=None))
        assert again.is_done, again.err
    assert list_differences(small.path, Path(order.run)) == []


@pytest.mark.slow
def test_signals_at_random_moments(interrupt, shell, whole, small):
    rng, counts = random.Random(4), {"before the run": 0, "resumed": 0, "too late": 0}
    for turn in range(24):
        one = (whole, small)[turn % 2]
        number = rng.choice([signal.SIGINT, signal.SIGTERM])
        order, outcome = interrupt(one, signal=(number, rng.uniform(0, one.outcome.seconds)))
        if outcome.code == 0:
            counts["too late"] += 1
        elif line := check_interrupted(order, outcome, number):
            done = shell(line, order.cache)
            assert done.returncode == 0, done.stderr
            counts["resumed"] += 1
        else:
            counts["before the run"] += 1
            continue
        assert list_differences(one.path, Path(order.run)) == []
    print(counts)
    assert counts["resumed"] >= 12
