"""Answers that need no learning: a method is worth something where it is above them.

What this does not do: ask a model. The third control, the untouched base, is row 0 of every R, and the noise
floor comes from decoding the same weights twice (``experiment.probes``).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from codestrata.records import Example, Prediction

TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Control:
    """One way to answer without a model: ``answer(training examples, prompts) -> completions``."""

    name: str
    about: str
    source: str
    answer: Callable[[Sequence[Example], Sequence[str]], list[str]]


def repeat_prompts(train: Sequence[Example], prompts: Sequence[str]) -> list[str]:
    """Every prompt as its own completion."""
    return list(prompts)


def find_nearest(train: Sequence[Example], prompts: Sequence[str]) -> list[str]:
    """For every prompt the target of the training example whose prompt is most similar by BM25.

    Similarity is Lucene's BM25 (k1 = 1.5, b = 0.75) over lower-case words and single marks; of equally
    similar examples the first answers, and a prompt that shares no token with any training prompt gets the
    first target of all.

    Source: Robertson & Zaragoza 2009, doi:10.1561/1500000019, as in ``bm25s`` (Lu 2024, arXiv:2407.03618).
    """
    from bm25s import BM25

    # bm25s knows no empty text: a word that no prompt can contain stands for one.
    index = BM25(method="lucene", k1=1.5, b=0.75)
    index.index([split_tokens(example.prompt) or ["\0"] for example in train], show_progress=False)
    known = index.vocab_dict
    targets = []
    for prompt in prompts:
        tokens = [token for token in split_tokens(prompt) if token in known]
        scores = index.get_scores(tokens) if tokens else np.zeros(len(train))
        targets.append(train[int(np.argmax(scores))].target)
    return targets


def split_tokens(text: str) -> list[str]:
    """The lower-case words and single marks of a text."""
    return TOKEN.findall(text.lower())


CONTROLS = (
    Control(
        name="echo",
        about="repeats its prompt",
        source="codestrata: what scores well here measures overlap of prompt and target",
        answer=repeat_prompts,
    ),
    Control(
        name="nearest",
        about="the target of the most similar training prompt (BM25)",
        source="Robertson & Zaragoza 2009, doi:10.1561/1500000019",
        answer=find_nearest,
    ),
)


def predict_control(
    control: Control, train: Sequence[Example], examples: Sequence[Example], samples: int = 1
) -> tuple[Prediction, ...]:
    """What the control answers to each example: every sample of it the same, as many as a model draws."""
    completions = control.answer(train, [example.prompt for example in examples])
    return tuple(
        Prediction(
            identifier=example.identifier,
            prompt=example.prompt,
            target=example.target,
            completion=completion,
            tests=example.tests,
            group=example.group,
            prelude=example.prelude,
            sample=sample,
        )
        for example, completion in zip(examples, completions, strict=True)
        for sample in range(samples)
    )
