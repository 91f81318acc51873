"""``codestrata mine``."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

FUNCTION = 'def {0}(a):\n    """The {0} of it all."""\n    b = a\n    return b\n'
PROC = Path("/proc")


@pytest.fixture
def tree(tmp_path):
    """A folder with two functions, of which one is documented, and a file of another language."""
    root = tmp_path / "code"
    root.mkdir()
    (root / "a.py").write_text(FUNCTION.format("area") + "\n\ndef plain():\n    pass\n", encoding="utf-8")
    (root / "empty.py").write_text("", encoding="utf-8")
    (root / "b.js").write_text("let a = 1;\n", encoding="utf-8")
    return root


def test_a_tree_is_mined_and_what_was_left_out_is_shown(call, tree, tmp_path):
    out = tmp_path / "mined.jsonl"
    code, shown, told = call("mine", tree, "--language", "python", "--out", out)
    assert code == 0
    assert json.loads(out.read_text(encoding="utf-8"))["func_name"] == "area"
    for text in ("functions kept", "no documentation", "empty", "1 javascript", "MB/s", str(out)):
        assert text in shown
    assert "mine python" in told


def test_json_is_as_published(call, tree, tmp_path):
    code, shown, told = call("mine", tree, "-l", "python", "-o", tmp_path / "a.jsonl", "--json", "--quiet")
    assert (code, told) == (0, "")
    report = json.loads(shown)
    schema = json.loads((files("codestrata") / "schemas" / "mining.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(report, schema)
    assert (report["files"], report["mined_files"], report["functions"], report["kept"]) == (2, 1, 2, 1)
    for broken in ({**report, "kept": 0}, {**report, "more": 1}, {**report, "skipped_files": {"empty": 0}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


def test_every_key_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "mining.md").read_text(encoding="utf-8")
    schema = json.loads((files("codestrata") / "schemas" / "mining.schema.json").read_text(encoding="utf-8"))
    assert [key for key in schema["properties"] if f"`{key}`" not in page] == []


def test_the_schema_names_every_key(call, tree, tmp_path):
    schema = json.loads((files("codestrata") / "schemas" / "mining.schema.json").read_text(encoding="utf-8"))
    report = json.loads(call("mine", tree, "-l", "python", "-o", tmp_path / "a.jsonl", "--json")[1])
    assert list(report) == schema["required"] == list(schema["properties"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--language", "pyton", "--out", "a.jsonl"), "Did you mean 'python'"),
        (("--language", "python", "--out", "a.txt"), "end it in .jsonl"),
        (("--language", "python", "--out", "a.jsonl", "--jobs", "0"), "--jobs is 0"),
        (("--language", "python", "--out", "a.jsonl", "--max-file-mib", "0"), "--max-file-mib is 0"),
        (("--language", "python", "--out", "a.jsonl", "--max-file-mib", "nan"), "finite"),
        (("--language", "python", "--out", "a.jsonl", "--max-file-mib", "1e6"), "at most 1024"),
        (("--language", "python", "--out", "a.jsonl", "--license", "MITT"), "no SPDX identifier"),
        (("--language", "python", "--out", "a.jsonl", "gone"), "Give a folder of source code"),
        (("--out", "a.jsonl"), "--language"),
        (("--language", "python"), "--out"),
    ],
)
def test_misuse_is_refused(call, tree, monkeypatch, arguments, message):
    monkeypatch.chdir(tree)
    code, shown, told = call("mine", tree, *arguments)
    assert (code, shown) == (2, "")
    assert message in told


def test_an_older_file_is_kept_unless_asked(call, tree, tmp_path):
    out = tmp_path / "a.jsonl"
    out.write_text("mine\n", encoding="utf-8")
    code, _, told = call("mine", tree, "-l", "python", "-o", out)
    assert code == 2
    assert "is there already" in told
    assert out.read_text(encoding="utf-8") == "mine\n"
    assert call("mine", tree, "-l", "python", "-o", out, "--overwrite")[0] == 0


def test_a_tree_without_the_language_fails_and_says_what_there_is(call, tree, tmp_path):
    code, shown, told = call("mine", tree, "-l", "ruby", "-o", tmp_path / "a.jsonl")
    assert (code, shown) == (1, "")
    assert "No ruby file (.rb)" in told
    assert "2 python, 1 javascript" in told


def test_options_reach_the_miner(call, tree, tmp_path):
    (tree / "tests").mkdir()
    (tree / "tests" / "a.py").write_text(
        "# SPDX-License-Identifier: MIT\n" + FUNCTION.format("volume"), encoding="utf-8"
    )
    out = tmp_path / "a.jsonl"
    code, shown, _ = call(
        *("mine", tree, "-l", "python", "-o", out, "--json"),
        *("--license", "mit", "--keep-test-files", "--max-file-mib", "0.5", "--jobs", "1"),
    )
    assert code == 0
    report = json.loads(shown)
    assert report["kept"] == 1
    assert report["skipped_files"] == {"empty": 1, "licence unknown": 1}


def list_workers(process):
    """The processes that a command has started, by the parent that their line of numbers names."""
    found = []
    for entry in PROC.glob("[0-9]*/stat"):
        try:
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it is gone by now
            continue
        if int(fields[1]) == process.pid:
            found.append(int(entry.parent.name))
    return found


@pytest.mark.skipif(not PROC.is_dir(), reason="looks for the workers in /proc")
def test_an_interrupt_leaves_neither_a_file_nor_a_process(tmp_path):
    root = tmp_path / "code"
    root.mkdir()
    for number in range(800):
        (root / f"{number}.py").write_text(FUNCTION.format(f"area_{number}") * 5, encoding="utf-8")
    out = tmp_path / "out" / "mined.jsonl"
    command = ["-m", "codestrata", "mine", str(root), "-l", "python", "-o", str(out), "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, *command], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 30
    while process.poll() is None and not list_workers(process):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = list_workers(process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does to all that a command started
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130, told
    assert "interrupted (SIGINT)" in told
    assert "Traceback" not in told
    assert workers
    assert not any((PROC / str(number)).exists() for number in workers)
    assert list(out.parent.iterdir()) == []
    assert os.listdir(root)
