"""A finished run computed again: files, fingerprints, metrics, predictions, and the isolation certificate.

Nothing is written, and nothing outside the run is read but the base and the data that its settings name.

What this does not do: mend a run, or find a forgery that is consistent with itself unless it decodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from codestrata.engine.host import Host, prepare_host
from codestrata.engine.states import StateStore
from codestrata.environment import describe_environment
from codestrata.errors import DataError, ExecutionError, ModelError, RunError, SettingsError, shorten
from codestrata.experiment.rescoring import Change, is_lost_score, rescore_run
from codestrata.interrupts import Interrupts
from codestrata.journal import Journal
from codestrata.lab import Lab
from codestrata.models.loading import Base, choose_device
from codestrata.progress import Progress, Silence
from codestrata.records import Task
from codestrata.store import RunDirectory
from codestrata.verification.certificate import (
    Certificate,
    Evidence,
    check_isolation,
    compare_older_answers,
    issue_certificate,
)
from codestrata.verification.checks import Check, describe_check, join_checks
from codestrata.verification.claims import Case, Owner, read_claims
from codestrata.verification.inputs import (
    build_case,
    check_base,
    check_data,
    check_files,
    find_escape,
    list_environment_changes,
)
from codestrata.verification.plan import check_plan
from codestrata.verification.replay import check_predictions
from codestrata.verification.trained import check_components

SUBJECTS = ("plan", "base", "data", "components", "metrics", "predictions", "isolation")
"""What is checked beside the files themselves; predictions where they are decoded."""
HERE = ("/execution/",)
"""Places in the results that tell what confines programs, which may be another thing on this machine."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What became of every check of a run, and the isolation certificate."""

    run: str
    checks: tuple[Check, ...]
    certificate: Certificate

    @property
    def holds(self) -> bool:
        """Whether every check was made and found nothing."""
        return all(check.verdict == "same" for check in self.checks)


def verify_run(
    run: RunDirectory,
    *,
    decode: bool = False,
    allow_unconfined: bool = False,
    progress: Progress | None = None,
) -> Verification:
    """Everything that can be computed again of a finished run, computed and compared.

    Args:
        run: the run; it may have been copied from anywhere, and come from a stranger.
        decode: also decode every stored prediction again, from the components in the files.
        allow_unconfined: score even where the run's settings have programs run with nothing to confine them.
        progress: is told what goes on.

    Raises: RunError: the run is not finished, or a process works on it.
    """
    progress = progress or Silence()
    if run.is_held:
        raise RunError(f"Run {run.name!r} is in use: verify it when the process that works on it has ended.")
    files = check_files(run, progress)
    obstacle = find_escape(run)
    if obstacle is None:
        try:
            claims = read_claims(run)
            case, faults = build_case(run, claims)
        except (DataError, RunError, SettingsError) as error:
            obstacle = str(error)
    if obstacle is not None:
        subjects = [name for name in SUBJECTS if decode or name != "predictions"]
        skipped = [Check(subject=name, about="nothing", count=0, unchecked=(obstacle,)) for name in subjects]
        return Verification(run=run.name, checks=(files, *skipped), certificate=Certificate())
    checks, certificate = verify_case(case, faults, decode, allow_unconfined, progress)
    return Verification(run=run.name, checks=(files, *checks), certificate=certificate)


def verify_case(
    case: Case, faults: tuple[str, ...], decode: bool, allow_unconfined: bool, progress: Progress
) -> tuple[list[Check], Certificate]:
    """All checks but that of the files, and the certificate; ``faults`` are those of ``settings.toml``."""
    device = case.settings.device
    host = prepare_host(threads=device.threads, keep_memory=device.keep_memory)
    plan = check_plan(case, faults)
    base_check, base = check_base(case, progress)
    data_check, tasks = check_data(case, progress)
    cases = [case, *case.list_later_orders()]
    looked_at = [check_components(ordered, progress) for ordered in cases]
    metrics = check_metrics(case.run, progress, allow_unconfined=allow_unconfined)
    checks = [plan, base_check, data_check, join_checks([check for check, _ in looked_at]), metrics]
    decoded: list[Mapping[Owner, str | None]] = [{} for _ in cases]
    if decode:
        answered = [decode_again(ordered, base, tasks, host, progress) for ordered in cases]
        checks.append(join_checks([check for check, _ in answered]))
        decoded = [found for _, found in answered]
    certificates = [
        issue_certificate(
            ordered,
            Evidence(
                base=None if base is None else base.fingerprint,
                components=components,
                agreements=compare_older_answers(ordered),
                decoded=of_order,
            ),
        )
        for ordered, (_, components), of_order in zip(cases, looked_at, decoded, strict=True)
    ]
    proofs = tuple(proof for certificate in certificates for proof in certificate.proofs)
    certificate = replace(certificates[0], proofs=proofs)
    return [*checks, check_isolation(certificate)], certificate


def check_metrics(run: RunDirectory, progress: Progress, *, allow_unconfined: bool = False) -> Check:
    """Every score, interval and verdict of the results against what follows from the stored predictions."""
    nothing = Check(
        subject="metrics",
        about="every entry of the results against what follows from the stored predictions",
        count=0,
    )
    try:
        rescored = rescore_run(run, progress, allow_unconfined=allow_unconfined)
    except (ExecutionError, SettingsError) as error:
        return replace(nothing, unchecked=(str(error),))
    except (DataError, RunError) as error:
        return replace(nothing, differences=(str(error),))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        shape = f"{type(error).__name__}: {shorten(str(error))}"
        return replace(nothing, differences=(f"the results are of a shape that no run writes ({shape})",))
    differences, unchecked, notes = sort_changes(rescored.changes)
    return replace(
        nothing, count=rescored.compared, differences=differences, unchecked=unchecked, notes=notes
    )


def sort_changes(changes: Sequence[Change]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Changed entries of the results as (differences, what cannot be computed here, notes).

    Where a score cannot be computed here, everything that follows from it comes out different too: then only
    the other scores themselves can be compared.
    """
    local = [change for change in changes if is_local(change)]
    lost = [change for change in changes if is_lost_score(change)]
    rest = [change for change in changes if change not in local and change not in lost]
    judged = [change for change in rest if not lost or is_score(change)]
    unchecked = []
    if lost:
        unchecked.append(
            f"{len(lost)} stored scores cannot be computed here, such as {lost[0].pointer}, and "
            f"{len(rest) - len(judged)} entries that may follow from them were not compared"
        )
    notes = []
    if local:
        notes.append(f"programs are confined in another way here: {describe_change(local[0])}")
    return tuple(describe_change(change) for change in judged), tuple(unchecked), tuple(notes)


def is_local(change: Change) -> bool:
    """Whether an entry tells of this machine, and of no number."""
    return change.pointer.startswith(HERE) or change.pointer.endswith("/isolation")


def is_score(change: Change) -> bool:
    """Whether an entry is a score itself."""
    parts = change.pointer.split("/")
    return parts[-1] == "value" and "scores" in parts


def describe_change(change: Change) -> str:
    """An entry of the results that came out different, with both values."""
    return f"{change.pointer}: stored {shorten(change.stored)}, computed {shorten(change.computed)}"


def decode_again(
    case: Case, base: Base | None, tasks: Mapping[str, Task], host: Host, progress: Progress
) -> tuple[Check, dict[Owner, str | None]]:
    """Every prediction once more, where base and device are the run's; and what became of each component."""
    obstacle = find_decoding_obstacle(case, base)
    if base is None or obstacle is not None:
        about = "every stored prediction"
        return Check(subject="predictions", about=about, count=0, unchecked=(obstacle or "",)), {}
    settings = case.settings
    lab = Lab(
        settings=settings,
        base=base,
        tasks=tuple(tasks[name] for name in case.task_names if name in tasks),
        encoded={},
        validation={},
        cut_prompts={},
        host=host,
        store=StateStore(folder=None, settings=settings.cache, base_fingerprint=base.fingerprint),
        progress=progress,
        journal=Journal(),
        interrupts=Interrupts(),
    )
    changes = list_environment_changes(case.claims.environment, describe_environment(base.device))
    rounding = "differences may be rounding: another machine than the run began on"
    return check_predictions(case, lab, [f"{rounding} ({'; '.join(changes)})"] if changes else [])


def find_decoding_obstacle(case: Case, base: Base | None) -> str | None:
    """Why nothing can be decoded as the run did, if it cannot."""
    if base is None:
        return "the base is not here"
    if base.fingerprint != case.claims.base.fingerprint:
        return "the base is not what it was"
    try:
        choose_device(case.settings.device.name)
    except ModelError as error:
        return str(error)
    return None


def describe_verification(verification: Verification) -> dict[str, Any]:
    """The whole of it as plain values."""
    proofs = [asdict(proof) | {"holds": proof.holds} for proof in verification.certificate.proofs]
    return {
        "run": verification.run,
        "holds": verification.holds,
        "checks": [describe_check(check) for check in verification.checks],
        "certificate": {"proofs": proofs, "shares_component": list(verification.certificate.shared)},
    }
