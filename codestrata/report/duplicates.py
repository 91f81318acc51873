"""Duplicates and leaks among the records of the tasks: how many were left out, and the first of them.

What this does not do: quote them (``experimental_results.json`` does), or look for any.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from codestrata.report.tables import MISSING, Results, Table

EXCLUDED = "excluded:"
WHERE = {
    "repeats of its own split": lambda pair: pair.startswith("within "),
    "validation or training in test": lambda pair: pair.endswith("-test"),
    "training in validation": lambda pair: pair == "train-validation",
    "in excluded sets": lambda pair: EXCLUDED in pair,
}
"""Column -> whether a pair of places counts there."""


def list_duplicate_tables(results: Results) -> list[Table]:
    """How many records were left out per task, ten examples of each, and what tasks share; or nothing."""
    tasks = [task for task in results["tasks"] if task["duplicates"] is not None]
    shared = list_shared_tables(results)
    if not tasks:
        return shared
    header = ("task", "near from Jaccard", "records looked at", *WHERE)
    counts = Table("Duplicates and leaks left out: equal + near", header, tuple(map(build_count_row, tasks)))
    examples = [
        Table(
            f"Duplicates and leaks of {task['name']}, first ones",
            ("places", "the record", "repeats", "in", "Jaccard", "left out"),
            tuple(map(build_example_row, task["duplicates"]["examples"])),
        )
        for task in tasks
        if task["duplicates"]["examples"]
    ]
    return [counts, *examples, *shared]


def list_shared_tables(results: Results) -> list[Table]:
    """Tests of one task that another is trained on; nothing where there are none."""
    header = ("trained", "tested", "tests", "equal", "near", "near from Jaccard", "such as")
    rows = tuple(
        (
            row["trained"],
            row["tested"],
            f"{row['tests']:,}",
            f"{row['exact']:,}",
            f"{row['near']:,}",
            f"{row['threshold']:g}",
            ", ".join(show_name(example["test"]) for example in row["examples"]),
        )
        for row in results["shared_examples"]
    )
    return [Table("Tests that another task is trained on, not left out", header, rows)] if rows else []


def build_count_row(task: Mapping[str, Any]) -> tuple[str, ...]:
    """A task's counts."""
    found = task["duplicates"]
    threshold = MISSING if found["method"] is None else f"{choose_threshold(found):g}"
    cells = (count_pairs(found["removed"], belongs) for belongs in WHERE.values())
    return (task["name"], threshold, f"{sum(found['looked_at'].values()):,}", *cells)


def choose_threshold(found: Mapping[str, Any]) -> float:
    """From which similarity on records are near duplicates, be it of excluded sets alone."""
    threshold = found["threshold"] if found["threshold"] < 1 else found["excluded_threshold"]
    return float(threshold)


def count_pairs(counts: Mapping[str, Any], belongs: Any) -> str:
    """``equal + near`` of the pairs that belong to a column; a dash where near ones were not looked for."""
    exact, near = (
        [count for pair, count in (counts[kind] or {}).items() if belongs(pair)] for kind in ("exact", "near")
    )
    is_missing = counts["near"] is None or (bool(exact) and not near)
    return f"{sum(exact):,} + {MISSING if is_missing else f'{sum(near):,}'}"


def build_example_row(example: Mapping[str, Any]) -> tuple[str, ...]:
    """One record and the one that it repeats."""
    jaccard = example["jaccard"]
    return (
        show_name(example["pair"]),
        show_name(example["identifier"]),
        show_name(example["repeats"]),
        example["same"],
        MISSING if jaccard is None else f"{jaccard:.3f}",
        "yes" if example["removed"] else "no, as allow_overlap permits",
    )


def show_name(name: str) -> str:
    """A name out of someone's data as code in one line, so that nothing in it is taken for Markdown."""
    plain = "".join(letter if letter.isprintable() else " " for letter in name)
    return f"`{plain.replace('`', chr(39))}`"


def explain_duplicates(results: Results) -> Iterator[str]:
    """What counts as a near duplicate, how surely one is found, and what was kept."""
    for task in results["tasks"]:
        found = task["duplicates"]
        if found is None:
            continue
        method = found["method"]
        if method is None:
            yield f"{task['name']}: {found['near_reason']}."
        else:
            alone = "" if found["threshold"] < 1 else " of excluded sets, and of these alone,"
            yield (
                f"{task['name']}: near duplicates{alone} share at least {choose_threshold(found):g} of their "
                f"sets of {method['tokens_per_shingle']} tokens in a row (Jaccard); {method['name']} "
                f"({method['library']}, {method['permutations']} hash functions in {method['bands']} bands "
                f"of {method['rows']}); of pairs right at the threshold "
                f"{100 * method['recall_at_threshold']:.1f} % are expected to be found, of more similar ones "
                "more, of equal ones all."
            )
        kept = sum(sum((found["kept"][kind] or {}).values()) for kind in ("exact", "near"))
        if kept:
            yield (
                f"{task['name']}: {kept} records of training or validation repeat a test and were kept, as "
                "`allow_overlap` permits: its scores say little about unseen data."
            )
    if results["shared_examples"]:
        yield (
            "Tests that another task is trained on make transfer between the two look better than it is; "
            "`tasks.exclude` of the one trained names the data of the other, which then is not trained on."
        )
