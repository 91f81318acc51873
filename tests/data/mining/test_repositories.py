import json
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from codestrata.data.mining import git
from codestrata.data.mining.packages import read_node_license
from codestrata.data.mining.repositories import (
    NOT_COMMITTED,
    SHALLOW,
    Provenance,
    clean,
    find_provenance,
    forget,
    split_remote,
)

MIT = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and"
    " associated documentation files, to deal in the Software without restriction. The above copyright notice"
    " and this permission notice shall be included in all copies or substantial portions of the Software."
)
ISC = (
    "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is"
    " hereby granted, provided that the above copyright notice and this permission notice appear in all"
    " copies."
)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    forget()
    yield
    forget()


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


# --- git


def test_a_checkout_gives_everything(checkout):
    made = checkout()
    made.commit("2021-03-04", {"src/a.py": "x = 1\n", "LICENSE": MIT, "src/b.py": "y = 1\n"})
    sha = made.commit("2022-05-06", {"src/b.py": "y = 2\n"})
    made.git("remote", "add", "origin", "git@github.com:acme/tools.git")
    tree = made.path / "src"
    assert find_provenance(tree / "a.py", tree) == Provenance(
        repo="acme/tools",
        sha=sha,
        url=f"https://github.com/acme/tools/blob/{sha}/src/a.py",
        license="MIT",
        license_file="../LICENSE",
        commit_date="2021-03-04",
    )
    assert find_provenance(tree / "b.py", made.path).commit_date == "2022-05-06"
    assert find_provenance(tree / "b.py", made.path).license_file == "LICENSE"


def test_one_walk_over_the_commits_serves_all_files(checkout, monkeypatch):
    made = checkout()
    made.commit("2021-01-01", {f"{number}.py": "x\n" for number in range(20)})
    calls = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *given, **named: calls.append(given) or popen(*given, **named)
    )
    for number in range(20):
        assert find_provenance(made.path / f"{number}.py", made.path).commit_date == "2021-01-01"
    assert sum("log" in given[0] for given in calls) == 1
    assert len(calls) < 8


def test_the_day_of_a_file_is_that_of_its_last_commit(checkout):
    made = checkout()
    made.commit("2019-01-01", {"old.py": "x\n", "new.py": "x\n"})
    for year in (2020, 2021, 2022):
        made.commit(f"{year}-01-01", {"new.py": f"{year}\n"})
    days = [find_provenance(made.path / name, made.path).commit_date for name in ("old.py", "new.py")]
    assert days == ["2019-01-01", "2022-01-01"]


def test_without_a_remote_a_checkout_is_called_by_its_folder(checkout):
    made = checkout("billing")
    sha = made.commit("2021-01-01", {"a.py": "x\n"})
    found = find_provenance(made.path / "a.py", made.path)
    assert found == Provenance(repo="billing", sha=sha, commit_date="2021-01-01")


@pytest.mark.parametrize(
    ("remote", "repo", "url"),
    [
        ("https://github.com/a/b.git", "a/b", "https://github.com/a/b/blob/{sha}/a%20b.py"),
        ("https://ada:s3cr3t@github.com/a/b", "a/b", "https://github.com/a/b/blob/{sha}/a%20b.py"),
        ("ssh://git@gitlab.com:22/a/b/c.git", "a/b/c", "https://gitlab.com/a/b/c/-/blob/{sha}/a%20b.py"),
        ("https://oauth2:s3cr3t@git.acme.example:8443/a/b.git", "a/b", "https://git.acme.example/a/b"),
        ("/srv/git/thing.git", "thing", None),
        ("file:///srv/git/thing.git", "thing", None),
        ("https://u:ab/s3cr3t@github.com/a/b.git", "b", None),
        ("https://h.example/a/b\x1b[31m", "a/b\ufffd[31m", "https://h.example/a/b%1B%5B31m"),
    ],
)
def test_remotes_give_a_name_and_an_address_without_credentials(checkout, remote, repo, url):
    made = checkout()
    sha = made.commit("2021-01-01", {"a b.py": "x\n"})
    made.git("remote", "add", "upstream", "https://github.com/other/one")
    made.git("remote", "add", "origin", remote)
    found = find_provenance(made.path / "a b.py", made.path)
    assert (found.repo, found.url) == (repo, url and url.replace("{sha}", sha))
    assert "s3cr3t" not in repr(found)
    assert "srv" not in repr(found)


@pytest.mark.parametrize(
    ("remote", "split"),
    [
        ("git@host.example:a/b.git", ("host.example", "a/b")),
        ("host:a/b/", ("host", "a/b")),
        ("git://host/a/b", ("host", "a/b")),
        ("https://HOST/a/b?token=1#x", ("host", "a/b")),
        ("C:\\work\\b", (None, "C:/work/b")),
        ("../b.git", (None, "../b")),
        ("https://[broken/a/b", (None, "")),
        ("https://u:s3c/r3t@github.com/o/r.git", (None, "github.com/o/r")),
        ("https://s3c/r3t@in/it@github.com/o/r.git", (None, "github.com/o/r")),
        ("u:s3c/r3t@host:o/r.git", (None, "host:o/r")),
        ("", (None, "")),
    ],
)
def test_an_address_is_split(remote, split):
    assert split_remote(remote) == split


def test_a_worktree_and_a_submodule_have_a_file_for_git(checkout, tmp_path):
    inner, outer = checkout("inner"), checkout("outer")
    inner_sha = inner.commit("2019-01-01", {"in.py": "x\n"})
    inner.git("remote", "add", "origin", "https://github.com/a/inner")
    outer.commit("2020-01-01", {"out.py": "x\n"})
    outer.git("submodule", "--quiet", "add", str(inner.path), "vendor/inner")
    outer_sha = outer.commit("2020-02-01", {})
    outer.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "second"))
    sub = find_provenance(outer.path / "vendor/inner/in.py", outer.path)
    assert (sub.repo, sub.sha, sub.commit_date) == ("inner", inner_sha, "2019-01-01")
    second = find_provenance(tmp_path / "second" / "out.py", tmp_path / "second")
    assert (second.sha, second.commit_date) == (outer_sha, "2020-01-01")


def test_what_is_not_committed_has_no_commit(checkout):
    made = checkout()
    made.commit("2021-01-01", {"a.py": "x\n"})
    made.write({"new.py": "y\n"})
    found = find_provenance(made.path / "new.py", made.path)
    assert (found.sha, found.commit_date, found.note) == (None, None, NOT_COMMITTED)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[2Jb\x9bc\r\n", "a\ufffd[2Jb\ufffdc\ufffd\ufffd"),
        ("caf\udce9 \ud800", "caf\ufffd \ufffd"),
        ("\u00fc ", "\u00fc "),
    ],
)
def test_a_name_is_cleaned(name, shown):
    assert clean(name) == shown


def test_a_name_that_is_not_utf_8_is_found(checkout):
    made = checkout()
    made.commit("2021-01-01", {os.fsdecode(b"caf\xe9/\xff.py"): "x\n", "caf\u00e9.py": "x\n"})
    for name in (os.fsdecode(b"caf\xe9/\xff.py"), "caf\u00e9.py"):
        found = find_provenance(made.path / name, made.path)
        assert found.commit_date == "2021-01-01"
        json.dumps([found.repo, found.url]).encode()


def test_a_shallow_clone_knows_no_older_days(checkout, tmp_path):
    made = checkout()
    made.commit("2019-01-01", {"old.py": "x\n", "new.py": "x\n"})
    made.commit("2020-01-01", {"other.py": "x\n"})
    made.commit("2021-01-01", {"new.py": "y\n"})
    made.git("clone", "--quiet", "--depth=2", f"file://{made.path}", str(tmp_path / "clone"))
    old, new = (
        find_provenance(tmp_path / "clone" / name, tmp_path / "clone") for name in ("old.py", "new.py")
    )
    assert (old.commit_date, new.commit_date) == (None, "2021-01-01")
    assert old.note == SHALLOW
    assert old.sha is not None


def test_no_commits_yet(checkout):
    made = checkout()
    made.write({"a.py": "x\n"})
    assert find_provenance(made.path / "a.py", made.path) == Provenance(repo="checkout", note=git.NO_COMMITS)


@pytest.mark.parametrize("content", [None, "gitdir: /nowhere/at/all\n", "nonsense"])
def test_a_broken_repository_is_said(tmp_path, content):
    write(tmp_path / "broken", {"a.py": "x\n"})
    if content is None:
        (tmp_path / "broken" / ".git").mkdir()
    else:
        write(tmp_path / "broken", {".git": content})
    found = find_provenance(tmp_path / "broken" / "a.py", tmp_path)
    assert found == Provenance(repo="broken", note=git.BROKEN)


def test_a_broken_repository_in_another_is_not_taken_for_it(checkout):
    made = checkout()
    made.commit("2021-01-01", {"inner/a.py": "x\n"})
    (made.path / "inner" / ".git").mkdir()
    found = find_provenance(made.path / "inner" / "a.py", made.path)
    assert (found.repo, found.sha, found.note) == ("inner", None, git.BROKEN)


def test_a_damaged_history_is_said(checkout):
    made = checkout()
    sha = made.commit("2021-01-01", {"a.py": "x\n"})
    made_object = made.path / ".git" / "objects" / sha[:2] / sha[2:]
    made_object.chmod(0o644)
    made_object.write_bytes(b"damaged")
    found = find_provenance(made.path / "a.py", made.path)
    assert (found.sha, found.note) == (None, git.BROKEN)


def test_without_git_the_rest_is_found(checkout, monkeypatch, tmp_path):
    made = checkout()
    made.commit("2021-01-01", {"a.py": "x\n", "LICENSE": MIT})
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    found = find_provenance(made.path / "a.py", made.path)
    assert found == Provenance(repo="checkout", license="MIT", license_file="LICENSE", note=git.NOT_INSTALLED)


def fake_git(folder: Path, program: str, monkeypatch) -> None:
    script = folder / "git"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\n{program}\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_repository_of_another_user_is_said(tmp_path, monkeypatch):
    write(tmp_path / "theirs", {"a.py": "x\n", ".git/HEAD": ""})
    words = "fatal: detected dubious ownership in repository at '/somewhere/secret'"
    fake_git(tmp_path / "bin", f'echo "{words}" >&2; exit 128', monkeypatch)
    found = find_provenance(tmp_path / "theirs" / "a.py", tmp_path)
    assert found.note == git.OWNED_BY_ANOTHER
    assert "somewhere" not in found.note


def test_a_git_that_hangs_is_given_up(tmp_path, monkeypatch):
    write(tmp_path / "slow", {"a.py": "x\n", ".git/HEAD": ""})
    fake_git(tmp_path / "bin", "exec sleep 60", monkeypatch)
    monkeypatch.setattr(git, "TIMEOUT_SECONDS", 0.2)
    assert find_provenance(tmp_path / "slow" / "a.py", tmp_path).note == git.TOO_LONG


def test_nothing_that_a_repository_configures_is_run(checkout, tmp_path, monkeypatch):
    made = checkout()
    made.commit("2021-01-01", {"a.py": "x\n", ".gitattributes": "*.py filter=evil diff=evil\n"})
    trap = tmp_path / "trap"
    program = f"touch {trap}"
    for key in (
        "core.fsmonitor",
        "core.pager",
        "core.editor",
        "filter.evil.clean",
        "filter.evil.smudge",
        "diff.evil.textconv",
        "diff.external",
        "core.sshCommand",
        "gpg.program",
        "pager.log",
    ):
        made.git("config", key, program)
    made.git("config", "log.showSignature", "true")
    made.write({".git/hooks/post-index-change": f"#!/bin/sh\n{program}\n"})
    (made.path / ".git/hooks/post-index-change").chmod(0o755)
    before = (made.path / ".git" / "index").stat().st_mtime_ns
    assert find_provenance(made.path / "a.py", made.path).commit_date == "2021-01-01"
    assert not trap.exists()
    assert (made.path / ".git" / "index").stat().st_mtime_ns == before


def test_what_a_repository_configures_changes_nothing(checkout):
    made = checkout()
    made.commit("2021-01-01", {"a.py": "x\n"})
    before = find_provenance(made.path / "a.py", made.path)
    for key, value in {
        "diff.orderFile": "/nowhere",
        "format.pretty": "bogus",
        "log.date": "bogus",
        "core.worktree": "../..",
    }.items():
        made.git("config", key, value)
    forget()
    assert find_provenance(made.path / "a.py", made.path) == before
    assert before.commit_date == "2021-01-01"


def test_a_hook_that_runs_us_does_not_lead_to_its_repository(checkout, monkeypatch):
    one, other = checkout("one"), checkout("other")
    sha = one.commit("2021-01-01", {"a.py": "x\n"})
    other.commit("2022-01-01", {"a.py": "y\n"})
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    assert find_provenance(one.path / "a.py", one.path).sha == sha


# --- packages


def test_distributions_of_site_packages(tmp_path):
    site = write(
        tmp_path / "site-packages",
        {
            "spam/core.py": "x\n",
            "spam/deep/er.py": "x\n",
            "spam-1.2.dist-info/METADATA": "Name: Spam\nVersion: 1.2\nLicense-Expression: MIT OR Apache-2.0\n"
            "License-File: LICENSE\n\nText\n",
            "spam-1.2.dist-info/RECORD": "spam/core.py,,\nspam/deep/er.py,,\n../../bin/spam,,\n",
            "spam-1.2.dist-info/licenses/LICENSE": "whatever",
            "space/one/a.py": "x\n",
            "space/two/b.py": "x\n",
            "one-1.dist-info/METADATA": "Name: one\nVersion: 1\n"
            "Classifier: License :: OSI Approved :: MIT License\n",
            "one-1.dist-info/RECORD": "space/one/a.py,,\nlone.py,,\nspace/shared.py,,\n",
            "two-2.dist-info/METADATA": "Name: two\nVersion: 2\nLicense: BSD\n",
            "two-2.dist-info/RECORD": "space/two/b.py,,\nother.py,,\nspace/also.py,,\n",
            "two-2.dist-info/LICENSE": ISC,
            "lone.py": "x\n",
            "other.py": "x\n",
            "space/shared.py": "x\n",
            "space/also.py": "x\n",
            "old/mod.py": "x\n",
            "old-3.egg-info/PKG-INFO": "Name: old\nVersion: 3\nLicense: UNKNOWN\n",
            "old-3.egg-info/top_level.txt": "old\n",
            "stray/s.py": "x\n",
            "single.py": "x\n",
        },
    )

    def ask(name):
        found = find_provenance(site / name, tmp_path)
        return found.repo, found.license

    assert find_provenance(site / "spam/core.py", tmp_path) == Provenance(
        repo="Spam-1.2",
        license="MIT OR Apache-2.0",
        license_file="site-packages/spam-1.2.dist-info/licenses/LICENSE",
    )
    assert ask("spam/deep/er.py") == ("Spam-1.2", "MIT OR Apache-2.0")
    assert ask("space/one/a.py") == ask("lone.py") == ask("space/shared.py") == ("one-1", "MIT")
    assert ask("space/two/b.py") == ask("other.py") == ask("space/also.py") == ("two-2", "ISC")
    assert ask("old/mod.py") == ("old-3", None)
    assert ask("stray/s.py") == ("stray", None)
    assert ask("single.py") == ("single", None)


def test_a_distribution_names_no_licence_file_outside_itself(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(MIT, encoding="utf-8")
    about = f"Name: spam\nVersion: 1\nLicense-File: {secret}\nLicense-File: ../../../secret\n"
    files = {
        "spam/a.py": "x\n",
        "spam-1.dist-info/METADATA": about,
        "spam-1.dist-info/RECORD": "spam/a.py,,\n",
    }
    site = write(tmp_path / "a" / "site-packages", files)
    found = find_provenance(site / "spam/a.py", tmp_path / "a")
    assert (found.repo, found.license, found.license_file) == ("spam-1", None, None)


def test_site_packages_in_a_checkout_are_no_part_of_it(checkout):
    made = checkout()
    made.commit("2021-01-01", {"a.py": "x\n", "LICENSE": MIT, ".venv/lib/site-packages/foo/b.py": "x\n"})
    found = find_provenance(made.path / ".venv/lib/site-packages/foo/b.py", made.path)
    assert found == Provenance(repo="foo")


def test_the_standard_library():
    library = Path(sysconfig.get_path("stdlib"))
    found = find_provenance(library / "json" / "decoder.py", library)
    assert found.repo.startswith("cpython-3.")
    assert found.license == "PSF-2.0"


def test_the_library_of_another_python(tmp_path):
    write(tmp_path / "python3.9", {"os.py": "", "abc.py": "", "json/decoder.py": ""})
    write(tmp_path / "python3", {"json/decoder.py": ""})
    assert find_provenance(tmp_path / "python3.9/json/decoder.py", tmp_path).repo == "cpython-3.9"
    assert find_provenance(tmp_path / "python3/json/decoder.py", tmp_path).repo == "python3"


def test_node_packages(tmp_path):
    root = tmp_path / "app"
    modules = root / "node_modules"
    write(
        modules,
        {
            "semver/package.json": json.dumps({"name": "semver", "version": "7.6.3", "license": "ISC"}),
            "semver/lib/a.js": "x",
            "semver/dist/cjs/package.json": json.dumps({"type": "commonjs"}),
            "semver/dist/cjs/b.js": "x",
            "@npm/x/package.json": json.dumps({"name": "@npm/x", "version": "1.0.0"}),
            "@npm/x/c.js": "x",
            "@npm/x/LICENSE.md": MIT,
            "semver/node_modules/deep/package.json": json.dumps(
                {"name": "deep", "licenses": [{"type": "MIT"}]}
            ),
            "semver/node_modules/deep/d.js": "x",
            "broken/package.json": "{",
            "broken/e.js": "x",
        },
    )
    names = ["semver/lib/a.js", "semver/dist/cjs/b.js", "@npm/x/c.js", "semver/node_modules/deep/d.js"]
    found = [find_provenance(modules / name, modules) for name in names]
    assert [entry.repo for entry in found] == ["semver@7.6.3", "semver@7.6.3", "@npm/x@1.0.0", "deep"]
    assert [entry.license for entry in found] == ["ISC", "ISC", "MIT", "MIT"]
    assert found[2].license_file == "@npm/x/LICENSE.md"
    assert find_provenance(modules / "broken/e.js", modules).repo == "broken"


@pytest.mark.parametrize(
    ("value", "license"),
    [
        ("MIT", "MIT"),
        ("(MIT OR Apache-2.0)", "(MIT OR Apache-2.0)"),
        ({"type": "ISC", "url": "x"}, "ISC"),
        ([{"type": "MIT"}, {"type": "Apache-2.0"}], "MIT OR Apache-2.0"),
        ([{"type": "MIT"}, "mine"], None),
        (["MIT"], "MIT"),
        ("SEE LICENSE IN LICENSE", None),
        ("UNLICENSED", None),
        ([], None),
        (7, None),
        ([[["MIT"]]], None),
        ({}, None),
    ],
)
def test_licences_of_package_json(value, license):
    assert read_node_license(value) == license


def test_a_package_json_that_says_something_else_is_not_overruled(tmp_path):
    write(
        tmp_path / "node_modules/x",
        {"package.json": json.dumps({"name": "x", "license": "SEE TERMS"}), "LICENSE": "Ours.", "a.js": "x"},
    )
    assert find_provenance(tmp_path / "node_modules/x/a.js", tmp_path).license is None


# --- trees and licence files


def test_a_plain_tree_is_named_by_its_top_folders(tmp_path):
    tree = write(tmp_path / "code", {"a/b/c.py": "x\n", "d.py": "x\n", "LICENCE": MIT, "a/b/COPYING": ISC})
    assert find_provenance(tree / "a/b/c.py", tree) == Provenance(
        repo="a", license="ISC", license_file="a/b/COPYING"
    )
    assert find_provenance(tree / "d.py", tree) == Provenance(
        repo="code", license="MIT", license_file="LICENCE"
    )
    assert find_provenance(tree / "d.py", tree / "d.py").repo == "code"


def test_no_licence_is_looked_for_above_the_tree(tmp_path):
    write(tmp_path, {"LICENSE": MIT, "code/a.py": "x\n"})
    assert find_provenance(tmp_path / "code/a.py", tmp_path / "code").license is None


@pytest.mark.parametrize(
    ("files", "license", "name"),
    [
        ({"LICENSE": MIT, "LICENSE-ISC": ISC}, "MIT", "LICENSE"),
        ({"LICENSE-MIT": MIT, "LICENSE-ISC": ISC}, None, "LICENSE-ISC"),
        ({"LICENSE-MIT.txt": MIT, "license.py": "x"}, "MIT", "LICENSE-MIT.txt"),
        ({"license.md": MIT}, "MIT", "license.md"),
        (
            {"UNLICENSE": "free and unencumbered software released into the public domain"},
            "Unlicense",
            "UNLICENSE",
        ),
        (
            {
                "COPYING": "GNU GENERAL PUBLIC LICENSE Version 3, 29 June 2007",
                "COPYING.LESSER": "GNU LESSER GENERAL PUBLIC LICENSE Version 3, 29 June 2007",
            },
            "LGPL-3.0-only",
            "COPYING.LESSER",
        ),
        ({"LICENSE": "Ours alone."}, None, "LICENSE"),
        ({"licenses.json": MIT, "LICENSE.py": MIT, "copyingmachine": MIT}, None, None),
    ],
)
def test_the_licence_file_that_counts(tmp_path, files, license, name):
    tree = write(tmp_path / "code", {**files, "x/a.py": "x\n"})
    found = find_provenance(tree / "x/a.py", tree)
    assert (found.license, found.license_file) == (license, name)


def test_the_line_of_a_file_wins(tmp_path):
    tree = write(
        tmp_path / "code",
        {
            "LICENSE": MIT,
            "a.py": "# SPDX-License-Identifier: Apache-2.0\n",
            "b.py": "# SPDX-License-Identifier: Acme-Internal\n",
        },
    )
    assert find_provenance(tree / "a.py", tree).license == "Apache-2.0"
    assert find_provenance(tree / "b.py", tree).license is None
    assert find_provenance(tree / "a.py", tree, "text given").license == "MIT"
