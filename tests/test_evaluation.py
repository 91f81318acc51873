"""What a prediction takes from its example."""

from codestrata.engine.generation import Completion
from codestrata.evaluation import build_prediction
from codestrata.records import Example


def test_a_prediction_carries_what_scoring_needs_of_its_example():
    example = Example(identifier="a", prompt="p", target="t", tests="x", group="g", prelude="def f():\n")
    done = Completion(text="    pass", finished=False, ids=(5, 6))
    found = build_prediction(example, done, 2, (0, 1, 7))
    assert (found.identifier, found.prompt, found.target, found.tests) == ("a", "p", "t", "x")
    assert (found.group, found.prelude, found.completion, found.sample) == ("g", "def f():\n", "    pass", 2)
    assert (found.finished, found.tokens, found.agreed, found.shifted) == (False, 2, 1, 1)
