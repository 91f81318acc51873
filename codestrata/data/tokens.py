"""Texts as token ids: made once, kept under what decides them, and read back without loading them.

A table of ids lies in ``<folder>/tokens/<key>/``, where the key is SHA-256 over the tokenizer's behaviour and
the texts. Tables are only ever added, so a folder may be shared by runs and by processes at work at once; it
may be deleted whenever none is.

What this does not do: cut to a limit or make batches (``batches`` does), or bound the folder's size.
"""

import hashlib
import json
import os
import shutil
import tempfile
import tokenize as python_tokens
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from codestrata.errors import ModelError
from codestrata.files import hash_json, hash_text

FORMAT = "codestrata token table 2"
TEXTS_PER_BATCH = 4096
"""Texts given to the tokenizer at once: enough to keep every core busy, few enough to bound the memory."""
PROBES = ("", " ", "def f(x):\n\treturn  x + 1.5  # naïve 漢字\n")

Part = Literal["whole", "prompt", "continuation"]
"""What a text is of its row, and so which special tokens stand around it.

``whole``: all of it, framed as the tokenizer frames texts. ``prompt``: the beginning, which something
follows: what the tokenizer puts first stays, the end token that some put last does not; never empty.
``continuation``: what follows: no special tokens but one end token.
"""

Ids = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]
Report = Callable[[int], None]
"""Called with the number of texts done so far."""

DAMAGE = (EOFError, OSError, ValueError, OverflowError, SyntaxError, python_tokens.TokenError)
"""What numpy raises on a file that is missing, cut short or has a header that says nonsense."""


@dataclass(frozen=True, eq=False)
class TokenTable(Sequence[Ids]):
    """Rows of token ids in one flat array: row i is ``ids[starts[i]:starts[i + 1]]``, as a view.

    ``kept`` is the folder on disk that the arrays are mapped from, ``None`` where they are in memory;
    ``note`` says why a table that should have been kept was not.
    """

    ids: Ids
    starts: Counts
    kept: Path | None = None
    note: str | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: Any) -> Any:
        """One row; a slice gives a list of rows. No ids are copied."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]  # counts from the end, and raises IndexError, as every sequence does
        return self.ids[self.starts[number] : self.starts[number + 1]]

    @property
    def lengths(self) -> Counts:
        """The number of tokens of every row."""
        return np.diff(self.starts)


def tokenize(
    texts: Sequence[str],
    tokenizer: Any,
    *,
    folder: Path | None,
    report: Report | None = None,
    part: Part = "whole",
) -> TokenTable:
    """Token ids of every text, special tokens included and nothing cut, from ``folder`` where they are kept.

    A fast tokenizer works on all cores (``TOKENIZERS_PARALLELISM=false`` in the environment forbids it).

    Args:
        texts: in the order of the rows.
        tokenizer: any that ``transformers`` loads.
        folder: where tables are kept; ``None`` keeps nothing. One that cannot be written, or a tokenizer that
            cannot be described, is no error: the table is in memory, and its ``note`` says why.
        report: told of the progress.
        part: which special tokens stand around a text.
    """
    if folder is None:
        return build_table(texts, tokenizer, report, part=part)
    description = describe_tokenizer(tokenizer)
    if description is None:
        note = f"Token ids were not kept: {type(tokenizer).__name__} cannot say what decides its ids."
        return replace(build_table(texts, tokenizer, report, part=part), note=note)
    if part != "whole":
        description = hash_json([description, part, tokenizer.bos_token_id, tokenizer.eos_token_id])
    entry = folder / "tokens" / hash_texts(description, texts)
    table = read_table(entry, len(texts))
    if table is not None:
        if report is not None:
            report(len(texts))
        return table
    built = build_table(texts, tokenizer, report, part=part)
    try:
        write_table(entry, built)
    except OSError as error:
        return replace(built, note=f"Token ids were not kept in {folder}: {error.strerror or error}.")
    table = read_table(entry, len(texts))
    return built if table is None else table


def build_table(
    texts: Sequence[str], tokenizer: Any, report: Report | None = None, *, part: Part = "whole"
) -> TokenTable:
    """The table in memory, some thousand texts at a time."""
    parts, lengths = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)]
    for first in range(0, len(texts), TEXTS_PER_BATCH):
        rows = encode_texts(texts[first : first + TEXTS_PER_BATCH], tokenizer, part=part)
        lengths.append(np.array([len(row) for row in rows], np.int64))
        parts.append(np.fromiter(chain.from_iterable(rows), np.int32, count=int(lengths[-1].sum())))
        if report is not None:
            report(first + len(rows))
    ids, starts = np.concatenate(parts), np.cumsum(np.concatenate(lengths))
    ids.flags.writeable = starts.flags.writeable = False  # as those mapped from a file are
    return TokenTable(ids, starts)


def encode_texts(texts: Sequence[str], tokenizer: Any, *, part: Part = "whole") -> list[list[int]]:
    """Token ids of each text, special tokens included; none where there are no texts.

    Raises: ModelError: the tokenizer has no end token, without which no row in parts can end.
    """
    if not texts:
        return []
    # verbose=False: the tokenizer's warning about its model's length is ours to give, as a count.
    if part == "whole":
        return list(tokenizer(list(texts), verbose=False)["input_ids"])
    end = tokenizer.eos_token_id
    if end is None:
        raise ModelError(
            f"{type(tokenizer).__name__} has no end-of-sequence token, by which answers end: name another "
            "with --set base.tokenizer=FOLDER."
        )
    if part == "continuation":
        rows = tokenizer(list(texts), verbose=False, add_special_tokens=False)["input_ids"]
        return [[*ids, end] for ids in rows]
    has_end = tokenizer("", verbose=False)["input_ids"][-1:] == [end]
    first = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    rows = tokenizer(list(texts), verbose=False)["input_ids"]
    return [(ids[:-1] if has_end and ids[-1:] == [end] else list(ids)) or [first] for ids in rows]


def count_leading(tokenizer: Any) -> int:
    """How many special tokens the tokenizer puts before a text, such as a begin token."""
    text = "a"
    whole, bare = (
        tokenizer(text, verbose=False, add_special_tokens=special)["input_ids"] for special in (True, False)
    )
    return next((n for n in range(len(whole)) if list(whole[n : n + len(bare)]) == list(bare)), 0)


def cut_prompt(ids: Any, limit: int, *, leading: int | None) -> Any:
    """At most ``limit`` of a prompt's ids, list or array.

    A prompt that its answer goes on from keeps its end, and its ``leading`` first tokens as far as they leave
    room for one of the text. ``None`` is for all others: they keep their beginning.
    """
    if leading is None or len(ids) <= limit:
        return ids[:limit]
    kept = min(leading, limit - 1)
    first, last = ids[:kept], ids[len(ids) - limit + kept :]
    return np.concatenate([first, last]) if isinstance(ids, np.ndarray) else [*first, *last]


def encode_prompts(prompts: Sequence[str], tokenizer: Any, *, causal: bool) -> list[list[int]]:
    """Token ids of prompts as a model is asked them: a ``causal`` one goes on from their last token."""
    return encode_texts(prompts, tokenizer, part="prompt" if causal else "whole")


def hash_texts(description: str, texts: Iterable[str]) -> str:
    """The key of a table: SHA-256 over format, tokenizer and texts; each is led by its length."""
    digest = hashlib.sha256()
    for text in chain((FORMAT, description), texts):
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def describe_tokenizer(tokenizer: Any) -> str | None:
    """SHA-256 over all that decides a tokenizer's ids; ``None`` where it cannot be told.

    That is its class and its libraries' versions, what it would save (the backend's own serialisation of a
    fast one, the files of a slow one), and the ids it gives to a few probes, which shows switches that are
    not saved. How it was last told to pad or truncate is left out: tables do neither.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content: str | dict[str, str] | None
    if backend is not None:
        saved = json.loads(backend.to_str())
        content = hash_text(json.dumps({**saved, "padding": None, "truncation": None}))
    elif hasattr(tokenizer, "save_pretrained"):
        content = read_saved_files(tokenizer)
    else:
        content = None
    if content is None:
        return None
    kind = type(tokenizer)
    special = "".join(map(str, getattr(tokenizer, "all_special_tokens", ())))
    return hash_json(
        {
            "class": f"{kind.__module__}.{kind.__qualname__}",
            "versions": [version("transformers"), version("tokenizers")],
            "content": content,
            "probes": encode_texts([*PROBES, special], tokenizer),
        }
    )


def read_saved_files(tokenizer: Any) -> dict[str, str] | None:
    """SHA-256 of every file that a tokenizer saves, by name; ``None`` where it cannot be saved."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    except (NotImplementedError, OSError):
        return None


def read_table(entry: Path, rows: int) -> TokenTable | None:
    """The table that lies in ``entry``, mapped into memory; ``None`` where there is none or it is damaged."""
    try:
        starts = np.lib.format.open_memmap(entry / "starts.npy", mode="r")
        ids = np.lib.format.open_memmap(entry / "ids.npy", mode="r")
        checksums = np.load(entry / "checksums.npy")
    except DAMAGE:
        return None
    is_sound = (
        (starts.dtype, starts.shape) == (np.dtype(np.int64), (rows + 1,))
        and (ids.dtype, ids.ndim) == (np.dtype(np.int32), 1)
        and (starts[0], starts[-1]) == (0, len(ids))
        and bool(np.all(starts[1:] >= starts[:-1]))
        and np.array_equal(checksums, compute_checksums(starts, ids))
    )
    # asarray: plain views of the mapped memory, of which slices are made in a tenth of the time.
    return TokenTable(np.asarray(ids), np.asarray(starts), kept=entry) if is_sound else None


def compute_checksums(starts: npt.NDArray[np.int64], ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The CRC-32 of each array's bytes: a changed bit would be a changed example."""
    return np.array([zlib.crc32(np.ascontiguousarray(array).data) for array in (starts, ids)])


def write_table(entry: Path, table: TokenTable) -> None:
    """Put the table at ``entry`` in one step, in the place of a damaged one; a sound one stays.

    Raises: OSError: the folder cannot be written.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(dir=entry.parent, prefix=f".{entry.name[:8]}."))
    try:
        fresh = workplace / "fresh"
        fresh.mkdir()
        checksums = compute_checksums(table.starts, table.ids)
        for name, array in (("starts", table.starts), ("ids", table.ids), ("checksums", checksums)):
            with (fresh / f"{name}.npy").open("wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
        try:
            if entry.exists() and read_table(entry, len(table)) is None:
                os.rename(entry, workplace / "damaged")
            os.rename(fresh, entry)
        except OSError:
            if read_table(entry, len(table)) is None:  # else another process was first
                raise
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
