"""What the records of a file are like: their signs, their languages, and their lengths in a base's tokens.

What this does not do: compare records with each other (``repeats`` does), or load a model's weights.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from codestrata.data.faults import Found
from codestrata.data.sieve import list_texts
from codestrata.data.sourced import SourcedExample
from codestrata.data.tokens import encode_texts
from codestrata.errors import describe_unknown
from codestrata.inspection.options import TEXTS_AT_ONCE, CheckOptions
from codestrata.languages.parsing import is_valid, list_languages
from codestrata.progress import Progress
from codestrata.records import Example
from codestrata.settings.sections import BaseSettings

MOST_PARSED = 1000
MOST_MEASURED = 20_000
"""Of more records, an even sample is parsed and measured."""
LONGEST_PARSED = 20_000
"""Longer code is not parsed: a grammar may take very long over one long error."""


def read_texts(found: Found) -> tuple[str, ...]:
    """All texts of a record, its names among them."""
    return list_texts(found.record)


def describe_texts(records: Sequence[Found]) -> dict[str, int]:
    """How many records hold signs of a wrong encoding, and how many more than ASCII."""
    counts = {"replacement_characters": 0, "control_characters": 0, "not_ascii": 0}
    for found in records:
        text = "\n".join(read_texts(found))
        counts["replacement_characters"] += "\ufffd" in text
        counts["control_characters"] += any(mark < " " and mark not in "\t\n\r\f" for mark in set(text))
        counts["not_ascii"] += not text.isascii()
    return counts


def describe_languages(records: Sequence[Found]) -> list[dict[str, Any]]:
    """The languages of the records, and which share of their code has a syntax tree without errors."""
    grouped: dict[str | None, list[str]] = {}
    for found in records:
        record = found.record
        code = record.example.target if isinstance(record, SourcedExample) else record.code
        grouped.setdefault(found.language, []).append(code)
    return [
        {"language": language, "records": len(codes), **measure_parsing(language, codes)}
        for language, codes in sorted(grouped.items(), key=lambda entry: (-len(entry[1]), str(entry[0])))
    ]


def measure_parsing(language: str | None, codes: Sequence[str]) -> dict[str, Any]:
    """The share of an even sample of code that parses; ``None`` with the reason where it cannot be said."""
    nothing = {"parsed_share": None, "parsed_of": 0}
    if language is None:
        return {**nothing, "parsed_reason": "the records name no language: say it with --language"}
    if language not in list_languages():
        return {**nothing, "parsed_reason": describe_unknown("language", language, list_languages())}
    sample = [code for code in take_evenly(codes, MOST_PARSED) if len(code) <= LONGEST_PARSED]
    if not sample:
        return {**nothing, "parsed_reason": f"all code is longer than {LONGEST_PARSED} characters"}
    valid = sum(is_valid(language, code) for code in sample)
    return {"parsed_share": valid / len(sample), "parsed_of": len(sample), "parsed_reason": None}


def take_evenly(items: Sequence[Any], most: int) -> Sequence[Any]:
    """At most so many of the items, at even distances."""
    if len(items) <= most:
        return items
    return [items[number * len(items) // most] for number in range(most)]


def measure_lengths(records: Sequence[Found], options: CheckOptions, watcher: Progress) -> dict[str, Any]:
    """Tokens of prompts and targets in the base's tokenizer, and how many are over the limits."""
    examples = [found.example for found in records if isinstance(found.example, Example)]
    about = {"base": options.base, "examples": len(examples), "measured": 0, "prompt": None, "target": None}
    if not examples:
        return {**about, "longest_of_base": None, "reason": "there are no examples"}
    tokenizer, is_causal = load_tokens(options.base)
    sample = take_evenly(examples, MOST_MEASURED)
    prompts: list[int] = []
    targets: list[int] = []
    watcher.start("measure", len(sample))
    for first in range(0, len(sample), TEXTS_AT_ONCE):
        part = sample[first : first + TEXTS_AT_ONCE]
        prompt_part, target_part = ("prompt", "continuation") if is_causal else ("whole", "whole")
        for texts, lengths, which in (
            ([example.prompt for example in part], prompts, prompt_part),
            ([example.target for example in part], targets, target_part),
        ):
            lengths += map(len, encode_texts(texts, tokenizer, part=which))  # type: ignore[arg-type]
        watcher.advance(first + len(part), "examples")
    longest = getattr(tokenizer, "model_max_length", None)
    return {
        **about,
        "measured": len(sample),
        "longest_of_base": longest if isinstance(longest, int) and longest < 10**9 else None,
        "prompt": describe_lengths(prompts, options.max_prompt_tokens),
        "target": describe_lengths(targets, options.max_target_tokens),
        "reason": None,
    }


def load_tokens(base: str) -> tuple[Any, bool]:
    """(the base's tokenizer, whether it is a decoder alone); no weights are read."""
    from codestrata.models.families import find_family_by_type
    from codestrata.models.loading import explain_failures, load_config, load_tokenizer
    from codestrata.models.pocket import POCKET, find_pocket

    settings = BaseSettings(name=base)
    source = str(find_pocket()) if base == POCKET else base
    tokenizer = load_tokenizer(source, settings)
    with explain_failures(source, settings.revision, key="base.name"):
        kind = getattr(load_config(source, settings), "model_type", None)
    return tokenizer, find_family_by_type(kind, label=source).is_causal


def describe_lengths(lengths: Sequence[int], limit: int) -> dict[str, Any]:
    """Median, 95th percentile and maximum; how many are over the limit."""
    counts = np.asarray(lengths)
    return {
        "median": float(np.median(counts)),
        "p95": float(np.percentile(counts, 95, method="higher")),
        "max": int(counts.max()),
        "limit": limit,
        "truncated": int((counts > limit).sum()),
    }
