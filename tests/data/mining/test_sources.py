"""Walking trees: what is found, what is left out, and how it is counted."""

import os
import socket
import sys
from pathlib import Path

import pytest

from codestrata.data.mining import sources
from codestrata.data.mining.options import MiningOptions
from codestrata.data.mining.sources import Tree, Walk, check_language, find_trees, judge_name, name_below
from codestrata.errors import SettingsError

WINDOWS = os.name == "nt"


@pytest.fixture
def tree(tmp_path):
    """A function that fills a folder with files and gives it."""
    root = tmp_path / "code"

    def fill(*names, content="x = 1\n"):
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return root

    return fill


def walk(*paths, language="python", **options):
    """The names found, below their trees, and what was counted."""
    found = Walk(find_trees(paths), language, MiningOptions(**options))
    return [name_below(file.path, file.root) for file in found], found.tally


def test_files_come_in_the_order_of_their_names_before_those_of_folders(tree):
    root = tree("b.py", "a/z.py", "a/b/c.py", "B.py", "a.py", "ä.py", "a/A.py")
    names, tally = walk(root)
    assert names == ["B.py", "a.py", "b.py", "ä.py", "a/A.py", "a/z.py", "a/b/c.py"]
    assert tally.files == 7
    assert not tally.skipped
    assert not tally.folders


def test_other_files_are_counted_by_language(tree):
    root = tree("a.py", "b.js", "c.mjs", "d.ts", "e.txt", "Makefile", "F.PY")
    names, tally = walk(root)
    assert names == ["F.PY", "a.py"]
    assert tally.others == {"javascript": 2, "typescript": 1, "other": 2}


@pytest.mark.parametrize(
    ("language", "names"),
    [
        ("javascript", ["a.cjs", "a.js", "a.jsx", "a.mjs"]),
        ("typescript", ["a.cts", "a.mts", "a.ts", "a.tsx"]),
        ("java", ["A.java"]),
        ("go", ["a.go"]),
        ("php", ["a.php"]),
        ("ruby", ["a.rb"]),
    ],
)
def test_a_language_has_its_suffixes(tree, language, names):
    assert walk(tree(*names), language=language)[0] == names


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("index.d.ts", sources.DECLARED),
        ("index.d.mts", sources.DECLARED),
        ("style.d.css.ts", sources.DECLARED),
        ("a.pyi", sources.DECLARED),
        ("jquery.min.js", sources.MINIFIED),
        ("jquery-MIN.js", sources.MINIFIED),
        ("admin.js", None),
        ("person_pb2.py", sources.GENERATED),
        ("person_pb2_grpc.py", sources.GENERATED),
        ("person.pb.go", sources.GENERATED),
        ("zz_generated.deepcopy.go", sources.GENERATED),
        ("parsetab.py", sources.GENERATED),
        ("schema.generated.ts", sources.GENERATED),
        ("generated.py", None),
        ("d.ts", None),
        ("add.ts", None),
    ],
)
def test_some_names_speak_against_a_file(name, reason):
    assert judge_name(name) == reason


def test_what_is_skipped_is_counted_by_reason(tree):
    root = tree("kept.py", "tests/a.py", "b_pb2.py")
    tree("empty.py", content="")
    tree("large.py", content="x" * 200)
    names, tally = walk(root, most_file_bytes=100)
    assert names == ["kept.py"]
    assert tally.files == 5
    assert tally.skipped == {
        sources.TESTS: 1,
        sources.GENERATED: 1,
        sources.EMPTY: 1,
        sources.LARGE: 1,
    }
    assert walk(root, most_file_bytes=100, keep_test_files=True)[0] == ["kept.py", "tests/a.py"]


def test_a_tree_below_a_folder_of_tests_is_no_test(tmp_path):
    root = tmp_path / "tests" / "code"
    root.mkdir(parents=True)
    (root / "a.py").write_text("x = 1\n", encoding="utf-8")
    assert walk(root)[0] == ["a.py"]


def test_folders_of_tools_are_left_alone(tree):
    root = tree("a.py", ".git/b.py", ".hg/c.py", "d/__pycache__/e.py", ".github/f.py")
    names, tally = walk(root)
    assert names == ["a.py", ".github/f.py"]
    assert tally.folders == {sources.CONTROL_FOLDER: 2, sources.CACHE_FOLDER: 1}


def test_folders_may_be_left_out_by_their_path(tree):
    root = tree("a.py", "b/c.py", "b/d/e.py")
    names, tally = walk(root, leave_out=(os.path.realpath(root / "b" / "d"),))
    assert names == ["a.py", "b/c.py"]
    assert tally.files == 2


@pytest.mark.skipif(WINDOWS, reason="links need rights on Windows")
def test_links_are_counted_and_not_followed(tree, tmp_path):
    root = tree("a.py", "b/c.py")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "d.py").write_text("x = 1\n", encoding="utf-8")
    (root / "same.py").symlink_to(root / "a.py")
    (root / "out.py").symlink_to(outside / "d.py")
    (root / "nowhere.py").symlink_to(root / "gone.py")
    (root / "circle.py").symlink_to(root / "circle.py")
    (root / "b" / "up").symlink_to(root, target_is_directory=True)
    (root / "out").symlink_to(outside, target_is_directory=True)
    (root / "ring").symlink_to(root / "ring")
    names, tally = walk(root)
    assert names == ["a.py", "b/c.py"]
    assert tally.skipped == {sources.LINK_INSIDE: 1, sources.LINK_OUTSIDE: 1, sources.LINK_NOWHERE: 2}
    assert tally.folders == {sources.LINK_INSIDE: 1, sources.LINK_OUTSIDE: 1, sources.LINK_NOWHERE: 1}


@pytest.mark.skipif(WINDOWS, reason="links need rights on Windows")
def test_a_path_that_is_a_link_is_mined_where_it_leads(tree, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tree("a.py"), target_is_directory=True)
    assert walk(link)[0] == ["a.py"]


@pytest.mark.skipif(WINDOWS, reason="Windows has neither")
def test_pipes_and_sockets_are_not_opened(tree, monkeypatch):
    root = tree("a.py")
    os.mkfifo(root / "pipe.py")
    monkeypatch.chdir(root)  # names of sockets must be short
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind("socket.py")
        names, tally = walk(root)
    assert names == ["a.py"]
    assert tally.skipped == {sources.NOT_PLAIN: 2}


def test_a_tree_inside_another_is_walked_once_as_its_own(tree):
    root = tree("a.py", "b/c.py", "b/d/e.py")
    assert walk(root, root / "b")[0] == ["a.py", "c.py", "d/e.py"]
    assert walk(root / "b", root)[0] == ["c.py", "d/e.py", "a.py"]
    assert walk(root, root, root / "b" / "..")[0] == ["a.py", "b/c.py", "b/d/e.py"]


def test_files_may_be_named(tree):
    root = tree("a.py", "b/c.py", "d.txt")
    names, tally = walk(root / "b" / "c.py", root / "a.py", root / "d.txt")
    assert names == ["c.py", "a.py"]
    assert tally.others == {"other": 1}
    assert walk(root, root / "a.py")[0] == ["a.py", "b/c.py"]


def test_a_file_that_is_gone_and_one_that_cannot_be_looked_at(tree, monkeypatch):
    root = tree("a.py", "b.py", "c.py")
    real = os.lstat

    def look(path):
        if str(path).endswith("a.py"):
            raise FileNotFoundError(path)
        if str(path).endswith("b.py"):
            raise PermissionError(path)
        return real(path)

    monkeypatch.setattr(sources.os, "lstat", look)
    names, tally = walk(root)
    assert names == ["c.py"]
    assert tally.skipped == {sources.GONE: 1, sources.UNREADABLE: 1}


def test_a_folder_that_cannot_be_read_is_counted(tree, monkeypatch):
    root = tree("a.py", "locked/b.py")
    real = os.scandir

    def scan(path):
        if str(path).endswith("locked"):
            raise PermissionError(path)
        return real(path)

    monkeypatch.setattr(sources.os, "scandir", scan)
    names, tally = walk(root)
    assert names == ["a.py"]
    assert tally.folders == {sources.UNREADABLE: 1}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf_8_can_be_written(tree):
    root = tree("a.py")
    (root / os.fsdecode(b"caf\xe9.py")).write_text("x = 1\n", encoding="utf-8")
    assert walk(root)[0] == ["a.py", "caf\ufffd.py"]


@pytest.mark.parametrize("path", ["gone", "a\0b"])
def test_a_path_that_is_not_there_is_refused(tmp_path, path):
    with pytest.raises(SettingsError, match=r"cannot be mined: .*Give a folder of source code"):
        find_trees([tmp_path / path])


def test_no_path_at_all_is_refused():
    with pytest.raises(SettingsError, match="No path"):
        find_trees([])


def test_a_wrong_language_is_named_with_the_nearest():
    with pytest.raises(SettingsError, match=r"Unknown language to mine 'pyhton'\. Did you mean 'python'"):
        check_language("pyhton")


def test_a_file_is_a_tree_of_its_folder(tree):
    root = tree("a.py")
    assert find_trees([Path(root / "a.py")]) == (Tree(os.path.realpath(root), "a.py"),)
