"""Where the answer to a function that one text begins, or to a whole one, ends in the text that goes on.

A model that is asked for a function or its body may write on when that is done: what follows is not what was
asked for, and often broken off in the middle. It must not make a right answer fail.

What this does not do: mend a body but for the blanks that it begins with; search an answer for code; or cut
languages but Python and JavaScript.
"""

import re
from collections.abc import Iterator

from tree_sitter import Node

from codestrata.languages.parsing import parse

MOST_ENDS = 200
"""So many places are looked at; an answer that ends at none of them is taken as it stands."""
FIRST_COLUMN = re.compile(r"^(?=[^\s#])", re.MULTILINE)
CLOSING_BRACE = re.compile(r"\}")
BRACE_OR_LINE = re.compile(r"\}|\n(?=\S)")
LAST_LINE = re.compile(r"^([ \t]+)\S[^\n]*\n\Z", re.MULTILINE)
NEW_START = re.compile(r"(?:async|class|def|from|import)\b|@|#")
IMPORT_BEFORE_INDENTED = re.compile(r"(?:from|import)\b[^\n]*[^\s:(,\\][ \t]*\n\s*?^[ \t]+\S", re.MULTILINE)
HEADS = {
    "python": re.compile(r"^(?:async[ \t]+)?def[ \t]+(\w+)", re.MULTILINE),
    "javascript": re.compile(
        r"^(?:async[ \t]+)?(?:function\b[ \t*]*|(?:const|let|var)[ \t]+)([\w$]+)", re.MULTILINE
    ),
}
"""How functions begin, in the first column."""
NAMED = (
    "class_declaration",
    "class_definition",
    "function_declaration",
    "function_definition",
    "generator_function_declaration",
)
IMPORTS = ("import_from_statement", "import_statement")
FUNCTIONS = ("arrow_function", "class", "function_expression", "generator_function", "lambda")
"""Values that make a variable a function or a class."""
HARMLESS = ("comment", "empty_statement")


def join_continuation(language: str, beginning: str, continuation: str) -> str:
    """Both texts as one program, which ends where the function does that ``beginning`` leaves open.

    A continuation that defines this function anew, from its head on, stands in its place. Some tokenizers
    drop the blanks that a text begins with: Python right after an indented line, which begins in the first
    column and defines nothing, gets the indentation of that line; so does an import with indented lines after
    it.
    """
    heads = list(HEADS[language].finditer(beginning)) if language in HEADS else []
    if heads and continuation[:1].strip():
        again = cut_program(language, continuation, heads[-1].group(1))
        if again is not None:
            return beginning[: heads[-1].start()] + again
    is_import = IMPORT_BEFORE_INDENTED.match(continuation) is not None
    if language == "python" and (is_import or not NEW_START.match(continuation)):
        line = LAST_LINE.search(beginning)
        if line is not None and continuation.strip() and not continuation[0].isspace():
            continuation = line.group(1) + continuation
    return beginning + cut_continuation(language, beginning, continuation)


def cut_continuation(language: str, beginning: str, continuation: str) -> str:
    """The continuation up to the end of the function that ``beginning`` leaves open, and what that may need.

    In Python a body ends at the first line in the first column (comments aside) where all before it can be
    parsed; in JavaScript at the first closing brace after which all can be. Of what follows stays what
    ``keep_helpers`` says. A continuation without such an end stays as it is. So does one that goes on with
    nothing: in Python, whose own first line is in the first column; in JavaScript, after a beginning that can
    be parsed by itself.
    """
    if language == "python":
        ends = list_python_ends(beginning, continuation)
    elif language == "javascript" and not parse_whole(language, beginning):
        ends = [match.end() for match in CLOSING_BRACE.finditer(continuation)]
    else:
        return continuation
    for end in [*ends[:MOST_ENDS], len(continuation)]:
        if parse_whole(language, beginning + continuation[:end]) is not None:
            return keep_helpers(language, beginning, continuation, end)
    return continuation


def cut_program(language: str, answer: str, name: str) -> str | None:
    """An answer up to the end of the function called ``name``, and what that may need (``keep_helpers``).

    Before it may stand definitions, imports and assignments. ``None`` where something else does, or where no
    such function is whole in the first column.
    """
    for end in list_ends(language, answer):
        root = parse_whole(language, answer[:end])
        if root is None:
            continue
        for node in root.named_children:
            if name.encode() in (list_names(node) or ()):
                if node.start_point.column:
                    return None
                end = len(answer.encode("utf-8", "replace")[: node.end_byte].decode())
                end += answer[end : end + 1] == "\n"
                return keep_helpers(language, "", answer, end)
            if list_names(node) is None and node.type not in IMPORTS and not is_assignment(node):
                return None
    return None


def keep_helpers(language: str, beginning: str, answer: str, end: int) -> str:
    """An answer up to ``end``, and what it uses of the definitions and imports right after that.

    A function may call what is defined below it. What follows is looked at up to the first thing that is no
    definition, or is one of a name that was there before, or cannot be parsed; JavaScript's ``import`` is no
    definition, as programs have no modules.
    """
    source = (beginning + answer).encode("utf-8", "replace")
    start = len((beginning + answer[:end]).encode("utf-8", "replace"))
    above: list[Node] = []
    below: list[Node] = []
    for stop in list_ends(language, answer, end):
        root = parse_whole(language, beginning + answer[:stop])
        if root is not None:
            above = [node for node in root.named_children if node.start_byte < start]
            below = list(take_helpers(root, start))
    used = {name for node in above for name in list_identifiers(node)}
    kept: list[Node] = []
    while fresh := [node for node in below if node not in kept and used & (list_names(node) or set())]:
        kept += fresh
        used |= {name for node in fresh for name in list_identifiers(node)}
    ends = [start, *(max(start, node.end_byte) for node in below)]
    pieces = [source[ends[place] : node.end_byte] for place, node in enumerate(below) if node in kept]
    return answer[:end] + b"".join(pieces).decode() + ("\n" if pieces else "")


def take_helpers(root: Node, start: int) -> Iterator[Node]:
    """What stands from a byte on, up to the first node that defines nothing, or something anew."""
    names: set[bytes] = set()
    for node in root.named_children:
        found = list_names(node)
        if node.start_byte >= start:
            if found is None or names & found:
                return
            yield node
        names |= found or set()


def list_names(node: Node) -> set[bytes] | None:
    """The names that a definition or an import gives; ``None`` where a node is neither."""
    if node.type in HARMLESS:
        return set()
    if node.type == "decorated_definition":
        node = node.child_by_field_name("definition") or node
    if node.type in NAMED:
        name = node.child_by_field_name("name")
        return {name.text or b""} if name is not None else None
    if node.type in IMPORTS:
        bound = [child.child_by_field_name("alias") or child for child in node.children_by_field_name("name")]
        # JavaScript's import has no names of this kind.
        return {(child.text or b"").partition(b".")[0] for child in bound} or None
    names = set()
    for child in node.named_children:
        is_bound = child.type in ("assignment", "variable_declarator")
        left = child.child_by_field_name("left") or child.child_by_field_name("name")
        right = child.child_by_field_name("right") or child.child_by_field_name("value")
        if not is_bound or left is None or right is None or right.type not in FUNCTIONS:
            return None
        names.add(left.text or b"")
    return names or None


def is_assignment(node: Node) -> bool:
    """Whether a node gives names values, or is a text that stands alone."""
    if node.type in ("lexical_declaration", "variable_declaration"):
        return True
    return node.type == "expression_statement" and all(
        child.type in ("assignment", "assignment_expression", "string") for child in node.named_children
    )


def list_identifiers(node: Node) -> Iterator[bytes]:
    """Every name that occurs in a node."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one.type.endswith("identifier"):
            yield one.text or b""
        waiting += one.named_children


def list_ends(language: str, answer: str, start: int = 0) -> list[int]:
    """Where something at the top of an answer may end after ``start``, not too many, and the answer's end."""
    if language == "python":
        ends = [match.start() for match in FIRST_COLUMN.finditer(answer)]
    else:
        ends = [match.end() for match in BRACE_OR_LINE.finditer(answer)]
    return [*[end for end in ends if end > start][:MOST_ENDS], len(answer)]


def list_python_ends(beginning: str, continuation: str) -> list[int]:
    """Where lines start in the first column; none where the first line with something on it does."""
    opens_line = not beginning or beginning.endswith("\n")
    starts = [match.start() for match in FIRST_COLUMN.finditer(continuation)]
    if not opens_line:  # what stands first goes on with a line
        return [start for start in starts if start]
    return [] if starts and not continuation[: starts[0]].strip() else starts


def parse_whole(language: str, code: str) -> Node | None:
    """The root of the syntax tree; ``None`` where that has errors or missing nodes."""
    root = parse(language, code).root_node
    return None if root.has_error else root
