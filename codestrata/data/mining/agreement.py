"""How far mining agrees with records that others mined, such as CodeSearchNet's own, and where it does not.

Each record's ``original_string`` is mined again. Compared are the code, its tokens, the last component of the
name where the record has one and, in Python, whose code contains it, the documentation with its tokens.

What this does not do: judge which of the two is right.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codestrata.data.codesearchnet import list_record_files
from codestrata.data.mining.definitions import extract
from codestrata.data.rows import read_rows
from codestrata.data.tables import require_text
from codestrata.errors import DataError
from codestrata.progress import Progress

LONGEST_SHOWN = 60
SHOWN_BEFORE = 3
TEXTS = ("language", "original_string", "code", "func_name")


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Of how many records of a language one property was compared, and in how many it is the same."""

    language: str
    what: str
    records: int
    same: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One property of one record that is mined differently; both sides from shortly before they differ."""

    file: str
    line: int
    func_name: str
    what: str
    mined: str
    recorded: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementReport:
    """What agrees, by language and property, and every difference."""

    agreements: tuple[Agreement, ...]
    differences: tuple[Difference, ...]

    def to_plain(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {
            "agreements": [asdict(agreement) for agreement in self.agreements],
            "differences": [asdict(difference) for difference in self.differences],
        }


def measure_agreement(paths: Sequence[Path], progress: Progress) -> AgreementReport:
    """Mine every record of some files or folders again, and compare.

    Args:
        paths: records in CodeSearchNet's original schema, in files or folders of them.
        progress: told of each file.

    Raises:
        DataError: a file cannot be read, or a record lacks a field; with file and line.
        SettingsError: a record's language cannot be mined.
    """
    compared: Counter[tuple[str, str]] = Counter()
    same: Counter[tuple[str, str]] = Counter()
    differences: list[Difference] = []
    progress.start("mine records again", len(paths))
    for number, path in enumerate(paths, start=1):
        for file in list_record_files(path) if path.is_dir() else [path]:
            for line, row in read_rows(file):
                record = check_record(row, file, line)
                for what, mined, recorded in compare_record(record):
                    key = (record["language"].lower(), what)
                    compared[key] += 1
                    same[key] += mined == recorded
                    if mined != recorded:
                        first, second = show_difference(mined, recorded)
                        differences.append(
                            Difference(
                                file=str(file),
                                line=line,
                                func_name=record["func_name"],
                                what=what,
                                mined=first,
                                recorded=second,
                            )
                        )
        progress.advance(number, str(path))
    agreements = tuple(
        Agreement(language=key[0], what=key[1], records=count, same=same[key])
        for key, count in compared.items()
    )
    return AgreementReport(agreements=agreements, differences=tuple(differences))


def check_record(row: Mapping[str, Any], file: Path | str, line: int) -> Mapping[str, Any]:
    """A row that has all that is compared. Raises: DataError: it lacks some; with file and line."""
    for name in TEXTS:
        require_text(row, name, file, line)
    lists = ["code_tokens"]
    if row["language"].lower() == "python":
        require_text(row, "docstring", file, line)
        lists.append("docstring_tokens")
    for name in lists:
        tokens = row.get(name)
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise DataError(f"field {name!r}: expected a list of texts", path=file, line=line)
    return row


def compare_record(record: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(what, as mined, as recorded) of one record; as mined, all is empty where no function was found."""
    language = record["language"].lower()
    functions = extract(language, record["original_string"]).functions
    first = functions[0] if functions else None
    yield "code", first.code if first else "", record["code"]
    yield "code_tokens", list(first.code_tokens) if first else [], record["code_tokens"]
    if record["func_name"]:
        yield "name", first.name if first else "", record["func_name"].rpartition(".")[-1]
    if language == "python":
        yield "docstring", first.docstring if first else "", record["docstring"]
        yield "docstring_tokens", list(first.docstring_tokens) if first else [], record["docstring_tokens"]


def show_difference(mined: Any, recorded: Any) -> tuple[str, str]:
    """Both values, texts or lists of them, from shortly before the place where they first differ."""
    place = next(
        (place for place, pair in enumerate(zip(mined, recorded, strict=False)) if pair[0] != pair[1]),
        min(len(mined), len(recorded)),
    )
    start = max(place - SHOWN_BEFORE, 0)
    return cut(mined[start:]), cut(recorded[start:])


def cut(value: Any) -> str:
    """A value as it would be written in Python, not longer than is worth showing."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
