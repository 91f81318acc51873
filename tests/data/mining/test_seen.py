"""A set of numbers in little memory."""

import random

from codestrata.data.mining.seen import FIRST_PLACES, Seen


def test_it_agrees_with_a_set():
    draw = random.Random(0)
    numbers = [draw.choice((draw.getrandbits(64), draw.randrange(5000))) for _ in range(4 * FIRST_PLACES)]
    seen, known = Seen(), set()
    for number in numbers:
        number = number or 1
        assert (number in seen) == (number in known)
        assert seen.add(number) == (number not in known)
        known.add(number)
    assert len(seen) == len(known)


def test_neighbours_and_the_ends_of_the_range_are_told_apart():
    seen = Seen()
    numbers = [2**64 - 1, 2**64 - 2, FIRST_PLACES - 1, 2 * FIRST_PLACES - 1, 3, 4]
    assert all(seen.add(number) for number in numbers)
    assert not any(seen.add(number) for number in numbers)


def test_zero_is_taken_for_one():
    seen = Seen()
    assert seen.add(0)
    assert not seen.add(0)
    assert not seen.add(1)
