import copy
import math
import random
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from codestrata import training
from codestrata.checkpoints import Checkpoints
from codestrata.components.layers import build_layers
from codestrata.components.lora import build_lora
from codestrata.components.weights import WeightsComponent
from codestrata.contracts import Lesson
from codestrata.data.batches import EncodedExample, collate, measure_rows, plan_epoch
from codestrata.engine import bench, losses
from codestrata.engine.states import StateStore
from codestrata.errors import TrainingError
from codestrata.models.fingerprints import fingerprint_model, list_slots
from codestrata.retention.distill import Distillation
from codestrata.retention.memory import Memory
from codestrata.retention.replay import Replay
from codestrata.settings.components import LayersSettings, LoraSettings
from codestrata.settings.retention import DistillSettings, EwcSettings, ReplaySettings
from codestrata.settings.sections import CacheSettings, TrainingSettings
from codestrata.training import FitLog, count_steps, fit, scale_learning_rate

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
EXTRAS = ("retention", "progress", "label", "store", "checkpoints")
each_kind = pytest.mark.parametrize("kind", BUILDERS)


def build(kind, base, **values):
    component = BUILDERS[kind](base, **values)
    component.attach("a", seed=0)
    return component


def run(component, rows=ROWS, *, name="a", seed=0, learning_rate=0.01, pad_id=0, **values):
    extras = {key: values.pop(key) for key in EXTRAS if key in values}
    if "epochs" not in values:
        values.setdefault("steps", 1)
    settings = TrainingSettings(
        **{"batch_size": 4, "warmup_fraction": 0.0, "decay": "constant", "precision": "fp32", **values}
    )
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


def watch(**reactions):
    """A watcher that reacts to some calls."""
    silence = dict.fromkeys(("start", "advance", "say"), lambda *_: None)
    return SimpleNamespace(**{**silence, **reactions})


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

    def look(*_):
        modules = {module for module in tiny_t5.modules() if not isinstance(module, torch.nn.Identity)}
        seen.append({module.training for module in base_modules})
        own = {module.training for module in modules - base_modules}
        assert own == (set() if kind == "weights" else {True})

    run(component, progress=watch(advance=look), steps=2, base_dropout=base_dropout)
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


class Penalty(Memory):
    """A retention that pulls to zero, or spoils the loss from some step on."""

    def __init__(self, weight, spoils_from=math.inf, factor=math.nan):
        super().__init__(EwcSettings(), seed=0)
        self.weight, self.spoils_from, self.factor, self.calls = weight, spoils_from, factor, 0

    def penalise(self, parameters):
        self.calls += 1
        factor = self.factor if self.calls >= self.spoils_from else self.weight
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


class Spoiler(Memory):
    """A retention whose penalty is fine, and whose gradient is not, in one step."""

    def __init__(self, step):
        super().__init__(EwcSettings(), seed=0)
        self.step, self.calls = step, 0

    def penalise(self, parameters):
        self.calls += 1
        (first, *_) = parameters.values()
        if self.calls == self.step:
            first.register_hook(lambda gradient: gradient * math.inf)
        return 0.0 * (first**2).sum()


@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_a_gradient_that_is_not_finite_is_refused_too(clip_norm, tiny_t5):
    component = build("lora", tiny_t5)
    with pytest.raises(
        TrainingError, match=r"^The norm of the gradient is nan at step 3, on examples \w+, \w"
    ):
        run(component, batch_size=2, steps=9, retention=Spoiler(3), clip_norm=clip_norm)
    assert all(torch.isfinite(tensor).all() for tensor in copy_parameters(component).values())


@pytest.mark.parametrize(("seconds", "kept"), [(0.0, 6), (None, None)])
def test_the_last_good_checkpoint_is_kept_where_a_loss_is_not_finite(seconds, kept, tiny_t5, tmp_path):
    checkpoints = Checkpoints(tmp_path, seconds=seconds, say=pytest.fail)
    component = build("lora", tiny_t5)
    retention = Penalty(1.0, spoils_from=7, factor=math.inf)
    with pytest.raises(TrainingError, match=r"^The loss is inf at step 7, on examples ") as caught:
        run(component, steps=9, retention=retention, checkpoints=checkpoints)
    if kept is None:
        assert not list(tmp_path.iterdir())
        assert "is kept" not in str(caught.value)
        return
    folder = tmp_path / f"step-{kept:08d}"
    assert str(caught.value).endswith(f" The component before step 7 is kept in {folder}.")
    stored = Checkpoints(tmp_path, seconds=None, say=pytest.fail).read()
    assert stored.facts["steps"] == kept
    tensors = copy_parameters(component)  # nothing has changed them since
    assert are_equal({key: stored.tensors[f"parameters.{key}"] for key in tensors}, tensors)


def test_a_loss_that_is_not_finite_names_its_step_and_examples(tiny_t5):
    component = build("lora", tiny_t5)
    states = torch.get_rng_state()
    third = plan_epoch(measure_rows(ROWS), 2, seed=0, epoch=1)[0]
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

    def spy(rows, pad_id, **values):
        shown.extend(row.identifier for row in rows)
        return collate(rows, pad_id, **values)

    monkeypatch.setattr(bench, "collate", spy)
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
        planned_steps=len(losses),
        stopped="all steps",
        examples=1,
        tokens=1,
        padding=0.0,
        seconds=1.0,
        losses=losses,
        precision="fp32",
        passes=len(losses),
        batch_tokens=1,
        states=None,
        peak_memory_mib=None,
        memory_counter="",
        validation=None,
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


def test_a_watcher_sees_a_phase(tiny_t5):
    calls = []
    progress = watch(start=lambda *given: calls.append(given), advance=lambda *given: calls.append(given))
    log = run(build("lora", tiny_t5), steps=2, progress=progress, label="lora")
    assert calls == [("lora", 2), *((n + 1, f"loss {loss:.3f}") for n, loss in enumerate(log.losses))]


@pytest.fixture
def first_gradients():
    """The gradients that every training's first optimizer step saw, filled while the test runs."""
    found = []

    def look(optimizer, *_):
        if not optimizer.state:
            found.append(
                [tensor.grad.clone() for group in optimizer.param_groups for tensor in group["params"]]
            )

    handle = register_optimizer_step_pre_hook(look)
    yield found
    handle.remove()


@each_kind
def test_a_small_budget_changes_nothing_but_the_last_bits(kind, build_tiny_t5, first_gradients):
    """Parts of a step have different numbers of target tokens; their gradients must add up to the whole's."""
    component = build(kind, build_tiny_t5(dropout_rate=0.0))  # or new blocks would draw other masks
    with torch.no_grad():
        for parameter in component.parameters("a").values():  # newborns have gradients in a few places only
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) / 10)
    kept = copy_parameters(component)
    whole = run(component, batch_tokens=10_000)
    with torch.no_grad():
        for name, parameter in component.parameters("a").items():
            parameter.copy_(kept[name])
    cut = run(component, batch_tokens=16)
    assert (whole.passes, cut.passes) == (1, 3)
    assert cut.losses == pytest.approx(whole.losses, abs=1e-5)
    for mine, theirs in zip(*first_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)


def test_a_budget_below_the_longest_example_computes_it_alone(tiny_t5):
    log = run(build("lora", tiny_t5), batch_tokens=1)
    assert (log.passes, log.padding, log.batch_tokens) == (4, 0, 1)


def fail_above(monkeypatch, cells):
    """Training runs out of memory wherever more than ``cells`` tokens are computed together."""
    compute = training.run_part

    def run_part(bench, numbers, batch):
        if batch["input_ids"].numel() + batch["labels"].numel() > cells:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return compute(bench, numbers, batch)

    monkeypatch.setattr(training, "run_part", run_part)


def test_out_of_memory_halves_the_budget_and_says_so(tiny_t5, monkeypatch):
    expected = run(build("lora", copy.deepcopy(tiny_t5)), steps=3, batch_tokens=13)
    fail_above(monkeypatch, 20)
    said = []
    log = run(build("lora", tiny_t5), steps=3, batch_tokens=64, progress=watch(say=said.append))
    assert log.batch_tokens == 13  # all four examples are 56 with their padding, half of them 26
    assert said == ["out of memory: at most 13 tokens are computed together from now on"]
    assert log.losses == expected.losses
    assert log.passes == expected.passes


def test_an_example_that_does_not_fit_alone_is_an_error(tiny_t5, monkeypatch):
    fail_above(monkeypatch, 8)
    with pytest.raises(TrainingError, match=r"An example of 14 tokens does not fit .*max_prompt_tokens"):
        run(build("lora", tiny_t5))


def test_bf16_is_near_and_keeps_masters_in_fp32(tiny_t5):
    before = fingerprint_model(tiny_t5)
    exact, low = (build("lora", base) for base in (copy.deepcopy(tiny_t5), tiny_t5))
    expected, log = run(exact, steps=8, precision="fp32"), run(low, steps=8, precision="bf16")
    assert (expected.precision, log.precision) == ("fp32", "bf16")
    assert log.losses != expected.losses
    assert log.losses == pytest.approx(expected.losses, rel=0.05)
    assert {parameter.dtype for parameter in low.parameters("a").values()} == {torch.float32}
    low.deactivate()
    assert fingerprint_model(tiny_t5) == before


def open_store(folder, **values):
    return StateStore(folder=folder, settings=CacheSettings(**values), base_fingerprint="base")


@pytest.mark.parametrize(
    ("placement", "prefix"), [("encoder-top", (2, None)), ("decoder-top", (2, 2)), ("both", (2, None))]
)
def test_stored_states_train_the_same_component(placement, prefix, tiny_t5, tmp_path):
    def train(store):
        component = build_layers(copy.deepcopy(tiny_t5), LayersSettings(placement=placement))
        component.attach("a", seed=0)
        log = run(component, store=store, epochs=6, batch_size=2)
        return copy_parameters(component), log

    (plain, without), (exact, log), (again, reused), (_, rounded) = (
        train(store)
        for store in (
            None,
            open_store(tmp_path, states_dtype="fp32"),
            open_store(tmp_path, states_dtype="fp32"),
            open_store(tmp_path, states_dtype="bf16"),
        )
    )
    assert without.states.reason == "no store was given"
    assert (log.states.encoder_blocks, log.states.decoder_blocks) == prefix
    assert (log.states.examples, log.states.kept, log.states.computed, log.states.reason) == (4, 4, 4, None)
    assert log.losses == pytest.approx(without.losses, abs=1e-4)
    assert rounded.losses == pytest.approx(without.losses, abs=5e-3)
    assert rounded.losses != log.losses
    assert reused.states.computed == 0
    assert are_equal(again, exact)
    assert not are_equal(plain, dict.fromkeys(plain, torch.zeros(1)))


def test_methods_and_seeds_share_states(tiny_t5, tmp_path):
    store = open_store(tmp_path)
    computed = []
    for placement, seed in (("encoder-top", 0), ("both", 0), ("both", 1), ("decoder-top", 0)):
        component = build_layers(tiny_t5, LayersSettings(placement=placement))
        component.attach("a", seed=seed)
        computed.append(run(component, store=store, seed=seed, epochs=1).states.computed)
        component.detach("a")
    assert computed == [4, 0, 0, 4]


@pytest.mark.parametrize("kind", ["lora", "weights"])
def test_components_that_change_the_first_block_have_no_prefix(kind, tiny_t5, tmp_path):
    assert run(build(kind, tiny_t5), store=open_store(tmp_path)).states is None
    assert not list(tmp_path.iterdir())


def test_no_states_where_they_would_not_hold_or_not_pay(tiny_t5, tmp_path):
    def ask(**values):
        return run(
            build("layers", copy.deepcopy(tiny_t5)), store=open_store(tmp_path), **values
        ).states.reason

    assert "dropout" in ask(base_dropout=True)
    assert ask(steps=1, batch_size=1) == "only 1 of 4 examples are used"


def test_a_full_disk_is_said_and_survived(tiny_t5, tmp_path, monkeypatch):
    usage = SimpleNamespace(total=10, used=9, free=2**20)
    monkeypatch.setattr("codestrata.engine.states.shutil.disk_usage", lambda _: usage)
    said = []
    log = run(build("layers", tiny_t5), store=open_store(tmp_path), progress=watch(say=said.append))
    assert "too little free disk" in log.states.reason
    assert log.states.kept == 0
    assert any("not kept" in line for line in said)


def test_an_error_leaves_the_model_whole(tiny_t5, tmp_path, monkeypatch):
    """Whatever training put aside or exchanged is back, also after a failure in its midst."""
    component = build("layers", tiny_t5)
    before = component.model.lm_head, len(tiny_t5.encoder.block), tiny_t5.config._attn_implementation
    tensors = fingerprint_model(tiny_t5)
    monkeypatch.setattr(training, "run_part", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(component, store=open_store(tmp_path), precision="bf16")
    component.deactivate()
    assert (tiny_t5.lm_head, len(tiny_t5.encoder.block), tiny_t5.config._attn_implementation) == before
    assert fingerprint_model(tiny_t5) == tensors
    assert not tiny_t5.training


def test_a_failure_leaves_no_gradients(tiny_t5):
    component = build("lora", tiny_t5)
    with pytest.raises(TrainingError):
        run(component, steps=2, retention=Penalty(0.0, spoils_from=1))
    assert all(parameter.grad is None for parameter in component.parameters("a").values())


class Diary(Memory):
    """A retention that keeps the lesson, and the gradient of every example in it."""

    def remember(self, lesson):
        super().remember(lesson)
        self.lesson, self.gradients = lesson, {}
        for number in lesson.examples:
            assert all(parameter.grad is None for parameter in lesson.parameters.values())
            lesson.differentiate(number)
            self.gradients[number] = {key: p.grad.clone() for key, p in lesson.parameters.items()}
            for parameter in lesson.parameters.values():
                parameter.grad = None


def test_a_lesson_holds_the_examples_of_the_steps_and_their_own_gradients(tiny_t5):
    component, diary = build("weights", tiny_t5), Diary(EwcSettings(), seed=0)
    run(component, steps=1, batch_size=3, base_dropout=True, retention=diary)
    assert diary.lessons == 1
    assert list(diary.lesson.examples) == sorted(plan_epoch(measure_rows(ROWS), 3, seed=0, epoch=0)[0])
    assert diary.lesson.usual_targets == sum(len(row.target_ids) for row in ROWS) / 4
    component.activate("a")
    for number, gradients in diary.gradients.items():
        row = ROWS[number]
        (component.model(**collate([row], 0), use_cache=False).loss * len(row.target_ids)).backward()
        for key, parameter in component.parameters("a").items():
            torch.testing.assert_close(gradients[key], parameter.grad, atol=1e-4, rtol=1e-4)
            parameter.grad = None


def replaying(rows):
    retention = Replay(ReplaySettings(size=10), seed=0)
    retention.remember(
        Lesson(parameters={}, examples=dict(enumerate(rows)), usual_targets=1.0, differentiate=pytest.fail)
    )
    return retention


def test_replayed_examples_are_in_every_step_and_are_not_learned_twice(tiny_t5):
    retention = replaying([build_row("old", [44, 1], [45, 1])])
    log = run(build("weights", tiny_t5), steps=2, batch_size=2, retention=retention)
    assert log.examples == 2 * (2 + 2)
    assert {row.identifier for row in retention.rows} == {"old", *(row.identifier for row in ROWS)}
    assert retention.facts["seen"] == 1 + len(ROWS)


def test_replay_keeps_what_the_old_examples_taught(build_tiny_t5):
    old = [build_row("old", [44, 1], [45, 46, 1])]

    def measure(retention):
        component = build("weights", build_tiny_t5())
        run(component, old, steps=20, learning_rate=0.01)
        run(component, steps=20, learning_rate=0.01, retention=retention)
        component.activate("a")
        return measure_alone(component.model, old[0])

    assert measure(replaying(old)) < 0.3 * measure(None)


def test_states_of_a_frozen_part_are_refused_where_examples_are_replayed(tiny_t5, tmp_path):
    component = build_layers(tiny_t5, LayersSettings(placement="decoder-top"))
    component.attach("a", seed=0)
    store = open_store(tmp_path)
    log = run(component, store=store, retention=replaying([build_row("old", [44, 1], [45, 1])]))
    assert log.states.reason == "other tasks' examples are replayed: never the same ones twice"
    assert run(component, store=store).states.reason is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_distillation_compares_with_the_model_that_the_task_began_with(precision, build_tiny_t5):
    def train(retention):
        component = build("weights", build_tiny_t5())
        log = run(component, steps=3, learning_rate=0.01, retention=retention, precision=precision)
        return log.losses, copy_parameters(component)

    def distilling(lessons):
        retention = Distillation(DistillSettings(strength=1.0), seed=0)
        retention.facts["lessons"] = lessons
        return retention

    (plain, parameters), (first, as_first), (later, held) = (
        train(retention) for retention in (None, distilling(0), distilling(1))
    )
    assert first == plain
    assert are_equal(as_first, parameters)
    assert later[0] == pytest.approx(plain[0], abs=1e-5)  # it has not moved yet
    assert later[1] > plain[1] + 1e-4
    assert not are_equal(held, parameters)


def test_a_checkpoint_of_a_training_that_remembers_other_things_is_passed_over(build_tiny_t5, tmp_path):
    def train(kept, said):
        retention = Memory(EwcSettings(), seed=0)
        retention.tensors = {"kept": torch.tensor([kept])}
        checkpoints = Checkpoints(tmp_path, seconds=0.0, say=said.append)
        run(build("lora", build_tiny_t5()), steps=2, retention=retention, checkpoints=checkpoints)
        return said

    assert train(1.0, []) == []
    assert train(1.0, []) == []
    assert "of a training with other retention" in train(2.0, [])[0]


DECODERS = ("llama", "qwen2", "qwen3")
JOINED = [
    build_row(row.identifier, [token if token > 1 else 2 for token in row.prompt_ids], row.target_ids)
    for row in ROWS
]


@pytest.fixture(params=DECODERS)
def decoder(request, first_tiny_decoders):
    """A tiny decoder-only model of one's own."""
    return copy.deepcopy(first_tiny_decoders[request.param])


def measure_joined(model, row):
    """transformers' own loss of a row: prompt and target in one, the prompt's labels left out."""
    ids, ignored = [*row.prompt_ids, *row.target_ids], [-100] * len(row.prompt_ids)
    labels = torch.tensor([[*ignored, *row.target_ids]])
    return model(input_ids=torch.tensor([ids]), labels=labels, use_cache=False).loss


def build_on_decoder(kind, base):
    settings = {"layers": LayersSettings(placement="top")}
    component = build_layers(base, settings[kind]) if kind in settings else BUILDERS[kind](base)
    component.attach("a", seed=0)
    return component


@pytest.mark.parametrize(("kind", "batch_tokens"), [("lora", None), ("layers", 10), ("weights", None)])
def test_a_decoder_learns_targets_alone_whatever_is_beside_them(kind, batch_tokens, decoder):
    with torch.no_grad():
        alone = [float(measure_joined(decoder, row)) for row in JOINED]
    tokens = [len(row.target_ids) for row in JOINED]
    expected = sum(loss * count for loss, count in zip(alone, tokens, strict=True)) / sum(tokens)
    assert abs(expected - sum(alone) / 4) > 1e-3
    log = run(build_on_decoder(kind, decoder), JOINED, batch_tokens=batch_tokens)
    assert log.losses == pytest.approx((expected,), abs=1e-5)
    assert log.tokens == sum(len(row.prompt_ids) + len(row.target_ids) for row in JOINED)
    longest = max(len(row.prompt_ids) + len(row.target_ids) for row in JOINED)
    if batch_tokens is None:
        assert log.padding == pytest.approx(1 - log.tokens / (4 * longest))
    else:
        assert log.passes > 1


def test_a_decoders_gradient_is_that_of_its_targets(first_tiny_decoders):
    diary = Diary(EwcSettings(), seed=0)
    component = build("weights", copy.deepcopy(first_tiny_decoders["qwen2"]))
    run(component, JOINED, retention=diary)
    component.activate("a")
    for number, gradients in diary.gradients.items():
        row = JOINED[number]
        (measure_joined(component.model, row) * len(row.target_ids)).backward()
        for key, parameter in component.parameters("a").items():
            torch.testing.assert_close(gradients[key], parameter.grad, atol=1e-4, rtol=1e-3)
            parameter.grad = None


@each_kind
def test_a_decoders_loss_falls(kind, tiny_qwen2):
    log = run(build_on_decoder(kind, tiny_qwen2), JOINED, steps=25, learning_rate=0.02)
    assert log.losses[-1] < 0.8 * log.losses[0]


def test_a_decoders_logits_are_made_of_target_tokens_alone(first_tiny_decoders, monkeypatch):
    shown = []
    real = losses.VocabularyLoss.apply

    def spy(hidden, *others):
        shown.append(tuple(hidden.shape))
        return real(hidden, *others)

    monkeypatch.setattr(losses.VocabularyLoss, "apply", spy)
    run(build("lora", copy.deepcopy(first_tiny_decoders["llama"])), JOINED)
    assert shown == [(sum(len(row.target_ids) for row in JOINED), 32)]


def test_a_decoders_stored_states_train_the_same_component(first_tiny_decoders, tmp_path):
    def train(store):
        component = build_on_decoder("layers", copy.deepcopy(first_tiny_decoders["qwen3"]))
        log = run(component, JOINED, store=store, epochs=6, batch_size=2)
        return copy_parameters(component), log

    expected, plain = train(None)
    found, log = train(open_store(tmp_path, states_dtype="fp32"))
    assert (log.states.encoder_blocks, log.states.decoder_blocks) == (0, 3)
    assert (log.states.kept, log.states.computed, log.states.reason) == (4, 4, None)
    assert log.losses == pytest.approx(plain.losses, abs=1e-4)
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, atol=2e-3, rtol=1e-2)
    assert plain.states.reason == "no store was given"
    assert train(open_store(tmp_path, states_dtype="fp32"))[1].states.computed == 0


def test_states_are_refused_where_blocks_attend_in_different_ways(build_tiny_decoder, tmp_path):
    model = build_tiny_decoder(
        "qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1, layer_types=None
    )
    with torch.no_grad():
        entropies = [float(measure_joined(model, row)) * len(row.target_ids) for row in JOINED]
    log = run(build_on_decoder("layers", model), JOINED, store=open_store(tmp_path))
    assert "attend in different ways" in log.states.reason
    tokens = sum(len(row.target_ids) for row in JOINED)
    assert log.losses == pytest.approx((sum(entropies) / tokens,), abs=1e-5)


def test_a_decoder_is_held_near_to_what_it_was(first_tiny_decoders):
    def train(lessons):
        retention = Distillation(DistillSettings(strength=1.0), seed=0)
        retention.facts["lessons"] = lessons
        component = build("weights", copy.deepcopy(first_tiny_decoders["llama"]))
        return run(component, JOINED, steps=3, retention=retention).losses

    first, later = train(0), train(1)
    assert later[0] == pytest.approx(first[0], abs=1e-5)
    assert later[1] > first[1] + 1e-4
