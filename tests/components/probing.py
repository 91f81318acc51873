"""Ways to look at a tiny model from outside, shared by the component tests."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from codestrata.components.hybrid import build_hybrid
from codestrata.components.ia3 import build_ia3
from codestrata.components.layers import build_layers
from codestrata.components.lora import build_lora
from codestrata.components.own_layers import OwnLayersComponent
from codestrata.components.residents import Residents
from codestrata.components.weights import WeightsComponent
from codestrata.settings.components import (
    HybridSettings,
    IA3Settings,
    LayersSettings,
    LoraSettings,
    OwnLayersSettings,
)

PROMPTS = torch.tensor([[5, 9, 33, 21, 8, 1], [17, 40, 12, 1, 0, 0]])
MASK = (PROMPTS != 0).long()
TARGETS = torch.tensor([[7, 30, 22, 1], [50, 3, 1, -100]])
LEFT_PADDED = {
    "input_ids": torch.tensor([[5, 9, 33, 21, 8, 2], [0, 0, 17, 40, 12, 4]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]]),
}

Build = Callable[[Any], Residents[Any]]


def layers(**values: Any) -> Build:
    return lambda base: build_layers(base, LayersSettings(**values))


def lora(**values: Any) -> Build:
    return lambda base: build_lora(base, LoraSettings(rank=2, targets=("q", "wo"), **values))


def hybrid(**values: Any) -> Build:
    return lambda base: build_hybrid(base, HybridSettings(rank=2, **values))


def own_layers(**values: Any) -> Build:
    return lambda base: OwnLayersComponent(base, OwnLayersSettings(**values))


IDENTITIES: dict[str, Build] = {
    "lora": lora(),
    "dora": lora(variant="dora", dropout=0.1),
    "rslora": lora(variant="rslora"),
    "ia3": lambda base: build_ia3(base, IA3Settings()),
    "encoder-top": layers(placement="encoder-top"),
    "decoder-top": layers(placement="decoder-top"),
    "both-twice": layers(placement="both", blocks=2),
    "interleaved:1": layers(placement="interleaved:1", blocks=2),
    "own-top": own_layers(),
    "own-both-twice": own_layers(placement="both", blocks=2),
    "weights": WeightsComponent,
    "hybrid": hybrid(dropout=0.1),
    "hybrid-both": hybrid(placement="both", blocks=2, targets=("q", "wo")),
}
SCALED: dict[str, Build] = {"scaled": layers(placement="both", init="scaled:0.5")}
KINDS = IDENTITIES | SCALED
COPIES = ("own-top", "own-both-twice", "weights")
ADAPTERS = {name: build for name, build in KINDS.items() if name not in COPIES}


def logits(model: Any) -> torch.Tensor:
    """What the model says to fixed prompts, without dropout or gradients."""
    with torch.inference_mode():
        if not model.config.is_encoder_decoder:
            return model(**LEFT_PADDED, use_cache=False).logits
        return model(input_ids=PROMPTS, attention_mask=MASK, decoder_input_ids=PROMPTS.flip(0)).logits


def generate(model: Any, **options: Any) -> list[list[int]]:
    """Tokens for fixed prompts; no token may come twice, so that the order of many logits decides."""
    torch.manual_seed(0)
    padded = {"input_ids": PROMPTS, "attention_mask": MASK}
    if not model.config.is_encoder_decoder:
        padded, options = LEFT_PADDED, {"pad_token_id": 0, **options}
    return model.generate(
        **padded,
        min_new_tokens=12,
        max_new_tokens=12,
        no_repeat_ngram_size=1,
        **options,
    ).tolist()


def compute_loss(model: Any) -> torch.Tensor:
    """The model's own loss on fixed examples: of a decoder alone on what follows its prompts."""
    if model.config.is_encoder_decoder:
        return model(input_ids=PROMPTS, attention_mask=MASK, labels=TARGETS).loss
    ids = LEFT_PADDED["input_ids"]
    labels = torch.where(torch.arange(ids.shape[1]) < 3, -100, ids)
    return model(**LEFT_PADDED, labels=labels, use_cache=False).loss


def disturb(component: Residents[Any], name: str, seed: int = 1) -> None:
    """Change all of a component's parameters, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in component.parameters(name).values():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def sign(folder: Path, *, leave_out: Path | None = None) -> None:
    """Put the hashes of the files as they are now into ``component.json``, as whoever made them could."""
    path = folder / "component.json"
    hashes = json.loads(path.read_text())["sha256"]
    for name in hashes:
        if (folder / name).is_file() and folder / name != leave_out:
            hashes[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    edit_json(path, sha256=hashes)


def split_safetensors(path: Path) -> tuple[Any, bytes]:
    """The header and the data of a safetensors file, without checking anything."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def join_safetensors(path: Path, header: Any, data: bytes) -> None:
    """Write a safetensors file with any header at all; text is taken as it is."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
