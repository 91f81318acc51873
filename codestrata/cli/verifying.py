"""``codestrata verify``: a finished run computed again, and its isolation certificate.

What this does not do: anything that ``verification.runs.verify_run`` does.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from codestrata.cli.comparing import JsonOption, RunsOption
from codestrata.cli.display import LiveProgress, console, render
from codestrata.cli.offline import OfflineOption
from codestrata.report.tables import Table
from codestrata.store import RunDirectory, open_run

if TYPE_CHECKING:
    from codestrata.verification.certificate import Certificate, Finding
    from codestrata.verification.runs import Verification

FAILED = 1
SHOWN = 60


def verify(
    run: Annotated[str, typer.Argument(help="Name or path of a finished run.")],
    decode: Annotated[
        bool, typer.Option("--decode", help="Also decode every prediction again from the components.")
    ] = False,
    allow_unconfined: Annotated[
        bool,
        typer.Option("--allow-unconfined", help="Run its programs although nothing here would confine them."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
    offline: OfflineOption = False,
) -> None:
    """Compute a finished run again: files, fingerprints, metrics; certify that older tasks kept theirs."""
    directory = find_run(runs, run)
    from codestrata.verification.runs import describe_verification, verify_run

    with LiveProgress(console(), quiet=quiet) as progress:
        verification = verify_run(
            directory, decode=decode, allow_unconfined=allow_unconfined, progress=progress
        )
    if as_json:
        typer.echo(json.dumps(describe_verification(verification)))
    else:
        show_verification(verification, decoded=decode)
    if not verification.holds:
        raise typer.Exit(FAILED)


def find_run(root: Path, name: str) -> RunDirectory:
    """A run by name or path; one that was finished even where its settings are gone since.

    Raises: RunError: there is none.
    """
    finished = [run for run in (RunDirectory(root / name), RunDirectory(Path(name))) if run.is_done]
    return finished[0] if finished else open_run(root, name)


def show_verification(verification: "Verification", *, decoded: bool) -> None:
    """Print the checks, the certificate, and one line that says what came out."""
    out = Console()
    out.print(render(build_check_table(verification)))
    certificate = verification.certificate
    if certificate.proofs:
        out.print(render(build_certificate_table(certificate)))
    for check in verification.checks:
        beyond = len(check.differences) + len(check.unchecked) - 1
        if beyond > 0:
            typer.echo(f"{check.subject}: {beyond} more; --json lists them.")
        for note in check.notes:
            typer.echo(f"{check.subject}: {note}")
    if verification.holds:
        typer.echo(f"Run {verification.run!r} holds: everything that was compared is the same.")
    else:
        failed = [f"{check.subject} {check.verdict}" for check in verification.checks if check.first]
        typer.echo(f"Run {verification.run!r} does not hold: {', '.join(failed)}.")
    if not decoded:
        typer.echo("Predictions were not decoded again; --decode does.")


def build_check_table(verification: "Verification") -> Table:
    """What became of every check; a sentence that the one above has too is not said again."""
    rows: list[tuple[str, ...]] = []
    before = None
    for check in verification.checks:
        said = "the same" if check.first and check.first == before else check.first or ""
        rows.append((check.subject, check.verdict, str(check.count), said))
        before = check.first
    header = ("check", "verdict", "compared", "first difference")
    return Table(f"Run {verification.run}", header, tuple(rows))


def build_certificate_table(certificate: "Certificate") -> Table:
    """The certificate, of a long one what does not hold first."""
    proofs = certificate.proofs
    title = "Isolation: older tasks after newer ones"
    if len(proofs) > SHOWN:
        proofs = tuple(sorted(proofs, key=lambda proof: proof.holds)[:SHOWN])
        title += f" ({SHOWN} of {len(certificate.proofs)}; --json has all)"
    rows = tuple(
        (
            proof.method,
            str(proof.seed),
            proof.task,
            proof.after,
            proof.component.state,
            proof.base.state,
            describe_finding(proof.outputs),
        )
        for proof in proofs
    )
    return Table(title, ("method", "seed", "task", "after", "component", "base", "outputs"), rows)


def describe_finding(finding: "Finding") -> str:
    """Whether outputs are unchanged, and how that is known."""
    return f"{finding.state}: {finding.because}"
