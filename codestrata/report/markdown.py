"""``results_analysis.md``: the findings and tables of a run, written from its results alone.

What this does not do: compare runs, or claim a difference between methods that has not been tested.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from codestrata.report.tables import (
    Results,
    Table,
    build_cost_table,
    build_matrix_table,
    build_metrics_table,
    count_rows,
    find_cell,
    list_summary_tables,
    list_task_names,
    write_final,
)


def render_analysis(results: Results) -> str:
    """The whole document."""
    sections = [
        f"# Run `{results['run']}`",
        describe_setup(results),
        "## Findings",
        "\n".join(f"- {sentence}" for sentence in write_findings(results)),
        "## Comparison",
        *(render_table(table) for table in list_summary_tables(results)),
        "Forgetting is F = mean over earlier tasks of (best score since its own training - final score), in "
        "the metric's unit. *structural* marks what the schedule alone decides: with a component per task, "
        "training a later task cannot touch an earlier one. Such cells are proven, not found.",
        *list_missing_forgetting(results),
        "## R, task by task",
        *(render_table(build_matrix_table(results, method)) for method in results["methods"]),
        "## Metrics",
        *(
            render_table(table)
            for split in ("test", "unseen")
            if (table := build_metrics_table(results, split))
        ),
        "\n".join(f"- **{name}**: {text}" for name, text in list_metric_notes(results)),
        "## Cost",
        render_table(build_cost_table(results)),
        f"Peak memory counter: {', '.join(list_memory_counters(results)) or 'none, nothing was trained'}.",
        "## Data",
        *describe_data(results),
        "## Reproduce",
        "`codestrata run settings.toml`, with the file beside this one, on the same machine and thread count "
        f"repeats every prediction. Settings fingerprint `{results['settings_fingerprint']}`.",
        describe_environment(results["environment"]),
    ]
    return "\n\n".join(sections) + "\n"


def describe_setup(results: Results) -> str:
    """What was compared, in one paragraph."""
    base, seeds = results["base"], results["settings"]["seeds"]
    return (
        f"Frozen base `{base['name']}` ({base['parameters']:,} parameters, fingerprint "
        f"`{base['fingerprint'][:16]}`); "
        f"tasks in order: {', '.join(list_task_names(results))}; methods: "
        f"{', '.join(method['name'] for method in results['methods'])}; "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}. Scores are in [0, 1], higher is better; "
        f"total time {results['seconds']['total']:.0f} s."
    )


def write_findings(results: Results) -> Iterator[str]:
    """One sentence per fact, each read from the results."""
    metric, tasks = results["headline_metric"], list_task_names(results)
    for method in results["methods"]:
        reached = "; ".join(f"{task} {write_final(method, task, 'test', metric)}" for task in tasks)
        yield f"`{method['name']}` ends at {metric}: {reached}."
        yield from write_forgetting_findings(method, tasks, metric)
    yield from write_isolation_findings(results)
    yield from write_cut_findings(results)
    yield (
        "Differences between methods are not tested here: intervals are over examples"
        f"{', for this seed only' if len(results['settings']['seeds']) == 1 else ''}."
    )


def write_forgetting_findings(method: Mapping[str, Any], tasks: list[str], metric: str) -> Iterator[str]:
    """What a method that shares its component lost on the first task."""
    if method["schedule"] == "isolated" or len(tasks) < 2:
        return
    for entry in method["seeds"]:
        learned = find_cell(entry, row=1, task=tasks[0], split="test")
        final = find_cell(entry, row=count_rows(entry), task=tasks[0], split="test")
        if (
            learned
            and final
            and None not in (values := [c["scores"][metric]["value"] for c in (learned, final)])
        ):
            yield (
                f"`{method['name']}` (seed {entry['seed']}) had {values[0]:.3f} on {tasks[0]} after learning "
                f"it, and {values[1]:.3f} after {tasks[-1]}."
            )


def write_isolation_findings(results: Results) -> Iterator[str]:
    """How often old tasks were decoded again and the base was hashed, and what came out."""
    entries = [entry for method in results["methods"] for entry in method["seeds"]]
    cells = [cell for entry in entries for cell in entry["cells"] if cell["origin"] == "rechecked"]
    same = sum(cell["identical_predictions"] for cell in cells)
    if cells:
        yield (
            f"Isolation: {len(cells)} cells of older tasks were decoded again after later training; "
            f"{same} gave the same predictions to the last character."
        )
    trainings = [training for entry in entries for training in entry["trainings"]]
    kept = sum(t["base_fingerprint_before"] == t["base_fingerprint_after"] for t in trainings)
    if trainings:
        yield f"The frozen base kept its fingerprint in {kept} of {len(trainings)} trainings."


def write_cut_findings(results: Results) -> Iterator[str]:
    """How many completions at the end of the sequence the length limit cut, where it cut any."""
    for method in results["methods"]:
        last = [
            cell for entry in method["seeds"] for cell in entry["cells"] if cell["row"] == count_rows(entry)
        ]
        cut = sum(cell["unfinished"] for cell in last)
        if cut:
            yield f"`{method['name']}`: the length limit cut {cut} of its completions at the end."


def list_metric_notes(results: Results) -> Iterator[tuple[str, str]]:
    """Each metric's definition, the implementation used, and why it or a part of it is missing."""
    for name, text in results["metrics"].items():
        scores = [cell["scores"][name] for cell in results["base"]["cells"]]
        variants = {score["variant"] for score in scores if score["variant"]}
        reasons = {
            score["reason"] if score["value"] is not None else f"not computed: {score['reason']}"
            for score in scores
            if score["reason"]
        }
        yield name, "; ".join([text, *sorted(variants), *sorted(reasons)])


def list_missing_forgetting(results: Results) -> list[str]:
    """Why forgetting is missing from the comparison, where it is."""
    metric = results["headline_metric"]
    found = [
        entry["continual"][metric]["forgetting"] for method in results["methods"] for entry in method["seeds"]
    ]
    reasons = sorted({value["reason"] for value in found if value["value"] is None})
    return [f"Forgetting was not computed: {reason}" for reason in reasons]


def list_memory_counters(results: Results) -> list[str]:
    """The counters that peak memory was read from."""
    return sorted(
        {
            training["memory_counter"]
            for method in results["methods"]
            for entry in method["seeds"]
            for training in entry["trainings"]
        }
    )


def describe_data(results: Results) -> Iterator[str]:
    """A line per task: sizes, objectives, what was dropped and cut."""
    for task in results["tasks"]:
        counts = ", ".join(f"{count} {split}" for split, count in task["examples"].items())
        dropped = "; ".join(f"{count} {reason}" for reason, count in task["dropped"].items()) or "none"
        cut = task["truncated"]
        notes = "".join(f"; {note}" for note in task["notes"])
        yield (
            f"**{task['name']}** ({task['language']}): {counts}; trained on `{task['objective']}`, evaluated "
            f"on `{task['evaluation_objective']}`; dropped: {dropped}; cut to the limit: "
            f"{cut['train_prompts']} training prompts, {cut['train_targets']} targets, "
            f"{cut['test_prompts']} evaluation prompts; "
            f"fingerprint `{task['fingerprint'][:16]}`{notes}."
        )


def describe_environment(environment: Mapping[str, Any]) -> str:
    """The machine and versions in a paragraph."""
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items() if version)
    return (
        f"{environment['device_name']} ({environment['device']}), {environment['cpu_count']} cores, "
        f"{environment['threads']} threads; {environment['platform']}; Python {environment['python']}; "
        f"{packages}."
    )


def render_table(table: Table) -> str:
    """A table in GitHub's Markdown, its title above."""
    lines = [f"**{table.title}**", "", render_row(table.header), render_row(("---",) * len(table.header))]
    return "\n".join([*lines, *(render_row(row) for row in table.rows)])


def render_row(cells: tuple[str, ...]) -> str:
    """One line of a table; ``|`` inside a cell is escaped."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
