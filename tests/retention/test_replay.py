"""The reservoir, and what it adds to the steps."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codestrata.contracts import Lesson
from codestrata.data.batches import EncodedExample
from codestrata.retention.replay import Replay
from codestrata.settings.retention import ReplaySettings


def build_rows(names):
    return [
        EncodedExample(identifier=name, prompt_ids=(ord(name[0]), 1), target_ids=(7, 1)) for name in names
    ]


def teach(retention, rows):
    retention.remember(
        Lesson(parameters={}, examples=dict(enumerate(rows)), usual_targets=1.0, differentiate=pytest.fail)
    )
    return retention


def replay(seed=0, **values):
    return Replay(ReplaySettings(**values), seed=seed)


def list_kept(retention):
    return [row.identifier for row in retention.rows]


def test_the_first_task_is_as_without_replay():
    rows, plan = build_rows("abc"), [[0, 1], [2]]
    assert replay().mix(rows, plan, seed=0) == (rows, plan)


def test_all_is_kept_where_there_is_room():
    retention = teach(teach(replay(size=5), build_rows("abc")), build_rows("xy"))
    assert list_kept(retention) == ["a", "b", "c", "x", "y"]
    assert [(row.prompt_ids, row.target_ids) for row in retention.rows[:2]] == [
        ((97, 1), (7, 1)),
        ((98, 1), (7, 1)),
    ]
    assert retention.facts["seen"] == 5


def test_the_reservoir_never_grows_over_its_size():
    retention = replay(size=2)
    for names in ("abcd", "efgh", "ijkl"):
        teach(retention, build_rows(names))
        assert len(list_kept(retention)) == 2
    assert retention.facts["seen"] == 12


def test_every_example_ever_seen_has_the_same_chance():
    """Algorithm R: 3 of 12, over two tasks, is a quarter; 4 standard deviations of 2000 trials are 0.039."""
    trials, counts = 2000, Counter()
    for seed in range(trials):
        retention = replay(seed=seed, size=3)
        teach(retention, build_rows("abcdefgh"))
        teach(retention, build_rows("ijkl"))
        counts.update(list_kept(retention))
    assert set(counts) == set("abcdefghijkl")
    assert all(abs(count / trials - 0.25) < 0.039 for count in counts.values())


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, 4), (0.2, 1), (0.75, 12), (0.1, 0)])
def test_the_ratio_is_the_share_of_every_step(ratio, expected):
    retention = teach(replay(ratio=ratio, size=20), build_rows("abcdefghijklmnop"))
    rows, plan = retention.mix(build_rows("wxyz"), [[0, 1, 2, 3], [3, 2, 1, 0]], seed=0)
    assert [row.identifier for row in rows] == [*"wxyz", *"abcdefghijklmnop"]
    for own, numbers in zip(([0, 1, 2, 3], [3, 2, 1, 0]), plan, strict=True):
        assert numbers[:4] == own
        assert len(numbers) == 4 + expected
        assert len(set(numbers)) == len(numbers)
        assert all(number >= 4 for number in numbers[4:])
        if expected:
            assert len(numbers[4:]) / len(numbers) == pytest.approx(ratio)


def test_a_small_reservoir_is_drawn_from_more_than_once():
    retention = teach(replay(size=2), build_rows("ab"))
    _, plan = retention.mix(build_rows("wxyz"), [[0, 1, 2, 3]], seed=0)
    assert len(plan[0]) == 8
    assert set(plan[0][4:]) <= {4, 5}


def test_what_is_drawn_follows_from_the_seed():
    retention = teach(replay(size=20), build_rows("abcdefghijklmnop"))
    arguments = build_rows("wxyz"), [[0, 1, 2, 3]] * 5
    first, again, other = (retention.mix(*arguments, seed=seed)[1] for seed in (1, 1, 2))
    assert first == again != other
    assert len({tuple(numbers) for numbers in first}) > 1  # another draw in every step


@given(
    tasks=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    size=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_what_is_kept_was_seen_and_goes_on_from_what_is_stored(tasks, size, seed):
    whole, broken = replay(seed=seed, size=size), replay(seed=seed, size=size)
    seen = []
    for position, count in enumerate(tasks):
        rows = build_rows([f"{chr(97 + position)}{n}" for n in range(count)])
        seen += [row.identifier for row in rows]
        teach(whole, rows)
        again = replay(seed=seed, size=size)
        if position:
            again.facts = json.loads(json.dumps(broken.facts))
        broken = teach(again, rows)
    assert broken.fingerprint == whole.fingerprint
    kept = list_kept(whole)
    assert len(kept) == min(size, len(seen)) == len(set(kept))
    assert set(kept) <= set(seen)
