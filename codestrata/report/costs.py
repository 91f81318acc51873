"""What every training cost, as a table, how it was computed, and where its memory was read from.

What this does not do: sum a method's costs up (``tables.build_cost_comparison`` does).
"""

from collections.abc import Iterator, Sequence

from codestrata.report.tables import MISSING, Results, Table

HEADER = (
    "method",
    "seed",
    "task",
    "steps",
    "seconds",
    "examples/s",
    "tokens/s",
    "padding",
    "final loss",
    "peak MiB",
)


def build_cost_table(results: Results) -> Table:
    """Every training: time, speed, memory, loss."""
    rows = tuple(
        (
            method["name"],
            name_seed(results, entry),
            training["task"],
            str(training["steps"]),
            f"{training['seconds']:.1f}",
            f"{training['examples_per_second']:.1f}",
            f"{training['tokens_per_second']:.0f}",
            f"{100 * training['padding']:.1f} %",
            f"{training['final_loss']:.3f}",
            MISSING if training["peak_memory_mib"] is None else f"{training['peak_memory_mib']:.0f}",
        )
        for method, entry, training in list_trainings(results)
    )
    return Table("What training cost", HEADER, rows)


def list_trainings(results: Results) -> Iterator[tuple[Results, Results, Results]]:
    """Every (method, its seed, a training)."""
    for method in results["methods"]:
        for entry in method["seeds"]:
            for training in entry["trainings"]:
                yield method, entry, training


def name_seed(results: Results, entry: Results) -> str:
    """A walk's seed, with the order of its tasks where the run has several."""
    several = len(results["orders"]) > 1
    return f"{entry['seed']}{', ' + ' > '.join(results['orders'][entry['order']]) if several else ''}"


def list_memory_counters(results: Results) -> list[str]:
    """The counters that peak memory was read from."""
    return sorted({training["memory_counter"] for _, _, training in list_trainings(results)})


def describe_engine(results: Results) -> list[str]:
    """Sentences on how trainings were computed: number format, dropout, and what was kept of frozen parts."""
    trainings = list(list_trainings(results))
    if not trainings:
        return []
    formats = sorted({training["precision"] for _, _, training in trainings})
    dropout = sorted({"on" if training["base_dropout"] else "off" for _, _, training in trainings})
    found = [
        f"Matrix products of training in {' and '.join(formats)}; dropout of the frozen base "
        f"{' and '.join(dropout)}; C library: {results['environment']['allocator']}."
    ]
    for name, uses in group_states(trainings).items():
        kept, examples = sum(use["kept"] for use in uses), sum(use["examples"] for use in uses)
        computed, seconds = sum(use["computed"] for use in uses), sum(use["seconds"] for use in uses)
        reasons = sorted({use["reason"] for use in uses} - {None})
        found.append(
            f"{name}: states of the frozen part were read from disk for {kept} of {examples} examples "
            f"({computed} computed in these trainings, {seconds:.1f} s)"
            f"{': ' + '; '.join(reasons) if reasons else ''}."
        )
    return found


def group_states(trainings: Sequence[tuple[Results, Results, Results]]) -> dict[str, list[Results]]:
    """Method -> what became of the states of its frozen part, training by training; no entry without one."""
    groups: dict[str, list[Results]] = {}
    for method, _, training in trainings:
        if training["states"] is not None:
            groups.setdefault(method["name"], []).append(training["states"])
    return groups
