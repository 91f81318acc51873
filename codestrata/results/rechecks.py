"""How a run shows that later trainings leave older tasks' components alone, and how often it was shown.

What this does not do: decode or hash anything (``experiment`` does).
"""

from collections.abc import Sequence
from typing import Any, Literal

from codestrata.records import Cell
from codestrata.results.measured import MethodWalks
from codestrata.settings.tree import Settings

Recheck = Literal["full", "canary", "off"]

FULL_UP_TO = 3
"""Tasks up to which every older one is decoded again after every training, unless the settings say more."""


def choose_recheck(settings: Settings) -> Recheck:
    """How isolated components are decoded again: as the settings say, else by the number of tasks."""
    asked = settings.measurement.recheck
    if asked is not None:
        return asked
    return "full" if len(settings.tasks) <= FULL_UP_TO else "canary"


def describe_isolation(methods: Sequence[MethodWalks], recheck: Recheck) -> dict[str, Any]:
    """What isolation rests on: cells decoded again, cells taken over by their bytes, the base's hashes."""
    walks = [walk for entry in methods for walk in entry.walks]
    # A walk that takes the first order's components over shows nothing that the first does not.
    isolated = [walk for entry in methods if entry.is_isolated for walk in entry.walks]
    cells = [cell for walk in isolated if walk.trainings or not walk.order for cell in walk.cells]
    rechecked = [cell for cell in cells if cell.origin == "rechecked"]
    canaries = [cell for cell in cells if cell.origin == "canary"]
    trainings = [
        training for walk in walks for training in walk.trainings if not training.get("taken_over_from")
    ]
    kept = [t["base_fingerprint_before"] == t["base_fingerprint_after"] for t in trainings]
    return {
        "recheck": recheck,
        "rechecked_cells": len(rechecked),
        "identical_cells": count_identical(rechecked),
        "canary_cells": len(canaries),
        "canary_predictions": sum(cell.decoded_again for cell in canaries),
        "identical_canary_cells": count_identical(canaries),
        "taken_over_cells": sum(is_proven_by_bytes(cell) for cell in cells),
        "trainings": len(trainings),
        "base_unchanged": sum(kept),
    }


def is_proven_by_bytes(cell: Cell) -> bool:
    """Whether a cell of an older task was taken over because base and component are the same bytes."""
    return cell.origin in ("taken-over", "canary") and cell.trained_through != cell.task


def count_identical(cells: Sequence[Cell]) -> int:
    """How many cells came out the same as far as they were decoded again."""
    return sum(bool(cell.identical) for cell in cells)
