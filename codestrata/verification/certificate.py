"""The isolation certificate: for every older task after every newer one, that nothing of it has changed.

Three things are shown for each: the component's bytes, the base's bytes, and the outputs.

What this does not do: open files or decode; ``Evidence`` is what others found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from codestrata.errors import DataError, RunError
from codestrata.experiment.canaries import keep_canaries
from codestrata.experiment.cells import equal_answers
from codestrata.verification.checks import Check, find_different_answer
from codestrata.verification.claims import Case, CellClaim, Owner

State = Literal["unchanged", "changed", "not shown"]


@dataclass(frozen=True)
class Finding:
    """Whether something stayed the same, and how that is known or where it differs."""

    state: State
    because: str


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What became of an older task's component, the base and the outputs by the time after a newer task."""

    method: str
    seed: int
    task: str
    after: str
    component: Finding
    base: Finding
    outputs: Finding
    order: int = 0

    @property
    def holds(self) -> bool:
        """Whether all three are unchanged."""
        return all(entry.state == "unchanged" for entry in (self.component, self.base, self.outputs))


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The proofs of a run; of two kinds of methods nothing is claimed.

    ``shared`` are those whose tasks share a component; ``unlabelled`` those which pick or merge components
    without the task's label, so that a new task can change what an older one is answered.
    """

    proofs: tuple[Proof, ...] = ()
    shared: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Stored answers to a split that were decoded again, ``again`` of ``total``; the first difference."""

    split: str
    again: int
    total: int
    difference: str | None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was found now: fingerprints (missing where they could not be had), answers held together.

    ``agreements`` are by component and row. ``decoded`` holds the first difference of a component whose
    answers were decoded once more, ``None`` where there was none; components that were not are missing.
    """

    base: str | None
    components: Mapping[Owner, str]
    agreements: Mapping[tuple[Owner, int], Sequence[Agreement]] = field(default_factory=dict)
    decoded: Mapping[Owner, str | None] = field(default_factory=dict)


def compare_older_answers(case: Case) -> dict[tuple[Owner, int], list[Agreement]]:
    """What the run stored of older tasks in later rows against what it stored in their own, by prediction."""
    found: dict[tuple[Owner, int], list[Agreement]] = {}
    for owner, row in list_pairs(case):
        own = {cell.split: cell for cell in list_own_cells(case, owner)}
        cells = case.list_cells(owner.method, owner.seed, row, owner.task)
        found[owner, row] = [
            compare_cells(case, owner, own[cell.split], cell)
            for cell in cells
            if cell.split in own and cell.origin in ("rechecked", "canary")
        ]
    return found


def list_pairs(case: Case) -> list[tuple[Owner, int]]:
    """Every component that belongs to one task, with every later row of R."""
    names = case.task_names
    return [
        (owner, row)
        for method, owner in case.list_owners()
        if method.is_isolated
        for row in range(names.index(owner.task) + 2, len(names) + 1)
    ]


def list_own_cells(case: Case, owner: Owner) -> list[CellClaim]:
    """The cells of a component's task right after its own training."""
    return case.list_cells(owner.method, owner.seed, 1 + case.task_names.index(owner.task), owner.task)


def compare_cells(case: Case, owner: Owner, first: CellClaim, second: CellClaim) -> Agreement:
    """The answers of two cells of the same component, as far as they were decoded twice."""
    again = total = 0
    try:
        before = case.read_answers(first.folder, first.task, first.split)
        total = len(before)
        if second.origin == "canary":
            settings = case.settings
            kept = keep_canaries(before, settings.measurement.canary_examples, settings.decoding.samples)
            before, after = kept, case.read_canaries(owner, second.split)
        else:
            after = case.read_answers(second.folder, second.task, second.split)
        again = len(after)
        difference = None
        if not equal_answers(before, after):
            difference = find_different_answer(before, after, ("at first", "later"))
        elif second.identical_predictions is not True:
            difference = f"identical_predictions is {second.identical_predictions} in the results"
    except (DataError, RunError) as error:
        difference = str(error)
    return Agreement(split=second.split, again=again, total=total, difference=difference)


def issue_certificate(case: Case, evidence: Evidence) -> Certificate:
    """A proof, or what it lacks, for every older task after every newer one, where each has its own."""
    proofs = []
    for owner, row in list_pairs(case):
        component = judge_component(case, evidence, owner, row)
        base = judge_base(case, evidence, owner, row)
        proofs.append(
            Proof(
                method=owner.method,
                seed=owner.seed,
                task=owner.task,
                after=case.task_names[row - 1],
                component=component,
                base=base,
                outputs=judge_outputs(case, evidence, owner, row, {component.state, base.state}),
                order=case.order,
            )
        )
    shared = tuple(method.name for method in case.trained if not method.has_component_per_task)
    unlabelled = tuple(method.name for method in case.trained if method.selection != "oracle")
    return Certificate(proofs=tuple(proofs), shared=shared, unlabelled=unlabelled)


def judge_component(case: Case, evidence: Evidence, owner: Owner, row: int) -> Finding:
    """The component's fingerprint after its training, in the row, and of its file now."""
    training, cells = case.trainings.get(owner), case.list_cells(owner.method, owner.seed, row, owner.task)
    if training is None or not cells:
        return Finding("not shown", "the results do not tell of it")
    trained = training.component_fingerprint
    for cell in cells:
        if cell.component_fingerprint != trained:
            return Finding(
                "changed", f"fingerprint {trained} when trained, {cell.component_fingerprint} in {cell.place}"
            )
    now = evidence.components.get(owner)
    if now is None:
        return Finding("not shown", "its files cannot be read")
    if now != trained:
        return Finding("changed", f"fingerprint {trained} when trained, {now} in its file now")
    return Finding(
        "unchanged", f"fingerprint {trained} when trained, in {cells[0].place}, and in its file now"
    )


def judge_base(case: Case, evidence: Evidence, owner: Owner, row: int) -> Finding:
    """The base's fingerprint before and after every training from the task's own to the row's, and now."""
    wanted = case.claims.base.fingerprint
    between = case.task_names[case.task_names.index(owner.task) : row]
    for task in between:
        training = case.trainings.get(owner._replace(task=task))
        if training is None:
            return Finding("not shown", f"the results tell of no training on {task}")
        for stage, found in (
            ("before", training.base_fingerprint_before),
            ("after", training.base_fingerprint_after),
        ):
            if found != wanted:
                return Finding(
                    "changed", f"fingerprint {wanted} as loaded, {found} {stage} the training on {task}"
                )
    if evidence.base is None:
        return Finding("not shown", "the base is not here to be looked at")
    if evidence.base != wanted:
        return Finding("changed", f"fingerprint {wanted} in the run, {evidence.base} now")
    return Finding(
        "unchanged", f"fingerprint {wanted} before and after {len(between)} trainings, and loaded now"
    )


def judge_outputs(case: Case, evidence: Evidence, owner: Owner, row: int, bytes_are: set[State]) -> Finding:
    """How it is known that the task's answers are the same in a later row; ``bytes_are`` of the other two."""
    own = {cell.split: cell for cell in list_own_cells(case, owner)}
    cells = case.list_cells(owner.method, owner.seed, row, owner.task)
    if "test" not in {cell.split for cell in cells} or own.keys() != {cell.split for cell in cells}:
        return Finding("not shown", "the results do not tell of them")
    agreements = {entry.split: entry for entry in evidence.agreements.get((owner, row), ())}
    said: list[str] = []
    for cell in cells:
        agreement = agreements.get(cell.split)
        if agreement is not None and agreement.difference is not None:
            return Finding("changed", f"{cell.split}: {agreement.difference}")
        if agreement is not None:
            count = "all" if agreement.again == agreement.total else f"{agreement.again} of"
            said.append(f"{count} {agreement.total} predictions of {cell.split} decoded again")
        if cell.origin == "rechecked":
            continue
        if cell.origin not in ("taken-over", "canary") or cell.folder != own[cell.split].folder:
            return Finding("not shown", f"{cell.place}: {cell.origin}, with the predictions in {cell.folder}")
        if bytes_are != {"unchanged"}:
            return Finding("not shown", f"{cell.split} was taken over, but not on equal bytes")
        said.append(f"{cell.split} taken over on equal bytes")
    if owner in evidence.decoded:
        difference = evidence.decoded[owner]
        if difference is not None:
            return Finding("changed", difference)
        said.append("decoded now: the same")
    return Finding("unchanged", "; ".join(said))


def check_isolation(certificate: Certificate) -> Check:
    """The certificate as one line."""
    found: dict[State, list[str]] = {"unchanged": [], "changed": [], "not shown": []}
    for proof in certificate.proofs:
        about = f"{proof.method}, seed {proof.seed}, {proof.task} after {proof.after}"
        about += f", order {proof.order}" if proof.order else ""
        parts = (("component", proof.component), ("base", proof.base), ("outputs", proof.outputs))
        for name, entry in parts:
            found[entry.state].append(f"{about}: {name} {entry.state}: {entry.because}")
    return Check(
        subject="isolation",
        about="component, base and outputs of every older task after every newer one",
        count=3 * len(certificate.proofs),
        differences=tuple(found["changed"]),
        unchecked=tuple(found["not shown"]),
        notes=(
            *(f"{name} shares its component: no isolation claimed" for name in certificate.shared),
            *(
                f"{name} does without the task's label: no isolation claimed"
                for name in certificate.unlabelled
            ),
        ),
    )
