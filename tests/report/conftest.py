"""Results to write reports from: those of the tiny run, with every headline score a number of its own."""

import copy
import itertools

import pytest


@pytest.fixture
def results(tiny_run):
    """The tiny run's results; the pass rates are 0.101, 0.102, ... in the order of methods and cells."""
    tree = copy.deepcopy(tiny_run.read_results())
    numbers = (0.001 * number for number in itertools.count(101))
    for method in tree["methods"]:
        for cell in method["seeds"][0]["cells"]:
            value = round(next(numbers), 3)
            interval = {"low": value - 0.05, "high": value + 0.05, "level": 0.95, "method": "wilson"}
            cell["scores"]["pass@1"] |= {"value": value, "interval": interval}
    return tree
