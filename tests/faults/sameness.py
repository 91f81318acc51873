"""Whether a run that was broken off ended as one that never was: the same bytes but for times."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codestrata.files import is_temporary
from codestrata.report.markdown import render_analysis
from codestrata.store import RunDirectory

SEALS = ("checksums.json", "done.json")
TIMES = frozenset(
    {
        "seconds",
        "examples_per_second",
        "tokens_per_second",
        "peak_memory_mib",
        "swap",
        "sessions",
        "computed",
    }
)
"""Keys of the results that hold times, memory, or how often a process had to begin again."""


def list_files(folder: Path) -> dict[str, Path]:
    """Every file in a folder by its path inside, hidden and temporary ones too; and every empty folder."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if not path.is_dir() or not any(path.iterdir())
    }


def read_files(folder: Path) -> dict[str, bytes | None]:
    """What every file in a folder holds; ``None`` of a folder that is empty."""
    return {name: None if path.is_dir() else path.read_bytes() for name, path in list_files(folder).items()}


def list_differences(whole: Path, other: Path) -> list[str]:
    """In what ``other`` differs from the run that was never interrupted; nothing where all is well."""
    return list(find_differences(whole, other))


def find_differences(whole: Path, other: Path) -> Iterator[str]:
    """As ``list_differences``, one by one."""
    wanted, found = list_files(whole), list_files(other)
    yield from (f"{path} is missing" for path in wanted.keys() - found.keys())
    yield from (f"{path} is left over" for path in found.keys() - wanted.keys())
    for path in sorted(wanted.keys() & found.keys()):
        yield from compare_files(path, wanted[path], found[path])
    if not {"experimental_results.json", "done.json"} <= found.keys():
        return
    if faults := RunDirectory(other).check_files():
        yield f"the checksums do not fit: {faults[0]}"
    results = json.loads(found["experimental_results.json"].read_text(encoding="utf-8"))
    if found["results_analysis.md"].read_text(encoding="utf-8") != render_analysis(results):
        yield "results_analysis.md is not what the results say"


def compare_files(path: str, wanted: Path, found: Path) -> Iterator[str]:
    """In what one file differs."""
    if path in SEALS or path == "results_analysis.md":
        return  # they follow from the others
    if path == "events.jsonl":
        yield from find_bad_events(found)
    elif path == "experimental_results.json":
        yield from compare_results(wanted, found)
    elif wanted.is_dir() or found.is_dir():
        yield f"{path} is a folder with nothing in it"
    elif wanted.read_bytes() != found.read_bytes():
        yield f"{path} has other bytes"


def compare_results(wanted: Path, found: Path) -> Iterator[str]:
    """In what two results differ beside times."""
    first, second = (forget_times(json.loads(path.read_text(encoding="utf-8"))) for path in (wanted, found))
    if first != second or list(first) != list(second):
        yield f"experimental_results.json differs: {point_at(first, second)}"


def forget_times(value: Any) -> Any:
    """The results without what may differ between two runs of the same."""
    if isinstance(value, dict):
        return {key: None if key in TIMES else forget_times(entry) for key, entry in value.items()}
    return [forget_times(entry) for entry in value] if isinstance(value, list) else value


def point_at(first: Any, second: Any, place: str = "") -> str:
    """The first place where two JSON values differ."""
    if isinstance(first, dict) and isinstance(second, dict) and list(first) == list(second):
        keys: list[Any] = list(first)
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        keys = list(range(len(first)))
    else:
        return f"{place}: {str(first)[:100]} against {str(second)[:100]}"
    return next(
        point_at(first[key], second[key], f"{place}/{key}") for key in keys if first[key] != second[key]
    )


def find_bad_events(path: Path) -> Iterator[str]:
    """What a log should not have: more torn lines than there were crashes, or no end."""
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            events.append(json.loads(line)["event"])
        except ValueError:
            events.append("torn")
    if "done" not in events or events.count("torn") > events.count("resumed"):
        yield f"events.jsonl tells {events}"


def list_temporaries(folder: Path) -> list[Path]:
    """The temporary files in a folder."""
    return [path for path in folder.rglob("*") if is_temporary(path.name)]


def list_half_files(whole: Path, other: Path) -> list[str]:
    """Files of an unfinished run that are neither as those of the finished one nor one of its steps to there.

    A component's ``component.json`` is first written without scores; times, the log and what resuming needs
    differ in any case, and have hashes of their own.
    """
    apart = (*SEALS, "events.jsonl", "results_analysis.md", "experimental_results.json", "lock")
    wanted, halves = list_files(whole), []
    for path, file in list_files(other).items():
        if path in apart or path.split("/")[0] in ("journal", "checkpoints") or file.is_dir():
            continue
        content = file.read_bytes()
        if path.endswith("component.json") and path in wanted:
            final = json.loads(wanted[path].read_text(encoding="utf-8"))
            if json.loads(content).items() <= final.items():
                continue
        if path not in wanted or content != wanted[path].read_bytes():
            halves.append(path)
    return halves
