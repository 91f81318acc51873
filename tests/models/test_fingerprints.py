import hashlib
import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from codestrata.models.fingerprints import (
    canonical_name,
    fingerprint_model,
    fingerprint_tensors,
    group_tied,
    list_slots,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shared.weight", "shared.weight"),
        ("base_model.model.shared.weight", "shared.weight"),
        (
            "base_model.model.encoder.block.5.base_layer.layer.0.SelfAttention.q.base_layer.weight",
            "encoder.block.5.layer.0.SelfAttention.q.weight",
        ),
    ],
)
def test_canonical_names(name, expected):
    assert canonical_name(name) == expected


def test_the_fingerprint_is_sha256_of_names_dtype_shape_and_bytes():
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.bias.copy_(torch.tensor([3.0]))
    expected = hashlib.sha256()
    for name, shape, values in (("bias", [1], [3.0]), ("weight", [1, 2], [1.0, 2.0])):
        expected.update(json.dumps([[name], "torch.float32", shape]).encode())
        expected.update(torch.tensor(values).numpy().tobytes())
    assert fingerprint_model(model) == expected.hexdigest()


def test_equal_models_agree_and_one_changed_bit_does_not(build_tiny_t5):
    one, two = build_tiny_t5(), build_tiny_t5()
    assert fingerprint_model(one) == fingerprint_model(two)
    weight = two.decoder.block[1].layer[2].DenseReluDense.wo.weight.data
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))
    assert fingerprint_model(one) != fingerprint_model(two)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_count(dtype, build_tiny_t5):
    assert fingerprint_model(build_tiny_t5().to(dtype)) != fingerprint_model(build_tiny_t5())


def test_memory_layout_does_not_count(build_tiny_t5):
    one, two = build_tiny_t5(), build_tiny_t5()
    weight = two.shared.weight
    weight.data = weight.data.t().contiguous().t()
    assert not weight.is_contiguous()
    assert fingerprint_model(one) == fingerprint_model(two)


def test_peft_wrapping_does_not_count(build_tiny_t5):
    base = build_tiny_t5()
    before = fingerprint_model(base)
    model = get_peft_model(base, LoraConfig(target_modules=["q", "wo"], task_type="SEQ_2_SEQ_LM"))
    assert fingerprint_model(base) == before
    assert fingerprint_model(model) == before
    model.add_adapter("second", LoraConfig(target_modules=["k"], task_type="SEQ_2_SEQ_LM"))
    assert fingerprint_model(model) == before


def test_tied_tensors_are_one_group_named_as_in_a_checkpoint(tiny_t5):
    groups = group_tied(list_slots(tiny_t5))
    assert [slot.name for slot in groups["shared.weight"]] == [
        "shared.weight",
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "lm_head.weight",
    ]
    assert set(groups) == set(dict(tiny_t5.named_parameters()))


def test_buffers_count_where_checkpoints_hold_them():
    def build(persistent: bool, value: float) -> nn.Module:
        module = nn.Linear(1, 1, bias=False)
        nn.init.ones_(module.weight)
        module.register_buffer("table", torch.tensor(value), persistent=persistent)
        return module

    assert fingerprint_model(build(True, 1.0)) != fingerprint_model(build(True, 2.0))
    assert fingerprint_model(build(False, 1.0)) == fingerprint_model(build(False, 2.0))


def test_tensors_are_hashed_by_name_dtype_shape_and_bytes():
    values = {"b": torch.tensor([3.0]), "a": torch.tensor([[1.0, 2.0]])}
    expected = hashlib.sha256()
    for name, shape, numbers in (("a", [1, 2], [1.0, 2.0]), ("b", [1], [3.0])):
        expected.update(json.dumps([name, "torch.float32", shape]).encode())
        expected.update(torch.tensor(numbers).numpy().tobytes())
    assert fingerprint_tensors(values) == expected.hexdigest()
    assert fingerprint_tensors(dict(reversed(values.items()))) == expected.hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.tensor([1.0, 2.5])},
        {"c": torch.tensor([1.0, 2.0])},
        {"a": torch.tensor([[1.0, 2.0]])},
        {"a": torch.tensor([1.0, 2.0], dtype=torch.float64)},
        {},
    ],
)
def test_other_tensors_have_another_fingerprint(other):
    assert fingerprint_tensors(other) != fingerprint_tensors({"a": torch.tensor([1.0, 2.0])})
