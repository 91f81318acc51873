"""A syntax tree as columns of plain values: quick to walk, and as deep as the text is.

What this does not do: parse (see ``parsing``), or know what a node type means.
"""

from dataclasses import dataclass
from functools import lru_cache

from codestrata.languages.parsing import parse

REMEMBERED_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of a syntax tree in preorder (a parent before its children), one column per property.

    ``named`` is False for the tokens that the grammar has no name for (``if``, ``+``); ``missing`` is True
    for what the parser put in to go on after an error. ``fields`` holds the role in the parent (``left``).
    ``spans`` are (first byte, byte after the last) in ``source``, the code as UTF-8. ``unread`` holds how
    tree-sitter writes those error nodes without children that are a character it did not expect.
    """

    source: bytes
    types: list[str]
    named: list[bool]
    missing: list[bool]
    fields: list[str | None]
    children: list[list[int]]
    spans: list[tuple[int, int]]
    unread: dict[int, str]

    def __len__(self) -> int:
        return len(self.types)

    def read_text(self, node: int) -> str:
        """The code of one node."""
        start, end = self.spans[node]
        return self.source[start:end].decode("utf-8", "replace")

    def find_child(self, node: int, field: str) -> int | None:
        """The first child in a role, if there is one."""
        for child in self.children[node]:
            if self.fields[child] == field:
                return child
        return None


def read_nodes(language: str, code: str) -> Nodes:
    """The syntax tree of ``code`` as columns; not to be changed, since it may be handed out again.

    Raises: SettingsError: there is no parser for the language.
    """
    return (
        remember_nodes(language, code) if len(code) <= REMEMBERED_CHARACTERS else build_nodes(language, code)
    )


@lru_cache(maxsize=1024)  # every metric reads the same completions, and every cell the same targets
def remember_nodes(language: str, code: str) -> Nodes:
    """As ``build_nodes``, for texts so short that a thousand trees fit into tens of MiB."""
    return build_nodes(language, code)


def build_nodes(language: str, code: str) -> Nodes:
    """The syntax tree of ``code``, read anew."""
    nodes = Nodes(code.encode("utf-8", "replace"), [], [], [], [], [], [], {})
    cursor = parse(language, code).walk()
    parents: list[int] = []
    while True:
        node = cursor.node
        assert node is not None  # a cursor that came from a tree stands on a node
        index = len(nodes.types)
        nodes.types.append(node.type)
        nodes.named.append(node.is_named)
        nodes.missing.append(node.is_missing)
        nodes.fields.append(cursor.field_name)
        nodes.children.append([])
        nodes.spans.append((node.start_byte, node.end_byte))
        if parents:
            nodes.children[parents[-1]].append(index)
        if cursor.goto_first_child():
            parents.append(index)
            continue
        if node.type == "ERROR" and "UNEXPECTED" in (written := str(node)):
            nodes.unread[index] = written
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return nodes
            parents.pop()
