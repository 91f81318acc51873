"""Scores with their intervals."""

import numpy as np
import pytest

from codestrata.records import Cell, Score
from codestrata.results.estimates import (
    estimate_continual,
    estimate_final,
    estimate_score,
    find_interval,
    find_rows,
    stack_rows,
)


def rate(*passes, **changes):
    return Score(
        **{
            "metric": "pass@1",
            "value": sum(passes) / len(passes),
            "n": len(passes),
            "per_example": tuple(map(float, passes)),
            "aggregate": "rate",
            **changes,
        }
    )


def test_a_share_of_examples_has_wilsons_interval():
    interval, _ = find_interval(rate(1, 0, 1, 0))
    assert interval.method == "wilson"
    assert (interval.low, interval.high) == pytest.approx((0.1500, 0.8500), abs=1e-4)


def test_another_mean_has_a_bootstrap_interval():
    interval, _ = find_interval(Score(metric="similarity", value=0.5, n=4, per_example=(0.2, 0.4, 0.6, 0.8)))
    assert interval.method == "bootstrap"
    assert 0.2 <= interval.low < 0.5 < interval.high <= 0.8


def test_a_pass_rate_over_several_samples_is_a_mean_of_shares():
    score = Score(metric="pass@1", value=0.5, n=4, per_example=(0.2, 0.4, 0.6, 0.8))
    assert find_interval(score)[0].method == "bootstrap"


def test_a_corpus_metric_is_resampled_by_its_statistics():
    rows = ((1.0, 2.0), (3.0, 4.0), (0.0, 10.0))
    score = Score(
        metric="ratio", value=0.25, n=3, per_example=(0.5, 0.75, 0.0), statistics=rows, aggregate="ratio"
    )
    np.testing.assert_array_equal(find_rows(score), rows)
    interval, _ = find_interval(score)
    assert interval.method == "bootstrap"
    assert 0 <= interval.low < 0.25 < interval.high <= 0.75


@pytest.mark.parametrize(
    ("value", "per_example"), [(None, None), (0.5, None), (1.0, (1.0,)), (None, (1.0, 0.0))]
)
def test_no_interval_is_invented(value, per_example):
    score = Score(metric="pass@1", value=value, n=2, per_example=per_example)
    interval, reason = find_interval(score)
    assert interval is None
    assert (reason is None) == (value is None or len(per_example or ()) == 1)


def test_a_missing_score_keeps_its_reason():
    found = estimate_score(Score(metric="pass@1", value=None, n=0, reason="no tests"))
    assert found == {
        "value": None,
        "n": 0,
        "interval": None,
        "reason": "no tests",
        "variant": None,
        "isolation": None,
    }


def test_one_seed_keeps_the_interval_of_its_cell():
    found = estimate_final([rate(1, 0, 1, 0)])
    assert found["interval"]["method"] == "wilson"
    assert (found["value"], found["seeds"]) == (0.5, 1)


def test_several_seeds_have_an_interval_over_seeds_and_examples():
    rng = np.random.default_rng(0)
    alike = [rate(*(rng.random(40) < 0.5)) for _ in range(3)]
    found = estimate_final(alike)
    assert found["seeds"] == 3
    assert found["value"] == pytest.approx(np.mean([score.value for score in alike]))
    interval = found["interval"]
    assert interval["low"] < found["value"] < interval["high"]
    apart = [rate(*([1] * 40)), rate(*([0] * 40)), rate(*([1, 0] * 20))]
    wide = estimate_final(apart)["interval"]
    assert wide["high"] - wide["low"] > interval["high"] - interval["low"]


def test_seeds_on_different_examples_are_not_stacked():
    assert stack_rows([rate(1, 0), rate(1, 0, 1)]) is None
    assert stack_rows([rate(1, 0), Score(metric="pass@1", value=None, n=2)]) is None
    assert stack_rows([rate(1, 0), rate(0, 0)]).shape == (2, 2, 2)


def test_an_interval_that_cannot_be_had_is_null_with_the_reason():
    rows = ((1.0, 1.0), *[(0.0, 0.0)] * 9)  # a draw without the one example that counts has no value
    score = Score(metric="ratio", value=1.0, n=10, statistics=rows, aggregate="ratio")
    found = estimate_score(score)
    assert found["interval"] is None
    assert found["reason"].startswith("no interval: ")
    assert estimate_final([score, score])["reason"].startswith("no interval: ")


def test_intervals_over_seeds_stay_within_the_bounds_of_a_score():
    rng = np.random.default_rng(1)
    scores = [
        Score(metric="similarity", value=float(of_seed.mean()), n=30, per_example=tuple(map(float, of_seed)))
        for of_seed in (0.9 + 0.1 * rng.random(30), 0.5 + 0.1 * rng.random(30))
    ]
    assert estimate_final(scores)["interval"]["high"] == 1.0
    assert estimate_final(scores, bounds=None)["interval"]["high"] > 1.0


def make_cell(row, task, score):
    return Cell(
        row=row,
        trained_through=None,
        task=task,
        split="test",
        origin="decoded",
        predictions=(),
        scores=(score,),
        folder="base",
    )


def test_a_task_without_a_value_does_not_change_how_the_others_are_added_up():
    missing = Score(metric="ratio", value=None, n=2, reason="nothing to divide")

    def share(numerator):
        rows = ((numerator, 10.0), (2.0, 5.0))
        value = (numerator + 2) / 15
        return Score(metric="ratio", value=value, n=2, statistics=rows, aggregate="ratio")

    found = {(0, "b"): share(1.0), (1, "b"): share(4.0), (2, "b"): share(7.0)}
    cells = [make_cell(row, task, found.get((row, task), missing)) for row in range(3) for task in ("a", "b")]
    estimated = estimate_continual([cells], ["a", "b"], "ratio")
    assert estimated["forward_transfer"]["value"] == pytest.approx((4 - 1) / 15)
    assert estimated["average_accuracy"]["value"] is None


def test_answers_that_are_all_the_same_are_no_certainty():
    cells = [make_cell(row, "a", rate(*[0] * 300)) for row in range(2)]
    found = estimate_continual([cells], ["a"], "pass@1")["average_accuracy"]
    assert (found["value"], found["interval"]) == (0.0, None)
    assert "the same answer" in found["reason"]
