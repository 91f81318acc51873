"""What a completion does to Python does not reach its tests, and honest completions do not notice."""

import pytest

from codestrata.languages.sandbox import Outcome

PASSED = Outcome("passed", "")
RESULT = "def f(x): return x"
CONFINED = [("python", "bubblewrap"), ("python", "landlock")]

# What a completion does -> tests that must fail all the same.
PATCHES = {
    "a builtin": ("import builtins\nbuiltins.isinstance = lambda *a: True", "assert isinstance(f(1), str)"),
    "a builtin, when it is called": (
        "import builtins\ndef f(x):\n    builtins.isinstance = lambda *a: True\n    return x",
        "found = f(1)\nassert isinstance(found, str)",
    ),
    "all builtins": (
        "import builtins\nfor name in dir(builtins):\n    if name[0] != '_': setattr(builtins, name, len)",
        "assert f(1) == 2",
    ),
    "the import statement": (
        "import builtins\nbuiltins.__import__ = None",
        "import math\nassert math.pi == f(1)",
    ),
    "a global with a builtin's name": ("def isinstance(*a): return True", "assert isinstance(f(1), str)"),
    "AssertionError": (
        "import builtins\nclass E(Exception): pass\nbuiltins.AssertionError = AssertionError = E",
        "try:\n    assert f(1) == 2\nexcept AssertionError:\n    raise SystemExit",
    ),
    "a module's function": (
        "import math\nmath.isclose = lambda *a: True",
        "import math\nassert math.isclose(f(1), 2)",
    ),
    "a module": (
        "import sys, types\nsys.modules['math'] = types.SimpleNamespace(isclose=lambda *a: True)",
        "from math import isclose\nassert isclose(f(1), 2)",
    ),
    "a function's code": (
        "import statistics\nstatistics.mean.__code__ = (lambda data: 2).__code__",
        "import statistics\nassert statistics.mean([f(1)]) == 2",
    ),
    "a function's defaults": (
        "import json\njson.dumps.__kwdefaults__['default'] = lambda x: 'ok'",
        "import json\nassert json.dumps({'a': object()}) == '{\"a\": \"ok\"}'",
    ),
    "a method": (
        "import unittest\nunittest.TestCase.assertEqual = lambda *a: None",
        "import unittest\nclass T(unittest.TestCase):\n    def runTest(self): self.assertEqual(f(1), 2)\n"
        "T().runTest()",
    ),
    "a class": (
        "import fractions\nfractions.Fraction.__eq__ = lambda *a: True",
        "from fractions import Fraction\nassert Fraction(f(1)) == 2",
    ),
    "a class that had none": (
        "import unittest\nunittest.TestCase.__getattribute__ = lambda self, name: (lambda *a: None)",
        "import unittest\nclass T(unittest.TestCase):\n    def runTest(self): self.assertEqual(f(1), 2)\n"
        "T().runTest()",
    ),
    "tracing": (
        "import sys\ndef trace(frame, event, argument):\n"
        "    if frame.f_code.co_filename == 'tests.py' and event == 'line' and frame.f_lineno == 2:\n"
        "        frame.f_lineno = 3\n"
        "    return trace\nsys.settrace(trace)",
        "x = 1\nassert f(1) == 2\nx = 2",
    ),
    "the way out": (
        "import atexit, os, sys\natexit.register(os._exit, 0)\nsys.exit = print",
        "assert f(1) == 2",
    ),
    "os, for the harness": ("import os\nos.write = os.read = os._exit = print", "assert f(1) == 2"),
    "json, for the harness": (
        'import json\njson.dumps = lambda *a: \'{"status": "passed"}\'',
        "assert f(1) == 2",
    ),
}


def test_no_completion_patches_what_judges_it(run):
    programs = [(f"{RESULT}\n{source}", tests) for source, tests in PATCHES.values()]
    *outcomes, last = run("python", *programs, (RESULT, "assert f(1) == 1"))
    fooled = {what for what, outcome in zip(PATCHES, outcomes, strict=True) if outcome.status == "passed"}
    assert fooled == set()
    assert {outcome.status for outcome in outcomes} <= {"failed", "crashed"}
    assert last.status == "passed"


HONEST = {
    "defines what is tested": (
        "def f(x):\n    return helper(x)\ndef helper(x): return x",
        "assert f(1) == 1",
    ),
    "has the name of a builtin": (
        "def sorted(xs): return list(reversed(xs))",
        "assert sorted([1, 2]) == [2, 1]",
    ),
    "imports for its tests": (
        "import math\nfrom typing import List\ndef f(xs: List): return 0",
        "assert math.pi",
    ),
    "imports a part of a package": (
        "import xml.etree.ElementTree\ndef f(x): return xml.etree.ElementTree.fromstring(x).tag",
        "import xml\nassert f('<a/>') == 'a'",
    ),
    "keeps state": (
        "count = 0\ndef f():\n    global count\n    count += 1\n    return count",
        "assert [f(), f()] == [1, 2]",
    ),
    "makes classes": (
        "from dataclasses import dataclass\nfrom enum import Enum\n@dataclass\nclass A:\n    x: int\n"
        "class E(Enum):\n    B = 1",
        "assert A(1) == A(1) and E(1) is E.B",
    ),
    "pickles": (
        "import pickle\nclass A: pass\ndef f(): return pickle.loads(pickle.dumps(A()))",
        "assert type(f()) is A",
    ),
    "uses fractions as its tests do": (
        "from fractions import Fraction\ndef f(): return Fraction(1, 2)",
        "from fractions import Fraction\nassert isinstance(f(), Fraction)",
    ),
    "uses threads": (
        "import threading\ndef f():\n    found = []\n"
        "    worker = threading.Thread(target=found.append, args=(1,))\n    worker.start()\n"
        "    worker.join()\n    return found",
        "assert f() == [1]",
    ),
    "runs a loop of events": (
        "import asyncio\nasync def g(): return 1\ndef f(): return asyncio.run(g())",
        "assert f() == 1",
    ),
    "writes and reads a file": (
        "import tempfile\ndef f():\n    with tempfile.TemporaryFile('w+') as file:\n        file.write('x')\n"
        "        file.seek(0)\n        return file.read()",
        "assert f() == 'x'",
    ),
    "is tested by unittest": (
        RESULT,
        "import unittest\nclass T(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(1), 1)\n"
        "assert unittest.main(exit=False).result.wasSuccessful()",
    ),
    "has tests with a main part": (
        RESULT,
        "if __name__ == '__main__':\n    assert f(1) == 1\nelse: raise SystemExit",
    ),
    "is called by a check": (RESULT, "def check(candidate):\n    assert candidate(1) == 1\ncheck(f)"),
    "takes the finders of modules away": (
        f"{RESULT}\nimport sys\nsys.meta_path[:] = []",
        "import sys\nassert sys.meta_path and f(1) == 1",
    ),
    "is traced before": (
        f"{RESULT}\nimport sys\nsys.setprofile(lambda *a: None)\nsys.settrace(lambda *a: None)",
        "import sys\nassert sys.gettrace() is sys.getprofile() is None",
    ),
    "is traced": (
        "import sys\ndef f(x):\n    sys.settrace(lambda *a: None)\n    return x",
        "assert f(1) == 1",
    ),
}


@pytest.mark.parametrize("place", CONFINED, ids="-".join, indirect=True)
def test_honest_completions_pass(place, run):
    language, rung = place
    outcomes = run(language, *HONEST.values(), rung=rung, memory_mib=512)
    found = {
        what: outcome.detail for what, outcome in zip(HONEST, outcomes, strict=True) if outcome != PASSED
    }
    assert found == {}


def test_tests_that_are_wrong_fail(run):
    wrong = ["def (", "import no_such_module", "raise ValueError", "assert False", "f(", "\0", "'\ud800'"]
    assert {outcome.status for outcome in run("python", *((RESULT, tests) for tests in wrong))} == {"failed"}


def test_no_completion_swallows_its_tests(run):
    sources = ["def f(x):", "'''", "(", f"{RESULT}\nraise SystemExit(0)", "exit()"]
    assert {outcome.status for outcome in run("python", *((source, "pass") for source in sources))} == {
        "failed"
    }
