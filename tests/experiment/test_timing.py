"""What a training step takes: real steps, with the retention at work."""

from dataclasses import replace

import pytest

from codestrata.experiment.timing import choose_rows, time_training
from codestrata.lab import open_lab
from codestrata.methods import METHODS
from codestrata.models.fingerprints import fingerprint_model
from codestrata.progress import Silence
from codestrata.retention.ewc import ElasticWeights
from codestrata.settings.tree import build_settings


@pytest.fixture(scope="module")
def lab(quick_tree):
    """A lab with two tasks."""
    return open_lab(build_settings(quick_tree()), Silence())


@pytest.mark.parametrize("name", ["lora", "replay", "ewc", "olora", "distill", "joint"])
def test_every_method_can_be_timed_and_leaves_the_base_alone(lab, name):
    pace = time_training(lab, METHODS[name])
    assert pace.parameters > 0
    assert 0 < pace.seconds_per_step < 60
    assert fingerprint_model(lab.base.model) == lab.base.fingerprint


def test_a_retention_has_something_to_retain_while_it_is_timed(lab, monkeypatch):
    lessons = []
    real = ElasticWeights.penalise

    def penalise(self, parameters):
        lessons.append(self.lessons)
        return real(self, parameters)

    monkeypatch.setattr(ElasticWeights, "penalise", penalise)
    time_training(lab, METHODS["ewc"], steps=2)
    assert lessons == [0, 1, 1, 1]


def test_a_later_component_is_timed_with_the_blocks_of_the_first(lab):
    first, later = (time_training(lab, METHODS["shared-layers"], later=later) for later in (False, True))
    assert 0 < later.parameters < first.parameters  # its own updates alone
    assert later.seconds_per_step > 0
    assert fingerprint_model(lab.base.model) == lab.base.fingerprint


def test_one_task_alone_has_nothing_to_retain(lab):
    alone = replace(lab, tasks=lab.tasks[:1])
    assert time_training(alone, METHODS["olora"]).seconds_per_step > 0


def test_timed_examples_are_spread_over_the_task(lab):
    rows = choose_rows(lab, METHODS["lora"], 1)
    encoded = lab.encoded["early"]
    assert [row.identifier for row in rows] == [encoded[place].identifier for place in (0, 2, 4)]
    assert len(choose_rows(lab, METHODS["lora"], 100)) == len(encoded)
