"""Repeated stretches are found wherever a plain search finds them, and nowhere else."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from codestrata.data.repetition import (
    TOKEN,
    TrainingStretches,
    count_tokens,
    gather_stretches,
    hash_stretches,
)
from codestrata.records import Example, Task


def build_task(*pairs, name="python"):
    train = tuple(
        Example(identifier=str(number), prompt=prompt, target=target)
        for number, (prompt, target) in enumerate(pairs)
    )
    return Task(
        name=name,
        language="python",
        objective="instruct",
        evaluation_objective="instruct",
        train=train,
        validation=(),
        test=(),
    )


def repeats(text, *tasks, length=50):
    return TrainingStretches().find_repeats(text, tasks, length)


def search_plainly(text, task, length):
    """Whether a run of tokens is a part of another list of tokens, compared token by token."""
    wanted = TOKEN.findall(text)
    for entry in task.train:
        for source in (TOKEN.findall(entry.prompt), TOKEN.findall(entry.target)):
            for start in range(len(wanted) - length + 1):
                for place in range(len(source) - length + 1):
                    if wanted[start : start + length] == source[place : place + length]:
                        return True
    return False


def count_up(first, count):
    return " ".join(f"w{number}" for number in range(first, first + count))


@pytest.mark.parametrize(
    ("shared", "said"),
    [(49, False), (50, True), (51, True), (120, True)],
)
def test_fifty_tokens_in_a_row_repeat_and_forty_nine_do_not(shared, said):
    task = build_task((count_up(0, 200), "x"), ("y", "z"))
    assert repeats(f"other {count_up(40, shared)} other more", task) is said


@pytest.mark.parametrize("count", [49, 50, 51])
def test_a_text_shorter_than_that_cannot_repeat_even_itself(count):
    assert repeats(count_up(0, count), build_task((count_up(0, count), ""))) is (count >= 50)


def test_prompt_and_target_both_count_but_never_across_their_border():
    task = build_task((count_up(0, 49), count_up(49, 49)), (count_up(98, 60), count_up(200, 60)))
    assert not repeats(count_up(0, 98), task)  # 49 of a prompt, and 49 of its target
    assert not repeats(count_up(49, 60), task)  # 49 of a target, and 11 of the next prompt
    assert repeats(count_up(98, 50), task)
    assert repeats(count_up(205, 55), task)


def test_white_space_does_not_count_and_everything_else_does():
    text = "def add(a, b):\n    return a + b  # Summe für alle\n" * 5
    task = build_task(("", text))
    assert repeats(" ".join(TOKEN.findall(text)), task)
    assert not repeats(text.upper(), task)
    assert not repeats(text.replace("+", "-"), task)
    assert not repeats(text.replace("ü", "u"), task)


def test_any_script_has_words():
    text = " ".join(f"переменная{number} = 函数{number}(é, 😀)" for number in range(20))
    assert count_tokens(text) == 20 * 8
    assert repeats(text, build_task((text, "")))
    assert not repeats(text.replace("é", "e\u0301"), build_task((text, "")))  # other code points


def test_every_task_asked_for_is_looked_at_and_no_other():
    early, late = (
        build_task((count_up(0, 60), ""), name="early"),
        build_task((count_up(100, 60), ""), name="late"),
    )
    stretches = TrainingStretches()
    assert stretches.find_repeats(count_up(100, 60), [early, late], 50)
    assert not stretches.find_repeats(count_up(100, 60), [early], 50)
    assert not stretches.find_repeats(count_up(100, 60), [], 50)
    assert stretches.find_repeats(count_up(100, 20), [late], 20)  # another length is another index
    assert not stretches.find_repeats(count_up(100, 20), [late], 50)


def test_a_task_is_gathered_once(monkeypatch):
    gathered = []
    real = gather_stretches

    def gather(examples, length):
        gathered.append(length)
        return real(examples, length)

    monkeypatch.setattr("codestrata.data.repetition.gather_stretches", gather)
    stretches, task = TrainingStretches(), build_task((count_up(0, 60), ""))
    for _ in range(3):
        assert stretches.find_repeats(count_up(0, 60), [task], 50)
    assert gathered == [50]


def test_nothing_to_train_on_or_nothing_said_repeats_nothing():
    assert not repeats(count_up(0, 60), build_task())
    assert not repeats("", build_task((count_up(0, 60), "")), length=1)
    assert not repeats(" \n\t", build_task((" ", "\n")), length=1)


words = some.sampled_from(["a", "b", "(", "é", "aa"])
texts = some.lists(words, max_size=14).map(" ".join)


@given(text=texts, pairs=some.lists(some.tuples(texts, texts), max_size=3), length=some.integers(1, 9))
@example(text="a b", pairs=[("b a", "a a b")], length=2)
def test_it_finds_what_a_plain_search_finds(text, pairs, length):
    task = build_task(*pairs)
    assert repeats(text, task, length=length) is search_plainly(text, task, length)


@given(tokens=some.lists(words, min_size=1, max_size=40), length=some.integers(1, 40))
def test_equal_stretches_have_equal_hashes_and_others_others(tokens, length):
    hashes = hash_stretches(" ".join(tokens), length).tolist()
    stretches = [tuple(tokens[start : start + length]) for start in range(len(tokens) - length + 1)]
    assert len(hashes) == len(stretches)
    assert len(set(hashes)) == len(set(stretches))
    assert len(set(zip(hashes, stretches, strict=True))) == len(set(stretches))
