"""The chunked loss against PyTorch's own cross entropy: value, gradients, memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from codestrata.data.batches import IGNORED
from codestrata.engine import losses
from codestrata.engine.losses import bare_head, measure_loss


def build_head(*, width=8, vocabulary=11, bias=False, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(width, vocabulary, bias=bias)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def measure_reference(hidden, head, labels):
    logits = head(hidden)
    return nn.functional.cross_entropy(
        logits.view(-1, logits.shape[-1]), labels.view(-1), ignore_index=IGNORED, reduction="sum"
    )


def differentiate(measure, hidden, head, labels):
    """The loss and the gradients of states, weight and bias."""
    hidden = hidden.clone().requires_grad_(True)
    head.zero_grad()
    loss = measure(hidden, head, labels)
    loss.backward()
    return loss.detach(), hidden.grad, head.weight.grad, None if head.bias is None else head.bias.grad


def ours(hidden, head, labels):
    return measure_loss(hidden, head, labels, torch.float32)


@settings(max_examples=30, deadline=None)
@given(
    tokens=st.integers(1, 9),
    at_once=st.sampled_from([1, 22, 33, 10**6]),
    bias=st.booleans(),
    frozen=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equals_pytorch(tokens, at_once, bias, frozen, seed):
    head = build_head(bias=bias, seed=seed)
    head.requires_grad_(not frozen)
    hidden = 3 * draw(2, tokens, 8, seed=seed)
    labels = torch.randint(0, 11, (2, tokens), generator=torch.Generator().manual_seed(seed))
    labels[1, tokens // 2 :] = IGNORED
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(losses.LOGITS_AT_ONCE, "cpu", at_once)
        found = differentiate(ours, hidden, head, labels)
    expected = differentiate(measure_reference, hidden, head, labels)
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_gradients_follow_the_losses_own():
    head, hidden, labels = build_head(), draw(3, 8), torch.tensor([1, 2, 3])
    once = differentiate(ours, hidden, head, labels)[1]
    thrice = differentiate(lambda *given: ours(*given) * 3, hidden, head, labels)[1]
    torch.testing.assert_close(thrice, 3 * once)


def test_extreme_logits_stay_finite():
    head = build_head()
    with torch.no_grad():
        head.weight.mul_(1e4)
    loss, slope, *_ = differentiate(ours, draw(4, 8), head, torch.tensor([0, 1, 2, 3]))
    assert torch.isfinite(loss)
    assert torch.isfinite(slope).all()


def test_nothing_to_count_is_zero():
    loss, slope, *_ = differentiate(ours, draw(2, 8), build_head(), torch.tensor([IGNORED, IGNORED]))
    assert loss == 0
    assert not slope.any()


def test_low_precision_is_near():
    head, hidden, labels = build_head(vocabulary=50), draw(6, 8), torch.arange(6)
    low = measure_loss(hidden, head, labels, torch.bfloat16)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, ours(hidden, head, labels), rtol=2e-2, atol=0)


def test_no_tensor_of_all_logits(monkeypatch):
    monkeypatch.setitem(losses.LOGITS_AT_ONCE, "cpu", 100)
    sizes = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), keywords=None):
            result = function(*arguments, **(keywords or {}))
            if isinstance(result, torch.Tensor):
                sizes.append(result.numel())
            return result

    head, hidden = build_head(vocabulary=50), draw(40, 8)
    with Watch():
        measure_loss(hidden, head, torch.arange(40), torch.float32)
    assert max(sizes) == 50 * 8  # the weight; all logits would be 40 * 50


def test_bare_head_gives_states_and_comes_back(tiny_t5):
    ids = torch.tensor([[5, 6, 1]])
    logits = tiny_t5(input_ids=ids, decoder_input_ids=ids).logits
    before = tiny_t5.lm_head
    with bare_head(tiny_t5) as head:
        states = tiny_t5(input_ids=ids, decoder_input_ids=ids).logits
        assert torch.equal(head(states), logits)
    with pytest.raises(KeyError), bare_head(tiny_t5):
        raise KeyError
    assert tiny_t5.lm_head is before


def test_no_gradient_is_made_where_none_is_wanted(monkeypatch):
    head, labels = build_head(bias=True), torch.tensor([[1, 2, IGNORED]])
    expected = ours(draw(1, 3, 8), head, labels).detach()
    monkeypatch.setattr(losses, "add_gradients", lambda *_: pytest.fail("a gradient was made"))
    with torch.no_grad():
        assert torch.equal(ours(draw(1, 3, 8), head, labels), expected)
