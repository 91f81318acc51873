"""The tables of a finished run, as headers and rows of text, from ``experimental_results.json`` alone.

What this does not do: decide how a table looks on a screen (``markdown`` and ``cli`` do).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Any]
MISSING = "-"


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of equal length, all text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def build_comparison(results: Results, split: str = "test") -> Table | None:
    """What each method reached on a split, and lost; ``None`` where no task has such a split."""
    metric, tasks = results["headline_metric"], list_split_tasks(results, split)
    if not tasks:
        return None
    loses = split == "test"
    rows = tuple(
        (
            method["name"],
            *(write_final(method, task, split, metric) for task in tasks),
            *([write_forgetting(method, metric)] if loses else []),
        )
        for method in results["methods"]
    )
    kinds = "" if split == "test" else ", kinds of problem that no training contains"
    title = f"{metric} at the end of the sequence{kinds} ({write_counts(results, split)}; 95 % interval)"
    return Table(title, ("method", *tasks, *(["forgetting"] if loses else [])), rows)


def build_cost_comparison(results: Results) -> Table:
    """What each method trains and takes."""
    header = ("method", "trained parameters", "share", "seconds/task", "component MiB", "swap ms")
    rows = tuple((method["name"], *write_costs(method)) for method in results["methods"])
    return Table("What each method costs", header, rows)


def list_summary_tables(results: Results) -> list[Table]:
    """The tables that answer the run's question."""
    tables = [build_comparison(results), build_comparison(results, "unseen"), build_cost_comparison(results)]
    return [table for table in tables if table is not None]


def write_counts(results: Results, split: str) -> str:
    """``n = 300`` where every task has as many examples of the split, else one number per task."""
    counts = {task["name"]: task["examples"][split] for task in results["tasks"] if task["examples"][split]}
    if len(set(counts.values())) == 1:
        return f"n = {next(iter(counts.values()))}"
    return ", ".join(f"{name} n = {count}" for name, count in counts.items())


def list_task_names(results: Results) -> list[str]:
    """The tasks in the order they came."""
    return [task["name"] for task in results["tasks"]]


def list_split_tasks(results: Results, split: str) -> list[str]:
    """The tasks that have examples of a split."""
    return [task["name"] for task in results["tasks"] if task["examples"][split]]


def find_cell(entry: Mapping[str, Any], *, row: int, task: str, split: str) -> Mapping[str, Any] | None:
    """The cell of a method's seed at a place of R."""
    wanted = (row, task, split)
    found = (cell for cell in entry["cells"] if (cell["row"], cell["task"], cell["split"]) == wanted)
    return next(found, None)


def count_rows(entry: Mapping[str, Any]) -> int:
    """T: the last row of R."""
    return max(int(cell["row"]) for cell in entry["cells"])


def write_final(method: Mapping[str, Any], task: str, split: str, metric: str) -> str:
    """The score on a task once the sequence is over; over several seeds their mean and range."""
    cells = [find_cell(entry, row=count_rows(entry), task=task, split=split) for entry in method["seeds"]]
    scores = [cell["scores"][metric] for cell in cells if cell is not None]
    return write_scores(scores)


def write_scores(scores: Sequence[Mapping[str, Any]]) -> str:
    """One score with its interval, or the mean of several with their range."""
    measured = [score for score in scores if score["value"] is not None]
    if len(measured) != 1:
        return write_mean([score["value"] for score in measured])
    interval = measured[0]["interval"]
    text = write_mean([measured[0]["value"]])
    return text if interval is None else f"{text} [{interval['low']:.3f}, {interval['high']:.3f}]"


def write_mean(values: Sequence[float]) -> str:
    """The mean; over several seeds with their range."""
    if not values:
        return MISSING
    text = f"{sum(values) / len(values):.3f}"
    if len(values) == 1:
        return text
    return f"{text} ({min(values):.3f} to {max(values):.3f}, {len(values)} seeds)"


def write_forgetting(method: Mapping[str, Any], metric: str) -> str:
    """F over the seeds, marked where the schedule alone decides it."""
    found = [entry["continual"][metric]["forgetting"] for entry in method["seeds"]]
    text = write_mean([value["value"] for value in found if value["value"] is not None])
    return f"{text} (structural)" if found[0]["structural"] else text


def write_costs(method: Mapping[str, Any]) -> tuple[str, ...]:
    """Trained parameters, share of base and component, mean seconds per task, size on disk, swap time."""
    trainings = [training for entry in method["seeds"] for training in entry["trainings"]]
    if not trainings:
        return ("0", "0.0 %", "0", "0", MISSING)
    first, swap = trainings[0], method["seeds"][0]["swap"]
    seconds = sum(training["seconds"] for training in trainings) / len(trainings)
    return (
        f"{first['parameters']:,}",
        f"{100 * first['parameter_share']:.1f} %",
        f"{seconds:.1f}",
        f"{first['component_bytes'] / 2**20:.2f}",
        MISSING if swap is None else f"{swap['median_milliseconds']:.2f}",
    )


def build_matrix_table(results: Results, method: Mapping[str, Any]) -> Table:
    """R of the first seed; cells that the schedule decides are marked."""
    metric, tasks = results["headline_metric"], list_task_names(results)
    entry = method["seeds"][0]
    rows = []
    for row in range(count_rows(entry) + 1):
        label = "untouched base" if row == 0 else f"after {tasks[row - 1]}"
        rows.append((label, *(write_matrix_entry(entry, row, task, metric) for task in tasks)))
    title = f"R of `{method['name']}`, {metric}, seed {entry['seed']}"
    return Table(title, ("", *tasks), tuple(rows))


def write_matrix_entry(entry: Mapping[str, Any], row: int, task: str, metric: str) -> str:
    """One entry of R with how it came about."""
    cell = find_cell(entry, row=row, task=task, split="test")
    if cell is None or cell["scores"][metric]["value"] is None:
        return MISSING
    marks = {"structural": " (structural)", "decoded": "", "rechecked": " (decoded again"}
    mark = marks[cell["origin"]]
    if cell["origin"] == "rechecked":
        mark += ", identical)" if cell["identical_predictions"] else ", NOT identical)"
    return f"{cell['scores'][metric]['value']:.3f}{mark}"


def build_metrics_table(results: Results, split: str) -> Table | None:
    """Every metric of every method at the end, on one split; ``None`` without such a split."""
    tasks = list_split_tasks(results, split)
    if not tasks:
        return None
    rows = tuple(
        (task, method["name"], *(write_final(method, task, split, metric) for metric in results["metrics"]))
        for task in tasks
        for method in results["methods"]
    )
    title = f"All metrics, split `{split}` ({write_counts(results, split)})"
    return Table(title, ("task", "method", *results["metrics"]), rows)


def build_cost_table(results: Results) -> Table:
    """Every training: time, speed, memory, loss."""
    header = (
        "method",
        "seed",
        "task",
        "steps",
        "seconds",
        "examples/s",
        "tokens/s",
        "final loss",
        "peak MiB",
    )
    rows = tuple(
        (
            method["name"],
            str(entry["seed"]),
            training["task"],
            str(training["steps"]),
            f"{training['seconds']:.1f}",
            f"{training['examples_per_second']:.1f}",
            f"{training['tokens_per_second']:.0f}",
            f"{training['final_loss']:.3f}",
            MISSING if training["peak_memory_mib"] is None else f"{training['peak_memory_mib']:.0f}",
        )
        for method in results["methods"]
        for entry in method["seeds"]
        for training in entry["trainings"]
    )
    return Table("What training cost", header, rows)
