"""Which mined functions are kept: CodeSearchNet's published filters.

Its paper keeps documentation of at least three tokens and code of at least three lines, and leaves out tests,
constructors and standard extension methods such as ``__str__``. In its data, no function has ``test`` or
``Test`` in its name (``DeleteStorage`` stays), a class's name counts too, and no path names a test.

What this does not do: find functions (``definitions`` does), or compare them with each other (``miner``
leaves out equal ones, ``data.duplicates`` near ones).

Source: Husain et al. 2019, arXiv:1909.09436, section 2.
"""

import re
from pathlib import PurePosixPath

from codestrata.data.mining.definitions import UNDOCUMENTED, Definition

LEAST_DOCUMENTATION_TOKENS = 3
LEAST_CODE_LINES = 3

SHORT_DOCUMENTATION = f"documentation of fewer than {LEAST_DOCUMENTATION_TOKENS} tokens"
SHORT_CODE = f"code of fewer than {LEAST_CODE_LINES} lines"
TEST = "a test by its name"
CONSTRUCTOR = "a constructor"
STANDARD_METHOD = "a standard method, such as __str__ or toString"
REASONS = (UNDOCUMENTED, SHORT_DOCUMENTATION, SHORT_CODE, TEST, CONSTRUCTOR, STANDARD_METHOD)
"""Why a function is left out, in the order in which that is asked: the first that holds is counted."""

TEST_NAME = re.compile(r"test|Test|TEST")
DUNDER = re.compile(r"__\w+__")

CONSTRUCTORS = {
    "python": {"__init__", "__new__"},
    "javascript": {"constructor"},
    "typescript": {"constructor"},
    "php": {"__construct", "__destruct"},
    "ruby": {"initialize", "initialize_copy"},
}
STANDARD_METHODS = {
    "java": {"clone", "equals", "finalize", "hashCode", "notify", "notifyAll", "toString"},
    "javascript": {"toLocaleString", "toString", "valueOf"},
    "typescript": {"toLocaleString", "toString", "valueOf"},
    "php": {
        *("__call", "__callstatic", "__clone", "__debuginfo", "__get", "__invoke", "__isset", "__serialize"),
        *("__set", "__set_state", "__sleep", "__tostring", "__unserialize", "__unset", "__wakeup"),
    },
    "ruby": {
        *("!=", "<", "<=", "<=>", "==", "===", "=~", ">", ">="),
        *("between?", "clone", "display", "dup", "eql?", "equal?", "hash", "inspect", "to_s", "to_text"),
    },
}
"""Methods that a language's objects have anyway; PHP's in lower case, as it does not tell the case."""

TEST_WORDS = {"test", "tests", "testing", "conftest", "testcase", "testcases", "testdata", "testsuite"}
SPEC_LANGUAGES = ("javascript", "ruby", "typescript")
SPEC_WORDS = {"spec", "specs"}
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def find_reason(definition: Definition, language: str) -> str | None:
    """Why a function is left out, one of ``REASONS``; ``None`` where it is kept."""
    if not definition.docstring.strip():
        return UNDOCUMENTED
    if len(definition.docstring_tokens) < LEAST_DOCUMENTATION_TOKENS:
        return SHORT_DOCUMENTATION
    if definition.code.strip().count("\n") + 1 < LEAST_CODE_LINES:
        return SHORT_CODE
    if TEST_NAME.search(definition.qualified_name or definition.name):
        return TEST
    if definition.kind == "constructor" or definition.name in CONSTRUCTORS.get(language, ()):
        return CONSTRUCTOR
    if is_standard(definition.name, language):
        return STANDARD_METHOD
    return None


def is_standard(name: str, language: str) -> bool:
    """Whether a function is one of those that every object of the language may have."""
    if language == "python":
        return DUNDER.fullmatch(name) is not None
    return (name.lower() if language == "php" else name) in STANDARD_METHODS.get(language, ())


def is_test_path(path: str, language: str) -> bool:
    """Whether a file is one of tests by a whole word of its path below the tree, written with ``/``.

    ``tests/a.py``, ``src/test/A.java``, ``a_test.go``, ``ATest.java`` and ``a.spec.ts`` are;
    ``latest/a.py`` and ``contest.py`` are not.
    """
    words = TEST_WORDS | SPEC_WORDS if language in SPEC_LANGUAGES else TEST_WORDS
    place = PurePosixPath(path)
    stem = place.name.rpartition(".")[0] or place.name
    return any(match.lower() in words for part in (*place.parts[:-1], stem) for match in WORD.findall(part))
