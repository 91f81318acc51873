"""The components of a run, tensor by tensor out of their files, against what the results say of them.

What this does not do: build a component or run it (``replay`` does), or open pickles.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codestrata.components.adapters import AdapterComponent
from codestrata.components.folders import check_hash, open_file, read_object
from codestrata.components.own_layers import OwnLayersComponent
from codestrata.components.residents import COMPONENT_FILE, check_component_file
from codestrata.components.shared_layers import BLOCKS
from codestrata.components.tensors import check_present, read_header, read_values
from codestrata.components.weights import WeightsComponent
from codestrata.errors import ComponentError, RunError
from codestrata.experiment.merged import MERGED_FOLDER
from codestrata.methods import Method
from codestrata.models.fingerprints import fingerprint_tensors
from codestrata.progress import Progress
from codestrata.verification.checks import Check, list_differing_keys
from codestrata.verification.claims import Case, CellClaim, Owner, find_owner

READ_FILES: Mapping[str, tuple[str, ...]] = {
    "lora": AdapterComponent.read_files,
    "layers": AdapterComponent.read_files,
    "hybrid": AdapterComponent.read_files,
    "ia3": AdapterComponent.read_files,
    "prompt": AdapterComponent.read_files,
    "shared-layers": AdapterComponent.read_files,
    "own-layers": OwnLayersComponent.read_files,
    "weights": WeightsComponent.read_files,
}
"""Kind of component -> the files that it is read from; the tensors come last."""


@dataclass(frozen=True)
class Stored:
    """What lies in a component's folder: fingerprint of the tensors, hashes, what it says of itself."""

    fingerprint: str
    hashes: Mapping[str, str]
    about: Mapping[str, Any]


def read_component(folder: Path, kind: str, base_fingerprint: str) -> Stored:
    """A component's folder, read as a stranger's and without a base.

    Raises: ComponentError: files are missing, damaged or changed, or belong to another kind or base.
    """
    files = READ_FILES[kind]
    hashes = check_component_file(folder, kind=kind, fingerprint=base_fingerprint, read_files=files)
    for name in files[:-1]:
        read_object(folder, name, sha256=hashes[name])
    fingerprint = fingerprint_file(folder, files[-1], hashes[files[-1]])
    about = read_object(folder, COMPONENT_FILE)
    return Stored(fingerprint, {name: hashes[name] for name in files}, about)


def fingerprint_file(folder: Path, name: str, sha256: str) -> str:
    """The fingerprint of the tensors in a safetensors file, which must have that hash.

    Raises: ComponentError: missing, damaged or changed.
    """
    return fingerprint_tensors(read_file(folder, name, sha256))


def read_file(folder: Path, name: str, sha256: str) -> dict[str, torch.Tensor]:
    """The tensors in a safetensors file, which must have that hash. Raises as ``fingerprint_file``."""
    check_present(folder, name)
    digest = hashlib.sha256()
    path = folder / name
    with open_file(folder, name) as file:
        stretches = read_header(file, path, digest)
        tensors = {stretch.outline.name: read_values(file, stretch, path, digest) for stretch in stretches}
    check_hash(path, digest.hexdigest(), sha256)
    return tensors


def fingerprint_linked(case: Case, owner: Owner) -> str | None:
    """The fingerprint of a component with the shared part that a later training left, out of both files.

    ``None``: one of them cannot be read, which the check of its own folder says.
    """
    files, found = READ_FILES["shared-layers"], []
    for task in (owner.task, owner.part or ""):
        folder = case.run.task_folder(owner.method, owner.seed, task, case.order)
        base = case.claims.base.fingerprint
        try:
            hashes = check_component_file(
                case.run.inside(folder), kind="shared-layers", fingerprint=base, read_files=files
            )
            found.append(read_file(folder, files[-1], hashes[files[-1]]))
        except (ComponentError, RunError):
            return None
    own, later = found
    return fingerprint_tensors(own | {name: tensor for name, tensor in later.items() if BLOCKS in name})


def check_components(case: Case, progress: Progress) -> tuple[Check, dict[Owner, str]]:
    """Every component's tensors against all that the results say of them; and their fingerprints now."""
    owners = list(case.list_owners())
    progress.start("components", len(owners))
    differences: list[str] = []
    found: dict[Owner, str] = {}
    folders = 0
    for number, (method, owner) in enumerate(owners, start=1):
        stored, faults = check_component(case, method, owner)
        differences += faults
        folders += 1
        if stored is not None:
            found[owner] = stored.fingerprint
        if method.selection == "merged":
            folders += 1
            differences += check_merged(case, method, owner)
        founding = find_founding_folder(case, method, owner)
        if founding is not None:
            folders += 1
            differences += check_founding_copy(case, method, owner, founding, stored)
        progress.advance(number, str(owner))
    cells = list(list_claimed_fingerprints(case))
    differences += [
        f"{place}: the component in the cell has the fingerprint {claimed}, but {wanted} was trained"
        for place, claimed, wanted in cells
        if claimed != wanted
    ]
    check = Check(
        subject="components",
        about=f"the tensors in {folders} folders against their trainings, and those against the cells of R",
        count=folders + len(cells),
        differences=tuple(differences),
    )
    return check, found


def check_component(case: Case, method: Method, owner: Owner) -> tuple[Stored | None, list[str]]:
    """What lies in a component's folder, and how it differs from what the results say."""
    folder = case.run.task_folder(*owner.place, case.order)
    stored, faults = inspect_folder(case, method, owner, folder)
    training = case.trainings.get(owner)
    if training is None:
        return stored, [*faults, f"{owner}: the results tell of no such training"]
    inside = folder.relative_to(case.run.path).as_posix()
    wanted = {"folder": inside, "seed": owner.seed}
    found = {"folder": training.folder, "seed": training.seed}
    faults += [f"{owner}: {line}" for line in list_differing_keys(found, wanted)]
    if stored is not None and stored.fingerprint != training.component_fingerprint:
        faults.append(
            f"{owner}: the tensors in {inside} have the fingerprint {stored.fingerprint}, but "
            f"{training.component_fingerprint} was trained"
        )
    return stored, faults


def inspect_folder(case: Case, method: Method, owner: Owner, folder: Path) -> tuple[Stored | None, list[str]]:
    """What lies in a folder, and whether it says of itself that it is the owner's; ``None``: not readable."""
    assert method.component is not None
    try:
        stored = read_component(case.run.inside(folder), method.component, case.claims.base.fingerprint)
    except (ComponentError, RunError) as error:
        return None, [f"{owner}: {error}"]
    wanted = {
        "task": owner.task,
        "method": owner.method,
        "seed": owner.seed,
        "data_fingerprint": case.data_fingerprints.get(owner.task),
        "settings_fingerprint": case.claims.settings_fingerprint,
    }
    inside = (folder / COMPONENT_FILE).relative_to(case.run.path).as_posix()
    return stored, [f"{owner}: {inside}: {line}" for line in list_differing_keys(stored.about, wanted)]


def check_merged(case: Case, method: Method, owner: Owner) -> list[str]:
    """How the component that was merged after a training differs from what the results say of it."""
    folder = find_answering_folder(case, method, owner)
    stored, faults = inspect_folder(case, method, owner, folder)
    claim = case.find_merged(owner)
    inside = folder.relative_to(case.run.path).as_posix()
    if claim is None:
        return [*faults, f"{owner}: the results tell of no component merged then"]
    if claim.folder != inside:
        faults.append(f"{owner}: the merged component is said to lie in {claim.folder}, not in {inside}")
    if stored is not None and stored.fingerprint != claim.component_fingerprint:
        faults.append(
            f"{owner}: the tensors in {inside} have the fingerprint {stored.fingerprint}, but "
            f"{claim.component_fingerprint} was merged"
        )
    return faults


def find_answering_folder(case: Case, method: Method, owner: Owner) -> Path:
    """Where the component lies that answers for an owner: its own, or what was merged then."""
    folder = case.run.task_folder(*owner.place, case.order)
    return folder / MERGED_FOLDER if method.selection == "merged" else folder


def find_founding_folder(case: Case, method: Method, owner: Owner) -> Path | None:
    """Where the copy of a component lies that has the founding experiment's name, if it has one."""
    if method.schedule != "isolated" or not method.is_isolated or owner.seed != case.settings.seeds[0]:
        return None
    return case.run.founding_folder(method.component or "", owner.task)


def check_founding_copy(
    case: Case, method: Method, owner: Owner, folder: Path, first: Stored | None
) -> list[str]:
    """How a founding copy differs from the first seed's component."""
    copy, faults = inspect_folder(case, method, owner, folder)
    if copy is None or first is None:
        return faults
    if copy.fingerprint != first.fingerprint:
        faults.append(
            f"{owner}: the tensors in {folder.name} have the fingerprint {copy.fingerprint}, not "
            f"{first.fingerprint} as those of the first seed"
        )
    return faults + [
        f"{owner}: {name} in {folder.name} is not that of the first seed"
        for name in copy.hashes
        if name != READ_FILES[method.component or ""][-1] and copy.hashes[name] != first.hashes[name]
    ]


def list_claimed_fingerprints(case: Case) -> Iterator[tuple[str, str | None, str | None]]:
    """(where, the component's fingerprint there, the one that was trained) of every cell of every walk."""
    for method in case.methods:
        for seed in case.settings.seeds:
            walk = case.walks.get((method.name, seed))
            if walk is None:
                continue
            about = f"{method.name}, seed {seed}" + (f", order {case.order}" if case.order else "")
            for cell in (*walk.cells, *walk.oracle_cells):
                yield compare_cell(case, about, cell, find_owner(method, seed, cell, case.task_names))
            for cell in walk.transfer.cells:
                owner = find_owner(method, seed, cell, case.task_names, is_transfer=True)
                yield compare_cell(case, f"{about}, transfer", cell, owner)
        for entry in () if case.order else case.claims.noise_floor.entries:
            if entry.method == method.name and entry.seed is not None:
                for cell in (entry.first, entry.second):
                    owner = find_owner(method, entry.seed, cell, case.task_names)
                    yield compare_cell(case, f"{method.name}, seed {entry.seed}, noise", cell, owner)
    for cell in case.claims.base.cells:
        yield compare_cell(case, "base", cell, None)


def compare_cell(
    case: Case, about: str, cell: CellClaim, owner: Owner | None
) -> tuple[str, str | None, str | None]:
    """Where a cell stands, the fingerprint in it, and that of the training of its owner."""
    if owner is not None and owner.part is not None:
        if owner not in case.linked:
            case.linked[owner] = fingerprint_linked(case, owner)
        return f"{about}, {cell.place}", cell.component_fingerprint, case.linked[owner]
    wanted = None if owner is None else case.find_fingerprint(owner)
    return f"{about}, {cell.place}", cell.component_fingerprint, wanted
