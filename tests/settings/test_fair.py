"""What the section ``fair`` refuses, and how values are laid over settings."""

import pytest

from codestrata.errors import SettingsError
from codestrata.settings.components import LoraSettings
from codestrata.settings.fair import FairSettings, apply_values, keep_scale
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import Settings, build_settings, fingerprint, to_tree


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"reference": "lora"}, "fair.reference is 'lora', but nothing is matched: set fair.match"),
        ({"target": 10.0}, r"fair.target is 10.0, but nothing is matched"),
        ({"match": "bytes", "reference": "lora", "target": 10.0}, "both say what the others are matched to"),
        ({"match": "bytes", "target": 0.0}, "fair.target is 0.0: it must be above 0"),
        ({"match": "bytes", "target": 1e16}, "fair.target is"),
        ({"match": "time", "target": 1e9}, "fair.target is 1000000000.0"),
        ({"tolerance": -0.1}, "fair.tolerance is -0.1"),
        ({"rates": (0.01,)}, "give 2 to 64 different learning rates"),
        ({"rates": (0.01, 0.01)}, "give 2 to 64 different learning rates"),
        ({"rates": (0.01, 0.0)}, "fair.rates is 0.0: it must be above 0"),
        ({"rates": (0.01, 2.0)}, "fair.rates is 2.0"),
        ({"rates": tuple((n + 1) / 100 for n in range(65))}, "give 2 to 64"),
        ({"search_steps": 5}, "fair.search_steps is 5, but no learning rate is searched for"),
        ({"rates": (0.01, 0.1), "search_steps": 0}, "fair.search_steps is 0"),
        ({"search_seed": -1}, "fair.search_seed is -1"),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_a_remedy(values, said):
    with pytest.raises(SettingsError, match=said):
        FairSettings(**values)


def test_a_reference_is_a_method_of_the_run(quick_tree):
    with pytest.raises(SettingsError, match=r"reference is 'layers', which this run does not train: .*base"):
        build_settings(quick_tree(fair={"match": "bytes", "reference": "layers"}))


def test_a_section_survives_the_way_to_a_file_and_back(quick_tree):
    fair = {"match": "tokens", "reference": "lora", "rates": [0.001, 0.01], "search_steps": 3, "tolerance": 0}
    settings = build_settings(quick_tree(fair=fair))
    assert build_settings(to_tree(settings)) == settings
    assert settings.fair.rates == (0.001, 0.01)
    assert settings.fair.tolerance == 0.0


def test_settings_with_the_default_alpha_are_the_same_after_a_file():
    settings = Settings(tasks=(TaskSettings(name="python"),))
    assert str(to_tree(settings)) == str(to_tree(build_settings(to_tree(settings))))


def test_values_are_laid_over_settings_and_nothing_else_changes(quick_tree):
    settings = build_settings(quick_tree())
    found = apply_values(settings, {"lora.rank": 7, "lora.alpha": 28.0, "weights.learning_rate": 0.5})
    assert (found.lora.rank, found.lora.alpha, found.weights.learning_rate) == (7, 28.0, 0.5)
    back = apply_values(found, {"lora.rank": 2, "lora.alpha": 8.0})
    assert fingerprint(apply_values(back, {"lora.learning_rate": 0.01})) != fingerprint(settings)
    assert back.lora == settings.lora
    assert back.training == settings.training
    with pytest.raises(SettingsError, match=r"lora.rank is 0"):
        apply_values(settings, {"lora.rank": 0})


def test_an_update_of_another_rank_counts_as_much():
    assert keep_scale("plain", 32.0, 16, 24) == 48.0
    assert keep_scale("dora", 32.0, 16, 4) == 8.0
    assert keep_scale("rslora", 32.0, 16, 64) == 64.0  # 32 / sqrt(16) = 64 / sqrt(64)
    assert LoraSettings().alpha / LoraSettings().rank == keep_scale("plain", 32.0, 16, 3) / 3
