"""One walk over random problems, shared by the tests of kata because drawing takes seconds."""

from itertools import islice

import pytest

from codestrata.data.kata.problems import Problem, draw_problems

WALK = 3000


@pytest.fixture(scope="session")
def walk() -> tuple[Problem, ...]:
    """The first 3,000 problems of seed 0."""
    return tuple(islice(draw_problems(0), WALK))
