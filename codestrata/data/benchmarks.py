"""Programming problems with tests that can be run, out of the original files of their makers.

    mbpp            a sentence and its assertions -> a function
    mbxp            the head of a function with examples in its documentation
    humaneval       the same; Python
    humaneval-x     the same, in several languages
    humanevalpack   the same, with a broken version of every solution

``generate`` asks for the whole function without its documentation; what stands before the function
(imports, other functions) is the example's prelude, empty where nothing does. ``complete`` gives the head as
the prompt and as the prelude and asks for the body. ``repair`` gives head and broken body and asks for the
whole function.

What this does not do: run a test (``metrics.execution`` does), or mend problems whose own solution fails
their tests.

Sources: Austin et al. 2021, arXiv:2108.07732; Athiwaratkun et al. 2023, arXiv:2210.14868; Chen et al. 2021,
arXiv:2107.03374; Zheng et al. 2023, arXiv:2303.17568; Muennighoff et al. 2023, arXiv:2308.07124.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codestrata.data.catalogue import TEST_ONLY, find_data_set
from codestrata.data.equality import LODASH
from codestrata.data.objectives import cut_docstring
from codestrata.data.rows import RECORD_SUFFIXES, Row, is_record_file, read_rows
from codestrata.data.sourced import Loaded, Partition, SourcedExample
from codestrata.data.tables import read_text, require_text
from codestrata.errors import DataError, SettingsError, describe_unknown, shorten
from codestrata.hub import load_hub_file, load_hub_splits
from codestrata.languages.endings import HEADS
from codestrata.languages.parsing import parse
from codestrata.records import Example
from codestrata.settings.tasks import Objective, Source, TaskSettings

PROMPTING, TESTING, VALIDATING = 10, 510, 600
"""MBPP's own split by number: up to the first for prompts, to the second tests, to the third validation."""
KEPT_FOR_PROMPTS = "kept for prompts (1 to 10)"
LANGUAGE_NAMES = {"js": "javascript", "csharp": "c_sharp", "humaneval": "python", "mbpp": "python"}
"""What languages are called in records and identifiers, where not as here."""
CHECK_CALL = re.compile(r"^check\(", re.MULTILINE)
NEEDS_MD5 = re.compile(r"require\(\s*['\"]js-md5['\"]\s*\)")
NEEDS_LODASH = re.compile(r"require\(\s*['\"]lodash['\"]\s*\)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One record, whichever set it is of.

    ``text`` describes it in words, ``head`` begins its function in code; one of them is there. ``solution``
    goes on with the head, or is the whole program where there is none; ``None`` where the record has none.
    """

    identifier: str
    language: str
    text: str
    head: str | None
    solution: str | None
    tests: str
    entry: str = ""
    broken: str | None = None


def load_benchmark(settings: TaskSettings, path: Path | None, objective: Objective) -> Loaded:
    """The problems of one language as examples, in their order.

    Left out and counted: problems of another language, those without a solution, and MBPP's first ten, which
    its makers keep for prompts.

    Args:
        settings: the task's; its source says what the file holds.
        path: one of the original files (``.jsonl``, ``.jsonl.gz``, MBPP also ``.json``), the hub's
            ``.parquet``, or a folder of some; ``None`` takes the hub.
        objective: what is asked of a problem.

    Raises:
        DataError: a record that cannot be used, with file and line; two problems of one name; or no problem
            of this language.
        HubError: the hub could not be reached.
        SettingsError: the hub has no such language.
    """
    language, license = settings.code_language, find_data_set(settings.source).license
    examples: list[SourcedExample] = []
    dropped: Counter[str] = Counter()
    places: dict[str, str] = {}
    for place, rows in read_sources(settings, path):
        for line, row in rows:
            problem = build_problem(settings.source, row, place, line)
            if problem.language != language:
                dropped[f"language is {problem.language}"] += 1
                continue
            if problem.identifier in places:
                first = places[problem.identifier]
                message = f"problem {shorten(problem.identifier)} again, as in {first}: give each one once"
                raise DataError(message, path=place, line=line)
            places[problem.identifier] = f"{place}:{line}"
            partition = find_partition(settings.source, problem, place, line)
            if partition is None:
                dropped[KEPT_FOR_PROMPTS] += 1
            else:
                example = build_example(objective, problem)
                if isinstance(example, str):
                    dropped[example] += 1
                else:
                    examples.append(
                        SourcedExample(example=example, partition=partition, license=license, line=line)
                    )
    if not examples:
        found = ", ".join(f"{reason}: {count}" for reason, count in sorted(dropped.items())) or "none"
        message = f"no {settings.source} problems in {language} (left out: {found}); "
        message += f"set tasks.{settings.name}.language"
        raise DataError(message, path=path or settings.source)
    return Loaded(examples=tuple(examples), dropped=dict(dropped))


def read_sources(settings: TaskSettings, path: Path | None) -> Iterator[tuple[str, Iterable[Row]]]:
    """(what it is called in errors, its rows) for every file, or every split on the hub."""
    if path is not None:
        for file in list_files(path):
            yield str(file), read_rows(file)
        return
    place = find_data_set(settings.source).hub
    assert place is not None  # every set of this module lies there
    if settings.code_language not in place.configs:
        raise SettingsError(
            describe_unknown(f"language of {settings.source}", settings.code_language, place.configs)
        )
    config = place.configs[settings.code_language]
    if place.file is not None:
        file = load_hub_file(
            place.name, place.file.format(config), task=settings.name, revision=place.revision
        )
        yield f"{place.name}/{place.file.format(config)}", read_rows(file)
        return
    splits = load_hub_splits(
        place.name,
        None if place.folder else config,
        task=settings.name,
        revision=place.revision,
        folder=config if place.folder else None,
    )
    for name, split in splits.items():
        yield f"{place.name}/{name}", enumerate(split, start=1)


def list_files(path: Path) -> list[Path]:
    """The file itself, or the files of records in a folder, by name. Raises: DataError: there is none."""
    if not os.path.lexists(path):
        raise DataError("no such file or folder", path=path)
    if not path.is_dir():
        return [path]
    files = sorted(
        file for file in path.iterdir() if is_record_file(file, RECORD_SUFFIXES) and file.is_file()
    )
    if not files:
        raise DataError(f"the folder holds no {', '.join(RECORD_SUFFIXES)} file", path=path)
    return files


def build_problem(source: Source, row: Mapping[str, Any], place: str, line: int) -> Problem:
    """One record as a problem. Raises: DataError: a field is missing, empty or no text; with the place."""
    if source == "mbpp":
        return build_mbpp_problem(row, place, line)
    identifier = require_filled(row, "task_id", place, line)
    named = read_text(row, "language", place, line) or identifier.partition("/")[0]
    language = LANGUAGE_NAMES.get(named.lower(), named.lower())
    head = require_filled(row, "prompt", place, line)
    entry = read_text(row, "entry_point", place, line) or find_entry(language, row, place, line)
    setup = read_text(row, "test_setup", place, line) or ""
    tests = "\n".join([*filter(str.strip, [setup]), require_filled(row, "test", place, line)])
    solution = read_text(row, "canonical_solution", place, line)
    broken = require_filled(row, "buggy_solution", place, line) if source == "humanevalpack" else None
    return Problem(
        identifier=identifier,
        language=language,
        text=read_text(row, "description", place, line) or "",
        head=head,
        solution=solution if solution and solution.strip() else None,
        tests=complete_tests(language, tests, entry),
        entry=entry,
        broken=broken,
    )


def find_entry(language: str, row: Mapping[str, Any], place: str, line: int) -> str:
    """The name of the function that is asked for, where no field says it: HumanEval-X begins it in code only.

    Empty in languages but Python and JavaScript, of which no use is made. Raises: DataError: none begins.
    """
    if language not in HEADS:
        return ""
    for field in ("declaration", "prompt"):
        names = HEADS[language].findall(read_text(row, field, place, line) or "")
        if names:
            return str(names[-1])
    message = f"there is no 'entry_point', and no {language} function begins in 'declaration' or 'prompt'"
    raise DataError(message, path=place, line=line)


def build_mbpp_problem(row: Mapping[str, Any], place: str, line: int) -> Problem:
    """A record of MBPP, of the whole set (``text``) or of the checked one (``prompt``)."""
    number = row.get("task_id")
    if not isinstance(number, int) or isinstance(number, bool):
        message = f"field 'task_id' is {shorten(number)}: expected a whole number"
        raise DataError(message, path=place, line=line)
    tests = require_texts(row, "test_list", place, line)
    if not tests:
        raise DataError("field 'test_list' is empty", path=place, line=line)
    setup = require_texts(row, "test_imports", place, line) if row.get("test_imports") is not None else []
    setup.append(read_text(row, "test_setup_code", place, line) or "")
    text = require_filled(row, "text" if "text" in row else "prompt", place, line)
    return Problem(
        identifier=f"mbpp/{number}",
        language="python",
        text="\n".join([text.strip(), *tests]),
        head=None,
        solution=require_filled(row, "code", place, line),
        tests="\n".join([*filter(str.strip, setup), *tests]),
    )


def require_filled(row: Mapping[str, Any], name: str, place: str, line: int) -> str:
    """The text in a field. Raises: DataError: it is missing, empty, or holds a NUL; with file and line."""
    text = require_text(row, name, place, line)
    if not text.strip() or "\0" in text:
        fault = "holds a NUL" if "\0" in text else "is empty"
        raise DataError(f"field {name!r} {fault}", path=place, line=line)
    return text


def require_texts(row: Mapping[str, Any], name: str, place: str, line: int) -> list[str]:
    """The texts in a field. Raises: DataError: it is no list of texts; with file and line."""
    texts = row.get(name)
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        message = f"field {name!r} is {shorten(texts)}: expected a list of texts"
        raise DataError(message, path=place, line=line)
    return list(texts)


def complete_tests(language: str, tests: str, entry: str) -> str:
    """Tests that judge on their own: with the call that starts them, and with what they import.

    JavaScript's ``console.assert`` throws where programs are run, and ``assert`` is there; ``lodash``, of
    which the tests of MBXP want one function, comes along here.
    """
    if language == "python" and "def check(" in tests and not CHECK_CALL.search(tests):
        # Some functions are called check, as the tests' own is.
        return f"candidate = {entry}\n{tests.strip()}\n\ncheck(candidate)\n"
    if language == "javascript" and NEEDS_LODASH.search(tests):
        return f"{LODASH}\n{tests.lstrip()}"
    return tests


def find_partition(source: Source, problem: Problem, place: str, line: int) -> Partition | None:
    """The split that the makers put a problem into; ``None`` for those that they keep for prompts.

    Raises: DataError: the problem has no number to tell.
    """
    if source in TEST_ONLY:
        return "test"
    digits = problem.identifier.rpartition("/")[2]
    if not digits.isdecimal():
        message = (
            f"task_id {shorten(problem.identifier)} has no number, which tells the split: expected MBPP/11"
        )
        raise DataError(message, path=place, line=line)
    number = int(digits)
    if number <= PROMPTING:
        return None
    return "test" if number <= TESTING else "validation" if number <= VALIDATING else "train"


def build_example(objective: Objective, problem: Problem) -> Example | str:
    """What is asked of a problem, or the reason why it cannot serve."""
    if problem.solution is None:
        return "no solution"
    if NEEDS_MD5.search(problem.solution):
        return "needs js-md5, a package that is not there"
    prompt, target, prelude = problem.text, problem.solution, ""
    if problem.head is not None and objective == "complete":
        prompt = prelude = problem.head
    elif problem.head is not None:
        context, function = split_head(problem)
        prompt = problem.head.strip("\n")
        if objective == "repair":
            prompt = f"{problem.head}{problem.broken}".strip("\n")
        prelude, target = context, function + problem.solution
        if problem.language == "python":
            target = cut_docstring(target)
    return Example(
        identifier=problem.identifier,
        prompt=prompt,
        target=target.rstrip() + "\n" if objective == "complete" else target.strip("\n").rstrip(),
        tests=problem.tests,
        prelude=prelude,
    )


def split_head(problem: Problem) -> tuple[str, str]:
    """A head as (what stands before the function, the function's beginning); comments between are left out.

    In languages but Python and JavaScript, and where no such function begins, the whole is the beginning.
    """
    head, name = problem.head or "", re.escape(problem.entry)
    forms = {
        "python": rf"^(?:async[ \t]+)?def[ \t]+{name}\b",
        "javascript": rf"^(?:async[ \t]+)?function\b[ \t*]*{name}\b|^(?:const|let|var)[ \t]+{name}[ \t]*=",
    }
    form = forms.get(problem.language)
    starts = [found.start() for found in re.finditer(form, head, re.MULTILINE)] if form else []
    if not starts:
        return "", head
    context = head[: starts[-1]]
    kept = [
        node for node in parse(problem.language, context).root_node.named_children if node.type != "comment"
    ]
    return (context.strip("\n") + "\n\n" if kept else ""), head[starts[-1] :]
