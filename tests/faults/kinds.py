"""What kind of file a path of a run is, for counting."""

from pathlib import Path

from codestrata.files import is_temporary

FOUNDING = ("lora_", "full_")
TOP = {
    "settings.toml": "settings",
    "environment.json": "environment",
    "events.jsonl": "events",
    "lock": "lock",
    "experimental_results.json": "results",
    "results_analysis.md": "analysis",
    "checksums.json": "checksums",
    "done.json": "done",
    "journal": "journal",
    "checkpoints": "checkpoint",
}


def describe_place(run: Path, path: Path) -> str:
    """What kind of file a path of a run is."""
    if not path.is_relative_to(run):
        return "run folder" if run.is_relative_to(path) else "cache"
    parts = path.relative_to(run).parts
    if not parts:
        return "run folder"
    name = path.name
    if is_temporary(name):
        name = name[1 : name.rindex(".", 0, name.rindex("."))]
    first = name if len(parts) == 1 else parts[0]
    kind = TOP.get(first)
    if kind in ("journal", "checkpoint") and (run / "done.json").exists():
        return "clearing"
    if kind == "journal" and parts[1:2] == ("sessions",):
        return "sessions"
    if kind is not None:
        return kind
    if name in ("predictions.jsonl", "scores.jsonl"):
        return name.removesuffix(".jsonl")
    if first == "methods" or first.startswith(FOUNDING):
        return "component"
    return "predictions"  # their folders
