"""Numbers that were seen before, in two to four words of memory each.

What this does not do: tell apart what shares a number; of ten million different functions, the chance that
any two share one of 64 bits is three in a million.
"""

from array import array

FIRST_PLACES = 2**12
MOST_FILLED = 0.6
FREE = 0


class Seen:
    """A set of whole numbers below 2 to the 64th that only grows; 10 million take 134 MB."""

    def __init__(self) -> None:
        self._places = array("Q", bytes(8 * FIRST_PLACES))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: int) -> bool:
        return self._places[self._find(number)] != FREE

    def add(self, number: int) -> bool:
        """Take a number in; whether it is new."""
        place = self._find(number)
        if self._places[place] != FREE:
            return False
        self._places[place] = number or 1
        self._count += 1
        if self._count > MOST_FILLED * len(self._places):
            self._grow()
        return True

    def _find(self, number: int) -> int:
        """Where a number stands, or the free place for it; 0 counts as 1, as 0 marks a free place."""
        number = number or 1
        mask = len(self._places) - 1
        place = number & mask
        while self._places[place] not in (FREE, number):
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        """Twice the places, for the same numbers."""
        numbers, self._places = self._places, array("Q", bytes(2 * 8 * len(self._places)))
        for number in filter(None, numbers):
            self._places[self._find(number)] = number
