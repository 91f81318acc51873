"""A training that is broken off, wherever, and gone on with by a fresh model is the uninterrupted one."""

import copy
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from torch.optim.optimizer import register_optimizer_step_pre_hook

from codestrata import training
from codestrata.checkpoints import FACTS_FILE, TENSORS_FILE, Checkpoint, Checkpoints
from codestrata.components.hybrid import build_hybrid
from codestrata.components.ia3 import build_ia3
from codestrata.components.layers import build_layers
from codestrata.components.lora import build_lora
from codestrata.components.own_layers import OwnLayersComponent
from codestrata.components.weights import WeightsComponent
from codestrata.data.batches import EncodedExample
from codestrata.engine import course, passes
from codestrata.engine.states import StateStore
from codestrata.interrupts import Interrupted, Interrupts
from codestrata.settings.components import (
    HybridSettings,
    IA3Settings,
    LayersSettings,
    LoraSettings,
    OwnLayersSettings,
)
from codestrata.settings.sections import CacheSettings, TrainingSettings
from codestrata.training import fit

CPU = torch.device("cpu")
STEPS = 4


def build_rows(count=10):
    rng = Random(0)
    return [
        EncodedExample(
            identifier=f"row {number}",
            prompt_ids=(*(rng.randrange(2, 60) for _ in range(rng.randrange(1, 9))), 1),
            target_ids=(*(rng.randrange(2, 60) for _ in range(rng.randrange(1, 7))), 1),
        )
        for number in range(count)
    ]


ROWS = build_rows()
HELD_OUT = build_rows(13)[10:]
KINDS = {
    "lora": lambda base: build_lora(base, LoraSettings(rank=2, dropout=0.3, targets=("q", "wo"))),
    "encoder-top": lambda base: build_layers(base, LayersSettings(placement="encoder-top")),
    "decoder-top": lambda base: build_layers(base, LayersSettings(placement="decoder-top")),
    "both": lambda base: build_layers(base, LayersSettings(placement="both")),
    "interleaved": lambda base: build_layers(base, LayersSettings(placement="interleaved:1")),
    "weights": WeightsComponent,
    "dora": lambda base: build_lora(
        base, LoraSettings(variant="dora", rank=2, dropout=0.3, targets=("q", "wo"))
    ),
    "ia3": lambda base: build_ia3(base, IA3Settings()),
    "own-layers": lambda base: OwnLayersComponent(base, OwnLayersSettings()),
    "hybrid": lambda base: build_hybrid(base, HybridSettings(rank=2, dropout=0.3, targets=("q", "wo"))),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


class BrokenOff(Exception):
    """What ends a training in these tests; not one of codestrata's own errors."""


class Breaking(Checkpoints):
    """Checkpoints that end the training once so many steps have been offered."""

    def __init__(self, folder, *, steps, seconds=0.0, say=lambda _: None):
        super().__init__(folder, seconds=seconds, say=say)
        self.left = steps

    def offer(self, step, build, *, last=False):
        super().offer(step, build, last=last)
        self.left -= 1
        if self.left == 0 and not last:
            raise BrokenOff


class Watcher:
    """Keeps what is said."""

    def __init__(self):
        self.said = []

    def start(self, label, total):
        pass

    def advance(self, done, note=""):
        pass

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="session")
def train(first_tiny_t5):
    """Trains a newborn on a fresh copy of the base, as another process would; gives tensors and log."""

    def train(
        kind,
        checkpoints=None,
        *,
        rows=ROWS,
        validation=HELD_OUT,
        store=None,
        seed=0,
        learning_rate=0.01,
        **values,
    ):
        component = KINDS[kind](copy.deepcopy(first_tiny_t5))
        component.attach("a", seed=0)
        watcher = Watcher()
        chosen = {
            "steps": STEPS,
            "batch_size": 4,
            "batch_tokens": 40,  # most steps are cut in parts
            "warmup_fraction": 0.4,
            "decay": "cosine",
            "weight_decay": 0.1,
            "precision": "fp32",
            "base_dropout": True,
            **values,
        }
        log = fit(
            component,
            "a",
            rows,
            TrainingSettings(**chosen),
            learning_rate=learning_rate,
            seed=seed,
            pad_id=0,
            device=CPU,
            validation=HELD_OUT,
            store=store,
            checkpoints=checkpoints,
            progress=watcher,
            label="lora",
        )
        tensors = {key: parameter.detach().clone() for key, parameter in component.parameters("a").items()}
        return tensors, log, watcher.said

    return train


@pytest.fixture(scope="session")
def expect(train):
    """What an uninterrupted training comes to; made once for every choice of values."""
    known = {}

    def expect(kind, **values):
        key = kind, *sorted(values.items())
        if key not in known:
            known[key] = train(kind, **values)
        return known[key]

    return expect


@pytest.fixture(scope="session")
def first_half(train, tmp_path_factory):
    """A folder with the checkpoints of a training broken off after half of its steps; do not change it."""
    folder = tmp_path_factory.mktemp("half")
    with pytest.raises(BrokenOff):
        train("lora", Breaking(folder, steps=STEPS // 2))
    return folder


@pytest.fixture
def half(first_half, tmp_path):
    """A copy of ``first_half`` of one's own."""
    return shutil.copytree(first_half, tmp_path / "half")


def are_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def leave_out_times(log):
    states = None if log.states is None else replace(log.states, seconds=0.0)
    validation = None if log.validation is None else replace(log.validation, seconds=0.0)
    return replace(log, seconds=0.0, peak_memory_mib=None, states=states, validation=validation)


def finish(train, kind, folder, *, every, **values):
    """Train until done, broken off after every so many steps; the last process's result, and how many."""
    for count in range(1, 100):
        try:
            return train(kind, Breaking(folder, steps=every), **values), count
        except BrokenOff:
            continue
    raise AssertionError("the training never came to its end")


def check_same(found, expected):
    assert found[1].losses == expected[1].losses
    assert are_equal(found[0], expected[0])
    assert leave_out_times(found[1]) == leave_out_times(expected[1])


@each_kind
def test_broken_off_after_every_step(kind, train, expect, tmp_path):
    expected = expect(kind)
    assert expected[1].passes > STEPS  # or no step was cut in parts
    found, processes = finish(train, kind, tmp_path, every=1)
    assert processes == STEPS
    check_same(found, expected)


@pytest.mark.parametrize("kind", ["lora", "both", "weights"])
def test_broken_off_after_some_steps(kind, train, expect, tmp_path):
    found, processes = finish(train, kind, tmp_path, every=3)
    assert processes == -(-STEPS // 3)
    check_same(found, expect(kind))


@pytest.mark.parametrize("kind", ["encoder-top", "decoder-top", "both", "own-layers"])
def test_broken_off_with_kept_states(kind, train, tmp_path):
    """The frozen part's states are computed once, by the first process; what it cost is in the log."""
    expected = train(kind, store=open_store(tmp_path / "one"), base_dropout=False)
    assert expected[1].states.kept == len(ROWS)
    folder, store = tmp_path / "kept", open_store(tmp_path / "another")
    found, processes = finish(train, kind, folder, every=3, store=store, base_dropout=False)
    assert processes == 2
    check_same(found, expected)
    assert found[1].states.computed == len(ROWS)


WATCHED = {
    "best": {"validation_steps": 3, "keep": "best"},  # after the third step and after the last
    "last": {"validation_steps": 1},
    "patience": {"validation_steps": 1, "patience": 1, "keep": "best", "learning_rate": 0.3},
}


@pytest.mark.parametrize("watched", WATCHED)
@pytest.mark.parametrize("kind", ["lora", "both", "weights"])
def test_broken_off_while_it_is_validated(kind, watched, train, expect, tmp_path):
    expected = expect(kind, **WATCHED[watched])
    found, _ = finish(train, kind, tmp_path, every=1, **WATCHED[watched])
    check_same(found, expected)
    log = found[1]
    assert [entry.step for entry in log.validation.losses] == ([3, 4] if watched == "best" else [1, 2, 3, 4])[
        : len(log.validation.losses)
    ]
    if watched == "patience":
        assert (log.stopped, log.planned_steps) == ("patience", STEPS)
        assert log.steps == len(log.losses) == log.validation.best_step + 1 < STEPS
    else:
        assert (log.stopped, log.steps) == ("all steps", STEPS)


def test_a_training_that_validation_ended_takes_no_further_step(train, expect, tmp_path):
    values, steps = WATCHED["patience"], []
    expected = expect("lora", **values)
    ended = train("lora", Checkpoints(tmp_path, seconds=None, say=pytest.fail), **values)
    assert [path.name for path in tmp_path.iterdir()] == [f"step-{expected[1].steps:08d}"]
    hook = register_optimizer_step_pre_hook(lambda *_: steps.append(1))
    try:
        again = train("lora", Checkpoints(tmp_path, seconds=0.0, say=pytest.fail), **values)
    finally:
        hook.remove()
    assert not steps
    check_same(ended, expected)
    check_same(again, expected)


def test_validating_with_kept_states(train, tmp_path):
    """Inside the model lacks its frozen part: the held-out examples go through it all the same."""
    values = {"base_dropout": False, "validation_steps": 2, "keep": "best"}
    plain = train("both", **values)[1].validation.losses
    store = open_store(tmp_path / "one", states_dtype="fp32")
    expected = train("both", store=store, **values)
    assert expected[1].states.kept == len(ROWS)
    found = [entry.loss for entry in expected[1].validation.losses]
    assert found == pytest.approx([entry.loss for entry in plain], abs=1e-4)
    broken, _ = finish(train, "both", tmp_path / "kept", every=1, store=store, **values)
    check_same(broken, train("both", store=store, **values))


def test_steps_after_the_last_checkpoint_are_taken_again(train, expect, half):
    with pytest.raises(BrokenOff):
        train("lora", Breaking(half, steps=1, seconds=None))  # not stored
    assert [path.name for path in sorted(half.iterdir())] == ["step-00000001", "step-00000002"]
    check_same(train("lora", Checkpoints(half, seconds=0, say=pytest.fail)), expect("lora"))


def test_storing_changes_nothing(train, expect, tmp_path):
    check_same(train("lora", Checkpoints(tmp_path, seconds=0.0, say=pytest.fail)), expect("lora"))


def test_a_signal_lets_the_step_finish_and_is_obeyed(train, expect, tmp_path):
    expected = expect("lora")
    interrupts, steps = Interrupts(), []
    signals = {1: signal.SIGINT, 3: signal.SIGTERM}

    def receive(*_):
        steps.append(1)
        if len(steps) in signals:
            interrupts.receive(signals[len(steps)])

    def go_on():
        return train("lora", Checkpoints(tmp_path, seconds=None, interrupts=interrupts, say=pytest.fail))

    hook = register_optimizer_step_pre_hook(receive)
    try:
        for stored, number in signals.items():
            with pytest.raises(Interrupted) as caught:
                go_on()
            assert caught.value.signal == number
            assert (tmp_path / f"step-{stored:08d}" / FACTS_FILE).is_file()
        found = go_on()
    finally:
        hook.remove()
    assert len(steps) == STEPS
    check_same(found, expected)


def test_the_last_checkpoint_is_always_stored_and_a_finished_training_is_not_repeated(train, tmp_path):
    expected = train("lora", Checkpoints(tmp_path, seconds=None, say=pytest.fail))
    assert [path.name for path in tmp_path.iterdir()] == [f"step-{STEPS:08d}"]
    steps = []
    hook = register_optimizer_step_pre_hook(lambda *_: steps.append(1))
    try:
        again = train("lora", Checkpoints(tmp_path, seconds=0.0, say=pytest.fail))
    finally:
        hook.remove()
    assert not steps
    check_same(again, expected)
    assert again[2] == [f"lora: goes on after step {STEPS} of {STEPS}"]


def test_times_and_peaks_are_those_of_all_processes(train, tmp_path, monkeypatch):
    store, folder = open_store(tmp_path), tmp_path / "kept"
    values = {"base_dropout": False, "validation_steps": 1}
    with pytest.raises(BrokenOff):
        train("both", Breaking(folder, steps=2), store=store, **values)
    read = course.read_spent

    def read_more(facts):
        spent = read(facts)
        assert 0 < spent.states_seconds < spent.seconds < 60
        assert 0 < spent.validation_seconds < spent.seconds
        return replace(
            spent, seconds=1000.0, peak_memory_mib=1e6, states_seconds=500.0, validation_seconds=300.0
        )

    monkeypatch.setattr(course, "read_spent", read_more)
    log = train("both", Breaking(folder, steps=99), store=store, **values)[1]
    assert 300 < log.validation.seconds < 360
    assert 1000 < log.seconds < 1060
    assert 500 < log.states.seconds < 560
    assert log.peak_memory_mib == 1e6
    assert log.states.computed == len(ROWS)


def test_the_callers_random_state_is_left_as_it_was(train, half):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    train("lora", Breaking(half, steps=99))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_budget_that_shrank_stays_small(train, tmp_path, monkeypatch):
    """What did not fit into memory once is not tried again by the next process."""
    compute, tried = training.run_part, []

    def run_part(bench, numbers, batch):
        cells = batch["input_ids"].numel() + batch["labels"].numel()
        tried.append(cells)
        if cells > 40:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return compute(bench, numbers, batch)

    monkeypatch.setattr(training, "run_part", run_part)
    found, processes = finish(train, "lora", tmp_path, every=1, batch_tokens=60)
    assert processes == STEPS
    assert sum(cells > 40 for cells in tried) == 1
    assert found[1].batch_tokens < 40


def test_a_validations_budget_that_shrank_stays_small(train, tmp_path, monkeypatch):
    compute, failed = passes.measure_part, []

    def measure_part(bench, prefix, rows):
        if len(rows) > 1:
            failed.append(len(rows))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return compute(bench, prefix, rows)

    monkeypatch.setattr(passes, "measure_part", measure_part)
    found, processes = finish(train, "lora", tmp_path, every=1, batch_tokens=60, **WATCHED["last"])
    assert processes == STEPS
    assert 0 < len(failed) < STEPS
    assert found[1].batch_tokens == 60


def test_a_checkpoint_of_another_training_is_passed_over(train, expect, half):
    said = []
    found = train("lora", Checkpoints(half, seconds=0.0, say=said.append), seed=1)
    assert all("it is of a training with other seed" in line for line in said[:2])
    assert said[2].endswith("the training begins anew")
    check_same(found, train("lora", seed=1))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 0.02}, "learning rate"),
        ({"steps": 3}, "settings"),
        ({"base_dropout": False}, "settings"),
        ({"rows": ROWS[::-1]}, "examples"),
        ({"validation_steps": 1}, "settings, validation examples"),
        ({"kind": "weights"}, "component, starting tensors"),
    ],
)
def test_what_makes_a_training_another(changes, named, train, half):
    checkpoints = Breaking(half, steps=1)
    checkpoints._say = (said := []).append
    with pytest.raises(BrokenOff):
        train(**{"kind": "lora", "checkpoints": checkpoints, **changes})
    assert said[0].endswith(f"it is of a training with other {named}")
    assert [path.name for path in half.iterdir()] == ["step-00000001"]


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", [FACTS_FILE, TENSORS_FILE])
@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoints_cost_time_and_nothing_else(name, damaged, train, expect, half):
    for step in (2, 1)[:damaged]:
        damage(half / f"step-{step:08d}" / name)
    said = []
    found = train("lora", Checkpoints(half, seconds=None, say=said.append))
    assert sum("passed over" in line for line in said) == damaged
    if damaged == 2:
        assert said[-1].endswith("the training begins anew")
    assert found[2] == ([] if damaged == 2 else [f"lora: goes on after step 1 of {STEPS}"])
    check_same(found, expect("lora"))


@pytest.fixture(scope="session")
def asked(train, first_half, tmp_path_factory):
    """What ``find_misfit`` is asked about a checkpoint that fits: checkpoint, course, identity."""
    folder = shutil.copytree(first_half, tmp_path_factory.mktemp("asked") / "half")
    given = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "find_misfit", lambda *arguments: given.extend(arguments))
        with pytest.raises(BrokenOff):
            train("lora", Breaking(folder, steps=1))
    return given


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors, facts: None, None),
        (lambda tensors, facts: tensors.pop("losses"), "tensor 'losses': expected"),
        (lambda tensors, facts: tensors.update(more=torch.zeros(1)), "tensor 'more': expected None"),
        (lambda tensors, facts: tensors.update(counts=torch.zeros(2, 3)), "tensor 'counts': expected"),
        (lambda tensors, facts: facts.pop("identity"), "does not say of what training"),
        (lambda tensors, facts: facts.update(identity={}), "with other base, component, device,"),
        (lambda tensors, facts: facts.update(steps=STEPS + 1), f"of step {STEPS + 1}, of {STEPS}"),
        (lambda tensors, facts: facts.update(steps=0), "of step 0"),
        (lambda tensors, facts: facts.update(steps="2"), "of step '2'"),
        (lambda tensors, facts: facts.pop("spent"), "KeyError"),
        (lambda tensors, facts: facts.update(spent={**facts["spent"], "seconds": "long"}), "ValueError"),
        (lambda tensors, facts: facts.update(budget=None), "TypeError"),
        (lambda tensors, facts: facts.pop("validation_budget"), None),
    ],
)
def test_what_does_not_fit_is_not_taken(change, reason, asked):
    checkpoint, running, identity = asked
    tensors, facts = dict(checkpoint.tensors), dict(checkpoint.facts)
    change(tensors, facts)
    misfit = course.find_misfit(Checkpoint(tensors, facts), running, identity)
    assert misfit is None if reason is None else reason in misfit


def test_what_a_validated_training_keeps_must_be_there(train, tmp_path):
    given = []
    with pytest.raises(BrokenOff):
        train("lora", Breaking(tmp_path, steps=3), **WATCHED["best"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "find_misfit", lambda *arguments: given.extend(arguments))
        train("lora", Breaking(tmp_path, steps=1), **WATCHED["best"])
    checkpoint, running, identity = given
    names = [name for name in checkpoint.tensors if name.startswith(("best.", "validation"))]
    assert len(names) == 1 + len(running.bench.parameters)
    assert course.find_misfit(checkpoint, running, identity) is None
    for name in names:
        rest = {other: value for other, value in checkpoint.tensors.items() if other != name}
        misfit = course.find_misfit(Checkpoint(rest, checkpoint.facts), running, identity)
        assert misfit.startswith(f"tensor '{name}': expected")
    facts = {**checkpoint.facts, "validation_budget": None}
    assert "TypeError" in course.find_misfit(Checkpoint(checkpoint.tensors, facts), running, identity)
    facts = {**checkpoint.facts, "identity": {**identity, "validation examples": "others"}}
    misfit = course.find_misfit(Checkpoint(checkpoint.tensors, facts), running, identity)
    assert misfit == "it is of a training with other validation examples"


def test_every_tensor_must_be_there_and_have_its_dtype_and_shape(asked):
    checkpoint, running, identity = asked
    groups = {name.partition(".")[0] for name in checkpoint.tensors}
    assert groups == {"parameters", "exp_avg", "exp_avg_sq", "step", "random", "losses", "counts"}
    for name, tensor in checkpoint.tensors.items():
        rest = {other: value for other, value in checkpoint.tensors.items() if other != name}
        for wrong in ({}, {name: tensor.to(torch.float16)}, {name: tensor[None]}):
            misfit = course.find_misfit(Checkpoint(rest | wrong, checkpoint.facts), running, identity)
            assert misfit is not None, name
            assert misfit.startswith("tensor '")


def open_store(folder, **values):
    return StateStore(folder=folder / "cache", settings=CacheSettings(**values), base_fingerprint="base")


@pytest.mark.parametrize("kind", ["encoder-top", "decoder-top", "own-layers"])
def test_states_that_were_deleted_are_computed_again_to_the_same_bits(kind, train, tmp_path):
    store, values = open_store(tmp_path), {"base_dropout": False}
    expected = train(kind, store=store, **values)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(BrokenOff):
        train(kind, Breaking(tmp_path / "kept", steps=2), store=store, **values)
    shutil.rmtree(tmp_path / "cache")
    found = train(kind, Breaking(tmp_path / "kept", steps=99), store=store, **values)
    assert found[2] == [f"lora: goes on after step 2 of {STEPS}"]
    assert found[1].losses == expected[1].losses
    assert are_equal(found[0], expected[0])
    assert found[1].states.computed == 2 * len(ROWS)  # as both processes did


def test_states_in_another_situation_are_said_and_training_goes_on(train, tmp_path):
    def change(name, before, now):
        folder, values = tmp_path / name, {"base_dropout": False}
        with pytest.raises(BrokenOff):
            train("both", Breaking(folder, steps=2), store=before, **values)
        _, log, said = train("both", Breaking(folder, steps=99), store=now, **values)
        assert len(log.losses) == STEPS
        first = said.index(f"lora: goes on after step 2 of {STEPS}")
        return said[first + 1 :]

    kept, exact = open_store(tmp_path), open_store(tmp_path, states_dtype="fp32")
    off = StateStore(folder=None, settings=CacheSettings(), base_fingerprint="base")
    assert change("same", kept, kept) == []
    assert change("refused twice, for other reasons", None, off) == []
    (line,) = change("kept, then refused", kept, None)
    assert "last bits may differ from an uninterrupted run (states of the frozen part: 1 chunks of" in line
    assert line.endswith("before, computed in every step now (no store was given))")
    (line,) = change("refused, then kept", off, kept)
    assert "computed in every step before, 1 chunks of" in line
    assert line.endswith("now (cache.states_mib is off))")
    (line,) = change("another key", kept, exact)
    assert "last bits may differ" in line


def test_other_arithmetic_is_said(train, half, monkeypatch):
    describe = course.describe_arithmetic
    monkeypatch.setattr(
        course, "describe_arithmetic", lambda *given: {**describe(*given), "threads": 64, "torch": "9.9"}
    )
    said = train("lora", Breaking(half, steps=99))[2]
    assert said[1] == (
        "lora: the last bits may differ from an uninterrupted run "
        f"(threads: {torch.get_num_threads()} before, 64 now; torch: {torch.__version__} before, 9.9 now)"
    )


@pytest.mark.slow
@property_settings(deadline=None, max_examples=50)
@given(st.data())
def test_broken_off_anywhere_any_number_of_times(train, expect, tmp_path_factory, data):
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    values = data.draw(st.sampled_from([{}, {"batch_size": 3, "decay": "linear"}, {"clip_norm": None}]))
    folder = tmp_path_factory.mktemp("kept")
    while True:
        steps, seconds = data.draw(st.integers(1, STEPS)), data.draw(st.sampled_from([0.0, 0.0, 0.0, None]))
        try:
            found = train(kind, Breaking(folder, steps=steps, seconds=seconds), **values)
        except BrokenOff:
            continue
        check_same(found, expect(kind, **values))
        return


KILLED = Path(__file__).with_name("killed.py")


@pytest.mark.slow
def test_killed_ten_times_in_the_middle_of_training(tmp_path):
    """Real processes and SIGKILL: see ``killed.py`` for what they do."""
    done = subprocess.run(
        [sys.executable, KILLED, tmp_path, "10"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "killed 10 times\n"
    whole, broken = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}
        for name in ("whole", "broken")
    )
    assert len(whole) == 4
    assert whole == broken
