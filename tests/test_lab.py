import pytest

from codestrata.data.splits import FEW_TESTS
from codestrata.lab import list_remarks
from codestrata.records import Example, Task
from codestrata.settings.tasks import TaskSettings

EXAMPLES = (Example(identifier="a", prompt="p", target="t"),)


def list_of(language="python", notes=()):
    """The remarks on a task that has all the examples that were asked for."""
    section = TaskSettings(name="own", train_examples=1, validation_examples=1, test_examples=1)
    parts = {"train": EXAMPLES, "validation": EXAMPLES, "test": EXAMPLES}
    task = Task(
        name="own",
        language=language,
        objective="generate",
        evaluation_objective="generate",
        notes=notes,
        **parts,
    )
    return list(list_remarks(task, section))


def test_a_language_that_may_be_misspelt_is_remarked_on():
    (remark,) = list_of("pyhton")
    assert remark.startswith("own: Unknown language 'pyhton'. Did you mean 'python'?")


@pytest.mark.parametrize("language", ["python", "cobol"])
def test_a_language_that_is_known_or_like_no_known_one_is_not(language):
    assert list_of(language) == []


def test_few_tests_are_remarked_on():
    assert list_of(notes=(f"{FEW_TESTS}: 1 of 90", "another note")) == [f"own: {FEW_TESTS}: 1 of 90"]
