"""In which orders the tasks of a run come: as given, all permutations, a Latin square, or a list.

What this does not do: load or train anything, or know more of a task than its name.
"""

import math
from collections.abc import Sequence
from itertools import permutations
from typing import Literal

from codestrata.errors import SettingsError, describe_unknown, shorten

Orders = Literal["given", "all", "latin"] | tuple[tuple[str, ...], ...]
MOST_PERMUTED = 4
"""Tasks up to which all permutations are gone through: of 4 there are 24, of 5 already 120."""


def check_orders(orders: Orders, names: Sequence[str]) -> None:
    """Refuse orders that are not orders of these tasks.

    Raises: SettingsError: no order, one twice, a task that is unknown, missing or doubled in one, or too many
        tasks for all permutations.
    """
    if orders == "all" and len(names) > MOST_PERMUTED:
        raise SettingsError(
            f"orders is all with {len(names)} tasks, which come in {math.factorial(len(names)):,} orders, "
            f"each walked by every method with every seed: it goes with at most {MOST_PERMUTED} tasks. Use "
            f"latin ({len(names)} orders), or list some of them."
        )
    if isinstance(orders, str):
        return
    if not orders:
        raise SettingsError("orders is empty: use given, or list at least one order.")
    for place, order in enumerate(orders):
        for name in order:
            if name not in names:
                raise SettingsError(describe_unknown(f"task in orders.{place}", name, names))
        doubled = next((name for name in order if order.count(name) > 1), None)
        missing = next((name for name in names if name not in order), None)
        if doubled is not None or missing is not None:
            fault = f"holds task {doubled!r} twice" if doubled is not None else f"leaves out task {missing!r}"
            raise SettingsError(
                f"orders.{place} is {shorten(list(order))}: it {fault}. Every order holds every task once."
            )
        if order in orders[:place]:
            raise SettingsError(f"orders.{place} is {shorten(list(order))}, which is in the list already.")


def list_orders(orders: Orders, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The orders of the tasks ``names``; where they are not listed one by one, the given order is the first.

    >>> list_orders("latin", ["a", "b", "c"])
    (('a', 'b', 'c'), ('b', 'c', 'a'), ('c', 'a', 'b'))
    """
    if orders == "given":
        return (tuple(names),)
    if orders == "all":
        return tuple(permutations(names))
    if orders == "latin":
        return tuple(tuple(names[task] for task in row) for row in build_square(len(names)))
    assert not isinstance(orders, str)
    return orders


def build_square(tasks: int) -> list[list[int]]:
    """T orders of the tasks 0..T-1 in which each task stands once in each place; the first is 0, 1, .. T-1.

        row r, place p: name[(start[p] + r) mod T], start = 0, 1, T-1, 2, T-2, .., name[start[p]] = p

    With an even T every task also comes right after every other exactly once (a balanced, or Williams,
    square). This construction cannot do that with an odd T (for 3, 5 and 7 no T orders can): there the square
    is only a Latin one.

    Source: Williams 1949, Australian Journal of Scientific Research A 2, for even T.
    """
    start = [(place + 1) // 2 if place % 2 else (tasks - place // 2) % tasks for place in range(tasks)]
    names = {task: place for place, task in enumerate(start)}
    return [[names[(task + row) % tasks] for task in start] for row in range(tasks)]
