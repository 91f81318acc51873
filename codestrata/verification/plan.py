"""The plan in a run's settings against what its results tell of: methods, seeds, trainings, cells of R.

What this does not do: look at fingerprints (``trained`` does), scores or answers.
"""

from collections.abc import Iterator
from typing import Any

from codestrata.errors import DataError, RunError
from codestrata.experiment.routing import ORACLE_FOLDER
from codestrata.files import read_json
from codestrata.methods import Method
from codestrata.records import BORN_LATE, Origin
from codestrata.settings.orders import list_orders
from codestrata.settings.tree import build_settings, fingerprint
from codestrata.store import name_walk
from codestrata.verification.checks import Check
from codestrata.verification.claims import Case, CellClaim, WalkClaim
from codestrata.verification.routed import list_routed_faults

ENVIRONMENT_FILE = "environment.json"
BASE_FOLDER = "base"


def check_plan(case: Case, faults: tuple[str, ...]) -> Check:
    """Whether the results tell of everything that the settings ask for, and of the same environment."""
    claims, run = case.claims, case.run
    differences = [*faults]
    claimed = fingerprint(build_settings(claims.settings))
    wanted = fingerprint(case.settings)
    for name, value in (("settings", claimed), ("settings_fingerprint", claims.settings_fingerprint)):
        if value != wanted:
            differences.append(f"settings.toml has the fingerprint {wanted}, /{name} of the results {value}")
    try:
        environment: Any = read_json(run.inside(run.path / ENVIRONMENT_FILE))
    except (DataError, RunError) as error:
        differences.append(str(error))
    else:
        if environment != claims.environment:
            differences.append(f"{ENVIRONMENT_FILE} is not the environment in the results")
    names, wanted_names = (
        tuple(task.name for task in found) for found in (claims.tasks, case.settings.tasks)
    )
    if names != wanted_names:
        differences.append(f"the results have the tasks {names}, the settings {wanted_names}")
    differences += list_missing_walks(case)
    cases = [case, *case.list_later_orders()]
    places = [fault for ordered in cases for fault in list_walk_faults(ordered)]
    places += [
        f"base: {cell.place} is {cell.origin}, in {cell.folder}"
        for cell in claims.base.cells
        if (cell.row, cell.origin, cell.folder) != (0, "decoded", BASE_FOLDER)
    ]
    return Check(
        subject="plan",
        about="methods, seeds, tasks and cells of the results against settings.toml",
        count=4
        + len(case.methods)
        + sum(1 + len(walk.cells) for ordered in cases for walk in ordered.walks.values()),
        differences=(
            *differences,
            *places,
            *(fault for ordered in cases for fault in list_routed_faults(ordered)),
        ),
    )


def list_walk_faults(case: Case) -> Iterator[str]:
    """What the walks of one order of the tasks lack, have beyond what is asked for, or have elsewhere."""
    methods = {method.name: method for method in case.methods}
    about = f", order {case.order}" if case.order else ""
    for (name, seed), walk in case.walks.items():
        if name in methods:
            for fault in (
                *list_missing_parts(case, methods[name], walk),
                *list_misplaced_cells(case, methods[name], walk),
            ):
                yield f"{name}, seed {seed}{about}: {fault}"


def list_missing_walks(case: Case) -> Iterator[str]:
    """What the results lack of the methods and seeds in the settings, or have beyond them."""
    found = {entry.name: entry for entry in case.claims.methods}
    if list(found) != [method.name for method in case.methods]:
        yield f"the results have the methods {list(found)}, the settings {list(case.settings.methods)}"
    for method in case.methods:
        entry = found.get(method.name)
        if entry is None:
            continue
        if (entry.component, entry.schedule) != (method.component, method.schedule):
            yield (
                f"the results call {method.name} {entry.schedule} with component {entry.component}; it is "
                f"{method.schedule} with {method.component}"
            )
        seeds = tuple(walk.seed for walk in entry.seeds)
        orders = list_orders(case.settings.orders, [task.name for task in case.settings.tasks])
        wanted = case.settings.seeds * len(orders)
        if seeds != wanted:
            yield f"the results have the seeds {seeds} of {method.name}, the settings {wanted}"
        elif [walk.order for walk in entry.seeds] != [
            n for n in range(len(orders)) for _ in case.settings.seeds
        ]:
            yield f"the results have walks of {method.name} in other orders of the tasks than the settings"


def list_missing_parts(case: Case, method: Method, walk: WalkClaim) -> Iterator[str]:
    """The trainings and cells that a walk lacks, or has beyond what is asked for; the base has the splits."""
    trained = () if method.component is None else case.task_names
    trainings = tuple(training.task for training in walk.trainings)
    if trainings != trained:
        yield f"the results tell of trainings on {trainings}, the settings on {trained}"
    splits = {(cell.task, cell.split) for cell in case.claims.base.cells}
    splits |= {(task, "test") for task in case.task_names}
    wanted = {(row, *place) for row in range(len(case.task_names) + 1) for place in splits}
    found = [(cell.row, cell.task, cell.split) for cell in walk.cells]
    for row, task, split in sorted(wanted.symmetric_difference(found)):
        fault = "no cell" if (row, task, split) in wanted else "a cell too many"
        yield f"the results have {fault} in row {row}, {task}, {split}"
    if len(found) > len(set(found)):
        yield "the results have a cell twice"
    through = (None, *case.task_names)
    for cell in walk.cells:
        if cell.row < len(through) and cell.trained_through != through[cell.row]:
            yield f"{cell.place}: the results have it after {cell.trained_through}, not {through[cell.row]}"


def list_misplaced_cells(case: Case, method: Method, walk: WalkClaim) -> Iterator[str]:
    """The cells of a walk that cannot have come about as they say, or whose answers lie elsewhere."""
    own = f"methods/{name_walk(method.name, walk.seed, case.order)}"
    decoded = list_decoded_answers(case)
    for cell in walk.cells:
        if cell.task not in case.task_names or not 0 <= cell.row <= len(case.task_names):
            continue  # said already
        if cell.origin not in list_origins(case, method, cell):
            yield f"{cell.place}: no cell there can be {cell.origin}"
        elif cell.origin in ("taken-over", "canary"):
            if (cell.folder, cell.task, cell.split, cell.component_fingerprint) not in decoded:
                yield f"{cell.place}: nothing in {cell.folder} was decoded with the same bytes"
        else:
            is_base = cell.row == 0 or cell.origin == "structural"
            folder = BASE_FOLDER if is_base else f"{own}/{cell.trained_through}"
            if cell.folder != folder:
                yield f"{cell.place}: its answers are said to lie in {cell.folder}, not in {folder}"
    for cell in walk.oracle_cells:
        if cell.origin == "decoded" and cell.row:
            folder = f"{own}/{cell.trained_through}/{ORACLE_FOLDER}"
            if cell.folder != folder:
                yield f"with the label, {cell.place}: said to lie in {cell.folder}, not in {folder}"
        elif cell.origin == "taken-over":
            if (cell.folder, cell.task, cell.split, cell.component_fingerprint) not in decoded:
                yield f"with the label, {cell.place}: nothing in {cell.folder} has the same bytes"
    for cell in walk.transfer.cells:
        folder = f"{own}/{cell.trained_through}/transfer"
        if (cell.origin, cell.folder) != ("decoded", folder):
            yield f"transfer, {cell.place}: {cell.origin}, in {cell.folder}, not in {folder}"


def list_decoded_answers(case: Case) -> set[tuple[str, str, str, str | None]]:
    """(folder, task, split, component's fingerprint) of every cell that was decoded for the first time."""
    return {
        (cell.folder, cell.task, cell.split, cell.component_fingerprint)
        for entry in case.claims.methods
        for walk in entry.seeds
        for cell in (*walk.cells, *walk.oracle_cells)
        if cell.origin == "decoded"
    }


def list_origins(case: Case, method: Method, cell: CellClaim) -> tuple[Origin, ...]:
    """How a cell at this place of R can have come about."""
    own = 1 + case.task_names.index(cell.task)
    if cell.row == 0:
        return ("decoded",)
    if method.selection == "routed":
        return ("routed",)
    if method.selection == "merged":
        return ("decoded", "taken-over")
    if method.component is None:
        return ("structural",)
    if method.schedule in BORN_LATE and own > cell.row:
        return ("structural",)
    if not method.has_component_per_task or own >= cell.row:
        return ("decoded", "taken-over")
    is_last = cell.row == len(case.task_names)
    return ("rechecked", "taken-over", "canary") if is_last else ("rechecked", "taken-over")
