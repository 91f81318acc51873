"""The process that computes: its threads, what its C library does with freed memory, its random draws.

After every training step glibc hands large buffers back to the system, and the next step pays for getting
them again page by page: up to half of a step's time on a CPU. Told so, it keeps them.

What this does not do: choose the device or the number format.
"""

import ctypes
import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

# glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 2**31 - 1
"""Freed memory that stays with the process: as much as an int can say."""
LARGEST_BUFFERS = (2**30, 32 * 2**20)
"""Buffers up to this size come from kept memory; older C libraries refuse more than 32 MiB."""
PADDING_BYTES = 64 * 2**20
"""Asked of the system at once where kept memory runs out."""
QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True, kw_only=True)
class Host:
    """What was set for this process: torch's CPU threads, and how the C library was told to behave."""

    threads: int
    allocator: str


def prepare_host(*, threads: int | None, keep_memory: bool) -> Host:
    """Set threads and allocator for the rest of the process; says what was set.

    Args:
        threads: torch's CPU threads; ``None`` takes one for every physical core this process may use, or
            what OMP_NUM_THREADS says.
        keep_memory: keep large freed buffers, where the C library can be told so.
    """
    chosen = threads if threads is not None else count_threads()
    if chosen != torch.get_num_threads():
        torch.set_num_threads(chosen)
    allocator = keep_buffers() if keep_memory else "as the system has it"
    return Host(threads=torch.get_num_threads(), allocator=allocator)


def count_threads() -> int:
    """Physical cores that this process may use: hardware threads of one core slow matrix products down."""
    if os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()
    cores = [int(torch.cpu.get_capabilities().get("num_physical_cores") or torch.get_num_threads())]
    if hasattr(os, "sched_getaffinity"):
        cores.append(len(os.sched_getaffinity(0)))
    quota = read_quota(QUOTA_FILE)
    if quota is not None:
        cores.append(math.ceil(quota))
    return max(1, min(cores))


def read_quota(path: Path) -> float | None:
    """CPUs' worth of time that a Linux control group grants; ``None`` without a limit."""
    try:
        granted, period = path.read_text(encoding="ascii").split()
        return int(granted) / int(period)
    except (OSError, ValueError):  # no control group, or "max"
        return None


def keep_buffers() -> str:
    """Tell glibc to keep large freed buffers; says what was set, or why nothing was.

    ``MALLOC_*`` settings of the user, and another allocator in glibc's place, are left alone.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return f"as the system has it (no glibc on this {platform.system()})"
    own = sorted(name for name in os.environ if name.startswith("MALLOC_") or name == "LD_PRELOAD")
    if own:
        return f"as {', '.join(own)} says"
    library = ctypes.CDLL(None)
    largest = next((size for size in LARGEST_BUFFERS if library.mallopt(M_MMAP_THRESHOLD, size)), None)
    kept = library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    padded = library.mallopt(M_TOP_PAD, PADDING_BYTES)
    if largest is None or not kept or not padded:
        return "as the system has it (glibc refused)"
    return f"glibc keeps freed buffers up to {largest // 2**20} MiB"


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random draws follow from ``seed`` inside; the caller's random state comes back afterwards."""
    state = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            if state is not None:
                torch.mps.set_rng_state(state)
