"""The tasks of CodeTask-CL that are no summarisation, out of CodeXGLUE's original files or from the hub.

    concode     a sentence, and the fields and methods of the class around it -> a Java method
    translate   a Java method -> the same method in C#, or back
    refine      a Java method with a fault, its names made plain -> the method without it

Prompts and targets are the original texts: no words are put before them to name the task, as the component
that answers is chosen by task. The stream's third task, Ruby summarisation, is ``codesearchnet`` with the
objective ``summarize``.

What this does not do: split what has no test file of its own (``splits`` does), or run the answers: these
sets have no tests.

Sources: Yadav et al. 2023, arXiv:2307.02435 (the stream); Lu et al. 2021 (CodeXGLUE), arXiv:2102.04664 (the
files).
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from codestrata.data.catalogue import find_data_set
from codestrata.data.codesearchnet import PARTITIONS
from codestrata.data.rows import decode_lines, read_rows
from codestrata.data.sourced import Loaded, Partition, SourcedExample
from codestrata.data.tables import read_text, require_text
from codestrata.errors import DataError, SettingsError, describe_unknown
from codestrata.files import open_plain, read_lines
from codestrata.hub import load_hub_splits
from codestrata.records import Example
from codestrata.settings.tasks import Objective, Source, TaskSettings

Texts = tuple[int, str, str]
"""A line, or the number of a record, with the two texts of it: what is given, and what is answered."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a set lies in files: the endings of the two sides, and what the hub calls their columns.

    Where both endings are one, a line holds both sides, under the columns' names.
    """

    endings: tuple[str, str]
    columns: tuple[str, str]

    @property
    def is_parallel(self) -> bool:
        """Whether line n of one file belongs to line n of another."""
        return self.endings[0] != self.endings[1]

    def turn(self) -> "Layout":
        """The other way round: answers are given, and what was given is answered."""
        return Layout(self.endings[::-1], self.columns[::-1])


LAYOUTS: Mapping[Source, Layout] = {
    "concode": Layout((".json", ".json"), ("nl", "code")),
    "translate": Layout((".java", ".cs"), ("java", "cs")),
    "refine": Layout((".buggy", ".fixed"), ("buggy", "fixed")),
}


def load_codetask(settings: TaskSettings, path: Path | None, objective: Objective) -> Loaded:
    """The pairs of one of the three sets as examples, in their order; those without an answer are counted.

    Args:
        settings: the task's; of ``translate`` the language decides which side is answered.
        path: a folder, whose files say by name which part they are (``train``, ``valid``, ``dev`` or
            ``test``), or one file; of a pair either one, the other is found by its name. ``None`` takes the
            hub.
        objective: ``generate``, which is all that one may ask.

    Raises:
        DataError: no such file, no partner, another number of lines in it, or a text that is missing or
            empty; with the place.
        HubError: the hub could not be reached.
        SettingsError: the set has no such language.
    """
    source, layout = settings.source, choose_layout(settings)
    license = find_data_set(source).license
    examples: list[SourcedExample] = []
    dropped: Counter[str] = Counter()
    for part, pairs in read_parts(settings, path, layout):
        for line, given, answered in pairs:
            if not answered:
                dropped["no code"] += 1
                continue
            example = Example(identifier=f"{source}/{part}/{line}", prompt=given, target=answered)
            partition = find_partition(part)
            examples.append(SourcedExample(example=example, partition=partition, license=license, line=line))
    if not examples:
        reasons = f" (left out: no code: {dropped['no code']})" if dropped else ""
        raise DataError(f"holds no {source} examples{reasons}", path=path or source)
    return Loaded(examples=tuple(examples), dropped=dict(dropped))


def choose_layout(settings: TaskSettings) -> Layout:
    """How the set lies, with the side first that is given. Raises: SettingsError: it has no such language."""
    languages = find_data_set(settings.source).languages
    if settings.code_language not in languages:
        asked = f"language of {settings.source}"
        raise SettingsError(describe_unknown(asked, settings.code_language, languages))
    layout = LAYOUTS[settings.source]
    is_back = settings.source == "translate" and settings.code_language == "java"
    return layout.turn() if is_back else layout


def find_partition(part: str) -> Partition | None:
    """What a file or a split of the hub of this name is for; ``None`` where the name does not say."""
    found: dict[str, Partition] = {"train": "train", "validation": "validation", "test": "test"}
    return found.get(PARTITIONS.get(part, ""))


def read_parts(
    settings: TaskSettings, path: Path | None, layout: Layout
) -> Iterator[tuple[str, Iterable[Texts]]]:
    """(name of a part, its pairs) for every file or pair of files, or for every split of the hub."""
    if path is None:
        yield from read_hub(settings, layout)
        return
    for file in list_files(path, layout):
        part = file.name.partition(".")[0]
        yield part, read_parallel(file, layout) if layout.is_parallel else read_records(file, layout)


def read_hub(settings: TaskSettings, layout: Layout) -> Iterator[tuple[str, Iterable[Texts]]]:
    """(split, its pairs) for every split of the hub's data set."""
    place = find_data_set(settings.source).hub
    assert place is not None  # all three lie there
    splits = load_hub_splits(
        place.name, place.configs[settings.code_language], task=settings.name, revision=place.revision
    )
    for name, split in splits.items():
        yield name, read_pairs(enumerate(split, start=1), layout, f"{place.name}/{name}")


def list_files(path: Path, layout: Layout) -> list[Path]:
    """The file of what is given, of every part. Raises: DataError: there is none."""
    given, answered = layout.endings
    if not os.path.lexists(path):
        raise DataError("no such file or folder", path=path)
    if not path.is_dir():
        if not path.name.endswith((given, answered)) and layout.is_parallel:
            raise DataError(
                f"unknown kind of file: expected one that ends in {given} or {answered}", path=path
            )
        return [path]
    parts = sorted({file.name.removesuffix(file.suffix) for file in list_sides(path, layout)})
    if not parts:
        expected = f"train.*{given} with train.*{answered}" if layout.is_parallel else f"train{given}"
        raise DataError(f"the folder holds no file of this set, such as {expected}", path=path)
    return [path / f"{part}{given}" for part in parts]


def list_sides(folder: Path, layout: Layout) -> list[Path]:
    """The files in a folder that have one of the two endings, and a name that begins with a part's."""
    return [
        file
        for file in folder.iterdir()
        if file.suffix in layout.endings and file.name.partition(".")[0] in PARTITIONS
    ]


def read_records(path: Path, layout: Layout) -> Iterator[Texts]:
    """The pairs of a file with both sides in every line."""
    yield from read_pairs(read_rows(path), layout, str(path))


def read_pairs(
    rows: Iterable[tuple[int, Mapping[str, object]]], layout: Layout, place: str
) -> Iterator[Texts]:
    """The pairs of records. Raises: DataError: a field is missing, no text or (the given one) empty."""
    given, answered = layout.columns
    for line, row in rows:
        prompt = require_text(row, given, place, line).strip()
        if not prompt:
            raise DataError(f"field {given!r} is empty", path=place, line=line)
        if answered not in row:
            require_text(row, answered, place, line)
        yield line, prompt, (read_text(row, answered, place, line) or "").strip()


def read_parallel(path: Path, layout: Layout) -> Iterator[Texts]:
    """The pairs of two files, line by line.

    Raises: DataError: one of the two is not there, ends before the other, or holds an empty line.
    """
    stem = path.name.removesuffix(path.suffix)
    files = [path.with_name(f"{stem}{ending}") for ending in layout.endings]
    for file, other in (files, files[::-1]):
        if not os.path.lexists(file):
            raise DataError(
                f"its partner {file.name} is missing: line by line they belong together", path=other
            )
    sides = [read_texts(file) for file in files]
    for line, texts in enumerate(zip_longest(*sides), start=1):
        for file, other, text in zip(files, files[::-1], texts, strict=True):
            if text is None:
                fault = f"ends before {other.name}: line by line they belong together"
                raise DataError(fault, path=file, line=line)
            if not text:
                fault = f"the line is empty: fill it, or take it out here and in {other.name}"
                raise DataError(fault, path=file, line=line)
        yield line, texts[0], texts[1]


def read_texts(path: Path) -> Iterator[str]:
    """The lines of a file without what surrounds them. Raises: DataError: it cannot be read."""
    try:
        with open_plain(path) as file:
            for text in decode_lines(read_lines(file, path), path, "save it as UTF-8"):
                yield text.strip()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error
