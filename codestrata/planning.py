"""What a run would do and cost, before it does it: units of work, trained parameters, and a time estimate.

The estimate times two real training steps of every method, its retention at work, and one real decoding batch
on the loaded base. What a fair comparison solves is solved; its learning rates are not searched for.

What this does not do: write anything but token ids and, to match time, states into the cache; or foresee what
a training does beside its steps and validations: states of the frozen part, a retention's work at a task's
end.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from codestrata.evaluation import predict
from codestrata.experiment.amounts import count_set_steps
from codestrata.experiment.archive import identify_training
from codestrata.experiment.fairness import check_fair, describe_solution, give_own_settings, make_fair
from codestrata.experiment.orders import depends_on_order, list_labs
from codestrata.experiment.timing import time_training
from codestrata.lab import Lab, list_splits, open_lab
from codestrata.methods import Method, build_component, find_twin, resolve_methods
from codestrata.progress import Progress, Silence
from codestrata.results.efficiency import explain_no_curve
from codestrata.results.rechecks import Recheck, choose_recheck
from codestrata.settings.tree import Settings
from codestrata.validation import measure_loss


@dataclass(frozen=True, kw_only=True)
class MethodPlan:
    """What one method would train: per task and seed, and the estimate for all of them.

    ``steps_per_task`` are those of the first order of the tasks; all else counts every order, and the parts
    of the training examples that are trained on besides.

    ``search_seconds`` is what trying its learning rates would take, none of them known from an earlier run.
    ``parameters`` are trained on the first task, ``later_parameters`` on each of the others.
    """

    name: str
    parameters: int
    later_parameters: int
    steps_per_task: tuple[int, ...]
    trainings: int
    decoded_cells: int
    training_seconds: float
    search_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole run: its methods, how many prompts are decoded, and the estimated seconds.

    ``fair`` says in a line per method what was solved to make them comparable; none where nothing was.
    """

    methods: tuple[MethodPlan, ...]
    examples: dict[str, dict[str, int]]
    decoded_prompts: int
    decoding_seconds: float
    fair: tuple[str, ...] = ()

    @property
    def total_seconds(self) -> float:
        """Training, search and decoding together; scoring and loading are left out."""
        spent = (method.training_seconds + method.search_seconds for method in self.methods)
        return self.decoding_seconds + sum(spent)


def plan_run(settings: Settings, progress: Progress | None = None) -> Plan:
    """The plan of a run. Raises what ``run_experiment`` raises before it trains."""
    methods = resolve_methods(settings.methods)
    check_fair(settings, methods)
    lab = make_fair(open_lab(settings, progress or Silence()), methods, search=False)
    lab.progress.start("time two steps of each method", len(methods))
    plans = []
    for number, method in enumerate(methods, start=1):
        plans.append(plan_method(lab, method))
        lab.progress.advance(number, method.name)
    decoded = count_prompts(lab, methods) * settings.decoding.samples
    return Plan(
        methods=tuple(plans),
        examples={
            task.name: {"train": len(task.train), "test": len(task.test), "unseen": len(task.unseen)}
            for task in lab.tasks
        },
        decoded_prompts=decoded,
        decoding_seconds=decoded * time_decoding(lab),
        fair=() if lab.fair is None else tuple(describe_solution(lab.fair)),
    )


def count_prompts(lab: Lab, methods: Sequence[Method]) -> int:
    """How many prompts are decoded, each once per sample: row 0, R, X and what is decoded twice.

    Not foreseen is that a component comes to the same bytes as another: its answers are then taken over.
    """
    total = sum(len(part) for task in lab.tasks for part in list_splits(task).values())
    for ordered in list_labs(lab):
        walking = [method for method in methods if not ordered.order or depends_on_order(method)]
        total += count_order_prompts(ordered, walking)
    tests = sum(len(task.test) for task in lab.tasks) * len(lab.settings.seeds)
    return total + tests * sum(count_portions(lab, method) for method in methods)


def list_own_labs(lab: Lab, method: Method) -> list[Lab]:
    """The orders of the tasks in which a method is walked, and not taken over from the first."""
    labs = list_labs(lab)
    return labs if depends_on_order(method) else labs[:1]


def count_portions(lab: Lab, method: Method) -> int:
    """On how many parts of a task's examples a method is trained besides, with each seed."""
    reason = explain_no_curve(method.component, method.schedule, method.selection)
    return 0 if reason else len(lab.settings.measurement.data_fractions)


def count_order_prompts(lab: Lab, methods: Sequence[Method]) -> int:
    """How many prompts the walks of these methods in one order of the tasks take, but for row 0."""
    recheck, last = choose_recheck(lab.settings), len(lab.tasks)
    trained = [method for method in methods if method.component is not None]
    isolated = [method for method in trained if method.is_isolated]
    labelled = [method for method in trained if method.selection == "oracle"]
    found = [method for method in methods if finds_answers(lab, method)]
    seeds, total = len(lab.settings.seeds), 0
    for row, task in enumerate(lab.tasks, start=1):
        prompts, tests = sum(map(len, list_splits(task).values())), len(task.test)
        decodes = [count_decodes(method, row, last, recheck) for method in methods if method not in found]
        total += prompts * seeds * sum(decodes)
        if recheck == "canary" and row < last:
            canaries = min(tests, lab.settings.measurement.canary_examples)
            total += canaries * seeds * len(isolated)
        if lab.settings.measurement.transfer:
            total += tests * seeds * len(isolated) * (last - 1)
        if lab.order:  # the noise floor is that of the first order
            continue
        if lab.settings.decoding.temperature is not None and labelled:
            total += tests * seeds * len(labelled)
        elif row == last or (not isolated and recheck != "off"):  # no recheck covers it: twice by the base
            total += tests
    return total


def count_decodes(method: Method, position: int, tasks: int, recheck: Recheck) -> int:
    """How often a task, at its position from 1, is decoded as a whole by one method and seed."""
    if method.component is None:
        return 0
    if method.selection == "routed":  # by its own component; whom a router sends elsewhere is not foreseen
        return 1
    if method.selection == "merged":
        return tasks
    if method.schedule == "shared":  # again after every later training; before its own the base answers
        return tasks - position + 1
    if not method.has_component_per_task:
        return tasks
    before = position - 1 if method.schedule == "warm" else 0  # by the components it will begin as
    return before + (tasks - position + 1 if recheck == "full" else 1)


def takes_over(lab: Lab, method: Method) -> bool:
    """Whether an earlier method of the run trains the very components that this one picks or merges."""
    if method.selection == "oracle":
        return False
    walked = sorted(resolve_methods(lab.settings.methods), key=lambda entry: entry.selection != "oracle")
    task = lab.tasks[0]
    wanted = identify_training(give_own_settings(lab, method), method, task, 0)
    return any(
        identify_training(give_own_settings(lab, other), other, task, 0) == wanted
        for other in walked[: walked.index(method)]
    )


def finds_answers(lab: Lab, method: Method) -> bool:
    """Whether a routed method's components have answered their own tasks when its turn comes."""
    twin = find_twin(method, resolve_methods(lab.settings.methods))
    return method.selection == "routed" and twin is not None and takes_over(lab, method)


def plan_method(lab: Lab, method: Method) -> MethodPlan:
    """The method's part of the plan, timed on the first task."""
    is_taken = takes_over(lab, method)
    labs = [give_own_settings(ordered, method) for ordered in list_own_labs(lab, method)]
    lab, seeds = labs[0], len(lab.settings.seeds)
    if method.component is None:
        return MethodPlan(
            name=method.name,
            parameters=0,
            later_parameters=0,
            steps_per_task=(),
            trainings=0,
            decoded_cells=0,
            training_seconds=0.0,
        )
    pace, fair, recheck = time_training(lab, method), lab.settings.fair, choose_recheck(lab.settings)
    taken, tasks = [count_set_steps(ordered, method) for ordered in labs], len(lab.tasks)
    steps, parts = taken[0], count_portions(lab, method)
    trained_labs = labs if method.selection == "oracle" else labs[: not is_taken]
    planned = sum(map(sum, taken[: len(trained_labs)])) + parts * sum(steps)
    validating = sum(
        time_validation(ordered, method, entry) for ordered, entry in zip(trained_labs, taken, strict=False)
    )
    validating += parts * time_validation(labs[0], method, steps) if parts else 0.0
    decodes = [count_decodes(method, row, len(lab.tasks), recheck) for row in range(1, len(lab.tasks) + 1)]
    if finds_answers(lab, method):
        decodes = []
    return MethodPlan(
        name=method.name,
        parameters=pace.parameters,
        later_parameters=count_later_parameters(lab, method) if len(lab.tasks) > 1 else 0,
        steps_per_task=steps,
        trainings=tasks * (len(trained_labs) + parts) * seeds,
        decoded_cells=(sum(decodes) * len(labs) + tasks * parts) * seeds,
        training_seconds=(pace.seconds_per_step * planned + validating) * seeds,
        search_seconds=pace.seconds_per_step * len(fair.rates) * (fair.search_steps or steps[0]),
    )


def count_later_parameters(lab: Lab, method: Method) -> int:
    """What a training after the first changes: where tasks share a part that is kept, less than the first."""
    component = build_component(method, lab.base, lab.settings)
    for name in ("first", "second"):
        component.attach(name, seed=0)
    return sum(parameter.numel() for parameter in component.parameters("second").values())


def time_validation(lab: Lab, method: Method, steps: Sequence[int]) -> float:
    """Seconds that validating the trainings of one seed takes if none is stopped, timed on the bare base."""
    settings = lab.settings.training
    if settings.validation_steps is None:
        return 0.0
    rows = lab.validation[lab.tasks[0].name][: settings.batch_size]
    started = time.perf_counter()
    measure_loss(
        lab.base.model, rows, settings, pad_id=lab.base.tokenizer.pad_token_id, device=lab.base.device
    )
    seconds = (time.perf_counter() - started) / len(rows)
    sizes = [len(lab.validation[task.name]) for task in lab.tasks]
    examples = accumulate(sizes) if method.schedule == "joint" else sizes
    counts = [math.ceil(taken / settings.validation_steps) for taken in steps]
    return seconds * sum(size * count for size, count in zip(examples, counts, strict=True))


def time_decoding(lab: Lab) -> float:
    """Seconds per prompt, from one batch of the first task decoded by the untouched base."""
    examples = lab.tasks[0].test[: lab.settings.decoding.batch_size]
    started = time.perf_counter()
    predict(
        lab.base,
        examples,
        lab.settings.decoding,
        max_prompt_tokens=lab.settings.training.max_prompt_tokens,
    )
    return (time.perf_counter() - started) / len(examples)
