"""What a journal asks of whatever keeps its bytes: rows that can be put, read and removed, many in one atomic batch.

The division of labour: a store answers for accidents. A batch is there whole or not at all, however the power went,
and half-written ones are dropped and counted. A journal answers for people: whatever was changed, removed, reordered
or brought over from elsewhere, it finds out, and it seals what it gives away. So a store needs no key, and sees
neither names nor contents.

SQLite implements this on a disk, and the simulated disk in virtual time.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final, Protocol

import msgspec

from protocols.errors import StorageError

STREAM_SIZE: Final = 16
"""A stream's id: a keyed hash of its name, which says nothing to who reads the file."""


class StoreError(StorageError):
    """The store cannot be used (any more): ``io``, ``full``, ``locked``, ``read_only``, ``not_a_store``, ``malformed``,
    ``version``, ``closed``; of a file that is not ours alone, what it is instead (``foreign``, ``exposed``, ...)."""


class Table(IntEnum):
    """The sorts of rows. The numbers are stored."""

    ROLL = 0
    """Which streams there are: one row, of no stream, numbered 0."""
    HEAD = 1
    """How far a stream goes: one row a stream, numbered 0."""
    KEY = 2
    """The sealed key of an epoch of a stream, by epoch."""
    SNAPSHOT = 3
    """A stream's whole state, by the sequence number of the last record in it."""
    GROUP = 4
    """Records that were committed together, by the sequence number of the first."""


OF_A_STREAM: Final = (Table.HEAD, Table.KEY, Table.SNAPSHOT, Table.GROUP)


class Row(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Replaces the row of the same table, stream and number if there is one."""

    table: Table
    stream: bytes
    """``STREAM_SIZE`` bytes; empty for the roll."""
    number: int
    data: bytes


class Removal(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Remove the rows of a table and stream with ``first <= number < end``."""

    table: Table
    stream: bytes
    first: int
    end: int


class Batch(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Done whole or not at all: first the removals, then the rows."""

    rows: tuple[Row, ...] = ()
    removals: tuple[Removal, ...] = ()
    erase: bool = False
    """Whether what is removed has to be gone from the medium, as far as the store reaches, before this is durable."""


class Store(Protocol):
    """Keeps rows. One writer at a time, and the store makes sure of that."""

    torn: int
    """Bytes at the end that were being written when the power went, found and dropped when the store was opened."""

    def write(self, batch: Batch, now: int) -> int:
        """Begin to make ``batch`` durable; batches become so in the order in which they are written.

        Returns:
            when it will be, in nanoseconds on the clock of ``now``: on a real disk, that is when this returns.

        Raises:
            StoreError: it failed, and with it this store for good: nobody knows what a failed fsync has left. Open
                it anew, and see.
        """
        ...

    def row(self, table: Table, stream: bytes, number: int) -> bytes | None: ...

    def rows(self, table: Table, stream: bytes, first: int = 0) -> Iterator[Row]:
        """Those numbered ``first`` and above, in order."""
        ...

    def streams(self, table: Table) -> Iterator[bytes]:
        """Those that have rows in a table, each once, in order."""
        ...

    def close(self) -> None:
        """Let go of it; again is no mistake."""
        ...
