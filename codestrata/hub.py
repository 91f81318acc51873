"""The one place that reaches the model hub for data, and that switches the hub off.

Nothing is ever told to anybody: the hub client's telemetry is off wherever codestrata imports it.

What this does not do: load models (``models.loading`` does, through the same switches), or fall back to other
data where the hub cannot be reached.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codestrata.errors import HubError

OFFLINE = "CODESTRATA_OFFLINE"
OFFLINE_VARIABLES = (OFFLINE, "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
SILENT_VARIABLES = ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "DISABLE_TELEMETRY")
YES = ("1", "ON", "TRUE", "YES")
TIMEOUT_SECONDS = 10.0
CONSTANTS = ("huggingface_hub.constants", "datasets.config")
"""Modules that read the variables once, when they are imported."""


def is_offline() -> bool:
    """Whether the hub is switched off: by ``--offline``, by the environment, or in the client itself."""
    if any(os.environ.get(name, "").upper() in YES for name in OFFLINE_VARIABLES[:2]):
        return True
    return any(getattr(sys.modules.get(name), "HF_HUB_OFFLINE", False) for name in CONSTANTS)


def go_offline() -> None:
    """Switch the hub off for this process and for all that it starts; what lies in its cache can be read."""
    for name in OFFLINE_VARIABLES:
        os.environ[name] = "1"
    for name in CONSTANTS:
        if name in sys.modules:
            sys.modules[name].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]  # of modules of others


def prepare_hub() -> None:
    """Switch telemetry off, and the hub too where ``CODESTRATA_OFFLINE`` says so; for before its import."""
    for name in SILENT_VARIABLES:
        os.environ[name] = "1"
    constants: Any = sys.modules.get(CONSTANTS[0])
    if constants is not None:
        constants.HF_HUB_DISABLE_TELEMETRY = True
    if os.environ.get(OFFLINE, "").upper() in YES:
        go_offline()


def load_hub_splits(
    name: str,
    config: str | None,
    *,
    task: str,
    revision: str | None = None,
    folder: str | None = None,
) -> Mapping[str, Any]:
    """Every split of a data set on the hub, by its name there, as ``datasets.Dataset``.

    Args:
        name: the data set, as ``owner/name``.
        config: its part; ``None`` where it has one only.
        task: the task's name, for the remedy in errors.
        revision: a branch, tag or commit; ``None`` takes the default branch.
        folder: read the tables in this folder of it.

    Raises: HubError: it could not be reached within ``TIMEOUT_SECONDS``, refused, or is switched off and the
        data are not in its cache.
    """
    prepare_hub()
    from datasets import load_dataset  # seconds to import

    options = {} if folder is None else {"data_dir": folder}
    with explain_failures(name, task):
        ask_hub(name, revision)
        arguments = (name,) if config is None else (name, config)
        splits: Mapping[str, Any] = load_dataset(*arguments, revision=revision, **options)
    return splits


def load_hub_file(name: str, file: str, *, task: str, revision: str | None = None) -> Path:
    """Where one file of a data set on the hub lies in the hub client's cache, fetched if need be.

    Args and raises: as ``load_hub_splits``; ``file`` is a path inside the data set. What is in the cache is
    taken from there, and nobody is asked.
    """
    prepare_hub()
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    with explain_failures(name, task):
        cached = try_to_load_from_cache(name, file, repo_type="dataset", revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        ask_hub(name, revision)
        return Path(hf_hub_download(name, file, repo_type="dataset", revision=revision))


def ask_hub(name: str, revision: str | None) -> None:
    """Fail quickly where the hub cannot be reached: loading alone would try again for half a minute.

    Offline nobody is asked: what lies in the cache is read.
    """
    from huggingface_hub import HfApi

    if not is_offline():
        HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT_SECONDS)


@contextmanager
def explain_failures(name: str, task: str) -> Iterator[None]:
    """Turn what the hub's client raises into one line that says what to do. Raises: HubError."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the client's HTTP library

    try:
        yield
    except (OSError, HTTPError, ValueError) as error:  # ValueError: not in the cache, or no such part
        reason = str(error).partition("\n")[0] or type(error).__name__
        remedy = f"use local files with --set tasks.{task}.path=FILE"
        if is_offline():
            raise HubError(
                f"The hub's data set {name!r} is not in its cache, and the hub is switched off ({reason}); "
                f"{remedy}, or run once without --offline and {OFFLINE}"
            ) from error
        raise HubError(f"The hub's data set {name!r} could not be reached ({reason}); {remedy}") from error
