"""What all retentions share: nothing protected by default, and all that is kept comes back from a folder."""

import pytest
import torch

from codestrata.checkpoints import FACTS_FILE, TENSORS_FILE
from codestrata.errors import DataError
from codestrata.retention.ewc import ElasticWeights
from codestrata.retention.memory import Memory
from codestrata.settings.retention import EwcSettings, ReplaySettings


@pytest.fixture
def kept(tmp_path):
    """A memory of one task, and the folder that it was written to."""
    memory = ElasticWeights(EwcSettings(), seed=1)
    memory.tensors = {"fisher.w": torch.tensor([1.0, 2.0]), "anchor.w": torch.tensor([3.0, 4.0])}
    memory.facts["lessons"] = 1
    memory.write(tmp_path)
    return memory, tmp_path


def test_a_memory_protects_nothing_by_itself():
    memory = Memory(EwcSettings(), seed=0)
    parameters = {"w": torch.nn.Parameter(torch.ones(2))}
    rows, plan = ["a", "b"], [[0], [1]]
    found = memory.mix(rows, plan, seed=0)
    assert found[0] is rows
    assert found[1] is plan
    memory.begin(parameters)
    memory.restrain(parameters)
    assert memory.penalise(parameters) is None
    assert memory.compare(pytest.fail, torch.ones(1, 1, 2), torch.nn.Linear(2, 2), torch.ones(1, 1)) is None
    assert parameters["w"].tolist() == [1, 1]


def test_what_is_kept_comes_back(kept):
    memory, folder = kept
    again = ElasticWeights(EwcSettings(), seed=1)
    assert again.fingerprint != memory.fingerprint
    again.load(folder)
    assert again.fingerprint == memory.fingerprint
    assert again.lessons == 1
    assert {name: tensor.tolist() for name, tensor in again.tensors.items()} == {
        "fisher.w": [1, 2],
        "anchor.w": [3, 4],
    }


def test_a_memory_of_no_tensors_comes_back_too(tmp_path):
    memory = Memory(EwcSettings(), seed=0)
    memory.facts["lessons"] = 3
    memory.write(tmp_path)
    again = Memory(EwcSettings(), seed=0)
    again.load(tmp_path)
    assert again.lessons == 3


@pytest.mark.parametrize(
    "other",
    [
        ElasticWeights(EwcSettings(strength=7.0), seed=1),
        ElasticWeights(EwcSettings(), seed=2),
        Memory(EwcSettings(), seed=1),
        Memory(ReplaySettings(), seed=1),
    ],
    ids=["settings", "seed", "kind", "both"],
)
def test_what_another_kept_is_refused(kept, other):
    _, folder = kept
    before = other.fingerprint
    with pytest.raises(DataError, match=r"kept of earlier tasks is of .*'seed': 1.*, but .* is needed"):
        other.load(folder)
    assert other.fingerprint == before


@pytest.mark.parametrize("name", [FACTS_FILE, TENSORS_FILE])
def test_a_damaged_memory_is_refused_and_changes_nothing(kept, name):
    _, folder = kept
    (folder / name).write_bytes((folder / name).read_bytes()[:-3])
    again = ElasticWeights(EwcSettings(), seed=1)
    before = again.fingerprint
    with pytest.raises(DataError, match=name):
        again.load(folder)
    assert again.fingerprint == before


def test_every_tensor_and_fact_is_in_the_fingerprint(kept):
    memory, _ = kept
    prints = {memory.fingerprint}
    memory.tensors["anchor.w"] = torch.tensor([3.0, 4.5])
    prints.add(memory.fingerprint)
    memory.facts["lessons"] = 2
    prints.add(memory.fingerprint)
    assert len(prints) == 3
