import math
from collections import Counter

import pytest

from codestrata.controls import CONTROLS, find_nearest, predict_control, repeat_prompts, split_tokens
from codestrata.records import Example


def build(*prompts):
    return [
        Example(identifier=str(number), prompt=prompt, target=f"target of {prompt}")
        for number, prompt in enumerate(prompts)
    ]


def rank_by_hand(train, prompt):
    """Lucene's BM25 from its formula, one training prompt after the other."""
    documents = [Counter(split_tokens(example.prompt)) for example in train]
    mean = sum(sum(document.values()) for document in documents) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for token in split_tokens(prompt):
            found = sum(token in other for other in documents)
            weight = math.log(1 + (len(documents) - found + 0.5) / (found + 0.5))
            count = document[token]
            score += weight * count / (count + 1.5 * (1 - 0.75 + 0.75 * sum(document.values()) / mean))
        scores.append(score)
    return scores


TRAIN = build(
    "sum of the squares of xs",
    "sum of xs",
    "largest of xs",
    "count the words in s",
    "reverse the words in s, then join them",
    "sum of the squares of the even xs",
)


@pytest.mark.parametrize(
    "prompt",
    ["the sum of xs", "squares", "join words", "even numbers in xs, squares only", "COUNT s", "of of of the"],
)
def test_nearest_is_the_best_by_bm25_from_its_formula(prompt):
    scores = rank_by_hand(TRAIN, prompt)
    assert find_nearest(TRAIN, [prompt]) == [TRAIN[scores.index(max(scores))].target]


def test_every_training_prompt_that_stands_alone_finds_itself():
    prompts = [example.prompt for example in TRAIN]
    assert find_nearest(TRAIN, prompts) == [example.target for example in TRAIN]


@pytest.mark.parametrize("prompt", ["", "   ", "unheard-of", "\0", "\ud800"])
def test_a_prompt_that_shares_nothing_gets_the_first_target(prompt):
    assert find_nearest(TRAIN, [prompt, "largest of xs"]) == [TRAIN[0].target, TRAIN[2].target]


def test_training_prompts_may_be_empty_and_ties_go_to_the_first():
    train = build("", "a b", "a b", "c")
    assert find_nearest(train, ["b a"]) == [train[1].target]
    assert find_nearest(build(""), ["x"]) == ["target of "]


def test_echo_repeats_its_prompt():
    assert repeat_prompts(TRAIN, ["x", ""]) == ["x", ""]


def test_predictions_of_controls_carry_their_examples_prelude():
    begun = Example(identifier="a", prompt="def f():\n", target="    pass\n", prelude="def f():\n")
    answers = predict_control(CONTROLS[0], build("x"), [begun])
    assert [prediction.prelude for prediction in answers] == ["def f():\n"]


def test_predictions_of_controls_carry_what_scoring_needs():
    example = Example(identifier="7", prompt="sum of xs", target="t", tests="assert 1", group="g")
    for control in CONTROLS:
        (prediction,) = predict_control(control, TRAIN, [example])
        assert (prediction.identifier, prediction.prompt, prediction.target) == ("7", "sum of xs", "t")
        assert (prediction.tests, prediction.group, prediction.tokens) == ("assert 1", "g", None)
        assert prediction.completion == {"echo": "sum of xs", "nearest": TRAIN[1].target}[control.name]
