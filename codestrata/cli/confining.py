"""``codestrata sandbox``: what confines generated programs here, what hostile ones can do, how fast it is.

What this does not do: change what a run uses; ``execution.isolation`` of its settings does.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from codestrata.cli.comparing import JsonOption
from codestrata.cli.display import render
from codestrata.report.tables import Table

if TYPE_CHECKING:
    from codestrata.languages.confinement import Isolation

BENCHMARK_PROGRAMS = 1000
CONTAINED, NOT_TRIED = "contained", "-"

Harms = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Language and rung (``python, landlock``) -> attack -> the harm it did; nothing where it was contained."""


def sandbox(
    attacks: Annotated[bool, typer.Option("--attacks", help="Carry out every attack on every rung.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="With --attacks: the table of docs/sandbox.md.")
    ] = False,
    benchmark: Annotated[bool, typer.Option("--benchmark", help="Time 1,000 programs per language.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what confines generated programs here; attack it; time it."""
    if benchmark:
        rows = [time_programs(isolation) for isolation in choose_all()]
        show(rows, "Programs of kata with their tests", as_json=as_json)
    elif attacks or markdown:
        harms = attack_all()
        if markdown:
            typer.echo(write_markdown(harms))
        else:
            show(list_attack_rows(harms), "Attacks", as_json=as_json)
    else:
        show([row for isolation in choose_all() for row in describe(isolation)], "Ladder", as_json=as_json)


def choose_all() -> list["Isolation"]:
    """What confines each language here, without consent to plain limits."""
    from codestrata.languages.isolation import choose_isolation
    from codestrata.languages.runtimes import LANGUAGES

    return [choose_isolation(language) for language in LANGUAGES]


def describe(isolation: "Isolation") -> list[dict[str, Any]]:
    """A row for each rung of a language: chosen, passes too, or why not."""
    from codestrata.languages.confinement import RUNGS
    from codestrata.languages.isolation import CONSENT, explain_refusal

    rows = []
    for rung in RUNGS:
        if isolation.runtime is None:
            state = str(isolation.reason)
        elif rung == isolation.rung:
            state = "chosen"
        elif rung == "limits":
            state = CONSENT
        else:
            reason = isolation.refused.get(rung) or explain_refusal(isolation.language, rung)
            state = f"refused: {reason}" if reason else "passes too"
        rows.append(
            {"language": isolation.language, "rung": rung, "state": state, "runtime": isolation.runtime or ""}
        )
    return rows


def attack_all() -> Harms:
    """The harm that every attack does on every rung that there is here."""
    from codestrata.errors import ExecutionError
    from codestrata.languages.confinement import RUNGS, find_obstacle
    from codestrata.languages.containment import carry_out, find_attacks
    from codestrata.languages.runtimes import LANGUAGES

    harms: dict[str, Mapping[str, tuple[str, ...]]] = {}
    for language in LANGUAGES:
        for rung in RUNGS:
            if find_obstacle(language, rung) is not None:
                continue
            try:
                harms[f"{language}, {rung}"] = carry_out(language, rung, find_attacks(language))
            except ExecutionError as error:
                typer.echo(f"{language}, {rung}: {error}", err=True)
    return harms


def list_attack_rows(harms: Harms) -> list[dict[str, Any]]:
    """A row for each attack: what it did in each language on each rung, and what containment means."""
    from codestrata.languages.attacks import ATTACKS

    return [
        {
            "attack": attack.name,
            **{place: write_harm(found.get(attack.name)) for place, found in harms.items()},
            "contained means": attack.contained,
        }
        for attack in ATTACKS
    ]


def write_harm(harm: Sequence[str] | None) -> str:
    """A cell of the table; an attack that there is not for a language has none."""
    if harm is None:
        return NOT_TRIED
    return f"**{', '.join(harm)}**" if harm else CONTAINED


def write_markdown(harms: Harms) -> str:
    """The attacks as Markdown, a table per language."""
    from codestrata.languages.runtimes import LANGUAGES

    parts = []
    for language in LANGUAGES:
        places = {
            place.removeprefix(f"{language}, "): found
            for place, found in harms.items()
            if place.startswith(f"{language}, ")
        }
        if not places:
            continue
        rows = [row for row in list_attack_rows(places) if any(row[rung] != NOT_TRIED for rung in places)]
        lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
        parts.append(f"### {language}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts)


def time_programs(isolation: "Isolation") -> dict[str, Any]:
    """How long programs of kata take with their tests, on the rung that is used by default."""
    from codestrata.data.kata.problems import load_kata
    from codestrata.languages.sandbox import Program, run_programs
    from codestrata.settings.sections import ExecutionSettings
    from codestrata.settings.tasks import TaskSettings

    row = {"language": isolation.language, "rung": isolation.rung or str(isolation.reason), "programs": 0}
    if isolation.rung is None:
        return {**row, "passed": 0, "seconds": None}
    task = load_kata(
        TaskSettings(
            name=isolation.language,
            train_examples=1,
            validation_examples=0,
            test_examples=BENCHMARK_PROGRAMS,
        )
    )
    programs = [Program(example.target, example.tests or "") for example in task.test]
    limits = ExecutionSettings()
    started = time.perf_counter()
    outcomes = run_programs(
        isolation.language,
        programs,
        timeout_seconds=limits.timeout_seconds,
        memory_mib=limits.memory_mib,
        isolation=isolation,
    )
    seconds = round(time.perf_counter() - started, 2)
    passed = sum(outcome.status == "passed" for outcome in outcomes)
    return {**row, "programs": len(programs), "passed": passed, "seconds": seconds}


def show(rows: Sequence[Mapping[str, Any]], title: str, *, as_json: bool) -> None:
    """Print rows with equal keys, as a table or as JSON."""
    if as_json:
        typer.echo(json.dumps(rows))
        return
    texts = tuple(tuple("" if value is None else str(value) for value in row.values()) for row in rows)
    Console().print(render(Table(title, tuple(rows[0]), texts)))
