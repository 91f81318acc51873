"""Killed at any moment and resumed, a run ends as one that was never interrupted."""

import random
import tempfile
from pathlib import Path

import pytest
from chains import Tally, kill_and_resume

KATA = {
    "source": "kata",
    "train_examples": 8,
    "validation_examples": 0,
    "test_examples": 2,
    "unseen_examples": 1,
}
PROGRAMS = [{"name": "python", **KATA}, {"name": "lua", **KATA}]
CONFINED = {"isolation": "auto", "allow_unconfined": False}


@pytest.fixture
def kill(nursery, place):
    """A function that kills and resumes runs until so many kills were survived; gives the tally."""

    def carry_on(whole, kills, *, at_once, seed):
        rng, tally = random.Random(seed), Tally()
        while tally.kills < kills:
            folder = Path(tempfile.mkdtemp(dir=place))
            most = min(at_once, kills - tally.kills)
            assert kill_and_resume(nursery, whole, folder, rng, tally, most=most) == [], f"after {tally}"
        print(tally.describe())
        return tally

    return carry_on


def test_killed_and_resumed_a_run_ends_as_if_it_never_had_been(kill, whole):
    assert kill(whole, 12, at_once=12, seed=3).kills == 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "sections"),
    [
        pytest.param(150, {}, id="a checkpoint after every step"),
        pytest.param(50, {"checkpoints": {"seconds": None}}, id="one after each training"),
        pytest.param(
            30, {"methods": ["lora"], "decoding": {"temperature": 0.7, "samples": 2}}, id="sampling"
        ),
        pytest.param(
            30,
            {"methods": ["lora", "finetune"], "measurement": {"recheck": "canary", "canary_examples": 2}},
            id="canaries",
        ),
        pytest.param(20, {"methods": ["layers"], "seeds": [0, 1]}, id="two seeds"),
        pytest.param(15, {"methods": ["lora"], "tasks": PROGRAMS, "execution": CONFINED}, id="programs run"),
    ],
)
def test_killed_at_many_moments(kill, carry_out, kills, sections):
    tally = kill(carry_out(**sections), kills, at_once=6, seed=kills)
    assert tally.kills >= kills
    assert len({*tally.of_time, *tally.of_disk}) > 8
