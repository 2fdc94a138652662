"""Cells: what registers and the elements of sets are made of, and why nothing needs a tombstone.

A cell is what was put into it and what nobody has overwritten, removed or cleared knowingly: operations none of which
sees another. Operations arrive causes first, so whoever sees an operation comes after it, and what is dropped once is
not asked for again: to remove what is not there yet leaves nothing behind, and undoes no addition that it did not see.
Which operations are in a cell depends on the set of those that arrived and on nothing else.

One author's operations see each other, so a cell has at most one of each author; an equivocator has as many as it has
branches that count.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

from protocols.crdt.changes import Blob, Value
from protocols.crdt.history import Held

Rank: TypeAlias = tuple[int, bytes, int, bytes]


def rank(held: Held) -> Rank:
    """The one total order of operations: by clock, which agrees with causality, then by what no two share."""
    operation = held.operation
    return operation.clock, operation.author, operation.sequence, operation.id


def plain(value: Value) -> Any:
    """A value as Python has it."""
    return value.data if isinstance(value, Blob) else value


class Cell:
    """Operations none of which sees another."""

    __slots__ = ("_live",)

    def __init__(self, live: Iterable[Held] = ()) -> None:
        self._live = tuple(live)

    def __len__(self) -> int:
        return len(self._live)

    def put(self, held: Held) -> None:
        """Put an operation in, over those that it sees."""
        live = self._live
        if not live or (len(live) == 1 and held.sees(live[0])):
            self._live = (held,)
        else:
            self._live = (*(each for each in live if not held.sees(each)), held)

    def clear(self, clear: Held) -> None:
        """Take out what ``clear`` sees."""
        self._live = tuple(each for each in self._live if not clear.sees(each))

    def live(self) -> list[Held]:
        """What is in it, by rank."""
        return sorted(self._live, key=rank)
