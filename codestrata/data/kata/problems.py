"""Kata problems: distinct programs with executable tests, split so that no training ever sees a test problem.

Two programs are the same problem if they give the same outputs on 50 fixed probe inputs. The split is a pure
function of a problem, not of a seed or a list: its behaviour decides between training, validation and test,
and a share of the skeletons (programs with constants masked) is held out of training altogether. Whatever
trains on problems of the ``train`` split, the pocket base's pretraining included, is therefore free of the
validation and test problems of every run.

What this does not do: print programs or statements (``printers``, ``phrases``).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any, Literal

from codestrata.data.kata.phrases import phrase_program
from codestrata.data.kata.printers import print_program, print_tests
from codestrata.data.kata.programs import Program, draw_program, interpret, pick
from codestrata.errors import SettingsError, describe_unknown
from codestrata.records import Example, Task
from codestrata.settings.tasks import TaskSettings

LANGUAGES = ("python", "javascript", "lua")
PROBES = 50
CASES = 10
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.08
UNSEEN_SHARE = 0.2
LARGEST_COMMON_SHARE = 0.8
PATIENCE = 20_000
"""Draws in a row that bring nothing new, or nothing of use, before a search ends."""
"""A program that gives one output on more than this share of the probes says too little to be a problem."""

Split = Literal["train", "validation", "test", "unseen"]

ALPHABET = "abcdeinorstABEST0123 "
EDGE_CASES: dict[str, tuple[Any, ...]] = {
    "xs": ([], [0], [-1], [7, 7, 7], [-3, -2, -1], [1, 2, 3, 4, 5, 6], [10, -10, 10, -10]),
    "s": ("", " ", "a", "aaa", "TeST", "one two  three", "noon Anna 2022"),
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A program with its identity: ``behaviour`` is a SHA-256 over its outputs on the probes."""

    program: Program
    behaviour: str

    @property
    def skeleton(self) -> str:
        """The program with its constants masked."""
        return self.program.write(masked=True)

    @property
    def split(self) -> Split | None:
        """Where the problem belongs; ``None`` for held-out skeletons whose behaviour is not a test's."""
        place = take_share("behaviour", self.behaviour)
        held_out = take_share("skeleton", self.skeleton) < UNSEEN_SHARE
        if place < TEST_SHARE:
            return "unseen" if held_out else "test"
        if held_out:
            return None
        return "validation" if place < TEST_SHARE + VALIDATION_SHARE else "train"


def take_share(purpose: str, text: str) -> float:
    """A number in [0, 1) that depends on the text alone, evenly spread."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {text}".encode()).digest()[:8], "big") / 2**64


def draw_argument(rng: Random, source: str) -> Any:
    """A random argument: 1 to 9 numbers, or a string of up to 24 characters in words."""
    if source == "xs":
        low, high = pick(rng, ((-9, 12), (0, 9), (-30, 60), (1, 4)))
        return [low + int(rng.random() * (high - low + 1)) for _ in range(1 + int(rng.random() * 9))]
    return "".join(pick(rng, ALPHABET) for _ in range(1 + int(rng.random() * 24)))


@lru_cache(maxsize=2)
def list_probes(source: str) -> tuple[Any, ...]:
    """The 50 arguments on which behaviour is compared: edge cases, then random ones; the same for ever."""
    rng = Random(f"probes of {source}")
    drawn = [draw_argument(rng, source) for _ in range(PROBES - len(EDGE_CASES[source]))]
    return (*EDGE_CASES[source], *drawn)


def build_problem(program: Program) -> Problem | None:
    """The program as a problem, or ``None`` where it gives nearly always the same output."""
    outputs = [json.dumps(interpret(program, probe)) for probe in list_probes(program.source)]
    if max(outputs.count(output) for output in set(outputs)) > LARGEST_COMMON_SHARE * PROBES:
        return None
    return Problem(
        program=program, behaviour=hashlib.sha256("\n".join([program.source, *outputs]).encode()).hexdigest()
    )


def draw_problems(seed: int) -> Iterator[Problem]:
    """A walk over distinct problems, the same for one seed everywhere, until hardly any are left."""
    rng = Random(f"kata {seed}")
    seen = set[str]()
    fruitless = 0
    while fruitless < PATIENCE:
        problem = build_problem(draw_program(rng))
        fruitless += 1
        if problem is not None and problem.behaviour not in seen:
            seen.add(problem.behaviour)
            fruitless = 0
            yield problem


def build_cases(problem: Problem) -> list[tuple[Any, Any]]:
    """(argument, expected) pairs of a problem: edge cases and random inputs, found by interpreting it."""
    source = problem.program.source
    rng = Random(f"cases {problem.behaviour}")
    arguments = [*EDGE_CASES[source], *(draw_argument(rng, source) for _ in range(CASES))]
    return [(argument, interpret(problem.program, argument)) for argument in arguments]


def build_example(problem: Problem, language: str, *, phrasing: int = 0) -> Example:
    """The problem as an example of a language; ``phrasing`` chooses how it is said."""
    statement = phrase_program(problem.program, Random(f"phrase {phrasing} {problem.behaviour}"))
    return Example(
        identifier=f"{problem.behaviour[:16]}-{phrasing}",
        prompt=f"{language}: {statement}",
        target=print_program(problem.program, language),
        tests=print_tests(build_cases(problem), language) if language in LANGUAGES else None,
        group=problem.program.result.name,
    )


def choose_problems(seed: int, counts: Mapping[Split, int]) -> Mapping[Split, tuple[Problem, ...]]:
    """The first problems of a seed's walk, as many of each split as asked for."""
    return collect_problems(seed, tuple(counts.items()))


@lru_cache(maxsize=2)  # the tasks of a run differ in language and share their problems
def collect_problems(seed: int, counts: tuple[tuple[Split, int], ...]) -> Mapping[Split, tuple[Problem, ...]]:
    """``choose_problems`` with arguments that can be remembered. Raises SettingsError: there are too few."""
    wanted = dict(counts)
    chosen: dict[Split, list[Problem]] = {split: [] for split in wanted}
    missing = sum(wanted.values())
    fruitless = 0
    for problem in draw_problems(seed):
        if not missing or fruitless == PATIENCE:
            break
        split = problem.split
        fruitless += 1
        if split in chosen and len(chosen[split]) < wanted[split]:
            chosen[split].append(problem)
            missing -= 1
            fruitless = 0
    if missing:
        found = ", ".join(f"{len(chosen[split])} of {wanted[split]} {split}" for split in wanted)
        raise SettingsError(f"kata has too few different problems for this: found {found}. Ask for fewer.")
    return {split: tuple(problems) for split, problems in chosen.items()}


def load_kata(settings: TaskSettings) -> Task:
    """A kata task in the settings' language; the same seed gives the same problems in every language.

    Raises: SettingsError: a language that kata is not printed in.
    """
    language = settings.code_language
    if language not in LANGUAGES:
        raise SettingsError(describe_unknown("kata language", language, LANGUAGES))
    counts: dict[Split, int] = {
        "train": settings.train_examples,
        "validation": settings.validation_examples,
        "test": settings.test_examples,
        "unseen": settings.unseen_examples,
    }
    problems = choose_problems(settings.seed, counts)
    splits = {
        split: tuple(build_example(problem, language) for problem in chosen)
        for split, chosen in problems.items()
    }
    return Task(
        name=settings.name,
        language=language,
        objective="generate",
        evaluation_objective="generate",
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        unseen=splits["unseen"],
        prompt_template=f"{language}: {{}}",
    )
