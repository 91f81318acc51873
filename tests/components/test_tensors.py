"""A safetensors file is believed in nothing: every number of its header is checked before it is used."""

import hashlib
import json

import pytest
import torch
from probing import join_safetensors
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from codestrata.components.folders import LARGEST_JSON_BYTES
from codestrata.components.tensors import DTYPES, Outline, is_finite, read_tensors, write_tensors
from codestrata.errors import ComponentError

F32 = torch.float32
EXPECTED = (Outline("a", F32, (2, 3)), Outline("b", torch.bfloat16, (4,)))
TENSORS = {"a": torch.arange(6, dtype=F32).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
HEADER = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
}
NAME = "tensors.safetensors"


def read(path, expected=EXPECTED, **values):
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return read_tensors(path.parent, path.name, expected, **{"sha256": sha256, **values})


@pytest.fixture
def path(tmp_path):
    return tmp_path / NAME


def test_tensors_are_read_as_they_were_written(path):
    write_tensors(path, TENSORS)
    found = read(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in found)
    assert all(found[name].dtype == TENSORS[name].dtype for name in found)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 0), (2, 1, 3)], ids=str)
def test_every_dtype_and_shape(dtype, shape, path):
    tensor = torch.arange(100)[: torch.Size(shape).numel()].to(dtype).reshape(shape)
    save_file({"x": tensor, "y": torch.ones(3)}, path)
    found = read(path, [Outline("x", dtype, shape), Outline("y", F32, (3,))])
    assert found["x"].dtype == dtype
    assert torch.equal(found["x"], tensor)


def edit(**values):
    """The good header with other values in the entry of tensor b."""
    return {**HEADER, "b": {**HEADER["b"], **values}}


def swap_names(header):
    return {"a": header["b"], "b": header["a"]}


BAD_HEADERS = {
    "overlap": (edit(data_offsets=[20, 28]), "overlaps"),
    "the same bytes": ({**HEADER, "c": HEADER["b"]}, "overlaps"),
    "hole": (edit(data_offsets=[25, 33]), "follows bytes of none"),
    "beyond the end": (edit(shape=[5], data_offsets=[24, 34]), "34 bytes of tensors, but the file holds 32"),
    "bytes left over": (edit(shape=[3], data_offsets=[24, 30]), "30 bytes of tensors, but the file holds 32"),
    "far away": (edit(data_offsets=[2**59, 2**59 + 8]), "follows bytes of none"),
    "backwards": (edit(data_offsets=[32, 24]), "data_offsets [32, 24]"),
    "negative offsets": (edit(data_offsets=[-8, 0]), "data_offsets [-8, 0]"),
    "one offset": (edit(data_offsets=[24]), "data_offsets [24]"),
    "three offsets": (edit(data_offsets=[24, 32, 32]), "data_offsets"),
    "offsets of another type": (edit(data_offsets="24"), "data_offsets '24'"),
    "fractional offsets": (edit(data_offsets=[24.0, 32.0]), "data_offsets [24.0, 32.0]"),
    "truth for offsets": (edit(data_offsets=[True, 32]), "data_offsets [True, 32]"),
    "negative shape": (edit(shape=[-4]), "the shape [-4]"),
    "two negative sides": (edit(shape=[-2, -2]), "the shape [-2, -2]"),
    "shape that overflows": (edit(shape=[2**32, 2**32, 4]), "data_offsets"),
    "shape that overflows to the right size": (edit(shape=[2**59, 32, 1]), "data_offsets"),
    "too many sides": (edit(shape=[1] * 100_000), "the shape [1, 1, 1"),
    "no shape": (edit(shape=None), "the shape None"),
    "fractional shape": (edit(shape=[4.0]), "the shape [4.0]"),
    "nested shape": (edit(shape=[[4]]), "the shape [[4]]"),
    "unknown dtype": (edit(dtype="F4"), "has dtype 'F4'; known are F64, F32"),
    "dtype of another type": (edit(dtype=["BF16"]), "has dtype ['BF16']"),
    "dtype of another size": (edit(dtype="F32"), "data_offsets"),
    "stranger in an entry": (edit(stranger=1), "is described by"),
    "no entry": ({**HEADER, "b": 7}, "'b' is described by 7"),
    "empty entry": ({**HEADER, "b": {}}, "'b' is described by {}"),
    "metadata of numbers": ({"__metadata__": {"a": 1}, **HEADER}, "__metadata__ is {'a': 1}"),
    "metadata that is text": ({"__metadata__": "pt", **HEADER}, "__metadata__ is 'pt'"),
    "no object": ([HEADER], "its header is no JSON object"),
    "name twice": (json.dumps(HEADER)[:-1] + ', "a": ' + json.dumps(HEADER["a"]) + "}", "'a' occurs twice"),
    "key twice": (
        json.dumps(HEADER).replace('"shape"', '"dtype": "F32", "shape"', 1),
        "'dtype' occurs twice",
    ),
    "spaces first": (" " + json.dumps(HEADER), "its header is no JSON object"),
    "no JSON": (json.dumps(HEADER)[:-1], "not JSON"),
    "deep": ('{"a": ' + "[" * 100_000, "nested too deeply"),
    "long number": (json.dumps(HEADER).replace("24", "9" * 5000), "too large"),
    "no text": ('{"a": "\x00"}', "not JSON"),
}


@pytest.mark.parametrize("fault", BAD_HEADERS)
def test_a_hostile_header_is_refused(fault, path):
    header, message = BAD_HEADERS[fault]
    join_safetensors(path, header, bytes(32))
    with pytest.raises(ComponentError) as caught:
        read(path)
    assert message in str(caught.value)
    assert f"{path}: damaged: " in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("header", [header for header, _ in BAD_HEADERS.values()], ids=list(BAD_HEADERS))
def test_what_the_reference_refuses_is_refused(header, path):
    """Of the hostile headers the reference reader takes some that we refuse; never the other way round."""
    join_safetensors(path, header, bytes(32))
    try:
        load_file(path)
    except (SafetensorError, RuntimeError, KeyError, TypeError):
        with pytest.raises(ComponentError):
            read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends before its header does (0 bytes)"),
        (b"\x01\x00", "ends before its header does (2 bytes)"),
        (b"\xff" * 8 + b"{}", "ends before its header does (10 bytes)"),
        ((2**63).to_bytes(8, "little") + b"{}", "ends before its header does (10 bytes)"),
        ((3).to_bytes(8, "little") + b"{}", "ends before its header does (10 bytes)"),
        ((0).to_bytes(8, "little"), "its header is no JSON object"),
        (b"PK\x03\x04" + bytes(100), "ends before its header does (104 bytes)"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_that_is_too_short_for_its_header(content, message, path):
    path.write_bytes(content)
    with pytest.raises(ComponentError) as caught:
        read(path)
    assert message in str(caught.value)


def test_a_header_of_100_mib_is_not_read(path):
    with path.open("wb") as file:
        file.write((100 * 2**20).to_bytes(8, "little") + b"{")
        file.truncate(200 * 2**20)  # sparse: takes no room
    with pytest.raises(ComponentError, match=f"a header of 104857600 bytes, at most {LARGEST_JSON_BYTES}"):
        read_tensors(path.parent, path.name, EXPECTED, sha256="")


def refuse(path, tensors, message):
    save_file(tensors, path)
    with pytest.raises(ComponentError, match=message):
        read(path)


def test_tensors_that_were_not_promised_are_named(path):
    refuse(path, {"a": TENSORS["a"]}, r"tensor 'b': expected bfloat16 \[4\], found nothing")
    refuse(path, TENSORS | {"0": torch.zeros(1)}, r"tensor '0': expected nothing, found float32 \[1\]")
    refuse(path, TENSORS | {"b": torch.ones(4)}, r"tensor 'b': expected bfloat16 \[4\], found float32 \[4\]")
    refuse(path, TENSORS | {"a": torch.ones(3, 2)}, r"expected float32 \[2, 3\], found float32 \[3, 2\]")
    refuse(path, {name.upper(): tensor for name, tensor in TENSORS.items()}, "tensor 'a': .* found nothing")


def test_an_endless_promise_is_read_as_far_as_the_file_agrees(path):
    def promise():
        yield from EXPECTED
        for number in range(10**12):
            yield Outline(f"more {number}", F32, (1,))

    save_file(TENSORS, path)
    with pytest.raises(ComponentError, match=r"tensor 'more 0': expected .* found nothing"):
        read(path, promise())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("name", ["a", "b"])
def test_values_that_are_not_finite_are_refused_with_the_tensors_name(value, name, path):
    tensors = {key: tensor.clone() for key, tensor in TENSORS.items()}
    tensors[name].view(-1)[1] = value
    refuse(path, tensors, f"tensor '{name}' holds NaN or infinity")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_the_largest_numbers_are_finite(dtype):
    limits = torch.finfo(dtype)
    assert is_finite(torch.tensor([limits.min, limits.max, limits.tiny, -0.0], dtype=dtype))
    assert not is_finite(torch.tensor([0.0, float("nan")], dtype=dtype))
    assert is_finite(torch.tensor([], dtype=dtype))


def test_a_byte_that_changed_is_found(path):
    write_tensors(path, TENSORS)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ComponentError, match=rf"changed since .* component\.json says {sha256}"):
        read(path, sha256=sha256)


def test_a_file_that_shrinks_while_it_is_read(path, monkeypatch):
    """A reader that maps the file into memory would be killed by the system here."""
    from codestrata.components import tensors

    compare = tensors.compare

    def shrink(*arguments):
        compare(*arguments)
        path.write_bytes(path.read_bytes()[:-4])

    write_tensors(path, {**TENSORS, "b": torch.ones(4, dtype=torch.bfloat16)})
    large = {"a": torch.ones(300, 1000), "b": TENSORS["b"]}  # larger than what is read ahead
    write_tensors(path, large)
    monkeypatch.setattr(tensors, "compare", shrink)
    with pytest.raises(ComponentError, match="ends inside tensor 'b'"):
        read(path, [Outline("a", F32, (300, 1000)), EXPECTED[1]])


def test_more_than_the_largest_size_is_refused_unread(path, monkeypatch):
    monkeypatch.setattr("codestrata.components.tensors.read_values", None)
    side = 2**34
    entry = {"dtype": "F32", "shape": [side, 1], "data_offsets": [0, 4 * side]}
    join_safetensors(path, {"a": entry}, b"")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 4 * side)  # sparse: 64 GiB that take no room
    with pytest.raises(ComponentError, match=f"{4 * side} bytes of tensors, where at most 1000 are read"):
        read_tensors(path.parent, path.name, [Outline("a", F32, (side, 1))], sha256="", largest_bytes=1000)


def test_the_same_tensors_give_the_same_bytes(path, tmp_path):
    write_tensors(path, TENSORS)
    write_tensors(tmp_path / "again", dict(reversed(TENSORS.items())))
    assert path.read_bytes() == (tmp_path / "again").read_bytes()
