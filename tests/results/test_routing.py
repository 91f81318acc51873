"""What routers chose, against counts by hand."""

from codestrata.results.measured import RoutedWalk
from codestrata.results.routing import describe_choices, describe_router


def test_a_router_is_described_by_its_counts():
    # 3 + 1 of 8 prompts are right; one of the first task and two of the second were left to the base.
    found = describe_router([[3, 0, 1], [1, 1, 2]])
    assert found["confusion"] == [[3, 0, 1], [1, 1, 2]]
    assert found["abstained"] == 3
    accuracy = found["accuracy"]
    assert (accuracy["value"], accuracy["n"], accuracy["reason"]) == (0.5, 8, None)
    # Wilson's interval of 4 in 8.
    assert [round(accuracy["interval"][key], 4) for key in ("low", "high")] == [0.2152, 0.7848]


def test_no_prompt_has_a_reason_instead_of_a_value():
    accuracy = describe_router([[0, 0]])["accuracy"]
    assert (accuracy["value"], accuracy["n"], accuracy["interval"]) == (None, 0, None)
    assert accuracy["reason"] == "no test prompt was routed"


def test_a_single_prompt_has_no_interval():
    assert describe_router([[1, 0]])["accuracy"]["interval"] is None


def test_the_router_that_fills_r_is_named_among_all():
    routed = RoutedWalk(
        by="nearest-mean",
        threshold=0.75,
        tasks=("late", "early"),
        confusions={"nearest-mean": ((1, 0, 0), (0, 1, 0)), "perplexity": ((0, 0, 1), (0, 0, 1))},
        oracle=(),
    )
    found = describe_choices(routed)
    assert (found["by"], found["threshold"], found["tasks"]) == ("nearest-mean", 0.75, ["late", "early"])
    assert [router["accuracy"]["value"] for router in found["routers"].values()] == [1.0, 0.0]
