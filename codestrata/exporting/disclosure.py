"""Whether what is exported could give a secret away: by what was trained on, or in a text beside the weights.

What this does not do: look into weights, or find what ``data.secrets`` does not know.
"""

from collections.abc import Mapping
from typing import Any

from codestrata.data.secrets import NOTED, find_secrets
from codestrata.errors import SettingsError
from codestrata.settings.tree import Settings

READ_SUFFIXES = (".json", ".md")
"""Texts that are written beside weights; but for the vocabulary, which is the base's."""
VOCABULARY = "tokenizer.json"


def check_training(results: Mapping[str, Any], settings: Settings) -> None:
    """Refuse a run that trained on records with secrets. Raises: SettingsError: it did."""
    kept = {task.name for task in settings.tasks if task.keep_secrets}
    tasks = results.get("tasks")
    for task in tasks if isinstance(tasks, list) else ():
        notes = task.get("notes") if isinstance(task, Mapping) else None
        found = [note for note in notes or () if isinstance(note, str) and NOTED in note]
        if found and task.get("name") in kept:
            raise SettingsError(
                f"The run trained with keep_secrets on task {task['name']!r}, of which {found[0]}: a model"
                " may repeat them word by word. Train again without keep_secrets, or export with"
                " --allow-secrets."
            )


def check_texts(files: Mapping[str, bytes]) -> None:
    """Refuse texts with a secret in them; ``files`` are names with contents.

    Raises: SettingsError: one has.
    """
    for name, content in files.items():
        if not name.endswith(READ_SUFFIXES) or name == VOCABULARY:
            continue
        found = find_secrets(content.decode("utf-8", errors="replace"))
        if found:
            raise SettingsError(
                f"{name} would be exported with a secret in line {found[0].line} ({found[0].kind}). Take it"
                " out of the run's settings or prompts and run again, or export with --allow-secrets."
            )
