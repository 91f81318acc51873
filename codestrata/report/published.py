"""The founding experiment's published findings beside what a run of its preset measured, as text.

What this does not do: judge them (``results.founding`` did).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from codestrata.report.findings import Finding
from codestrata.report.pointers import build_pointer
from codestrata.report.tables import MISSING, Results, Table

HEADER = ("", "Python BLEU", "JavaScript BLEU", "training, minutes", "memory, GB", "Python forgetting, %")
KEYS = ("python_bleu", "javascript_bleu", "training_minutes", "memory_gb", "python_forgetting_percent")
NAMES = {"lora": "LoRA", "layers": "full layer"}
DECIMALS = {"python_bleu": 4, "javascript_bleu": 4}


def build_published_table(results: Results) -> Table:
    """The founding experiment's table, as published."""
    founding = results["founding"]
    rows = tuple(
        (NAMES[method], *(f"{numbers[key]:.{DECIMALS.get(key, 2)}f}" for key in KEYS))
        for method, numbers in founding["published"].items()
    )
    seeds = "1 seed" if founding["seeds"] == 1 else f"{founding['seeds']} seeds"
    return Table(f"As published ({seeds}, {founding['records']} evaluation records)", HEADER, rows)


def build_verdicts_table(results: Results) -> Table:
    """Each published finding, whether it survives, and the numbers of this run beside it."""
    rows = tuple(
        (claim["published"], claim["verdict"], "; ".join(map(write_evidence, claim["measured"])) or MISSING)
        for claim in results["founding"]["claims"]
    )
    return Table("What this run says", ("published", "verdict", "this run"), rows)


def write_evidence(evidence: Mapping[str, Any]) -> str:
    """A number of this run with its pointer, or why it cannot be had."""
    if evidence["value"] is None:
        return f"{evidence['about']}: {MISSING} ({evidence['reason']})"
    value, interval = evidence["value"], evidence["interval"]
    text = str(value) if isinstance(value, int) else f"{value:z.4f}"
    limits = "" if interval is None else f" [{interval['low']:z.4f}, {interval['high']:z.4f}]"
    return f"{evidence['about']}: {text}{limits} (`{evidence['pointer']}`)"


def list_published_findings(results: Results) -> Iterator[Finding]:
    """One sentence per published finding: the verdict and why."""
    for number, claim in enumerate(results["founding"]["claims"]):
        yield Finding(
            build_pointer("founding", "claims", number),
            f"Published: {claim['published']}. **{claim['verdict'].capitalize()}**: {claim['reason']}.",
        )


def describe_published(results: Results) -> str:
    """How many findings survive, by which metric, and in what the run differs from the published one."""
    founding = results["founding"]
    verdicts = [claim["verdict"] for claim in founding["claims"]]
    counts = ", ".join(
        f"{verdicts.count(verdict)} {words}"
        for verdict, words in (
            ("survives", "survive"),
            ("does not survive", "do not"),
            ("cannot tell", "cannot be told"),
        )
    )
    conditions = "; ".join(founding["conditions"])
    differs = f" This run differs from the published one: {conditions}." if conditions else ""
    reason = founding["metric_reason"]
    return (
        f"Of {len(verdicts)} published findings {counts}. Numbers beside the published BLEU are "
        f"`{founding['metric']}`: {reason}.{differs}"
    )
