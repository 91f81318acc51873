"""The machine a benchmark runs on: its facts, its fastest matrix products, and a fresh start for its memory.

What this does not do: choose threads or allocator for codestrata (``codestrata.engine.host`` does).
"""

import ctypes
import gc
import os
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from codestrata.engine.host import count_threads
from codestrata.engine.precision import choose_precision
from codestrata.environment import describe_environment

FLAGS = ("amx_bf16", "amx_tile", "avx512_bf16", "avx512f", "avx2")
# glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
DEFAULT_TOP_PAD = 128 * 1024
LARGEST_DYNAMIC_THRESHOLD = 32 * 2**20
WARM_UP_PRODUCTS = 2


def prepare_process(threads: int | None) -> None:
    """Set torch's CPU threads (``None``: one for every physical core); no progress bars of libraries."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    # PEFT reads a property that transformers has renamed.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
    chosen = count_threads() if threads is None else threads
    if chosen != torch.get_num_threads():
        torch.set_num_threads(chosen)


def set_imports_aside() -> None:
    """Spare the garbage collector what the imports made, so that ``start_fresh`` takes no half second."""
    gc.collect()
    gc.freeze()


def describe_machine(*, peak_size: int, peak_seconds: float) -> dict[str, Any]:
    """Processor, versions, threads, allocator, and the matrix product peaks measured now, in GFLOP/s."""
    facts = describe_environment(torch.device("cpu"))
    capabilities = torch.cpu.get_capabilities()
    return {
        **facts,
        "physical_cores": capabilities.get("num_physical_cores"),
        "cpu_flags": [flag for flag in FLAGS if flag in read_cpu_flags()],
        "allocator": " ".join(part for part in platform.libc_ver() if part) or "unknown",
        "preloaded": os.environ.get("LD_PRELOAD") or None,
        "peak_size": peak_size,
        "matmul_gflops": {
            "fp32": measure_matmul_peak(torch.float32, size=peak_size, seconds=peak_seconds),
            # Without instructions for it a single product of this size takes a minute.
            "bf16": measure_matmul_peak(torch.bfloat16, size=peak_size, seconds=peak_seconds)
            if choose_precision("auto", torch.device("cpu")) == "bf16"
            else None,
        },
    }


def read_cpu_flags() -> set[str]:
    """What the first processor can do, in Linux's words; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def measure_matmul_peak(dtype: torch.dtype, *, size: int, seconds: float) -> float:
    """GFLOP/s of the fastest of as many square products as fit into the time, at least one after warm-up."""
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    fastest, started = float("inf"), time.perf_counter()
    count = 0
    while count <= WARM_UP_PRODUCTS or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        torch.mm(left, right)
        if count >= WARM_UP_PRODUCTS:
            fastest = min(fastest, time.perf_counter() - before)
        count += 1
    return 2 * size**3 / fastest / 1e9


def start_fresh() -> str:
    """Give freed memory back and let glibc behave as in a process of its own; says what was set.

    Contenders run in one process, so that one that tells the C library to keep its buffers would tell it for
    the next one too. Left to itself glibc raises its thresholds to the largest buffer freed, up to 32 MiB,
    and that is set here from the start: the kindest of its own behaviours.
    """
    gc.collect()
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return "as the system has it"
    library = ctypes.CDLL(None)
    library.mallopt(M_MMAP_THRESHOLD, LARGEST_DYNAMIC_THRESHOLD)
    library.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_DYNAMIC_THRESHOLD)
    library.mallopt(M_TOP_PAD, DEFAULT_TOP_PAD)
    library.malloc_trim(0)
    return "glibc's own thresholds (buffers over 32 MiB go back to the system when freed)"
