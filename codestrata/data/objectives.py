"""What is asked of the model: one function becomes one (prompt, target) example of an objective.

    generate    documentation -> code without its docstring
    summarize   code without its docstring -> first paragraph of the documentation
    complete    first half of the code -> second half
    continue    first half of the code -> whole code
    denoise     code with spans masked -> the masked spans
    copy        code -> the same code

``copy`` and ``continue`` are what the founding experiment trained on and scored. They measure little: an
echo of the prompt does well. The last four objectives keep the docstring in Python code.

What this does not do: choose, split or count the functions (``tasks`` does), or cut anything to a token
limit.
"""

import inspect
import random
import re
from functools import lru_cache
from itertools import accumulate, pairwise

from tree_sitter import Node

from codestrata.data.codesearchnet import Function
from codestrata.errors import DataError
from codestrata.files import hash_text
from codestrata.languages.parsing import parse
from codestrata.records import Example
from codestrata.settings.tasks import Objective

SENTINEL = "<extra_id_{}>"
SENTINEL_START = "<extra_id_"
MOST_SENTINELS = 100  # as many as T5's and CodeT5's vocabularies have
MOST_DOCSTRINGS = 100  # as each is cut, the next string of a function becomes its docstring

PIECE = re.compile(r"\s*(?:\w+|[^\w\s])(?:\s+\Z)?")
LINES = re.compile(r"\n*[^\n]+(?:\n+\Z)?")
COMMENT_MARKER = re.compile(r"^[ \t]*//+ ?", re.MULTILINE)
TAG_LINE = re.compile(r"\s*(?:@\w|:\w[^:]*:)")


def build_example(objective: Objective, function: Function) -> Example | str:
    """The function's example for an objective, or the reason why it cannot serve.

    The same function gives the same example in every process: ``denoise`` seeds its generator with SHA-256 of
    the function's identifier.
    """
    if not function.code.strip():
        return "no code"
    parts = build_parts(objective, function)
    if isinstance(parts, str):
        return parts
    prompt, target = parts
    return Example(identifier=function.identifier, prompt=prompt, target=target, group=function.repository)


def build_parts(objective: Objective, function: Function) -> tuple[str, str] | str:
    """(prompt, target), or the reason why there is none."""
    code = function.code
    match objective:
        case "generate" | "summarize":
            return build_documented_parts(objective, function)
        case "complete" | "continue":
            halves = split_half(code)
            if halves is None:
                return "too short to halve"
            return halves if objective == "complete" else (halves[0], code)
        case "denoise":
            if SENTINEL_START in code:
                return "code contains a sentinel"
            if len(PIECE.findall(code)) < 2:
                return "too short to mask"
            return corrupt_spans(code, random.Random(hash_text(function.identifier)))
        case "copy":
            return code, code
        case "repair":
            return "no repaired code"


def build_documented_parts(objective: Objective, function: Function) -> tuple[str, str] | str:
    """(prompt, target) of an objective between documentation and code, or the reason why there is none."""
    documentation = clean_documentation(function.docstring)
    if not documentation:
        return "no docstring"
    code = function.code
    if function.language == "python":
        code = cut_docstring(code)
        if code == function.code and squeeze(documentation) in squeeze(code):
            return "docstring cannot be cut from the code"
    if objective == "generate":
        return documentation, code
    summary = summarize_documentation(documentation)
    return (code, summary) if summary else "no summary"


def squeeze(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def clean_documentation(docstring: str) -> str:
    """The documentation without common indentation, outer blank lines and ``//`` comment markers (Go)."""
    return inspect.cleandoc(COMMENT_MARKER.sub("", docstring)).strip()


def summarize_documentation(documentation: str) -> str:
    """The first paragraph in one line: up to a blank line or a tag line (``@param``, ``:param x:``).

    Empty where the documentation starts with a tag.

    Source: Lu et al. 2021 (CodeXGLUE), arXiv:2102.04664. Theirs is tokenized and filtered by length and
        language; ours is the plain text of every documentation.
    """
    lines: list[str] = []
    for line in documentation.splitlines():
        if not line.strip() or TAG_LINE.match(line):
            break
        lines.append(line)
    return squeeze(" ".join(lines))


@lru_cache(maxsize=4)  # an example is built of it, and duplicates are looked for by it, one after the other
def cut_docstring(code: str) -> str:
    """Python code without the docstring of its first function or class; unchanged where it has none.

    Works for Python 2 and 3. The docstring's own lines go, and the blank lines after it. Where it was the
    only statement, ``pass`` stands in its place. A string right after it goes too, as it would become the
    docstring; more than 100 of them, and nothing is cut. Docstrings of inner functions stay.
    """
    remaining = code
    for _ in range(MOST_DOCSTRINGS):
        node = find_docstring(remaining)
        if node is None:
            return remaining
        remaining = cut_statement(remaining, node)
    return code


def cut_statement(code: str, node: Node) -> str:
    """Python code without one statement, its lines and the blank ones after it; ``pass`` for the only one."""
    source = code.encode()
    before, after = source[: node.start_byte], source[node.end_byte :]
    block = node.parent
    if block is None or all(child == node or child.type == "comment" for child in block.named_children):
        return (before + b"pass" + after).decode()
    semicolon = re.match(rb"[ \t]*;[ \t]*", after)
    rest = after[semicolon.end() :] if semicolon else after
    blank = re.match(rb"(?:[ \t]*\r?\n)+", rest)
    line_start = before.rfind(b"\n") + 1
    if blank and not before[line_start:].strip():
        before, rest = before[:line_start], rest[blank.end() :]
    return (before + rest).decode()


def find_docstring(code: str) -> Node | None:
    """The statement that is the docstring of the first function or class in Python code."""
    definition = find_definition(parse("python", code).root_node)
    body = definition.child_by_field_name("body") if definition else None
    statements = [child for child in body.named_children if child.type != "comment"] if body else []
    if not statements or statements[0].type != "expression_statement":
        return None
    value = statements[0].named_children[0]
    strings = value.named_children if value.type == "concatenated_string" else [value]
    plain = all(node.type == "string" and is_plain_string(node) for node in strings)
    return statements[0] if plain else None


def is_plain_string(node: Node) -> bool:
    """Whether a string literal is neither bytes nor formatted, which Python does not take as docstrings."""
    start = node.children[0].text or b""
    return not set(start.lower()) & set(b"bft")


def find_definition(node: Node) -> Node | None:
    """The first function or class at the top of a tree, inside decorators and unreadable parts too."""
    waiting = node.named_children[::-1]
    while waiting:
        child = waiting.pop()
        if child.type in ("function_definition", "class_definition"):
            return child
        if child.type in ("decorated_definition", "ERROR"):
            waiting += child.named_children[::-1]
    return None


def split_half(text: str) -> tuple[str, str] | None:
    """The two halves of a text, which joined give the text again; ``None`` where a half would be blank.

    The cut is at the line start nearest to the middle character, the earlier of two that are equally near.
    Text without such a line start, with something on both sides, is cut at the middle character.
    """
    middle = len(text) // 2
    starts = accumulate(map(len, text.splitlines(keepends=True)))
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())  # of what is no white space
    inner = [start for start in starts if first < start < last]
    cut = min(inner, key=lambda start: abs(start - middle), default=middle)
    halves = text[:cut], text[cut:]
    return halves if all(half.strip() for half in halves) else None


def corrupt_spans(
    text: str,
    rng: random.Random,
    rate: float = 0.15,
    mean_length: float = 3.0,
    pieces: re.Pattern[str] = PIECE,
) -> tuple[str, str]:
    """(source, target): the text with spans replaced by sentinels, and the sentinels with what they replaced.

    ``a b c d e`` may become ``a<extra_id_0> d<extra_id_1>`` and ``<extra_id_0> b c<extra_id_1> e``. A piece
    is a word or a punctuation mark with the white space before it (the last one also with what follows).
    Spans never touch, every piece of the text is in exactly one of the two, and putting each span in its
    sentinel's place gives the text again.

    Args:
        text: at least two pieces, without sentinels of its own.
        rng: decides where the spans lie.
        rate: share of pieces to mask, in (0, 1); at least one piece is masked and one kept.
        mean_length: mean span length in pieces, at least 1; longer where 100 sentinels would not do.
        pieces: what a piece is: words and marks, or whole ``LINES``; together they must cover the text.

    Raises: DataError: the text has fewer than two pieces or contains a sentinel.
    Source: Raffel et al. 2020 (T5), arXiv:1910.10683. Theirs masks tokens and always the last one; ours masks
        pieces, any of them, so that no tokenizer is needed. Like theirs, no sentinel closes the target.
    """
    parts = pieces.findall(text)
    if len(parts) < 2 or SENTINEL_START in text:
        raise DataError(f"cannot mask {text[:40]!r}: it needs two words and no {SENTINEL_START}...>")
    masked = min(max(round(len(parts) * rate), 1), len(parts) - 1)
    kept = len(parts) - masked
    spans = min(max(round(masked / mean_length), 1), masked, kept + 1, MOST_SENTINELS)
    lengths = draw_parts(masked, spans, rng)
    gaps = draw_parts(kept + 2, spans + 1, rng)
    gaps[0] -= 1  # with the last gap, which is what remains, the only ones that may be empty: hence kept + 2
    source, target, position = [], [], 0
    for number, length in enumerate(lengths):
        start = position + gaps[number]
        sentinel = SENTINEL.format(number)
        source += [*parts[position:start], sentinel]
        position = start + length
        target += [sentinel, *parts[start:position]]
    return "".join(source + parts[position:]), "".join(target)


def draw_parts(total: int, parts: int, rng: random.Random) -> list[int]:
    """``total`` as an ordered sum of ``parts`` whole numbers of at least 1, every such sum equally likely."""
    cuts = [0, *sorted(rng.sample(range(1, total), parts - 1)), total]
    return [end - start for start, end in pairwise(cuts)]
