"""Fixtures for all tests: tiny models with random weights, built from configurations, without downloads."""

import copy
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def build_tiny_t5() -> Callable[..., Any]:
    """Makes a T5 with random weights in evaluation mode; 2 + 2 blocks unless told otherwise."""

    def build(*, seed: int = 0, **overrides: Any) -> Any:
        import torch
        from transformers import T5Config, T5ForConditionalGeneration

        values = {
            "vocab_size": 64,
            "d_model": 16,
            "d_kv": 4,
            "d_ff": 32,
            "num_layers": 2,
            "num_heads": 4,
            "feed_forward_proj": "relu",
            "pad_token_id": 0,
            "eos_token_id": 1,
            "decoder_start_token_id": 0,
            **overrides,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return T5ForConditionalGeneration(T5Config(**values)).eval()

    return build


@pytest.fixture(scope="session")
def first_tiny_t5(build_tiny_t5: Callable[..., Any]) -> Any:
    """The tiny T5 that ``tiny_t5`` copies; do not change it."""
    return build_tiny_t5()


@pytest.fixture
def tiny_t5(first_tiny_t5: Any) -> Any:
    """A tiny T5 of one's own."""
    return copy.deepcopy(first_tiny_t5)
