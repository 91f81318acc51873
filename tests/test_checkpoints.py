"""Two checkpoints are kept, every byte of them is watched over, and a signal waits for the next."""

import errno
import hashlib
import json
import os
import pickle
import re
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from safetensors.torch import load, load_file

from codestrata import checkpoints as module
from codestrata.checkpoints import FACTS_FILE, TENSORS_FILE, Checkpoint, Checkpoints
from codestrata.errors import StorageError
from codestrata.interrupts import Interrupted, Interrupts

FILES = (FACTS_FILE, TENSORS_FILE)


def make(step):
    """A checkpoint that says of which step it is."""
    tensors = {
        "weights": torch.full((3, 2), float(step)),
        "count": torch.tensor(step),
        "ä": torch.arange(8)[::2],  # not contiguous
        "few": torch.zeros(0, 3),
    }
    return Checkpoint(tensors=tensors, facts={"step": step, "loss": 0.1 + step, "name": "ä", "none": None})


def open_folder(folder, *, seconds=0.0, **values):
    """Checkpoints in a folder, and what they say."""
    said = []
    return Checkpoints(folder, seconds=seconds, say=said.append, **values), said


def fill(folder, *steps):
    kept, said = open_folder(folder)
    for step in steps:
        kept.offer(step, lambda step=step: make(step))
    assert not said


def read(folder, **values):
    kept, said = open_folder(folder)
    return kept.read(**values), said


def list_names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file() or path.is_symlink())


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    fill(tmp_path / "a", 7)
    found, said = read(tmp_path / "a")
    expected = make(7)
    assert found.facts == expected.facts
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype
    assert said == []


def test_files_can_be_read_by_others(tmp_path):
    fill(tmp_path, 7)
    place = tmp_path / "step-00000007"
    assert sorted(path.name for path in place.iterdir()) == sorted(FILES)
    assert torch.equal(load_file(place / TENSORS_FILE)["weights"], make(7).tensors["weights"])
    assert json.loads((place / FACTS_FILE).read_text(encoding="utf-8"))["facts"] == make(7).facts


TENSORS = st.dictionaries(
    st.text(max_size=6).filter(lambda name: name != "__metadata__" and name.isprintable()),
    st.tuples(
        st.sampled_from(list(module.DTYPES)), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 99)
    ),
    max_size=6,
)


@property_settings(deadline=None, max_examples=60)
@given(TENSORS)
def test_tensors_are_packed_as_safetensors_reads_them(wanted):
    tensors = {
        name: torch.rand(shape, generator=torch.Generator().manual_seed(seed)).mul(9).to(dtype)
        for name, (dtype, shape, seed) in wanted.items()
    }
    pieces = module.pack(tensors)
    found = load(b"".join(pieces))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert len(pieces[0]) % 8 == 0


def test_packing_copies_nothing():
    tensor = torch.zeros(1000)
    (_, view) = module.pack({"a": tensor})
    tensor[0] = 1.0
    assert view[:4] == torch.ones(1).view(torch.uint8).numpy().tobytes()


def test_nothing_is_no_checkpoint(tmp_path):
    assert read(tmp_path / "nowhere") == (None, [])
    assert read(tmp_path) == (None, [])


def test_two_are_kept_and_the_newest_is_read(tmp_path):
    kept, _ = open_folder(tmp_path)
    for step in range(1, 12):
        kept.offer(step, lambda step=step: make(step))
        assert kept.newest == step
        wanted = {f"step-{number:08d}" for number in (step - 1, step) if number}
        assert {path.name for path in tmp_path.iterdir()} == wanted
    assert read(tmp_path)[0].facts["step"] == 11


def test_a_later_process_keeps_two_as_well(tmp_path):
    fill(tmp_path, 1, 2)
    kept, _ = open_folder(tmp_path)
    assert kept.read().facts["step"] == kept.newest == 2
    kept.offer(3, lambda: make(3))
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000002", "step-00000003"}


def test_they_are_stored_when_they_are_due(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    kept, _ = open_folder(tmp_path, seconds=10.0)
    stored = []
    for step in range(1, 11):
        now[0] += 4.0
        kept.offer(step, lambda step=step: stored.append(step) or make(step))
    assert stored == [3, 6, 9]  # at 12, 24 and 36 seconds


def test_only_the_last_is_stored_without_an_interval(tmp_path, monkeypatch):
    monkeypatch.setattr(module.time, "monotonic", iter(range(0, 10**9, 10**6)).__next__)
    kept, _ = open_folder(tmp_path, seconds=None)
    for step in (1, 2, 3):
        kept.offer(step, lambda step=step: make(step), last=step == 3)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_the_same_step_is_not_stored_twice(tmp_path):
    kept, _ = open_folder(tmp_path)
    kept.offer(5, lambda: make(5))
    kept.offer(5, lambda: 1 / 0, last=True)
    again, _ = open_folder(tmp_path)
    again.read()
    again.offer(5, lambda: 1 / 0, last=True)


def test_a_signal_waits_for_the_next_checkpoint(tmp_path):
    interrupts = Interrupts()
    kept, _ = open_folder(tmp_path, seconds=None, interrupts=interrupts)
    with kept.undisturbed():
        interrupts.receive(signal.SIGTERM)
        with pytest.raises(Interrupted) as caught:
            kept.offer(4, lambda: make(4))
    assert caught.value.signal == signal.SIGTERM
    assert read(tmp_path)[0].facts["step"] == 4


def test_a_signal_waits_no_longer_than_the_block(tmp_path):
    interrupts = Interrupts()
    kept, _ = open_folder(tmp_path, interrupts=interrupts)
    with pytest.raises(Interrupted), kept.undisturbed():
        interrupts.receive(signal.SIGINT)
    assert not list(tmp_path.iterdir())


def flip(content, place, bit=0):
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


DAMAGES = {
    "a flipped bit": lambda path: path.write_bytes(flip(path.read_bytes(), len(path.read_bytes()) // 2)),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}
each_damage = pytest.mark.parametrize("damage", DAMAGES)


@each_damage
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(damage, name, tmp_path):
    fill(tmp_path, 1, 2)
    DAMAGES[damage](tmp_path / "step-00000002" / name)
    found, said = read(tmp_path)
    assert found.facts["step"] == 1
    (line,) = said
    assert line.startswith(f"a checkpoint is passed over: {tmp_path / 'step-00000002' / name}")


def test_the_next_one_takes_the_place_of_a_damaged_one(tmp_path):
    fill(tmp_path, 1, 2)
    DAMAGES["cut short"](tmp_path / "step-00000002" / TENSORS_FILE)
    kept, _ = open_folder(tmp_path)
    assert kept.read().facts["step"] == 1
    kept.offer(2, lambda: make(2))
    assert read(tmp_path)[0].facts["step"] == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_what_was_passed_over_does_not_outlive_the_next_two(tmp_path):
    """Or a later process would come to it again, and pass over what is older and good."""
    fill(tmp_path, 8, 9)
    kept, said = open_folder(tmp_path)
    assert kept.read(lambda _: "it is of another training") is None
    assert len(said) == 3
    assert kept.newest is None
    kept.offer(1, lambda: make(1))
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000001"}


def test_two_damaged_ones_are_named_and_nothing_is_left(tmp_path):
    fill(tmp_path, 1, 2)
    for path in tmp_path.rglob(TENSORS_FILE):
        DAMAGES["cut short"](path)
    found, said = read(tmp_path)
    assert found is None
    assert [re.search("step-0000000.", line)[0] for line in said[:2]] == ["step-00000002", "step-00000001"]
    assert said[2] == f"no checkpoint in {tmp_path} can be used: the training begins anew"


def test_reasons_against_one_are_said(tmp_path):
    fill(tmp_path, 1, 2)
    found, said = read(
        tmp_path, refuse=lambda checkpoint: "it is of step 2" if checkpoint.facts["step"] == 2 else None
    )
    assert found.facts["step"] == 1
    assert said == [f"a checkpoint is passed over: {tmp_path / 'step-00000002'}: it is of step 2"]


@property_settings(deadline=None, max_examples=60)
@given(st.sampled_from(FILES), st.integers(0, 10**9), st.integers(0, 7))
def test_any_flipped_bit_is_seen(tmp_path_factory, name, place, bit):
    folder = tmp_path_factory.getbasetemp() / "flipped"
    if not folder.exists():
        fill(folder, 3)
    path = folder / "step-00000003" / name
    content = path.read_bytes()
    path.write_bytes(flip(content, place % len(content), bit))
    try:
        found, said = read(folder)
    finally:
        path.write_bytes(content)
    assert found is None
    assert str(path) in said[0]
    assert read(folder)[0].facts["step"] == 3


def test_facts_that_were_sealed_elsewhere_are_read_with_care(tmp_path):
    """A seal that fits says nothing of what is sealed."""
    fill(tmp_path, 1)
    path = tmp_path / "step-00000001" / FACTS_FILE
    for stated in ({"format": 2, "facts": {}}, {"format": 1, "facts": {}}, {"format": 1, "facts": []}):
        path.write_text(module.render(stated), encoding="utf-8")
        found, said = read(tmp_path)
        assert found is None
        assert "passed over" in said[0]
    for text in ("[]", "1", "NaN", '{"facts": {"a": NaN}}', '{"facts": {"a": "\\ud800"}}', "[" * 10**5):
        path.write_text(text, encoding="utf-8")
        assert read(tmp_path)[0] is None


class Spring:
    """Unpickling it would leave a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def test_nothing_is_ever_unpickled(tmp_path):
    mark, place = tmp_path / "mark", tmp_path / "kept" / "step-00000001"
    fill(place.parent, 1)
    pickled = pickle.dumps(Spring(mark))
    (place / TENSORS_FILE).write_bytes(pickled)
    stated = {"format": 1, "tensors": hashlib.sha256(pickled).hexdigest(), "facts": {}}
    (place / FACTS_FILE).write_text(module.render(stated), encoding="utf-8")
    found, said = read(place.parent)
    assert found is None
    assert "not safetensors" in said[0]
    (place / TENSORS_FILE).rename(place / "tensors.pt")
    found, said = read(place.parent)
    assert found is None
    assert f"a checkpoint is {TENSORS_FILE} and {FACTS_FILE}, found {FACTS_FILE}, tensors.pt" in said[0]
    assert not mark.exists()


def test_links_are_not_followed(tmp_path):
    fill(tmp_path / "elsewhere", 1, 2)
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "step-00000002").symlink_to(tmp_path / "elsewhere" / "step-00000002")
    assert read(folder) == (None, [])
    fill(folder, 1)
    for name in FILES:
        path = folder / "step-00000001" / name
        content = path.read_bytes()
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere" / "step-00000001" / name)
        found, said = read(folder)
        assert found is None
        assert said[0] == f"a checkpoint is passed over: {path}: no regular file"
        path.unlink()
        path.write_bytes(content)


def test_a_link_in_the_next_ones_place_is_removed_and_what_it_leads_to_is_not(tmp_path):
    fill(tmp_path / "elsewhere", 2)
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "step-00000002").symlink_to(tmp_path / "elsewhere" / "step-00000002")
    fill(folder, 2)
    assert not (folder / "step-00000002").is_symlink()
    assert read(tmp_path / "elsewhere")[0].facts["step"] == 2


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    for name in ("notes.txt", "step-1", "step-00000001"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
    (tmp_path / "step-x").mkdir()
    assert read(tmp_path) == (None, [])
    fill(tmp_path, 2, 3, 4)
    assert {"notes.txt", "step-1", "step-00000001", "step-x"} < {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("failing", FILES)
def test_a_full_disk_leaves_the_ones_before_and_no_half_one(failing, tmp_path, monkeypatch):
    fill(tmp_path, 1, 2)
    kept, _ = open_folder(tmp_path)
    kept.read()

    def refuse(path, *pieces, write=module.write_bytes):
        if path.name == failing:
            raise StorageError(path, "written", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        write(path, *pieces)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_bytes", refuse)
        patch.setattr(module, "write_text", lambda path, text: refuse(path, text.encode()))
        with pytest.raises(StorageError, match="No space left on device"):
            kept.offer(3, lambda: make(3))
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000001", "step-00000002"}
    assert kept.newest == 2
    kept.offer(3, lambda: make(3))
    assert read(tmp_path)[0].facts["step"] == 3


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(module.Path, "iterdir", refuse)
    with pytest.raises(StorageError, match=r"cannot be read: Permission denied"):
        read(tmp_path)


def test_they_can_be_forgotten(tmp_path):
    folder = tmp_path / "kept"
    fill(folder, 1, 2)
    kept, _ = open_folder(folder)
    kept.read()
    kept.remove()
    assert not folder.exists()
    assert kept.newest is None
    kept.remove()
    assert list_names(tmp_path) == []
