"""Choices from energies, against values worked out by hand."""

import math

import numpy as np
import pytest

from codestrata.errors import DataError
from codestrata.selection.choices import Choice, choose_tasks, count_choices


def test_the_least_energy_is_chosen_with_its_share_as_confidence():
    # exp(0) : exp(-ln 3) = 1 : 1/3, so 3/4; exp(-2) : exp(-2) : exp(-2), the first of equals.
    first, second = choose_tasks(np.array([[math.log(3), 0.0], [2.0, 2.0]]))
    assert first.task == 1
    assert first.confidence == pytest.approx(0.75)
    assert second.task == 0
    assert second.confidence == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("threshold", "task"), [(None, 1), (0.0, 1), (0.74, 1), (0.76, None), (1.0, None)], ids=str
)
def test_under_the_threshold_nobody_is_chosen(threshold, task):
    (choice,) = choose_tasks(np.array([[math.log(3), 0.0]]), threshold)
    assert choice.task == task
    assert choice.confidence == pytest.approx(0.75)


def test_a_single_task_is_sure_whatever_its_energy():
    assert choose_tasks(np.array([[1e6], [-3.0]]), 1.0) == [Choice(task=0, confidence=1.0)] * 2


def test_enormous_energies_have_a_confidence():
    (choice,) = choose_tasks(np.array([[1e6, 1e6 + 800.0, 2e6]]))
    assert choice == Choice(task=0, confidence=1.0)


def test_no_prompt_makes_no_choice():
    assert choose_tasks(np.zeros((0, 3))) == []


def test_no_task_is_refused():
    with pytest.raises(DataError, match=r"at least one task, found \(2, 0\)"):
        choose_tasks(np.zeros((2, 0)))


@pytest.mark.parametrize("row", [[0.0, math.nan], [math.inf, math.inf], [math.inf, 0.0], [-math.inf, 0.0]])
@pytest.mark.parametrize("threshold", [None, 0.5])
def test_energies_that_are_not_finite_are_refused(row, threshold):
    with pytest.raises(DataError, match="Of 1 of 2 prompts an energy is not finite"):
        choose_tasks(np.array([[0.0, 1.0], row]), threshold)


def test_choices_are_counted_by_task_and_abstained_last():
    chosen = [Choice(task=task, confidence=1.0) for task in (1, None, 1, 0, None, None)]
    assert count_choices(chosen, 3) == [1, 2, 0, 3]
