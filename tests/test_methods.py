"""The table of methods, and what a name becomes on a base."""

import re
from pathlib import Path

import pytest
import torch

from codestrata.errors import SettingsError
from codestrata.methods import (
    METHODS,
    Method,
    build_component,
    build_retention,
    check_method,
    choose_learning_rate,
    find_twin,
    resolve_methods,
)
from codestrata.models.fingerprints import fingerprint_model
from codestrata.models.loading import Base
from codestrata.settings.tree import build_settings


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
        "hybrid": ("hybrid", None, "isolated", "oracle"),
        "ia3": ("ia3", None, "isolated", "oracle"),
        "prompt": ("prompt", None, "isolated", "oracle"),
        "shared-layers": ("shared-layers", None, "kept", "oracle"),
        "shared-layers-seq": ("shared-layers", None, "shared", "oracle"),
        "own-layers": ("own-layers", None, "isolated", "oracle"),
        "finetune": ("weights", None, "sequential", "oracle"),
        "warm": ("lora", None, "warm", "oracle"),
        "routed": ("lora", None, "isolated", "routed"),
        "merged": ("lora", None, "isolated", "merged"),
        "single": ("weights", None, "isolated", "oracle"),
        "joint": ("weights", None, "joint", "oracle"),
        "lora-seq": ("lora", None, "sequential", "oracle"),
        "replay": ("weights", "replay", "sequential", "oracle"),
        "ewc": ("weights", "ewc", "sequential", "oracle"),
        "olora": ("lora", "orthogonal", "sequential", "oracle"),
        "distill": ("weights", "distill", "sequential", "oracle"),
    }
    assert all(entry.name == name and entry.about and entry.verified for name, entry in METHODS.items())


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_page_that_says_what_it_is_and_what_was_verified(name):
    page = (Path(__file__).parents[1] / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    assert "**Verified.**" in page
    source = METHODS[name].source
    assert source is None or set(re.findall(r"\d{4}\.\d{5}", source)) <= set(
        re.findall(r"\d{4}\.\d{5}", page)
    )


def test_names_resolve_in_their_order():
    assert [method.name for method in resolve_methods(["layers", "base"])] == ["layers", "base"]


def test_an_unknown_method_comes_with_the_nearest_name_and_the_choices():
    message = r"Unknown method 'lroa'. Did you mean 'lora'\? Known: base, .*layers, lora, .*own-layers"
    with pytest.raises(SettingsError, match=message):
        resolve_methods(["base", "lroa"])


KINDS = ["lora", "layers", "hybrid", "ia3", "prompt", "shared-layers", "own-layers", "finetune"]


@pytest.mark.parametrize("name", KINDS)
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
    assert count("lora", lora={"variant": "dora"}) > count("lora", lora={"variant": "rslora"})
    assert count("hybrid", hybrid={"blocks": 2}) > count("hybrid", hybrid={"rank": 9}) > count("hybrid")
    assert count("ia3", ia3={"feed_forward": False}) < count("ia3")
    assert count("own-layers", own_layers={"blocks": 2}) > count("own-layers")
    assert count("prompt", prompt={"tokens": 3}) == 3 * count("prompt", prompt={"tokens": 1})
    for name in ("shared-layers", "shared-layers-seq"):
        assert count(name, shared_layers={"rank": 9}) > count(name)


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


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("isolated", "a component of its own"),
        ("warm", "a component of its own"),
        ("joint", "the data of all tasks so far"),
    ],
)
def test_a_retention_where_nothing_is_to_be_protected_is_refused(schedule, why):
    method = Method(name="odd", component="weights", retention="ewc", schedule=schedule, about="odd")
    with pytest.raises(SettingsError, match=f"'odd' has retention ewc with schedule {schedule}: .*{why}"):
        check_method(method)


@pytest.mark.parametrize(
    ("schedule", "why"),
    [("kept", "which no later training touches"), ("shared", "here each task has its own")],
)
def test_a_retention_where_a_part_is_shared_is_refused(schedule, why):
    method = Method(name="odd", component="shared-layers", retention="ewc", schedule=schedule, about="odd")
    with pytest.raises(SettingsError, match=f"retention ewc with schedule {schedule}: .*{why}"):
        check_method(method)


@pytest.mark.parametrize(
    ("component", "schedule", "why"),
    [
        ("shared-layers", "isolated", "share new blocks. Use schedule kept or shared"),
        ("shared-layers", "sequential", "share new blocks. Use schedule kept or shared"),
        ("hybrid", "kept", "no part to share. Use component shared-layers"),
        ("weights", "shared", "no part to share"),
    ],
)
def test_parts_are_shared_only_where_there_are_some(component, schedule, why):
    method = Method(name="odd", component=component, schedule=schedule, about="odd")
    with pytest.raises(SettingsError, match=f"component {component} with schedule {schedule}: .*{why}"):
        check_method(method)


def test_only_the_schedule_decides_whether_shared_blocks_are_trained_on(base, tiny_tree):
    counts = {}
    for name in ("shared-layers", "shared-layers-seq"):
        component = build_component(METHODS[name], base, build_settings(tiny_tree()))
        for task in ("first", "second"):
            component.attach(task, seed=0)
        counts[name] = [len(component.parameters(task)) for task in ("first", "second")]
    assert counts["shared-layers"][0] > counts["shared-layers"][1]
    assert counts["shared-layers-seq"] == [counts["shared-layers"][0]] * 2


def test_orthogonal_ranks_without_a_lora_are_refused():
    method = Method(
        name="odd", component="weights", retention="orthogonal", schedule="sequential", about="odd"
    )
    with pytest.raises(SettingsError, match=r"orthogonal with component weights: .* Use component lora"):
        check_method(method)


@pytest.mark.parametrize(
    ("selection", "component", "schedule", "message"),
    [
        ("routed", "lora", "sequential", "routed with schedule sequential: each task's answers"),
        ("routed", "lora", "joint", "schedule joint: .* Use schedule isolated, or selection oracle"),
        ("routed", "lora", "warm", "with schedule warm"),
        ("routed", None, "isolated", "has selection routed without a component: there is nothing to choose"),
        ("merged", "lora", "sequential", "components that were trained apart are made into one"),
        ("merged", "layers", "isolated", "component layers: only low-rank updates .* Use component lora"),
        ("merged", "hybrid", "isolated", "only low-rank updates"),
        ("merged", "weights", "isolated", "whole weights are not merged here"),
        ("merged", "own-layers", "isolated", "blocks of the base's own are not merged here"),
    ],
)
def test_picking_or_merging_where_it_makes_no_sense_is_refused(selection, component, schedule, message):
    method = Method(name="mine", component=component, schedule=schedule, selection=selection, about="")
    with pytest.raises(SettingsError, match=message):
        check_method(method)


@pytest.mark.parametrize("component", ["lora", "layers", "hybrid", "ia3", "own-layers", "weights"])
def test_components_of_every_kind_can_be_routed(component):
    check_method(Method(name="mine", component=component, schedule="isolated", selection="routed", about=""))


def test_a_twin_is_equal_but_for_who_picks():
    table = [METHODS[name] for name in ("base", "routed", "layers", "lora-seq", "warm", "lora")]
    assert find_twin(METHODS["merged"], table) is METHODS["lora"]
    assert find_twin(METHODS["merged"], table[:-1]) is None
    assert find_twin(METHODS["lora"], table) is None


def test_every_method_of_the_table_makes_sense():
    assert [method.name for method in resolve_methods(list(METHODS))] == list(METHODS)


@pytest.mark.parametrize("name", ["replay", "ewc", "olora", "distill"])
def test_a_methods_retention_has_the_run_s_settings(name, tiny_tree):
    def build(**sections):
        return build_retention(METHODS[name], build_settings(tiny_tree(**sections)), seed=3)

    retention = build()
    assert retention.kind == METHODS[name].retention
    assert retention.fingerprint == build().fingerprint
    own = {"replay": {"ratio": 0.25}, "ewc": {"strength": 9.0}, "distill": {"strength": 9.0}}
    changed = build(retention={**own, "orthogonal": {"strength": 9.0}})
    assert changed.fingerprint != retention.fingerprint
    assert changed.settings == getattr(
        build_settings(tiny_tree(retention={**own, "orthogonal": {"strength": 9.0}})).retention,
        METHODS[name].retention,
    )


def test_methods_without_a_retention_have_none(tiny_tree):
    assert build_retention(METHODS["finetune"], build_settings(tiny_tree()), seed=0) is None


def test_orthogonal_ranks_are_stacked_for_all_tasks(base, tiny_tree):
    settings = build_settings(tiny_tree(lora={"rank": 2, "alpha": 8.0}))
    component = build_component(METHODS["olora"], base, settings)
    component.attach("x", seed=0)
    shapes = {name.split(".")[-2]: tuple(p.shape) for name, p in component.parameters("x").items()}
    assert shapes["lora_A"][0] == shapes["lora_B"][1] == 2 * len(settings.tasks)
    component.activate("x")
    scales = [getattr(module, "scaling", None) for module in component.model.modules()]
    assert {value for scale in scales if isinstance(scale, dict) for value in scale.values()} == {8.0 / 2}


@pytest.mark.parametrize(
    "sections", [{"training": {"weight_decay": 0.1}}, {"lora": {"variant": "dora"}}], ids=["decay", "dora"]
)
def test_what_would_change_other_tasks_ranks_is_refused(sections, base, tiny_tree):
    with pytest.raises(SettingsError, match=r"(weight_decay is 0\.1|variant is dora) with method 'olora'"):
        build_component(METHODS["olora"], base, build_settings(tiny_tree(**sections)))
