"""Kept states: exact, bounded, shared, and never trusted when damaged."""

import errno
import json
import os
import shutil
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.components.layers import build_layers
from codestrata.data.batches import EncodedExample, collate, measure_rows
from codestrata.engine import states
from codestrata.engine.prefixes import Prefix, compute_states, find_prefix
from codestrata.engine.states import StateStore, lay_out
from codestrata.progress import Silence
from codestrata.settings.components import LayersSettings
from codestrata.settings.sections import CacheSettings


def build_rows(count, seed=0):
    rng = Random(seed)
    return [
        EncodedExample(
            identifier=str(number),
            prompt_ids=tuple(rng.randrange(2, 60) for _ in range(rng.randrange(1, 9))),
            target_ids=tuple(rng.randrange(2, 60) for _ in range(rng.randrange(1, 9))),
        )
        for number in range(count)
    ]


ROWS = build_rows(12)
ALL = range(len(ROWS))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Several chunks from a dozen short examples; what a test opens is closed after it."""
    monkeypatch.setattr(states, "CHUNK_TOKENS", 40)
    opened = []
    monkeypatch.setattr(
        states, "open_shared", lambda path, real=states.open_shared: opened.append(real(path)) or opened[-1]
    )
    yield
    for file in opened:
        file.close()


@pytest.fixture
def model(tiny_t5):
    """With a new block above the decoder, so that both sides have states."""
    component = build_layers(tiny_t5, LayersSettings())
    component.attach("a", seed=0)
    component.activate("a")
    return tiny_t5


def open_states(model, folder, rows=ROWS, *, base="base", **values):
    store = StateStore(
        folder=folder, settings=CacheSettings(**{"states_dtype": "fp32", **values}), base_fingerprint=base
    )
    return store.open(model, find_prefix(model), rows, precision="fp32", pad_id=0)


def fill(kept, numbers=ALL):
    kept.fill(numbers, progress=Silence(), label="")
    return kept


def check(kept, numbers, *, atol=1e-5):
    """What is read is what the prefix makes of the examples, zeros where there is padding."""
    found = kept.read(numbers)
    for place, number in enumerate(numbers):
        alone = compute_states(kept.model, kept.prefix, collate([ROWS[number]], 0))
        for mine, theirs in ((found.encoder, alone.encoder), (found.decoder, alone.decoder)):
            length = theirs.shape[1]
            torch.testing.assert_close(mine[place, :length], theirs[0], atol=atol, rtol=atol)
            assert not mine[place, length:].any()


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=40),
    decoder=st.sampled_from([None, 0, 2]),
)
def test_layout_has_a_place_of_its_own_for_every_example(lengths, decoder):
    lengths = np.array(lengths)
    layout = lay_out(lengths, Prefix(encoder=1, decoder=decoder, blocks={}), width=3)
    assert sorted(np.concatenate(layout.chunks)) == list(range(len(lengths)))
    expected = lengths[:, 0] + (0 if decoder is None else lengths[:, 1])
    taken = np.zeros(layout.starts[-1], dtype=int)
    for number, size in enumerate(expected * 3):
        taken[layout.places[number] : layout.places[number] + size] += 1
        chunk = layout.chunk_of[number]
        assert layout.starts[chunk] <= layout.places[number] < layout.starts[chunk + 1]
    assert (taken == 1).all()
    if decoder is None:
        lengths[:, 1] = 0
    for chunk in layout.chunks:
        assert len(chunk) == 1 or len(chunk) * int(lengths[chunk].max(0).sum()) <= states.CHUNK_TOKENS


def test_read_what_was_stored(model, tmp_path):
    kept = fill(open_states(model, tmp_path))
    assert len(kept.layout.chunks) > 2
    check(kept, [3, 0, 11])
    check(kept, list(ALL))
    assert kept.computed == 12
    use = kept.describe(ALL)
    size = sum(path.stat().st_size for path in tmp_path.rglob("states.bin"))
    assert (use.examples, use.kept, use.computed, use.reason) == (12, 12, 12, None)
    assert use.mib * 2**20 == size == measure_rows(ROWS).sum() * 16 * 4


def test_bf16_halves_the_size_and_rounds(model, tmp_path):
    kept = fill(open_states(model, tmp_path, states_dtype="bf16"))
    check(kept, [1, 2], atol=1e-2)
    assert kept.describe(ALL).mib * 2**20 == measure_rows(ROWS).sum() * 16 * 2


def test_the_same_bytes_whoever_asks_first(model, tmp_path):
    whole = fill(open_states(model, tmp_path / "a"))
    pieces = open_states(model, tmp_path / "b")
    for number in (7, 2, 9):
        fill(pieces, [number])
    fill(open_states(model, tmp_path / "b"))
    paths = [next((tmp_path / name).rglob("states.bin")) for name in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert whole.computed == 12


def test_used_again_by_the_next(model, tmp_path):
    fill(open_states(model, tmp_path))
    again = fill(open_states(model, tmp_path))
    assert again.computed == 0
    check(again, [5, 6])


@pytest.mark.parametrize("what", ["base", "rows", "dtype", "threads", "precision", "configuration"])
def test_another_key_for_whatever_decides_the_states(what, model, tmp_path, monkeypatch):
    fill(open_states(model, tmp_path))
    changes = {
        "base": {"base": "other"},
        "rows": {"rows": build_rows(12, seed=1)},
        "dtype": {"states_dtype": "bf16"},
    }
    if what == "configuration":
        model.config.decoder_start_token_id = 7
    if what == "threads":
        monkeypatch.setattr(states.torch, "get_num_threads", lambda: 77)
    if what == "precision":
        store = StateStore(
            folder=tmp_path, settings=CacheSettings(states_dtype="fp32"), base_fingerprint="base"
        )
        other = store.open(model, find_prefix(model), ROWS, precision="bf16", pad_id=0)
    else:
        other = open_states(model, tmp_path, **changes.get(what, {}))
    assert fill(other).computed == 12


def test_a_limit_keeps_some_and_computes_the_rest(model, tmp_path):
    kept = open_states(model, tmp_path)
    kept.chunks = 2
    fill(kept)
    first = [int(number) for chunk in kept.layout.chunks[:2] for number in chunk]
    assert kept.reason == "cache.states_mib is too small for all examples"
    assert kept.describe(ALL).kept == len(first) < 12
    check(kept, [11, 0, 5, first[0]])
    exact = fill(open_states(model, tmp_path / "other"))
    mixed = [first[0], next(number for number in ALL if number not in first)]
    torch.testing.assert_close(kept.read(mixed).decoder, exact.read(mixed).decoder, atol=1e-6, rtol=1e-6)


def test_the_limit_is_in_mib(build_tiny_t5, tmp_path):
    wide = build_tiny_t5(d_model=2048, d_ff=4)
    wide.requires_grad_(False)
    rows = build_rows(40)
    kept = open_states(wide, tmp_path, rows=rows, states_mib=1)
    kept = fill(kept, range(40))
    assert 0 < kept.describe(range(40)).mib <= 1
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.bin")) <= 2**20


def test_old_entries_make_room(model, tmp_path):
    folders = []
    for seed in range(3):
        with fill(open_states(model, tmp_path, rows=build_rows(12, seed=seed))) as kept:
            pass
        os.utime(kept.folder, (seed, seed))
        folders.append(kept.folder)
    size = states.measure_disk(folders[1])
    states.make_room(tmp_path / "states", keep=folders[0], limit=size + size // 2)
    assert [folder.exists() for folder in folders] == [True, False, True]


def test_an_entry_in_use_stays_and_can_be_read_if_it_goes(model, tmp_path):
    with fill(open_states(model, tmp_path)) as kept:
        states.make_room(tmp_path / "states", keep=tmp_path, limit=0)
        assert (kept.folder / "states.bin").exists()
        shutil.rmtree(kept.folder)
        check(kept, [4, 9])
    fill(open_states(model, tmp_path)).__exit__()
    states.make_room(tmp_path / "states", keep=tmp_path, limit=0)
    assert not list((tmp_path / "states").iterdir())


def test_an_interrupt_keeps_what_was_computed(model, tmp_path):
    class Impatient(Silence):
        def advance(self, done, note=""):
            if done == 2:
                raise KeyboardInterrupt

    kept = open_states(model, tmp_path)
    with pytest.raises(KeyboardInterrupt), kept:
        kept.fill(ALL, progress=Impatient(), label="")
    again = fill(open_states(model, tmp_path))
    assert again.computed == 12 - sum(map(len, again.layout.chunks[:2]))
    check(again, list(ALL))


@pytest.mark.parametrize("damage", ["flip", "truncate", "list", "missing"])
def test_damage_is_found_and_mended(damage, model, tmp_path):
    kept = fill(open_states(model, tmp_path))
    path = kept.folder / "states.bin"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "list":
        (kept.folder / "chunks.json").write_text("[1, 2", encoding="utf-8")
    else:
        path.unlink()
    again = fill(open_states(model, tmp_path))
    assert 0 < again.computed <= 12
    check(again, list(ALL))


def test_nothing_unfinished_is_believed(model, tmp_path):
    """A process that dies in the midst leaves states that the list does not name."""
    kept = fill(open_states(model, tmp_path))
    path = kept.folder / "chunks.json"
    listed = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(dict(list(listed.items())[:1])), encoding="utf-8")
    again = fill(open_states(model, tmp_path))
    assert again.computed == 12 - len(kept.layout.chunks[0])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_ends_the_keeping(number, model, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    kept = open_states(model, tmp_path)
    monkeypatch.setattr(states, "write_all", fail)
    fill(kept)
    assert os.strerror(number) in kept.reason
    assert kept.describe(ALL).kept == 0
    check(kept, [2, 8])


def test_refused_where_the_disk_is_short(model, tmp_path, monkeypatch):
    usage = SimpleNamespace(free=states.RESERVE_MIB * 2**20 + 100)
    monkeypatch.setattr(states.shutil, "disk_usage", lambda _: usage)
    assert "too little free disk: 1 MiB more are needed" in open_states(model, tmp_path)


def test_refused_where_nothing_can_be_made(model, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "cannot be used" in open_states(model, tmp_path / "file" / "below")


def test_off_is_off(model, tmp_path):
    assert "off" in open_states(model, tmp_path, states_mib=None)
    assert not list(tmp_path.iterdir())


def test_a_decoders_states_are_of_prompt_and_target_in_one(tiny_llama, tmp_path):
    component = build_layers(tiny_llama.requires_grad_(False), LayersSettings(placement="top"))
    component.attach("a", seed=0)
    component.activate("a")
    kept = fill(open_states(tiny_llama, tmp_path))
    assert kept.describe(ALL).mib * 2**20 == measure_rows(ROWS).sum() * 32 * 4
    numbers = [3, 0, 11]
    found = kept.read(numbers)
    for place, number in enumerate(numbers):
        batch = collate([ROWS[number]], 0, causal=True)
        alone = compute_states(tiny_llama, kept.prefix, batch).decoder
        length = measure_rows(ROWS)[number].sum()
        assert alone.shape[1] == length
        torch.testing.assert_close(found.decoder[place, :length], alone[0], atol=1e-5, rtol=1e-5)
        assert not found.decoder[place, length:].any()
