"""What a task's settings refuse before any file is opened."""

import pytest

from codestrata.errors import SettingsError
from codestrata.settings.tasks import TaskSettings


@pytest.mark.parametrize(
    ("key", "value"),
    [("split", "record"), ("near_duplicates", 0.5), ("exclude", ("mbpp",)), ("licenses", ("MIT",))],
)
def test_generated_problems_take_nothing_that_is_about_records(key, value):
    with pytest.raises(SettingsError, match=rf"tasks\.{key} is .* for task 'python', but its source is kata"):
        TaskSettings(name="python", **{key: value})
    assert getattr(TaskSettings(name="python", source="mined", **{key: value}), key) == value


@pytest.mark.parametrize("value", [0, -0.1, 1.1])
def test_a_threshold_is_a_similarity(value):
    with pytest.raises(SettingsError, match=r"tasks\.near_duplicates"):
        TaskSettings(name="python", source="mined", near_duplicates=value)


def test_the_threshold_depends_on_the_source():
    assert TaskSettings(name="python", source="mined").duplicate_threshold == 0.8
    assert TaskSettings(name="python", source="mbpp").duplicate_threshold == 1
    assert TaskSettings(name="python", source="mbpp", near_duplicates=0.9).duplicate_threshold == 0.9
