import pytest

from codestrata.metrics.agreement import score_agreement
from codestrata.records import Prediction


def said(tokens, agreed, shifted):
    return Prediction(
        identifier="a", prompt="p", target="t", completion="c", tokens=tokens, agreed=agreed, shifted=shifted
    )


@pytest.mark.parametrize(
    ("counts", "agreement", "shift"),
    [
        ([(4, 4, 0)], 1.0, 0.0),
        ([(4, 0, 4)], 0.0, 1.0),
        ([(4, 3, 1), (4, 1, 1)], 0.5, 0.25),
        ([(8, 8, 0), (2, 0, 2)], 0.8, 0.2),  # tokens count, not completions
        ([(0, 0, 0), (5, 2, 1)], 0.4, 0.2),
    ],
)
def test_shares_are_of_all_tokens_together(counts, agreement, shift):
    scores = score_agreement([said(*count) for count in counts])
    assert [found.metric for found in scores] == ["base_agreement", "base_shift"]
    assert [found.value for found in scores] == pytest.approx([agreement, shift])
    for found in scores:
        numerators, denominators = map(sum, zip(*found.statistics, strict=True))
        assert found.value == pytest.approx(numerators / denominators)
        assert found.aggregate == "ratio"


def test_single_examples_have_their_own_shares():
    agreement, shift = score_agreement([said(4, 3, 1), said(0, 0, 0)])
    assert agreement.per_example == (0.75, None)
    assert shift.per_example == (0.25, None)


@pytest.mark.parametrize(
    ("predictions", "reason"),
    [
        ([], "no predictions"),
        ([said(3, None, None)], "not asked"),
        ([said(3, 1, 1), said(3, None, None)], "not asked"),
        ([said(None, 1, 1)], "not asked"),
        ([said(0, 0, 0)], "no tokens"),
    ],
)
def test_what_cannot_be_told_has_a_reason(predictions, reason):
    for found in score_agreement(predictions):
        assert found.value is None
        assert reason in found.reason
