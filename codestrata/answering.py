"""Use a run's winners: a task's component on the frozen base answers new prompts.

What this does not do: serve requests, or choose a task from the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codestrata.engine.generation import generate
from codestrata.engine.host import prepare_host
from codestrata.errors import RunError, SettingsError, describe_unknown
from codestrata.files import read_json
from codestrata.methods import METHODS, build_component
from codestrata.models.loading import choose_device, load_base
from codestrata.settings import Settings, build_settings, read_toml
from codestrata.store import RunDirectory


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which component of a run answers."""

    method: str
    seed: int
    task: str


def choose_component(run: RunDirectory, task: str, method: str | None) -> Choice:
    """The component for a task: of the method asked for, or of the one that scored best on it in the end.

    Raises:
        SettingsError: the run has no such task or method.
        RunError: the run did not come to its end.
    """
    results = run.read_results()
    tasks = [entry["name"] for entry in results["tasks"]]
    if task not in tasks:
        raise SettingsError(describe_unknown("task", task, tasks))
    trained = {entry["name"]: entry for entry in results["methods"] if entry["component"] is not None}
    if method is not None and method not in trained:
        raise SettingsError(describe_unknown("trained method", method, trained))
    names = [method] if method is not None else list(trained)
    if not names:
        raise RunError(f"Run {run.name!r} trained no component that could answer.")
    scored = [
        (score, name, entry["seed"])
        for name in names
        for entry in trained[name]["seeds"]
        if (score := read_final_score(results, entry, task)) is not None
    ]
    if not scored:
        raise RunError(
            f"Run {run.name!r} has no score of {task!r} to choose a component by: name a --method."
        )
    _, name, seed = max(scored, key=lambda row: row[0])
    return Choice(method=name, seed=seed, task=task)


def read_final_score(results: Any, entry: Any, task: str) -> float | None:
    """The headline score on the task once the sequence was over; ``None`` where it was not measured."""
    column = [loaded["name"] for loaded in results["tasks"]].index(task)
    value: float | None = entry["R"]["test"][results["headline_metric"]][-1][column]
    return value


def answer(run: RunDirectory, choice: Choice, texts: Sequence[str], *, device: str = "auto") -> list[str]:
    """One completion per text, put into the task's prompt template and decoded as the run decoded.

    Raises: ComponentError: the component's files are damaged or belong to another base.
    """
    settings = read_run_settings(run)
    prepare_host(threads=settings.device.threads, keep_memory=settings.device.keep_memory)
    base = load_base(settings.base, choose_device(device))
    method = METHODS[choice.method]
    last = settings.tasks[-1].name if method.schedule == "sequential" else choice.task
    folder = run.task_folder(choice.method, choice.seed, last)
    component = build_component(method, base, settings)
    component.load(choice.task, folder)
    component.activate(choice.task)
    about = read_json(run.task_folder(choice.method, choice.seed, choice.task) / "component.json")
    completions = generate(
        base.model,
        base.tokenizer,
        [about["prompt_template"].replace("{}", text) for text in texts],
        settings.decoding,
        max_prompt_tokens=settings.training.max_prompt_tokens,
        device=base.device,
    )
    return [completion.text for completion in completions]


def read_run_settings(run: RunDirectory) -> Settings:
    """The settings that the run was made with."""
    return build_settings(read_toml(run.path / "settings.toml"))
