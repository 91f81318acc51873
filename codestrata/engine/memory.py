"""The most memory that was in use: of a device's allocator, or of the whole process on a CPU.

What this does not do: limit memory (a training's token budget does).
"""

import sys
from pathlib import Path

import torch


class MemoryGauge:
    """The most memory that a device's own counter saw since the gauge was made; ``counter`` names it.

    CUDA keeps a peak of its allocator. Apple's MPS keeps none, so its allocation is read after every step. On
    the CPU it is the whole process's largest resident size: since the gauge was made on Linux, which can
    reset it, else since the process started.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._largest_bytes = 0
        self.counter = {
            "cuda": "torch.cuda.max_memory_allocated",
            "mps": "torch.mps.driver_allocated_memory after every step",
        }.get(device.type, "VmHWM of the process, reset before the training")
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu" and not reset_process_peak():
            self.counter = "getrusage ru_maxrss: the process's peak since it started"

    def sample(self) -> None:
        """Read a counter that keeps no peak of its own."""
        if self._device.type == "mps":
            self._largest_bytes = max(self._largest_bytes, torch.mps.driver_allocated_memory())

    def read_peak(self) -> float | None:
        """MiB; ``None`` where the system has no such counter."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        if self._device.type == "mps":
            return self._largest_bytes / 2**20
        return read_status_peak() if self.counter.startswith("VmHWM") else read_usage_peak()


def reset_process_peak() -> bool:
    """Start Linux's peak of the process's resident size anew; False where that cannot be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def read_status_peak() -> float | None:
    """Linux's VmHWM, the process's largest resident size since it was last reset, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None


def read_usage_peak() -> float | None:
    """The process's largest resident size since it started, in MiB; ``None`` on Windows."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
