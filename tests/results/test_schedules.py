"""What a schedule alone decides: zeros by construction, and numbers that would mean nothing."""

import pytest

from codestrata.results.schedules import explain_no_transfer, mark_schedule

NAMES = ("average_accuracy", "learning_accuracy", "backward_transfer", "forward_transfer", "forgetting")


def mark(schedule, value):
    interval = {"low": value, "high": value}
    entries = {name: {"value": value, "reason": None, "interval": interval} for name in NAMES}
    return mark_schedule(entries, schedule)


@pytest.mark.parametrize(
    ("schedule", "structural"),
    [
        ("isolated", {"backward_transfer", "forward_transfer", "forgetting"}),
        ("warm", {"backward_transfer", "forgetting"}),
        ("sequential", set()),
        ("joint", set()),
    ],
)
def test_zeros_that_follow_from_the_schedule_are_no_findings(schedule, structural):
    assert {name for name, entry in mark(schedule, 0.0).items() if entry["structural"]} == structural
    # Another value than 0 is a finding, whatever the schedule.
    assert not any(entry["structural"] for entry in mark(schedule, 0.1).values())


def test_rows_of_joint_training_are_not_compared():
    marked = mark("joint", 0.0)
    missing = {name for name, entry in marked.items() if entry["value"] is None}
    assert missing == {"backward_transfer", "forgetting"}
    for name in missing:
        assert marked[name]["interval"] is None
        assert "every row of R is another model" in marked[name]["reason"]
        assert not marked[name]["structural"]
    assert marked["forward_transfer"]["value"] == 0.0


def test_without_an_interval_none_is_added():
    marked = mark_schedule({"forgetting": {"value": 0.0, "reason": None}}, "joint")
    assert set(marked["forgetting"]) == {"value", "reason", "structural"}


def test_there_is_a_reason_for_every_missing_x():
    assert explain_no_transfer("isolated", trained=False).startswith("nothing was trained")
    assert explain_no_transfer("warm", trained=True).startswith("not asked for")
    assert explain_no_transfer("joint", trained=True).startswith("one component serves all tasks")
