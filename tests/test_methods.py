"""The table of methods, and what a name becomes on a base."""

import pytest
import torch

from codestrata.errors import SettingsError
from codestrata.methods import METHODS, build_component, choose_learning_rate, resolve_methods
from codestrata.models.fingerprints import fingerprint_model
from codestrata.models.loading import Base
from codestrata.settings import build_settings


@pytest.fixture
def base(tiny_t5):
    return Base("tiny", tiny_t5, None, torch.device("cpu"), fingerprint_model(tiny_t5))


def test_the_table_says_what_each_name_is():
    table = {
        name: (entry.component, entry.retention, entry.schedule, entry.selection)
        for name, entry in METHODS.items()
    }
    assert table == {
        "base": (None, None, "isolated", "oracle"),
        "lora": ("lora", None, "isolated", "oracle"),
        "layers": ("layers", None, "isolated", "oracle"),
        "finetune": ("weights", None, "sequential", "oracle"),
    }
    assert all(entry.name == name and entry.about for name, entry in METHODS.items())


def test_names_resolve_in_their_order():
    assert [method.name for method in resolve_methods(["layers", "base"])] == ["layers", "base"]


def test_an_unknown_method_comes_with_the_nearest_name_and_the_choices():
    message = r"Unknown method 'lroa'. Did you mean 'lora'\? Known: base, finetune, layers, lora\."
    with pytest.raises(SettingsError, match=message):
        resolve_methods(["base", "lroa"])


@pytest.mark.parametrize("name", ["lora", "layers", "finetune"])
def test_a_method_builds_its_kind_with_none_resident(base, tiny_tree, name):
    component = build_component(METHODS[name], base, build_settings(tiny_tree()))
    assert component.kind == METHODS[name].component
    assert component.names == ()
    component.attach("python", seed=0)
    assert component.parameters("python")


def test_the_settings_of_a_component_reach_it(base, tiny_tree):
    def count(name, **sections):
        component = build_component(METHODS[name], base, build_settings(tiny_tree(**sections)))
        component.attach("x", seed=0)
        return sum(parameter.numel() for parameter in component.parameters("x").values())

    assert count("lora", lora={"rank": 4}) == 2 * count("lora", lora={"rank": 2})
    assert count("layers", layers={"blocks": 2}) == 2 * count("layers")
    assert count("layers", layers={"placement": "encoder-top"}) < count("layers")


def test_the_base_has_no_component_to_build(base, tiny_tree):
    with pytest.raises(SettingsError, match="'base' has no component"):
        build_component(METHODS["base"], base, build_settings(tiny_tree()))


def test_a_target_that_the_base_has_not_is_refused(base, tiny_tree):
    with pytest.raises(SettingsError, match="wi_0"):
        build_component(METHODS["lora"], base, build_settings(tiny_tree(lora={"targets": ["wi_0"]})))


def test_a_component_learns_at_its_own_rate_where_it_has_one(tiny_tree):
    tree = tiny_tree(
        training={"learning_rate": 0.1},
        lora={"learning_rate": 0.2},
        layers={"learning_rate": 0.3},
        weights={"learning_rate": None},
    )
    settings = build_settings(tree)
    rates = {name: choose_learning_rate(METHODS[name], settings) for name in ("lora", "layers", "finetune")}
    assert rates == {"lora": 0.2, "layers": 0.3, "finetune": 0.1}
    own = build_settings(tiny_tree(weights={"learning_rate": 0.4}))
    assert choose_learning_rate(METHODS["finetune"], own) == 0.4
