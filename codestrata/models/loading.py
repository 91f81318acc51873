"""Settings to a frozen base: the model, its tokenizer and the device they live on.

What this does not do: attach anything, run code that comes with a model, or fall back to another model when
the hub cannot be reached.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn

from codestrata.errors import HubError, ModelError
from codestrata.hub import OFFLINE, is_offline, prepare_hub
from codestrata.models.families import find_family_by_type
from codestrata.models.fingerprints import fingerprint_model
from codestrata.models.pocket import POCKET, find_pocket
from codestrata.settings.sections import BaseSettings

HUB_TIMEOUT_SECONDS = 10.0
SAFETENSORS_FILES = ("model.safetensors", "model.safetensors.index.json")
PLAIN_ATTENTION = ("eager", "sdpa")

WeightsFormat = Literal["safetensors", "checked pickle"]


@dataclass(frozen=True)
class Base:
    """A frozen model with its tokenizer; ``fingerprint`` is the SHA-256 over its tensors as loaded.

    ``weights_format`` is what the weights were read from; ``None`` for random ones.
    """

    name: str
    model: Any
    tokenizer: Any
    device: torch.device
    fingerprint: str
    weights_format: WeightsFormat | None = None


def load_base(settings: BaseSettings, device: torch.device) -> Base:
    """The base model in evaluation mode, frozen, on its device.

    Nothing that comes with a base is executed: one that brings code of its own is loaded without it, or
    refused where there is no other way. Weights come from safetensors. A base that has none (such as
    Salesforce/codet5-small) is read by torch's checked unpickler, which makes tensors and nothing else;
    ``weights_format`` says so. Components are never read that way.

    Raises:
        HubError: model or tokenizer is no local folder and the hub cannot be reached.
        ModelError: the folder or the hub's repository does not hold a supported model.
    """
    prepare_hub()
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # our own display runs at the same time
    source = str(find_pocket()) if settings.name == POCKET else settings.name
    tokenizer = load_tokenizer(source, settings)
    with explain_failures(source, settings.revision, key="base.name"):
        weights_format = choose_weights_format(source, settings)
        model = load_model(source, settings, weights_format)
    model.requires_grad_(False)
    model.eval()
    model.to(device)
    return Base(settings.name, model, tokenizer, device, fingerprint_model(model), weights_format)


def choose_weights_format(source: str, settings: BaseSettings) -> WeightsFormat | None:
    """How the base's weights are stored; safetensors wherever there are some.

    Raises: ModelError: the place holds a component, which leads to a base that nobody named.
    """
    if has_file(source, "adapter_config.json", settings.revision):
        raise ModelError(f"{source} holds a component, not a base: name the base that it was trained on.")
    if settings.weights == "random":
        return None
    stored = any(has_file(source, name, settings.revision) for name in SAFETENSORS_FILES)
    return "safetensors" if stored else "checked pickle"


def has_file(source: str, name: str, revision: str | None) -> bool:
    """Whether a local folder or the hub's repository has a file; the hub's is in the cache afterwards."""
    prepare_hub()
    from huggingface_hub import errors, hf_hub_download

    if Path(source).is_dir():
        return Path(source, name).is_file()
    try:
        hf_hub_download(source, name, revision=revision)
    except (errors.EntryNotFoundError, errors.LocalEntryNotFoundError):
        return False
    return True


def load_model(source: str, settings: BaseSettings, weights_format: WeightsFormat | None) -> Any:
    """The model in single precision, with its weights or with random ones.

    Raises: ModelError: as ``load_config``, or a family that is not supported.
    """
    config = load_config(source, settings)
    automatic = choose_automatic_class(config, source)
    if weights_format is not None:
        return automatic.from_pretrained(
            source,
            config=config,
            revision=settings.revision,
            dtype=torch.float32,
            trust_remote_code=False,
            use_safetensors=weights_format == "safetensors",
            weights_only=True,
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return automatic.from_config(config, dtype=torch.float32, trust_remote_code=False)


def load_config(source: str, settings: BaseSettings) -> Any:
    """The configuration of a local folder or of the hub's repository. Raises: as ``check_config``."""
    prepare_hub()
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source, revision=settings.revision, trust_remote_code=False)
    check_config(config, source)
    return config


def choose_automatic_class(config: Any, source: str) -> Any:
    """The class of transformers that makes this model: with an encoder, or a decoder alone.

    Raises: ModelError: a family that is not supported.
    """
    import transformers

    family = find_family_by_type(getattr(config, "model_type", None), label=source)
    return getattr(transformers, family.automatic_class)


def check_config(config: Any, source: str) -> None:
    """Refuse a configuration that has transformers fetch code, weights or number formats from elsewhere.

    Raises: ModelError: names the entry and its value.
    """
    attention = config._attn_implementation
    # Any other name transformers may take for a repository of kernels, to be fetched and run.
    if attention is not None and attention not in PLAIN_ATTENTION:
        raise ModelError(
            f"{source}: config.json asks for the attention {attention!r}: remove the entry, or name one of"
            f" {', '.join(PLAIN_ATTENTION)}."
        )
    for key in ("quantization_config", "transformers_weights"):
        if getattr(config, key, None) is not None:
            raise ModelError(f"{source}: config.json has {key}, which is not supported: name a plain base.")


def load_tokenizer(source: str, settings: BaseSettings) -> Any:
    """The model's tokenizer, or the one that the settings name instead.

    One without a token for padding pads with its end token, as decoder-only models are used to.
    """
    from transformers import AutoTokenizer

    own = settings.tokenizer is None
    place, revision = (source, settings.revision) if own else (str(settings.tokenizer), None)
    with explain_failures(place, revision, key="base.name" if own else "base.tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=False)
    check_tokenizer(tokenizer, place)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_tokenizer(tokenizer: Any, source: str) -> None:
    """Refuse the tokenizer without a vocabulary that transformers makes up where it finds no files of one.

    Raises: ModelError: nothing of a line of code is left after encoding and decoding it; or there is no token
        that ends an answer.
    """
    ids = tokenizer("def f(x): return x", add_special_tokens=False)["input_ids"]
    if not tokenizer.decode(ids, skip_special_tokens=True).strip():
        raise ModelError(
            f"{source} holds no usable tokenizer; name one that fits with --set base.tokenizer=FOLDER."
        )
    if tokenizer.eos_token is None:
        raise ModelError(
            f"{source} holds a tokenizer without an end token, so that no answer could end; name one that has"
            " it with --set base.tokenizer=FOLDER."
        )


@contextmanager
def explain_failures(source: str, revision: str | None, *, key: str) -> Iterator[None]:
    """Turn what transformers raises about a folder or hub name into one line that says what to do.

    Raises: HubError: not local, and not to be had from the hub. ModelError: there, and not usable.
    """
    prepare_hub()
    from huggingface_hub import errors

    network_error = errors.HTTPError  # type: ignore[attr-defined]  # of the hub client's HTTP library
    local = Path(source).is_dir()
    try:
        if not local:
            ask_hub(source, revision)
        yield
    except (
        OSError,
        network_error,
        errors.StrictDataclassError,  # values of the configuration of wrong types, or that do not go together
        ArithmeticError,  # no attention heads
        RuntimeError,  # tensors of other shapes than the configuration's
        TypeError,
        ValueError,
        KeyError,
        ImportError,
        SafetensorError,
        UnpicklingError,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if "trust_remote_code" in str(error):
            reason = "it needs code of its own to be run, which is never done"
        if local or not isinstance(error, OSError | network_error | errors.HFValidationError):
            raise ModelError(f"{source} holds nothing usable as {key}: {reason}") from error
        if is_offline():  # what the client says then speaks of connections
            raise HubError(
                f"{source!r} is no local folder and not whole in the hub client's cache, and the hub is "
                f"switched off: name a local copy with --set {key}=FOLDER, or run once without --offline "
                f"and {OFFLINE}."
            ) from error
        raise HubError(
            f"{source!r} is no local folder and could not be had from the model hub ({reason}); "
            f"name a local copy with --set {key}=FOLDER."
        ) from error


def ask_hub(name: str, revision: str | None) -> None:
    """Fail quickly where the hub cannot be reached: loading would repeat its requests for a minute.

    A name that lies in the hub client's cache, or its offline mode, needs no hub.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str)
    if not cached and not is_offline():
        HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS)


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
