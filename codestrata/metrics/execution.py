"""Scores that run completions: pass@k, the chance that at least one of k completions passes the tests.

What this does not do: confine the programs (``languages.isolation`` chooses what does), or tell a wrong
completion from one whose tests are wrong.
"""

import re
from collections.abc import Mapping, Sequence
from math import comb

from codestrata.languages.endings import HEADS, cut_program, join_continuation
from codestrata.languages.isolation import choose_isolation
from codestrata.languages.sandbox import Program, run_programs
from codestrata.records import Example, Metric, Prediction, Score
from codestrata.settings.sections import ExecutionSettings


def describe_pass_rate(k: int) -> Metric:
    """What pass@k is."""
    return Metric(
        name=name_pass_rate(k),
        kind="rate",
        formula=f"mean over examples of 1 - C(n - c, {k}) / C(n, {k}); c of an example's n completions pass",
        source="Chen et al. 2021, arXiv:2107.03374",
        implementation="codestrata.metrics.execution, in whole numbers; a pass is a random token that is "
        "given out after the last test",
    )


def name_pass_rate(k: int) -> str:
    """The name of the metric."""
    return f"pass@{k}"


def score_pass_rate(
    predictions: Sequence[Prediction],
    language: str,
    execution: ExecutionSettings,
    pass_k: Sequence[int] = (1,),
) -> tuple[Score, ...]:
    """pass@k for each k, over the examples that have tests, in the order in which they come first.

    Predictions with the same ``identifier`` are the samples of one example. Predictions without tests are
    left out, and ``reason`` says how many examples that are. The value is ``None`` where no example has
    tests, where nothing confines the language here, or where an example has fewer than k samples.
    ``isolation`` names what confined the programs. Equal programs run once.

    Args:
        predictions: Samples of examples.
        language: Of the completions and their tests.
        execution: Limits, and what may confine the programs.
        pass_k: The k, each at least 1.

    Raises: ExecutionError: the language can be run, but not under these limits.
    """
    programs = group_programs(predictions, language)
    examples = len({prediction.identifier for prediction in predictions})
    if not programs:
        reason = f"none of {examples} examples has tests" if predictions else "no predictions"
        return tuple(Score(metric=name_pass_rate(k), value=None, n=0, reason=reason) for k in pass_k)
    isolation = choose_isolation(language, execution.isolation, execution.allow_unconfined)
    if isolation.rung is None:
        return tuple(
            Score(metric=name_pass_rate(k), value=None, n=len(programs), reason=isolation.reason)
            for k in pass_k
        )
    outcomes = run_programs(
        language,
        [program for samples in programs.values() for program in samples],
        timeout_seconds=execution.timeout_seconds,
        memory_mib=execution.memory_mib,
        isolation=isolation,
    )
    passes = iter([outcome.status == "passed" for outcome in outcomes])
    counts = [(len(samples), sum(next(passes) for _ in samples)) for samples in programs.values()]
    left_out = examples - len(programs)
    notice = f"{left_out} of {examples} examples have no tests and are left out" if left_out else None
    variant = f"{isolation.runtime}, {execution.timeout_seconds:g} s, {execution.memory_mib} MiB"
    return tuple(build_score(k, counts, notice, variant, isolation.rung) for k in pass_k)


def group_programs(predictions: Sequence[Prediction], language: str) -> Mapping[str, list[Program]]:
    """The programs of each example's samples, by identifier; examples without tests are missing."""
    programs: dict[str, list[Program]] = {}
    for prediction in predictions:
        program = build_program(prediction, language)
        if program is not None:
            programs.setdefault(prediction.identifier, []).append(program)
    return programs


def build_program(prediction: Prediction | Example, language: str) -> Program | None:
    """A completion with its tests; ``None`` without tests or with blank ones.

    A prelude, even an empty one, stands before the completion, which is cut where the function ends that was
    asked for (``languages.endings``): the last one that the target begins and the tests name, else the one
    that the prelude begins. Of an example, the target is run.
    """
    if prediction.tests is None or not prediction.tests.strip():
        return None
    code = prediction.target if isinstance(prediction, Example) else prediction.completion
    if prediction.prelude is not None:
        name = find_asked(language, prediction.target, prediction.tests)
        if name is None:
            code = join_continuation(language, prediction.prelude, code)
        else:
            code = prediction.prelude + (cut_program(language, code, name) or code)
    return Program(code, prediction.tests)


def find_asked(language: str, target: str, tests: str) -> str | None:
    """The last function that begins in the target's first column and that the tests name; ``None`` if none.

    A body, which does not begin there itself, is asked for in ``complete``.
    """
    is_body = not target.lstrip("\r\n")[:1].strip()
    names = [] if is_body or language not in HEADS else HEADS[language].findall(target)
    words = set(re.findall(r"[\w$]+", tests))
    return next((name for name in reversed(names) if name in words), None)


def build_score(
    k: int, counts: Sequence[tuple[int, int]], notice: str | None, variant: str, isolation: str
) -> Score:
    """pass@k from (samples, passes) of each example."""
    fewest = min(samples for samples, _ in counts)
    if fewest < k:
        reason = f"pass@{k} needs {k} samples of every example, but one has {fewest}"
        return Score(metric=name_pass_rate(k), value=None, n=len(counts), reason=reason)
    rates = tuple(estimate_pass_rate(samples, passes, k) for samples, passes in counts)
    return Score(
        metric=name_pass_rate(k),
        value=sum(rates) / len(rates),
        n=len(rates),
        reason=notice,
        per_example=rates,
        aggregate="rate" if set(rates) <= {0.0, 1.0} else "mean",
        variant=variant,
        isolation=isolation,
    )


def estimate_pass_rate(samples: int, passes: int, k: int) -> float:
    """The chance that k of the samples, drawn without replacement, hold one that passes.

        1 - C(n - c, k) / C(n, k)

    Args:
        samples: n, at least ``k``.
        passes: c, from 0 to n.
        k: At least 1.

    Source: Chen et al. 2021, arXiv:2107.03374, equation 1. The quotient of whole numbers is rounded once, so
    that their product form, made for stability, is not needed.
    """
    draws = comb(samples, k)
    return (draws - comb(samples - passes, k)) / draws
