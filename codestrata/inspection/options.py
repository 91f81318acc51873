"""What a file of records is checked for.

What this does not do: check it (``checks`` does).
"""

from dataclasses import dataclass, field

from codestrata.settings.tasks import NEAR_DUPLICATES, ColumnSettings, Objective

MOST_EXAMPLES = 10
"""So many finds of a kind are named; all are counted."""
TEXTS_AT_ONCE = 500
"""After so many records the watcher is told."""
TASK = "check"
"""The name of the task that is tried."""
OPTIONS = {
    f"--set tasks.{TASK}.path=FILE": "SOURCE:FILE",
    f"tasks.{TASK}.language": "--language",
    f"tasks.{TASK}.exclude": "--against",
    f"tasks.{TASK}.columns.": "--columns ",
    f"tasks.{TASK}.columns": "--columns",
    f"tasks.{TASK}.": "tasks.NAME.",
    "--set base.name=": "--base ",
    "base.name": "--base",
}
"""What takes the place of settings, which a check has not."""


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What to check a file for; ``objective`` is what is asked of functions, ``None`` what is usual."""

    base: str = "pocket"
    max_prompt_tokens: int = 512
    max_target_tokens: int = 512
    language: str | None = None
    columns: ColumnSettings = field(default_factory=ColumnSettings)
    objective: Objective = "generate"
    against: tuple[str, ...] = ()
    near_duplicates: float = NEAR_DUPLICATES


def name_options(text: str) -> str:
    """A message about settings as one about the options of a check."""
    for setting, option in OPTIONS.items():
        text = text.replace(setting, option)
    return text
