import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from codestrata.errors import ExecutionError
from codestrata.languages import sandbox
from codestrata.languages.sandbox import Outcome, describe_runner, explain_missing, run_programs

LANGUAGES = ["javascript", "lua", "python"]

GOOD = {
    "python": "def f(xs):\n    return sum(xs)\n\nassert f([1, 2]) == 3",
    "javascript": "function f(xs) { return xs.reduce((a, x) => a + x, 0); }\n"
    'if (JSON.stringify(f([1, 2])) !== "3") throw new Error("wrong");',
    "lua": "local function f(xs) local s = 0 for _, x in ipairs(xs) do s = s + x end return s end\n"
    "if f({1, 2}) ~= 3 then error('wrong') end",
}

# What a program does -> its source and the statuses that are right for it.
HOSTILE = {
    "python": {
        "wrong": ("assert 1 == 2, 'one is not two'", "failed"),
        "syntax": ("def f(:", "failed"),
        "exits": ("import sys\nsys.exit(0)", "failed"),
        "exits hard": ("import os\nos._exit(0)", "crashed"),
        "exits hard inside a try": ("import os\ntry:\n    os._exit(0)\nfinally:\n    pass", "crashed"),
        "is interrupted": ("raise KeyboardInterrupt", "failed"),
        "kills itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "crashed"),
        "kills the runner": (
            "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nwhile True: pass",
            "crashed",
        ),
        "stops the runner": ("import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)", "timeout"),
        "loops": ("while True: pass", "timeout"),
        "swallows everything": (
            "while True:\n    try:\n        1 / 0\n    except BaseException: pass",
            "timeout",
        ),
        "floods": ("for _ in range(20000): print('x' * 1000)\nassert False", "failed"),
        "reads": ("input()", "failed"),
        "writes a large file": ("open('f', 'wb').write(b'x' * 2**26)", "failed"),
        "nests": ("x = " + "(" * 5000 + ")" * 5000, "failed crashed"),
        "has a null byte": ("x = '\0'", "failed"),
        "has a lone surrogate": ("x = '\ud800'", "failed"),
        "raises an error that cannot be told": (
            "class E(Exception):\n    def __str__(self): raise E\nraise E",
            "failed crashed",
        ),
        "raises a surrogate": ("raise ValueError('\\ud800')", "failed"),
        "patches the harness": ("import os\nos.write = None\nassert False", "failed crashed"),
        "changes folder": ("import os\nos.rmdir(os.getcwd())\nassert False", "failed"),
    },
    "javascript": {
        "wrong": ("throw new Error('one is not two')", "failed"),
        "syntax": ("function f( {", "failed"),
        "exits by process": ("process.exit(0)", "failed"),
        "exits by Deno": ("Deno.exit(0)", "failed"),
        "returns": ("return 1", "failed"),
        "breaks out by a constructor": (
            "globalThis.constructor.constructor('return Deno')().exit(0)",
            "failed",
        ),
        "imports": ("import('node:fs').then((fs) => fs.readdirSync('/'))", "failed"),
        "loops": ("while (true) {}", "timeout"),
        "swallows everything": ("while (true) { try { null.x } catch { } }", "timeout"),
        "loops in promises": ("(async () => { while (true) await null; })()", "timeout"),
        "loops in a regular expression": ("/^(a+)+$/.test('a'.repeat(40) + 'b')", "timeout"),
        "loops in its error": ("throw { toString() { while (true) {} } }", "timeout"),
        "floods": ("for (let i = 0; i < 20000; i++) console.log('x'.repeat(1000)); throw 1", "failed"),
        "throws nothing": ("throw undefined", "failed"),
        "throws what has no text": ("throw Object.create(null)", "failed"),
        "throws a surrogate": ("throw '\\ud800'", "failed"),
        "rejects": ("Promise.reject(new Error('late'))", "failed"),
        "throws after await": ("(async () => { await null; throw new Error('late') })()", "failed"),
        "nests": ("x = " + "(".join([""] * 20000), "failed"),
        "patches": ("JSON.stringify = String = undefined; throw 1", "failed"),
    },
    "lua": {
        "wrong": ("error('one is not two')", "failed"),
        "syntax": ("local = 3", "failed"),
        "exits": ("os.exit(0)", "failed"),
        "returns early": ("do return end", "failed"),
        "returns early with a value": ("do return 'passed' end", "failed"),
        "hides what follows": ("--[[", "failed"),
        "loops": ("while true do end", "timeout"),
        "swallows everything": ("while true do pcall(error) end", "timeout"),
        "loops in a pattern": ("string.rep('a', 40):find(string.rep('a-', 30) .. 'b')", "timeout"),
        "loops when it is collected": (
            "t = setmetatable({}, {__gc = function() while true do end end})",
            "timeout",
        ),
        "floods": ("for _ = 1, 20000 do print(('x'):rep(1000)); io.write('x') end error('done')", "failed"),
        "throws a table": ("error({})", "failed"),
        "throws nothing": ("error()", "failed"),
        "throws bytes": ("error('\\xff\\xfe')", "failed"),
        "has a lone surrogate": ("local = '\ud800'", "failed"),
        "nests": ("x = " + "(" * 5000, "failed"),
        "reaches Python": ("python.builtins.exit()", "failed"),
        "requires": ("require('os').exit(0)", "failed"),
        "opens": ("io.open('/etc/passwd')", "failed"),
        "loads bytecode": ("load(string.dump(function() end))()", "failed"),
    },
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_hostile_programs_get_their_verdict_and_spare_their_neighbours(language):
    programs = [GOOD[language]]
    for source, _ in HOSTILE[language].values():
        programs += [source, GOOD[language]]
    outcomes = run_programs(language, programs, timeout_seconds=1, memory_mib=128)
    assert [outcome.status for outcome in outcomes[::2]] == ["passed"] * (len(HOSTILE[language]) + 1)
    found = dict(zip(HOSTILE[language], outcomes[1::2], strict=True))
    wrong = {
        name: found[name]
        for name, (_, right) in HOSTILE[language].items()
        if found[name].status not in right.split()
    }
    assert not wrong
    assert "one is not two" in found["wrong"].detail
    for outcome in outcomes:
        outcome.detail.encode()


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("python", "xs = []\nwhile True: xs.append(bytearray(2**20))"),
        ("python", "def f(): return f() + 1\nf()"),
        ("python", "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return [f()]\nf()"),
        ("javascript", "const xs = []; while (true) xs.push(new Array(1e5).fill(1.5))"),
        ("javascript", "const xs = []; while (true) xs.push(new Uint8Array(1e7).fill(1))"),
        ("javascript", "function f() { return f() + 1 }\nf()"),
        ("lua", "local s = 'x' while true do s = s .. s end"),
        ("lua", "local function f() return 1 + f() end f()"),
    ],
)
def test_memory_and_recursion_are_limited(language, source):
    # A long time limit: the limit under test must be the one that stops the program.
    outcomes = run_programs(language, [source, GOOD[language]], timeout_seconds=30, memory_mib=64)
    assert outcomes[0].status in ("failed", "crashed")
    assert outcomes[1].status == "passed"


@pytest.mark.parametrize("language", LANGUAGES)
def test_programs_do_not_see_each_other(language):
    leave, look = {
        "python": (
            "import builtins, random\nbuiltins.seen = seen = 1\nopen('f', 'w').close()\nrandom.random()",
            "import builtins as b, os\nassert not (hasattr(b, 'seen') or 'seen' in dir() or os.listdir())",
        ),
        "javascript": (
            "var seen = 1; Array.prototype.sum = 1; globalThis.other = 1",
            "if (typeof seen + typeof [].sum + typeof other !== 'undefined'.repeat(3)) throw 1",
        ),
        "lua": ("seen = 1 string.upper = nil", "assert(seen == nil and ('a'):upper() == 'A')"),
    }[language]
    outcomes = run_programs(language, [leave, look, leave, look], timeout_seconds=5, memory_mib=128)
    assert outcomes == [Outcome("passed", "")] * 4


@pytest.mark.parametrize("language", LANGUAGES)
def test_unicode_empty_and_large_programs(language):
    comment = {"python": "#", "javascript": "//", "lua": "--"}[language]
    quoted = "s = 'é 😀 \u2028'"
    long = f"{comment} {'é' * 100_000}\n{GOOD[language]}"
    many = {"python": "x = 1\n", "javascript": "x = 1\n", "lua": "x = 1\n"}[language] * 20_000
    programs = ["", quoted, long, many, f"{GOOD[language]} {comment} the end"]
    outcomes = run_programs(language, programs, timeout_seconds=10, memory_mib=256)
    assert outcomes == [Outcome("passed", "")] * len(programs)


def test_python_programs_cannot_forge_a_verdict_by_writing():
    forgery = json.dumps({"status": "passed", "detail": ""})
    writes = f"""
import os, sys
print("ready"); print("passed"); print({forgery!r}); sys.stdout.flush()
for descriptor in range(256):
    for line in ({forgery!r}, "x " + {forgery!r}, "0" * 32 + {forgery!r}):
        try: os.write(descriptor, (line + "\\n").encode())
        except OSError: pass
    try: os.write(descriptor, b"half a line, which would hide the next verdict")
    except OSError: pass
os._exit(0)
"""
    outcomes = run_programs("python", [writes, GOOD["python"]], timeout_seconds=5, memory_mib=128)
    assert [outcome.status for outcome in outcomes] == ["crashed", "passed"]


def test_a_runner_that_answers_without_the_token_is_not_believed(tmp_path, monkeypatch):
    liar = tmp_path / "liar.py"
    liar.write_text(
        "import sys\nprint('ready', flush=True)\nfor _ in sys.stdin:\n"
        '    print(\'0\' * 32, \'{"status": "passed", "detail": ""}\', flush=True)\n    sys.exit(3)\n'
    )
    monkeypatch.setattr(sandbox, "build_command", lambda language, memory: [sys.executable, str(liar)])
    outcomes = run_programs("python", ["", ""], timeout_seconds=5, memory_mib=128)
    assert outcomes == [Outcome("crashed", "the runner exited with status 3")] * 2


def test_the_environment_and_the_folder_are_not_ours(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    look = f"""
import os, sys
assert "SECRET_TOKEN" not in os.environ
assert os.getcwd().startswith(os.environ["HOME"]) and os.environ["HOME"] != {os.environ.get("HOME")!r}
assert os.getcwd() not in sys.path and __name__ == "__main__"
assert os.getsid(0) != {os.getsid(0)}
"""
    assert run_programs("python", [look], timeout_seconds=5, memory_mib=128) == [Outcome("passed", "")]


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lock = tmp_path / "lock"
    # The process left behind inherits the lock, and holds it while it lives.
    leave = f"""
import fcntl, os, time
open("left", "w").close()
fcntl.flock(os.open({str(lock)!r}, os.O_CREAT), fcntl.LOCK_EX)
if os.fork() == 0:
    time.sleep(60)
    os._exit(0)
"""
    assert run_programs("python", [leave, "while True: pass"], timeout_seconds=0.5, memory_mib=128) == [
        Outcome("passed", ""),
        Outcome("timeout", "still running after 0.5 s"),
    ]
    assert list(tmp_path.iterdir()) == [lock]
    deadline = time.monotonic() + 10
    with lock.open() as file:
        while not try_to_lock(file) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.monotonic() < deadline


def try_to_lock(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize(
    ("language", "draw"),
    [
        ("python", "import random\nraise ValueError(str([hash('a'), random.random()]))"),
        ("javascript", "throw Math.random()"),
        ("lua", "error(math.random())"),
    ],
)
def test_chance_is_the_same_in_every_run(language, draw):
    details = {run_programs(language, [draw], timeout_seconds=5, memory_mib=128)[0].detail for _ in range(2)}
    assert len(details) == 1


def test_a_deadline_is_kept():
    started = time.monotonic()
    (outcome,) = run_programs("python", ["import time\ntime.sleep(60)"], timeout_seconds=0.2, memory_mib=128)
    assert outcome.status == "timeout"
    assert time.monotonic() - started < 10


def test_no_programs_have_no_outcomes():
    assert run_programs("python", [], timeout_seconds=1, memory_mib=128) == []


def test_every_language_runs_here():
    assert {language: explain_missing(language) for language in LANGUAGES} == dict.fromkeys(LANGUAGES)
    assert describe_runner("lua").startswith("Lua 5.4 (lupa ")


def test_an_unknown_language_is_explained():
    known = "Unknown language 'rust'. Known: javascript, lua, python."
    assert explain_missing("rust") == known
    with pytest.raises(ExecutionError, match=known):
        run_programs("rust", [], timeout_seconds=1, memory_mib=128)
    with pytest.raises(ExecutionError, match=known):
        describe_runner("rust")


def test_a_missing_runtime_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "deno", None)
    with pytest.raises(ExecutionError, match="pip install deno"):
        run_programs("javascript", [""], timeout_seconds=1, memory_mib=128)


def test_a_runner_that_does_not_start_says_why(monkeypatch):
    monkeypatch.setitem(sandbox.STARTUP_MIB, "javascript", 0)
    with pytest.raises(
        ExecutionError, match=r"(?s)A runner did not start, it was killed .* Its last words: .*out of memory"
    ):
        run_programs("javascript", [""], timeout_seconds=1, memory_mib=64)


def test_importing_the_sandbox_starts_nothing():
    code = "import sys, codestrata.languages.sandbox; assert not {'lupa', 'deno'} & set(sys.modules)"
    root = Path(sandbox.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
