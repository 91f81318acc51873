"""Distances between ordered labelled trees: the exact edit distance, and a quick lower bound of it.

The edit distance is the least number of nodes to insert, delete or relabel, in either direction, that turns
one tree into the other; an inserted or deleted node leaves its children to its parent, in their place.

What this does not do: know what the labels mean, or turn code into trees (see ``metrics.trees``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rapidfuzz.distance import Levenshtein

MOST_REMEMBERED = 500_000
"""Pairs of subtrees after which a ``Workshop`` starts afresh, to bound its memory."""

FEW_STEPS = 200_000
"""Steps of a distance up to which it is not worth asking whether the mirror images take fewer."""


@dataclass(frozen=True, slots=True)
class Tree:
    """An ordered labelled tree: labels and subtree sizes of its nodes in preorder (the root comes first)."""

    labels: tuple[str, ...]
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Layout:
    """A subtree as the distance needs it, one column per property; nodes in preorder backwards.

    ``shapes`` numbers equal subtrees alike. ``starts`` is the place of the node's last leaf, which comes
    first here; ``on_edge`` is True where that is the last leaf of the whole layout.
    """

    labels: list[str]
    shapes: list[int]
    starts: list[int]
    on_edge: list[bool]


@dataclass(slots=True)
class Workshop:
    """What was learned about subtrees while distances were measured; it makes the next ones quicker.

    Programs of one task share most of their small subtrees. ``distances[a][b]`` is known for shapes a and b;
    wherever a pair of shapes is known, so are all pairs of shapes on their right edges.
    """

    shapes: dict[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)
    layouts: dict[int, Layout] = field(default_factory=dict)
    distances: list[dict[int, int]] = field(default_factory=list)
    remembered: int = 0

    def number_shape(self, label: str, children: Sequence[int]) -> int:
        """The number of a subtree with this root and these shapes of children."""
        shape = self.shapes.setdefault((label, tuple(children)), len(self.shapes))
        if shape == len(self.distances):
            self.distances.append({})
        return shape

    def forget(self) -> None:
        """Start afresh, so that memory has a bound."""
        self.shapes.clear()
        self.layouts.clear()
        self.distances.clear()
        self.remembered = 0


def build_tree(labels: Sequence[str], children: Sequence[Sequence[int]]) -> Tree:
    """The tree whose node 0 is the root, from a label and a list of children per node."""
    order: list[int] = []
    pending = [0]
    while pending:
        node = pending.pop()
        order.append(node)
        pending.extend(reversed(children[node]))
    sizes = [1] * len(labels)
    for node in reversed(order):
        sizes[node] += sum(sizes[child] for child in children[node])
    return Tree(tuple(labels[node] for node in order), tuple(sizes[node] for node in order))


def measure_distance(
    first: Tree, second: Tree, workshop: Workshop | None = None, *, most_steps: int | None = None
) -> int | None:
    """The edit distance of two trees, all operations costing 1; 0 for equal trees, symmetric, a metric.

    Time grows with the product of (nodes x depth) of both trees in the worst case, over distinct subtrees
    only; ``None`` where that is more than ``most_steps``.

    Source: Zhang & Shasha 1989, doi:10.1137/0218082, mirrored: forests are compared along the right edge of
    every node that has a right sibling, since programs grow to the right (three times fewer steps than along
    the left edge; long sums are the exception). We do so once per pair of distinct subtrees, not of nodes.
    """
    if first == second:
        return 0
    workshop = Workshop() if workshop is None else workshop
    if workshop.remembered > MOST_REMEMBERED:
        workshop.forget()
    rows, columns = list_layouts(first, workshop), list_layouts(second, workshop)
    steps = count_steps(rows, columns)
    if steps > FEW_STEPS:
        mirrored = Workshop()
        turned = (list_layouts(turn_around(first), mirrored), list_layouts(turn_around(second), mirrored))
        if count_steps(*turned) < steps:
            (rows, columns), workshop, steps = turned, mirrored, count_steps(*turned)
    if most_steps is not None and steps > most_steps:
        return None
    for shape, row_layout in rows:
        known = workshop.distances[shape]
        for other, column_layout in columns:
            if other not in known:
                fill_distances(row_layout, column_layout, workshop)
    return known[other]


def count_steps(rows: Sequence[tuple[int, Layout]], columns: Sequence[tuple[int, Layout]]) -> int:
    """How many entries all tables have together that may have to be filled."""
    return sum(len(layout.labels) for _, layout in rows) * sum(len(layout.labels) for _, layout in columns)


def turn_around(tree: Tree) -> Tree:
    """The mirror image: the children of every node in reverse order."""
    # By last node inside, and small subtrees first: a parent ends where its last child ends.
    postorder = sorted(range(len(tree)), key=lambda node: (node + tree.sizes[node], -node))
    labels = tuple(tree.labels[node] for node in reversed(postorder))
    return Tree(labels, tuple(tree.sizes[node] for node in reversed(postorder)))


def list_layouts(tree: Tree, workshop: Workshop) -> list[tuple[int, Layout]]:
    """(shape, layout) of the distinct subtrees whose roots have a right sibling, then of the whole tree.

    Every subtree comes after those inside it.
    """
    labels, sizes = tree.labels[::-1], tree.sizes[::-1]
    starts = [node - size + 1 for node, size in enumerate(sizes)]
    shapes = number_shapes(labels, starts, workshop)
    highest = {start: node for node, start in enumerate(starts)}  # of the nodes that share a last leaf
    layouts: dict[int, Layout] = {}
    for node in sorted(highest.values()):
        shape = shapes[node]
        if shape not in workshop.layouts:
            low, high = starts[node], node + 1
            workshop.layouts[shape] = Layout(
                labels=list(labels[low:high]),
                shapes=shapes[low:high],
                starts=[start - low for start in starts[low:high]],
                on_edge=[start == low for start in starts[low:high]],
            )
        layouts.setdefault(shape, workshop.layouts[shape])
    return list(layouts.items())


def number_shapes(labels: Sequence[str], starts: Sequence[int], workshop: Workshop) -> list[int]:
    """The number of the subtree under each node, nodes in preorder backwards."""
    shapes: list[int] = []
    orphans: list[int] = []  # nodes whose parent has not come yet
    for node, (label, start) in enumerate(zip(labels, starts, strict=True)):
        first = len(orphans)
        while first and orphans[first - 1] >= start:
            first -= 1
        shapes.append(workshop.number_shape(label, [shapes[child] for child in orphans[first:]]))
        del orphans[first:]
        orphans.append(node)
    return shapes


def fill_distances(rows: Layout, columns: Layout, workshop: Workshop) -> None:
    """Learn the distances between the right edges of two subtrees; those inside them must be known.

    Row r, column c of the table is the distance between the forests of the first r and the first c nodes.
    """
    table = [list(range(len(columns.labels) + 1))]
    places = list(zip(columns.starts, columns.shapes, columns.labels, columns.on_edge, strict=True))
    for row, shape in enumerate(rows.shapes):
        known, above, left = workshop.distances[shape], table[-1], row + 1
        line = [left]
        before = table[rows.starts[row]]
        label, row_on_edge = rows.labels[row], rows.on_edge[row]
        for column, (start, other, other_label, column_on_edge) in enumerate(places):
            left += 1  # inserted; next deleted, next kept, relabelled or replaced as a whole
            if above[column + 1] < left:
                left = above[column + 1] + 1
            if row_on_edge and column_on_edge:
                apart = above[column] + (label != other_label)
                left = known[other] = min(left, apart)
            elif before[start] + known[other] < left:
                left = before[start] + known[other]
            line.append(left)
        table.append(line)
    workshop.remembered += sum(rows.on_edge) * sum(columns.on_edge)


def bound_distance(first: Tree, second: Tree) -> int:
    """A lower bound of the edit distance, for trees of any size: time grows with n * m / 64.

    The larger of the string edit distances between the label sequences of both trees in preorder and in
    postorder (the preorder of the mirror image, backwards): every operation on trees is one operation on each
    of these strings.

    Source: Guha et al. 2002, doi:10.1145/564691.564725.
    """
    return max(
        Levenshtein.distance(first.labels, second.labels),
        Levenshtein.distance(turn_around(first).labels, turn_around(second).labels),
    )
