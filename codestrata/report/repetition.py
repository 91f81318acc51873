"""Which share of a run's answers repeats training text word for word, as tables with what they mean.

What this does not do: show the texts; ``predictions.jsonl`` marks them with ``repeats``.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codestrata.report.tables import MISSING, Results, Table, list_trained, write_interval, write_number

Entry = Mapping[str, Any]

TITLES = {"test": "", "unseen": ", kinds of problem that no training contains"}


def list_repetition_tables(results: Results) -> list[Table]:
    """What each method repeats of its training text, a table per split; none where no answer is long."""
    if not any(entry["outputs"]["long"] for entry in list_looked_at(results)):
        return []
    tables = (build_repetition_table(results, split) for split in TITLES)
    return [table for table in tables if table.rows]


def list_looked_at(results: Results) -> list[Entry]:
    """The entries of trained methods in the first order of the tasks: of each seed, task and split."""
    trained = {method["name"] for method in list_trained(results)}
    entries = results["repetition"]["entries"]
    return [entry for entry in entries if entry["method"] in trained and entry["order"] == 0]


def build_repetition_table(results: Results, split: str) -> Table:
    """A row for every trained method and task; the seeds of one are counted together."""
    rows: dict[tuple[str, str], list[Entry]] = {}
    for entry in list_looked_at(results):
        if entry["split"] == split:
            rows.setdefault((entry["method"], entry["task"]), []).append(entry)
    tokens = results["repetition"]["tokens"]
    title = f"Answers that repeat {tokens} tokens of training text{TITLES[split]} (95 % interval)"
    header = ("method", "task", "answers", f"of {tokens} tokens or more", "repeating", "share", "targets")
    return Table(title, header, tuple((*place, *describe_row(entries)) for place, entries in rows.items()))


def describe_row(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Counts over all entries, and the share of answers and of targets."""
    outputs = [entry["outputs"] for entry in entries]
    counts = tuple(str(sum(found[key] for found in outputs)) for key in ("n", "long", "repeating"))
    targets = [entry["targets"] for entry in entries]
    return *counts, write_shares(outputs), write_shares(targets, with_interval=False)


def write_shares(entries: Sequence[Entry], *, with_interval: bool = True) -> str:
    """One share, with its interval if asked for; or the mean of several with their range."""
    shares = [entry["share"] for entry in entries if entry["share"]["value"] is not None]
    if not shares:
        return MISSING
    if len(shares) == 1:
        interval = write_interval(shares[0]["interval"]) if with_interval else ""
        return write_number(shares[0]["value"]) + interval
    values = [share["value"] for share in shares]
    mean = write_number(sum(values) / len(values))
    same = min(values) == max(values)
    return mean if same else f"{mean} ({write_number(min(values))} to {write_number(max(values))})"


def explain_repetition(results: Results) -> Iterator[str]:
    """What the tables mean, or why there are none."""
    tokens = results["repetition"]["tokens"]
    entries = list_looked_at(results)
    if not any(entry["outputs"]["long"] for entry in entries):
        yield (
            f"No answer of a trained method at the end of the sequence is {tokens} tokens long (words and "
            f"marks), so that none can repeat {tokens} of the training text in a row."
        )
        return
    yield (
        f"*repeating* are answers of which {tokens} tokens in a row (words and marks; white space does not "
        "count) stand the same way in a prompt or a target that the component was trained on. *share* is "
        f"their part of all answers; one of fewer than {tokens} tokens cannot repeat. *targets* is the same "
        "share of the test targets: what perfect answers would repeat. A share well above it means training "
        "text that was learned by heart, which whoever gets the component can have it say. The repeating "
        "answers are marked `repeats` in `predictions.jsonl`."
    )
    left = sum(entry["outputs"]["untrained"] for entry in entries)
    if left:
        yield (
            f"{left} answers, which were left to the untouched base, are not counted: it saw none of the "
            "training text."
        )
