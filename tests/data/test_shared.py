"""Examples that one task is trained on and another is tested on."""

from codestrata.data.shared import describe_shared, find_shared_examples
from codestrata.data.tasks import load_task
from codestrata.records import Example, Task
from codestrata.settings.tasks import TaskSettings

WORDS = ("alpha", "beta", "gamma", "delta", "omega")


def make_code(number, last="total"):
    lines = [f"    {word}_{number} = {word} * {number} + {place}" for place, word in enumerate(WORDS * 4)]
    return "\n".join([f"def function_{number}(values):", *lines, f"    return {last}"])


def make_example(number, **changes):
    fields = {"prompt": f"Say how function {number} adds all values.", "target": make_code(number)}
    return Example(identifier=f"e{number}", **(fields | changes))


def make_task(name, train, test, **changes):
    fields = {"language": name, "objective": "generate", "evaluation_objective": "generate"}
    return Task(name=name, train=tuple(train), validation=(), test=tuple(test), **(fields | changes))


def test_tasks_that_share_nothing_have_no_row():
    one = make_task("one", map(make_example, range(5)), map(make_example, range(5, 8)))
    two = make_task("two", map(make_example, range(10, 15)), map(make_example, range(15, 18)))
    assert find_shared_examples([one, two]) == ()
    assert find_shared_examples([one]) == ()
    assert describe_shared(()) == ()


def test_equal_and_nearly_equal_tests_are_counted_in_both_directions():
    spaced = make_example(1, target=make_code(1).replace("\n", "\r\n") + "\n")
    changed = make_example(2, target=make_code(2, last="other"))
    one = make_task("one", map(make_example, range(5)), [make_example(11)])
    two = make_task("two", [make_example(11), make_example(12)], [spaced, changed, make_example(9)])
    (forth, back) = find_shared_examples([one, two])
    assert (forth["trained"], forth["tested"], forth["tests"]) == ("one", "two", 3)
    assert (forth["exact"], forth["near"], forth["threshold"]) == (1, 1, 0.8)
    assert [(row["test"], row["repeats"], row["kind"]) for row in forth["examples"]] == [
        ("e1", "e1", "exact"),
        ("e2", "e2", "near"),
    ]
    assert 0.8 <= forth["examples"][1]["jaccard"] < 1
    assert (back["trained"], back["tested"], back["exact"], back["near"]) == ("two", "one", 1, 0)
    (said, _) = describe_shared([forth, back])
    assert said.startswith("2 of 3 tests of two repeat what one is trained on (1 exactly, 1 nearly)")
    assert find_shared_examples([two, one]) == (back, forth)


def test_unseen_tests_count_and_prompts_alone_do_not():
    other = make_example(1, target="function one(values) { return values.length; }")
    long = make_example(2, prompt=make_code(2) * 9, target="the first label")
    near = make_example(2, prompt=make_code(2) * 9, target="another label")
    one = make_task("one", [make_example(1), make_example(3), long], [make_example(4)])
    two = make_task("two", [make_example(20)], [other, near], unseen=(make_example(3),))
    (row,) = find_shared_examples([one, two])
    assert (row["tests"], row["exact"], row["near"]) == (3, 1, 0)


def test_generated_tasks_in_two_languages_share_none():
    tasks = [
        load_task(TaskSettings(name=name, train_examples=60, validation_examples=0, test_examples=30))
        for name in ("python", "javascript")
    ]
    assert find_shared_examples(tasks) == ()
