"""What values of settings are refused: numbers out of range, names that no folder could have.

What this does not do: know any setting.
"""

import math
from collections.abc import Callable, Sequence

from codestrata.errors import SettingsError, shorten

LARGEST = 10**9
"""No count, size, time or rate of an experiment is larger: one that is was meant otherwise."""
LARGEST_WHOLE = 2**63 - 1
"""TOML promises no larger whole number."""
LARGEST_SEED = 2**62
"""Seeds are counted on from what is set, as far as ``LARGEST_WHOLE``."""
LONGEST_TIMEOUT_SECONDS = 24 * 60 * 60
MOST_THREADS = 1024
PORTS = {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
DEVICES = {"con", "prn", "aux", "nul"} | PORTS
"""What Windows takes for a device, in upper and lower case, whatever folder it is in."""


def check_range(
    name: str,
    value: float | None,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float = LARGEST,
) -> None:
    """Refuse a number that is not finite or outside its range; ``None`` means off and passes."""
    if value is None:
        return
    if value != value or abs(value) == math.inf:
        raise SettingsError(f"{name} is {value}: it must be a finite number.")
    too_low = (low is not None and value < low) or (above is not None and not value > above)
    if too_low or value > high:
        lower = f"at least {low}" if low is not None else f"above {above}"
        raise SettingsError(f"{name} is {shorten(value)}: it must be {lower} and at most {high}.")


def check_name(label: str, name: str) -> None:
    """Refuse a name that could not be that of a folder on every file system, or could lead out of one.

    Names are 1 to 64 letters, digits, ``_`` or ``-``, start with a letter or digit, and are no device of
    Windows.
    """
    allowed = name.isascii() and name.replace("_", "").replace("-", "").isalnum() and name[0].isalnum()
    if not allowed or len(name) > 64:
        raise SettingsError(
            f"{label} is {shorten(name)}: use 1 to 64 letters, digits, '_' or '-', starting with a letter or "
            "digit."
        )
    if name.lower() in DEVICES:
        raise SettingsError(f"{label} is {name!r}, which Windows takes for a device: use another name.")


def check_folded(names: Sequence[str]) -> None:
    """Refuse names of tasks that differ in case alone: macOS and Windows would give them one folder."""
    folded: dict[str, str] = {}
    for name in names:
        other = folded.setdefault(name.lower(), name)
        if other != name:
            raise SettingsError(f"tasks holds {other!r} and {name!r}, which differ in case only: rename one.")


def check_argument(
    label: str, value: str, *, plain: Sequence[str], counted: str, number: Callable[[str], float]
) -> None:
    """Refuse a value that is neither one of ``plain`` nor ``<counted>:<n>`` with a positive ``number``."""
    word, _, argument = value.partition(":")
    if value in plain:
        return
    try:
        if word == counted and 0 < number(argument) < math.inf:
            return
    except ValueError:
        pass
    wanted = "positive whole number" if number is int else "positive number"
    raise SettingsError(f"{label} is {shorten(value)}: use {', '.join(plain)} or {counted}:<{wanted}>.")
