import json
import os
from pathlib import Path

import pytest

from codestrata.data.codesearchnet import load_functions
from codestrata.data.folders import list_folder_tasks
from codestrata.data.mining import history
from codestrata.data.mining.history import UNCHANGED, mine_history
from codestrata.data.mining.license_files import MOST_LICENSE_BYTES
from codestrata.data.mining.options import MiningOptions
from codestrata.data.mining.revisions import ABSENT, LINK, POINTER, SUBMODULE
from codestrata.data.mining.sources import EMPTY, LARGE
from codestrata.errors import DataError, SettingsError, StorageError
from codestrata.progress import Silence

MIT = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and"
    " associated documentation files, to deal in the Software without restriction. The above copyright notice"
    " and this permission notice shall be included in all copies or substantial portions of the Software."
)


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)


def define(name: str, value: object = 0) -> str:
    lines = [f"def {name}(argument):", f'    """Gives what {name} is asked for."""']
    return "\n".join([*lines, f"    return argument + {value!r}", "", "", ""])


def mine(made, out, *, least=1, language="python", where=None, **options):
    folder = where or made.path
    return mine_history(folder, language, out, MiningOptions(**options), Silence(), least=least)


def read(out):
    """File -> its records."""
    return {
        path.name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(out.iterdir())
    }


def names(out):
    return {file: [record["func_name"] for record in records] for file, records in read(out).items()}


def test_each_year_has_what_was_new_in_it(checkout, tmp_path):
    made = checkout()
    made.commit("2019-02-01", {"a.py": define("one") + define("two"), "LICENSE": MIT})
    last = made.commit("2019-12-31", {"a.py": define("one") + define("two", 1)})
    made.commit("2020-05-05", {"a.py": define("one") + define("two", 2), "b.py": define("three")})
    report = mine(made, tmp_path / "out")
    assert names(tmp_path / "out") == {"2019.jsonl": ["one", "two"], "2020.jsonl": ["two", "three"]}
    first, second = report.years
    assert (first.added, first.changed, first.sha, first.commit_date) == (2, 0, last, "2019-12-31")
    assert (second.added, second.changed, second.functions) == (1, 1, 2)
    assert report.kept == 4
    assert report.dropped_functions[UNCHANGED] == 1
    assert report.notes == ()


def test_a_record_says_where_and_when_it_is_from(checkout, tmp_path):
    made = checkout()
    made.commit("2019-02-01", {"src/a.py": "import os\n\n\n" + define("one"), "LICENSE": MIT})
    sha = made.commit("2019-03-01", {"src/b.py": define("two"), "LICENSE": None})
    made.git("remote", "add", "origin", "https://ada:s3cr3t@github.com/acme/tools.git")
    mine(made, tmp_path / "out")
    record = read(tmp_path / "out")["2019.jsonl"][0]
    expected = {
        "repo": "acme/tools",
        "path": "src/a.py",
        "func_name": "one",
        "language": "python",
        "sha": sha,
        "url": f"https://github.com/acme/tools/blob/{sha}/src/a.py",
        "partition": None,
        "summary": "Gives what one is asked for.",
        "start_line": 4,
        "end_line": 6,
        "license": None,
        "license_file": None,
        "commit_date": "2019-02-01",
        "year": 2019,
    }
    assert {key: record[key] for key in expected} == expected
    assert list(record)[-1] == "year"
    assert "s3cr3t" not in (tmp_path / "out" / "2019.jsonl").read_text(encoding="utf-8")


def test_the_licence_is_that_of_the_year(checkout, tmp_path):
    made = checkout()
    made.commit("2018-01-01", {"a.py": define("one")})
    made.commit("2019-01-01", {"LICENSE": MIT, "b/b.py": define("two")})
    made.commit("2020-01-01", {"c.py": "# SPDX-License-Identifier: ISC\n" + define("three")})
    mine(made, tmp_path / "out")
    found = [
        (record["license"], record["license_file"])
        for records in read(tmp_path / "out").values()
        for record in records
    ]
    assert found == [(None, None), ("MIT", "LICENSE"), ("ISC", "LICENSE")]
    report = mine(made, tmp_path / "mit", licenses=("mit",))
    assert names(tmp_path / "mit") == {"2019.jsonl": ["one", "two"]}
    assert report.skipped_files == {"licence not among those asked for": 1, "licence unknown": 1}


def test_a_copy_under_a_licence_that_was_asked_for_is_mined(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"a/a.py": define("one"), "b/a.py": define("one"), "b/LICENSE": MIT})
    made.commit("2020-01-01", {"a/a.py": define("one") + define("two")})
    made.commit("2021-01-01", {"c/a.py": define("one") + define("two"), "c/LICENSE": MIT})
    report = mine(made, tmp_path / "out", licenses=("MIT",))
    assert names(tmp_path / "out") == {"2019.jsonl": ["one"], "2021.jsonl": ["two"]}
    assert report.skipped_files == {"licence unknown": 2}


def test_a_licence_file_that_is_too_large_is_not_read(checkout, tmp_path):
    made = checkout()
    large = MIT + "\n" * MOST_LICENSE_BYTES
    made.commit("2019-01-01", {"a/a.py": define("one"), "a/LICENSE": large, "COPYING": MIT})
    mine(made, tmp_path / "out")
    record = read(tmp_path / "out")["2019.jsonl"][0]
    assert (record["license"], record["license_file"]) == ("MIT", "COPYING")
    made.commit("2019-02-01", {"COPYING": None})
    mine(made, tmp_path / "none")
    record = read(tmp_path / "none")["2019.jsonl"][0]
    assert (record["license"], record["license_file"]) == (None, None)


def test_moves_and_renames_bring_nothing_new(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"a.py": define("one") + define("two")})
    made.commit("2020-01-01", {"a.py": None, "deep/b.py": define("two") + "# moved\n" + define("one")})
    made.commit("2021-01-01", {"deep/b.py": define("one") + define("two") + define("three")})
    report = mine(made, tmp_path / "out")
    assert names(tmp_path / "out") == {"2019.jsonl": ["one", "two"], "2021.jsonl": ["three"]}
    assert report.dropped_functions[UNCHANGED] == 4


def test_other_words_in_the_documentation_alone_are_no_change(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"a.py": define("one")})
    made.commit(
        "2020-01-01", {"a.py": define("one").replace("Gives what", "Tells you whatever"), "b.py": define("b")}
    )
    mine(made, tmp_path / "out")
    assert names(tmp_path / "out") == {"2019.jsonl": ["one"], "2020.jsonl": ["b"]}


def test_a_function_that_is_documented_later_belongs_to_that_year(checkout, tmp_path):
    made = checkout()
    bare = "def one(argument):\n    return argument + 0\n"
    made.commit("2019-01-01", {"a.py": bare + define("two")})
    made.commit("2020-01-01", {"a.py": define("one") + define("two")})
    mine(made, tmp_path / "out")
    assert names(tmp_path / "out") == {"2019.jsonl": ["two"], "2020.jsonl": ["one"]}


def test_what_is_deleted_and_restored_belongs_to_its_first_year(checkout, tmp_path):
    made = checkout()
    made.commit("2018-01-01", {"a.py": define("one") + define("two")})
    made.commit("2019-01-01", {"a.py": define("one", 9) + define("new")})
    made.git("revert", "--no-edit", "HEAD", day="2020-01-01")
    made.commit("2021-01-01", {"b.py": define("last")})
    mine(made, tmp_path / "out")
    assert names(tmp_path / "out") == {
        "2018.jsonl": ["one", "two"],
        "2019.jsonl": ["one", "new"],
        "2021.jsonl": ["last"],
    }


def test_what_came_and_went_within_a_year_is_not_seen(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"a.py": define("short") + define("kept")})
    made.commit("2019-06-01", {"a.py": define("kept")})
    mine(made, tmp_path / "out")
    assert names(tmp_path / "out") == {"2019.jsonl": ["kept"]}


def test_a_branch_counts_when_it_is_merged(checkout, tmp_path):
    made = checkout()
    made.commit("2018-01-01", {"a.py": define("one")})
    made.git("checkout", "--quiet", "-b", "side")
    made.commit("2018-06-01", {"side.py": define("aside")})
    made.git("checkout", "--quiet", "main")
    made.commit("2019-01-01", {"b.py": define("two")})
    made.git("merge", "--quiet", "--no-ff", "--no-edit", "side", day="2020-02-02")
    report = mine(made, tmp_path / "out")
    assert names(tmp_path / "out") == {"2018.jsonl": ["one"], "2019.jsonl": ["two"], "2020.jsonl": ["aside"]}
    assert read(tmp_path / "out")["2020.jsonl"][0]["commit_date"] == "2020-02-02"
    assert report.commits == 3


def test_commits_that_claim_an_earlier_year_count_for_the_one_before_them(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"a.py": define("one")})
    made.commit("1999-01-01", {"b.py": define("two")})
    made.commit("2020-01-01", {"c.py": define("three")})
    report = mine(made, tmp_path / "out")
    assert names(tmp_path / "out") == {"2019.jsonl": ["one", "two"], "2020.jsonl": ["three"]}
    assert "1 commits say" in report.notes[0]


def test_the_year_is_that_of_utc(checkout, tmp_path):
    made = checkout()
    made.write({"a.py": define("one")})
    made.git("add", "--all")
    made.git("-c", "user.name=a", "commit", "--quiet", "--message=x", "--date=2019-06-01", day="2019-12-31")
    made.git("commit", "--quiet", "--amend", "--no-edit", day="2019-12-31")
    mine(made, tmp_path / "out")
    assert names(tmp_path / "out") == {"2019.jsonl": ["one"]}


def test_small_years_join_the_next_and_the_last_is_left_out(checkout, tmp_path):
    made = checkout()
    made.commit("2017-01-01", {"a.py": define("a")})
    made.commit("2018-01-01", {"b.py": define("b")})
    made.commit("2019-01-01", {"c.py": define("c1") + define("c2") + define("c3")})
    made.commit("2020-01-01", {"d.py": define("d1") + define("d2") + define("d3")})
    made.commit("2021-01-01", {"e.py": define("e1")})
    made.commit("2022-01-01", {"f.py": define("f1")})
    report = mine(made, tmp_path / "out", least=3)
    assert names(tmp_path / "out") == {
        "2019.jsonl": ["a", "b", "c1", "c2", "c3"],
        "2020.jsonl": ["d1", "d2", "d3"],
    }
    assert [file.years for file in report.years] == [(2017, 2018, 2019), (2020,)]
    assert [record["year"] for record in read(tmp_path / "out")["2019.jsonl"]] == [
        2017,
        2018,
        2019,
        2019,
        2019,
    ]
    assert report.left_out == {"2021": 1, "2022": 1}
    assert report.kept == 8


def test_the_same_history_gives_the_same_bytes_and_touches_nothing(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"b.py": define("b"), "a.py": define("a"), "c/d.py": define("d")})
    made.commit("2020-01-01", {"b.py": define("b", 2)})
    made.write({"a.py": "changed, not committed", "new.py": define("new")})
    before = made.git("status", "--porcelain")
    mine(made, tmp_path / "one")
    mine(made, tmp_path / "two")
    one, two = (
        [path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in ("one", "two")
    )
    assert one == two
    assert made.git("status", "--porcelain") == before
    assert "new" not in json.dumps(names(tmp_path / "one"))


def test_what_is_no_source_is_counted_once(checkout, tmp_path):
    made, inner = checkout(), checkout("inner")
    inner.commit("2019-01-01", {"x.py": define("x")})
    made.commit(
        "2019-01-01",
        {
            "good.py": define("good"),
            "big.py": define("big") + "#" * 3000 + "\n",
            "empty.py": "",
            "lfs.py": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
            "zero.py": b"x = '\0'\n",
            "readme.md": "text",
            "broken.py": "def broken(:\n    pass\n\n\n" + define("rest"),
        },
    )
    os.symlink("good.py", made.path / "link.py")
    made.git("submodule", "--quiet", "add", str(inner.path), "vendor.py")
    made.commit("2020-01-01", {"other.py": define("other")})
    report = mine(made, tmp_path / "out", most_file_bytes=2000)
    assert report.skipped_files == {EMPTY: 1, LARGE: 1, LINK: 1, POINTER: 1, SUBMODULE: 1, "binary": 1}
    assert names(tmp_path / "out")["2019.jsonl"] == ["rest", "good"]
    assert report.errors == 1


def test_a_path_that_is_not_utf_8_is_read(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {os.fsdecode(b"caf\xe9.py"): define("one"), "\u00fc.py": define("two")})
    mine(made, tmp_path / "out")
    records = read(tmp_path / "out")["2019.jsonl"]
    assert sorted(record["path"] for record in records) == ["caf\ufffd.py", "\u00fc.py"]
    assert {record["commit_date"] for record in records} == {"2019-01-01"}


def test_a_bare_repository_has_a_history(checkout, tmp_path):
    made = checkout("tools")
    made.commit("2019-01-01", {"a.py": define("one")})
    made.git("clone", "--quiet", "--bare", str(made.path), str(tmp_path / "copy.git"))
    report = mine(made, tmp_path / "out", where=tmp_path / "copy.git")
    assert names(tmp_path / "out") == {"2019.jsonl": ["one"]}
    assert report.repo == "tools"


def test_files_named_as_git_names_things_are_files(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"HEAD": "x", "objects/a.py": define("one"), "main": "x"})
    mine(made, tmp_path / "out", where=made.path / "objects")
    assert names(tmp_path / "out") == {"2019.jsonl": ["one"]}


def test_a_part_of_a_repository_has_a_history(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"src/a.py": define("one"), "srcx/b.py": define("two"), "LICENSE": MIT})
    mine(made, tmp_path / "out", where=made.path / "src")
    record = read(tmp_path / "out")["2019.jsonl"][0]
    assert names(tmp_path / "out") == {"2019.jsonl": ["one"]}
    assert (record["path"], record["license"], record["license_file"]) == ("a.py", "MIT", "../LICENSE")
    assert record["commit_date"] == "2019-01-01"


def test_a_shallow_clone_is_said(checkout, tmp_path):
    made = checkout()
    made.commit("2018-01-01", {"a.py": define("one")})
    made.commit("2019-01-01", {"b.py": define("two")})
    made.git("clone", "--quiet", "--depth=1", f"file://{made.path}", str(tmp_path / "clone"))
    report = mine(made, tmp_path / "out", where=tmp_path / "clone")
    assert names(tmp_path / "out") == {"2019.jsonl": ["one", "two"]}
    assert report.notes[0].startswith("A shallow clone")


def test_secrets_stay_where_they_are(checkout, tmp_path):
    made = checkout()
    token = "ghp_" + "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zAbC5d"
    made.commit("2019-01-01", {"a.py": define("one", token), "b.py": define("two")})
    report = mine(made, tmp_path / "out")
    assert names(tmp_path / "out") == {"2019.jsonl": ["two"]}
    assert report.dropped_functions == {"contains a secret": 1}
    assert token not in json.dumps(report.to_plain())
    mine(made, tmp_path / "kept", keep_secrets=True)
    assert names(tmp_path / "kept") == {"2019.jsonl": ["one", "two"]}


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda made, tmp: tmp / "nowhere", "not there"),
        (lambda made, tmp: tmp / "file", "a file"),
        (lambda made, tmp: made.path, "no commits yet. Commit something first"),
        (lambda made, tmp: tmp / "plain", "plain' is no git repository, nor in one"),
    ],
)
def test_what_has_no_history_is_refused(checkout, tmp_path, prepare, words):
    made = checkout()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "plain").mkdir()
    with pytest.raises(SettingsError, match=words):
        mine(made, tmp_path / "out", where=prepare(made, tmp_path))
    assert not (tmp_path / "out").exists()


def test_what_a_repository_configures_changes_nothing(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"src/a.py": define("one")})
    made.git("checkout", "--quiet", "-b", "side")
    made.commit("2019-06-01", {"src/side.py": define("aside")})
    made.git("checkout", "--quiet", "main")
    made.commit("2020-01-01", {"src/b.py": define("two")})
    made.git("merge", "--quiet", "--no-ff", "--no-edit", "side", day="2021-02-02")
    mine(made, tmp_path / "before", where=made.path / "src")
    for key, value in {
        "diff.orderFile": "/nowhere",
        "diff.relative": "true",
        "format.pretty": "bogus",
        "log.date": "bogus",
        "log.diffMerges": "combined",
        "log.showSignature": "true",
        "core.worktree": "/nowhere/at/all",
    }.items():
        made.git("config", key, value)
    mine(made, tmp_path / "after", where=made.path / "src")
    assert read(tmp_path / "after") == read(tmp_path / "before")
    assert [record["commit_date"] for record in read(tmp_path / "after")["2021.jsonl"]] == ["2021-02-02"]


def test_what_git_says_is_passed_on_without_control_characters(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"a.py": define("one")})
    made.git("config", "color.ui", "bogus\x1b[2J")
    with pytest.raises(DataError, match=r"git cannot read the repository \(.*bogus") as caught:
        mine(made, tmp_path / "out")
    assert "\x1b" not in str(caught.value)


def test_without_git_it_says_so(checkout, tmp_path, monkeypatch):
    made = checkout()
    made.commit("2019-01-01", {"a.py": define("one")})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match=r"git is not installed.*Install git"):
        mine(made, tmp_path / "out")


def test_too_few_functions_are_a_failure_that_says_why(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"a.py": define("one") + "def two(a):\n    b = a\n    return b\n"})
    with pytest.raises(DataError, match=r"1 documented python functions.*no documentation: 1.*--least"):
        mine(made, tmp_path / "out", least=30)
    with pytest.raises(DataError, match=r"0 documented go functions.*there is no such file"):
        mine(made, tmp_path / "out", language="go")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkout"]


def test_older_files_are_replaced_only_if_asked_and_others_never(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"a.py": define("one")})
    out = tmp_path / "out"
    mine(made, out)
    with pytest.raises(SettingsError, match="earlier call"):
        mine(made, out)
    made.commit("2020-01-01", {"b.py": define("two")})
    mine(made, out, overwrite=True)
    assert names(out) == {"2019.jsonl": ["one"], "2020.jsonl": ["two"]}
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"notes\.txt"):
        mine(made, out, overwrite=True)
    with pytest.raises(SettingsError, match="is a file"):
        mine(made, out / "notes.txt")


@pytest.mark.parametrize(
    "name", ["20240105.jsonl", "\u0662\u0660\u0662\u0664.jsonl", "20.jsonl", "2024.jsonl/x"]
)
def test_a_folder_with_what_only_looks_like_years_is_never_replaced(checkout, tmp_path, name):
    made = checkout()
    made.commit("2019-01-01", {"a.py": define("one")})
    own = tmp_path / "own" / name
    own.parent.mkdir(parents=True)
    own.write_text("mine\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="which no history made"):
        mine(made, tmp_path / "own", overwrite=True)
    assert own.read_text(encoding="utf-8") == "mine\n"


def test_a_link_among_the_years_is_none_of_them(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"a.py": define("one")})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "2018.jsonl").symlink_to(made.path / "a.py")
    with pytest.raises(SettingsError, match="which no history made"):
        mine(made, tmp_path / "out", overwrite=True)


def test_what_comes_into_the_folder_meanwhile_is_not_removed(checkout, tmp_path, monkeypatch):
    made = checkout()
    made.commit("2019-01-01", {"a.py": define("one")})
    out = tmp_path / "out"
    mine(made, out)
    write = history.write_years

    def write_beside(*arguments):
        (out / "notes.txt").write_text("mine", encoding="utf-8")
        return write(*arguments)

    monkeypatch.setattr(history, "write_years", write_beside)
    with pytest.raises(SettingsError, match=r"notes\.txt"):
        mine(made, out, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["2019.jsonl", "notes.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkout", "out"]


def test_the_older_years_are_back_where_the_new_ones_cannot_be_put(checkout, tmp_path, monkeypatch):
    made = checkout()
    made.commit("2019-01-01", {"a.py": define("one")})
    out = tmp_path / "out"
    mine(made, out)
    before = (out / "2019.jsonl").read_bytes()
    move, moves = history.move, []

    def break_second(source, target):
        moves.append(target)
        if len(moves) == 2:
            assert not out.exists()
            assert [path.read_bytes() for path in tmp_path.glob("*older*/2019.jsonl")] == [before]
            raise StorageError(target, "written", OSError(28, "No space left on device"))
        move(source, target)

    monkeypatch.setattr(history, "move", break_second)
    with pytest.raises(StorageError):
        mine(made, out, overwrite=True)
    assert (out / "2019.jsonl").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkout", "out"]


def damage(made, name):
    sha = made.git("rev-parse", name)
    damaged = made.path / ".git" / "objects" / sha[:2] / sha[2:]
    damaged.chmod(0o644)
    damaged.write_bytes(b"damaged")


def test_a_damaged_file_is_counted(checkout, tmp_path):
    made = checkout()
    made.commit("2018-01-01", {"a.py": define("one"), "b.py": define("two")})
    damage(made, "HEAD:a.py")
    report = mine(made, tmp_path / "out")
    assert (names(tmp_path / "out"), report.skipped_files) == ({"2018.jsonl": ["two"]}, {ABSENT: 1})


def test_a_damaged_history_leaves_no_half_folder(checkout, tmp_path):
    made = checkout()
    made.commit("2018-01-01", {"a.py": define("one")})
    made.commit("2019-01-01", {"x/b.py": define("two")})
    damage(made, "HEAD:x")
    with pytest.raises(DataError, match="git cannot read"):
        mine(made, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkout"]


@pytest.mark.parametrize(("least", "language"), [(0, "python"), (30, "pyhton")])
def test_wrong_settings_are_refused(checkout, tmp_path, least, language):
    with pytest.raises(SettingsError):
        mine(checkout(), tmp_path / "out", least=least, language=language)


def test_the_folder_is_a_sequence_of_tasks(checkout, tmp_path):
    made = checkout()
    for year in (2009, 2010, 2011):
        made.commit(f"{year}-01-01", {f"f{year}.py": define(f"name{year}") + define(f"more{year}")})
    mine(made, tmp_path / "out")
    tasks = list_folder_tasks(tmp_path / "out")
    assert tasks.ignored == ()
    assert [(section["source"], section["language"]) for section in tasks.sections] == [
        ("codesearchnet", "python")
    ] * 3
    found = [load_functions(section["language"], Path(section["path"])) for section in tasks.sections]
    functions = [[(entry.name, entry.date) for entry in part[0]] for part in found]
    assert functions[0] == [("name2009", "2009-01-01"), ("more2009", "2009-01-01")]
    assert functions[2] == [("name2011", "2011-01-01"), ("more2011", "2011-01-01")]
