"""The tables of a finished run, as headers and rows of text, from ``experimental_results.json`` alone.

What this does not do: decide how a table looks on a screen (``markdown`` and ``cli`` do), or list every
metric (``definitions`` does).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from codestrata.errors import RunError

Results = Mapping[str, Any]
Scores = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]
"""split -> task -> metric -> a score."""

T = TypeVar("T")

SCHEMA_VERSION = 7
"""The version of the results that is read here: the one that ``results.tree`` writes."""
MISSING = "-"
COLUMNS_ABREAST = 3
"""Scores with intervals that fit into one line of a terminal, beside a name."""
ORIGIN_MARKS = {
    "structural": "structural",
    "rechecked": "again",
    "canary": "canary",
    "taken-over": "same bytes",
}
"""Origin of a cell -> its mark in R; what was decoded for the first time has none."""
VERDICTS = {"above": "above", "not above": "NOT above", "cannot tell": "cannot tell"}


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of equal length, all text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def check_version(results: Results) -> None:
    """Refuse results of another schema. Raises RunError: what they are, and what to do."""
    found = results.get("schema_version")
    if found != SCHEMA_VERSION:
        raise RunError(
            f"Run {results.get('run')!r} has results of schema version {found}; this codestrata reads "
            f"version {SCHEMA_VERSION}. Repeat the run with its settings.toml, or use the version that wrote "
            "it (environment.json)."
        )


def list_summary_tables(results: Results) -> list[Table]:
    """The tables that answer the run's question, each narrow enough for a terminal of 100 columns.

    Raises: RunError: results of another schema.
    """
    check_version(results)
    return [
        *list_score_tables(results),
        *keep(build_differences(results, "comparisons")),
        build_cost_comparison(results),
    ]


def list_score_tables(results: Results) -> list[Table]:
    """What was reached on each split, and whether that is above the controls."""
    return [
        *build_comparison(results),
        *build_comparison(results, "unseen"),
        *keep(build_controls_table(results)),
    ]


def keep(table: Table | None) -> list[Table]:
    """The table, if it is there."""
    return [] if table is None else [table]


def build_comparison(results: Results, split: str = "test") -> list[Table]:
    """What base, controls and methods reached on a split, and lost; empty where no task has such a split.

    Many tasks make several tables of equal rows.
    """
    metric, tasks = results["headline_metric"], list_split_tasks(results, split)
    if not tasks:
        return []
    lost = {method["name"]: write_forgetting(method, metric) for method in list_trained(results)}
    columns: dict[str, dict[str, str]] = {
        task: {
            name: write_score(find_score(scores, split, task, metric))
            for name, scores in list_contenders(results)
        }
        | {"noise floor": write_number(find_noise(results, task, split))}
        for task in tasks
    }
    if split == "test":
        columns["forgetting"] = lost
    names = [name for name, _ in list_contenders(results)]
    if any(columns[task]["noise floor"] != MISSING for task in tasks):
        names.append("noise floor")
    kinds = "" if split == "test" else ", kinds of problem that no training contains"
    title = f"{metric} at the end of the sequence{kinds} ({write_counts(results, split)}; 95 % interval)"
    return [
        Table(
            title,
            ("method", *part),
            tuple((name, *(columns[column].get(name, MISSING) for column in part)) for name in names),
        )
        for part in split_evenly(list(columns), COLUMNS_ABREAST)
    ]


def split_evenly(names: Sequence[T], most: int) -> list[Sequence[T]]:
    """What is listed in as few parts as possible of at most ``most``, sizes as equal as can be."""
    parts = math.ceil(len(names) / most)
    size = math.ceil(len(names) / parts)
    return [names[start : start + size] for start in range(0, len(names), size)]


def build_controls_table(results: Results) -> Table | None:
    """Whether each trained method is above all controls, task by task; ``None`` where nothing was trained."""
    tasks, judged = list_task_names(results), results["above_controls"]
    verdicts = {(entry["method"], entry["task"]): entry["verdict"] for entry in judged}
    names = list(dict.fromkeys(entry["method"] for entry in judged))
    controls = list(dict.fromkeys(name for entry in judged for name in entry["against"]))
    rows = tuple((name, *(VERDICTS[verdicts[name, task]] for task in tasks)) for name in names)
    title = f"Above the controls ({', '.join(controls)}) in {results['headline_metric']}?"
    return Table(title, ("method", *tasks), rows) if rows else None


def build_differences(results: Results, key: str, *, detailed: bool = False) -> Table | None:
    """Which differences are real, from ``comparisons`` or ``control_comparisons``; ``None`` without any.

    ``detailed`` adds what a reader of the report wants and a terminal has no room for.
    """
    entries = results[key]
    if not entries:
        return None
    header = ("task", "first - second", "difference", "better", "detectable")
    more = ("adjusted p", "sign-flip p", "n", "seeds", "more examples", "more seeds")
    rows = tuple(
        (
            entry["task"],
            f"{entry['first']} - {entry['second']}",
            write_difference(entry),
            write_verdict(entry),
            write_number(entry.get("minimum_detectable_effect")),
            *(write_details(entry) if detailed else ()),
        )
        for entry in entries
    )
    kinds = {"comparisons": "between methods", "control_comparisons": "from the controls"}
    title = f"Differences {kinds[key]} in {results['headline_metric']}, paired, Holm-adjusted intervals"
    return Table(title, (*header, *more) if detailed else header, rows)


def write_difference(entry: Mapping[str, Any]) -> str:
    """A difference with its sign and adjusted interval."""
    if entry["verdict"] is None:
        return MISSING
    interval = entry["interval"]
    return f"{entry['difference']:+z.3f} [{interval['low']:+z.3f}, {interval['high']:+z.3f}]"


def write_verdict(entry: Mapping[str, Any]) -> str:
    """Who is better, or that it cannot be told."""
    verdict = entry["verdict"]
    if verdict is None:
        return "not compared"
    return str(entry[verdict]) if verdict in ("first", "second") else str(verdict)


def write_details(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Adjusted p, sign-flip p, n, seeds, and what more would tell the two apart."""
    if entry["verdict"] is None:
        return (MISSING,) * 6
    return (
        f"{entry['adjusted_p']:.4f}",
        MISSING if entry["sign_flip_p"] is None else f"{entry['sign_flip_p']:.4f}",
        write_count(entry["n"]),
        write_count(entry["seeds"]),
        write_count(entry["examples_needed"]),
        write_count(entry["seeds_needed"]),
    )


def build_cost_comparison(results: Results) -> Table:
    """What each method trains and takes."""
    header = ("method", "trained parameters", "share", "seconds/task", "component MiB", "swap ms")
    rows = tuple((method["name"], *write_costs(method)) for method in results["methods"])
    return Table("What each method costs", header, rows)


def list_contenders(results: Results) -> Iterator[tuple[str, Scores]]:
    """(name, final scores) of everything that answered: the base, the controls, the trained methods."""
    yield "base", group_cells(results["base"]["cells"])
    for control in results["controls"]:
        yield control["name"], group_cells(control["cells"])
    for method in list_trained(results):
        yield method["name"], method["final"]


def list_trained(results: Results) -> list[Mapping[str, Any]]:
    """The methods that train something; the method ``base`` is row 0 of every other."""
    return [method for method in results["methods"] if method["component"] is not None]


def group_cells(cells: Sequence[Mapping[str, Any]]) -> Scores:
    """The scores of cells by split, task and metric."""
    grouped: dict[str, dict[str, Any]] = {}
    for cell in cells:
        grouped.setdefault(cell["split"], {})[cell["task"]] = cell["scores"]
    return grouped


def find_score(scores: Scores, split: str, task: str, metric: str) -> Mapping[str, Any] | None:
    """One score, or ``None`` where there is none of that metric."""
    return scores.get(split, {}).get(task, {}).get(metric)


def find_noise(results: Results, task: str, split: str) -> float | None:
    """The largest difference in the headline metric between two evaluations of the same weights on a task."""
    floor = results["noise_floor"]
    sizes = [
        abs(difference)
        for entry in floor["entries"]
        if (entry["task"], entry["split"]) == (task, split)
        and (difference := entry["differences"].get(floor["metric"])) is not None
    ]
    return max(sizes, default=None)


def write_counts(results: Results, split: str) -> str:
    """``n = 300`` where the headline metric is over as many of every task, else per task; seeds."""
    headline = results["headline_metric"]
    counts = {
        cell["task"]: cell["scores"][headline]["n"]
        for cell in results["base"]["cells"]
        if cell["split"] == split
    }
    factors = {"order": len(results["orders"]), "seed": len(results["settings"]["seeds"])}
    means = [f"{count} {name}s" for name, count in factors.items() if count > 1]
    several = f", mean of {' and '.join(means)}" if means else ""
    if len(set(counts.values())) == 1:
        return f"n = {next(iter(counts.values()))}{several}"
    return ", ".join(f"{name} n = {count}" for name, count in counts.items()) + several


def list_task_names(results: Results) -> list[str]:
    """The tasks as the settings list them."""
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


def write_score(score: Mapping[str, Any] | None) -> str:
    """A value with its interval, as far as they are there."""
    if score is None or score["value"] is None:
        return MISSING
    return write_number(score["value"]) + write_interval(score["interval"])


def write_interval(interval: Mapping[str, Any] | None) -> str:
    """`` [low, high]``, or nothing."""
    return "" if interval is None else f" [{interval['low']:z.3f}, {interval['high']:z.3f}]"


def write_number(value: float | None) -> str:
    """Three decimals, never a negative zero, or that there is no number."""
    return MISSING if value is None else f"{value:z.3f}"


def write_count(value: float | None) -> str:
    """A whole number, or that there is none."""
    return MISSING if value is None else f"{math.ceil(value):,}"


def write_forgetting(method: Mapping[str, Any], metric: str) -> str:
    """F over all seeds with its interval, or that the schedule alone decides it."""
    found = method["continual"][metric]["forgetting"]
    if found["structural"]:
        return f"{write_number(found['value'])} (structural)"
    return write_score(found)


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


def list_matrix_tables(results: Results, method: Mapping[str, Any]) -> list[Table]:
    """R of a method in every order of the tasks that it walked: R of the others follows from the first."""
    check_version(results)
    orders = {entry["order"] for entry in method["seeds"] if entry["order"] == 0 or entry["trainings"]}
    return [build_matrix_table(results, method, order) for order in sorted(orders)]


def build_matrix_table(results: Results, method: Mapping[str, Any], order: int = 0) -> Table:
    """R of a method, controls below; over several seeds the mean of every entry with its range.

    ``structural`` entries follow from the schedule. Others belong to an older task: ``again`` ones were
    decoded again, ``same bytes`` ones taken over as base and component had the same bytes, and of ``canary``
    ones some answers were decoded again besides.
    """
    check_version(results)
    metric, tasks = results["headline_metric"], results["orders"][order]
    entries = [entry for entry in method["seeds"] if entry["order"] == order]
    rows = []
    for row in range(count_rows(entries[0]) + 1):
        label = "untouched base" if row == 0 else f"after {tasks[row - 1]}"
        found = [[find_cell(entry, row=row, task=task, split="test") for entry in entries] for task in tasks]
        rows.append((label, *(write_matrix_entry(cells, metric) for cells in found)))
    seeds = f"seed {entries[0]['seed']}" if len(entries) == 1 else f"{len(entries)} seeds"
    several = f", {' > '.join(tasks)}" if len(results["orders"]) > 1 else ""
    title = f"R of `{method['name']}`, {metric}, {seeds}{several}"
    return Table(title, ("", *tasks), (*rows, *build_control_rows(results, metric, tasks)))


def build_transfer_table(results: Results, method: Mapping[str, Any]) -> Table | None:
    """X of a method, controls below: every task's component on every task; ``None`` where not asked for."""
    metric, tasks = results["headline_metric"], results["orders"][0]
    entries = [
        list_transfer_cells(entry, tasks)
        for entry in method["seeds"]
        if entry["transfer"]["X"] and entry["order"] == 0
    ]
    if not entries:
        return None
    rows = []
    for row in range(len(tasks) + 1):
        label = "untouched base" if row == 0 else f"component of {tasks[row - 1]}"
        found = [[cells.get((row, task)) for cells in entries] for task in tasks]
        rows.append(
            (label, *(write_mean([pick_score(cell, metric) for cell in of_task]) for of_task in found))
        )
    title = f"X of `{method['name']}`, {metric}: a task's component on every task"
    return Table(title, ("", *tasks), (*rows, *build_control_rows(results, metric, tasks)))


def list_transfer_cells(
    entry: Mapping[str, Any], tasks: Sequence[str]
) -> dict[tuple[int, str], Mapping[str, Any]]:
    """(row, task) -> the cell of X: the base's, each component's on its own task, and on the others."""
    own = [cell for cell in entry["cells"] if cell["row"] == 0 or cell["task"] == tasks[cell["row"] - 1]]
    cells = [cell for cell in (*own, *entry["transfer"]["cells"]) if cell["split"] == "test"]
    return {(cell["row"], cell["task"]): cell for cell in cells}


def build_control_rows(results: Results, metric: str, tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """The controls as rows below a matrix of these columns."""
    return [
        (
            f"{name} (control)",
            *(write_score(find_score(scores, "test", task, metric)) for task in tasks),
        )
        for name, scores in list_contenders(results)
        if name in {control["name"] for control in results["controls"]}
    ]


def pick_score(cell: Mapping[str, Any] | None, metric: str) -> Mapping[str, Any] | None:
    """The score of a metric in a cell that may not be there."""
    return None if cell is None else cell["scores"].get(metric)


def write_matrix_entry(cells: Sequence[Mapping[str, Any] | None], metric: str) -> str:
    """One entry of R over all seeds, with how it came about."""
    text = write_mean([pick_score(cell, metric) for cell in cells])
    present = [cell for cell in cells if cell is not None]
    if text == MISSING or not present:
        return MISSING
    origins = {cell["origin"] for cell in present}
    mark = ORIGIN_MARKS.get(next(iter(origins))) if len(origins) == 1 else None
    if mark is None:
        return text
    looked = [cell["identical_predictions"] for cell in present if cell["decoded_again"]]
    return f"{text} ({mark}{', same' if looked and all(looked) else ', DIFFERENT' if looked else ''})"


def write_mean(scores: Sequence[Mapping[str, Any] | None]) -> str:
    """One score with its interval, or the mean of several with their range; missing where one is."""
    values = [None if score is None else score["value"] for score in scores]
    if len(scores) == 1:
        return write_score(scores[0])
    measured = [value for value in values if value is not None]
    if len(measured) < len(values) or not measured:
        return MISSING
    return f"{sum(measured) / len(measured):z.3f} ({min(measured):z.3f} to {max(measured):z.3f})"
