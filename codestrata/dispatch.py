"""New prompts to the component that a run's router picks for them: no task label is needed.

The router is what the run's method with selection ``routed`` left after its last task: means and covariance
of the training prompts, or the components themselves where the lowest perplexity picks. A prompt gets the
frame of the task that is picked (``python: ``), unless it begins with it already. Where the run's prompts
have frames, they are what a router tells the tasks by: it can only guess for a prompt without one.

What this does not do: fit a router, or serve requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codestrata.answering import (
    Choice,
    check_choice,
    find_folder,
    load_choice,
    read_own_settings,
    read_template,
)
from codestrata.components.folders import describe
from codestrata.contracts import Component
from codestrata.engine.generation import generate
from codestrata.engine.host import prepare_host
from codestrata.errors import RunError, SettingsError, describe_unknown
from codestrata.methods import METHODS, build_component
from codestrata.models.loading import Base, choose_device, load_base
from codestrata.selection.choices import Choice as Picked
from codestrata.selection.choices import choose_tasks
from codestrata.selection.embeddings import embed_prompts
from codestrata.selection.nearest import measure_mahalanobis, measure_nearest
from codestrata.selection.perplexity import measure_surprise
from codestrata.selection.storing import ROUTER_FILE, read_router
from codestrata.settings.tree import Settings
from codestrata.store import RunDirectory


@dataclass(frozen=True, kw_only=True)
class RoutedAnswer:
    """An answer, the task whose component gave it, and how sure the router was, in [0, 1].

    ``task`` is ``None`` where the router abstained and the bare base answered.
    """

    text: str
    task: str | None
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Router:
    """What picks in a run: the components of a method with a seed, of these tasks."""

    method: str
    seed: int
    tasks: tuple[str, ...]


def choose_router(run: RunDirectory, method: str | None = None, *, seed: int | None = None) -> Router:
    """The run's router: of the method and seed asked for, or of the first.

    Raises:
        SettingsError: the run has no method with selection ``routed``, or none of that name or seed.
        RunError: the run did not come to its end, or its results are not such as a run writes.
    """
    results = run.read_results()
    try:
        return find_router(run.name, results, method, seed)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"Run {run.name!r} has results that no run writes ({type(error).__name__}:"
            f" {describe(str(error))}). Get the run again."
        ) from error


def find_router(name: str, results: Any, method: str | None, seed: int | None) -> Router:
    """As ``choose_router``, from the results; raises what Python does where they are malformed."""
    routed = {entry["name"]: entry for entry in results["methods"] if entry["selection"] == "routed"}
    if method is not None and method not in routed:
        raise SettingsError(describe_unknown("method with selection routed", method, routed))
    if not routed:
        raise SettingsError(
            f"Run {name!r} holds no router: name the --task, or run with a method that has selection routed, "
            "such as --set methods=lora,routed."
        )
    entry = routed[method] if method is not None else next(iter(routed.values()))
    walks = {walk["seed"]: walk for walk in reversed(entry["seeds"])}  # of several orders the first
    if seed is not None and seed not in walks:
        raise SettingsError(describe_unknown("seed", str(seed), map(str, walks)))
    walk = walks[entry["seeds"][0]["seed"] if seed is None else seed]
    router = Router(method=entry["name"], seed=walk["seed"], tasks=tuple(walk["routing"]["tasks"]))
    known = {task["name"] for task in results["tasks"]}
    if not router.tasks or set(router.tasks) != known:
        raise ValueError(f"a router of {describe(list(router.tasks))}")
    for task in router.tasks:
        check_choice(Choice(method=router.method, seed=router.seed, task=task))
    return router


def answer_routed(
    run: RunDirectory, router: Router, texts: Sequence[str], *, device: str = "auto"
) -> list[RoutedAnswer]:
    """One answer per text, decoded as the run decoded; abstaining follows the run's ``routing.threshold``.

    Raises:
        ComponentError: a component's files are damaged or belong to another base.
        DataError: the router's file is damaged.
        RunError: a folder of the run leads out of it.
    """
    settings = run.read_settings()
    prepare_host(threads=settings.device.threads, keep_memory=settings.device.keep_memory)
    base = load_base(settings.base, choose_device(device))
    choices = [Choice(method=router.method, seed=router.seed, task=task) for task in router.tasks]
    source = find_folder(run, settings, choices[0])
    own = read_own_settings(source, METHODS[router.method], settings)
    component = build_component(METHODS[router.method], base, own)
    for choice in choices:
        load_choice(component, run, settings, choice)
    templates = [read_template(find_folder(run, settings, choice)) for choice in choices]
    last = find_folder(run, settings, choices[-1])
    energies = measure_energies(run.inside(last / ROUTER_FILE), base, component, settings, router, texts)
    picked = choose_tasks(energies, settings.routing.threshold)
    answers = dict[int, RoutedAnswer]()
    for number in sorted({choice.task for choice in picked}, key=lambda task: -1 if task is None else task):
        places = [place for place, choice in enumerate(picked) if choice.task == number]
        if number is None:
            component.deactivate()
            asked = [texts[place] for place in places]
        else:
            component.activate(router.tasks[number])
            asked = [frame_text(templates[number], texts[place]) for place in places]
        name = None if number is None else router.tasks[number]
        answers |= decode_places(base, settings, asked, places, picked, name)
    return [answers[place] for place in range(len(texts))]


def decode_places(
    base: Base,
    settings: Settings,
    asked: Sequence[str],
    places: Sequence[int],
    picked: Sequence[Picked],
    task: str | None,
) -> dict[int, RoutedAnswer]:
    """The answers of what is active, by the places of the texts that it was picked for."""
    completions = generate(
        base.model,
        base.tokenizer,
        asked,
        settings.decoding,
        max_prompt_tokens=settings.training.max_prompt_tokens,
        device=base.device,
    )
    return {
        place: RoutedAnswer(text=completion.text, task=task, confidence=picked[place].confidence)
        for place, completion in zip(places, completions, strict=True)
    }


def measure_energies(
    file: Path, base: Base, component: Component, settings: Settings, router: Router, texts: Sequence[str]
) -> np.ndarray:
    """How ill every component fits every text, (texts, tasks), by the run's router."""
    limit = settings.training.max_prompt_tokens
    if settings.routing.by == "perplexity":
        surprises = []
        for task in router.tasks:
            component.activate(task)
            surprises.append(
                measure_surprise(
                    base.model, base.tokenizer, texts, max_prompt_tokens=limit, device=base.device
                )
            )
        return np.stack(surprises, axis=1)
    component.deactivate()
    states = embed_prompts(base.model, base.tokenizer, texts, max_prompt_tokens=limit, device=base.device)
    statistics = read_router(file, list(router.tasks))
    if states.shape[1] != len(statistics[0].mean):
        raise RunError(
            f"{file} is a router for states of width {len(statistics[0].mean)}, but those of this base are "
            f"of width {states.shape[1]}. Get the run again."
        )
    if settings.routing.by == "nearest-mean":
        return measure_nearest(statistics, states)
    return measure_mahalanobis(statistics, states, shrinkage=settings.routing.shrinkage)


def frame_text(template: str, text: str) -> str:
    """The text in a task's prompt template, unless it begins as the template does.

    >>> frame_text("lua: {}", "add 1"), frame_text("lua: {}", "lua: add 1"), frame_text("{}", "add 1")
    ('lua: add 1', 'lua: add 1', 'add 1')
    """
    beginning = template.partition("{}")[0]
    return text if beginning and text.startswith(beginning) else template.replace("{}", text)
