"""Steps solved for tokens and time: against what trainings then really take."""

from dataclasses import replace

import numpy as np
import pytest

from codestrata.data.batches import measure_rows
from codestrata.errors import SettingsError
from codestrata.experiment import amounts
from codestrata.experiment.amounts import (
    check_token_target,
    choose_time_targets,
    choose_token_targets,
    count_amounts,
    count_set_steps,
    count_timed_steps,
    find_nearest_step,
    plan_tokens,
)
from codestrata.experiment.trainings import choose_training, gather_examples
from codestrata.files import write_jsonl
from codestrata.lab import open_lab
from codestrata.methods import METHODS, build_component
from codestrata.progress import Silence
from codestrata.settings.fair import FairSettings
from codestrata.settings.tree import build_settings
from codestrata.training import fit, plan_steps


@pytest.fixture(scope="module")
def lab(quick_tree):
    """A lab with two tasks of six examples, 4 steps of 3 for each."""
    return open_lab(build_settings(quick_tree(training={"steps": 4})), Silence())


def match(lab, **fair):
    return replace(lab, settings=replace(lab.settings, fair=FairSettings(**fair)))


def test_the_nearest_step_is_the_fewer_of_two():
    reached = np.array([10, 20, 30])
    assert [find_nearest_step(reached, target) for target in (1, 14, 15, 16, 99)] == [1, 1, 1, 2, 3]


def test_a_plan_for_tokens_begins_as_the_training_does(lab):
    rows = lab.encoded["early"]
    steps = plan_tokens(rows, lab.settings.training, 500, seed=3, causal=False)
    training = replace(lab.settings.training, steps=len(steps))
    assert steps == plan_steps(measure_rows(rows), training, seed=3)
    tokens = measure_rows(rows).sum(1)
    assert sum(tokens[step].sum() for step in steps) >= 500
    assert sum(tokens[step].sum() for step in steps[:-1]) < 500


def test_tokens_of_a_decoder_only_base_are_those_of_the_training(quick_tree, tiny_llama_folder, tmp_path):
    # Prompts and targets of lengths that go against each other: batches by both together are others.
    rows = [{"prompt": f"{n} " + "add " * (n * 5 % 13), "target": "x " * (n * 7 % 11 + 1)} for n in range(30)]
    write_jsonl(tmp_path / "own.jsonl", rows)
    tree = quick_tree(base={"name": str(tiny_llama_folder)}, training={"steps": 5})
    tree["tasks"] = [{**tree["tasks"][0], "path": str(tmp_path / "own.jsonl"), "train_examples": 20}]
    lab = open_lab(build_settings(tree), Silence())
    method, (task,) = METHODS["lora"], lab.tasks

    def train(steps):
        component = build_component(method, lab.base, lab.settings)
        component.attach("a", seed=0)
        return fit(
            component,
            "a",
            gather_examples(lab, method, task),
            replace(choose_training(lab, method, task), steps=steps, epochs=None),
            learning_rate=0.001,
            seed=lab.settings.seeds[0],
            pad_id=lab.base.tokenizer.pad_token_id,
            device=lab.base.device,
        ).tokens

    (set_one,) = count_amounts(lab, method)
    assert set_one.tokens == train(5)
    (solved,) = count_amounts(lab, method, {task.name: 170})
    assert 1 < solved.steps < 7
    assert solved.tokens == train(solved.steps)


def test_targets_of_no_end_of_steps_are_refused_before_they_are_planned(lab, monkeypatch):
    monkeypatch.setattr(amounts, "plan_tokens", None)
    said = (
        r"fair\.target is 1e\+13 with fair\.match tokens: on task 'early' .* at most 10,000,000 are planned"
    )
    huge = match(lab, match="tokens", target=1e13)
    for call in (
        lambda: count_amounts(huge, METHODS["lora"], choose_token_targets(huge, METHODS["lora"])),
        lambda: check_token_target(huge, [METHODS["lora"]]),
    ):
        with pytest.raises(SettingsError, match=said):
            call()
    check_token_target(match(lab, match="tokens", target=1e6), [METHODS["joint"]])
    check_token_target(match(lab, match="tokens"), [METHODS["joint"]])
    slow = match(lab, match="time", target=1e7)
    with pytest.raises(SettingsError, match=r"match time: .* about 1,000,000,000 optimizer steps"):
        count_timed_steps(slow, METHODS["lora"], choose_time_targets(slow, 1.0), 0.01)


def test_tokens_of_joint_trainings_are_those_of_all_tasks_so_far(lab):
    own = [amount.tokens for amount in count_amounts(lab, METHODS["finetune"])]
    joint = count_amounts(lab, METHODS["joint"])
    assert [amount.steps for amount in joint] == [4, 8]
    assert joint[0].tokens == own[0]
    assert joint[1].tokens == pytest.approx(sum(own), rel=0.1)


def test_a_joint_reference_gives_each_task_what_it_adds(lab):
    lab = match(lab, match="tokens")
    amounts = [amount.tokens for amount in count_amounts(lab, METHODS["joint"])]
    assert list(choose_token_targets(lab, METHODS["joint"]).values()) == [amounts[0], amounts[1] - amounts[0]]


def test_replayed_examples_are_paid_for_with_steps(lab):
    targets = choose_token_targets(match(lab, match="tokens"), METHODS["finetune"])
    early, late = count_amounts(lab, METHODS["replay"], targets)
    # The first task has nothing to replay; then every step takes twice the examples.
    assert (early.steps, late.steps) == (4, 2)
    assert late.tokens == pytest.approx(targets["late"], rel=0.2)


def test_a_target_in_tokens_is_met_as_nearly_as_steps_can(lab):
    targets = choose_token_targets(match(lab, match="tokens", target=1000), METHODS["lora"])
    assert targets == {"early": 1000, "late": 1000}
    for amount in count_amounts(lab, METHODS["lora"], targets):
        assert abs(amount.tokens - 1000) <= 30  # half a step of 3 examples
    (early, _) = count_amounts(lab, METHODS["lora"], {"early": 1, "late": 1})
    assert early.steps == 1


def test_time_goes_into_as_many_steps_as_it_lasts(lab):
    targets = choose_time_targets(match(lab, match="time"), 0.5)
    assert targets == {"early": 2.0, "late": 2.0}
    assert count_timed_steps(lab, METHODS["lora"], targets, 0.25) == (8, 8)
    assert count_timed_steps(lab, METHODS["joint"], targets, 0.25) == (8, 16)
    assert count_timed_steps(lab, METHODS["lora"], targets, 100.0) == (1, 1)
    assert choose_time_targets(match(lab, match="time", target=60), 0.5) == {"early": 60, "late": 60}


def test_steps_as_they_are_set(lab):
    assert count_set_steps(lab, METHODS["lora"]) == (4, 4)
    assert count_set_steps(lab, METHODS["joint"]) == (4, 8)
    assert count_set_steps(replace(lab, steps={"early": 9}), METHODS["lora"]) == (9, 4)
