"""What follows from validation losses, with losses given by hand."""

import pytest
import torch
from torch import nn

from codestrata.engine.watch import Validation, Watch, build_watch
from codestrata.settings.sections import TrainingSettings


def make_watch(losses=(), *, every=2, patience=None, kept="last", planned=100):
    watch = Watch(rows=[1, 2, 3], every=every, patience=patience, kept=kept, planned=planned, budget=64)
    parameter = nn.Parameter(torch.zeros(2))
    for step, loss in zip(watch.list_steps(planned), losses, strict=False):
        with torch.no_grad():
            parameter.fill_(step)
        watch.note(step, loss, {"p": parameter})
    return watch, {"p": parameter}


@pytest.mark.parametrize(
    ("every", "planned", "steps"),
    [(2, 6, [2, 4, 6]), (2, 5, [2, 4, 5]), (1, 2, [1, 2]), (7, 3, [3]), (3, 3, [3])],
)
def test_there_is_a_validation_after_every_so_many_steps_and_after_the_last(every, planned, steps):
    watch, _ = make_watch(every=every, planned=planned)
    assert list(watch.list_steps(planned)) == steps
    assert [step for step in range(1, planned + 1) if watch.is_due(step)] == steps


@pytest.mark.parametrize(
    ("losses", "patience", "has_run_out"),
    [
        ((), 1, False),
        ((3.0,), 1, False),
        ((3.0, 3.0), 1, True),  # as good is no better
        ((3.0, 2.0), 1, False),
        ((3.0, 2.0, 2.5), 2, False),
        ((3.0, 2.0, 2.5, 2.1), 2, True),
        ((3.0, 2.0, 2.5, 1.9), 2, False),  # the count begins anew
        ((3.0, 2.0, 2.5, 1.9, 2.0), 2, False),
        ((3.0, 2.0, 2.5, 1.9, 2.0, 1.9), 2, True),
        ((3.0, 4.0, 5.0, 6.0), None, False),
    ],
)
def test_when_patience_runs_out(losses, patience, has_run_out):
    assert make_watch(losses, patience=patience)[0].has_run_out is has_run_out


def test_the_first_of_the_lowest_losses_is_the_best_and_its_weights_come_back():
    watch, parameters = make_watch((3.0, 1.0, 2.0, 1.0), kept="best")
    assert watch.best == Validation(step=4, loss=1.0)
    assert parameters["p"].tolist() == [8.0, 8.0]
    watch.put_back(parameters)
    assert parameters["p"].tolist() == [4.0, 4.0]
    log = watch.describe(8, 0.5)
    assert (log.best_step, log.best_loss, log.kept, log.kept_step) == (4, 1.0, "best", 4)
    assert [found.step for found in log.losses] == [2, 4, 6, 8]
    assert (log.examples, log.seconds, log.validation_steps, log.patience) == (3, 0.5, 2, None)


def test_the_last_weights_stay_where_they_are_to_be_kept():
    watch, parameters = make_watch((3.0, 1.0, 2.0))
    watch.put_back(parameters)
    assert parameters["p"].tolist() == [6.0, 6.0]
    assert watch.best_tensors == {}
    log = watch.describe(6, 0.0)
    assert (log.best_step, log.kept, log.kept_step) == (4, "last", 6)


@pytest.mark.parametrize("kept", ["last", "best"])
@pytest.mark.parametrize("done", [0, 1, 2, 3, 6, 7])
def test_what_is_packed_has_the_shapes_that_are_listed_and_gives_the_watch_back(kept, done):
    watch, parameters = make_watch((3.0, 1.0, 2.0, 4.0)[: done // 2 + done // 7], kept=kept, planned=7)
    packed = watch.pack()
    shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in packed.items()}
    assert shapes == watch.list_shapes(done, parameters)
    fresh, _ = make_watch(kept=kept, planned=7)
    fresh.take(done, packed)
    assert fresh.seen == watch.seen
    assert fresh.best_tensors.keys() == watch.best_tensors.keys()
    assert all(torch.equal(fresh.best_tensors[name], tensor) for name, tensor in watch.best_tensors.items())


def test_settings_say_whether_there_is_a_watch():
    assert build_watch([], TrainingSettings(steps=9), planned=9, budget=64) is None
    watch = build_watch(
        [1], TrainingSettings(steps=9, validation_steps=4, patience=2, keep="best"), planned=9, budget=64
    )
    assert watch.budget == 64
    assert (watch.every, watch.patience, watch.kept, watch.planned, watch.rows) == (4, 2, "best", 9, [1])
