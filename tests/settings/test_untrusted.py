"""Whatever an experiment file or ``--set`` says: settings that can be stored, or a SettingsError."""

import copy
import datetime
import errno
import math
import os
import signal
import tomllib

import pytest
import tomli_w
from hypothesis import event, given
from hypothesis import settings as property_settings
from hypothesis import strategies as st

from codestrata.errors import SettingsError
from codestrata.presets import PRESETS, build_preset
from codestrata.settings.reading import apply_assignment, merge, read_toml
from codestrata.settings.tree import build_settings, fingerprint, to_tree
from codestrata.store import replace_off

FEW = property_settings(deadline=None, max_examples=150)
MANY = property_settings(deadline=None, max_examples=10_000)
LONGEST_MESSAGE = 2000


def build_valid_tree():
    """A tree that has every section, written out, and a task of every source."""
    tasks = [
        {"name": "python", "train_examples": 5},
        {"name": "own", "source": "file", "path": "a.jsonl", "test_path": "b.jsonl"},
        {"name": "functions", "source": "codesearchnet", "objective": "copy"},
    ]
    return to_tree(build_settings({"tasks": tasks, "training": {"steps": 5}}))


VALID = build_valid_tree()
WORDS = [
    "null",
    "auto",
    "pocket",
    "lora",
    "kata",
    "file",
    "python",
    "PYTHON",
    "con",
    "..",
    "a/b",
    "1",
    "true",
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([2**31, 2**63 - 1, 2**63, 10**400, -(2**63) - 1, 10**1000])
    | st.floats()
    | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1e308, 5e-324])
    | st.sampled_from(WORDS)
    | st.text(max_size=6)
    | st.text(st.characters(), max_size=3)  # half surrogate pairs and NUL too
    | st.sampled_from([datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1), datetime.time(1)])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(), inner),
    max_leaves=6,
)


def list_places(tree, path=()):
    """The path of every value in a tree, sections and lists included."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from list_places(value, (*path, key))


PLACES = list(list_places(VALID))


def choose_like(value):
    """Other values of the same kind, which may well be accepted."""
    match value:
        case bool():
            return st.booleans()
        case int():
            return st.integers(0, 200)
        case float():
            return st.floats(0, 2) | st.integers(0, 2)
        case str():
            return st.sampled_from([*WORDS, value.swapcase(), f"{value}1"])
        case None:
            return st.integers(1, 5) | st.sampled_from(WORDS)
    return values


@st.composite
def broken_trees(draw):
    """The valid tree with some of its values replaced, removed, repeated or joined by others."""
    tree = copy.deepcopy(VALID)
    for place in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=2)):
        section = tree
        for key in place[:-1]:
            try:
                section = section[key]
            except (KeyError, IndexError, TypeError):  # an earlier change took it away
                break
        if not isinstance(section, dict | list):
            continue
        change = draw(st.sampled_from(["like", "like", "replace", "remove", "add", "repeat"]))
        held = place[-1] in section if isinstance(section, dict) else len(section) > 0
        if change == "like" and isinstance(section, dict) and held:
            section[place[-1]] = draw(choose_like(section[place[-1]]))
        elif change == "replace" and isinstance(section, dict):
            section[place[-1]] = draw(values)
        elif change == "replace" and held:
            section[0] = draw(values)
        elif change == "remove" and held:
            del section[place[-1] if isinstance(section, dict) else 0]
        elif change == "repeat" and isinstance(section, list) and held:
            section.append(copy.deepcopy(section[0]))
        elif isinstance(section, dict):
            section[draw(st.text(max_size=5) | st.sampled_from(["stpes", "name", "tasks"]))] = draw(values)
    return tree


def check_message(error, start=""):
    """The error is short, can be printed, and begins with the file's name."""
    str(error).encode()
    assert 0 < len(str(error)) < LONGEST_MESSAGE
    assert str(error).startswith(start)


def check_tree(tree):
    """Settings come back from their tree and from their file with the same fingerprint, or are refused.

    Returns what happened.
    """
    try:
        built = build_settings(tree)
    except SettingsError as error:
        check_message(error)
        return "refused"
    again = build_settings(to_tree(built))
    stored = build_settings(read_back(to_tree(built)))
    assert built == again == stored
    assert fingerprint(built) == fingerprint(again) == fingerprint(stored)
    return "accepted"


def read_back(tree):
    """The tree as a run stores it in ``settings.toml``."""
    return tomllib.loads(tomli_w.dumps(replace_off(tree)).encode().decode())


@FEW
@given(broken_trees())
def test_any_tree_gives_settings_or_is_refused(tree):
    event(check_tree(tree))


@pytest.mark.slow
@MANY
@given(broken_trees())
def test_any_of_many_trees_gives_settings_or_is_refused(tree):
    event(check_tree(tree))


lines = st.sampled_from(tomli_w.dumps(replace_off(VALID)).splitlines()) | st.sampled_from(
    [
        'preset = "founding"',
        "[training]",
        "[[tasks]]",
        "steps = 5",
        'name = "python"',
        "a.b.c = {d = [1, {}]}",
    ]
)
pieces = st.sampled_from(
    [
        *(b"\0", b"\xff", b"\xef\xbb\xbf", b"nan", b"-inf", b"9" * 5000, b"0x" + b"f" * 5000, b"[" * 2000),
        *(b'"""', b"1979-05-27T07:32:00Z", b"\\ud800", b"{", b"]]", b"\r", b"=", b"a." * 500, b"''", b"\n"),
    ]
) | st.binary(max_size=4)


@st.composite
def toml_contents(draw):
    """Bytes that are nearly an experiment file."""
    whole = st.just(tomli_w.dumps(replace_off(VALID)).splitlines())
    content = "\n".join(draw(whole | st.lists(lines, max_size=5))).encode()
    for piece in draw(st.lists(pieces | st.sampled_from([b"1", b"7", b"a", b""]), max_size=2)):
        place = draw(st.integers(0, len(content)))
        content = content[:place] + piece + content[place + draw(st.integers(0, 2)) :]
    return content


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder that hypothesis may use again and again."""
    return tmp_path_factory.mktemp("scratch")


def check_toml(scratch, content):
    """An experiment file gives a tree that can be laid over a preset, or is refused by its name."""
    path = scratch / "run.toml"
    path.write_bytes(content)
    try:
        changes = read_toml(path)
    except SettingsError as error:
        check_message(error, f"{path}:")
        return "not TOML"
    try:
        tree = merge(build_preset(changes.get("preset", "pocket")), changes)
    except SettingsError:
        return "no preset"
    return check_tree(tree)


@FEW
@given(content=toml_contents())
def test_any_file_is_read_or_refused_by_name(scratch, content):
    event(check_toml(scratch, content))


@pytest.mark.slow
@MANY
@given(content=toml_contents())
def test_any_of_many_files_is_read_or_refused_by_name(scratch, content):
    event(check_toml(scratch, content))


keys = (
    st.sampled_from([".".join(map(str, place)) for place in PLACES])
    | st.sampled_from(
        ["tasks.*.seed", "tasks.own.path", "tasks.own", "tasks.x.y.z", "..", "a" * 300, "x." * 300]
    )
    | st.text(max_size=8)
)
written = st.sampled_from(
    [
        *("null", "[", "1 2", "{}", "{a = 1}", "[[1], [2]]", "nan", "1e999", "0x" + "f" * 999, "9" * 5000),
        *("[" * 3000, "a,b", "0,0", '"""', "1\ny = 2", "2024-01-01", "'a'", "true", "-0.0", "\ud800", "a\0"),
    ]
) | st.text(st.characters(), max_size=6)
SET = [".".join(place) for place in PLACES if [type(key) for key in place] == [str, str]]
plausible = st.builds("{}={}".format, st.sampled_from(SET), st.integers(1, 99) | st.sampled_from(WORDS))
assignments = plausible | st.builds("{}={}".format, keys, written) | st.text(st.characters(), max_size=12)


def check_assignments(chosen):
    """What ``--set`` makes of a tree is refused at once, or is a tree to be checked as any other."""
    tree = merge(build_preset("pocket"), {"tasks": copy.deepcopy(VALID["tasks"])})
    try:
        for assignment in chosen:
            apply_assignment(tree, assignment)
    except SettingsError as error:
        check_message(error)
        return "not applied"
    return check_tree(tree)


@FEW
@given(st.lists(assignments, min_size=1, max_size=3))
def test_any_assignment_is_applied_or_refused(chosen):
    event(check_assignments(chosen))


@pytest.mark.slow
@MANY
@given(st.lists(assignments, min_size=1, max_size=3))
def test_any_of_many_assignments_is_applied_or_refused(chosen):
    event(check_assignments(chosen))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_come_back_from_their_file(name):
    assert check_tree(build_preset(name)) == "accepted"


@pytest.mark.parametrize("name", [5, None, ["pocket"], {"a": 1}, datetime.date(2024, 1, 1), "pokcet"])
def test_a_preset_that_is_no_name_is_refused(name):
    with pytest.raises(SettingsError, match="preset"):
        build_preset(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"batch_size": 10**400}}, r"training\.batch_size is <a number of 1329 bits>: no whole"),
        (
            {"training": {"batch_size": 2**63}},
            r"training\.batch_size is 9223372036854775808: no whole number",
        ),
        ({"training": {"learning_rate": 16**9999}}, r"training\.learning_rate is <a number of .* bits>: exp"),
        (
            {"training": {"batch_size": datetime.date(2024, 1, 1)}},
            r"batch_size is datetime\.date.*found date",
        ),
        ({"base": {"name": "a\0b"}}, r"base\.name is 'a\\x00b': a NUL"),
        ({"base": {"name": "\ud800"}}, r"base\.name is '\\ud800': a NUL, or what is no Unicode"),
        ({"base": {"name": ["x" * 10**6] * 100}}, r"base\.name is \['xxx.*expected str, found list"),
        ({"y" * 10**6: 1}, r"Unknown setting 'yyy.*\.\.\.yyy"),
        ({"seeds": [[0]]}, r"seeds\.0 is \[0\]: expected int, found list"),
        ({"seeds": True}, r"seeds\.0 is True: expected int, found bool"),
        ({"seeds": {"a": 1}}, r"seeds is \{'a': 1\}: expected a list\.$"),
        ({"tasks": {"name": "python"}}, r"expected a list; write \[\[tasks\]\] above each section"),
        ({"preset": "../pocket"}, r"preset is '\.\./pocket': use 1 to 64 letters"),
        ({1: 2}, r"1 is no name of a setting"),
    ],
)
def test_what_no_file_should_say_is_refused_in_few_words(changes, message):
    with pytest.raises(SettingsError, match=message) as caught:
        build_settings(VALID | changes)
    assert len(str(caught.value)) < LONGEST_MESSAGE


def test_a_deep_tree_is_refused():
    inner = "x"
    for _ in range(100_000):
        inner = {"a": inner}
    for tree in ({"base": {"name": inner}}, {"base": inner}, {"a": inner}, {"training": {"decay": inner}}):
        with pytest.raises(SettingsError):
            build_settings(VALID | tree)


@pytest.mark.parametrize("tree", [None, 5, [], "pocket"])
def test_what_is_no_tree_is_refused(tree):
    with pytest.raises(SettingsError, match=r"The tree of settings is .*: expected a section"):
        build_settings(tree)


def test_a_zero_below_zero_is_the_same_setting():
    below, above = (
        build_settings(VALID | {"training": {"steps": 1, "weight_decay": x}}) for x in (-0.0, 0.0)
    )
    assert below == above
    assert fingerprint(below) == fingerprint(above)


@pytest.fixture
def no_waiting():
    """Fail after some seconds instead of waiting for a pipe without end."""

    def stop(*_):
        raise AssertionError("waited for a file that will never say anything")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.usefixtures("no_waiting")
def test_what_is_no_plain_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    (tmp_path / "folder.toml").mkdir()
    for name, reason in (
        ("pipe.toml", "It is a pipe, not a plain file"),
        ("zero.toml", "It is a device, not a plain file"),
        ("folder.toml", "It is a folder, not a plain file"),
        ("loop.toml", "Too many levels of symbolic links"),
        ("absent.toml", "No such file or directory"),
        ("a\0b.toml", "no path of a file"),
        ("a" * 999, "File name too long"),
    ):
        with pytest.raises(SettingsError, match=f"cannot be read: {reason}"):
            read_toml(tmp_path / name)


def test_a_file_without_the_right_to_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.toml"
    path.write_text("seeds = 0")

    def refuse(*_):  # a mode would not do: the superuser may read everything
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SettingsError, match="cannot be read: Permission denied"):
        read_toml(path)
