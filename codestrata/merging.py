"""Several LoRA components made into one, by PEFT's merges of their factors.

For every map with factors A_i, B_i, scale s and weight w_i the merged update is B A with

    linear       A = sum_i sign(w_i) sqrt(|w_i| s) A_i,  B = sum_i sqrt(|w_i| s) B_i
    ties         of each factor only the largest ``density`` of its entries, of these only those whose sign is
                 that of the sum over the components, and the mean instead of the sum
    dare_linear  of each factor a random ``density`` of its entries, divided by it, then as linear
    dare_ties    the same random entries, then signs and mean as in ties

The factors are merged, not their products, so that even ``linear`` is not the sum of the updates: products of
one component's A and another's B are in it.

Source: Yadav et al. 2023 (TIES), arXiv:2306.01708; Yu et al. 2024 (DARE), arXiv:2311.03099; both on whole
weights. On factors: PEFT's ``add_weighted_adapter``, whose functions do it here.

What this does not do: merge DoRA or rsLoRA, choose weights, or say whether the merged component is any good.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from peft.utils.merge_utils import dare_linear, dare_ties, task_arithmetic, ties
from torch import nn

from codestrata.components.adapters import CONFIG_FILE, describe_config
from codestrata.components.folders import describe, read_object
from codestrata.components.lora import build_lora, build_lora_config
from codestrata.contracts import Component
from codestrata.errors import ComponentError, SettingsError, describe_unknown
from codestrata.settings.components import LoraSettings
from codestrata.settings.selection import Merge

MERGED = "merged"
DESCRIBED = ("r", "lora_alpha", "target_modules", "use_dora", "use_rslora")
"""What must be the same in all components that are merged."""


def merge_lora(
    base: nn.Module,
    settings: LoraSettings,
    folders: Sequence[Path],
    target: Path,
    *,
    kind: Merge = "linear",
    weights: Sequence[float] | None = None,
    density: float = 0.5,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write the merged component of those in ``folders`` into ``target``; it has the same settings.

    Args:
        base: the base of all of them.
        settings: those of all of them.
        folders: where they lie; two at least.
        target: where the merged one is written; ``component.json`` comes last.
        kind: how to merge.
        weights: one for each; ``None`` gives each an equal share of 1.
        density: the share of entries that is kept, in (0, 1]; for all kinds but ``linear``.
        seed: of the random entries of both DARE kinds; the random state of the process stays as it was.
        about: what else ``component.json`` says.

    Raises:
        ComponentError: a component is damaged, of another base, or of other settings.
        SettingsError: an unknown kind, or weights or a density that make no sense.
    """
    check_request(settings, len(folders), kind, weights, density)
    component = build_lora(base, settings)
    wanted = describe_config(build_lora_config(settings, base))
    parts = [f"part-{number}" for number in range(len(folders))]
    for part, folder in zip(parts, folders, strict=True):
        check_settings(folder, wanted)
        component.load(part, folder)
    merge_residents(component, settings, parts, kind=kind, weights=weights, density=density, seed=seed)
    component.write(MERGED, target, about or {})


def merge_residents(
    component: Component,
    settings: LoraSettings,
    names: Sequence[str],
    *,
    kind: Merge = "linear",
    weights: Sequence[float] | None = None,
    density: float = 0.5,
    seed: int = 0,
    target: str = MERGED,
) -> None:
    """Make a new resident, called ``target``, of resident LoRA components; the rest as in ``merge_lora``.

    Raises:
        ComponentError: no such resident, or one called ``target`` is there.
        SettingsError: as ``merge_lora``.
    """
    shares = check_request(settings, len(names), kind, weights, density)
    parts = [component.parameters(name) for name in names]
    component.attach(target, seed=seed)
    scale = settings.alpha / settings.rank
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, merged in component.parameters(target).items():
            is_first = ".lora_A." in name
            factors = [math.sqrt(abs(share) * scale) for share in shares]
            if is_first:  # the sign of a weight counts once
                factors = [
                    math.copysign(factor, share) for factor, share in zip(factors, shares, strict=True)
                ]
            found = merge_tensors([part[name] for part in parts], factors, kind, density)
            merged.copy_(found if is_first else found / scale)  # the merged component is scaled too


def merge_tensors(
    tensors: Sequence[torch.Tensor], factors: Sequence[float], kind: Merge, density: float
) -> torch.Tensor:
    """One factor of the merged update, from those of the components."""
    given = [tensor.detach() for tensor in tensors]
    counted = torch.tensor(factors, device=given[0].device)
    merged: torch.Tensor
    match kind:
        case "linear":
            merged = task_arithmetic(given, counted)
        case "ties":
            merged = ties(given, counted, density)
        case "dare_linear":
            merged = dare_linear(given, counted, density)
        case "dare_ties":
            merged = dare_ties(given, counted, density)
    return merged


def check_request(
    settings: LoraSettings,
    count: int,
    kind: Merge,
    weights: Sequence[float] | None,
    density: float,
) -> list[float]:
    """The weight of every component. Raises SettingsError: the request makes no sense."""
    if kind not in get_args(Merge):
        raise SettingsError(describe_unknown("kind of merge", kind, get_args(Merge)))
    if settings.variant != "plain":
        raise SettingsError(f"lora.variant is {settings.variant!r}: only plain LoRA can be merged.")
    if count < 2:
        raise SettingsError(f"{count} components to merge: name two at least.")
    shares = [1 / count] * count if weights is None else list(weights)
    if len(shares) != count or not all(map(math.isfinite, shares)):
        raise SettingsError(f"The weights are {shares}: a finite number for each of {count} is needed.")
    if not 0 < density <= 1:
        raise SettingsError(f"The density is {density}: it must be in (0, 1].")
    return shares


def check_settings(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse a component of other settings than the others. Raises ComponentError: names the first."""
    found = read_object(folder, CONFIG_FILE)
    for key in DESCRIBED:
        if found.get(key) != wanted[key]:
            raise ComponentError(
                f"{folder / CONFIG_FILE}: {key} is {describe(found.get(key))}, but only components with"
                f" {describe(wanted[key])} are merged here."
            )
