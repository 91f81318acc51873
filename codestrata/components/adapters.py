"""Components that are PEFT adapters of any kind: one implementation of ``contracts.Component`` for all.

PEFT wraps modules of the base; here every component keeps its own wrappers, and activating it hangs them into
the base. Nothing is shared between components, so a swap costs the same however many are resident, and kinds
cannot get into each other's names.

What this does not do: choose what is adapted (``lora`` and ``layers`` build the configurations).
"""

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import PeftConfig, PeftModel, TaskType
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from codestrata.components.folders import describe, read_object
from codestrata.components.residents import Residents
from codestrata.components.tensors import Outline, read_tensors, write_tensors
from codestrata.errors import ComponentError, ModelError, SettingsError
from codestrata.files import write_json
from codestrata.models.fingerprints import PEFT_PREFIX

CONFIG_FILE = "adapter_config.json"
TENSORS_FILE = "adapter_model.safetensors"
MAGNITUDES = "lora_magnitude_vector"  # of DoRA: a module in memory, one tensor without suffix on disk
ADAPTER_NAME = "default"  # inside the wrappers; on disk PEFT leaves adapters' names out

LONGEST_TEXT = 4096
LARGEST_SHARE = 64
"""A component more than this many times as large as its base is not read."""

# What a stranger's file says about itself; read by nobody here, so only the types are checked.
BOOKKEEPING: Mapping[str, tuple[type, ...]] = {
    "auto_mapping": (dict, type(None)),
    "base_model_name_or_path": (str, type(None)),
    "inference_mode": (bool,),
    "peft_version": (str, type(None)),
    "revision": (str, type(None)),
    "task_type": (str, type(None)),
}


@dataclass(frozen=True)
class Form:
    """What a kind's configuration file may say, and what follows from it before anything is built.

    ``fields`` are the ones in which components on one base may differ, with their types. All others must be
    as here: some settings of PEFT change the base's own weights (``init_lora_weights="pissa"``) or structure.
    ``adopt`` makes a configuration of our own from a file's fields; it raises SettingsError or ModelError.
    ``outline`` lists the tensors that a component of that configuration has on a bare base.
    """

    fields: Mapping[str, tuple[type, ...]]
    adopt: Callable[[nn.Module, Mapping[str, Any]], PeftConfig]
    outline: Callable[[nn.Module, Any], Iterable[Outline]]


@dataclass(frozen=True)
class Wrapper:
    """One module of the base and the PEFT layer that stands in its place while the component runs."""

    path: str
    parent: nn.Module
    wrapped: nn.Module
    layer: Any  # nn.Module and BaseTunerLayer at once, which types cannot say

    def hang(self, module: nn.Module) -> None:
        """Put ``module`` in the place."""
        setattr(self.parent, self.path.rpartition(".")[2], module)


@dataclass(frozen=True)
class Adapter:
    """One component: PEFT's configuration, wrappers, modules of its own, parameters by name on disk."""

    config: PeftConfig
    wrappers: tuple[Wrapper, ...]
    modules: tuple[nn.Module, ...]
    parameters: dict[str, nn.Parameter]


class AdapterComponent(Residents[Adapter]):
    """``contracts.Component`` for a PEFT method; ``config`` is what newborns are made from.

    The folders that ``write`` makes load with plain ``peft.PeftModel.from_pretrained``.
    """

    read_files: ClassVar[tuple[str, ...]] = (CONFIG_FILE, TENSORS_FILE)

    def __init__(
        self, base: nn.Module, *, kind: str, config: PeftConfig, form: Form, fingerprint: str | None = None
    ) -> None:
        super().__init__(base, kind=kind, fingerprint=fingerprint)
        self._config = config
        self._form = form

    def _create(self) -> Adapter:
        return self._build(copy.deepcopy(self._config))

    def _build(self, config: PeftConfig) -> Adapter:
        """A newborn of that configuration; the base is bare before and after."""
        return build_adapter(self._base, config)

    def _read(self, folder: Path, hashes: Mapping[str, str]) -> Adapter:
        config = self._read_config(folder, hashes[CONFIG_FILE])
        tensors = read_tensors(
            folder,
            TENSORS_FILE,
            self._form.outline(self._base, config),
            sha256=hashes[TENSORS_FILE],
            largest_bytes=LARGEST_SHARE * sum(own.nbytes for own in self._base.parameters()),
        )
        try:
            adapter = self._build(config)
        except (TypeError, ValueError, SettingsError) as error:
            raise ComponentError(f"{folder / CONFIG_FILE}: does not fit this base: {error}") from error
        with torch.no_grad():
            for name, parameter in adapter.parameters.items():
                parameter.copy_(tensors.pop(name))
        return adapter

    def _read_config(self, folder: Path, sha256: str) -> PeftConfig:
        path, fields = folder / CONFIG_FILE, self._form.fields
        values = read_object(folder, CONFIG_FILE, sha256=sha256)
        ours = describe_config(self._config)
        for key, value in sorted(values.items()):
            types = fields.get(key) or BOOKKEEPING.get(key)
            if not (fits_type(value, types) if types else key in ours and value == ours[key]):
                wanted = " or ".join(kind.__name__ for kind in types) if types else describe(ours.get(key))
                raise ComponentError(
                    f"{path}: {describe(key)} is {describe(value)}, which a {self.kind} component cannot have"
                    f" here (it must be {wanted})."
                )
        missing = sorted(fields.keys() - values.keys())
        if missing:
            raise ComponentError(f"{path}: {missing[0]} is missing: get the component again.")
        try:
            return self._form.adopt(self._base, values)
        except (SettingsError, ModelError) as error:
            raise ComponentError(f"{path}: not a configuration of {self.kind}: {error}") from error

    def _install(self, resident: Adapter) -> None:
        # The base's mode may have changed meanwhile. Module.train would walk the wrapped modules too: slow.
        for module in resident.modules:
            if module.training != self._base.training:
                module.training = self._base.training
        for wrapper in resident.wrappers:
            wrapper.hang(wrapper.layer)
        for parameter in resident.parameters.values():
            parameter.requires_grad_(True)

    def _remove(self, resident: Adapter) -> None:
        for wrapper in resident.wrappers:
            wrapper.hang(wrapper.wrapped)
        for parameter in resident.parameters.values():
            parameter.requires_grad_(False)

    def _list_parameters(self, resident: Adapter) -> dict[str, nn.Parameter]:
        return dict(resident.parameters)

    def _write(self, resident: Adapter, folder: Path) -> None:
        write_tensors(folder / TENSORS_FILE, resident.parameters)
        name_or_path = getattr(self._base, "name_or_path", None) or None
        values = describe_config(resident.config)
        values |= {"base_model_name_or_path": name_or_path, "inference_mode": True}
        write_json(folder / CONFIG_FILE, dict(sorted(values.items())))


def build_adapter(base: nn.Module, config: PeftConfig) -> Adapter:
    """A newborn adapter for a bare ``base``, which is bare again afterwards.

    Raises: ValueError: PEFT refuses the configuration for this base.
    """
    try:
        with warnings.catch_warnings():
            # PEFT reads a property that transformers has renamed; the user can do nothing about it.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            PeftModel(base, config, adapter_name=ADAPTER_NAME)
    finally:
        wrappers = _find_wrappers(base)
        for wrapper in wrappers:
            wrapper.hang(wrapper.wrapped)
        base.__dict__.pop("peft_config", None)  # PEFT's note on the base would reach the next adapter
    parameters = {
        name: parameter for wrapper in wrappers for name, parameter in _list_layer_parameters(wrapper).items()
    }
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    theirs = set(base.modules())
    ours = {part: None for wrapper in wrappers for part in wrapper.layer.modules() if part not in theirs}
    return Adapter(config, wrappers, tuple(ours), parameters)


def _find_wrappers(base: nn.Module) -> tuple[Wrapper, ...]:
    layers: list[tuple[str, Any]] = [
        (path, module) for path, module in base.named_modules() if isinstance(module, BaseTunerLayer)
    ]
    return tuple(
        Wrapper(path, base.get_submodule(path.rpartition(".")[0]), layer.base_layer, layer)
        for path, layer in layers
    )


def _list_layer_parameters(wrapper: Wrapper) -> dict[str, nn.Parameter]:
    parameters: dict[str, nn.Parameter] = {}
    for attribute in dict.fromkeys(wrapper.layer.adapter_layer_names):
        name = f"{PEFT_PREFIX}{wrapper.path}.{attribute}"
        entries = getattr(wrapper.layer, attribute)
        entry = entries[ADAPTER_NAME] if ADAPTER_NAME in entries else None
        if isinstance(entry, nn.Parameter):
            parameters[name] = entry
        elif entry is not None and attribute == MAGNITUDES:
            parameters[name] = entry.weight
        elif entry is not None:
            parameters |= dict(entry.named_parameters(prefix=name))
    return parameters


def describe_config(config: PeftConfig) -> dict[str, Any]:
    """A PEFT configuration as plain JSON values; sets become sorted lists, so that equal ones read equal."""
    return {
        key: sorted(value) if isinstance(value, set) else list(value) if isinstance(value, tuple) else value
        for key, value in config.to_dict().items()
    }


def choose_task_type(model: nn.Module) -> TaskType:
    """PEFT's name for what a model does: text to text, or text going on."""
    is_encoder_decoder = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    return TaskType.SEQ_2_SEQ_LM if is_encoder_decoder else TaskType.CAUSAL_LM


def fits_type(value: Any, types: tuple[type, ...]) -> bool:
    """Whether a value of a file has one of the types, exactly; texts must be words, not pages."""
    return type(value) in types and not (isinstance(value, str) and len(value) > LONGEST_TEXT)
