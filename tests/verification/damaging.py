"""Damage to finished runs that fits itself or not, and what verifying them finds."""

from codestrata.files import read_json, read_jsonl, write_json, write_jsonl
from codestrata.manifests import measure_folder, seal_folder
from codestrata.store import APART
from codestrata.verification.claims import read_claims
from codestrata.verification.inputs import build_case
from codestrata.verification.runs import verify_run


def reseal(run):
    """Make the checksums fit whatever the run holds now."""
    seal_folder(run.path, measure_folder(run.path, APART))


def edit_results(run, edit):
    """Change the results in place."""
    path = run.path / "experimental_results.json"
    tree = read_json(path)
    edit(tree)
    write_json(path, tree)


def edit_answers(run, folder, task, place, **fields):
    """Change one stored prediction of a task; gives what is stored now."""
    path = run.path / folder / "predictions.jsonl"
    rows = [row for _, row in read_jsonl(path)]
    chosen = [row for row in rows if row["task"] == task][place]
    chosen |= fields
    write_jsonl(path, rows)
    return chosen


def flip(path, place=-1):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def find(run, **options):
    """Subject -> verdict and first sentence, of the checks that do not pass."""
    verification = verify_run(run, **options)
    checks = [check for check in verification.checks if check.verdict != "same"]
    assert verification.holds == (not checks)
    return {check.subject: (check.verdict, check.first) for check in checks}


def open_case(run):
    """The run as the checks take it."""
    return build_case(run, read_claims(run))[0]


def read_all(run):
    """Every file of a run with its bytes and times."""
    files = [path for path in sorted(run.path.rglob("*")) if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
