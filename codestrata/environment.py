"""The machine and the versions that a run's numbers depend on.

What this does not do: measure the machine's speed.
"""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "codestrata",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "accelerate",
    "datasets",
    "numpy",
    "sacrebleu",
    "tree-sitter",
    "deno",
    "lupa",
)


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Device, processor, system, and package versions, as plain values."""
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else name_processor(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "packages": {package: find_version(package) for package in PACKAGES},
    }


def name_processor() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def find_version(package: str) -> str | None:
    """The installed version of a package, or ``None``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
