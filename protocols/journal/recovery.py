"""What a stream holds, once it has been shown to be all that was written.

Everything the head row covers is verified, also the older snapshot and the records that lead from it to the newest,
which are there in case that one is damaged and are not opened otherwise. The answer is exact or it is an error: a
damaged snapshot is worked around only if the older one and the records since give the same state.
"""

from collections.abc import Iterator
from itertools import islice

import msgspec

from protocols.journal.errors import JournalError
from protocols.journal.heads import Head, Mark, Position
from protocols.journal.keys import EpochKeys, JournalKeys
from protocols.journal.messages import Record
from protocols.journal.rows import check, describe, open_group, open_snapshot
from protocols.journal.store import OF_A_STREAM, Row, Store, Table


class Recovery(msgspec.Struct, frozen=True, gc=False):
    """What a stream holds."""

    snapshot: bytes | None = None
    """None: recovery begins at the beginning."""
    records: tuple[Record, ...] = ()
    """Those since."""
    clean: bool = True
    """Whether it was closed in order, and so was everything before it or has been settled since."""
    torn: int = 0
    """Bytes that were being written when the power went, in the whole store, and were dropped. Nobody was told that
    they are there."""
    damaged: tuple[int, ...] = ()
    """The snapshots that do not verify, by sequence, and were not needed."""
    anchored: bool = False
    """Whether the anchor's place was found. One from before the older snapshot is not there to be looked at."""

    def __repr__(self) -> str:
        state = "no snapshot" if self.snapshot is None else f"a snapshot of {len(self.snapshot)} bytes"
        return f"<Recovery: {state}, {len(self.records)} records, clean={self.clean}, torn={self.torn}>"


def recover(
    keys: JournalKeys, store: Store, stream: bytes, anchor: Head | None
) -> tuple[EpochKeys, Position, Mark, Recovery]:
    """A stream that the roll names.

    Returns:
        its keys, where it is, where recovery began, and what it holds.

    Raises:
        JournalError: it is not what was written.
    """
    epoch_keys = _epoch_keys(keys, store, stream)
    head = store.row(Table.HEAD, stream, 0)
    if head is None:
        raise JournalError("missing", "the head is gone")
    position = Position.decode(epoch_keys, head)
    base, snapshot, damaged = _snapshots(epoch_keys, store, position)
    anchoring = _Anchoring(anchor, position)
    rows = store.rows(Table.GROUP, stream)
    records = _records(epoch_keys, rows, position, base, anchoring)
    if (beyond := next(rows, None)) is not None:
        raise JournalError("bad_head", f"the head ends at {position.sequence}, and {describe(beyond)} is there")
    clean = position.clean and not store.torn
    found = Recovery(snapshot, tuple(records), clean, store.torn, damaged, anchoring.found())
    return epoch_keys, position, base, found


def check_absent(store: Store, name: bytes, stream: bytes) -> None:
    """That nothing is stored of a stream that the roll does not name.

    Raises:
        JournalError: ``bad_roll``: it was put back from an older copy.
    """
    for table in OF_A_STREAM:
        if next(store.rows(table, stream), None) is not None:
            raise JournalError("bad_roll", f"the roll does not name {name!r}, which has a {table.name.lower()} row")


def _epoch_keys(keys: JournalKeys, store: Store, stream: bytes) -> EpochKeys:
    rows = list(islice(store.rows(Table.KEY, stream), 2))
    if not rows:
        raise JournalError("missing", "the key of its epoch is gone")
    if len(rows) > 1:
        raise JournalError("spliced", "the keys of several epochs are there, and only one was kept")
    return EpochKeys(stream, rows[0].number, keys.unwrap(Table.KEY, stream, rows[0].number, rows[0].data))


def _snapshots(keys: EpochKeys, store: Store, position: Position) -> tuple[Mark, bytes | None, tuple[int, ...]]:
    """``(where to begin, the state there, the damaged ones)``."""
    marks = [position.newest] if position.newest == position.older else [position.newest, position.older]
    rows: dict[int, Row] = {}
    for row in store.rows(Table.SNAPSHOT, keys.stream):
        if not any(row.number == mark.sequence and not mark.is_beginning for mark in marks):
            raise JournalError("spliced", f"the snapshot at {row.number} is none that the head names")
        rows[row.number] = row
    begin: tuple[Mark, bytes | None] | None = None
    errors: dict[int, JournalError] = {}
    for mark in marks:
        try:
            found = None if mark.is_beginning else _snapshot(keys, rows.get(mark.sequence), mark)
            if begin is None:
                begin = mark, None if found is None else open_snapshot(keys, found)
        except JournalError as error:
            errors[mark.sequence] = error
    if begin is None:
        raise errors[position.newest.sequence]
    return *begin, tuple(errors)


def _snapshot(keys: EpochKeys, row: Row | None, mark: Mark) -> Row:
    if row is None:
        raise JournalError("missing", f"the snapshot at {mark.sequence} is gone")
    if check(keys, row, mark.chain) != (0, mark.snapshot):
        raise JournalError("spliced", f"{describe(row)} is an older one")
    return row


def _records(
    keys: EpochKeys, rows: Iterator[Row], position: Position, base: Mark, anchoring: "_Anchoring"
) -> list[Record]:
    """Those after ``base``; takes from ``rows`` what the head covers."""
    sequence, chain = position.older.sequence, position.older.chain
    anchoring.pass_by(sequence, chain)
    records: list[Record] = []
    while sequence < position.sequence:
        row = next(rows, None)
        if row is None:
            raise JournalError("truncated", f"records {sequence + 1} to {position.sequence} are gone from the end")
        if row.number > sequence + 1:
            raise JournalError("missing", f"records {sequence + 1} to {row.number - 1} are gone")
        if row.number <= sequence:
            raise JournalError("spliced", f"{describe(row)} is in the place of earlier ones")
        count, chain = check(keys, row, chain)
        if sequence >= base.sequence:
            records += open_group(keys, row, count)
        sequence += count
        anchoring.pass_by(sequence, chain)
    if (sequence, chain) != (position.sequence, position.chain):
        raise JournalError("spliced", f"the last records, to {sequence}, are not the ones that the head names")
    return records


class _Anchoring:
    """Looks for the place that somebody else remembers while the chain goes by."""

    def __init__(self, anchor: Head | None, position: Position) -> None:
        self._anchor = anchor
        self._expected = anchor is not None and anchor.sequence >= position.older.sequence
        self._found = False
        if anchor is not None and anchor.sequence > position.sequence:
            raise JournalError("truncated", f"it ends at {position.sequence}, and had {anchor.sequence} records before")

    def pass_by(self, sequence: int, chain: bytes) -> None:
        if self._anchor is not None and sequence == self._anchor.sequence:
            self._found = chain == self._anchor.tag

    def found(self) -> bool:
        """Raises:
        JournalError: ``forked``.
        """
        if self._expected and not self._found:
            raise JournalError("forked", "it has another history than the one that its anchor was in")
        return self._found
