"""Statements: several per problem, saying what the program does and nothing else."""

from dataclasses import replace
from random import Random

import pytest

from codestrata.data.kata.operations import CHANGES, FINISHES, RESULTS, TESTS
from codestrata.data.kata.phrases import can_nest, phrase_nested, phrase_program, phrase_steps
from codestrata.data.kata.programs import Call, Program, Step

PHRASINGS = 8


def find(rows, name):
    (row,) = [row for row in rows if row.name == name]
    return row


KEEP = Step("keep", test=Call(find(TESTS["number"], "above"), 3))
SQUARE = Step("change", change=Call(find(CHANGES["number"], "square")))
SUM_OF_SQUARES = Program(
    element="number",
    arrangement=None,
    steps=(KEEP, SQUARE),
    result=find(RESULTS, "sum"),
    finish=Call(find(FINISHES, "parity")),
)


def draw_all(phrase, program, draws=400):
    return {phrase(program, Random(seed)) for seed in range(draws)}


def test_a_nested_phrase_reads_inside_out():
    said = draw_all(phrase_nested, SUM_OF_SQUARES)
    finishes = ("say whether it is even or odd", "answer even or odd")
    assert said == {
        f"{the}{noun} of the squares of the numbers in xs {which}, {finish}"
        for the in ("the ", "")
        for noun in ("sum", "total")
        for which in ("above 3", "greater than 3")
        for finish in finishes
    }


def test_steps_are_said_in_the_order_they_act():
    said = draw_all(phrase_steps, SUM_OF_SQUARES)
    assert "given xs, keep the numbers above 3, square each, return the sum, answer even or odd" in said
    assert (
        "take xs; look at the numbers greater than 3; square each; add them up; say whether it is even or odd"
        in said
    )
    for sentence in said:
        assert sentence.index("numbers") < sentence.index("square each")


def test_measured_words_are_called_lengths_from_then_on():
    program = Program(
        element="word",
        arrangement=None,
        steps=(Step("keep", test=Call(find(TESTS["word"], "starts"), "t")), Step("measure"), KEEP),
        result=find(RESULTS, "count"),
        finish=None,
    )
    assert (
        "given the words of s, keep the words starting with t, take their lengths, "
        "keep the lengths above 3, count them" in draw_all(phrase_steps, program)
    )
    assert not can_nest(program)


def test_a_conditional_change_names_whom_it_changes():
    step = replace(SQUARE, test=KEEP.test)
    program = replace(SUM_OF_SQUARES, steps=(step,), finish=None)
    assert "for xs, square the numbers above 3, add them up" in draw_all(phrase_steps, program)
    assert not can_nest(program)


@pytest.mark.parametrize(
    ("steps", "nests"),
    [((), True), ((KEEP,), True), ((SQUARE,), True), ((KEEP, SQUARE), True), ((SQUARE, KEEP), False)],
)
def test_only_what_reads_unambiguously_nests(steps, nests):
    assert can_nest(replace(SUM_OF_SQUARES, steps=steps)) is nests


def test_every_problem_has_several_phrasings(walk):
    counts = [
        len({phrase_program(problem.program, Random(draw)) for draw in range(PHRASINGS)})
        for problem in walk[:1000]
    ]
    assert min(counts) >= 3
    assert sum(counts) / len(counts) > 7


def test_equal_statements_mean_equal_problems(walk):
    meanings = {}
    for problem in walk:
        for draw in range(PHRASINGS):
            statement = phrase_program(problem.program, Random(draw))
            assert meanings.setdefault(statement, problem) is problem, statement
    assert len(meanings) > 5 * len(walk)


def test_statements_name_every_constant_and_leave_no_gap(walk):
    for problem in walk:
        program = problem.program
        calls = [program.arrangement, program.finish, *(step.test for step in program.steps)]
        calls += [step.change for step in program.steps]
        statement = phrase_program(program, Random(0))
        assert not set("{}\n") & set(statement), statement
        assert "  " not in statement
        assert "None" not in statement
        words = statement.replace(",", " ").replace(";", " ").split()
        for call in calls:
            assert call is None or call.constant is None or str(call.constant) in words, statement


def test_statements_are_a_function_of_the_draws(walk):
    for problem in walk[:300]:
        assert phrase_program(problem.program, Random(1)) == phrase_program(problem.program, Random(1))
