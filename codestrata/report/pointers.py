"""JSON pointers (RFC 6901): where in ``experimental_results.json`` a sentence has its numbers from.

What this does not do: change what a pointer leads to.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from codestrata.errors import DataError


def build_pointer(*parts: str | int) -> str:
    """The pointer through keys and positions: ``("comparisons", 0)`` gives ``/comparisons/0``."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def read_pointer(tree: Any, pointer: str) -> Any:
    """What a pointer leads to; the empty pointer leads to the whole tree.

    Raises: DataError: there is nothing at the pointer, with the part of it that leads nowhere.
    """
    if pointer and not pointer.startswith("/"):
        raise DataError(f"{pointer!r} is no JSON pointer: it must be empty or start with '/'.")
    value, walked = tree, ""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        walked += f"/{part}"
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif is_list(value) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise DataError(f"The pointer {pointer!r} leads nowhere: there is no {walked!r}.")
    return value


def is_list(value: Any) -> bool:
    """Whether a value has positions: a text does not."""
    return isinstance(value, Sequence) and not isinstance(value, str)
