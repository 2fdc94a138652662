"""Counters that can be cleared.

A sum for each author would do, if nobody ever cleared: a ``Clear`` takes away what it saw and nothing else, so the
increments that are not cleared yet are kept, by lane. Of a lane, a clear sees the first so many; they are found by
bisection, and each is taken away once.
"""

from bisect import bisect_left
from typing import Final

from protocols.crdt.changes import Increment
from protocols.crdt.history import Held


class Counter:
    """The increments that count; those of one lane follow each other."""

    __slots__ = ("_lanes", "_sum")

    def __init__(self) -> None:
        self._lanes: Final[dict[int, list[Held]]] = {}
        self._sum = 0

    def __len__(self) -> int:
        """How many increments it is made of; there may be some, and the value be 0."""
        return sum(map(len, self._lanes.values()))

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def increment(self, held: Held, by: int) -> None:
        self._sum += by
        lane = self._lanes.get(held.lane)
        if lane is None:
            self._lanes[held.lane] = [held]
        else:
            lane.append(held)

    def clear(self, clear: Held) -> None:
        """Take away the increments that ``clear`` sees."""
        for number, lane in tuple(self._lanes.items()):
            seen = bisect_left(lane, True, key=lambda each: not clear.sees(each))
            self._sum -= sum(map(_by, lane[:seen]))
            del lane[:seen]
            if not lane:
                del self._lanes[number]

    def live(self) -> list[Held]:
        """The increments, by author and sequence."""
        held = [each for lane in self._lanes.values() for each in lane]
        return sorted(held, key=lambda each: (each.operation.author, each.sequence, each.id))

    def value(self) -> int:
        """It may have more than 64 bits."""
        return self._sum

    def sums(self) -> tuple[tuple[bytes, str], ...]:
        """What each author counted, in decimal, as its number of bits has no bound; sorted by author."""
        sums: dict[bytes, int] = {}
        for each in self.live():
            author = each.operation.author
            sums[author] = sums.get(author, 0) + _by(each)
        return tuple((author, str(each)) for author, each in sums.items())


def _by(held: Held) -> int:
    change = held.operation.change
    assert isinstance(change, Increment)
    return change.by
