"""Timelines: entries in the order of their clocks, which is an order that agrees with causality.

What arrives is nearly always the latest. What is not, such as everything after a partition, is inserted by bisection;
moving the rest is a copy of eight bytes an entry.
"""

from bisect import insort
from typing import Any, Final

from protocols.crdt.cells import plain, rank
from protocols.crdt.changes import Append, Value
from protocols.crdt.history import Held


class Timeline:
    """The entries that nobody cleared knowingly, by rank."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: Final[list[Held]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, held: Held) -> None:
        entries = self._entries
        if entries and rank(held) < rank(entries[-1]):
            insort(entries, held, key=rank)
        else:
            entries.append(held)

    def clear(self, clear: Held) -> None:
        """Drop what ``clear`` sees."""
        self._entries[:] = [each for each in self._entries if not clear.sees(each)]

    def live(self) -> list[Held]:
        return self._entries.copy()

    def values(self) -> list[Value]:
        changes = [each.operation.change for each in self._entries]
        return [change.value for change in changes if isinstance(change, Append)]

    def value(self) -> Any:
        return [plain(each) for each in self.values()]
