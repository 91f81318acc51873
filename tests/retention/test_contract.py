"""What every retention promises, over real trainings of two tasks on a tiny base of every shape."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from codestrata.components.lora import build_lora
from codestrata.components.weights import WeightsComponent
from codestrata.data.batches import EncodedExample
from codestrata.errors import DataError
from codestrata.models.fingerprints import fingerprint_model
from codestrata.retention.distill import Distillation
from codestrata.retention.ewc import ElasticWeights
from codestrata.retention.orthogonal import OrthogonalRanks
from codestrata.retention.replay import Replay
from codestrata.settings.components import LoraSettings
from codestrata.settings.retention import DistillSettings, EwcSettings, OrthogonalSettings, ReplaySettings
from codestrata.settings.sections import TrainingSettings
from codestrata.training import fit

SETTINGS = TrainingSettings(
    steps=8, batch_size=4, precision="fp32", warmup_fraction=0.0, decay="constant", clip_norm=None
)
RATE = 0.03
KINDS = ["replay", "ewc", "orthogonal", "distill"]


def build_retention(kind, *, seed=0):
    """The retention of that kind, strong enough to be seen in twelve steps."""
    match kind:
        case "replay":
            return Replay(ReplaySettings(size=4, ratio=0.5), seed=seed)
        case "ewc":
            return ElasticWeights(EwcSettings(strength=1e4), seed=seed)
        case "orthogonal":
            return OrthogonalRanks(OrthogonalSettings(strength=0.5), ranks=2, seed=seed)
        case "distill":
            return Distillation(DistillSettings(strength=4.0), seed=seed)


def build_component(kind, base):
    """A component with room for two tasks, of the sort that the retention protects."""
    if kind == "orthogonal":
        return build_lora(base, LoraSettings(rank=4, alpha=8.0))
    return WeightsComponent(base)


def build_task(word):
    """Four examples whose answer is one word, whatever was asked."""
    return [
        EncodedExample(
            identifier=f"{word}-{number}", prompt_ids=(5 + number, 20 + number, 1), target_ids=(word, word, 1)
        )
        for number in range(4)
    ]


FIRST, SECOND = build_task(40), build_task(50)


def learn(component, rows, retention=None, *, name="shared"):
    """A training as a run would have it."""
    return fit(
        component,
        name,
        rows,
        SETTINGS,
        learning_rate=RATE,
        seed=0,
        pad_id=0,
        device=torch.device("cpu"),
        retention=retention,
    )


def measure(component):
    """The cross entropy of the first task: the loss before the first step of one more training on it."""
    return learn(component, FIRST).losses[0]


def copy_tensors(component):
    return {key: parameter.detach().clone() for key, parameter in component.parameters("shared").items()}


def are_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@dataclass
class Story:
    """Two tasks learned in a row: with a retention, with its memory stored in between, and with none."""

    kind: str
    newborn: Any
    memory: Path
    prints: list[str]
    protected: dict[str, torch.Tensor]
    resumed: dict[str, torch.Tensor]
    resumed_print: str
    alone: dict[str, torch.Tensor]
    losses: tuple[float, float]
    base_prints: tuple[str, str]


def tell(kind, base, folder):
    """The story of a retention on a base."""
    component, retention = begin(kind, base)
    prints = [retention.fingerprint]
    learn(component, FIRST, retention)
    retention.write(folder)
    halfway = copy_tensors(component)
    prints.append(retention.fingerprint)
    learn(component, SECOND, retention)
    prints.append(retention.fingerprint)
    protected = copy_tensors(component)

    again, loaded = begin(kind, base)
    put_tensors(again, halfway)
    loaded.load(folder)
    learn(again, SECOND, loaded)

    before = fingerprint_model(base)
    alone = build_component(kind, base)
    alone.attach("shared", seed=0)
    learn(alone, FIRST)
    learn(alone, SECOND)
    tensors, resumed = copy_tensors(alone), copy_tensors(again)
    losses = (measure(component), measure(alone))
    alone.detach("shared")
    return Story(
        kind=kind,
        newborn=begin(kind, base),
        memory=folder,
        prints=prints,
        protected=protected,
        resumed=resumed,
        resumed_print=loaded.fingerprint,
        alone=tensors,
        losses=losses,
        base_prints=(before, fingerprint_model(base)),
    )


def begin(kind, base):
    """A newborn component on a base of its own, and a retention that remembers nothing."""
    component = build_component(kind, copy.deepcopy(base))
    component.attach("shared", seed=0)
    return component, build_retention(kind)


@torch.no_grad()
def put_tensors(component, tensors):
    for key, parameter in component.parameters("shared").items():
        parameter.copy_(tensors[key])


@pytest.fixture(scope="module", params=["t5", "llama"])
def base(request, first_tiny_t5, first_tiny_decoders):
    return copy.deepcopy(first_tiny_t5 if request.param == "t5" else first_tiny_decoders["llama"])


@pytest.fixture(scope="module", params=KINDS)
def story(request, base, tmp_path_factory):
    return tell(request.param, base, tmp_path_factory.mktemp("memory"))


def test_the_first_task_has_nothing_to_protect(story):
    component, retention = story.newborn
    rows, plan = retention.mix(FIRST, [[0, 1], [2, 3]], seed=0)
    assert list(rows) == FIRST
    assert [list(step) for step in plan] == [[0, 1], [2, 3]]
    retention.begin(component.parameters("shared"))
    assert retention.penalise(component.parameters("shared")) is None


def test_the_second_task_is_the_same_after_the_memory_went_through_files(story):
    assert are_equal(story.resumed, story.protected)
    assert story.resumed_print == story.prints[-1]


def test_every_lesson_changes_the_fingerprint(story):
    assert len(set(story.prints)) == 3


def test_what_came_first_is_forgotten_less_than_with_nothing_protected(story):
    protected, alone = story.losses
    assert not are_equal(story.protected, story.alone)
    assert protected < alone


def test_the_base_is_not_touched(story):
    before, after = story.base_prints
    assert before == after


def test_the_memory_of_another_kind_is_refused(story):
    stranger = build_retention(KINDS[KINDS.index(story.kind) - 1])
    before = stranger.fingerprint
    with pytest.raises(DataError):
        stranger.load(story.memory)
    assert stranger.fingerprint == before
