"""How much an author may write: a bucket of tokens whose time is what the operations themselves say.

A limit by when operations *arrive* would let replicas take different ones. But each says when it was written, and that
is neither before what it depends on nor far ahead of anybody's clock. So the allowance follows from the author's chain
alone and is the same everywhere, and nobody gains by dating operations back: a chain has the burst, and what has come
back since the channel began.

The branches of an equivocator have each what was left where they part. To bound *those* is no matter of quota.
"""

from array import array
from typing import Final

from protocols.crdt.clock import COUNTER_BITS
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Held, History
from protocols.errors import LocalError

_TOKEN: Final = 1000
"""One operation, in thousandths: then a rate per second is so many of them per millisecond."""


class Quota:
    """What every operation leaves of its author's allowance.

    Args:
        burst: operations that may come at once,
        rate_per_s: and how many more with each second.
    """

    def __init__(self, burst: int, rate_per_s: int) -> None:
        self._full: Final = burst * _TOKEN
        self._rate: Final = rate_per_s
        self._left: Final[list[array[int]]] = []
        """By lane, after each of its operations, as a branch can begin at any; 8 bytes each."""
        self._clocks: Final[list[int]] = []
        """By lane, of its last operation."""
        self._checked = b""
        self._found = 0
        """For the operation that was checked last."""

    def check(self, history: History, held: Held) -> None:
        """To be called when ``held`` has been placed and not added yet.

        Raises:
            CrdtError: ``over_quota``.
        """
        lane, clock = held.lane, held.operation.clock
        if lane < len(self._left):  # written out: this is on the way of every operation
            found = self._left[lane][-1] + self._rate * ((clock >> COUNTER_BITS) - (self._clocks[lane] >> COUNTER_BITS))
            found = (found if found < self._full else self._full) - _TOKEN
        else:
            found = self._after(history, held)
        if found < 0:
            raise CrdtError("over_quota", f"operation {held.sequence} of its author is {-found} thousandths too many")
        self._checked, self._found = held.id, found

    def check_room(self, history: History, held: Held, count: int) -> None:
        """The same for ``held`` and what follows it in the same millisecond, ``count`` operations in all.

        Raises:
            CrdtError: ``over_quota``.
        """
        found = self._after(history, held) - (count - 1) * _TOKEN
        if found < 0:
            raise CrdtError("over_quota", f"{count} operations are {-found} thousandths too many")

    def added(self, held: Held) -> None:
        """It was added to the history.

        Raises:
            LocalError: it begins a lane, and was not checked.
        """
        lane, clock = held.lane, held.operation.clock
        if lane < len(self._left):
            left = self._left[lane]
            left.append(self._found if held.id == self._checked else self._spent(left[-1], self._clocks[lane], clock))
            self._clocks[lane] = clock
        elif held.id == self._checked:
            self._left.append(array("q", (self._found,)))
            self._clocks.append(clock)
        else:
            raise LocalError(f"{held!r} begins a lane, and its quota was not checked")

    def left(self, history: History, held: Held) -> int:
        """What an operation that was added left, in thousandths."""
        return self._left[held.lane][held.sequence - history.lanes[held.lane].first]

    def resume(self, left: int, held: Held) -> None:
        """Begin the next lane with an operation that left so much."""
        self._left.append(array("q", (left,)))
        self._clocks.append(held.operation.clock)

    def _after(self, history: History, held: Held) -> int:
        lane = held.lane
        if lane < len(self._left):
            return self._spent(self._left[lane][-1], self._clocks[lane], held.operation.clock)
        previous = history.operations.get(held.operation.previous)
        if previous is None:
            return self._full - _TOKEN
        left = self._left[previous.lane][previous.sequence - history.lanes[previous.lane].first]
        return self._spent(left, previous.operation.clock, held.operation.clock)

    def _spent(self, left: int, before: int, clock: int) -> int:
        left += self._rate * ((clock >> COUNTER_BITS) - (before >> COUNTER_BITS))
        return (left if left < self._full else self._full) - _TOKEN
