"""The interpreter against values worked out by hand, and the drawing of programs."""

from random import Random

import pytest

from codestrata.data.kata.operations import ARRANGEMENTS, CHANGES, FINISHES, RESULTS, TESTS
from codestrata.data.kata.programs import Call, Program, Step, draw_program, interpret, pick


def find(operations, name, constant=None):
    (operation,) = [operation for operation in operations if operation.name == name]
    assert (constant is None) == (not operation.constants)
    return Call(operation, constant)


def keep(element, *call):
    return Step("keep", test=find(TESTS[element], *call))


def stop(element, *call):
    return Step("stop", test=find(TESTS[element], *call))


def change(element, *call, where=None):
    test = None if where is None else find(TESTS[element], *where)
    return Step("change", test=test, change=find(CHANGES[element], *call))


MEASURE = Step("measure")


def build(element, *steps, result, arrange=None, finish=None):
    (chosen,) = [candidate for candidate in RESULTS if candidate.name == result]
    return Program(
        element=element,
        arrangement=None if arrange is None else find(ARRANGEMENTS[element], *arrange),
        steps=steps,
        result=chosen,
        finish=None if finish is None else find(FINISHES, *finish),
    )


NUMBERS = [3, -4, 6, 6, 0, -7]

RESULTS_ON_NUMBERS = {
    "sum": 4,
    "count": 6,
    "largest": 6,
    "smallest": -7,
    "spread": -14,  # 3 - 0 = 3; -4 - 3 = -7; 6 + 7 = 13; 6 - 13 = -7; 0 + 7 = 7; -7 - 7 = -14
    "last": -7,
    "first": 3,
    "exists": True,
    "gather": [3, -4, 6, 6, 0, -7],
    "distinct": [3, -4, 6, 0, -7],
    "variety": 5,
    "frequency": 2,
}
RESULTS_ON_NOTHING = {
    "sum": 0,
    "count": 0,
    "largest": 0,
    "smallest": 0,
    "spread": 0,
    "last": None,
    "first": None,
    "exists": False,
    "gather": [],
    "distinct": [],
    "variety": 0,
    "frequency": 0,
    "text": "",
    "mirror": "",
    "longest": "",
}


@pytest.mark.parametrize(("result", "expected"), RESULTS_ON_NUMBERS.items())
def test_results_over_numbers(result, expected):
    assert interpret(build("number", result=result), NUMBERS) == expected


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.name)
def test_results_of_nothing(result):
    element = result.elements[0]
    value = interpret(build(element, result=result.name), [] if element == "number" else "")
    assert value == RESULTS_ON_NOTHING[result.name]
    assert type(value) is type(RESULTS_ON_NOTHING[result.name])


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (("even",), [-4, 6, 6, 0]),
        (("odd",), [3, -7]),
        (("positive",), [3, 6, 6]),
        (("negative",), [-4, -7]),
        (("above", 3), [6, 6]),
        (("below", 3), [-4, 0, -7]),
        (("divisible", 3), [3, 6, 6, 0]),
        (("differs", 6), [3, -4, 0, -7]),
    ],
)
def test_tests_of_numbers(test, expected):
    assert interpret(build("number", keep("number", *test), result="gather"), NUMBERS) == expected


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (("square",), [9, 16, 36, 36, 0, 49]),
        (("negate",), [-3, 4, -6, -6, 0, 7]),
        (("absolute",), [3, 4, 6, 6, 0, 7]),
        (("add", 2), [5, -2, 8, 8, 2, -5]),
        (("subtract", 2), [1, -6, 4, 4, -2, -9]),
        (("multiply", 3), [9, -12, 18, 18, 0, -21]),
        (("remainder", 5), [3, 1, 1, 1, 0, 3]),
        (("cap", 4), [3, -4, 4, 4, 0, -7]),
        (("halve",), [1, -2, 3, 3, 0, -4]),
    ],
)
def test_changes_of_numbers(operation, expected):
    assert interpret(build("number", change("number", *operation), result="gather"), NUMBERS) == expected


@pytest.mark.parametrize(
    ("arrange", "expected"),
    [
        (("sort",), [-7, -4, 0, 3, 6, 6]),
        (("descend",), [6, 6, 3, 0, -4, -7]),
        (("take", 2), [3, -4]),
        (("skip", 4), [0, -7]),
    ],
)
def test_arrangements_of_numbers(arrange, expected):
    argument = list(NUMBERS)
    assert interpret(build("number", arrange=arrange, result="gather"), argument) == expected
    assert argument == NUMBERS


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        (("plus", 7), 11),
        (("times", 3), 12),
        (("judge", 3), "yes"),
        (("judge", 4), "no"),
        (("parity",), "even"),
    ],
)
def test_finishes_of_a_sum_of_four(finish, expected):
    assert interpret(build("number", result="sum", finish=finish), NUMBERS) == expected


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (("vowel",), "aoe"),
        (("digit",), "12"),
        (("upper",), "TB"),
        (("lower",), "atoe"),
        (("not_space",), "aT1toB2e"),
        (("is", "t"), "t"),
        (("is_not", "t"), "aT1 oB2 e"),
    ],
)
def test_tests_of_characters(test, expected):
    assert interpret(build("character", keep("character", *test), result="text"), "aT1 toB2 e") == expected


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (("to_upper",), "AB 1"),
        (("to_lower",), "ab 1"),
        (("double",), "aaBB  11"),
        (("become", "n"), "nnnn"),
    ],
)
def test_changes_of_characters(operation, expected):
    assert interpret(build("character", change("character", *operation), result="text"), "aB 1") == expected


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (("longer", 3), ["noon", "Tents"]),
        (("shorter", 3), ["an"]),
        (("starts", "t"), ["tea"]),
        (("contains", "n"), ["noon", "an", "Tents"]),
    ],
)
def test_tests_of_words(test, expected):
    program = build("word", keep("word", *test), result="gather")
    assert interpret(program, " noon an  tea Tents ") == expected


@pytest.mark.parametrize(
    ("operation", "expected"),
    [(("to_upper",), ["AN", "TEA"]), (("reverse",), ["na", "aet"]), (("suffix", "s"), ["ans", "teas"])],
)
def test_changes_of_words(operation, expected):
    assert interpret(build("word", change("word", *operation), result="gather"), "an tea") == expected


def test_text_results():
    assert interpret(build("character", result="mirror"), "abc 1") == "1 cba"
    assert interpret(build("character", result="text", arrange=("backwards",)), "abc") == "cba"
    assert interpret(build("word", result="longest"), "an tea ten") == "tea"  # the first of equals


def test_steps_act_in_order():
    squares_above = build("number", change("number", "square"), keep("number", "above", 9), result="gather")
    above_squared = build("number", keep("number", "above", 9), change("number", "square"), result="gather")
    assert interpret(squares_above, [3, -4, 10]) == [16, 100]
    assert interpret(above_squared, [3, -4, 10]) == [100]


def test_a_conditional_change_lets_the_others_through():
    program = build("number", change("number", "negate", where=("negative",)), result="gather")
    assert interpret(program, [3, -4, 0]) == [3, 4, 0]


def test_a_stop_ends_the_walk_and_the_finish_still_counts():
    program = build(
        "number", keep("number", "even"), stop("number", "above", 5), result="sum", finish=("plus", 2)
    )
    assert interpret(program, [2, 7, 4, 6, 2]) == 8  # 7 is odd and never reaches the stop
    assert interpret(program, [6, 2]) == 2


def test_measured_words_go_on_as_numbers():
    program = build("word", keep("word", "starts", "t"), MEASURE, change("number", "square"), result="sum")
    assert interpret(program, "tea an ten to") == 9 + 9 + 4


def test_early_exits_return_the_changed_element():
    steps = (change("number", "add", 5), keep("number", "above", 10))
    assert interpret(build("number", *steps, result="first"), [1, 6, 9]) == 11
    assert interpret(build("number", *steps, result="exists"), [1, 6, 9]) is True
    assert interpret(build("number", *steps, result="exists"), [1]) is False


def test_repeated_calls_do_not_share_memory():
    program = build("number", result="distinct")
    assert [interpret(program, [1, 1, 2]) for _ in range(2)] == [[1, 2], [1, 2]]
    assert interpret(build("number", result="gather"), [1]) == [1]  # the start value is not appended to


def test_writing_a_program_and_its_skeleton():
    program = build(
        "number",
        keep("number", "above", 3),
        change("number", "square", where=("divisible", 4)),
        arrange=("take", 2),
        result="sum",
        finish=("parity",),
    )
    assert program.write() == "number | take(2) | keep above(3) | change divisible(4) square | sum | parity"
    assert (
        program.write(masked=True)
        == "number | take(_) | keep above(_) | change divisible(_) square | sum | parity"
    )
    assert program.source == "xs"
    assert build("word", MEASURE, result="sum").write() == "word |  | measure | sum | "
    assert build("word", result="count").source == "s"


def test_picking_covers_all_choices_and_no_more():
    class Fixed(Random):
        def random(self):
            return self.value

    rng = Fixed()
    picked = []
    for rng.value in (0.0, 0.3333, 0.3334, 0.9999999999999999):
        picked.append(pick(rng, "abc"))
    assert picked == ["a", "a", "b", "c"]


def test_drawing_is_a_function_of_the_seed():
    first, second = Random(5), Random(5)
    drawn = [draw_program(first).write() for _ in range(200)]
    assert drawn == [draw_program(second).write() for _ in range(200)]
    assert drawn != [draw_program(Random(6)).write() for _ in range(200)]


def test_drawn_programs_only_combine_what_fits():
    rng = Random(0)
    for _ in range(2000):
        program = draw_program(rng)
        current = program.element
        for step in program.steps:
            if step.verb == "measure":
                assert current == "word"
                current = "number"
            else:
                assert step.test is None or step.test.operation in TESTS[current]
                assert step.change is None or step.change.operation in CHANGES[current]
                assert (step.verb == "change") == (step.change is not None)
        assert current in program.result.elements
        assert program.finish is None or program.result.gives == "number"
        assert program.arrangement is None or program.arrangement.operation in ARRANGEMENTS[program.element]
