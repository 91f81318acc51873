"""Problems: how many there are, what makes two of them one, and that no test problem is ever trained on."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from random import Random

import pytest

from codestrata.data.kata import problems as kata
from codestrata.data.kata.operations import ARRANGEMENTS, RESULTS
from codestrata.data.kata.problems import (
    LANGUAGES,
    PROBES,
    Problem,
    build_cases,
    build_example,
    build_problem,
    choose_problems,
    draw_problems,
    list_probes,
    load_kata,
    take_share,
)
from codestrata.data.kata.programs import Call, Program, draw_program, interpret
from codestrata.errors import SettingsError
from codestrata.settings.tasks import TaskSettings

GOLDEN = "709c8bbacdc4df5e4bd04082caab31bdc17634dcbcda3129887337b5b1a9fb66"
"""SHA-256 over ``describe_examples``: another machine, Python or hash seed must come to the same."""


def describe_examples() -> str:
    """A digest of everything that is generated for 50 problems in the three languages."""
    rows = [
        [example.identifier, example.prompt, example.target, example.tests, example.group, problem.split]
        for number, problem in enumerate(islice(draw_problems(7), 50))
        for language in LANGUAGES
        for example in [build_example(problem, language, phrasing=number % 3)]
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def test_everything_generated_is_pinned():
    assert describe_examples() == GOLDEN


@pytest.mark.parametrize("hash_seed", ["1", "2024"])
def test_another_process_generates_the_same(hash_seed):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_problems as t; print(t.describe_examples())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, os.path.dirname(__file__)],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == GOLDEN


def test_the_first_three_thousand_are_distinct(walk):
    assert len(walk) == 3000
    outputs = {
        json.dumps([problem.program.source, [interpret(problem.program, probe) for probe in probes]])
        for problem in walk
        for probes in [list_probes(problem.program.source)]
    }
    assert len(outputs) == len({problem.behaviour for problem in walk}) == 3000
    assert len({problem.skeleton for problem in walk}) >= 2000


@pytest.mark.slow
def test_twenty_thousand_problems_exist():
    problems = list(islice(draw_problems(0), 20_000))
    assert len({problem.behaviour for problem in problems}) == 20_000
    assert len({problem.skeleton for problem in problems}) >= 2_000


@pytest.mark.parametrize("source", ["xs", "s"])
def test_probes(source):
    probes = list_probes(source)
    assert len(probes) == PROBES == 50
    assert len({json.dumps(probe) for probe in probes}) >= 48
    assert ([] if source == "xs" else "") in probes
    if source == "xs":
        assert any(min(probe, default=0) < 0 for probe in probes)
        assert any(len(set(probe)) < len(probe) for probe in probes)


def test_behaviour_is_what_a_program_does_and_not_how_it_is_written():
    (count,) = [row for row in RESULTS if row.name == "count"]
    plain = Program(element="number", arrangement=None, steps=(), result=count, finish=None)
    (sort,) = [row for row in ARRANGEMENTS["number"] if row.name == "sort"]
    sorted_first = replace(plain, arrangement=Call(sort))
    assert build_problem(plain).behaviour == build_problem(sorted_first).behaviour
    assert build_problem(plain).skeleton != build_problem(sorted_first).skeleton
    words = replace(plain, element="word")
    assert build_problem(plain).behaviour != build_problem(words).behaviour


def test_programs_that_say_too_little_are_no_problems(walk):
    (exists,) = [row for row in RESULTS if row.name == "exists"]
    always = Program(element="number", arrangement=None, steps=(), result=exists, finish=None)
    assert build_problem(always) is None  # False only for the empty list
    for problem in walk[:300]:
        outputs = [
            json.dumps(interpret(problem.program, probe)) for probe in list_probes(problem.program.source)
        ]
        assert max(map(outputs.count, outputs)) <= 40


def test_cases_are_right_and_hold_the_edge_cases(walk):
    for problem in walk[:300]:
        cases = build_cases(problem)
        assert len(cases) == 17
        assert ([] if problem.program.source == "xs" else "") in [argument for argument, _ in cases]
        assert all(interpret(problem.program, argument) == expected for argument, expected in cases)
        assert cases == build_cases(problem)


def test_shares_are_even():
    shares = [take_share("purpose", str(number)) for number in range(4000)]
    assert 0 <= min(shares)
    assert max(shares) < 1
    assert [sum(low <= share < low + 0.25 for share in shares) / 1000 for low in (0, 0.25, 0.5, 0.75)] == (
        pytest.approx([1, 1, 1, 1], abs=0.1)
    )
    assert take_share("a", "x") != take_share("b", "x")


def test_the_split_is_a_function_of_behaviour_and_skeleton(walk):
    for problem in walk:
        again = Problem(program=replace(problem.program), behaviour=problem.behaviour)
        assert again.split == problem.split
    sizes = {split: sum(problem.split == split for problem in walk) for split in {p.split for p in walk}}
    assert sizes.keys() == {"train", "validation", "test", "unseen", None}
    shares = {split: size / len(walk) for split, size in sizes.items()}
    assert shares["train"] == pytest.approx(0.8 * 0.72, abs=0.04)
    assert shares["validation"] == pytest.approx(0.8 * 0.08, abs=0.02)
    assert shares["test"] == pytest.approx(0.8 * 0.2, abs=0.03)
    assert shares["unseen"] == pytest.approx(0.2 * 0.2, abs=0.02)


def test_one_behaviour_is_never_both_trained_on_and_tested():
    """Whatever skeleton a behaviour is found under, its splits are either tests or trainings."""
    for behaviour in map(str, range(200)):
        found = set()
        for steps in range(40):
            program = FakeProgram(f"skeleton {steps}")
            found.add(Problem(program=program, behaviour=behaviour).split)
        assert found <= {"test", "unseen"} or found <= {"train", None} or found <= {"validation", None}, found


class FakeProgram:
    def __init__(self, skeleton):
        self.skeleton = skeleton

    def write(self, *, masked):
        assert masked
        return self.skeleton


@pytest.fixture(scope="module")
def walks(walk):
    """Problems of three seeds."""
    return [*walk, *islice(draw_problems(1), 900), *islice(draw_problems(2), 900)]


def test_no_training_problem_of_any_seed_is_a_held_out_one(walks):
    places = {
        split: [p for p in walks if p.split == split] for split in ("train", "validation", "test", "unseen")
    }
    trained = {problem.behaviour for problem in places["train"]}
    texts = {problem.program.write() for problem in places["train"]}
    for split in ("validation", "test", "unseen"):
        assert len(places[split]) > 150
        assert not trained & {problem.behaviour for problem in places[split]}
        assert not texts & {problem.program.write() for problem in places[split]}
    skeletons = {problem.skeleton for problem in places["train"] + places["validation"] + places["test"]}
    assert not skeletons & {problem.skeleton for problem in places["unseen"]}
    validated = {problem.behaviour for problem in places["validation"]}
    assert not validated & {problem.behaviour for problem in places["test"] + places["unseen"]}


def test_phrasing_changes_the_statement_and_nothing_else(walk):
    for problem in walk[:200]:
        examples = [build_example(problem, "lua", phrasing=number) for number in range(6)]
        assert len({example.prompt for example in examples}) >= 2
        assert len({(example.target, example.tests, example.group) for example in examples}) == 1
        assert {example.identifier.partition("-")[0] for example in examples} == {problem.behaviour[:16]}
        assert len({example.identifier for example in examples}) == 6


def test_an_example():
    problem = next(draw_problems(0))
    example = build_example(problem, "python")
    assert example.prompt.startswith("python: ")
    assert example.target.startswith("def f(")
    assert example.tests is not None
    assert example.tests.count("assert f(") == 17
    assert example.group == problem.program.result.name
    assert build_example(problem, "pivot").tests is None


def test_choosing_takes_the_first_of_each_split(walk):
    counts = {"train": 40, "test": 10, "unseen": 3}
    chosen = choose_problems(0, counts)
    assert {split: len(found) for split, found in chosen.items()} == counts
    for split, found in chosen.items():
        assert list(found) == [problem for problem in walk if problem.split == split][: counts[split]]
    assert [*choose_problems(0, {"train": 0})["train"]] == []
    assert choose_problems(0, {"train": 20})["train"] == chosen["train"][:20]


def build_settings(name="python", **values):
    counts = {"train_examples": 30, "validation_examples": 4, "test_examples": 9, "unseen_examples": 2}
    return TaskSettings(name=name, **{**counts, **values})


def test_a_task_is_what_the_settings_ask_for():
    task = load_kata(build_settings())
    assert [len(split) for split in (task.train, task.validation, task.test, task.unseen)] == [30, 4, 9, 2]
    assert (task.name, task.language) == ("python", "python")
    assert (task.objective, task.evaluation_objective) == ("generate", "generate")
    assert task.prompt_template.format("count xs") == "python: count xs"
    examples = [*task.train, *task.validation, *task.test, *task.unseen]
    assert len({example.identifier for example in examples}) == 45
    assert all(example.prompt.startswith("python: ") for example in examples)
    assert load_kata(build_settings()) == task


def test_tasks_of_one_seed_share_their_problems_across_languages():
    tasks = [load_kata(build_settings(name)) for name in LANGUAGES]
    identifiers = [[example.identifier for example in task.train + task.test] for task in tasks]
    assert identifiers[0] == identifiers[1] == identifiers[2]
    statements = [[example.prompt.partition(": ")[2] for example in task.train] for task in tasks]
    assert statements[0] == statements[1] == statements[2]
    assert len({task.train[0].target for task in tasks}) == 3


def test_the_name_may_differ_from_the_language_and_the_seed_decides():
    task = load_kata(build_settings("snake", language="python"))
    assert (task.name, task.language) == ("snake", "python")
    assert task.train == load_kata(build_settings()).train
    assert task.train != load_kata(build_settings(seed=1)).train


def test_a_missing_unseen_split_is_empty():
    assert load_kata(build_settings(unseen_examples=0)).unseen == ()


def test_an_unknown_language_is_refused_before_drawing(monkeypatch):
    monkeypatch.setattr(kata, "draw_problems", None)
    with pytest.raises(
        SettingsError, match=r"'pyton'. Did you mean 'python'\? Known: javascript, lua, python\."
    ):
        load_kata(build_settings("pyton"))
    with pytest.raises(SettingsError, match="'pivot'"):
        load_kata(build_settings("mine", language="pivot"))


def test_more_problems_than_there_are_is_refused_instead_of_searched_for(monkeypatch):
    monkeypatch.setattr(kata, "PATIENCE", 50)
    monkeypatch.setattr(kata, "draw_program", lambda rng: draw_program(Random(rng.randrange(40))))
    with pytest.raises(
        SettingsError, match=r"too few different problems for this: found .* of 500 train, .*Ask for fewer"
    ):
        kata.collect_problems(987654, (("train", 500), ("test", 1)))
