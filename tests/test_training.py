import math
import mmap
import random
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from codestrata import training
from codestrata.components.layers import build_layers
from codestrata.components.lora import build_lora
from codestrata.components.weights import WeightsComponent
from codestrata.data.batches import EncodedExample, collate, plan_epoch
from codestrata.errors import TrainingError
from codestrata.models.fingerprints import fingerprint_model, list_slots
from codestrata.settings import LayersSettings, LoraSettings, TrainingSettings
from codestrata.training import FitLog, MemoryGauge, count_steps, fit, scale_learning_rate, watch

CPU = torch.device("cpu")


def build_row(name, prompt, target):
    return EncodedExample(identifier=name, prompt_ids=tuple(prompt), target_ids=tuple(target))


ROWS = [
    build_row("short", [5, 1], [7, 1]),
    build_row("middle", [9, 33, 1], [8, 9, 10, 1]),
    build_row("long", [17, 40, 12, 3, 1], [50, 1]),
    build_row("longest", [2, 3, 4, 5, 6, 7, 8, 1], [60, 61, 62, 63, 4, 1]),
]

BUILDERS = {
    "lora": lambda base, dropout=0.0: build_lora(base, LoraSettings(rank=2, dropout=dropout)),
    "layers": lambda base: build_layers(base, LayersSettings(placement="both")),
    "weights": WeightsComponent,
}
each_kind = pytest.mark.parametrize("kind", BUILDERS)


def build(kind, base, **values):
    component = BUILDERS[kind](base, **values)
    component.attach("a", seed=0)
    return component


def run(component, rows=ROWS, *, name="a", seed=0, learning_rate=0.01, pad_id=0, **values):
    extras = {key: values.pop(key) for key in ("retention", "report") if key in values}
    if "epochs" not in values:
        values.setdefault("steps", 1)
    settings = TrainingSettings(**{"batch_size": 4, "warmup_fraction": 0.0, "decay": "constant", **values})
    return fit(
        component,
        name,
        rows,
        settings,
        learning_rate=learning_rate,
        seed=seed,
        pad_id=pad_id,
        device=CPU,
        **extras,
    )


def copy_parameters(component, name="a"):
    return {key: parameter.detach().clone() for key, parameter in component.parameters(name).items()}


def are_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def measure_alone(model, row):
    with torch.no_grad():
        return float(model(**collate([row], 0), use_cache=False).loss)


@each_kind
def test_padding_never_counts_in_the_loss(kind, tiny_t5):
    alone = [measure_alone(tiny_t5, row) for row in ROWS]
    tokens = [len(row.target_ids) for row in ROWS]
    weighted = sum(loss * count for loss, count in zip(alone, tokens, strict=True)) / sum(tokens)
    assert abs(weighted - sum(alone) / 4) > 1e-3  # or the weights would not be seen
    assert run(build(kind, tiny_t5)).losses == pytest.approx((weighted,), abs=1e-5)


def test_the_pad_tokens_id_does_not_matter(tiny_t5):
    losses = [run(build("weights", tiny_t5), pad_id=pad_id, steps=2).losses for pad_id in (0, 7)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@each_kind
def test_the_loss_falls(kind, tiny_t5):
    log = run(build(kind, tiny_t5), steps=30, learning_rate=0.03)
    assert log.losses[-1] < 0.8 * log.losses[0]
    assert log.final_loss < 0.8 * log.losses[0]


def test_a_seed_decides_everything(build_tiny_t5):
    def train(seed, noise):
        component = build("lora", build_tiny_t5(), dropout=0.3)
        torch.manual_seed(noise)
        log = run(component, seed=seed, steps=5, batch_size=2, base_dropout=True)
        return copy_parameters(component), log.losses

    first, again, other = train(1, noise=1), train(1, noise=2), train(2, noise=1)
    assert are_equal(first[0], again[0])
    assert first[1] == again[1]
    assert not are_equal(first[0], other[0])


def test_random_states_are_left_as_they_were(tiny_t5):
    states = torch.get_rng_state(), random.getstate()
    run(build("lora", tiny_t5, dropout=0.5), steps=3, base_dropout=True)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


@pytest.mark.parametrize("base_dropout", [False, True])
@each_kind
def test_which_modules_train(kind, base_dropout, tiny_t5):
    base_modules = set(tiny_t5.modules())
    component = build(kind, tiny_t5)
    seen = []

    def look(done, total, loss):
        modules = set(tiny_t5.modules())
        seen.append({module.training for module in base_modules})
        own = {module.training for module in modules - base_modules}
        assert own == (set() if kind == "weights" else {True})

    run(component, report=look, steps=2, base_dropout=base_dropout)
    assert seen == [{base_dropout}] * 2
    assert not any(module.training for module in tiny_t5.modules())
    assert component.active == "a"


def test_base_dropout_is_felt_in_the_loss(tiny_t5):
    assert tiny_t5.config.dropout_rate == 0.1
    evaluated = run(build("weights", tiny_t5)).losses
    assert run(build("weights", tiny_t5), base_dropout=False).losses == evaluated
    assert run(build("weights", tiny_t5), base_dropout=True).losses != evaluated


@pytest.mark.parametrize("base_dropout", [False, True])
def test_a_components_own_dropout_is_felt(base_dropout, build_tiny_t5):
    def train(dropout):
        component = build("lora", build_tiny_t5(dropout_rate=0.0), dropout=dropout)
        return run(component, steps=3, base_dropout=base_dropout).losses

    # The first loss is the newborn's, which adds nothing yet whatever is dropped.
    assert train(0.5)[0] == train(0.0)[0]
    assert train(0.5)[1:] != train(0.0)[1:]


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        (
            "cosine",
            [0.5, 1, 1, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060],
        ),
    ],
)
def test_learning_rates_by_hand(decay, expected):
    settings = TrainingSettings(steps=10, warmup_fraction=0.2, decay=decay)
    assert [scale_learning_rate(step, 10, settings) for step in range(10)] == pytest.approx(
        expected, abs=1e-6
    )
    assert scale_learning_rate(10, 10, settings) == pytest.approx(1.0 if decay == "constant" else 0.0)


def test_learning_rates_at_the_edges():
    everything = TrainingSettings(steps=4, warmup_fraction=1.0)
    assert [scale_learning_rate(step, 4, everything) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    nothing = TrainingSettings(steps=1, warmup_fraction=0.0)
    assert scale_learning_rate(0, 1, nothing) == 1.0
    assert scale_learning_rate(1, 1, nothing) >= 0


@pytest.fixture
def optimizer_steps():
    """Every optimizer step: learning rate, weight decay, and the norm of its gradients."""
    steps = []

    def look(optimizer, arguments, keywords):
        (group,) = optimizer.param_groups
        norms = [parameter.grad.norm() for parameter in group["params"] if parameter.grad is not None]
        steps.append(
            SimpleNamespace(
                learning_rate=group["lr"],
                weight_decay=group["weight_decay"],
                norm=float(torch.stack(norms).norm()),
                tensors=len(group["params"]),
            )
        )

    handle = register_optimizer_step_pre_hook(look)
    yield steps
    handle.remove()


def test_the_optimizer_follows_the_schedule(tiny_t5, optimizer_steps):
    component = build("lora", tiny_t5)
    run(component, steps=5, learning_rate=0.2, warmup_fraction=0.4, decay="linear", weight_decay=0.3)
    rates = [step.learning_rate for step in optimizer_steps]
    assert rates == pytest.approx([0.1, 0.2, 0.2, 0.4 / 3, 0.2 / 3])
    assert {step.weight_decay for step in optimizer_steps} == {0.3}
    assert {step.tensors for step in optimizer_steps} == {len(component.parameters("a"))}


@each_kind
def test_gradients_are_clipped(kind, tiny_t5, optimizer_steps):
    run(build(kind, tiny_t5), clip_norm=None)
    free = optimizer_steps.pop().norm
    run(build(kind, tiny_t5), clip_norm=free / 4)
    assert optimizer_steps.pop().norm == pytest.approx(free / 4, rel=1e-3)
    run(build(kind, tiny_t5), clip_norm=free * 4)
    assert optimizer_steps.pop().norm == pytest.approx(free, rel=1e-5)


def test_gradients_do_not_pile_up(tiny_t5, optimizer_steps):
    run(build("weights", tiny_t5), steps=3, learning_rate=1e-9, clip_norm=None)
    assert optimizer_steps[2].norm == pytest.approx(optimizer_steps[0].norm, rel=1e-3)


class Penalty:
    """A retention that pulls to zero, or spoils the loss from some step on."""

    def __init__(self, weight, spoils_from=math.inf):
        self.weight, self.spoils_from, self.calls = weight, spoils_from, 0

    def penalise(self, parameters):
        self.calls += 1
        factor = math.nan if self.calls >= self.spoils_from else self.weight
        return factor * sum((parameter**2).sum() for parameter in parameters.values())


def test_a_retention_is_added_to_every_step(build_tiny_t5):
    def train(retention):
        component = build("lora", build_tiny_t5())
        run(component, steps=10, retention=retention)
        return sum(float((tensor**2).sum()) for tensor in copy_parameters(component).values())

    penalty = Penalty(100.0)
    assert train(penalty) < 0.9 * train(None)
    assert penalty.calls == 10
    assert train(Penalty(0.0)) == train(None)


def test_a_loss_that_is_not_finite_names_its_step_and_examples(tiny_t5):
    component = build("lora", tiny_t5)
    states = torch.get_rng_state()
    third = plan_epoch(ROWS, 2, seed=0, epoch=1)[0]
    with pytest.raises(TrainingError) as caught:
        run(component, batch_size=2, steps=9, retention=Penalty(0.0, spoils_from=3))
    named = ", ".join(ROWS[number].identifier for number in third)
    assert f"The loss is nan at step 3, on examples {named}. " in str(caught.value)
    assert "--set training.learning_rate=" in str(caught.value)
    assert torch.equal(torch.get_rng_state(), states)
    assert all(torch.isfinite(tensor).all() for tensor in copy_parameters(component).values())


def test_an_infinite_loss_is_refused_at_once(tiny_t5):
    component = build("weights", tiny_t5)
    with torch.no_grad():
        next(iter(component.parameters("a").values())).fill_(math.inf)
    with pytest.raises(TrainingError, match="at step 1, on examples"):
        run(component)


def test_training_on_nothing_is_refused(tiny_t5):
    with pytest.raises(TrainingError, match="no training examples"):
        run(build("lora", tiny_t5), rows=[])


@each_kind
def test_only_the_components_own_parameters_change(kind, tiny_t5):
    before = fingerprint_model(tiny_t5)
    component = build(kind, tiny_t5)
    component.attach("other", seed=1)
    tensors = {slot.name: slot.tensor.clone() for slot in list_slots(tiny_t5)}
    mine, others = copy_parameters(component), copy_parameters(component, "other")
    run(component, steps=3)
    assert not are_equal(copy_parameters(component), mine)
    assert are_equal(copy_parameters(component, "other"), others)
    component.deactivate()
    assert fingerprint_model(tiny_t5) == before == component.fingerprint
    assert are_equal({slot.name: slot.tensor for slot in list_slots(tiny_t5)}, tensors)
    assert all(slot.tensor.grad is None for slot in list_slots(tiny_t5))


def test_every_parameter_of_a_component_changes_in_time(tiny_t5):
    component = build("layers", tiny_t5)
    before = copy_parameters(component)
    run(component, steps=3)
    after = copy_parameters(component)
    assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_counts_of_one_batch_by_hand(tiny_t5):
    log = run(build("lora", tiny_t5), rows=ROWS[:3], epochs=1)
    assert (log.steps, log.examples) == (1, 3)
    assert log.tokens == (2 + 3 + 5) + (2 + 4 + 2)
    assert log.padding == pytest.approx(1 - 18 / (3 * 5 + 3 * 4))
    assert len(log.losses) == 1
    assert 0 < log.seconds < 60


def test_counts_of_several_epochs(tiny_t5):
    log = run(build("lora", tiny_t5), epochs=2.5, batch_size=2)
    assert (log.steps, log.examples, len(log.losses)) == (5, 10, 5)
    log = run(build("lora", tiny_t5), rows=ROWS[:3], steps=4, batch_size=2)
    assert (log.steps, log.examples, log.tokens) == (4, 6, 2 * 18)


def test_equal_rows_need_no_padding(tiny_t5):
    assert run(build("lora", tiny_t5), rows=[ROWS[0]] * 4).padding == 0


def test_every_epoch_shows_every_example_once(tiny_t5, monkeypatch):
    shown = []

    def spy(rows, pad_id):
        shown.extend(row.identifier for row in rows)
        return collate(rows, pad_id)

    monkeypatch.setattr(training, "collate", spy)
    run(build("lora", tiny_t5), epochs=3, batch_size=3)
    names = sorted(row.identifier for row in ROWS)
    epochs = [shown[start : start + 4] for start in (0, 4, 8)]
    assert [sorted(epoch) for epoch in epochs] == [names] * 3
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize(
    ("examples", "values", "expected"),
    [
        (10, {"steps": 7}, 7),
        (10, {"epochs": 1, "batch_size": 4}, 3),
        (10, {"epochs": 2, "batch_size": 4}, 6),
        (10, {"epochs": 0.5, "batch_size": 2}, 2),  # 2.5 rounds to the even number
        (3, {"epochs": 0.01, "batch_size": 4}, 1),
    ],
)
def test_steps_by_hand(examples, values, expected):
    assert count_steps(examples, TrainingSettings(**values)) == expected


def build_log(losses):
    return FitLog(
        steps=len(losses),
        examples=1,
        tokens=1,
        padding=0.0,
        seconds=1.0,
        losses=losses,
        peak_memory_mib=None,
        memory_counter="",
    )


def test_the_final_loss_is_the_mean_of_the_last_tenth():
    assert build_log(tuple(range(20))).final_loss == 18.5
    assert build_log((3.0, 2.0)).final_loss == 2.0


@pytest.mark.skipif(sys.platform != "linux", reason="the counter's unit is known here for Linux")
def test_peak_memory_on_linux(tiny_t5):
    log = run(build("lora", tiny_t5))
    assert log.memory_counter == "VmHWM of the process, reset before the training"
    assert log.peak_memory_mib is not None
    assert 50 < log.peak_memory_mib < 100_000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset its counter")
def test_peak_memory_does_not_carry_over():
    gauge = MemoryGauge(CPU)
    # Straight from the system: a tensor may come out of memory that earlier tests left to the process.
    with mmap.mmap(-1, 256 * 2**20) as block:
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        largest = gauge.read_peak()
    assert MemoryGauge(CPU).read_peak() < largest - 200


def test_a_system_that_cannot_reset_says_so(monkeypatch):
    monkeypatch.setattr(training, "reset_process_peak", lambda: False)
    gauge = MemoryGauge(CPU)
    assert gauge.counter == "getrusage ru_maxrss: the process's peak since it started"
    assert gauge.read_peak() > 50


def test_no_counter_is_nothing_and_not_zero(monkeypatch):
    monkeypatch.setattr(training, "reset_process_peak", lambda: False)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert MemoryGauge(CPU).read_peak() is None


def test_a_counter_without_a_peak_is_read_after_every_step(monkeypatch):
    readings = iter([3 * 2**20, 5 * 2**20, 4 * 2**20])
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: next(readings))
    gauge = MemoryGauge(torch.device("mps"))
    for _ in range(3):
        gauge.sample()
    assert gauge.read_peak() == 5
    assert gauge.counter == "torch.mps.driver_allocated_memory after every step"


def test_a_watcher_sees_a_phase(tiny_t5):
    calls = []
    progress = SimpleNamespace(
        start=lambda label, total: calls.append((label, total)),
        advance=lambda done, note: calls.append((done, note)),
    )
    log = run(build("lora", tiny_t5), steps=2, report=watch(progress, "lora"))
    assert calls == [("lora", 2), *((n + 1, f"loss {loss:.3f}") for n, loss in enumerate(log.losses))]
