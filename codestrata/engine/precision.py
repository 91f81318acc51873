"""In which number format matrix products are computed: bf16 where the processor is made for it, else fp32.

Trained weights, sums of residuals, norms, the loss and the optimizer stay fp32 either way. On a processor
without bf16 instructions bf16 is computed too, many times slower.

What this does not do: fp16, whose range T5's activations leave; it is refused.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import nn

from codestrata.errors import SettingsError, TrainingError, describe_unknown
from codestrata.settings.sections import Precision
from codestrata.settings.tree import REFUSED

Chosen = Literal["bf16", "fp32"]
DTYPES: dict[Chosen, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}


def choose_precision(wanted: Precision, device: torch.device) -> Chosen:
    """The precision asked for; ``auto`` is bf16 where the device has instructions for it.

    Raises: SettingsError: another one, such as fp16.
    """
    if wanted not in ("auto", *DTYPES):
        refusal = describe_unknown("precision", wanted, ("auto", *DTYPES))
        raise SettingsError(refusal + REFUSED.get(wanted, ""))
    if wanted != "auto":
        return wanted
    return "bf16" if has_bf16(device) else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies matrices in bf16 by instructions of its own."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return bool(torch.backends.mps.is_macos_or_newer(14, 0))
    # AVX-512 and AMX on x86; "bf16" is what ARM calls its own.
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def refuse_fp16(model: nn.Module) -> None:
    """Refuse a model whose weights are fp16, as ``from_pretrained(dtype=torch.float16)`` gives it.

    Raises: TrainingError: the first such weight is named.
    """
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float16:
            raise TrainingError(f"{name} is fp16.{REFUSED['fp16']} Load the base with dtype=torch.float32.")


def compute_in(precision: Chosen, device: torch.device) -> AbstractContextManager[object]:
    """Inside, matrix products and attention of fp32 tensors are computed in ``precision``."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def lowered_weights(model: nn.Module, precision: Chosen) -> Iterator[None]:
    """Inside, the frozen linear maps hold their weights in ``precision``; afterwards their own, bit for bit.

    Autocast would convert every frozen weight again in every step. Weights that are used elsewhere too (an
    output layer tied to the embedding) stay as they are.
    """
    lowered = list_lowerable(model) if precision == "bf16" else []
    kept = [(weight, weight.data) for weight in lowered]
    try:
        for weight in lowered:
            weight.data = weight.data.to(DTYPES[precision])
        yield
    finally:
        for weight, data in kept:
            weight.data = data


def list_lowerable(model: nn.Module) -> list[torch.Tensor]:
    """Frozen fp32 weights that belong to linear maps alone."""
    linear = {id(part.weight): part.weight for part in model.modules() if isinstance(part, nn.Linear)}
    elsewhere = {
        id(parameter)
        for part in model.modules()
        if not isinstance(part, nn.Linear)
        for parameter in part.parameters(recurse=False)
    }
    return [
        weight
        for key, weight in linear.items()
        if key not in elsewhere and not weight.requires_grad and weight.dtype == torch.float32
    ]
