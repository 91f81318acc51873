"""``results_analysis.md``: the findings and tables of a run, written from its results alone.

What this does not do: compare runs, or claim a difference between methods that has not been tested.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from codestrata.report.costs import build_cost_table, describe_engine, list_memory_counters
from codestrata.report.definitions import build_metrics_tables, list_definitions
from codestrata.report.duplicates import explain_duplicates, list_duplicate_tables, show_name
from codestrata.report.efficiency import explain_efficiency, list_efficiency_tables
from codestrata.report.fairness import explain_fairness, list_fair_tables
from codestrata.report.findings import Finding, list_chapters
from codestrata.report.orders import explain_orders, list_order_tables
from codestrata.report.published import (
    build_published_table,
    build_verdicts_table,
    describe_published,
    list_published_findings,
)
from codestrata.report.references import build_references_table, explain_references
from codestrata.report.repetition import explain_repetition, list_repetition_tables
from codestrata.report.routing import explain_routing, list_routing_tables
from codestrata.report.tables import (
    Results,
    Table,
    build_cost_comparison,
    build_differences,
    build_transfer_table,
    check_version,
    keep,
    list_matrix_tables,
    list_score_tables,
    list_trained,
)
from codestrata.report.validations import build_validation_table, explain_validation


def render_analysis(results: Results) -> str:
    """The whole document.

    Raises: RunError: results of another schema.
    """
    check_version(results)
    sections = [
        f"# Run `{results['run']}`",
        describe_setup(results),
        "## Findings",
        "Every sentence is generated from the entry of `experimental_results.json` that its pointer names.",
        *write_findings(results),
        *write_published(results),
        "## Comparison",
        *(render_table(table) for table in list_score_tables(results)),
        *explain_comparison(results),
        *write_references(results),
        "## Differences",
        *write_differences(results),
        *write_orders(results),
        *write_sample_efficiency(results),
        "## R, task by task",
        *(
            render_table(table)
            for method in results["methods"]
            for table in list_matrix_tables(results, method)
        ),
        *write_transfer(results),
        *write_routing(results),
        "## Metrics",
        *(
            render_table(table)
            for split in ("test", "unseen")
            for table in build_metrics_tables(results, split)
        ),
        "\n".join(f"- **{name}**: {text}" for name, text in list_definitions(results)),
        "## What confined generated programs",
        "\n".join(describe_execution(results)),
        *write_repetition(results),
        *write_validation(results),
        *write_fairness(results),
        "## Cost",
        render_table(build_cost_comparison(results)),
        render_table(build_cost_table(results)),
        f"Peak memory counter: {', '.join(list_memory_counters(results)) or 'none, nothing was trained'}.",
        *describe_engine(results),
        "## Data",
        *describe_data(results),
        *write_duplicates(results),
        "## Reproduce",
        "`codestrata run settings.toml`, with the file beside this one, on the same machine and thread count "
        "repeats every prediction; `codestrata score` computes every number again from the stored ones. "
        f"Settings fingerprint `{results['settings_fingerprint']}`.",
        describe_environment(results["environment"]),
    ]
    return "\n\n".join(sections) + "\n"


def describe_setup(results: Results) -> str:
    """What was compared, in one paragraph."""
    base, seeds = results["base"], results["settings"]["seeds"]
    resumed = f", in {results['sessions']} sessions" if results["sessions"] > 1 else ""
    return (
        f"Frozen base `{base['name']}` ({base['parameters']:,} parameters, fingerprint "
        f"`{base['fingerprint'][:16]}`); "
        f"{describe_orders(results)}; methods: "
        f"{', '.join(method['name'] for method in results['methods'])}; "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}. Scores are in [0, 1], higher is better; "
        "intervals are 95 %, those of differences Holm-adjusted; "
        f"total time {results['seconds']['total']:.0f} s{resumed}.{describe_extension(results)}"
    )


def describe_extension(results: Results) -> str:
    """Which run this one extends, as a sentence after others; nothing where it extends none."""
    before = results["extended_from"]
    if before is None:
        return ""
    return (
        f" The run extends run `{before['run']}` (SHA-256 of its results "
        f"`{before['results_sha256'][:16]}`): "
        f"{before['trainings']} trainings and {before['predictions']} predictions on "
        f"{', '.join(before['tasks'])} were taken over, which had taken {before['seconds']:.0f} s; "
        f"{before['files']} files of components are the same, byte for byte."
    )


def describe_orders(results: Results) -> str:
    """The tasks in their order, or all of their orders."""
    orders = [", ".join(order) for order in results["orders"]]
    return (
        f"tasks in order: {orders[0]}"
        if len(orders) == 1
        else f"tasks in {len(orders)} orders, from {orders[0]}"
    )


def write_orders(results: Results) -> Iterator[str]:
    """What the order of the tasks does, where there are several."""
    tables = list_order_tables(results)
    if tables:
        yield "## Orders of the tasks"
        yield from map(render_table, tables)
        yield from explain_orders(results)


def write_sample_efficiency(results: Results) -> Iterator[str]:
    """What parts of the training examples reach, where that was asked for."""
    if results["sample_efficiency"] is not None:
        yield "## How much data does it need"
        yield from map(render_table, list_efficiency_tables(results))
        yield from explain_efficiency(results)


def write_findings(results: Results) -> Iterator[str]:
    """The findings under their headings."""
    for chapter in list_chapters(results):
        yield f"### {chapter.heading}"
        yield "\n".join(map(render_finding, chapter.findings))


def render_finding(finding: Finding) -> str:
    """A sentence with the place that it is generated from."""
    return f"- {finding.text} (`{finding.pointer}`)"


def write_published(results: Results) -> Iterator[str]:
    """The founding experiment's findings, for a run of its preset."""
    if results["founding"] is None:
        return
    yield "## The published findings"
    yield describe_published(results)
    yield render_table(build_published_table(results))
    yield "\n".join(map(render_finding, list_published_findings(results)))
    yield render_table(build_verdicts_table(results))


def write_fairness(results: Results) -> Iterator[str]:
    """What was solved and tried so that methods can be compared, for a run that asked for it."""
    if results["fair"] is not None:
        yield "## How the methods were made comparable"
        yield from map(render_table, list_fair_tables(results))
        yield from explain_fairness(results)


def write_repetition(results: Results) -> Iterator[str]:
    """What is repeated of the training text, for a run that trained anything and looked."""
    if results["repetition"]["tokens"] is not None and list_trained(results):
        yield "## Training text repeated word for word"
        yield from map(render_table, list_repetition_tables(results))
        yield from explain_repetition(results)


def write_validation(results: Results) -> Iterator[str]:
    """What validation said and decided, for a run that has any."""
    table = build_validation_table(results)
    if table is not None:
        yield "## Validation"
        yield explain_validation(results)
        yield render_table(table)


def explain_comparison(results: Results) -> Iterator[str]:
    """What the rows and columns of the comparison mean."""
    controls = "; ".join(f"`{control['name']}`: {control['about']}" for control in results["controls"])
    yield (
        f"Controls need no learning: `base` is the untouched base; {controls}. *noise floor* is the largest "
        "difference between two evaluations of the same weights under this run's decoding settings. "
        "*detectable* is the smallest difference that such a comparison finds four times out of five."
    )
    yield (
        "Forgetting is F = mean over earlier tasks of (best score since its own training - final score), in "
        "the metric's unit. *structural* marks what the schedule alone decides: with a component per task, "
        "training a later task cannot touch an earlier one. Such cells are proven, not found. In R, *again* "
        "marks an older task's cell that was decoded again, and *same bytes* one that was taken over, as "
        "base and component had the fingerprints with which it was decoded; of *canary* ones some answers "
        "were decoded again besides. *same* and *DIFFERENT* say what came out."
    )
    metric = results["headline_metric"]
    found = [method["continual"][metric]["forgetting"] for method in results["methods"]]
    for reason in sorted({value["reason"] for value in found if value["value"] is None}):
        yield f"Forgetting was not computed: {reason}"


def write_references(results: Results) -> Iterator[str]:
    """How far the methods stay behind joint training and experts, where the run holds such."""
    table = build_references_table(results)
    if table is not None:
        yield render_table(table)
        yield from explain_references(results)


def write_differences(results: Results) -> Iterator[str]:
    """All tested differences: between methods, and from the controls."""
    keys = ("comparisons", "control_comparisons")
    tables = [table for key in keys for table in keep(build_differences(results, key, detailed=True))]
    if not tables:
        yield "Nothing was trained, so there is no difference to test."
        return
    yield from map(render_table, tables)
    yield (
        "*better* is what the Holm-adjusted paired interval says; the two tables are two families. The "
        "sign-flip p over seeds is exact and for information only: with 5 seeds it cannot go under 0.0625. "
        "*more examples* and *more seeds* are about how many more would tell the two apart, at the "
        "difference found."
    )
    yield from map(render_note, list_difference_notes(results))


def list_difference_notes(results: Results) -> list[str]:
    """Why a pair was not compared, or a number beside a difference is missing; every reason once."""
    entries = [*results["comparisons"], *results["control_comparisons"]]
    keys = ("reason", "minimum_detectable_effect_reason", "examples_needed_reason", "seeds_needed_reason")
    return sorted({entry[key] for entry in entries for key in keys if entry.get(key)})


def render_note(text: str) -> str:
    """A remark in a paragraph of its own."""
    return f"Note: {text.rstrip('.')}."


def write_routing(results: Results) -> Iterator[str]:
    """What routers chose and what was taken over, where a method does without the task's label."""
    tables, texts = list_routing_tables(results), list(explain_routing(results))
    if tables or texts:
        yield "## Without a task label"
    yield from map(render_table, tables)
    yield from texts


def write_transfer(results: Results) -> Iterator[str]:
    """X of every method that has one, or why none has."""
    tables = [table for method in results["methods"] for table in keep(build_transfer_table(results, method))]
    yield "## X, every component on every task"
    yield from map(render_table, tables)
    reasons: dict[str, list[str]] = {}
    for method in results["methods"]:
        reason = method["seeds"][0]["transfer"]["reason"]
        if reason and method["component"] is not None:
            reasons.setdefault(reason, []).append(f"`{method['name']}`")
    yield from (f"No X for {', '.join(names)}: {reason}." for reason, names in reasons.items())
    if not tables and not reasons:
        yield "Nothing was trained."


def describe_execution(results: Results) -> Iterator[str]:
    """A line per language: what ran its programs, and why nothing stronger did."""
    for language, isolation in results["execution"].items():
        rung = isolation["rung"]
        chosen = f"not run: {isolation['reason']}" if rung is None else f"`{rung}`, {isolation['runtime']}"
        refused = "; ".join(f"`{name}` refused: {reason}" for name, reason in isolation["refused"].items())
        yield f"- **{language}**: {chosen}{'; ' + refused if refused else ''}."


def describe_data(results: Results) -> Iterator[str]:
    """A line per task: sizes, objectives, what was dropped and cut."""
    for task in results["tasks"]:
        counts = ", ".join(f"{count} {split}" for split, count in task["examples"].items())
        dropped = "; ".join(f"{count} {show_name(why)}" for why, count in task["dropped"].items()) or "none"
        cut = task["truncated"]
        notes = "".join(f"; {show_name(note)}" for note in task["notes"])
        yield (
            f"**{task['name']}** ({task['language']}): {counts}; trained on `{task['objective']}`, evaluated "
            f"on `{task['evaluation_objective']}`; dropped: {dropped}; cut to the limit: "
            f"{cut['train_prompts']} training prompts, {cut['train_targets']} targets, "
            f"{cut['test_prompts']} evaluation prompts; "
            f"fingerprint `{task['fingerprint'][:16]}`{notes}."
        )


def write_duplicates(results: Results) -> Iterator[str]:
    """The duplicates and leaks that were looked for; nothing where all tasks are generated and share none."""
    tables = list_duplicate_tables(results)
    if tables:
        yield "## Duplicates and leaks"
        yield from map(render_table, tables)
        yield from explain_duplicates(results)


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
