"""Runs that are killed again and again, and resumed by new processes until they are done."""

import random
import shutil
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attempts import Nursery, Order, Outcome, Trouble
from sameness import list_differences

NAME = "mine"
MOST_ATTEMPTS = 5
"""Undisturbed ones, of which one should be enough."""
UNDISTURBED = "undisturbed"
AT_THE_END = ("results", "analysis", "checksums", "done", "clearing")


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A run that was never interrupted: its directory, its settings, and how it ended."""

    path: Path
    tree: Mapping[str, Any]
    outcome: Outcome


@dataclass(kw_only=True)
class Tally:
    """What kills hit: by what the process was at, or the kind of file whose change was under way."""

    of_time: Counter[str] = field(default_factory=Counter)
    of_disk: Counter[str] = field(default_factory=Counter)
    runs: int = 0

    @property
    def kills(self) -> int:
        """Processes killed."""
        return self.of_time.total() + self.of_disk.total()

    def describe(self) -> str:
        """The counts as lines."""
        rows = [f"{self.kills} kills in {self.runs} runs"]
        for name, counts in (
            ("at any time", self.of_time),
            ("at a change of the disk", self.of_disk),
        ):
            listed = ", ".join(f"{place} {count}" for place, count in counts.most_common())
            rows.append(f"{name}: {counts.total()} ({listed})")
        return "\n".join(rows)


def carry_out_whole(nursery: Nursery, tree: Mapping[str, Any], folder: Path) -> Whole:
    """The run of these settings, never interrupted."""
    path = folder / "runs" / NAME
    outcome = nursery.attempt(Order(run=str(path), cache=str(folder / "cache"), tree=tree))
    assert outcome.is_done, outcome.trace or outcome.err
    return Whole(path=path, tree=tree, outcome=outcome)


def place_order(whole: Whole, folder: Path) -> Order:
    """The order that begins a run like another in a folder of its own, or resumes the one that lies there.

    A run that never wrote its settings is begun again, as its error says one has to.
    """
    path = folder / "runs" / NAME
    begun = (path / "settings.toml").is_file()
    if path.exists() and not begun:
        shutil.rmtree(path)
    return Order(run=str(path), cache=str(folder / "cache"), tree=None if begun else whole.tree)


def kill_and_resume(
    nursery: Nursery, whole: Whole, folder: Path, rng: random.Random, tally: Tally, *, most: int
) -> list[str]:
    """Kill a run up to ``most`` times, resume it each time, and compare: what differs in the end."""
    left = whole.outcome.seconds
    tally.runs += 1
    for where in [*plan_kills(whole, rng, most), *[UNDISTURBED] * MOST_ATTEMPTS]:
        order = place_order(whole, folder)
        if where is None:
            order = replace(order, signal=(signal.SIGKILL, rng.uniform(0, 2 * left / most)))
        elif where != UNDISTURBED:
            order = replace(order, trouble=plan_strike(whole, rng, where))
        outcome = nursery.attempt(order)
        if outcome.code == 0:
            return list_differences(whole.path, Path(order.run))
        if outcome.code != -signal.SIGKILL:
            return [f"a resumed run ended: {outcome.text} {outcome.trace} {outcome.err}"]
        (tally.of_time if where is None else tally.of_disk)[outcome.activity] += 1
        left = max(left - outcome.seconds, whole.outcome.seconds / 4)
    return [f"not done after {MOST_ATTEMPTS} attempts"]


def plan_kills(whole: Whole, rng: random.Random, most: int) -> list[str | None]:
    """Kinds of files at whose change to kill, all kinds alike so that rare ones are hit as often as others.

    ``None`` is any moment of time: two of five. What is written at the end comes last, for the others to be
    met at all.
    """
    kinds = [*sorted(whole.outcome.moments), "checkpoint"]  # twice: in the middle of a training
    drawn: list[str | None] = list(rng.sample(kinds, min(most - most * 2 // 5, len(kinds))))
    drawn += [None] * (most - len(drawn))
    rng.shuffle(drawn)
    return sorted(drawn, key=lambda where: AT_THE_END.index(where) if where in AT_THE_END else -1)


def plan_strike(whole: Whole, rng: random.Random, where: str) -> Trouble:
    """A kill at any moment of change of a kind of file.

    Of those that are written over and over, soon: so that the others are still to come.
    """
    moments = whole.outcome.moments[where]
    number = rng.randint(1, moments if where in AT_THE_END else max(moments // 3, min(moments, 11)))
    return Trouble(number=number, where=where, signal=signal.SIGKILL)


def finish(nursery: Nursery, whole: Whole, folder: Path) -> tuple[Outcome, list[str]]:
    """Resume a run undisturbed: how that ended, and in what it differs."""
    order = place_order(whole, folder)
    outcome = nursery.attempt(order)
    return outcome, list_differences(whole.path, Path(order.run)) if outcome.is_done else ["it did not end"]
