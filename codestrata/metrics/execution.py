"""Scores that run completions: the share that passes its tests.

What this does not do: confine the programs; what stops them and what does not is told in
``languages.sandbox``.
"""

from collections.abc import Sequence

from codestrata.languages.sandbox import describe_runner, explain_missing, run_programs
from codestrata.records import Prediction, Score
from codestrata.settings import ExecutionSettings


def score_pass_rate(predictions: Sequence[Prediction], language: str, limits: ExecutionSettings) -> Score:
    """Share of completions that, followed by their tests, run to the end (pass@1 with one completion each).

    Predictions without tests are left out: ``n`` and ``per_example`` count only those with tests, in order,
    and ``reason`` says how many were left out. The value is ``None`` where none has tests or the language
    cannot be run here. Equal programs run once.

    Raises: ExecutionError: the language can be run, but not under these limits.
    """
    programs = [program for program in map(build_program, predictions) if program is not None]
    if not predictions:
        return Score(metric="pass@1", value=None, n=0, reason="no predictions")
    if not programs:
        return Score(
            metric="pass@1", value=None, n=0, reason=f"none of {len(predictions)} predictions has tests"
        )
    missing = explain_missing(language)
    if missing is not None:
        return Score(metric="pass@1", value=None, n=len(programs), reason=missing)
    distinct = list(dict.fromkeys(programs))
    outcomes = run_programs(
        language, distinct, timeout_seconds=limits.timeout_seconds, memory_mib=limits.memory_mib
    )
    passed = {
        program: float(outcome.status == "passed")
        for program, outcome in zip(distinct, outcomes, strict=True)
    }
    passes = tuple(passed[program] for program in programs)
    untested = len(predictions) - len(programs)
    return Score(
        metric="pass@1",
        value=sum(passes) / len(passes),
        n=len(passes),
        reason=f"{untested} of {len(predictions)} predictions have no tests and are left out"
        if untested
        else None,
        per_example=passes,
        variant=f"{describe_runner(language)}, {limits.timeout_seconds:g} s, {limits.memory_mib} MiB",
    )


def build_program(prediction: Prediction) -> str | None:
    """A completion followed by its tests; ``None`` without tests or with blank ones."""
    if prediction.tests is None or not prediction.tests.strip():
        return None
    return f"{prediction.completion}\n{prediction.tests}"
