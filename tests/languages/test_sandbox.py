import fcntl
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from codestrata.errors import ExecutionError
from codestrata.languages import runtimes, sandbox
from codestrata.languages.confinement import RUNGS, Isolation
from codestrata.languages.containment import list_processes
from codestrata.languages.sandbox import Outcome, Program, choose_workers, remove_folder, run_programs

LANGUAGES = ["javascript", "lua", "python"]
PYTHON_PLACES = [("python", rung) for rung in RUNGS if rung != "deno"]

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
        "kills itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "failed crashed"),
        "kills the runner": (
            "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nwhile True: pass",
            "failed crashed",
        ),
        "stops the runner": ("import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)", "failed timeout"),
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
        "leaves a deep folder": (
            "import os\nfor _ in range(800):\n    os.mkdir('d')\n    os.chdir('d')\nassert False",
            "failed crashed",
        ),
        "closes its folder": ("import os\nos.mkdir('d', 0)\nassert False", "failed"),
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
        "leaves work for later": (
            "const xs = new Int32Array(new SharedArrayBuffer(8));\n"
            "Atomics.waitAsync(xs, 0, 0, 1).value.then(() => { throw new Error('late') })",
            "failed",
        ),
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
def test_hostile_programs_get_their_verdict_and_spare_their_neighbours(language, run):
    programs = [GOOD[language]]
    for number, (source, _) in enumerate(HOSTILE[language].values()):
        comment = {"python": "#", "javascript": "//", "lua": "--"}[language]
        programs += [source, f"{GOOD[language]} {comment} {number}"]  # equal programs would run once
    outcomes = run(language, *programs, timeout_seconds=1)
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
def test_memory_and_recursion_are_limited(language, source, run):
    # A long time limit: the limit under test must be the one that stops the program.
    outcomes = run(language, source, GOOD[language], timeout_seconds=30, memory_mib=64)
    assert outcomes[0].status in ("failed", "crashed")
    assert outcomes[1].status == "passed"


@pytest.mark.parametrize("language", LANGUAGES)
def test_programs_do_not_see_each_other(language, run):
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
    outcomes = run(language, leave, look, f"{leave} ", f"{look} ", workers=1)
    assert outcomes == [Outcome("passed", "")] * 4


@pytest.mark.parametrize("language", LANGUAGES)
def test_unicode_empty_and_large_programs(language, run):
    comment = {"python": "#", "javascript": "//", "lua": "--"}[language]
    quoted = "s = 'é 😀 \u2028'"
    long = f"{comment} {'é' * 100_000}\n{GOOD[language]}"
    many = {"python": "x = 1\n", "javascript": "x = 1\n", "lua": "x = 1\n"}[language] * 20_000
    programs = ["", quoted, long, many, f"{GOOD[language]} {comment} the end"]
    for tests in ("", " \n", quoted):
        pairs = [(source, tests) for source in programs]
        outcomes = run(language, *pairs, timeout_seconds=10, memory_mib=256)
        assert outcomes == [Outcome("passed", "")] * len(programs)


def test_half_a_line_does_not_hide_the_next_verdict(run):
    writes = """
import os
for descriptor in range(256):
    try: os.write(descriptor, b"half a line, which would hide the next verdict")
    except OSError: pass
os._exit(0)
"""
    outcomes = run("python", writes, GOOD["python"])
    assert [outcome.status for outcome in outcomes] == ["crashed", "passed"]


def test_a_runner_that_answers_without_the_token_is_not_believed(tmp_path, monkeypatch, run):
    liar = tmp_path / "liar.py"
    liar.write_text(
        "import sys\nprint('ready', flush=True)\nfor _ in sys.stdin:\n"
        '    print(\'0\' * 32, \'{"status": "passed", "detail": ""}\', flush=True)\n    sys.exit(3)\n'
    )
    monkeypatch.setattr(sandbox, "build_command", lambda *place, **limits: [sys.executable, str(liar)])
    outcomes = run("python", "a", "b", rung="limits")
    assert outcomes == [Outcome("crashed", "the runner exited with status 3")] * 2


@pytest.mark.parametrize("place", PYTHON_PLACES, ids="-".join, indirect=True)
def test_the_environment_and_the_folder_are_not_ours(monkeypatch, place, run):
    _, rung = place
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    look = f"""
import os, sys
assert "SECRET_TOKEN" not in os.environ
assert os.getcwd().startswith(os.environ["HOME"]) and os.environ["HOME"] != {os.environ.get("HOME")!r}
assert os.getcwd() not in sys.path and __name__ == "__main__"
assert os.getsid(0) != {os.getsid(0)}
"""
    assert run("python", look, rung=rung) == [Outcome("passed", "")]


@pytest.mark.parametrize("place", PYTHON_PLACES[:2], ids="-".join, indirect=True)
def test_programs_start_no_process_and_signal_none(place, run):
    _, rung = place
    deeds = [
        *("os.fork()", "os.execv('/bin/true', ['true'])", "os.posix_spawn('/bin/true', ['true'], {})"),
        *("os.kill(os.getppid(), 0)", "os.kill(os.getpid(), 0)", "os.setsid()", "os.chmod('.', 0o700)"),
        "open(f'/proc/{os.getppid()}/mem', 'rb')",
    ]
    outcomes = run("python", *(f"import os\n{deed}" for deed in deeds), rung=rung)
    assert {outcome.detail.partition(":")[0] for outcome in outcomes} == {"PermissionError"}


@pytest.mark.parametrize("place", PYTHON_PLACES[:2], ids="-".join, indirect=True)
def test_programs_may_use_threads(place, run):
    _, rung = place
    threads = "import threading\nworkers = [threading.Thread(target=print) for _ in range(8)]\n"
    threads += "for worker in workers: worker.start()\nfor worker in workers: worker.join()"
    assert run("python", threads, rung=rung, memory_mib=512) == [Outcome("passed", "")]


def test_a_token_is_out_of_sight_of_the_frames_below(run):
    look = """
import re, sys
frame = sys._getframe()
while frame:
    assert not re.search("[0-9a-f]{32}", repr(list(frame.f_locals.values()))), frame.f_code
    frame = frame.f_back
"""
    assert run("python", look) == [Outcome("passed", "")]


def test_plain_limits_leave_nothing_of_the_process_group(tmp_path, monkeypatch, run):
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
    left, endless = run("python", leave, "while True: pass", timeout_seconds=0.5, rung="limits")
    assert left.status == "passed"
    assert endless == Outcome("timeout", "still running after 0.5 s")
    assert list(tmp_path.iterdir()) == [lock]
    deadline = time.monotonic() + 10
    with lock.open() as file:
        while not try_to_lock(file) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.monotonic() < deadline


def test_nothing_is_left_of_an_interrupted_batch(place, run, tmp_path, monkeypatch):
    language, rung = place
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sandbox.Runner, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(language, *map(str, range(20)), rung=rung)
    assert list(tmp_path.iterdir()) == []
    assert list_processes(str(tmp_path)) == []


ENDLESS = """
import sys, tempfile
from codestrata.languages.confinement import Isolation
from codestrata.languages.sandbox import Program, run_programs
language, rung, tempfile.tempdir, loop = sys.argv[1:]
isolation = Isolation(language=language, rung=rung, runtime=None, refused={})
run_programs(language, [Program(loop)], timeout_seconds=60, memory_mib=256, isolation=isolation)
"""
LOOPS = {"python": "while True: pass", "javascript": "while (true) {}", "lua": "while true do end"}


def wait_for(condition):
    """Whether a condition came true within ten seconds."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a process when its parent ends")
def test_runners_do_not_outlive_a_parent_that_is_killed(place, tmp_path):
    language, rung = place
    arguments = [sys.executable, "-c", ENDLESS, language, rung, str(tmp_path), LOOPS[language]]
    with subprocess.Popen(arguments) as parent:
        assert wait_for(lambda: list_processes(str(tmp_path / "codestrata-")))
        time.sleep(0.3)  # the program itself begins
        parent.kill()
    # Under plain limits what a Python program was forked into lives on until its processor time is over.
    assert rung == "limits" or wait_for(lambda: not list_processes(str(tmp_path / "codestrata-")))


def interrupt(self, program, timeout_seconds):
    raise KeyboardInterrupt


def test_folders_of_every_depth_are_removed(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    place = os.open(root, os.O_RDONLY)
    for _ in range(1050):  # deeper than Python recurses, and than a path may be long
        os.mkdir("a-rather-long-name", dir_fd=place)
        deeper = os.open("a-rather-long-name", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = deeper
    os.close(place)
    outside = tmp_path / "kept"
    outside.mkdir()
    (outside / "file").touch()
    (root / "link").symlink_to(outside)
    (root / "closed").mkdir(0)
    remove_folder(root)
    assert not root.exists()
    assert (outside / "file").exists()


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
def test_chance_is_the_same_in_every_run(language, draw, run):
    details = {run(language, draw)[0].detail for _ in range(2)}
    assert len(details) == 1


def test_a_deadline_is_kept(run):
    started = time.monotonic()
    (outcome,) = run("python", "import time\ntime.sleep(60)", timeout_seconds=0.2)
    assert outcome.status == "timeout"
    assert time.monotonic() - started < 10


def test_no_programs_have_no_outcomes(run):
    assert run("python") == []


def test_outcomes_are_in_order_and_equal_programs_run_once(monkeypatch, run):
    programs = [f"raise ValueError({number % 30})" for number in range(60)]
    ran = []
    run_one = sandbox.Runner.run

    def record(self, program, timeout_seconds):
        ran.append((program, threading.get_ident()))
        return run_one(self, program, timeout_seconds)

    monkeypatch.setattr(sandbox.Runner, "run", record)
    outcomes = run("python", *programs, workers=3)
    assert [outcome.detail for outcome in outcomes] == [f"ValueError: {number % 30}" for number in range(60)]
    assert len(ran) == len({program for program, _ in ran}) == 30
    assert len({thread for _, thread in ran}) > 1


@pytest.mark.parametrize(
    ("programs", "most", "workers"), [(0, 2, 0), (1, 2, 1), (8, 2, 1), (9, 2, 2), (1000, 2, 2), (1000, 5, 5)]
)
def test_more_runners_only_for_more_programs(programs, most, workers):
    assert choose_workers(programs, most) == workers
    assert choose_workers(programs, None) <= 2


def test_an_error_in_one_worker_ends_the_batch(monkeypatch, run):
    ran = []

    def fail(self, program, timeout_seconds):
        ran.append(program)
        raise ExecutionError("broken")

    monkeypatch.setattr(sandbox.Runner, "run", fail)
    with pytest.raises(ExecutionError, match="broken"):
        run("python", *map(str, range(100)))
    assert len(ran) <= 2


def test_without_isolation_nothing_runs():
    none = Isolation(language="python", rung=None, runtime=None, refused={}, reason="no rung here")
    limits = {"timeout_seconds": 1, "memory_mib": 128}
    with pytest.raises(ExecutionError, match="no rung here"):
        run_programs("python", [Program("")], isolation=none, **limits)
    other = Isolation(language="lua", rung="limits", runtime=None, refused={})
    with pytest.raises(ExecutionError, match="chosen for lua, the programs are python"):
        run_programs("python", [Program("")], isolation=other, **limits)


def test_a_runner_that_does_not_start_says_why(monkeypatch, run):
    monkeypatch.setitem(runtimes.STARTUP_MIB, "javascript", 0)
    with pytest.raises(
        ExecutionError, match=r"(?s)A runner did not start, it was killed .* Its last words: .*out of memory"
    ):
        run("javascript", "", memory_mib=64, rung="limits")


def test_importing_the_sandbox_starts_nothing():
    code = "import sys, codestrata.languages.isolation; assert not {'lupa', 'deno'} & set(sys.modules)"
    root = Path(sandbox.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
