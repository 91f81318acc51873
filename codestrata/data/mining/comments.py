"""Which comments of a source file document the code that follows them.

The documentation of a place is the comment before it, with nothing but white space between. Empty lines may
follow a ``/** ... */``, as the tools that read such comments allow; every other comment stands directly
above. Comments that begin lines directly below each other are one, whose ends lose what is meant for tools.
What stands behind code in a line, and what begins a file and speaks of the file, documents nothing.

What this does not do: know functions, or take the marks off a text (``documentation`` does).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tree_sitter import Node

from codestrata.data.mining.documentation import clean_comments, is_directive, is_header

SPACE = re.compile(rb"\s*")
OPENING = re.compile(rb"\s*(?:<\?(?:php)?\s*)?\Z")
"""What may stand before a comment that begins a line: nothing, or where PHP begins."""
LEADING = re.compile(rb"(?:#![^\n]*\n|<\?(?:php)?|[\"']use strict[\"'];?|\s)*\Z")
MOST_LEADING_BYTES = 200


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment: its text with its marks, its first byte, its lines, and whether a line begins with it."""

    text: str
    start: int
    first_line: int
    last_line: int
    begins_line: bool

    @property
    def is_block(self) -> bool:
        """Whether its end is marked, and so more than the end of a line."""
        return self.text.startswith(("/*", "=begin"))

    @property
    def is_marked(self) -> bool:
        """Whether its mark says that it is documentation."""
        return self.text.startswith("/**") and len(self.text) > len("/**/")


class Comments:
    """The comments of one source, found by the code that follows them."""

    def __init__(self, language: str, source: bytes, nodes: Iterable[Node], begin: int) -> None:
        """Take the comments of a tree of ``source``, whose own text begins at byte ``begin``."""
        self.language = language
        self.source = source
        self.begin = begin
        self.comments: list[Comment] = []
        self.before: dict[int, int] = {}
        for node in sorted(nodes, key=lambda node: node.start_byte):
            self.before[find_code(source, node.end_byte)] = len(self.comments)
            self.comments.append(read_comment(node, source, begin))

    def find_documentation(self, place: int, line: int) -> str:
        """The documentation of the code at a byte of the source, in a line of its tree; else ``""``."""
        last = self.before.get(place)
        run = [] if last is None else self.collect_run(last, line)
        if not run:
            return ""
        text = clean_comments(self.language, [comment.text for comment in run])
        start = run[0].start
        is_first = start - self.begin <= MOST_LEADING_BYTES and LEADING.match(self.source, self.begin, start)
        return "" if is_first and is_header(text) else text

    def collect_run(self, last: int, line: int) -> list[Comment]:
        """The comments that together document a line, the last of which stands before it; none if none do."""
        if self.language == "go":
            run = self.collect_touching(last, line)
            return run if any(not self.is_directive(comment) for comment in run) else []
        run = []
        for comment in reversed(self.collect_touching(last, line)):
            directive = self.is_directive(comment)
            if comment.is_block and not directive and (comment.is_marked or not run):
                return [comment]
            if comment.is_block and run:
                break
            if run or not directive:
                run.insert(0, comment)
        while run and self.is_directive(run[0]):
            del run[0]
        return run

    def collect_touching(self, last: int, line: int) -> list[Comment]:
        """The comments up to the last one before a line that stand directly above each other and the line.

        A comment marked as documentation is one of them even if empty lines part it from the line.
        """
        touching: list[Comment] = []
        below, follows = line, None
        for number in range(last, -1, -1):
            comment = self.comments[number]
            gap = below - comment.last_line
            if follows is not None and self.before.get(follows) != number:
                break  # code stands between
            if not comment.begins_line and gap > 0:
                break  # it stands behind code
            if gap > 1 and not (comment.is_marked and number == last and self.language != "go"):
                break
            touching.append(comment)
            below, follows = comment.first_line, comment.start
        return touching[::-1]

    def is_directive(self, comment: Comment) -> bool:
        """Whether a comment speaks to a tool, or is a line to look at."""
        return is_directive(self.language, comment.text)


def read_comment(node: Node, source: bytes, begin: int) -> Comment:
    """What is to be known of a comment's node."""
    start = node.start_byte
    line_start = max(source.rfind(b"\n", begin, start) + 1, begin)
    return Comment(
        text=source[start : node.end_byte].decode("utf-8", "replace"),
        start=start,
        first_line=node.start_point.row,
        last_line=node.end_point.row,
        begins_line=bool(OPENING.match(source, line_start, start)),
    )


def find_code(source: bytes, place: int, mark: bytes = b"") -> int:
    """The first byte from a place on that is no white space, but for a mark such as ``;`` before it."""
    end = skip_space(source, place)
    return skip_space(source, end + len(mark)) if mark and source.startswith(mark, end) else end


def skip_space(source: bytes, place: int) -> int:
    """The first byte from a place on that is no white space."""
    space = SPACE.match(source, place)
    assert space is not None  # it matches nothing too
    return space.end()
