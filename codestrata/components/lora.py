"""Component ``lora``: low-rank updates beside the linear maps of the base's blocks, through PEFT unchanged.

A newborn is the identity, because PEFT starts the second factor of every update at zero.

What this does not do: implement LoRA (PEFT does), or keep its tensors (``adapters``).
"""

from peft import LoraConfig
from torch import nn

from codestrata.components.adapters import AdapterComponent, choose_task_type
from codestrata.errors import SettingsError, describe_unknown
from codestrata.models.families import list_lora_targets
from codestrata.settings import LoraSettings


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
    )


def build_lora(
    base: nn.Module, settings: LoraSettings, *, fingerprint: str | None = None
) -> AdapterComponent:
    """The component ``lora`` on ``base``; ``fingerprint`` saves computing it again.

    Raises: SettingsError and ModelError as ``build_lora_config``.
    """
    config = build_lora_config(settings, base)
    return AdapterComponent(base, kind="lora", config=config, fingerprint=fingerprint)
