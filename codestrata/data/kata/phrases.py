"""Kata programs as English: several phrasings of each, composed from the operations' phrases.

Two styles: a list of steps ("take xs, keep the numbers above 3, return the sum"), and, for programs simple
enough, a nested noun phrase ("the sum of the squares of xs").

What this does not do: understand English; a phrasing says what the program does, and only that.
"""

from collections.abc import Mapping
from random import Random

from codestrata.data.kata.operations import ElementKind
from codestrata.data.kata.programs import Call, Program, Step, pick

PLURALS: Mapping[ElementKind, str] = {"number": "numbers", "character": "characters", "word": "words"}
KEEPS = ("keep the {those}", "take only the {those}", "look at the {those}")
STOPS = ("stop at the first of the {those}", "stop once you meet one of the {those}")
MEASURES = ("take their lengths", "replace each by its length")


def phrase_program(program: Program, rng: Random) -> str:
    """One phrasing of the program, drawn at random."""
    if can_nest(program) and rng.random() < 0.5:
        return phrase_nested(program, rng)
    return phrase_steps(program, rng)


def phrase_steps(program: Program, rng: Random) -> str:
    """The program as a list of what to do, in order."""
    clauses = [phrase_source(program, rng)]
    if program.arrangement is not None:
        clauses.append(phrase_call(program.arrangement, rng))
    plural = PLURALS[program.element]
    for step in program.steps:
        clauses.append(phrase_step(step, plural, rng))
        plural = "lengths" if step.verb == "measure" else plural
    clauses.append(pick(rng, program.result.phrases))
    if program.finish is not None:
        clauses.append(phrase_call(program.finish, rng))
    joint: str = pick(rng, (", ", ", then ", "; "))
    return joint.join(clauses)


def phrase_source(program: Program, rng: Random) -> str:
    """The opening: what the program walks over."""
    if program.element == "number":
        return str(pick(rng, ("given xs", "for xs", "take xs")))
    plural = PLURALS[program.element]
    return f"{pick(rng, ('given', 'for', 'take'))} the {plural} of s"


def phrase_step(step: Step, plural: str, rng: Random) -> str:
    """One step as a clause."""
    if step.verb == "measure":
        return str(pick(rng, MEASURES))
    those = plural if step.test is None else f"{plural} {phrase_call(step.test, rng)}"
    if step.change is None:
        pattern: str = pick(rng, KEEPS if step.verb == "keep" else STOPS)
        return pattern.format(those=those)
    return phrase_call(step.change, rng, those="each" if step.test is None else f"the {those}")


def can_nest(program: Program) -> bool:
    """Whether the program can be said as a noun phrase: at most one keep, then at most one change."""
    verbs = [step.verb for step in program.steps]
    changes = [step for step in program.steps if step.verb == "change"]
    return (
        program.arrangement is None
        and verbs in ([], ["keep"], ["change"], ["keep", "change"])
        and all(step.test is None and step.change and step.change.operation.nouns for step in changes)
    )


def phrase_nested(program: Program, rng: Random) -> str:
    """The program as a noun phrase: result of change of kept elements."""
    those = "xs" if program.element == "number" else f"the {PLURALS[program.element]} of s"
    if program.element == "number" and (
        (program.steps[:1] and program.steps[0].verb == "keep") or rng.random() < 0.5
    ):
        those = "the numbers in xs"
    for step in program.steps:
        if step.test is not None:
            those = f"{those} {phrase_call(step.test, rng)}"
        elif step.change is not None:
            noun = pick(rng, step.change.operation.nouns).format(those=those, k=step.change.constant)
            those = f"the {noun}"
    sentence = f"{pick(rng, ('the ', ''))}{pick(rng, program.result.nouns)} of {those}"
    return sentence if program.finish is None else f"{sentence}, {phrase_call(program.finish, rng)}"


def phrase_call(call: Call, rng: Random, those: str = "") -> str:
    """One of an operation's phrases, with its constant and what it acts on filled in."""
    return str(pick(rng, call.operation.phrases)).format(k=call.constant, those=those)
