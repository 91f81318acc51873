"""Component ``lora``: low-rank updates beside the linear maps of the base's blocks, through PEFT unchanged.

A newborn is the identity, because PEFT starts the second factor of every update at zero; with DoRA also the
magnitudes are the lengths that the base's rows have.

What this does not do: implement LoRA (PEFT does), or keep its tensors (``adapters``).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft import LoraConfig
from torch import nn

from codestrata.components.adapters import MAGNITUDES, AdapterComponent, Form, choose_task_type
from codestrata.components.folders import describe
from codestrata.components.tensors import Outline
from codestrata.errors import SettingsError, describe_unknown
from codestrata.models.families import list_lora_targets
from codestrata.models.fingerprints import PEFT_PREFIX
from codestrata.settings.components import LoraSettings


def build_lora_config(settings: LoraSettings, model: nn.Module) -> LoraConfig:
    """PEFT's configuration for ``settings`` on this model.

    Raises:
        SettingsError: a target that is not a linear map inside the model's blocks.
        ModelError: the model is of a family whose blocks are not known.
    """
    known = list_lora_targets(model)
    targets = known if settings.targets is None else settings.targets
    if not targets:
        raise SettingsError(f"lora.targets is empty: name some of {', '.join(known)}, or null for all.")
    for target in targets:
        if target not in known:
            raise SettingsError(describe_unknown("linear map in lora.targets", target, known))
    return LoraConfig(
        task_type=choose_task_type(model),
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # fractions work too
        lora_dropout=settings.dropout,
        target_modules=list(targets),
        use_dora=settings.variant == "dora",
        use_rslora=settings.variant == "rslora",
    )


def adopt_lora(base: nn.Module, values: Mapping[str, Any]) -> LoraConfig:
    """Our own configuration with a file's variant, rank, alpha, dropout and targets.

    Raises: SettingsError: a value out of range, two variants at once, or a target that is not a linear map
        inside the blocks.
    """
    known, targets = list_lora_targets(base), values["target_modules"]
    strangers = [target for target in targets if target not in known]
    if strangers:
        raise SettingsError(f"target_modules holds {describe(strangers[0])}. Known: {', '.join(known)}.")
    if values["use_dora"] and values["use_rslora"]:
        raise SettingsError("use_dora and use_rslora are both true: a component is one variant of LoRA.")
    settings = LoraSettings(
        variant="dora" if values["use_dora"] else "rslora" if values["use_rslora"] else "plain",
        rank=values["r"],
        alpha=values["lora_alpha"],
        dropout=values["lora_dropout"],
        targets=tuple(targets),
    )
    return build_lora_config(settings, base)


def outline_lora(base: nn.Module, config: LoraConfig) -> Iterator[Outline]:
    """The two factors beside every linear map that is a target, and DoRA's lengths of its rows.

    They are float32 where the base has half precision.
    """
    targets: Any = config.target_modules
    for path, module in base.named_modules():
        if isinstance(module, nn.Linear) and path.rpartition(".")[2] in targets:
            dtype = module.weight.dtype
            if dtype in (torch.float16, torch.bfloat16):
                dtype = torch.float32
            name = f"{PEFT_PREFIX}{path}"
            yield Outline(f"{name}.lora_A.weight", dtype, (config.r, module.in_features))
            yield Outline(f"{name}.lora_B.weight", dtype, (module.out_features, config.r))
            if config.use_dora:
                yield Outline(f"{name}.{MAGNITUDES}", dtype, (module.out_features,))


FORM = Form(
    fields={
        "r": (int,),
        "lora_alpha": (int, float),
        "lora_dropout": (int, float),
        "target_modules": (list,),
        "use_dora": (bool,),
        "use_rslora": (bool,),
    },
    adopt=adopt_lora,
    outline=outline_lora,
)


def build_lora(
    base: nn.Module, settings: LoraSettings, *, fingerprint: str | None = None
) -> AdapterComponent:
    """The component ``lora`` on ``base``; ``fingerprint`` saves computing it again.

    Raises: SettingsError and ModelError as ``build_lora_config``.
    """
    config = build_lora_config(settings, base)
    return AdapterComponent(base, kind="lora", config=config, form=FORM, fingerprint=fingerprint)
