"""Settings to a frozen base: the model, its tokenizer and the device they live on.

What this does not do: attach anything, or fall back to another model when the hub cannot be reached.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codestrata.errors import HubError, ModelError
from codestrata.models.families import find_family
from codestrata.models.fingerprints import fingerprint_model
from codestrata.models.pocket import POCKET, find_pocket
from codestrata.settings import BaseSettings


@dataclass(frozen=True)
class Base:
    """A frozen model with its tokenizer; ``fingerprint`` is the SHA-256 over its tensors as loaded."""

    name: str
    model: Any
    tokenizer: Any
    device: torch.device
    fingerprint: str


def load_base(settings: BaseSettings, device: torch.device) -> Base:
    """The base model in evaluation mode, frozen, on its device.

    Raises:
        HubError: the name is no local folder and the hub cannot be reached.
        ModelError: the folder or the hub's repository does not hold a supported model.
    """
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # our own display runs at the same time
    source = str(find_pocket()) if settings.name == POCKET else settings.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(settings.tokenizer or source, revision=settings.revision)
        if settings.weights == "random":
            config = AutoConfig.from_pretrained(source, revision=settings.revision)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = AutoModelForSeq2SeqLM.from_config(config)  # type: ignore[no-untyped-call]
        else:
            model = AutoModelForSeq2SeqLM.from_pretrained(
                source, revision=settings.revision, dtype=torch.float32, use_safetensors=True
            )
    except (OSError, ValueError, KeyError) as error:
        raise explain_failure(settings, error) from error
    find_family(model)
    model.requires_grad_(False)
    model.eval()
    model.to(device)
    return Base(settings.name, model, tokenizer, device, fingerprint_model(model))


def explain_failure(settings: BaseSettings, error: Exception) -> ModelError:
    """The error that tells a user what to do about a model that would not load."""
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(settings.name).is_dir():
        return ModelError(f"The folder {settings.name} holds no usable model: {first_line}")
    return HubError(
        f"Base model {settings.name!r} is no local folder and could not be had from the model hub "
        f"({first_line}); name a local copy with --set base.name=FOLDER."
    )


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes CUDA, then Apple MPS, then the CPU.

    Raises: ModelError: the device asked for is not there.
    """
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if has_cuda else "mps" if has_mps else "cpu")
    found = {"cpu": True, "cuda": has_cuda, "mps": has_mps}
    kind = name.partition(":")[0]
    if not found.get(kind, False):
        present = ", ".join(device for device, there in found.items() if there)
        raise ModelError(f"Device {name!r} is not available here. Found: {present}. Use --device auto.")
    return torch.device(name)


def count_parameters(model: nn.Module) -> int:
    """Parameters of the model, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
