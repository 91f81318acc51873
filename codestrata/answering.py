"""Use a run's winners: a task's component on the frozen base answers new prompts.

A run's directory may come from a stranger: what its files say is checked before it becomes part of a path,
and no component outside the directory is opened.

What this does not do: serve requests, or choose a task from the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codestrata.components.folders import describe, read_object
from codestrata.components.residents import COMPONENT_FILE
from codestrata.contracts import Component
from codestrata.engine.generation import generate
from codestrata.engine.host import prepare_host
from codestrata.errors import ComponentError, RunError, SettingsError, describe_unknown
from codestrata.merging import MERGED
from codestrata.methods import METHODS, Method, build_component
from codestrata.models.loading import choose_device, load_base
from codestrata.settings.checks import check_name
from codestrata.settings.tree import Settings, build_section
from codestrata.store import RunDirectory


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which component of a run answers."""

    method: str
    seed: int
    task: str


def choose_component(run: RunDirectory, task: str, method: str | None, *, seed: int | None = None) -> Choice:
    """The component for a task: of the method asked for, or of the one that scored best on it in the end.

    Of a method's seeds it is the best one's, or that of the ``seed`` asked for.

    Raises:
        SettingsError: the run has no such task, method or seed.
        RunError: the run did not come to its end, or its results are not such as a run writes.
    """
    results = run.read_results()
    try:
        choice = find_best(run.name, results, task, method, seed)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"Run {run.name!r} has results that no run writes ({type(error).__name__}:"
            f" {describe(str(error))}). Get the run again."
        ) from error
    check_choice(choice)
    return choice


def find_best(name: str, results: Any, task: str, method: str | None, seed: int | None = None) -> Choice:
    """As ``choose_component``, from the results; raises what Python does where they are malformed."""
    tasks = [entry["name"] for entry in results["tasks"]]
    if task not in tasks:
        raise SettingsError(describe_unknown("task", task, tasks))
    trained = {entry["name"]: entry for entry in results["methods"] if entry["component"] is not None}
    if method is not None and method not in trained:
        raise SettingsError(describe_unknown("trained method", method, trained))
    # What a router reached is no component's own.
    scoring = [found for found, entry in trained.items() if entry["selection"] != "routed"]
    names = [method] if method is not None else scoring
    if not names:
        raise RunError(f"Run {name!r} trained no component that could answer.")
    # A choice means a component of the first order of the tasks.
    walks = [(found, walk) for found in names for walk in trained[found]["seeds"] if walk["order"] == 0]
    seeds = {read_seed(walk) for _, walk in walks}
    if seed is not None and seed not in seeds:
        raise SettingsError(describe_unknown("seed", str(seed), map(str, seeds)))
    scored = [
        (score, found, read_seed(walk))
        for found, walk in walks
        if seed is None or read_seed(walk) == seed
        if (score := read_final_score(results, walk, task)) is not None
    ]
    if not scored:
        raise RunError(f"Run {name!r} has no score of {task!r} to choose a component by: name a --method.")
    _, best, best_seed = max(scored, key=lambda row: row[0])
    return Choice(method=best, seed=best_seed, task=task)


def read_final_score(results: Any, walk: Any, task: str) -> float | None:
    """The headline score on the task once the sequence was over; ``None`` where it was not measured."""
    column = results["orders"][walk["order"]].index(task)  # R is in the order of the walk
    value: float | None = walk["R"]["test"][results["headline_metric"]][-1][column]
    if value is not None and type(value) not in (int, float):
        raise ValueError(f"a score is {describe(value)}")
    return value


def read_seed(entry: Any) -> int:
    """A seed in the results. Raises ValueError: no whole number, from which a path would lead anywhere."""
    seed = entry["seed"]
    if type(seed) is not int:
        raise ValueError(f"a seed is {describe(seed)}")
    return seed


def check_choice(choice: Choice) -> Method:
    """The method of a choice whose parts are such as a run's folders are called after.

    Raises: SettingsError: an unknown method, or one without component; a seed or task that is no name.
    """
    method = METHODS.get(choice.method)
    if method is None or method.component is None:
        known = [name for name, entry in METHODS.items() if entry.component is not None]
        raise SettingsError(describe_unknown("trained method", choice.method, known))
    if type(choice.seed) is not int:
        raise SettingsError(f"The seed is {describe(choice.seed)}: it must be a whole number.")
    check_name("The task's name", choice.task)
    return method


def answer(run: RunDirectory, choice: Choice, texts: Sequence[str], *, device: str = "auto") -> list[str]:
    """One completion per text, put into the task's prompt template and decoded as the run decoded.

    Raises:
        ComponentError: the component's files are damaged or belong to another base.
        RunError: a folder of the run leads out of it.
        SettingsError: the choice is none of the run's.
    """
    method = check_choice(choice)
    settings = run.read_settings()
    template = read_template(run.inside(run.task_folder(choice.method, choice.seed, choice.task)))
    prepare_host(threads=settings.device.threads, keep_memory=settings.device.keep_memory)
    base = load_base(settings.base, choose_device(device))
    source = find_folder(run, settings, choice)
    component = build_component(method, base, read_own_settings(source, method, settings))
    load_choice(component, run, settings, choice)
    completions = generate(
        base.model,
        base.tokenizer,
        [template.replace("{}", text) for text in texts],
        settings.decoding,
        max_prompt_tokens=settings.training.max_prompt_tokens,
        device=base.device,
    )
    return [completion.text for completion in completions]


def find_folder(run: RunDirectory, settings: Settings, choice: Choice) -> Path:
    """Where the component that answers lies: one that all tasks share came to its end with the last of them.

    Raises:
        RunError: the folder leads out of the run.
        SettingsError: the choice is none of a run's.
    """
    method = check_choice(choice)
    is_merged = method.selection == "merged"
    last = choice.task if method.is_named_by_task and not is_merged else settings.last_task
    folder = run.task_folder(choice.method, choice.seed, last)
    return run.inside(folder / MERGED if is_merged else folder)


def find_last_folder(run: RunDirectory, settings: Settings, choice: Choice) -> Path | None:
    """Where the part lies that all tasks share and the last training left; ``None``: with the component.

    Raises: as ``find_folder``.
    """
    last = settings.last_task
    if check_choice(choice).schedule != "shared" or choice.task == last:
        return None
    return run.inside(run.task_folder(choice.method, choice.seed, last))


def load_choice(component: Component, run: RunDirectory, settings: Settings, choice: Choice) -> None:
    """Make the component that answers resident and active, as it was when the run came to its end.

    Raises: ComponentError: its files are damaged or belong to another base; and as ``find_folder``.
    """
    component.load(choice.task, find_folder(run, settings, choice))
    last = find_last_folder(run, settings, choice)
    if last is not None:
        component.load(settings.last_task, last)
    component.activate(choice.task)


def read_own_settings(folder: Path, method: Method, settings: Settings) -> Settings:
    """The run's settings but for the section of the method's component, as one in a folder was built with it.

    They differ where the run solved a rank or a number of blocks to make its methods comparable.

    Raises: ComponentError: its ``component.json`` is damaged, or says settings that no component has.
    """
    assert method.component is not None
    section, said = method.component.replace("-", "_"), read_object(folder, COMPONENT_FILE).get("settings")
    if not isinstance(said, dict):
        raise ComponentError(
            f"{folder / COMPONENT_FILE}: settings is {describe(said)}, but those that the component was built"
            " with are needed. Get the component again."
        )
    try:
        own = build_section(type(getattr(settings, section)), said, f"{section}.")
    except SettingsError as error:
        raise ComponentError(
            f"{folder / COMPONENT_FILE}: no settings of {method.component}: {error}"
        ) from None
    return replace(settings, **{section: own})


def read_template(folder: Path) -> str:
    """The prompt template that a component was trained with.

    Raises: ComponentError: its ``component.json`` is damaged or has none.
    """
    template = read_object(folder, COMPONENT_FILE).get("prompt_template")
    if not isinstance(template, str) or "{}" not in template:
        raise ComponentError(
            f"{folder / COMPONENT_FILE}: prompt_template is {describe(template)}, but a text with {{}} in it"
            " is needed. Get the component again."
        )
    return template
