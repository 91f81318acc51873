"""How long a method's training steps take here, from a few real ones: its retention at work, nothing kept.

What this does not do: foresee what a training does beside its steps (states of the frozen part, what a
retention works out at a task's end), or tell of another machine.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from codestrata.data.batches import EncodedExample
from codestrata.engine.states import StateStore
from codestrata.experiment.trainings import gather_examples
from codestrata.lab import Lab
from codestrata.methods import Method, build_component, build_retention, choose_learning_rate
from codestrata.progress import Progress, Silence
from codestrata.training import fit
from codestrata.validation import without_validation

TIMED_STEPS = 2
TRIAL, FIRST = "trial", "first"


@dataclass(frozen=True)
class Pace:
    """A method's trained parameters, and the seconds that one optimizer step takes."""

    parameters: int
    seconds_per_step: float


class Stopwatch(Silence):
    """A watcher that notes when every unit was over."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def start(self, label: str, total: int) -> None:
        """Forget the phase before."""
        self.stamps.clear()

    def advance(self, done: int, note: str = "") -> None:
        """Note the time."""
        self.stamps.append(time.perf_counter())


def time_training(
    lab: Lab,
    method: Method,
    *,
    steps: int = TIMED_STEPS,
    store: StateStore | None = None,
    later: bool = False,
) -> Pace:
    """The pace of a method, from some steps on the first task after one that is not counted.

    A retention does nothing before there is something to retain. So the component is first trained for a
    step, as on an earlier task, and the steps that count are those of the task after it.

    Args:
        lab: base, tasks and the method's own settings.
        method: what is timed.
        steps: how many steps count.
        store: where states of the frozen part are kept, if the training is to have them.
        later: time a component that comes after another, whose shared part it may find there and keep.
    """
    component = build_component(method, lab.base, lab.settings)
    if later:
        component.attach(FIRST, seed=0)
    component.attach(TRIAL, seed=0)
    retention = build_retention(method, lab.settings, seed=0) if len(lab.tasks) > 1 else None
    rows = choose_rows(lab, method, 1 + steps)
    settings = without_validation(lab.settings.training)

    def train(count: int, watcher: Progress) -> None:
        fit(
            component,
            TRIAL,
            rows,
            replace(settings, steps=count, epochs=None),
            learning_rate=choose_learning_rate(method, lab.settings),
            seed=0,
            pad_id=lab.base.tokenizer.pad_token_id,
            device=lab.base.device,
            retention=retention,
            store=store,
            progress=watcher,
        )

    stopwatch = Stopwatch()
    try:
        if retention is not None:
            train(1, Silence())
        train(1 + steps, stopwatch)
        parameters = sum(parameter.numel() for parameter in component.parameters(TRIAL).values())
    finally:
        for name in reversed(component.names):
            component.detach(name)
    return Pace(parameters, (stopwatch.stamps[-1] - stopwatch.stamps[-1 - steps]) / steps)


def choose_rows(lab: Lab, method: Method, steps: int) -> Sequence[EncodedExample]:
    """As many examples of the first task as so many steps take, spread evenly over them."""
    rows = gather_examples(lab, method, lab.tasks[0])
    wanted = min(len(rows), steps * lab.settings.training.batch_size)
    return [rows[place * len(rows) // wanted] for place in range(wanted)]
