"""A store without a disk: rows in a dict, and every batch done at once."""

from collections.abc import Iterator

from protocols.journal import Batch, Row, Table

Place = tuple[Table, bytes, int]


class MemoryStore:
    """Rows can be tampered with through ``stored``."""

    def __init__(self, stored: dict[Place, bytes] | None = None) -> None:
        self.stored: dict[Place, bytes] = dict(stored or {})
        self.torn = 0

    def write(self, batch: Batch | None, now: int = 0) -> int:
        if batch is not None:
            for removal in batch.removals:
                for at in [at for at in self.stored if at[:2] == (removal.table, removal.stream)]:
                    if removal.first <= at[2] < removal.end:
                        del self.stored[at]
            for row in batch.rows:
                self.stored[row.table, row.stream, row.number] = row.data
        return now

    def row(self, table: Table, stream: bytes, number: int) -> bytes | None:
        return self.stored.get((table, stream, number))

    def rows(self, table: Table, stream: bytes, first: int = 0) -> Iterator[Row]:
        numbers = sorted(at[2] for at in self.stored if at[:2] == (table, stream) and at[2] >= first)
        for number in numbers:
            yield Row(table, stream, number, self.stored[table, stream, number])

    def streams(self, table: Table) -> Iterator[bytes]:
        yield from sorted({at[1] for at in self.stored if at[0] is table})

    def close(self) -> None:
        pass
