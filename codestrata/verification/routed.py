"""Answers under routing against the answers that they are put together from, choice by choice.

What this does not do: route again, or decode (``replay`` does): of an answer by another task's component
the first place is only named.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from codestrata.errors import DataError, RunError
from codestrata.experiment.routing import CHOICES_FILE
from codestrata.files import read_jsonl
from codestrata.records import Prediction, SplitName
from codestrata.verification.claims import Case, CellClaim, Owner, WalkClaim

Samples = tuple[Prediction, ...]


@dataclass(frozen=True, kw_only=True)
class ForeignAnswers:
    """Examples of a split that another task's component answered first in a cell: by position."""

    owner: Owner
    cell: CellClaim
    positions: tuple[int, ...]


@dataclass(kw_only=True)
class RoutedAnswers:
    """What came of looking at one walk: its faults, and what only decoding can check."""

    faults: list[str] = field(default_factory=list)
    foreign: list[ForeignAnswers] = field(default_factory=list)


def compare_routed_walk(case: Case, method: str, walk: WalkClaim) -> RoutedAnswers:
    """Every routed answer of a walk against the one it was taken from; nothing for walks with a label."""
    found = RoutedAnswers()
    known: dict[tuple[str, SplitName, str, int], Samples] = {}
    for cell in walk.cells:
        if cell.origin != "routed":
            continue
        about = f"{method}, seed {walk.seed}, {cell.place}"
        try:
            fault = compare_cell(case, Owner(method, walk.seed, ""), walk, cell, known, found)
        except (DataError, RunError) as error:
            fault = str(error)
        if fault is not None:
            found.faults.append(f"{about}: {fault}")
    return found


def compare_cell(
    case: Case,
    walker: Owner,
    walk: WalkClaim,
    cell: CellClaim,
    known: dict[tuple[str, SplitName, str, int], Samples],
    found: RoutedAnswers,
) -> str | None:
    """The first answer of a cell that is not the chosen one's; answers seen first are noted in ``known``.

    Raises: DataError, RunError: choices or answers are missing or damaged.
    """
    count = case.settings.decoding.samples
    stored = cut_samples(case.read_answers(cell.folder, cell.task, cell.split), count)
    choices = read_choices(case, cell)
    names = [answers[0].identifier for answers in stored]
    if [identifier for identifier, _ in choices] != names:
        return f"{CHOICES_FILE} tells of other examples than the predictions"
    sources = read_sources(case, walk, cell, count)
    allowed = case.task_names[: cell.row]
    first: dict[str, list[int]] = {}
    for position, (answers, (identifier, chosen)) in enumerate(zip(stored, choices, strict=True)):
        if chosen is not None and chosen not in allowed:
            return f"{identifier} was answered by {chosen!r}, which is not known in this row"
        if chosen in sources:
            wanted = sources[chosen][position]
        else:
            key = (cell.task, cell.split, str(chosen), position)
            if key not in known:
                known[key] = answers
                first.setdefault(str(chosen), []).append(position)
            wanted = known[key]
        if [answer.completion for answer in answers] != [answer.completion for answer in wanted]:
            source = "the base" if chosen is None else f"component {chosen}"
            return f"{identifier} has another answer than {source} gave elsewhere"
    found.foreign += [
        ForeignAnswers(owner=walker._replace(task=name), cell=cell, positions=tuple(positions))
        for name, positions in first.items()
    ]
    return None


def read_sources(case: Case, walk: WalkClaim, cell: CellClaim, count: int) -> dict[str | None, list[Samples]]:
    """Whose answers to the whole split are stored: the base's, and the own component's once it is there."""
    cells: dict[str | None, CellClaim] = {}
    for entry in walk.oracle_cells:
        if (entry.task, entry.split) == (cell.task, cell.split) and entry.row <= cell.row:
            if entry.row == 0:
                cells[None] = entry
            elif entry.origin != "structural":
                cells[cell.task] = entry
    return {
        name: cut_samples(case.read_answers(entry.folder, entry.task, entry.split), count)
        for name, entry in cells.items()
    }


def read_choices(case: Case, cell: CellClaim) -> list[tuple[str, str | None]]:
    """(example, chosen task or ``None``) of a cell, in order. Raises DataError: missing or damaged."""
    path = case.run.inside(case.run.path / cell.folder / CHOICES_FILE)
    return [
        take_choice(row)
        for _, row in read_jsonl(path)
        if (row.get("task"), row.get("split")) == (cell.task, cell.split)
    ]


def take_choice(row: dict[str, Any]) -> tuple[str, str | None]:
    """What a line says, as text."""
    chosen = row.get("chosen")
    return str(row.get("identifier")), None if chosen is None else str(chosen)


def cut_samples(predictions: Samples, count: int) -> list[Samples]:
    """The predictions example by example."""
    return [predictions[start : start + count] for start in range(0, len(predictions), count)]


def list_routed_faults(case: Case) -> Iterator[str]:
    """What is wrong with the answers of all routed walks, as far as it shows without decoding."""
    for method in case.trained:
        for seed in case.settings.seeds:
            walk = case.walks.get((method.name, seed))
            if walk is not None and method.selection == "routed":
                yield from compare_routed_walk(case, method.name, walk).faults
