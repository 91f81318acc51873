"""Component ``ia3``: learned scales of keys, values and inner activations, through PEFT unchanged.

A newborn is the identity, because PEFT starts every scale at one.

What this does not do: implement IA3 (PEFT does), or keep its tensors (``adapters``).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft import IA3Config
from torch import nn

from codestrata.components.adapters import AdapterComponent, Form, choose_task_type
from codestrata.components.folders import describe
from codestrata.components.tensors import Outline
from codestrata.errors import SettingsError
from codestrata.models.families import find_family
from codestrata.models.fingerprints import PEFT_PREFIX
from codestrata.settings.components import IA3Settings


def build_ia3_config(settings: IA3Settings, model: nn.Module) -> IA3Config:
    """PEFT's configuration for ``settings`` on this model.

    Raises: ModelError: the model is of a family whose blocks are not known.
    """
    family = find_family(model)
    inner = list(family.feed_forward_outputs) if settings.feed_forward else []
    return IA3Config(
        task_type=choose_task_type(model),
        target_modules=[*family.keys_values, *inner],
        feedforward_modules=inner,  # of these the inputs are scaled
    )


def adopt_ia3(base: nn.Module, values: Mapping[str, Any]) -> IA3Config:
    """Our own configuration, with feed-forward parts where a file's has them.

    Raises: SettingsError: other maps are scaled than IA3 scales on this base.
    """
    config = build_ia3_config(IA3Settings(feed_forward=values["feedforward_modules"] != []), base)
    for key in ("target_modules", "feedforward_modules"):
        wanted = sorted(getattr(config, key))
        if values[key] != wanted:
            raise SettingsError(f"{key} is {describe(values[key])}, but IA3 has {wanted} on this base.")
    return config


def outline_ia3(base: nn.Module, config: IA3Config) -> Iterator[Outline]:
    """A column of scales for outputs, a row for inputs; float32 where the base has half precision."""
    targets: Any = config.target_modules
    scaled_inputs: Any = config.feedforward_modules
    for path, module in base.named_modules():
        place = path.rpartition(".")[2]
        if isinstance(module, nn.Linear) and place in targets:
            dtype = module.weight.dtype
            if dtype in (torch.float16, torch.bfloat16):
                dtype = torch.float32
            shape = (1, module.in_features) if place in scaled_inputs else (module.out_features, 1)
            yield Outline(f"{PEFT_PREFIX}{path}.ia3_l", dtype, shape)


FORM = Form(
    fields={"target_modules": (list,), "feedforward_modules": (list,)},
    adopt=adopt_ia3,
    outline=outline_ia3,
)


def build_ia3(base: nn.Module, settings: IA3Settings, *, fingerprint: str | None = None) -> AdapterComponent:
    """The component ``ia3`` on ``base``; ``fingerprint`` saves computing it again.

    Raises: ModelError: the base is of a family whose blocks are not known.
    """
    config = build_ia3_config(settings, base)
    return AdapterComponent(base, kind="ia3", config=config, form=FORM, fingerprint=fingerprint)
