"""States of a frozen prefix, computed once per example and kept on disk for every later use.

They are used again over epochs, by methods with the same prefix, by other seeds and by later runs. An entry
is one file of states, laid out chunk after chunk: the examples in order of length, cut into chunks that are
always computed whole. So what is stored is a function of the entry's key alone, whoever asked for it first.

    <folder>/states/<key>/states.bin     the states of chunk 0, chunk 1, ...; rows without padding
    <folder>/states/<key>/chunks.json    which chunks are there, with the CRC-32 of each

What this does not do: know what a prefix is (``prefixes``), or when keeping states pays (``training``).
"""

import os
import shutil
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from codestrata.data.batches import EncodedExample, collate, measure_extents, measure_rows
from codestrata.engine.precision import DTYPES, Chosen, compute_in
from codestrata.engine.prefixes import Prefix, States, compute_states
from codestrata.errors import DataError, StorageError
from codestrata.files import hash_json, read_json, write_json
from codestrata.locks import is_locked, open_shared
from codestrata.models.families import find_family
from codestrata.progress import Progress
from codestrata.settings.sections import CacheSettings

FORMAT = 1
CHUNK_TOKENS = 8192
"""Tokens of a chunk, padding included."""
SECONDS_BETWEEN_LISTS = 30.0
"""A process that is killed loses no more of the states than it computed in this time."""
RESERVE_MIB = 1024
"""Disk that is left free."""
STATES_FILE, CHUNKS_FILE = "states.bin", "chunks.json"
BOOKKEEPING = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}
"""What a model's configuration says without deciding what it computes."""


@dataclass(frozen=True, kw_only=True)
class StateUse:
    """What became of the frozen prefix's states in one training.

    ``reason`` says why nothing, or not everything, was kept; ``seconds`` went into computing and storing.
    """

    encoder_blocks: int
    decoder_blocks: int | None
    examples: int
    kept: int
    computed: int
    mib: float
    seconds: float
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class StateStore:
    """Where states are kept, how much of them, and of which base.

    Attributes:
        folder: the cache folder, or ``None`` with the reason why there is none.
        settings: limit and number format.
        base_fingerprint: of the frozen model whose states these are.
    """

    folder: Path | None
    settings: CacheSettings
    base_fingerprint: str

    def open(
        self, model: Any, prefix: Prefix, rows: Sequence[EncodedExample], *, precision: Chosen, pad_id: int
    ) -> "KeptStates | str":
        """The entry for these examples, empty or not; or why there can be none."""
        if self.folder is None or self.settings.states_mib is None:
            return "cache.states_mib is off"
        causal = find_family(model).is_causal
        lengths = measure_extents(measure_rows(rows), causal=causal)
        layout = lay_out(lengths[:, ::-1] if causal else lengths, prefix, width=model.config.hidden_size)
        dtype = DTYPES[self.settings.states_dtype]
        key = hash_json(
            {
                "format": FORMAT,
                "base": self.base_fingerprint,
                "prefix": [prefix.encoder, prefix.decoder],
                "rows": fingerprint_rows(rows),
                "states": self.settings.states_dtype,
                "model": describe_function(model),
                "arithmetic": describe_arithmetic(model.device, precision),
            }
        )
        folder = self.folder / "states" / key
        wanted = layout.starts[-1] * dtype.itemsize
        limit = self.settings.states_mib * 2**20
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
            kept = min(wanted, limit)
            make_room(self.folder / "states", keep=folder, limit=limit - kept)
            missing = kept - measure_disk(folder) + RESERVE_MIB * 2**20 - shutil.disk_usage(folder).free
        except (OSError, StorageError) as error:
            return f"{self.folder} cannot be used: {describe_failure(error)}"
        if missing > 0:
            return f"{self.folder} has too little free disk: {missing // 2**20 + 1} MiB more are needed"
        return KeptStates(
            folder=folder,
            layout=layout,
            dtype=dtype,
            chunks=int(np.searchsorted(layout.starts, limit // dtype.itemsize, side="right")) - 1,
            model=model,
            prefix=prefix,
            rows=rows,
            precision=precision,
            pad_id=pad_id,
        )


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the states of every example lie in the file, in numbers (not bytes).

    Attributes:
        chunks: the examples of every chunk.
        chunk_of: the chunk of every example.
        starts: (chunks + 1) where a chunk begins; the last entry is the whole.
        places: where an example's encoder states begin; its decoder states follow.
        lengths: (N, 2) encoder and decoder states per example.
        width: numbers of one state.
    """

    chunks: tuple[np.ndarray, ...]
    chunk_of: np.ndarray
    starts: np.ndarray
    places: np.ndarray
    lengths: np.ndarray
    width: int


def lay_out(lengths: np.ndarray, prefix: Prefix, *, width: int) -> Layout:
    """The layout for examples of these (encoder, decoder) lengths: chunks of like length, shortest first."""
    lengths = lengths.copy()
    if prefix.decoder is None:
        lengths[:, 1] = 0
    order = np.lexsort((np.arange(len(lengths)), lengths[:, 0], lengths[:, 1]))
    chunks, first, longest = [], 0, np.zeros(2, dtype=np.int64)
    for place, row in enumerate(order):
        longest = np.maximum(longest, lengths[row])
        if place > first and int(longest.sum()) * (place - first + 1) > CHUNK_TOKENS:
            chunks.append(order[first:place])
            first, longest = place, lengths[row]
    chunks.append(order[first:])
    sizes = lengths.sum(1) * width
    places = np.empty(len(lengths), dtype=np.int64)
    places[order] = np.cumsum(sizes[order]) - sizes[order]
    chunk_of = np.empty(len(lengths), dtype=np.int64)
    for number, chunk in enumerate(chunks):
        chunk_of[chunk] = number
    starts = np.array([0, *np.cumsum([int(sizes[chunk].sum()) for chunk in chunks])], dtype=np.int64)
    return Layout(
        chunks=tuple(chunks), chunk_of=chunk_of, starts=starts, places=places, lengths=lengths, width=width
    )


@dataclass(kw_only=True)
class KeptStates:
    """The states of one prefix for one list of examples; what is not on disk is computed when asked for.

    Only the first ``chunks`` chunks are kept: what the size limit allows. Used as a context: while it is open
    nobody removes the entry to make room, and its file can be read whatever happens to the folder.
    """

    folder: Path
    layout: Layout
    dtype: torch.dtype
    chunks: int
    model: Any
    prefix: Prefix
    rows: Sequence[EncodedExample]
    precision: Chosen
    pad_id: int
    computed: int = 0
    seconds: float = 0.0
    reason: str | None = None
    filled: dict[int, int] = field(default_factory=dict)
    verified: set[int] = field(default_factory=set)
    file: Any = None
    mapped: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.mapped = None
        if self.file is not None:
            self.file.close()

    def fill(self, numbers: Iterable[int], *, progress: Progress, label: str) -> None:
        """Compute and store the chunks of these examples that are not there yet, as far as they are kept.

        A disk that fills up or fails ends the keeping, with ``reason``; nothing is lost but time.
        """
        started = time.perf_counter()
        wanted = sorted({int(self.layout.chunk_of[number]) for number in numbers})
        if wanted and wanted[-1] >= self.chunks:
            self.reason = "cache.states_mib is too small for all examples"
        try:
            self.file = open_shared(self.folder / STATES_FILE)
            self.filled = self._read_chunks()
            missing = [chunk for chunk in wanted if chunk < self.chunks and not self._verify(chunk)]
            self._compute(missing, progress, label)
            if self.verified:
                self.mapped = np.memmap(self.file, dtype=np.uint8, mode="r")
        except (OSError, StorageError) as error:
            self.chunks, self.reason = 0, f"{self.folder} cannot be written: {describe_failure(error)}"
            with suppress(OSError):  # a full disk is needed by others
                (self.folder / STATES_FILE).unlink(missing_ok=True)
        self.seconds += time.perf_counter() - started

    def _compute(self, missing: Sequence[int], progress: Progress, label: str) -> None:
        if not missing:
            return
        progress.start(label, len(missing))
        listed_at = time.monotonic()
        try:
            for done, chunk in enumerate(missing, start=1):
                content = self._compute_chunk(chunk)
                self.file.seek(int(self.layout.starts[chunk]) * self.dtype.itemsize)
                write_all(self.file, content)
                self.filled[chunk] = zlib.crc32(content)
                self.verified.add(chunk)
                progress.advance(done)
                if time.monotonic() - listed_at > SECONDS_BETWEEN_LISTS:
                    self._list_chunks()
                    listed_at = time.monotonic()
        finally:  # what was computed before an interrupt is there for the next time
            self._list_chunks()

    def _list_chunks(self) -> None:
        """Make what is stored so far durable, then say that it is there."""
        os.fsync(self.file.fileno())
        listed = {str(chunk): crc for chunk, crc in sorted(self.filled.items())}
        write_json(self.folder / CHUNKS_FILE, listed)

    def _compute_chunk(self, chunk: int) -> bytes:
        members = self.layout.chunks[chunk]
        states = self._run(members)
        self.computed += len(members)
        parts = []
        for place, row in enumerate(members):
            for part, length in zip(states, self.layout.lengths[row], strict=True):
                if part is not None:
                    parts.append(part[place, :length].to("cpu", self.dtype).reshape(-1))
        return torch.cat(parts).view(torch.uint8).numpy().tobytes()

    def _run(self, numbers: Sequence[int] | np.ndarray) -> States:
        device = self.model.device
        rows = [self.rows[number] for number in numbers]
        batch = collate(rows, self.pad_id, causal=find_family(self.model).is_causal)
        with compute_in(self.precision, device):
            return compute_states(
                self.model, self.prefix, {key: tensor.to(device) for key, tensor in batch.items()}
            )

    def read(self, numbers: Sequence[int]) -> States:
        """The states of a batch, padded with zeros, fp32, on the model's device."""
        longest = self.layout.lengths[list(numbers)].max(0)
        encoder, decoder = (torch.zeros(len(numbers), int(length), self.layout.width) for length in longest)
        kept = self.layout.chunk_of[list(numbers)] < self.chunks
        if kept.any():
            for place in map(int, np.flatnonzero(kept)):
                self._copy(numbers[place], (encoder[place], decoder[place]))
        if not kept.all():
            places = [int(place) for place in np.flatnonzero(~kept)]
            states = self._run([numbers[place] for place in places])
            self.computed += len(places)
            for index, place in enumerate(places):
                lengths = self.layout.lengths[numbers[place]]
                for target, source, length in zip((encoder, decoder), states, lengths, strict=True):
                    if source is not None:
                        target[place, :length] = self._round(source[index, :length])
        device = self.model.device
        return States(encoder.to(device), None if self.prefix.decoder is None else decoder.to(device))

    def _round(self, states: torch.Tensor) -> torch.Tensor:
        """As if they came from disk: which examples are kept shows in the last bits alone."""
        return states.to(self.dtype).float().cpu()

    def _copy(self, number: int, targets: Sequence[torch.Tensor]) -> None:
        start = int(self.layout.places[number]) * self.dtype.itemsize
        for target, length in zip(targets, self.layout.lengths[number], strict=True):
            end = start + int(length) * self.layout.width * self.dtype.itemsize
            content = (
                torch.frombuffer(bytearray(self.mapped[start:end]), dtype=self.dtype) if length else target
            )
            target[:length] = content.view(int(length), self.layout.width)
            start = end

    def _read_chunks(self) -> dict[int, int]:
        path = self.folder / CHUNKS_FILE
        try:
            stored = read_json(path) if path.exists() else {}
            return {int(chunk): int(crc) for chunk, crc in stored.items()}
        except (DataError, ValueError, AttributeError, TypeError):
            return {}  # a damaged list: everything is computed again

    def _verify(self, chunk: int) -> bool:
        """Whether the chunk is on disk as it was written."""
        if chunk in self.verified:
            return True
        if chunk not in self.filled:
            return False
        first, last = (int(self.layout.starts[place]) * self.dtype.itemsize for place in (chunk, chunk + 1))
        self.file.seek(first)
        content = self.file.read(last - first)
        if len(content) < last - first or zlib.crc32(content) != self.filled[chunk]:
            return False
        self.verified.add(chunk)
        return True

    def describe(self, numbers: Iterable[int]) -> StateUse:
        """What became of these examples' states."""
        used = {int(number) for number in numbers}
        kept = [number for number in used if self.layout.chunk_of[number] < self.chunks]
        sizes = self.layout.lengths[kept].sum() if kept else 0
        return StateUse(
            encoder_blocks=self.prefix.encoder,
            decoder_blocks=self.prefix.decoder,
            examples=len(used),
            kept=len(kept),
            computed=self.computed,
            mib=float(sizes) * self.layout.width * self.dtype.itemsize / 2**20,
            seconds=self.seconds,
            reason=self.reason,
        )


def describe_failure(error: OSError | StorageError) -> str | None:
    """What the disk said."""
    return error.reason if isinstance(error, StorageError) else error.strerror


def refuse_states(prefix: Prefix, examples: int, reason: str) -> StateUse:
    """A training whose prefix is computed in every step, and why."""
    return StateUse(
        encoder_blocks=prefix.encoder,
        decoder_blocks=prefix.decoder,
        examples=examples,
        kept=0,
        computed=0,
        mib=0.0,
        seconds=0.0,
        reason=reason,
    )


def fingerprint_rows(rows: Sequence[EncodedExample]) -> str:
    """SHA-256 over the token ids of the examples, in their order."""
    known = getattr(rows, "fingerprint", None)
    if isinstance(known, str):
        return known
    return hash_json([[list(map(int, row.prompt_ids)), list(map(int, row.target_ids))] for row in rows])


def describe_arithmetic(device: torch.device, precision: Chosen) -> Mapping[str, Any]:
    """What the last bits of states depend on besides weights and tokens."""
    import transformers

    return {
        "device": device.type if device.type == "cpu" else f"{device.type} {describe_device(device)}",
        "precision": precision,
        "threads": torch.get_num_threads(),
        "matmul": torch.get_float32_matmul_precision(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def describe_device(device: torch.device) -> str:
    """The accelerator's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def describe_function(model: Any) -> Mapping[str, Any]:
    """What a model computes from its weights: its configuration, but for who wrote it down and where."""
    values = model.config.to_dict()
    return {key: values[key] for key in sorted(values.keys() - BOOKKEEPING)} | {
        "attention": model.config._attn_implementation
    }


def make_room(folder: Path, *, keep: Path, limit: int) -> None:
    """Forget the entries that were not used for longest until the others come to at most ``limit`` bytes.

    An entry that some process has open stays.
    """
    others = [entry for entry in folder.iterdir() if entry.is_dir() and entry != keep]
    sizes = {entry: measure_disk(entry) for entry in others}
    for entry in sorted(others, key=lambda entry: entry.stat().st_mtime):
        if sum(sizes.values()) <= limit:
            return
        if not is_locked(entry / STATES_FILE):
            shutil.rmtree(entry, ignore_errors=True)
            del sizes[entry]


def measure_disk(folder: Path) -> int:
    """Bytes that a folder's files take; a file with holes takes less than its size."""
    found = [path.stat() for path in folder.iterdir() if path.is_file()]
    return sum(getattr(entry, "st_blocks", -(-entry.st_size // 512)) * 512 for entry in found)


def write_all(file: Any, content: bytes) -> None:
    """Write all of ``content`` where the file stands; a full disk raises here, not when it is read."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]
