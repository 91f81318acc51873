import dataclasses
import inspect
import math
import re
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st

from codestrata.errors import SettingsError
from codestrata.settings import components, fair, reading, retention, sections, selection, tree
from codestrata.settings.reading import apply_assignment, merge
from codestrata.settings.tasks import TaskSettings
from codestrata.settings.tree import Settings, build_settings, fingerprint, to_tree

PROPERTY = property_settings(deadline=None, max_examples=30)

SECTIONS = [
    entry
    for module in (components, fair, retention, sections, selection, tree)
    for _, entry in inspect.getmembers(module, dataclasses.is_dataclass)
    if entry.__module__ == module.__name__
]


def build_tree(**changes: Any) -> dict[str, Any]:
    """The smallest tree that can be built, with ``changes`` laid over it."""
    smallest = {"tasks": [{"name": "python"}, {"name": "javascript"}], "training": {"epochs": 1}}
    return merge(smallest, changes)


names = st.text("abcXYZ019", min_size=1, max_size=8)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
counts = st.integers(1, 10_000)
rates = st.floats(min_value=0, max_value=1, exclude_min=True)
tasks = st.fixed_dictionaries(
    {"name": names},
    optional={"language": st.none() | names, "train_examples": counts, "seed": st.integers(0, 2**32)},
) | st.fixed_dictionaries(
    {"name": names, "source": st.just("codesearchnet")},
    optional={
        "path": st.none() | texts.filter(lambda text: text != "null"),
        "objective": st.sampled_from(["generate", "copy"]),
        "evaluation_objective": st.none() | st.just("complete"),
    },
)
trainings = st.fixed_dictionaries(
    {},
    optional={
        "batch_size": counts,
        "learning_rate": rates,
        "clip_norm": st.none() | rates,
        "base_dropout": st.booleans(),
    },
)
spans = st.fixed_dictionaries({"steps": counts}) | st.fixed_dictionaries({"epochs": counts | rates})
trees = st.fixed_dictionaries(
    {
        "tasks": st.lists(tasks, min_size=1, max_size=3, unique_by=lambda task: task["name"]),
        "training": st.builds(merge, trainings, spans),
    },
    optional={
        "methods": st.lists(names, min_size=1, max_size=3, unique=True),
        "seeds": st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
        "lora": st.fixed_dictionaries(
            {}, optional={"alpha": counts, "targets": st.none() | st.lists(texts, max_size=2)}
        ),
        "layers": st.fixed_dictionaries({"placement": st.builds("interleaved:{}".format, counts)}),
        "execution": st.fixed_dictionaries({"timeout_seconds": counts | rates}),
    },
)


def shuffle_keys(tree: Any) -> Any:
    """``tree`` with the keys of every section in the opposite order."""
    if isinstance(tree, dict):
        return {key: shuffle_keys(value) for key, value in reversed(tree.items())}
    return [shuffle_keys(item) for item in tree] if isinstance(tree, list) else tree


@PROPERTY
@given(trees)
def test_settings_come_back_from_their_tree(tree):
    built = build_settings(tree)
    assert build_settings(to_tree(built)) == built


@PROPERTY
@given(trees)
def test_the_fingerprint_is_that_of_the_values_not_of_their_order(tree):
    built = build_settings(tree)
    assert fingerprint(build_settings(shuffle_keys(tree))) == fingerprint(built)
    assert fingerprint(build_settings(to_tree(built))) == fingerprint(built)


def test_equal_settings_have_equal_fingerprints_however_they_were_made():
    task = TaskSettings(name="python")
    by_hand = Settings(tasks=(task,), lora=components.LoraSettings(alpha=8))
    built = build_settings({"tasks": [{"name": "python"}], "lora": {"alpha": 8.0}})
    assert by_hand == built
    assert fingerprint(by_hand) == fingerprint(built)


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [1]},
        {"methods": ["lora"]},
        {"lora": {"rank": 8}},
        {"base": {"revision": "main"}},
        {"tasks": [{"name": "javascript"}, {"name": "python"}]},
    ],
)
def test_other_settings_have_another_fingerprint(changes):
    assert fingerprint(build_settings(build_tree(**changes))) != fingerprint(build_settings(build_tree()))


def test_the_smallest_tree_takes_all_other_values_from_the_defaults():
    built = build_settings({"tasks": [{"name": "python"}]})
    assert built == Settings(tasks=(TaskSettings(name="python"),))


def test_a_tree_holds_only_what_toml_and_json_can_hold():
    def list_kinds(value: Any) -> set[type]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return {type(value)}.union(*(list_kinds(entry) for entry in inner))

    plain = {dict, list, str, int, float, bool, type(None)}
    assert list_kinds(to_tree(build_settings(build_tree()))) <= plain


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        build_settings(build_tree()).preset = "other"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_value_has_its_help_text_below_it(section):
    source = inspect.getsource(section)
    values = [name for name, kind in get_type_hints(section).items() if kind not in SECTIONS]
    bare = [name for name in values if not re.search(rf'^    {name}: .*\n    """', source, re.MULTILINE)]
    assert not bare, f"{section.__name__}: no docstring below {', '.join(bare)}"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"lroa": {}}, "Unknown setting 'lroa'. Did you mean 'lora'?"),
        ({"training": {"step": 3}}, "Unknown setting 'training.step'. Did you mean 'training.steps'?"),
        ({"tasks": [{"name": "a", "langauge": "b"}]}, "Did you mean 'tasks.a.language'?"),
        ({"tasks": [{"name": "a/b", "langauge": "b"}]}, "Did you mean 'tasks.0.language'?"),
        ({"tasks": [{"language": "python"}]}, "tasks.0.name is missing and has no default."),
    ],
)
def test_unknown_and_missing_keys_are_named_with_their_place(tree, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        build_settings(build_tree(**tree))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"training": {"batch_size": "16"}}, "training.batch_size is '16': expected int, found str."),
        ({"training": {"batch_size": 16.0}}, "training.batch_size is 16.0: expected int, found float."),
        ({"training": {"batch_size": True}}, "training.batch_size is True: expected int, found bool."),
        ({"training": {"batch_size": None}}, "training.batch_size is None: expected int, found NoneType."),
        (
            {"training": {"learning_rate": True}},
            "training.learning_rate is True: expected float, found bool.",
        ),
        ({"training": {"base_dropout": 1}}, "training.base_dropout is 1: expected bool, found int."),
        ({"base": {"name": 5}}, "base.name is 5: expected str, found int."),
        ({"base": "pocket"}, "base is 'pocket': expected a section with named values."),
        ({"tasks": ["python"]}, "tasks.0 is 'python': expected a section with named values."),
        ({"methods": 5.0}, "methods is 5.0: expected a list."),
        ({"seeds": [0, "1"]}, "seeds.1 is '1': expected int, found str."),
        ({"training": {"decay": "cosin"}}, "Unknown training.decay 'cosin'. Did you mean 'cosine'?"),
        ({"training": {"decay": ["cosine"]}}, "Unknown training.decay"),
    ],
)
def test_a_value_of_another_type_is_refused(tree, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        build_settings(build_tree(**tree))


def test_whole_numbers_pass_for_floats():
    value = build_settings(build_tree(lora={"alpha": 8})).lora.alpha
    assert (value, type(value)) == (8.0, float)


@pytest.mark.parametrize(
    ("section", "key", "low_enough", "too_low"),
    [
        ("training", "batch_size", 1, 0),
        ("training", "weight_decay", 0.0, -0.1),
        ("training", "clip_norm", 0.1, 0.0),
        ("training", "warmup_fraction", 0.0, -0.1),
        ("training", "max_prompt_tokens", 1, 0),
        ("training", "max_target_tokens", 1, 0),
        ("lora", "rank", 1, 0),
        ("lora", "alpha", 0.1, 0.0),
        ("lora", "dropout", 0.0, -0.1),
        ("layers", "blocks", 1, 0),
        ("routing", "shrinkage", 1e-6, 9e-7),
        ("decoding", "batch_size", 1, 0),
        ("decoding", "max_new_tokens", 1, 0),
        ("decoding", "beams", 1, 0),
        ("decoding", "temperature", 0.1, 0.0),
        ("decoding", "no_repeat_ngram", 1, 0),
        ("execution", "timeout_seconds", 0.1, 0.0),
        ("execution", "memory_mib", 64, 63),
        ("device", "threads", 1, 0),
    ],
)
def test_values_below_their_range_are_refused(section, key, low_enough, too_low):
    built = build_settings(build_tree(**{section: {key: low_enough}}))
    assert getattr(getattr(built, section), key) == low_enough
    with pytest.raises(SettingsError, match=rf"{section}\.{key} is {too_low}: it must be"):
        build_settings(build_tree(**{section: {key: too_low}}))


@pytest.mark.parametrize("section", ["training", "lora", "layers", "hybrid", "ia3", "own_layers", "weights"])
@pytest.mark.parametrize("value", [0.0, -1.0, 1.5])
def test_learning_rates_are_above_0_and_at_most_1(section, value):
    with pytest.raises(
        SettingsError, match=rf"{section}\.learning_rate is {value}: it must be above 0 and at most 1"
    ):
        build_settings(build_tree(**{section: {"learning_rate": value}}))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("section", "key"), [("training", "weight_decay"), ("lora", "alpha"), ("execution", "timeout_seconds")]
)
def test_numbers_must_be_finite(section, key, value):
    with pytest.raises(SettingsError, match=rf"{section}\.{key} is {value}: it must be a finite number"):
        build_settings(build_tree(**{section: {key: value}}))


@pytest.mark.parametrize(
    ("key", "too_low"),
    [("train_examples", 0), ("validation_examples", -1), ("test_examples", 0), ("unseen_examples", -1)],
)
def test_numbers_of_examples_have_ranges(key, too_low):
    with pytest.raises(SettingsError, match=rf"tasks\.{key} is {too_low}"):
        build_settings({"tasks": [{"name": "python", key: too_low}]})


@pytest.mark.parametrize(
    ("section", "key", "highest", "too_high"),
    [
        ("training", "batch_size", 10**9, 10**9 + 1),
        ("training", "weight_decay", 1e9, 1e300),
        ("execution", "timeout_seconds", 86400.0, 86401.0),
        ("device", "threads", 1024, 1025),
        ("decoding", "seed", 2**62, 2**62 + 1),
        ("decoding", "max_new_tokens", 10**9, 2**63 - 1),
    ],
)
def test_values_above_their_range_are_refused(section, key, highest, too_high):
    built = build_settings(build_tree(**{section: {key: highest}}))
    assert getattr(getattr(built, section), key) == highest
    with pytest.raises(SettingsError, match=rf"{section}\.{key} is {re.escape(str(too_high))}: "):
        build_settings(build_tree(**{section: {key: too_high}}))


@pytest.mark.parametrize("seed", [-1, 2**62 + 1, 2**63])
def test_seeds_are_numbers_that_every_generator_takes(seed):
    for changes in (
        {"seeds": [seed]},
        {"decoding": {"seed": seed}},
        {"tasks": [{"name": "a", "seed": seed}]},
    ):
        with pytest.raises(SettingsError, match=f"seeds?(.0)? is {seed}: "):
            build_settings(build_tree(**changes))


@pytest.mark.parametrize("training", [{}, {"steps": 5, "epochs": 1.0}, {"steps": None, "epochs": None}])
def test_training_lasts_for_steps_or_epochs(training):
    with pytest.raises(SettingsError, match="set exactly one of them"):
        sections.TrainingSettings(**training)


@pytest.mark.parametrize("training", [{"steps": 0}, {"epochs": 0.0}, {"epochs": math.nan}])
def test_training_lasts_for_some_time(training):
    with pytest.raises(SettingsError, match="it must be"):
        sections.TrainingSettings(**training)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"patience": 2}, "training.patience is 2, but nothing is validated: set training.validation_steps"),
        (
            {"keep": "best"},
            "training.keep is 'best', but nothing is validated: set training.validation_steps",
        ),
        ({"validation_steps": 0}, "training.validation_steps is 0: it must be at least 1"),
        ({"validation_steps": 5, "patience": 0}, "training.patience is 0: it must be at least 1"),
        ({"validation_steps": 5, "keep": "bset"}, "Unknown training.keep 'bset'. Did you mean 'best'?"),
    ],
)
def test_stopping_and_choosing_weights_need_validation(training, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        build_settings(build_tree(training=training))


def test_validation_needs_examples_of_every_task():
    tree = build_tree(training={"validation_steps": 5, "patience": 1, "keep": "best"})
    assert build_settings(tree).training.keep == "best"
    tree["tasks"] = [{"name": "a"}, {"name": "b", "validation_examples": 0}, {"name": "c"}]
    with pytest.raises(
        SettingsError, match=r"tasks\.validation_examples is 0 for 'b': hold some examples out"
    ):
        build_settings(tree)
    apply_assignment(tree, "training.validation_steps=null")
    with pytest.raises(SettingsError, match=r"training\.patience is 1, but nothing is validated"):
        build_settings(tree)


def test_a_file_task_needs_its_path():
    with pytest.raises(SettingsError, match="path is missing for task 'mine'"):
        TaskSettings(name="mine", source="file")
    assert TaskSettings(name="mine", source="file", path="a.jsonl").path == "a.jsonl"


@pytest.mark.parametrize("label", ["methods", "seeds", "tasks"])
def test_lists_of_a_run_are_neither_empty_nor_repeated(label):
    entry = {"methods": "lora", "seeds": 0, "tasks": {"name": "python"}}[label]
    with pytest.raises(SettingsError, match=f"{label} is empty"):
        build_settings(build_tree(**{label: []}))
    with pytest.raises(SettingsError, match=f"{label} holds a duplicate"):
        build_settings(build_tree(**{label: [entry, entry]}))


@pytest.mark.parametrize("name", ["python", "a", "0", "kata-python_2", "a" * 64])
def test_good_names_pass(name):
    assert TaskSettings(name=name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "_",
        "-a",
        "_a",
        "a b",
        "a/b",
        "a\\b",
        ".",
        "..",
        ".a",
        "a.b",
        "é",
        "a\n",
        "a\0",
        "\x1b[31m",
        "a" * 65,
    ],
)
def test_names_that_are_no_file_names_are_refused(name):
    with pytest.raises(SettingsError, match=r"tasks\.name is .*: use 1 to 64 letters"):
        TaskSettings(name=name)


@pytest.mark.parametrize("name", ["con", "NUL", "Aux", "prn", "COM1", "lpt9"])
def test_names_of_devices_of_windows_are_refused(name):
    with pytest.raises(SettingsError, match=rf"tasks\.name is '{name}', which Windows takes for a device"):
        TaskSettings(name=name)
    assert TaskSettings(name=f"{name}-1").name == f"{name}-1"


def test_names_that_differ_in_case_only_are_refused():
    with pytest.raises(SettingsError, match="tasks holds 'Lua' and 'lUA', which differ in case only"):
        build_settings(build_tree(tasks=[{"name": "Lua"}, {"name": "go"}, {"name": "lUA"}]))


@pytest.mark.parametrize(
    "placement", ["top", "encoder-top", "decoder-top", "both", "interleaved:1", "interleaved:12"]
)
def test_good_placements_pass(placement):
    assert components.LayersSettings(placement=placement).placement == placement


@pytest.mark.parametrize(
    "placement",
    [
        "upper-top",
        "",
        "interleaved",
        "interleaved:",
        "interleaved:0",
        "interleaved:-1",
        "interleaved:1.5",
        "both:2",
    ],
)
def test_other_placements_are_refused_with_the_choices(placement):
    choices = "top, encoder-top, decoder-top, both or interleaved:<positive whole number>"
    with pytest.raises(SettingsError, match=rf"layers\.placement is '{placement}': use {choices}"):
        components.LayersSettings(placement=placement)


@pytest.mark.parametrize("init", ["copy", "scaled:0.02", "scaled:1e-3"])
def test_good_inits_pass(init):
    assert components.LayersSettings(init=init).init == init


@pytest.mark.parametrize(
    "init", ["zero", "scaled", "scaled:0", "scaled:nan", "scaled:inf", "scaled:x", "copy:1"]
)
def test_other_inits_are_refused_with_the_choices(init):
    with pytest.raises(SettingsError, match=r"layers\.init is .*: use copy or scaled:<positive number>"):
        components.LayersSettings(init=init)


@pytest.mark.parametrize("name", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:11"])
def test_good_devices_pass(name):
    assert sections.DeviceSettings(name=name).name == name


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:\u0663", "cuda:9999", "cpu:0", "auto:1", "CUDA", ""]
)
def test_other_devices_are_refused_with_the_choices(name):
    with pytest.raises(SettingsError, match=r"device\.name is .*: use auto, cuda, cuda:<n>, mps or cpu"):
        sections.DeviceSettings(name=name)


def test_an_experiment_file_is_read_as_plain_values(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('seeds = [0, 1]\n[[tasks]]\nname = "é"\n', encoding="utf-8")
    assert reading.read_toml(path) == {"seeds": [0, 1], "tasks": [{"name": "é"}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\nseeds 0\n", r"run\.toml:2: not TOML: .*at line 2"),
        (b"a = 1\na = 2\n", r"run\.toml:2: not TOML: Cannot overwrite a value"),
        (b"a = 1\nb = [\n\n", r"run\.toml:4: not TOML: .*end of document"),
        (b'\n\nname = "\xff"', r"run\.toml:3: not TOML: not UTF-8 \(invalid start byte\)"),
        (b"\xef\xbb\xbfseeds = 0\n", r"run\.toml:1: starts with a byte order mark: save it as UTF-8 without"),
        (b"seeds = " + b"9" * 5000, r"run\.toml: not TOML that can be used: .*digits"),
        (b"seeds = " + b"[" * 2000, r"run\.toml: not TOML that can be used: nested too deeply"),
        (b"#" * 2**20 + b"\n", r"run\.toml: larger than 1 MiB"),
        (b"\na = {" + b"b." * 500_000 + b"c = 1}", r"run\.toml:2: a name of more than 32 parts"),
        (b"x" * 2**20, r"run\.toml:1: not TOML"),
        (b'"a"' * 2**18, r"run\.toml:1: not TOML"),
        (None, r"run\.toml: cannot be read: No such file"),
    ],
)
def test_a_file_that_is_not_toml_is_refused_with_the_place(tmp_path, content, message):
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        reading.read_toml(path)


def test_a_folder_is_no_experiment_file(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        reading.read_toml(tmp_path)


def test_merging_goes_into_sections_and_replaces_lists():
    tree = {"lora": {"rank": 16, "alpha": 32}, "seeds": [0, 1], "preset": "pocket"}
    merged = merge(tree, {"lora": {"rank": 8}, "seeds": [2], "base": {"name": "x"}})
    assert merged == {
        "lora": {"rank": 8, "alpha": 32},
        "seeds": [2],
        "preset": "pocket",
        "base": {"name": "x"},
    }
    assert tree["lora"] == {"rank": 16, "alpha": 32}


@pytest.mark.parametrize(
    ("assignment", "section", "value"),
    [
        ("lora.rank=8", "lora", {"rank": 8}),
        (" lora.rank = 8 ", "lora", {"rank": 8}),
        ("lora.alpha=8.5", "lora", {"alpha": 8.5}),
        ('lora.targets=["q", "v"]', "lora", {"targets": ["q", "v"]}),
        ("training.base_dropout=true", "training", {"base_dropout": True}),
        ("training.clip_norm=null", "training", {"clip_norm": "null"}),
        ("base.name=Salesforce/codet5-small", "base", {"name": "Salesforce/codet5-small"}),
        ('base.name="pocket"', "base", {"name": "pocket"}),
        ("base.name=a=b", "base", {"name": "a=b"}),
        ("base.name=", "base", {"name": ""}),
        ("base.name=1\nx = 2", "base", {"name": "1\nx = 2"}),
        (f"base.name={'9' * 5000}", "base", {"name": "9" * 5000}),
        (f"base.name={'[' * 5000}", "base", {"name": "[" * 5000}),
        ("seeds=[0, 1]", "seeds", [0, 1]),
        ("preset=null", "preset", "null"),
    ],
)
def test_one_value_is_set(assignment, section, value):
    tree: dict[str, Any] = {}
    apply_assignment(tree, assignment)
    assert tree == {section: value}


def test_a_section_of_a_task_is_reached_by_its_name():
    tree = {"tasks": [{"name": "a", "columns": {"target": "t"}}, {"name": "b"}]}
    apply_assignment(tree, "tasks.a.columns.prompt=question")
    apply_assignment(tree, "tasks.*.columns.id=key")
    assert tree["tasks"][0]["columns"] == {"target": "t", "prompt": "question", "id": "key"}
    assert tree["tasks"][1]["columns"] == {"id": "key"}
    with pytest.raises(SettingsError, match="name holds values, not a section"):
        apply_assignment(tree, "tasks.a.name.x=1")


def test_steps_turn_epochs_off_and_the_other_way_round():
    tree = build_tree(training={"epochs": 2})
    apply_assignment(tree, "training.steps=100")
    assert tree["training"] == {"steps": 100, "epochs": "null"}
    assert build_settings(tree).training.steps == 100
    apply_assignment(tree, "training.epochs=0.5")
    assert tree["training"] == {"steps": "null", "epochs": 0.5}


def test_turning_steps_off_does_not_choose_epochs():
    tree = {"training": {"steps": 5}}
    apply_assignment(tree, "training.steps=null")
    assert tree == {"training": {"steps": "null"}}


def test_null_turns_a_setting_off_in_a_file_too():
    tree = build_tree(training={"steps": 5, "epochs": "null", "clip_norm": "null"})
    assert build_settings(tree).training.clip_norm is None
    assert build_settings(tree).training.epochs is None


def test_a_file_that_sets_steps_turns_the_epochs_of_a_preset_off():
    merged = merge({"training": {"epochs": 2, "batch_size": 8}}, {"training": {"steps": 7}})
    assert merged == {"training": {"epochs": "null", "batch_size": 8, "steps": 7}}


def test_a_list_may_be_written_with_commas():
    built = build_settings(build_tree(methods="base, lora", seeds="0,1"))
    assert (built.methods, built.seeds) == (("base", "lora"), (0, 1))
    assert build_settings(build_tree(seeds=3)).seeds == (3,)


@pytest.mark.parametrize(
    "task",
    [
        {"path": "mine.jsonl"},
        {"objective": "copy"},
        {"source": "codesearchnet", "test_path": "a.jsonl"},
        {"source": "file", "path": "a.jsonl", "evaluation_objective": "denoise"},
    ],
)
def test_what_a_source_would_ignore_is_refused(task):
    with pytest.raises(SettingsError, match="source"):
        build_settings({"tasks": [{"name": "python", **task}]})


@pytest.mark.parametrize("task", [{}, {"source": "mined", "path": "a"}])
def test_overlap_is_allowed_only_where_there_may_be_some(task):
    with pytest.raises(SettingsError, match=r"tasks\.allow_overlap of task 'a' goes with"):
        build_settings({"tasks": [{"name": "a", "allow_overlap": True, **task}]})
    for kept in ({"source": "codesearchnet"}, {"source": "file", "path": "a"}):
        task = {"name": "a", "allow_overlap": True, **kept}
        assert build_settings({"tasks": [task]}).tasks[0].allow_overlap


def test_only_kata_has_unseen_examples():
    with pytest.raises(SettingsError, match="only source"):
        build_settings({"tasks": [{"name": "a", "source": "file", "path": "a.jsonl", "unseen_examples": 3}]})


def test_tasks_are_addressed_by_name():
    tree = build_tree()
    apply_assignment(tree, "tasks.python.train_examples=7")
    assert tree["tasks"] == [{"name": "python", "train_examples": 7}, {"name": "javascript"}]


def test_a_star_addresses_all_tasks():
    tree = build_tree()
    apply_assignment(tree, "tasks.*.test_examples=9")
    assert [task.test_examples for task in build_settings(tree).tasks] == [9, 9]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.steps", "--set 'training.steps': expected key=value"),
        ("=5", "--set '=5': expected key=value"),
        ("", "--set '': expected key=value"),
        ("tasks.pyhton.seed=1", "Unknown task 'pyhton'. Did you mean 'python'? Known: javascript, python."),
        ("tasks.python=1", "--set 'tasks.python=1': tasks holds values, not a section."),
        ("seeds.first=1", "--set 'seeds.first=1': seeds holds values, not a section."),
    ],
)
def test_assignments_that_address_nothing_are_refused(assignment, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        apply_assignment(build_tree(seeds=[0]), assignment)


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"tasks": []},
        {"tasks": ["python"]},
        {"tasks": 5},
        {"tasks": "python"},
        {"tasks": {"name": "python"}},
    ],
)
def test_a_tree_without_tasks_has_none_to_address(tree):
    with pytest.raises(SettingsError, match=r"Unknown task 'python'\. Known: none"):
        apply_assignment(tree, "tasks.python.seed=1")


def test_an_unknown_key_that_was_set_is_refused_when_built():
    tree = build_tree()
    apply_assignment(tree, "training.stpes=5")
    with pytest.raises(SettingsError, match=r"Did you mean 'training\.steps'"):
        build_settings(tree)


def test_how_often_a_training_is_kept():
    def build(seconds):
        return build_settings(build_tree(checkpoints={"seconds": seconds})).checkpoints.seconds

    assert build_settings(build_tree()).checkpoints.seconds == 60.0
    assert [build(seconds) for seconds in (0, 0.5, "null", None)] == [0.0, 0.5, None, None]
    with pytest.raises(SettingsError, match=r"^checkpoints\.seconds is -1\.0: it must be at least 0"):
        build(-1)


@pytest.mark.parametrize("section", ["training", "decoding"])
def test_fp16_is_refused_with_the_reason(section):
    message = (
        rf"^Unknown {section}\.precision 'fp16'.* T5's activations go beyond fp16's largest number, 65504"
    )
    with pytest.raises(SettingsError, match=message):
        build_settings(build_tree(**{section: {"precision": "fp16"}}))
