"""Choose what confines a language's programs: the first rung of the ladder that withstands real attacks here.

What this does not do: fall back on a weaker rung than the one that was asked for, or on plain limits without
consent.
"""

from collections.abc import Iterable
from functools import lru_cache

from codestrata.errors import ExecutionError
from codestrata.languages.confinement import RUNGS, Isolation, check_rung, find_obstacle
from codestrata.languages.containment import (
    HONEST,
    TIMEOUT_SECONDS,
    World,
    carry_out,
    find_attacks,
    open_runner,
)
from codestrata.languages.runtimes import describe_runtime

AUTO = "auto"
CONFINING = ("bubblewrap", "landlock", "deno")
CONSENT = "it confines nothing; consent with execution.allow_unconfined=true"


def find_unconfined(languages: Iterable[str], isolation: str, allow_unconfined: bool) -> str | None:
    """The first language whose programs would run with the user's rights here, as these settings consent to.

    Raises: ExecutionError: there is no such rung.
    """
    if allow_unconfined:
        for language in languages:
            if choose_isolation(language, isolation, allow_unconfined=True).rung == "limits":
                return language
    return None


def choose_isolation(language: str, isolation: str = AUTO, allow_unconfined: bool = False) -> Isolation:
    """What confines a language's programs: a rung that passed its self-test, or ``None`` with the reason.

    The self-test of a rung is made once per process; it takes about a second.

    Args:
        language: ``javascript``, ``lua`` or ``python``.
        isolation: A rung, or ``auto`` for the first that passes: bubblewrap, landlock, deno, then ``limits``.
        allow_unconfined: Consent to ``limits``, which confine nothing.

    Raises: ExecutionError: there is no such rung.
    """
    if isolation != AUTO:
        check_rung(isolation)
    try:
        runtime = describe_runtime(language)
    except ExecutionError as error:
        return Isolation(language=language, rung=None, runtime=None, refused={}, reason=str(error))
    refused: dict[str, str] = {}
    for rung in RUNGS if isolation == AUTO else (isolation,):
        reason = CONSENT if rung == "limits" and not allow_unconfined else explain_refusal(language, rung)
        if reason is None:
            return Isolation(language=language, rung=rung, runtime=runtime, refused=refused)
        refused[rung] = reason
    reasons = "; ".join(f"{rung}: {reason}" for rung, reason in refused.items())
    return Isolation(
        language=language,
        rung=None,
        runtime=runtime,
        refused=refused,
        reason=f"nothing that was asked for confines {language} here ({reasons})",
    )


@lru_cache
def explain_refusal(language: str, rung: str) -> str | None:
    """Why a rung is not used here for a language, found by attacking it; ``None`` if it holds.

    Raises: ExecutionError: the language or the rung is unknown.
    """
    obstacle = find_obstacle(language, rung)
    if obstacle is not None:
        return obstacle
    try:
        return run_honest_program(language, rung) if rung == "limits" else run_self_test(language, rung)
    except ExecutionError as error:
        return str(error)


def run_self_test(language: str, rung: str) -> str | None:
    """What a rung did not withstand; ``None`` if it withstood everything.

    JavaScript and Lua programs have no means of their own to attack the system, so that deno's or Lua's
    refusal would hide a rung that does not hold: on a rung of the system's, Python attacks first.

    Raises: ExecutionError: the rung does not start here.
    """
    if language != "python" and rung != "deno":
        reason = explain_refusal("python", rung)
        if reason is not None:
            return reason
    for name, harm in carry_out(language, rung, find_attacks(language, probes=True)).items():
        if harm:
            return f"the self-test was not contained: {name}: {', '.join(harm)}"
    return None


def run_honest_program(language: str, rung: str) -> str | None:
    """Why an honest program does not pass; ``None`` if it does.

    Raises: ExecutionError: the runner does not start here.
    """
    with World() as world, open_runner(language, rung, world) as runner:
        outcome = runner.run(HONEST[language], TIMEOUT_SECONDS)
    return None if outcome.status == "passed" else f"an honest program {outcome.status}: {outcome.detail}"
