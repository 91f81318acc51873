"""Ways to harm a component's folder, with what is drawn for each by hypothesis."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from probing import join_safetensors, split_safetensors
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

Draw = Callable[[Any], Any]

HOSTILE = [
    *(None, True, False, 0, 1, 2, 3, -1, 10**9, 2**63, 10**30, 1e308, float("nan"), float("inf")),
    *("", "..", "../../x", "a" * 5000, "\ud800", "\x00", "pissa", "all-linear", ".*", "q", "lora", "layers"),
    *("interleaved:1", "interleaved:0", "interleaved:1000000", "scaled:1", "scaled:inf", "scaled:-1", "copy"),
    *("F32", "F16", "BF16", "I32", "encoder-top", "decoder-top", "both", "SEQ_2_SEQ_LM"),
    *([], ["q"], ["q", "wo", "wo"], [["q"]], [0, 4], [2, 16], [-2, -16], [2**40, 2**40], {}, {"q": 1}),
]
JUNK = st.sampled_from(HOSTILE) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.text(max_size=8) | st.sampled_from(
    [
        "r",
        "bias",
        "use_dora",
        "modules_to_save",
        "target_parameters",
        "kind",
        "format",
        "sha256",
        "blocks",
        "dtype",
    ]
)


def choose_file(folder: Path, draw: Draw, pattern: str = "*") -> Path:
    """One of the regular files that hold something; whoever opened a FIFO would wait."""
    return folder / draw(
        st.sampled_from(
            sorted(path.name for path in folder.glob(pattern) if path.is_file() and path.stat().st_size)
        )
    )


def find_tensors(folder: Path) -> Path:
    return next(path for path in folder.glob("*.safetensors") if path.is_file())


def flip_a_byte(folder: Path, draw: Draw) -> None:
    path = choose_file(folder, draw)
    content = bytearray(path.read_bytes())
    content[draw(st.integers(0, len(content) - 1))] ^= draw(st.integers(1, 255))
    path.write_bytes(content)


def cut_or_extend(folder: Path, draw: Draw) -> None:
    path = choose_file(folder, draw)
    content = path.read_bytes()
    if draw(st.booleans()):
        path.write_bytes(content[: draw(st.integers(0, len(content) - 1))])
    else:
        path.write_bytes(content + draw(st.binary(min_size=1, max_size=16)))


def change_the_headers_length(folder: Path, draw: Draw) -> None:
    path = find_tensors(folder)
    length = draw(st.integers(0, 2**64 - 1) | st.integers(0, 10_000))
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])


def list_places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value inside ``value``."""
    keys = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    return [place for key in keys for place in ((value, key), *list_places(value[key]))]


def edit_tree(tree: Any, draw: Draw) -> str:
    """Another JSON text: a value replaced, or a key removed, renamed, added or repeated."""
    places = list_places(tree)
    if not places:
        return "[]"
    container, key = draw(st.sampled_from(places))
    action = draw(st.sampled_from(["replace", "replace", "remove", "rename", "add", "repeat", "deepen"]))
    if action == "replace":
        container[key] = draw(JUNK)
    elif action == "remove":
        del container[key]
    elif action == "rename" and isinstance(container, dict):
        container[draw(KEYS)] = container.pop(key)
    elif action == "add" and isinstance(container, dict):
        container[draw(KEYS)] = draw(JUNK)
    elif action == "repeat" and isinstance(container, dict):
        twice = f"{json.dumps(key)}: {json.dumps(draw(JUNK))}, "
        return json.dumps(tree).replace(json.dumps(key) + ": ", twice + json.dumps(key) + ": ", 1)
    elif action == "deepen":
        container[key] = "DEEP"
        return json.dumps(tree).replace('"DEEP"', "[" * 3000 + "]" * 3000)
    return json.dumps(tree)


def edit_json_file(folder: Path, draw: Draw) -> None:
    path = choose_file(folder, draw, "*.json")
    path.write_text(edit_tree(json.loads(path.read_text()), draw))


def edit_the_header(folder: Path, draw: Draw) -> None:
    path = find_tensors(folder)
    header, data = split_safetensors(path)
    join_safetensors(path, edit_tree(header, draw), data)


def change_a_tensor(folder: Path, draw: Draw) -> None:
    path = find_tensors(folder)
    tensors = load_file(path)
    name = draw(st.sampled_from(sorted(tensors)))
    tensor = tensors.pop(name)
    acts = ["rename", "reshape", "retype", "drop", "add", "poison", "exchange", "change"]
    match draw(st.sampled_from(acts)):
        case "rename":
            tensors[draw(st.text(min_size=1, max_size=8) | st.just(name + "x"))] = tensor
        case "reshape":
            shape = draw(st.sampled_from([(-1,), (1, *tensor.shape), tuple(reversed(tensor.shape))]))
            tensors[name] = tensor.reshape(shape).contiguous()
        case "retype":
            tensors[name] = tensor.to(draw(st.sampled_from([torch.float16, torch.float64, torch.int32])))
        case "add":
            tensors |= {name: tensor, "another": tensor.clone()}
        case "poison":
            tensor.view(-1)[draw(st.integers(0, tensor.numel() - 1))] = draw(
                st.sampled_from([float("nan"), float("inf"), float("-inf")])
            )
            tensors[name] = tensor
        case "exchange":
            other = draw(st.sampled_from(sorted(tensors)))
            tensors |= {name: tensors[other], other: tensor}
        case "change":
            tensors[name] = tensor + 1
    save_file(tensors, path)


def replace_a_file(folder: Path, draw: Draw) -> None:
    """Something else in the place of a file: nothing, a folder, a link, a FIFO, another file, a pickle."""
    path = choose_file(folder, draw)
    content = path.read_bytes()
    siblings = sorted(other for other in folder.iterdir() if other != path)
    path.unlink()
    kinds = ["nothing", "folder", "inside", "outside", "sibling", "FIFO", "device", "pickle"]
    match draw(st.sampled_from(kinds)):
        case "folder":
            path.mkdir()
        case "inside":
            (folder / "moved").write_bytes(content)
            path.symlink_to("moved")
        case "outside":
            (folder.parent / "outside").write_bytes(content)
            path.symlink_to(folder.parent / "outside")
        case "sibling":
            path.symlink_to(draw(st.sampled_from(siblings)).name)
        case "FIFO":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "pickle":
            torch.save({"a": torch.zeros(2)}, folder / "adapter_model.bin")


def add_a_file(folder: Path, draw: Draw) -> None:
    name = draw(
        st.sampled_from(["adapter_model.bin", "training_args.bin", "extra.json", "model.safetensors.part"])
    )
    (folder / name).write_bytes(draw(st.binary(max_size=16)))


HARMS = (
    flip_a_byte,
    cut_or_extend,
    change_the_headers_length,
    edit_json_file,
    edit_the_header,
    change_a_tensor,
    replace_a_file,
    add_a_file,
)


def harm(folder: Path, draw: Draw) -> tuple[str, ...]:
    """Do one or two things to the folder; their names. The first may make the second impossible."""
    done = []
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        act = draw(st.sampled_from(HARMS))
        try:
            act(folder, draw)
        except (OSError, ValueError, StopIteration, RuntimeError, KeyError, SafetensorError):
            if not done:
                raise
            break
        done.append(act.__name__)
    return tuple(done)
