"""The loss on examples that nothing is learned from: as the model's own, and as trainings use it."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from codestrata import training
from codestrata.components.layers import build_layers
from codestrata.components.lora import build_lora
from codestrata.components.weights import WeightsComponent
from codestrata.data.batches import IGNORED, EncodedExample, collate
from codestrata.engine import passes
from codestrata.engine.states import StateStore
from codestrata.errors import DivergenceError, TrainingError
from codestrata.models.fingerprints import fingerprint_model
from codestrata.retention.memory import Memory
from codestrata.settings.components import LayersSettings, LoraSettings
from codestrata.settings.retention import EwcSettings
from codestrata.settings.sections import CacheSettings, TrainingSettings
from codestrata.training import fit
from codestrata.validation import measure_loss, without_validation

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(steps=1, precision="fp32")


def build_row(name, prompt, target):
    return EncodedExample(identifier=name, prompt_ids=tuple(prompt), target_ids=tuple(target))


ROWS = [
    build_row("short", [5, 1], [7, 1]),
    build_row("middle", [9, 33, 1], [8, 9, 10, 1]),
    build_row("longest", [2, 3, 4, 5, 6, 7, 8, 1], [60, 61, 62, 63, 4, 1]),
]


def measure(model, rows=ROWS, **values):
    return measure_loss(model, rows, replace(SETTINGS, **values), pad_id=0, device=CPU)


def measure_alone(model, row):
    with torch.no_grad():
        return float(model(**collate([row], 0), use_cache=False).loss)


def test_every_target_token_weighs_the_same(tiny_t5):
    alone, tokens = [measure_alone(tiny_t5, row) for row in ROWS], [2, 4, 6]
    weighted = sum(loss * count for loss, count in zip(alone, tokens, strict=True)) / 12
    assert abs(weighted - sum(alone) / 3) > 1e-3  # or the weights would not be seen
    assert measure(tiny_t5) == pytest.approx(weighted, abs=1e-5)


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_qwen2", "tiny_qwen3"])
def test_prompts_of_a_decoder_only_model_do_not_count(family, request):
    model = request.getfixturevalue(family)
    total = 0.0
    for row in ROWS:
        ids = torch.tensor([[*row.prompt_ids, *row.target_ids]])
        labels = torch.tensor([[*[IGNORED] * len(row.prompt_ids), *row.target_ids]])
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=labels, use_cache=False).loss) * len(row.target_ids)
    assert measure(model) == pytest.approx(total / 12, abs=1e-5)
    assert measure(model, batch_tokens=9) == pytest.approx(total / 12, abs=1e-5)


def test_how_examples_are_put_together_shows_in_the_last_bits_alone(tiny_t5, monkeypatch):
    whole, parts = measure(tiny_t5), []
    collate_rows = passes.collate
    monkeypatch.setattr(
        passes,
        "collate",
        lambda rows, *rest, **values: parts.append(len(rows)) or collate_rows(rows, *rest, **values),
    )
    assert measure(tiny_t5, batch_tokens=16) == pytest.approx(whole, abs=1e-5)
    assert sorted(parts) == [1, 2]


@pytest.mark.parametrize("kind", ["lora", "layers", "weights"])
def test_what_is_active_is_measured_without_dropout_and_left_as_it_was(kind, tiny_t5):
    component = {
        "lora": lambda: build_lora(tiny_t5, LoraSettings(rank=2, dropout=0.9)),
        "layers": lambda: build_layers(tiny_t5, LayersSettings(placement="both")),
        "weights": lambda: WeightsComponent(tiny_t5),
    }[kind]()
    bare = measure(tiny_t5)
    component.attach("a", seed=0)
    component.activate("a")
    with torch.no_grad():
        for parameter in component.parameters("a").values():
            parameter.add_(0.05)
    changed = measure(component.model)
    assert changed != bare
    state = torch.get_rng_state()
    component.model.train()
    assert measure(component.model) == changed
    assert all(module.training for module in component.model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in component.parameters("a").values())
    component.model.eval()
    component.deactivate()
    assert fingerprint_model(tiny_t5) == component.fingerprint


def test_it_is_measured_in_the_trainings_precision(tiny_t5):
    exact, low = measure(tiny_t5), measure(tiny_t5, precision="bf16")
    assert exact != low
    assert low == pytest.approx(exact, rel=0.02)


def test_out_of_memory_halves_what_is_computed_together(tiny_t5, monkeypatch):
    run, tried = passes.run_model, []

    def run_model(bench, batch, states):
        tried.append(batch["input_ids"].numel() + batch["labels"].numel())
        if tried[-1] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(bench, batch, states)

    expected = measure(copy.deepcopy(tiny_t5))
    monkeypatch.setattr(passes, "run_model", run_model)
    assert measure(tiny_t5) == pytest.approx(expected, abs=1e-5)
    assert tried[0] > 20
    monkeypatch.setattr(passes, "run_model", fail)
    with pytest.raises(TrainingError, match="not fit into the memory of cpu alone"):
        measure(tiny_t5)


def fail(*_):
    raise torch.OutOfMemoryError("CUDA out of memory.")


def test_no_examples_are_refused(tiny_t5):
    with pytest.raises(
        TrainingError, match=r"no validation examples: set tasks\.validation_examples above 0"
    ):
        measure(tiny_t5, rows=[])


def test_a_trial_is_the_same_training_without_validation():
    chosen = replace(SETTINGS, batch_size=3, validation_steps=2, patience=1, keep="best")
    assert without_validation(chosen) == replace(SETTINGS, batch_size=3)


HELD_OUT = [build_row(f"other {number}", row.prompt_ids, (33, 34, 35, 1)) for number, row in enumerate(ROWS)]
"""The same prompts with another target: what is learned of ROWS is soon wrong of these."""
RISING = {"steps": 12, "batch_size": 3, "warmup_fraction": 0.0, "decay": "constant", "validation_steps": 1}


def train(base, kind="weights", *, rows=ROWS, held_out=HELD_OUT, learning_rate=0.03, extras=None, **values):
    """A newborn component, its parameters after the training, and the training's log."""
    kinds = {
        "lora": lambda: build_lora(base, LoraSettings(rank=2, dropout=0.3)),
        "layers": lambda: build_layers(base, LayersSettings(placement="both")),
        "weights": lambda: WeightsComponent(base),
    }
    component = kinds[kind]() if isinstance(kind, str) else kind
    component.attach("a", seed=0)
    log = fit(
        component,
        "a",
        rows,
        TrainingSettings(**{"precision": "fp32", **RISING, **values}),
        learning_rate=learning_rate,
        seed=0,
        pad_id=0,
        device=CPU,
        validation=held_out,
        **(extras or {}),
    )
    return component, copy_parameters(component), log


def copy_parameters(component):
    return {name: parameter.detach().clone() for name, parameter in component.parameters("a").items()}


def are_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def list_losses(log):
    return [entry.loss for entry in log.validation.losses]


@pytest.mark.parametrize("kind", ["lora", "layers", "weights"])
def test_the_best_weights_are_those_of_a_training_that_ended_there(kind, build_tiny_t5):
    last, _, shown = train(build_tiny_t5(), kind)
    component, best, log = train(build_tiny_t5(), kind, keep="best")
    losses = list_losses(log)
    assert losses == list_losses(shown)
    assert log.validation.best_step == 1 + losses.index(min(losses)) == log.validation.kept_step
    assert 1 <= log.validation.best_step < 12 == log.steps == log.planned_steps
    assert losses[-1] > log.validation.best_loss == min(losses)
    assert log.losses[-1] < log.losses[0]  # what is trained on goes on getting better
    _, ended, _ = train(build_tiny_t5(), kind, steps=log.validation.best_step, validation_steps=None)
    assert are_equal(best, ended)
    assert not are_equal(best, copy_parameters(last))
    assert measure(component.model, HELD_OUT) == pytest.approx(log.validation.best_loss, abs=1e-6)
    assert shown.validation.kept_step == 12
    assert measure(last.model, HELD_OUT) == pytest.approx(losses[-1], abs=1e-6)


@pytest.mark.parametrize("base_dropout", [False, True])
def test_validating_changes_nothing_of_the_training(base_dropout, build_tiny_t5):
    def compare(**values):
        return train(build_tiny_t5(), "lora", base_dropout=base_dropout, batch_size=2, **values)

    (_, plain, without), (_, tensors, log) = compare(validation_steps=None), compare(validation_steps=2)
    assert (without.validation, len(log.validation.losses)) == (None, 6)
    assert log.losses == without.losses
    assert are_equal(tensors, plain)


def test_a_validation_that_runs_out_of_memory_halves_its_own_budget_and_says_so(build_tiny_t5, monkeypatch):
    measure_rows, said = passes.measure_part, []

    def measure_part(bench, prefix, rows):
        if len(rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return measure_rows(bench, prefix, rows)

    def compare():
        progress = SimpleNamespace(start=lambda *_: None, advance=lambda *_: None, say=said.append)
        return train(build_tiny_t5(), "lora", extras={"progress": progress}, batch_tokens=64)

    (_, plain, without) = compare()
    assert said == []
    monkeypatch.setattr(passes, "measure_part", measure_part)
    (_, tensors, log) = compare()
    assert log.batch_tokens == without.batch_tokens == 64
    assert (log.passes, log.losses) == (without.passes, without.losses)
    assert are_equal(tensors, plain)
    assert list_losses(log) == pytest.approx(list_losses(without), abs=1e-5)
    (line,) = said
    assert line.startswith("out of memory: validations compute at most ")


def test_dropout_is_off_for_validation_alone(tiny_t5):
    component, _, log = train(tiny_t5, "lora", base_dropout=True, steps=3)
    component.model.eval()
    assert list_losses(log)[-1] == pytest.approx(measure(component.model, HELD_OUT), abs=1e-6)
    component.model.train()
    with torch.no_grad():
        dropped = component.model(**collate(HELD_OUT[:1], 0), use_cache=False).loss
    component.model.eval()
    assert float(dropped) != pytest.approx(measure(component.model, HELD_OUT[:1]), abs=1e-4)


@pytest.mark.parametrize("patience", [1, 3])
def test_patience_ends_a_training_and_counts_what_was_done(patience, build_tiny_t5):
    values = {"decay": "linear", "warmup_fraction": 0.2}
    _, _, whole = train(build_tiny_t5(), **values)
    _, tensors, log = train(build_tiny_t5(), patience=patience, **values)
    losses = list_losses(whole)
    first = next(step for step in range(1, 13) if step - 1 - losses.index(min(losses[:step])) >= patience)
    assert (log.steps, log.planned_steps, log.stopped) == (first, 12, "patience")
    assert (whole.steps, whole.planned_steps, whole.stopped) == (12, 12, "all steps")
    assert log.losses == whole.losses[:first]  # the learning rate falls as planned for all steps
    assert list_losses(log) == losses[:first]
    assert (log.examples, log.tokens) == (3 * first, whole.tokens // 12 * first)
    assert log.validation.patience == patience
    _, shorter, _ = train(build_tiny_t5(), steps=first, validation_steps=None, **values)
    assert not are_equal(tensors, shorter)  # that one's learning rate fell faster


def test_there_is_a_validation_after_the_last_step_whatever_the_interval(tiny_t5):
    _, _, log = train(tiny_t5, steps=5, validation_steps=100, keep="best")
    assert [entry.step for entry in log.validation.losses] == [5]
    assert (log.validation.examples, log.validation.kept_step) == (3, 5)
    assert 0 < log.validation.seconds < log.seconds


@pytest.mark.parametrize(
    ("base", "placement"),
    [("tiny_t5", "encoder-top"), ("tiny_t5", "decoder-top"), ("tiny_llama", "top"), ("tiny_qwen3", "top")],
)
def test_held_out_examples_pass_through_a_frozen_part_whose_states_are_kept(
    base, placement, request, tmp_path
):
    def run(store):
        model = copy.deepcopy(request.getfixturevalue(base))
        component = build_layers(model, LayersSettings(placement=placement))
        _, _, log = train(model, component, extras={"store": store}, steps=4)
        component.model.eval()
        assert list_losses(log)[-1] == pytest.approx(measure(component.model, HELD_OUT), abs=2e-4)
        return log

    store = StateStore(folder=tmp_path, settings=CacheSettings(states_dtype="fp32"), base_fingerprint="base")
    kept, plain = run(store), run(None)
    assert (kept.states.kept, plain.states.kept) == (3, 0)
    assert list_losses(kept) == pytest.approx(list_losses(plain), abs=2e-4)
    assert len(set(list_losses(kept))) == 4


class Witness(Memory):
    """A retention that keeps a copy of the parameters that it is shown at the end."""

    def remember(self, lesson):
        self.seen = {name: parameter.detach().clone() for name, parameter in lesson.parameters.items()}
        self.numbers = list(lesson.examples)


def test_a_retention_remembers_the_weights_that_are_kept_and_the_examples_of_the_steps_taken(tiny_t5):
    witness = Witness(EwcSettings(), seed=0)
    _, best, log = train(
        tiny_t5,
        rows=ROWS * 3,
        extras={"retention": witness},
        keep="best",
        patience=1,
        batch_size=1,
        learning_rate=0.1,
    )
    assert log.validation.kept_step < log.steps < 9
    assert are_equal(witness.seen, best)
    assert len(witness.numbers) == log.steps


def test_a_watcher_sees_the_validation_loss_and_what_came_of_it(tiny_t5):
    notes, said = [], []
    progress = SimpleNamespace(
        start=lambda *_: None, advance=lambda done, note: notes.append(note), say=said.append
    )
    _, _, log = train(
        tiny_t5, extras={"progress": progress, "label": "lora"}, validation_steps=2, patience=1, keep="best"
    )
    best, steps = log.validation.best_step, log.steps
    assert notes[0] == f"loss {log.losses[0]:.3f}"
    assert notes[1] == notes[1].partition(",")[0] + f", validation {list_losses(log)[0]:.3f}"
    lowest = f"the lowest validation loss, {log.validation.best_loss:.3f}, was after step {best}"
    assert said == [
        f"lora: stopped after step {steps} of 12: {lowest}",
        f"lora: keeps the weights of step {best}, not of {steps}: {lowest}",
    ]


def test_a_training_that_is_to_be_validated_needs_examples_for_it(tiny_t5):
    with pytest.raises(TrainingError, match="validation_steps is 1, but there are no validation examples"):
        train(tiny_t5, held_out=[])


def test_a_validation_loss_that_is_not_finite_is_refused(tiny_t5, monkeypatch):
    monkeypatch.setattr(training, "measure_entropy", lambda bench, rows, budget: (math.nan, budget))
    with pytest.raises(
        DivergenceError, match=r"validation loss is nan after step 2\. .* lower learning rate"
    ):
        train(tiny_t5, validation_steps=2)
