"""What routers chose, as tables: accuracy, confusion, and R under routing beside R with the task's label.

What this does not do: compute any of it (``results.routing`` does).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codestrata.report.tables import MISSING, Results, Table, list_task_names, write_interval, write_number

Entry = Mapping[str, Any]


def list_routing_tables(results: Results) -> list[Table]:
    """Accuracy, confusion and both R of every routed method; empty where there is none."""
    return [
        table
        for method in list_routed(results)
        for table in (
            build_accuracy_table(method),
            build_confusion_table(method, list_task_names(results)),
            build_label_table(results, method),
        )
    ]


def list_routed(results: Results) -> list[Entry]:
    """The methods that pick components from prompts."""
    return [method for method in results["methods"] if method["selection"] == "routed"]


def list_walks(method: Entry) -> list[Entry]:
    """The method's walks in the first order of the tasks."""
    return [entry for entry in method["seeds"] if not entry.get("order", 0)]


def build_accuracy_table(method: Entry) -> Table:
    """How often each router picks right in the last row; over several seeds the mean with its range."""
    walks = [entry["routing"] for entry in list_walks(method)]
    chosen = walks[0]["by"]
    rows = []
    for name in walks[0]["routers"]:
        routers = [walk["routers"][name] for walk in walks]
        rows.append(
            (
                f"{name} (fills R)" if name == chosen else name,
                write_accuracies([router["accuracy"] for router in routers]),
                str(sum(router["abstained"] for router in routers)),
                str(sum(router["accuracy"]["n"] for router in routers)),
            )
        )
    threshold = walks[0]["threshold"]
    limit = "no threshold" if threshold is None else f"threshold {threshold:g}"
    title = f"How often `{method['name']}` picks the task's own component ({limit}; 95 % interval)"
    return Table(title, ("router", "accuracy", "abstained", "prompts"), tuple(rows))


def write_accuracies(accuracies: Sequence[Entry]) -> str:
    """One accuracy with its interval, or the mean of several with their range."""
    values = [entry["value"] for entry in accuracies if entry["value"] is not None]
    if not values:
        return MISSING
    if len(accuracies) == 1:
        return write_number(values[0]) + write_interval(accuracies[0]["interval"])
    return f"{sum(values) / len(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def build_confusion_table(method: Entry, tasks: Sequence[str]) -> Table:
    """Whom the router that fills R picked for each task's test prompts, in the last row, over all seeds."""
    walks = [entry["routing"] for entry in list_walks(method)]
    counts = {task: dict.fromkeys((*tasks, None), 0) for task in tasks}
    for walk in walks:
        for task, row in zip(walk["tasks"], walk["routers"][walk["by"]]["confusion"], strict=True):
            for name, count in zip((*walk["tasks"], None), row, strict=True):
                counts[task][name] += count
    seeds = f", {len(walks)} seeds together" if len(walks) > 1 else ""
    title = f"Whom `{method['name']}` picked, by {walks[0]['by']}: prompts of a task in a row{seeds}"
    header = ("prompts of", *(f"component {task}" for task in tasks), "base (abstained)")
    return Table(title, header, tuple((task, *map(str, counts[task].values())) for task in tasks))


def build_label_table(results: Results, method: Entry) -> Table:
    """R under routing, and in brackets R of the same components picked by the task's label."""
    metric, tasks = results["headline_metric"], results["orders"][0]
    walks = list_walks(method)
    own = [entry["R"]["test"][metric] for entry in walks]
    oracle = [entry["routing"]["oracle"]["R"]["test"][metric] for entry in walks]
    rows = tuple(
        (
            "untouched base" if row == 0 else f"after {tasks[row - 1]}",
            *(
                f"{write_mean([r[row][place] for r in own])} ({write_mean([r[row][place] for r in oracle])})"
                for place in range(len(tasks))
            ),
        )
        for row in range(len(tasks) + 1)
    )
    title = f"R of `{method['name']}`, {metric}: routed (with the task's label)"
    return Table(title, ("", *tasks), rows)


def write_mean(values: Sequence[float | None]) -> str:
    """The mean of what every seed reached; missing where one has no value."""
    known = [value for value in values if value is not None]
    return write_number(sum(known) / len(known)) if known and len(known) == len(values) else MISSING


def explain_routing(results: Results) -> Iterator[str]:
    """What the tables mean, and which components are another method's."""
    if list_routed(results):
        yield (
            "Routers see the prompt alone. In row t they know tasks 1 to t, so that prompts of later tasks "
            "go to a component of another task. Under a threshold the untouched base answers. What routing "
            "costs is the difference to the same components picked by the task's label; forgetting under "
            "routing is measured, as a new task's component can draw prompts away from an older one."
        )
        yield from explain_prefixes(results)
    for method in results["methods"]:
        sources = sorted(
            {
                training["taken_over_from"].split("/")[1]
                for entry in method["seeds"]
                for training in entry["trainings"]
                if training["taken_over_from"]
            }
        )
        if sources:
            yield (
                f"The components of `{method['name']}` were not trained for it: they are those of "
                f"{', '.join(f'`{name}`' for name in sources)}, byte for byte, and so are their costs."
            )


def explain_prefixes(results: Results) -> Iterator[str]:
    """That a router can read the task off the prompts, where a task's all begin as no other task's do."""
    prefixes = {task["name"]: task.get("prompt_prefix") for task in results["tasks"]}
    named = {
        task: prefix
        for task, prefix in prefixes.items()
        if prefix and list(prefixes.values()).count(prefix) == 1
    }
    if len(prefixes) > 1 and named:
        begin = ", ".join(f"those of `{task}` with `{prefix.rstrip()}`" for task, prefix in named.items())
        yield (
            f"The prompts name their task: all of a task begin alike, {begin}. That is enough for a router "
            "to go by, so its accuracy does not say whether it could tell the tasks apart by what is asked."
        )
