"""Sizes solved for a target: against counts worked out by hand, and against trying every value."""

from dataclasses import replace

import pytest

from codestrata.components.layers import list_places
from codestrata.errors import SettingsError
from codestrata.experiment.matching import (
    KNOBS,
    check_target,
    find_nearest,
    measure_method,
    solve_size,
)
from codestrata.lab import open_lab
from codestrata.methods import METHODS
from codestrata.progress import Silence
from codestrata.settings.fair import FairSettings, apply_values
from codestrata.settings.tree import build_settings

PER_RANK = 1152
"""Per rank, on the tiny T5 (width 16, inner width 32): the encoder's blocks have 4 maps of 16 x 16 and two of
16 x 32, so 4 * 32 + 2 * 48 = 224; the decoder's have 8 of the first kind, 352. Two blocks each."""


@pytest.fixture(scope="module")
def lab(quick_tree):
    """A lab whose methods are matched on parameters."""
    return open_lab(build_settings(quick_tree(fair={"match": "parameters"})), Silence())


def match(lab, **fair):
    return replace(lab, settings=replace(lab.settings, fair=FairSettings(**fair)))


@pytest.mark.parametrize("target", [1, 10, 11, 14, 15, 16, 99, 1000])
@pytest.mark.parametrize(
    "size",
    [
        lambda value: float(10 * value),
        lambda value: float(7 + 3 * value),
        lambda value: 5.0 * value + (100 if value > 3 else 0),  # not even
        lambda value: float(10 * value) if value <= 4 else None,  # no room for more
        lambda value: float(value**2),
        lambda value: 12.0,  # a knob without effect
    ],
)
def test_the_nearest_value_is_the_one_that_trying_all_would_find(size, target):
    tried = [value for value in range(1, 1200) if size(value) is not None]
    best = min(tried, key=lambda value: (abs(size(value) - target), value))
    assert find_nearest(size, target) == best


def test_few_values_are_counted_where_sizes_grow_evenly():
    asked = []

    def size(value):
        asked.append(value)
        return 1152.0 * value

    assert find_nearest(size, 10**9) == round(10**9 / 1152)
    assert len(set(asked)) <= 4


@pytest.mark.parametrize(
    ("name", "target", "values", "reached"),
    [
        ("lora", 12336, {"lora.rank": 11, "lora.alpha": 44.0}, 11 * PER_RANK),
        ("lora", 1, {"lora.rank": 1, "lora.alpha": 4.0}, PER_RANK),
        ("warm", 2.5 * PER_RANK, {"lora.rank": 2, "lora.alpha": 8.0}, 2 * PER_RANK),  # of two the smaller
        # The tasks' ranks are stacked in one component: two for every rank.
        ("olora", 12336, {"lora.rank": 5, "lora.alpha": 20.0}, 5 * 2 * PER_RANK),
        # The block above the decoder: 8 maps of 256, two of 512, three norms of 16.
        ("layers", 6500, {"layers.blocks": 2}, 2 * (8 * 256 + 2 * 512 + 3 * 16)),
        ("own-layers", 10**6, {"own_layers.blocks": 2}, None),  # the decoder has no more
        ("prompt", 1000, {"prompt.tokens": 62}, 62 * 16),
        ("prompt", 10**5, {"prompt.tokens": 512}, 512 * 16),  # as many as the longest prompt may have
        # A block of 3120 parameters above the decoder, and updates beside the base's maps.
        (
            "shared-layers",
            3120 + 3 * PER_RANK,
            {"shared_layers.rank": 3, "shared_layers.alpha": 6.0},
            3120 + 3 * PER_RANK,
        ),
        ("ia3", 10**4, {}, None),
        ("finetune", 10**4, {}, None),
    ],
)
def test_solved_values_are_those_worked_out_by_hand(lab, name, target, values, reached):
    found, size = solve_size(lab, METHODS[name], target)
    assert found == values
    assert size == measure_method(lab, METHODS[name], apply_values(lab.settings, found))
    if reached is not None:
        assert size == reached


@pytest.mark.parametrize("name", ["lora", "layers", "hybrid", "own-layers"])
def test_a_larger_value_is_a_larger_component(lab, name):
    knob = KNOBS[METHODS[name].component]
    sizes = [
        measure_method(lab, METHODS[name], apply_values(lab.settings, knob.turn(lab.settings, value)))
        for value in (1, 2)
    ]
    assert sizes[0] < sizes[1]


def test_bytes_are_those_of_all_components_that_the_tasks_need(lab):
    lab = match(lab, match="bytes")
    assert measure_method(lab, METHODS["lora"]) == 2 * (2 * PER_RANK) * 4  # two tasks, rank 2, fp32
    assert measure_method(lab, METHODS["lora-seq"]) == (2 * PER_RANK) * 4
    assert measure_method(lab, METHODS["finetune"]) * 2 == measure_method(lab, METHODS["single"])
    assert measure_method(lab, METHODS["routed"]) == measure_method(lab, METHODS["lora"])
    assert measure_method(lab, METHODS["merged"]) * 2 == measure_method(lab, METHODS["lora"])


def test_counting_leaves_the_base_bare(lab):
    solve_size(lab, METHODS["hybrid"], 10**4)
    assert list_places(lab.base.model, "decoder-top") == ("decoder.block.1",)
    assert not [name for name, _ in lab.base.model.named_parameters() if "layers_" in name]


def test_a_target_out_of_all_proportion_is_refused(lab):
    with pytest.raises(SettingsError, match=r"target is 1000000000000 parameters: at most \d+ are matched"):
        check_target(lab, 1e12)
    with pytest.raises(SettingsError, match="bytes"):
        check_target(match(lab, match="bytes"), 1e12)


def test_every_knob_is_a_setting(lab):
    for kind, knob in KNOBS.items():
        if any(method.component == kind for method in METHODS.values()):
            assert isinstance(getattr(getattr(lab.settings, knob.section), knob.field), int)
