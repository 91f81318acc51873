"""Kata programs as trees: what they are, what they compute, and how they are drawn at random.

A program takes a list of numbers ``xs`` or a string ``s``, may rearrange it, walks it element by element
through steps that keep, change or stop, gathers one result and may finish it.

What this does not do: print a program (``printers``), say it (``phrases``) or pick problems (``problems``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from codestrata.data.kata.operations import (
    ARRANGEMENTS,
    CHANGES,
    FINISHES,
    RESULTS,
    TESTS,
    ElementKind,
    Operation,
    Result,
)

MASK = "_"


@dataclass(frozen=True, slots=True)
class Call:
    """An operation with its constant, if it has one."""

    operation: Operation
    constant: int | str | None = None

    def write(self, *, masked: bool) -> str:
        """``above(3)``, or ``above(_)`` with the constant masked."""
        if self.constant is None:
            return self.operation.name
        return f"{self.operation.name}({MASK if masked else self.constant})"


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one element on its way.

    ``keep`` and ``stop`` ask a test; ``change`` acts always or where its test holds; ``measure`` turns a word
    into its length, so that later steps act on numbers.
    """

    verb: Literal["keep", "stop", "change", "measure"]
    test: Call | None = None
    change: Call | None = None

    def write(self, *, masked: bool) -> str:
        """The step as text, for the program's identity and its skeleton."""
        parts = [call.write(masked=masked) for call in (self.test, self.change) if call is not None]
        return f"{self.verb} {' '.join(parts)}".strip()


@dataclass(frozen=True, slots=True)
class Program:
    """A tree: the kind of element walked over, an arrangement, steps, a result and a finish."""

    element: ElementKind
    arrangement: Call | None
    steps: tuple[Step, ...]
    result: Result
    finish: Call | None

    def write(self, *, masked: bool = False) -> str:
        """The whole tree as one line; with ``masked`` its skeleton, the constants left out."""
        parts = [
            self.element,
            "" if self.arrangement is None else self.arrangement.write(masked=masked),
            *(step.write(masked=masked) for step in self.steps),
            self.result.name,
            "" if self.finish is None else self.finish.write(masked=masked),
        ]
        return " | ".join(parts)

    @property
    def source(self) -> Literal["xs", "s"]:
        """The name of the argument: a list of numbers, or a string."""
        return "xs" if self.element == "number" else "s"


def split_elements(program: Program, argument: Any) -> Sequence[Any]:
    """What the loop walks over: the numbers, the characters, or the words."""
    if program.arrangement is not None:
        argument = program.arrangement.operation.run(argument, program.arrangement.constant)
    return argument.split() if program.element == "word" else argument  # type: ignore[no-any-return]


def interpret(program: Program, argument: Any) -> Any:
    """The value of the program for one argument: this, and no printer, defines what a program means."""
    result = program.result
    value, memory = result.start, dict[Any, int]()
    for element in split_elements(program, argument):
        verdict, element = pass_through(program.steps, element)
        if verdict == "stop":
            break
        if verdict == "skip":
            continue
        value = result.fold(value, element, memory)
        if result.leaves:
            return value
    return value if program.finish is None else program.finish.operation.run(value, program.finish.constant)


def pass_through(steps: Sequence[Step], element: Any) -> tuple[Literal["take", "skip", "stop"], Any]:
    """What becomes of one element on its way through the steps."""
    for step in steps:
        if step.verb == "measure":
            element = len(element)
            continue
        holds = step.test is None or step.test.operation.run(element, step.test.constant)
        if step.verb == "stop" and holds:
            return "stop", element
        if step.verb == "keep" and not holds:
            return "skip", element
        if step.change is not None and holds:
            element = step.change.operation.run(element, step.change.constant)
    return "take", element


def draw_call(rng: Random, operations: Sequence[Operation]) -> Call:
    """One of the operations, with one of its constants."""
    operation = pick(rng, operations)
    return Call(operation, pick(rng, operation.constants) if operation.constants else None)


def pick(rng: Random, choices: Sequence[Any]) -> Any:
    """One of the choices; written out because ``Random.choice`` may change between Python versions."""
    return choices[int(rng.random() * len(choices))]


def draw_step(rng: Random, element: ElementKind) -> Step:
    """One step fit for the kind of element."""
    roll = rng.random()
    if element == "word" and roll < 0.2:
        return Step("measure")
    if roll < 0.5:
        return Step("keep", test=draw_call(rng, TESTS[element]))
    if roll < 0.6:
        return Step("stop", test=draw_call(rng, TESTS[element]))
    if roll < 0.93:
        return Step("change", change=draw_call(rng, CHANGES[element]))
    return Step("change", test=draw_call(rng, TESTS[element]), change=draw_call(rng, CHANGES[element]))


def draw_program(rng: Random) -> Program:
    """A random program: mostly one or two steps."""
    element: ElementKind = pick(rng, ("number", "number", "number", "character", "word", "word"))
    current: ElementKind = element
    steps = []
    for _ in range(pick(rng, (0, 1, 1, 1, 1, 1, 2, 2, 2))):
        step = draw_step(rng, current)
        steps.append(step)
        current = "number" if step.verb == "measure" else current
    result: Result = pick(rng, [result for result in RESULTS if current in result.elements])
    arranges = bool(ARRANGEMENTS[element]) and rng.random() < 0.12
    finishes = result.gives == "number" and rng.random() < 0.2
    return Program(
        element=element,
        arrangement=draw_call(rng, ARRANGEMENTS[element]) if arranges else None,
        steps=tuple(steps),
        result=result,
        finish=draw_call(rng, FINISHES) if finishes else None,
    )
