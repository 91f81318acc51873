"""The presets against the values that the founding experiment had."""

import pytest

from codestrata.errors import SettingsError
from codestrata.methods import METHODS, resolve_methods
from codestrata.presets import PRESETS, build_preset, founding, founding_sound
from codestrata.settings.tree import build_settings, fingerprint


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_knows_its_name(name):
    settings = build_settings(build_preset(name))
    assert settings.preset == name
    names = [task.name for task in settings.tasks]
    if name != "codetask":  # whose tasks are kinds of work, not languages
        assert names == ["python", "javascript", "lua"][: len(names)]
    assert [method.name for method in resolve_methods(settings.methods)] == list(settings.methods)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_built_anew_each_time(name):
    tree = build_preset(name)
    tree["training"]["batch_size"] = 1
    tree["tasks"][0]["train_examples"] = 1
    assert fingerprint(build_settings(build_preset(name))) != fingerprint(build_settings(tree))
    assert build_preset(name)["tasks"][1] == tree["tasks"][1]


def test_an_unknown_preset_comes_with_the_nearest_name():
    with pytest.raises(SettingsError, match=r"Unknown preset 'fonding'. Did you mean 'founding'\?"):
        build_preset("fonding")


def test_pocket_compares_four_methods_on_kata_with_the_shipped_base():
    settings = build_settings(build_preset("pocket"))
    assert settings.methods == ("base", "lora", "layers", "finetune")
    assert settings.base.name == "pocket"
    assert {task.source for task in settings.tasks} == {"kata"}
    assert all(task.test_examples >= 300 for task in settings.tasks)
    assert settings.decoding.temperature is None
    assert settings.decoding.beams == 1


def test_mined_needs_no_hub_and_no_file():
    settings = build_settings(build_preset("mined"))
    assert {"base", "lora", "layers"} <= set(settings.methods)
    assert settings.base.name == "pocket"
    assert [task.code_language for task in settings.tasks] == ["python", "javascript"]
    for task in settings.tasks:
        assert (task.source, task.path, task.test_source, task.exclude) == ("mined", None, None, ())
        assert (task.allow_overlap, task.keep_secrets) == (False, False)
        assert task.split is None  # by repository; by folder where --set names one's own single repository
        assert task.train_examples + task.validation_examples + task.test_examples >= 500
        assert task.duplicate_threshold < 1
    assert settings.decoding.max_new_tokens <= settings.training.max_target_tokens
    assert settings.decoding.temperature is None


def test_field_compares_the_methods_of_the_table_on_three_languages_with_three_seeds():
    settings = build_settings(build_preset("field"))
    trained = [name for name in settings.methods if METHODS[name].component is not None]
    assert len(trained) >= 12
    assert {"joint", "ewc", "replay", "olora", "distill", "routed", "merged"} <= set(trained)
    assert (len(settings.tasks), len(settings.seeds)) == (3, 3)


def test_founding_is_the_founding_experiment():
    settings = build_settings(founding())
    assert settings.base.name == "Salesforce/codet5-small"
    assert settings.base.weights == "trained"
    assert {"lora", "layers"} <= set(settings.methods)
    for task in settings.tasks:
        assert (task.source, task.path) == ("codesearchnet", None)
        assert (task.train_examples, task.validation_examples, task.test_examples) == (15000, 5000, 50)
        assert (task.objective, task.evaluation_objective) == ("copy", "continue")
    training = settings.training
    assert (training.epochs, training.steps, training.batch_size) == (2.0, None, 8)
    assert (training.learning_rate, training.weight_decay, training.clip_norm) == (5e-4, 0.01, 1.0)
    lora = settings.lora
    assert (lora.rank, lora.alpha, lora.dropout) == (16, 32.0, 0.1)
    assert lora.targets == ("q", "k", "v", "o", "wo")
    layers = settings.layers
    assert (layers.placement, layers.blocks, layers.init) == ("encoder-top", 1, "scaled:0.01")
    decoding = settings.decoding
    assert (decoding.temperature, decoding.beams, decoding.no_repeat_ngram) == (0.7, 3, 2)


def test_founding_sound_asks_the_same_question_properly():
    sound, first = build_settings(founding_sound()), build_settings(founding())
    for task in sound.tasks:
        assert (task.objective, task.evaluation_objective) == ("generate", "generate")
        assert (task.train_examples, task.test_examples) == (15000, 1000)
    decoding = sound.decoding
    assert (decoding.temperature, decoding.beams, decoding.no_repeat_ngram) == (None, 1, None)
    assert (sound.layers.placement, sound.layers.init) == ("encoder-top", "copy")
    assert sound.lora.targets == ("q", "k", "v", "o", "wi", "wo")
    assert (sound.base, sound.training, sound.methods) == (first.base, first.training, first.methods)
    assert (sound.lora.rank, sound.lora.alpha, sound.lora.dropout) == (16, 32.0, 0.1)


def test_codetask_is_the_published_stream_in_its_order():
    settings = build_settings(build_preset("codetask"))
    assert [(task.source, task.code_language, task.objective) for task in settings.tasks] == [
        ("concode", "java", "generate"),
        ("translate", "c_sharp", "generate"),
        ("codesearchnet", "ruby", "summarize"),
        ("refine", "java", "generate"),
    ]
    assert settings.base.name == "Salesforce/codet5-small"
    assert settings.decoding.max_new_tokens <= settings.training.max_target_tokens
