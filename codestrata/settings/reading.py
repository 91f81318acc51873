"""Experiment files and ``--set``: nested plain values, one laid over the other.

An experiment file holds only what differs from a preset; ``--set training.steps=100`` changes one value.

What this does not do: check values; ``tree.build_settings`` does.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codestrata.errors import SettingsError, describe_unknown, shorten
from codestrata.files import open_plain

OFF = "null"
"""How an experiment file and ``--set`` say ``None``, which TOML has no word for: off, or not set."""
RIVALS = {"steps": "epochs", "epochs": "steps"}
LARGEST_FILE_BYTES = 2**20
TOML_PLACE = re.compile(r"\(at line (\d+), column \d+\)$")
LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}""")
"""A dotted key of many parts. Python's reader takes time by the square of their number: hours, for a MiB."""


def read_toml(path: Path) -> dict[str, Any]:
    """The plain values of an experiment file.

    Raises: SettingsError: the file is missing, no plain file, too large or not TOML; with the line if known.
    """
    try:
        with open_plain(path) as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}.") from error
    if len(content) > LARGEST_FILE_BYTES:
        raise SettingsError(f"{path}: larger than {LARGEST_FILE_BYTES / 2**20:g} MiB: no experiment file is.")
    if content.startswith("\ufeff".encode()):
        raise SettingsError(f"{path}:1: starts with a byte order mark: save it as UTF-8 without one.")
    try:
        text = content.decode("utf-8")
        long_key = LONG_KEY.search(text)
        if long_key is not None:
            line = text.count("\n", 0, long_key.start()) + 1
            raise SettingsError(f"{path}:{line}: a name of more than 32 parts: no setting has one.")
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}:{line}: not TOML: not UTF-8 ({error.reason}).") from error
    except tomllib.TOMLDecodeError as error:
        place = TOML_PLACE.search(str(error))
        line = int(place[1]) if place else content.count(b"\n") + 1
        raise SettingsError(f"{path}:{line}: not TOML: {error}.") from error
    except RecursionError as error:
        raise SettingsError(f"{path}: not TOML that can be used: nested too deeply.") from error
    except ValueError as error:  # Python reads no whole number of thousands of digits
        raise SettingsError(f"{path}: not TOML that can be used: {error}.") from error


def merge(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``tree`` with ``changes`` laid over it, section by section; lists are replaced whole.

    Changed ``steps`` turn the ``epochs`` of ``tree`` off, and the other way round.
    """
    merged = dict(tree)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        if RIVALS.get(key) not in changes:
            drop_rival(merged, key, value)
    return merged


def apply_assignment(tree: dict[str, Any], assignment: str) -> None:
    """Change one value of ``tree`` in place, from ``training.steps=100`` or ``tasks.python.path=a.jsonl``.

    The value is read as TOML, and as plain text where it is not TOML; ``null`` turns a setting off. Tasks are
    addressed by name, or all at once by ``*``. Setting ``training.steps`` turns ``training.epochs`` off, and
    the other way round.

    Raises: SettingsError: no ``=``, or a task name that is not in the tree.
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"--set {shorten(assignment)}: expected key=value, such as training.steps=100.")
    value = parse_value(text.strip())
    parts = key.strip().split(".")
    if parts[0] == "tasks" and len(parts) >= 3:
        for task in choose_tasks(tree, parts[1]):
            find_section(task, parts[2:-1], assignment)[parts[-1]] = value
        return
    section = find_section(tree, parts[:-1], assignment)
    section[parts[-1]] = value
    drop_rival(section, parts[-1], value)


def find_section(tree: dict[str, Any], path: Sequence[str], assignment: str) -> dict[str, Any]:
    """The section of ``tree`` at a path, made where there is none.

    Raises: SettingsError: a part of the path holds something else; ``assignment`` is named.
    """
    section = tree
    for part in path:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise SettingsError(f"--set {shorten(assignment)}: {part} holds values, not a section.")
    return section


def drop_rival(section: dict[str, Any], key: str, value: Any) -> None:
    """Turn off the setting that ``key`` replaces: training lasts for steps or for epochs, never both."""
    rival = RIVALS.get(key)
    if rival in section and value not in (None, OFF):
        section[rival] = OFF


def choose_tasks(tree: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The task sections called ``name``, or all of them for ``*``."""
    listed = tree.get("tasks")
    tasks = [task for task in listed if isinstance(task, dict)] if isinstance(listed, list) else []
    chosen = [task for task in tasks if name in ("*", task.get("name"))]
    if not chosen:
        names = [task["name"] for task in tasks if isinstance(task.get("name"), str)]
        raise SettingsError(describe_unknown("task", name, names))
    return chosen


def parse_value(text: str) -> Any:
    """A TOML value, or the text itself where it is not TOML."""
    try:
        tree = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # not TOML, a number too long, brackets too deep
        return text
    return tree["value"] if tree.keys() == {"value"} else text  # more keys: the text went on in another line
