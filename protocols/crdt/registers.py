"""Registers: one that shows the last write, and one that shows all that nobody overwrote knowingly.

Both keep the same. The last write is that of the highest clock, then of the greatest author, sequence and id, so two
writes with equal clocks have one winner everywhere. What it wins over stays as long as it is live: a ``Clear`` that saw
the winner alone gives way to it.
"""

from typing import Any

from protocols.crdt.cells import Cell, plain, rank
from protocols.crdt.changes import Assign, AssignMulti, Value


class Register(Cell):
    """The last writer wins."""

    __slots__ = ()

    def winner(self) -> Value:
        """Of a register that is not empty."""
        change = max(self._live, key=rank).operation.change
        assert isinstance(change, Assign)
        return change.value

    def value(self) -> Any:
        return plain(self.winner())


class MultiRegister(Cell):
    """Concurrent writes stand beside each other."""

    __slots__ = ()

    def values(self) -> list[Value]:
        """By rank; equal values that were written concurrently are there as often."""
        changes = [each.operation.change for each in self.live()]
        return [change.value for change in changes if isinstance(change, AssignMulti)]

    def value(self) -> Any:
        return [plain(each) for each in self.values()]
