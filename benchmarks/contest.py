"""Contenders measured in turn, medians of what they did, targets, and the table and JSON that say so.

What this does not do: measure anything itself, or fail where a target is missed.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from codestrata.files import write_json

FEWEST_REPEATS = 3
"""With fewer no target is judged."""

Figures = dict[str, Any]
"""What one repeat found, by name: numbers, and ``None`` for what could not be measured."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Something to measure: ``run`` takes the repeat's number, from 0; ``warm_up`` comes once, before."""

    name: str
    run: Callable[[int], Figures]
    warm_up: Callable[[], object] | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A ratio or figure that is asked for, and what was found; ``None`` where it could not be measured."""

    name: str
    found: float | None
    wanted: float
    sense: Literal["at least", "at most"] = "at least"
    reason: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether it is; ``None`` where nothing was found."""
        if self.found is None:
            return None
        return self.found >= self.wanted if self.sense == "at least" else self.found <= self.wanted


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """The options that every benchmark has."""
    parser.add_argument("--repeats", type=read_count, default=FEWEST_REPEATS, help="measurements of each")
    parser.add_argument("--threads", type=read_count, default=None, help="CPU threads; default: the cores")
    parser.add_argument("--peak-size", type=read_count, default=2048, help="side of the matrices of the peak")
    parser.add_argument("--peak-seconds", type=float, default=2.0, help="time for each peak")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results" / f"{name}.json",
        help="where the JSON goes; default: benchmarks/results/",
    )


def read_count(text: str) -> int:
    """A whole number of at least 1, out of an option."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: must be at least 1")
    return number


def hold(contenders: Sequence[Contender], repeats: int) -> dict[str, list[Figures]]:
    """Every contender's figures: warm-ups first, then A B C, A B C, ... so that a slow minute hits all."""
    for contender in contenders:
        if contender.warm_up is not None:
            tell(f"warm up: {contender.name}")
            contender.warm_up()
    found: dict[str, list[Figures]] = {contender.name: [] for contender in contenders}
    for repeat in range(repeats):
        for contender in contenders:
            tell(f"{repeat + 1}/{repeats}: {contender.name}")
            found[contender.name].append(contender.run(repeat))
    return found


def take_medians(rows: Sequence[Figures]) -> Figures:
    """The median of every number over the repeats; what is no number is taken from the first repeat."""
    medians: Figures = {}
    for key, first in rows[0].items():
        values = [row[key] for row in rows]
        numbers = [value for value in values if is_number(value)]
        medians[key] = statistics.median(numbers) if len(numbers) == len(values) else first
    return medians


def is_number(value: object) -> bool:
    """Whether it can be averaged."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def divide(first: Figures | None, second: Figures | None, key: str) -> float | None:
    """The ratio of two contenders' figures; ``None`` where one is missing."""
    above, below = (None if figures is None else figures.get(key) for figures in (first, second))
    return above / below if above is not None and below else None


def tell(text: str) -> None:
    """Say on stderr what goes on."""
    print(text, file=sys.stderr, flush=True)


def show_table(title: str, columns: Mapping[str, str], rows: Mapping[str, Figures]) -> None:
    """Print one row for each name; ``columns`` maps a figure's key to its heading."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for name, figures in rows.items():
        table.add_row(name, *[write_figure(figures.get(key)) for key in columns])
    show(table)


def show_targets(targets: Sequence[Target], repeats: int) -> None:
    """Print what was asked for beside what was found."""
    table = Table(title="Targets", title_justify="left")
    for heading in ("what", "found", "wanted", "reached"):
        table.add_column(heading)
    for target in targets:
        words = {True: "yes", False: "no", None: target.reason or "not measured"}
        verdict = f"not judged: {repeats} of {FEWEST_REPEATS} repeats"
        table.add_row(
            target.name,
            write_figure(target.found),
            f"{target.sense} {target.wanted:g}",
            words[target.reached] if repeats >= FEWEST_REPEATS or target.reached is None else verdict,
        )
    show(table)


def show(content: object) -> None:
    """Print on stdout, as wide as it needs where that is no terminal."""
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(content, markup=False, highlight=False)


def write_figure(value: object) -> str:
    """A figure in about three digits; a dash for what was not measured."""
    if value is None:
        return "-"
    if not is_number(value):
        return str(value)
    assert isinstance(value, int | float)
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def write_results(
    options: argparse.Namespace,
    name: str,
    *,
    machine: Figures,
    notes: Sequence[str],
    tables: Mapping[str, Mapping[str, Sequence[Figures]]],
    medians: Mapping[str, Mapping[str, Figures]],
    targets: Sequence[Target],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write everything that was found, raw figures included, as JSON."""
    judged = options.repeats >= FEWEST_REPEATS
    values = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    write_json(
        options.out,
        {
            "benchmark": name,
            "machine": machine,
            "options": values,
            "notes": list(notes),
            "repeats": tables,
            "medians": medians,
            "targets": [asdict(t) | {"reached": t.reached if judged else None} for t in targets],
            **(extra or {}),
        },
    )
    tell(f"written: {options.out}")
