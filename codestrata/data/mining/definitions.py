"""The functions of one source file with their documentation, as CodeSearchNet cuts them.

A function is its node in the syntax tree: a Python function without its decorators, a JavaScript function
without the variable it is put into. Its tokens and documentation are those of CodeSearchNet's records
(``tokens``, ``documentation``). Unlike there, nested functions and classes, Java's interfaces, PHP's
functions outside classes, Ruby's ``def self.name`` and JavaScript's methods and arrow functions count too.

What this does not do: choose the functions worth keeping (``filters`` does), read files (``texts`` does), or
cut functions out of code that is broken there: such functions are counted.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import thread_time
from typing import Literal, NamedTuple

from tree_sitter import Node, Parser, QueryCursor

from codestrata.data.mining.comments import Comments, find_code
from codestrata.data.mining.documentation import build_summary, clean_go, cut_summary, read_docstring
from codestrata.data.mining.grammars import RULES, WRAPPER, load_mining_grammar, load_query
from codestrata.data.mining.tokens import read_code, tokenize_docstring
from codestrata.errors import SettingsError, SlowParseError, describe_unknown
from codestrata.languages.parsing import parse_in_time

Kind = Literal["function", "method", "constructor"]
BROKEN = "broken code"
DEEP = "nested too deeply"
UNDOCUMENTED = "no documentation"

MOST_FRAMED_CHARACTERS = 30_000
"""The longest text that is tried as a fragment; a longer one that is not valid is a broken file."""
MOST_AROUND = 10
"""A function in more classes and mined functions is left out, so that the code of all stays in proportion."""
MOST_SECONDS = 60.0
MARKUP_SUFFIX = ".tsx"
PHP_OPENING = "<?php "
PHP_TAG = re.compile(r"\s*(<\?(?:php)?)(?=\s)")
MOST_NAME_CHARACTERS = 200
MOST_PREFIX_BYTES = 200
COMPUTED = frozenset({"computed_property_name", "subscript_expression"})
PATH = re.compile(r"[\w$#]+(?:\s*\.\s*[\w$#]+)*")
WITHOUT_MEANING = frozenset(
    {"module", "exports", "this", "self", "window", "global", "globalThis", "prototype"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """One function.

    ``name`` is empty where it has none; in ``qualified_name`` the classes around it, and Ruby's modules,
    stand before it. ``docstring`` is empty without documentation; ``summary`` is its first paragraph in one
    line, which ``docstring_tokens`` are of. Lines count from 1, both included. ``digest`` is a number that
    functions share whose code differs in layout, comments and docstring at most.
    """

    name: str
    qualified_name: str
    code: str
    code_tokens: tuple[str, ...]
    docstring: str
    docstring_tokens: tuple[str, ...]
    summary: str
    start_line: int
    end_line: int
    kind: Kind
    digest: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Extraction:
    """The functions of a source in the order of their place.

    ``has_errors`` is whether its syntax has any; ``left_out`` is how many functions were found but not given,
    by reason: ``BROKEN``, ``UNDOCUMENTED`` where only documented ones were asked for, ``DEEP``.
    """

    functions: tuple[Definition, ...]
    has_errors: bool
    left_out: Counter[str]


class Around(NamedTuple):
    """A function or class that another is in.

    ``name`` is that of a class, ``None`` for a function; ``depth`` is how many classes and functions that are
    given it makes, with those around it.
    """

    node: Node
    name: str | None
    depth: int


class Parsed(NamedTuple):
    """A source with its frame, which ends at byte ``begin``, its tree, and what the language's query found.

    ``names`` and ``holders`` are, by a node's number, what it is put into: the name's node and the whole's.
    """

    language: str
    content: bytes
    begin: int
    root: Node
    functions: list[Node]
    classes: list[Node]
    comments: list[Node]
    before: list[Node]
    names: dict[int, Node]
    holders: dict[int, Node]


def extract(
    language: str,
    source: str,
    *,
    suffix: str | None = None,
    documented_only: bool = False,
    most_seconds: float = MOST_SECONDS,
) -> Extraction:
    """All functions of a source: of a file, or of a fragment such as a method without its class.

    Args:
        language: one of ``grammars.RULES``.
        source: any text; a byte order mark at its beginning is no part of it.
        suffix: how the name of the file ends that the source is, such as ``.tsx``; ``None`` where it is none.
        documented_only: leave out functions without documentation, which takes far less time.
        most_seconds: how much of the processor's time it may take.

    Raises:
        SettingsError: the language cannot be mined.
        SlowParseError: the time is over.
    """
    if language not in RULES:
        raise SettingsError(describe_unknown("language to mine", language, RULES))
    end = thread_time() + most_seconds
    parsed = read_source(language, source.removeprefix("\ufeff"), suffix, end)
    functions: list[Definition] = []
    left_out: Counter[str] = Counter()
    for found in find_functions(parsed, documented_only=documented_only):
        if thread_time() > end:
            raise SlowParseError(f"its functions take longer than {most_seconds:g} s")
        if isinstance(found, str):
            left_out[found] += 1
        else:
            functions.append(found)
    return Extraction(functions=tuple(functions), has_errors=parsed.root.has_error, left_out=left_out)


def read_source(language: str, source: str, suffix: str | None, end: float) -> Parsed:
    """A source read in the first frame in which it is valid and has functions, else in the first of all.

    Raises: SlowParseError: the thread's clock has passed ``end``.
    """
    first = None
    for before, text, after, with_markup in list_frames(language, source, suffix):
        content = f"{before}{text}{after}".encode("utf-8", "replace")
        own = range(len(before), len(content) - len(after) + 1)
        parser = Parser(load_mining_grammar(language, with_markup=with_markup))
        root = parse_in_time(parser, content, end - thread_time()).root_node
        parsed = run_query(language, content, root, own, with_markup=with_markup)
        if parsed.functions and not root.has_error:
            return parsed
        first = first or parsed
    assert first is not None  # there is always a frame
    return first


def list_frames(language: str, source: str, suffix: str | None) -> Iterator[tuple[str, str, str, bool]]:
    """(text before, source, text after, whether to read it with JSX) to be tried, the likeliest first.

    PHP that may be methods after an opening tag has white space for that tag.
    """
    with_markup = suffix == MARKUP_SUFFIX
    inside = language == "php" and not is_php_file(source)
    openings = [PHP_OPENING] if inside else [""]
    if inside and suffix is not None:
        openings.insert(0, "")  # a file without PHP is a text
    yield openings[0], source, "", with_markup
    if len(source) > MOST_FRAMED_CHARACTERS:
        return
    for opening in openings[1:]:
        yield opening, source, "", False
    if language == "typescript":
        yield "", source, "", not with_markup
    if language == "php" and not inside:
        tag = PHP_TAG.match(source)
        if tag is None:
            return
        source = source[: tag.start(1)] + " " * len(tag[1]) + source[tag.end(1) :]
    for before, after in RULES[language].frames:
        yield before, source, after, with_markup


def is_php_file(source: str) -> bool:
    """Whether a text begins outside PHP, as files do; code cut out of a file begins inside."""
    opening, closing = source.find("<?"), source.find("?>")
    return opening >= 0 and not 0 <= closing < opening


def run_query(language: str, content: bytes, root: Node, own: range, *, with_markup: bool) -> Parsed:
    """What the query of a language finds in a tree of ``content``.

    ``own`` are the places of the text in its frame: what reaches beyond them was closed by the frame alone.
    """
    parsed = Parsed(language, content, own.start, root, [], [], [], [], {}, {})
    kinds = {
        "function": parsed.functions,
        "class": parsed.classes,
        "comment": parsed.comments,
        "before": parsed.before,
    }
    for _, match in QueryCursor(load_query(language, with_markup=with_markup)).matches(root):
        if "value" not in match:
            for kind, nodes in match.items():
                kinds[kind].extend(node for node in nodes if node.start_byte in own and node.end_byte in own)
            continue
        wrappers = (content[node.start_byte : node.end_byte] for node in match.get("wrapper", ()))
        if not all(WRAPPER.fullmatch(text) for text in wrappers):
            continue
        value = match["value"][0].id
        if "name" in match:
            parsed.names.setdefault(value, match["name"][0])
        if "holder" in match:
            holder = match["holder"][0]
            known = parsed.holders.setdefault(value, holder)
            if holder.start_byte < known.start_byte:
                parsed.holders[value] = holder
    return parsed


def find_functions(parsed: Parsed, *, documented_only: bool) -> Iterator[Definition | str]:
    """The functions in order; for one that is left out the reason."""
    search = DocumentationSearch(parsed)
    nodes = [(node, True) for node in parsed.functions] + [(node, False) for node in parsed.classes]
    around: list[Around] = []  # innermost last
    for node, is_function in sorted(nodes, key=lambda pair: (pair[0].start_byte, -pair[0].end_byte)):
        while around and around[-1].node.end_byte <= node.start_byte:
            around.pop()
        depth = around[-1].depth if around else 0
        if not is_function:
            around.append(Around(node, read_name(parsed, node)[1], depth + 1))
            continue
        docstring, literal = ("", None) if node.has_error else search.find(node)
        if node.has_error:
            yield BROKEN
        elif documented_only and not docstring:
            yield UNDOCUMENTED
        elif depth > MOST_AROUND:
            yield DEEP
        else:
            yield build_definition(parsed, node, docstring, literal, around)
            depth += 1
        around.append(Around(node, None, depth))


class DocumentationSearch:
    """The documentation of the functions of one source."""

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = parsed
        self.comments = Comments(parsed.language, parsed.content, parsed.comments, parsed.begin)
        self.before = {find_code(parsed.content, node.end_byte, b";"): node for node in parsed.before}
        prefix = RULES[parsed.language].prefix
        self.prefix = None if prefix is None else re.compile(rb"(?<![\w.$])" + prefix + rb"\Z")

    def find(self, function: Node) -> tuple[str, Node | None]:
        """A function's documentation, ``""`` without any, and the literal in its body that is it, if any."""
        if self.parsed.language == "python":
            return find_docstring(self.parsed, function)
        holder = self.parsed.holders.get(function.id, function)
        nodes = [holder, skip_decorators(holder), function, skip_decorators(function)]
        places = [(node.start_byte, node.start_point.row) for node in nodes]
        for place, line in dict.fromkeys([self.widen(function, *places[0]), *places]):
            text = self.comments.find_documentation(place, line)
            if text:
                return text, None
        return "", None

    def widen(self, function: Node, place: int, line: int) -> tuple[int, int]:
        """Where a function begins with what belongs before it, such as ``export``, and in which line."""
        place, line = self.take_words(place, line)
        while (before := self.before.get(place)) and self.is_before(before, function):
            place, line = self.take_words(before.start_byte, before.start_point.row)
        return place, line

    def take_words(self, place: int, line: int) -> tuple[int, int]:
        """The place and line of the words, if any, that belong to what is at a place."""
        content, begin = self.parsed.content, self.parsed.begin
        if self.prefix is None or not content[max(place - 2, begin) : place - 1].isalpha():
            return place, line
        words = self.prefix.search(content[max(begin, place - MOST_PREFIX_BYTES) : place])
        return (place - len(words[0]), line - words[0].count(b"\n")) if words else (place, line)

    def is_before(self, node: Node, function: Node) -> bool:
        """Whether a decorator or signature belongs to the function that follows it."""
        return node.type == "decorator" or read_name(self.parsed, node) == read_name(self.parsed, function)


def find_docstring(parsed: Parsed, function: Node) -> tuple[str, Node | None]:
    """The text of a Python function's docstring and its literal; ``""`` and ``None`` without one."""
    body = function.child_by_field_name("body")
    for number in range(body.named_child_count if body else 0):
        child = body.named_child(number) if body else None
        if child is None or child.type == "comment":
            continue
        literal = child.named_child(0) if child.type == "expression_statement" else child
        if literal is None or literal.type not in ("string", "concatenated_string"):
            return "", None
        parts = [literal] if literal.type == "string" else literal.named_children
        text = read_docstring([read_text(parsed, part) for part in parts if part.type == "string"])
        return (text, literal) if text else ("", None)
    return "", None


def build_definition(
    parsed: Parsed, node: Node, docstring: str, literal: Node | None, around: Sequence[Around]
) -> Definition:
    """What a function's node says, given its documentation and what is around it, innermost last."""
    name, qualified = read_name(parsed, node)
    classes = [outer.name for outer in around if outer.name]
    start = skip_decorators(node)
    left_out = None if literal is None else (literal.start_byte, literal.end_byte)
    if start.start_byte > node.start_byte:
        left_out = node.start_byte, start.start_byte
    code = read_code(parsed.language, node, parsed.content, left_out)
    summary = cut_summary(docstring)
    return Definition(
        name=name,
        qualified_name=".".join([*classes, qualified]) if qualified else "",
        code=parsed.content[start.start_byte : node.end_byte].decode("utf-8", "replace"),
        code_tokens=code.tokens,
        docstring=docstring,
        docstring_tokens=tokenize_docstring(clean_go(summary) if parsed.language == "go" else summary),
        summary=build_summary(parsed.language, docstring),
        start_line=start.start_point.row + 1,
        end_line=node.end_point.row + 1,
        kind=find_kind(parsed, node, name, around[-1].node if around else None),
        digest=code.digest,
    )


def skip_decorators(node: Node) -> Node:
    """The first part of a node after its decorators and comments, or the node where it has no decorators."""
    if node.child_count == 0 or node.children[0].type != "decorator":
        return node
    return next((child for child in node.children if child.type not in ("decorator", "comment")), node)


def find_kind(parsed: Parsed, node: Node, name: str, outer: Node | None) -> Kind:
    """Whether a function is a constructor, a method or neither, given the function or class around it."""
    rules = RULES[parsed.language]
    is_method = node.type in rules.method_types or (outer is not None and outer.type in rules.class_types)
    if node.type in rules.constructor_types or (is_method and name in rules.constructors):
        return "constructor"
    return "method" if is_method else "function"


def read_name(parsed: Parsed, node: Node) -> tuple[str, str]:
    """The name of a function or class, alone and with an object; its own before that of its holder."""
    own = node.child_by_field_name("name")
    given = parsed.names.get(node.id)
    path = [] if given is None else read_path(parsed, given)
    if own is not None:
        name = read_path(parsed, own)[-1:]
        path = name if len(path) < 2 or path[-1:] != name else path
    return (path[-1] if path else ""), ".".join(path)


def read_path(parsed: Parsed, node: Node) -> list[str]:
    """The names joined by dots in ``Some.prototype.name``, without what every object is below.

    Empty where one is computed or the text is no name at all.
    """
    text = read_text(parsed, node)
    if len(text) > MOST_NAME_CHARACTERS or node.type in COMPUTED:
        return []
    if node.type != "member_expression":
        return [text.strip("\"'")]
    if not PATH.fullmatch(text):
        return []
    return [part for part in re.split(r"\s*\.\s*", text) if part not in WITHOUT_MEANING]


def read_text(parsed: Parsed, node: Node) -> str:
    """The code of a node."""
    return parsed.content[node.start_byte : node.end_byte].decode("utf-8", "replace")
