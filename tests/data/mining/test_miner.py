"""Trees in, one file of functions out."""

import itertools
import json
import os
import sys
import tracemalloc

import pytest

from codestrata.data.mining import filters, harvest, miner, sources, workers
from codestrata.data.mining.miner import COPY, REPEATED, Account, mine, rank, watch
from codestrata.data.mining.options import MiningOptions
from codestrata.data.mining.sources import SourceFile, Tally
from codestrata.errors import DataError, SettingsError, StorageError
from codestrata.progress import Silence

FUNCTION = 'def {0}(a):\n    """The {0} of it all."""\n    b = a\n    return b\n'
UNDOCUMENTED = "def plain(a):\n    return a\n"


@pytest.fixture
def tree(tmp_path):
    """A function that fills a folder with files (name -> content) and gives it."""
    root = tmp_path / "code"

    def fill(files):
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    return fill


@pytest.fixture
def dig(tmp_path):
    """A function that mines, and gives the report and the records."""
    out = tmp_path / "out" / "mined.jsonl"

    def run(*paths, language="python", progress=None, **options):
        options = {"jobs": 1, "overwrite": True, **options}
        report = mine(paths, language, out, MiningOptions(**options), progress or Silence())
        return report, [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]

    run.out = out
    return run


def list_names(records):
    return [record["func_name"] for record in records]


def test_functions_are_written_in_the_order_of_the_files(tree, dig):
    root = tree(
        {
            "b.py": FUNCTION.format("second") + "\n\n" + FUNCTION.format("third"),
            "a.py": FUNCTION.format("first"),
            "c/d.py": FUNCTION.format("fourth") + "\n\n" + UNDOCUMENTED,
            "e.txt": "nothing",
        }
    )
    report, records = dig(root)
    assert list_names(records) == ["first", "second", "third", "fourth"]
    assert [record["path"] for record in records] == ["a.py", "b.py", "b.py", "c/d.py"]
    assert (report.files, report.mined_files, report.functions, report.kept) == (3, 3, 5, 4)
    assert report.dropped_functions == {filters.UNDOCUMENTED: 1}
    assert report.other_files == {"other": 1}
    assert report.encodings == {"utf-8": 3}
    assert report.bytes == sum(path.stat().st_size for path in root.rglob("*.py"))
    assert report.trees == (os.path.realpath(root),)
    assert (report.jobs, report.errors, report.troubled_files) == (1, 0, ())


def test_all_that_is_found_is_accounted_for(tree, dig):
    root = tree(
        {
            "a.py": FUNCTION.format("one") + "\n\n" + UNDOCUMENTED,
            "b.py": b"x\0",
            "c.py": "",
            "d.py": "def f(:\n",
            "tests/e.py": FUNCTION.format("two"),
            ".git/f.py": FUNCTION.format("three"),
        }
    )
    report, _ = dig(root)
    assert report.files == report.mined_files + sum(report.skipped_files.values()) == 5
    assert report.functions == report.kept + sum(report.dropped_functions.values())
    assert report.errors == 1
    assert report.skipped_folders == {sources.CONTROL_FOLDER: 1}


def test_repeated_files_and_functions_are_kept_once(tree, dig):
    root = tree(
        {
            "a.py": FUNCTION.format("one"),
            "copy.py": FUNCTION.format("one"),
            "spaced.py": "\n# the same again\n" + FUNCTION.format("one").replace(" = ", "  =  "),
            "other.py": FUNCTION.format("other"),
        }
    )
    report, records = dig(root)
    assert list_names(records) == ["one", "other"]
    assert records[0]["path"] == "a.py"
    assert report.skipped_files == {COPY: 1}
    assert report.dropped_functions == {REPEATED: 1}


@pytest.mark.parametrize("licenses", [(), ("ISC",)])
def test_the_number_of_processes_changes_nothing(tree, dig, licenses):
    root = tree(
        {f"{number % 7}/{number}.py": FUNCTION.format(f"area_{number % 60}") for number in range(100)}
        | {f"{folder}/package.json": '{"name": "x", "license": "ISC"}' for folder in (1, 2, 4)}
        | {"z.py": b"# caf\xe9\n" + FUNCTION.format("last").encode()}
    )
    first, _ = dig(root, licenses=licenses)
    content = dig.out.read_bytes()
    second, _ = dig(root, jobs=3, licenses=licenses)
    assert dig.out.read_bytes() == content
    assert second.jobs == 3
    changing = {"jobs", "seconds", "memory_mib"}
    plain = [report.to_plain() for report in (first, second)]
    assert [{key: value for key, value in entry.items() if key not in changing} for entry in plain] == [
        {key: value for key, value in plain[0].items() if key not in changing}
    ] * 2


def test_few_files_are_mined_in_this_process(tree, dig, monkeypatch):
    monkeypatch.setattr(miner, "Crew", None)  # nobody may ask for one
    assert dig(tree({"a.py": FUNCTION.format("one")}), jobs=None)[0].jobs == 1


def test_several_trees_are_mined_into_one_file(tree, dig):
    root = tree({"a/x.py": FUNCTION.format("one"), "b/x.py": FUNCTION.format("two")})
    report, records = dig(root / "b", root / "a", root / "a" / "x.py")
    assert list_names(records) == ["two", "one"]
    assert [record["repo"] for record in records] == ["b", "a"]
    assert report.files == 2


@pytest.mark.parametrize(
    ("language", "name", "content"),
    [
        ("javascript", "a.js", "/**\n * The area of it.\n */\nfunction area(a) {\n  return a;\n}\n"),
        ("typescript", "a.ts", "/** The area of it. */\nfunction area(a: number) {\n  return a;\n}\n"),
        (
            "java",
            "A.java",
            "class A {\n  /** The area of it. */\n  int area(int a) {\n    return a;\n  }\n}\n",
        ),
        ("go", "a.go", "package a\n\n// Area is the area of it.\nfunc Area(a int) int {\n\treturn a\n}\n"),
        ("php", "a.php", "<?php\n/** The area of it. */\nfunction area($a) {\n  return $a;\n}\n"),
        ("ruby", "a.rb", "# The area of it.\ndef area(a)\n  a\nend\n"),
    ],
)
def test_every_language_is_mined(tree, dig, language, name, content):
    _, records = dig(tree({name: content}), language=language)
    assert [(record["language"], record["func_name"].split(".")[-1].lower()) for record in records] == [
        (language, "area")
    ]


def test_what_changed_since_the_last_call_is_seen(tree, dig):
    source = "/**\n * The area of it.\n */\nfunction area(a) {\n  return a;\n}\n"
    names = []
    for name in ("first", "second"):
        root = tree({"a.js": source, "package.json": json.dumps({"name": name, "version": "1.0.0"})})
        names += [record["repo"] for record in dig(root, language="javascript")[1]]
    assert [name.partition("@")[0] for name in names] == ["first", "second"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf_8_is_mined(tree, dig):
    root = tree({os.fsdecode(b"caf\xe9/na\xefve.py"): FUNCTION.format("one")})
    _, records = dig(root, jobs=2)
    assert records[0]["path"] == "caf\ufffd/na\ufffdve.py"


def test_a_file_that_goes_while_others_are_read_is_counted(tree, dig, monkeypatch):
    root = tree({"a.py": FUNCTION.format("one"), "b.py": FUNCTION.format("two")})
    real = miner.harvest_file

    def remove_next(file, *rest):
        (root / "b.py").unlink(missing_ok=True)
        return real(file, *rest)

    monkeypatch.setattr(miner, "harvest_file", remove_next)
    report, records = dig(root)
    assert list_names(records) == ["one"]
    assert report.skipped_files == {sources.GONE: 1}


def test_links_in_a_circle_end(tree, dig):
    root = tree({"a.py": FUNCTION.format("one")})
    (root / "loop").symlink_to(root, target_is_directory=True)
    report, records = dig(root)
    assert list_names(records) == ["one"]
    assert report.skipped_folders == {sources.LINK_INSIDE: 1}


def test_one_line_of_ten_megabytes_is_skipped_with_either_limit(tree, dig):
    root = tree({"a.py": FUNCTION.format("one"), "b.py": "x = '" + "a" * 10_000_000 + "'\n"})
    assert dig(root)[0].skipped_files == {sources.LARGE: 1}
    assert dig(root, most_file_bytes=2**24)[0].skipped_files == {sources.MINIFIED: 1}


def test_files_that_went_wrong_are_named(tree, dig, monkeypatch):
    root = tree({"a.py": FUNCTION.format("one"), "b\x1b[2J.py": FUNCTION.format("two")})
    real = harvest.extract

    def fail(language, text, **options):
        if "two" in text:
            raise MemoryError
        return real(language, text, **options)

    monkeypatch.setattr(harvest, "extract", fail)
    watcher = Watcher()
    report, _ = dig(root, progress=watcher)
    shown = os.path.join(os.path.realpath(root), "b\ufffd[2J.py")
    assert report.troubled_files == ({"path": shown, "reason": harvest.MEMORY},)
    assert watcher.said == [f"{shown}: {harvest.MEMORY}"]


class Watcher(Silence):
    """Remembers what it was told."""

    def __init__(self):
        self.phases, self.steps, self.said = [], [], []

    def start(self, label, total):
        self.phases.append((label, total))

    def advance(self, done, note=""):
        self.steps.append((done, note))

    def say(self, text):
        self.said.append(text)


def test_whoever_watches_is_told_how_far_it_is(tree, dig):
    root = tree({f"{name}.py": FUNCTION.format(name) for name in "abc"} | {"empty.py": ""})
    watcher = Watcher()
    dig(root, progress=watcher)
    assert watcher.phases == [("find files", 1), ("mine python", 3)]
    assert watcher.steps[0] == (1, "3 to open of 4 python files")
    assert [done for done, _ in watcher.steps[1:]] == [1, 2, 3]
    assert watcher.steps[-1][1].startswith("3 functions, ")
    assert watcher.said == []


def test_an_empty_tree_is_said(tmp_path, dig):
    with pytest.raises(DataError, match=r"No python file \(\.py \.pyi\) in .*: found no file at all"):
        dig(tmp_path)
    assert not dig.out.exists()


def test_a_tree_of_other_files_is_said_with_what_there_is(tree, dig):
    root = tree({"a.js": "x", "b.js": "x", "c.rb": "x", "d.md": "x"})
    with pytest.raises(DataError, match=r"found 2 javascript, 1 other, 1 ruby.*another language"):
        dig(root)


def test_a_tree_of_which_nothing_is_left_says_why(tree, dig):
    root = tree({"a.py": UNDOCUMENTED, "b.py": ""})
    with pytest.raises(
        DataError, match=r"No function is left of 1 in 1 files: .*no documentation: 1"
    ) as caught:
        dig(root)
    assert "empty" in str(caught.value)
    assert list(dig.out.parent.iterdir()) == []


def test_a_file_that_is_there_is_kept_unless_asked(tree, dig):
    root = tree({"a.py": FUNCTION.format("one")})
    dig(root)
    with pytest.raises(SettingsError, match="is there already"):
        dig(root, overwrite=False)
    root = tree({"a.py": UNDOCUMENTED})
    before = dig.out.read_bytes()
    with pytest.raises(DataError):
        dig(root)
    assert dig.out.read_bytes() == before


@pytest.mark.parametrize("name", ["mined.py", "mined", "mined.json"])
def test_only_a_file_of_records_is_written(tree, tmp_path, name):
    root = tree({"a.py": FUNCTION.format("one")})
    with pytest.raises(SettingsError, match=r"end it in \.jsonl"):
        mine([root], "python", tmp_path / name, MiningOptions(overwrite=True), Silence())


def test_a_folder_is_no_file(tree, tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(SettingsError, match="is a folder"):
        mine([tree({"a.py": "x"})], "python", tmp_path / "a.jsonl", MiningOptions(overwrite=True), Silence())


def test_a_disk_that_refuses_is_said(tree, tmp_path):
    root = tree({"a.py": FUNCTION.format("one")})
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(StorageError):
        mine([root], "python", tmp_path / "file" / "a.jsonl", MiningOptions(), Silence())


def test_wrong_names_are_refused_before_anything_is_read(tmp_path, tree):
    root = tree({"a.py": FUNCTION.format("one")})
    out = tmp_path / "a.jsonl"
    with pytest.raises(SettingsError, match="Did you mean 'javascript'"):
        mine([root], "javascrip", out, MiningOptions(), Silence())
    with pytest.raises(SettingsError, match="no SPDX identifier"):
        mine([root], "python", out, MiningOptions(licenses=("MITT",)), Silence())
    with pytest.raises(SettingsError, match="cannot be mined"):
        mine([root / "gone"], "python", out, MiningOptions(), Silence())
    assert not out.exists()


@pytest.mark.parametrize(
    "options", [{"jobs": 0}, {"jobs": 1000}, {"most_file_bytes": 0}, {"licenses": (" ",)}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SettingsError):
        MiningOptions(**options)


def test_many_dead_workers_end_it():
    file = SourceFile("a.py", "/", 1)
    dying = ((file, harvest.Harvest(skipped=workers.DIED)) for _ in itertools.count())
    watcher = Watcher()
    with pytest.raises(DataError, match="more than 50 processes have died"):
        list(watch(dying, Account(Tally()), watcher))
    assert len(watcher.said) == 51


def test_memory_does_not_grow_with_the_tree():
    def harvests(count):
        for number in range(count):
            record = (number + 1, b"x" * 500)
            found = harvest.Harvest(500, digest=number + 1, encoding="utf-8", records=[record])
            yield SourceFile("a.py", "/", 500), found

    def measure(count):
        tracemalloc.start()
        written = sum(map(len, watch(harvests(count), Account(Tally()), Silence())))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert written == 500 * count
        return peak

    assert (measure(6_000) - measure(2_000)) / 4_000 < 150  # of the 1,000 bytes of each


def test_reasons_are_ranked():
    assert rank({"b": 1, "a": 1, "c": 2, "d": 0}) == {"c": 2, "a": 1, "b": 1}
    assert list(rank({"b": 1, "a": 1, "c": 2})) == ["c", "a", "b"]
