"""A batch in the making."""

from protocols.journal.store import Batch, Removal, Row, Table


class Changes:
    """What is asked for in order, though a batch does all its removals first: they take what was put before, too."""

    __slots__ = ("_removals", "_rows", "erase")

    def __init__(self) -> None:
        self._rows: dict[tuple[Table, bytes], dict[int, Row]] = {}
        self._removals: list[Removal] = []
        self.erase = False

    def put(self, table: Table, stream: bytes, number: int, data: bytes) -> None:
        self._rows.setdefault((table, stream), {})[number] = Row(table, stream, number, data)

    def remove(self, table: Table, stream: bytes, end: int, first: int = 0) -> None:
        """Those numbered ``first`` to ``end - 1``, whether they are stored or only in here."""
        self._removals.append(Removal(table, stream, first, end))
        rows = self._rows.get((table, stream), {})
        for number in [each for each in rows if first <= each < end]:
            del rows[number]

    def batch(self) -> Batch | None:
        rows = tuple(row for of_a_sort in self._rows.values() for row in of_a_sort.values())
        if not rows and not self._removals:
            return None
        return Batch(rows, tuple(self._removals), self.erase)
