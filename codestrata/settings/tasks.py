"""Settings of one task: where its records come from, how they are split, what is asked of the model.

What this does not do: know what a source holds (``data`` does), or open any file.
"""

from dataclasses import dataclass, field
from typing import Literal

from codestrata.errors import SettingsError, shorten
from codestrata.settings.checks import LARGEST_SEED, check_name, check_range

Source = Literal[
    "kata",
    "codesearchnet",
    "mined",
    "file",
    "mbpp",
    "mbxp",
    "humaneval",
    "humaneval-x",
    "humanevalpack",
    "concode",
    "translate",
    "refine",
]
Objective = Literal["generate", "summarize", "complete", "continue", "denoise", "copy", "repair"]
Split = Literal["partition", "repository", "folder", "date", "record"]

FUNCTIONS: tuple[Source, ...] = ("codesearchnet", "mined")
"""Sources of documented functions, which every objective but ``repair`` turns into examples."""
OBJECTIVES: dict[Source, tuple[Objective, ...]] = {
    **dict.fromkeys(FUNCTIONS, ("generate", "summarize", "complete", "continue", "denoise", "copy")),
    "mbxp": ("generate", "complete"),
    "humaneval": ("generate", "complete"),
    "humaneval-x": ("generate", "complete"),
    "humanevalpack": ("generate", "complete", "repair"),
}
"""What may be asked of a source's records; of sources that are missing here, ``generate`` alone."""
ONLY_LANGUAGE: dict[Source, str] = {
    "mbpp": "python",
    "humaneval": "python",
    "concode": "java",
    "translate": "c_sharp",
    "refine": "java",
}
"""The language that a source's targets are written in, where the settings name none."""
NEAR_DUPLICATES = 0.8
"""From which Jaccard similarity on two functions are near duplicates, where the settings do not say."""


@dataclass(frozen=True, kw_only=True)
class ColumnSettings:
    """What the columns of one's own file are called; only the first two must be there."""

    prompt: str = "prompt"
    """Column of what the model is given."""
    target: str = "target"
    """Column of what it should answer."""
    tests: str = "tests"
    """Column of source code that raises when the program before it is wrong."""
    id: str = "id"
    """Column of the examples' names."""
    group: str = "group"
    """Column of what an example must not be separated from when splits are made."""
    date: str = "date"
    """Column of the day an example is from, such as 2024-05-31, for ``split = "date"``."""
    license: str = "license"
    """Column of the SPDX identifier of the licence an example is under."""

    def __post_init__(self) -> None:
        names = list(vars(self).values())
        if not all(names) or len(set(names)) < len(names):
            raise SettingsError(f"tasks.columns is {shorten(names)}: give every column a name of its own.")


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """One task: where its records come from and what is asked of the model."""

    name: str
    """The task's name in files and tables: letters, digits, ``_`` and ``-``."""
    language: str | None = None
    """Programming language of the code; null takes the source's only language, else the task's name."""
    source: Source = "kata"
    """``kata`` (generated), ``mined`` (documented functions of a source tree), ``file`` (one's own prompts
    and targets) or a data set of the table that ``codestrata data list`` prints."""
    path: str | None = None
    """Local file or folder, from the current directory; null means the hub, with ``mined`` the code that is
    installed beside codestrata."""
    columns: ColumnSettings = field(default_factory=ColumnSettings)
    """What the columns of a ``file`` are called."""
    test_source: Source | None = None
    """Where the test examples come from, such as ``humaneval``; null holds them out of the source itself."""
    test_path: str | None = None
    """Local file of the test examples, of ``test_source`` (null: of ``file`` where the source is that)."""
    objective: Objective = "generate"
    """What training asks of a record; prompts and targets of a file stay as they are."""
    evaluation_objective: Objective | None = None
    """What evaluation asks; null takes the training objective."""
    train_examples: int = 1000
    """Most examples to train on."""
    validation_examples: int = 100
    """Most examples held out to choose settings and weights by their loss; a run trains on none of them and
    scores none."""
    test_examples: int = 300
    """Most examples to score."""
    unseen_examples: int = 0
    """Most examples of the second test split (kata: skeletons that no training contains)."""
    split: Split | None = None
    """By what training and test are kept apart: the data's own ``partition``, whole ``repository``, whole
    ``folder`` (those with more than 20 % of the records by what lies in them), commit ``date`` (the newest
    are tested) or single ``record``. Null takes the data's own partitions where it has some, else
    repositories, folders where there is one repository, else records."""
    near_duplicates: float | None = None
    """From which Jaccard similarity on, of the sets of five tokens in a row, an example is a near duplicate
    of another and left out; 1 leaves out equal ones only. Null: 0.8 for functions, 1 for other sources, and
    0.8 for all against ``exclude``."""
    exclude: tuple[str, ...] = ()
    """Evaluation sets whose examples must not be trained on, nor near duplicates of them: local files, or
    ``<source>:<file>`` such as ``humaneval:HumanEval.jsonl.gz``, or the name of another source."""
    licenses: tuple[str, ...] = ()
    """Licences (SPDX identifiers, such as MIT) of the records to take; others, and unknown ones, are left out
    and counted. Empty takes all."""
    keep_secrets: bool = False
    """Take records in which keys, tokens or passwords are found; else they are left out and counted."""
    seed: int = 0
    """Seed of data generation and of held-out splits; the run's own seeds do not change the data."""
    allow_overlap: bool = False
    """Train on examples that are tests too, where the data's own splits share some; how many is noted. Else
    such data is refused."""

    def __post_init__(self) -> None:
        check_name("tasks.name", self.name)
        check_range("tasks.train_examples", self.train_examples, low=1)
        check_range("tasks.validation_examples", self.validation_examples, low=0)
        check_range("tasks.test_examples", self.test_examples, low=1)
        check_range("tasks.unseen_examples", self.unseen_examples, low=0)
        check_range("tasks.near_duplicates", self.near_duplicates, above=0, high=1)
        check_range("tasks.seed", self.seed, low=0, high=LARGEST_SEED)
        self._check_paths()
        self._check_objectives()
        own_splits = self.source in ("codesearchnet", "file") or self.tested_source is not None
        if self.allow_overlap and not own_splits:
            raise SettingsError(
                f"tasks.allow_overlap of task {self.name!r} goes with a tasks.test_path or with source = "
                '"codesearchnet" or "file": elsewhere training and test are kept apart by how they are made.'
            )
        if self.unseen_examples and self.source != "kata":
            raise SettingsError(
                f"tasks.unseen_examples is {self.unseen_examples} for task {self.name!r}: only source = "
                '"kata" has kinds of problem to hold out.'
            )

    @property
    def code_language(self) -> str:
        """The programming language of the code, resolved."""
        return self.language or ONLY_LANGUAGE.get(self.source) or self.name

    @property
    def tested_source(self) -> Source | None:
        """Where the test examples come from if not from the source's own records."""
        if self.test_source is None and self.test_path is not None:
            return "file"
        return self.test_source

    @property
    def is_mined(self) -> bool:
        """Whether anything of the task is read from a source tree, which changes as people work."""
        excluded = any(name == "mined" or name.startswith("mined:") for name in self.exclude)
        return excluded or "mined" in (self.source, self.test_source)

    @property
    def duplicate_threshold(self) -> float:
        """``near_duplicates``, resolved."""
        if self.near_duplicates is not None:
            return self.near_duplicates
        return NEAR_DUPLICATES if self.source in FUNCTIONS else 1.0

    @property
    def excluded_threshold(self) -> float:
        """``near_duplicates``, resolved for what is compared with excluded sets."""
        return NEAR_DUPLICATES if self.near_duplicates is None else self.near_duplicates

    def _check_paths(self) -> None:
        """Refuse what concerns records of sources that read none, and a file that is not named."""
        for key in ("split", "near_duplicates", "exclude", "licenses") if self.source == "kata" else ():
            if getattr(self, key):
                raise SettingsError(
                    f"tasks.{key} is {shorten(getattr(self, key))} for task {self.name!r}, but its source is "
                    "kata, which reads no records: it makes its own, and keeps training and tests apart."
                )
        if self.path is not None and self.source == "kata":
            raise SettingsError(
                f"tasks.path is {shorten(self.path)} for task {self.name!r}, but its source is kata, which "
                'reads no file: set its source to "file" or "codesearchnet" too.'
            )
        if self.source == "file" and self.path is None:
            raise SettingsError(
                f'tasks.path is missing for task {self.name!r}: source = "file" reads a local file.'
            )
        if self.test_path is not None and self.test_source is None and self.source != "file":
            raise SettingsError(
                f"tasks.test_path of task {self.name!r} goes with a tasks.test_source, which says what "
                'the file holds, such as "file" or "humaneval".'
            )
        if self.test_source == "file" and self.test_path is None:
            raise SettingsError(
                f'tasks.test_path is missing for task {self.name!r}: test_source = "file" reads a local file.'
            )
        if "kata" in (self.source, self.test_source) and self.test_source is not None:
            raise SettingsError(
                f"tasks.test_source of task {self.name!r} is {self.test_source!r} with source = "
                f"{self.source!r}: kata has test problems of its own, for itself alone."
            )

    def _check_objectives(self) -> None:
        """Refuse what cannot be asked of a source's records."""
        asked = {
            "objective": (self.source, self.objective),
            "evaluation_objective": (
                self.test_source or self.source,
                self.evaluation_objective or self.objective,
            ),
        }
        for key, (source, objective) in asked.items():
            possible = OBJECTIVES.get(source, ("generate",))
            if objective not in possible:
                raise SettingsError(
                    f"tasks.{key} is {objective!r} for task {self.name!r} with source = {source!r}, of whose "
                    f"records one may ask: {', '.join(possible)}."
                )
