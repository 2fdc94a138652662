"""One stream: what is to be recorded, and the rows that come of it."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from protocols.errors import LocalError
from protocols.journal.changes import Changes
from protocols.journal.heads import Head, Mark, Position
from protocols.journal.keys import EPOCH_SECRET_SIZE, Entropy, EpochKeys, JournalKeys
from protocols.journal.messages import ENTRIES_MAX, KIND_SIZE_MAX, PAYLOAD_SIZE_MAX, STATE_SIZE_MAX, Entry
from protocols.journal.rows import Stored, seal_group, seal_snapshot
from protocols.journal.store import StoreError, Table

GROUP_RECORDS_MAX: Final = ENTRIES_MAX
GROUP_SIZE_MAX: Final = 2 * PAYLOAD_SIZE_MAX
"""Bytes of payload in one row, but for a single record: what recovery has in memory twice."""
PENDING_SIZE_MAX: Final = STATE_SIZE_MAX
"""Bytes that wait for a flush, in all streams: one snapshot, at least."""
RECORD_COST: Final = 128
"""Bytes that a record takes beside its payload: so many that are empty are not for nothing."""

_TIME_MAX: Final = 2**63 - 1
END: Final = 2**63 - 1
"""Above every number of a row."""


class FullError(LocalError):
    """So much waits for the next flush that this has to wait until after it, or is too large for any."""


class Stream:
    """A sequence of records, and a state now and then that sums up those before it.

    What is told to a stream waits for the journal's next flush. The numbers are known at once.
    """

    __slots__ = (
        "_base",
        "_intake",
        "_keys",
        "_pending",
        "_position",
        "_records",
        "_removed",
        "_settled",
        "id",
        "name",
        "sequence",
        "size",
    )

    def __init__(
        self,
        intake: "Intake",
        name: bytes,
        stream: bytes,
        keys: EpochKeys | None,
        position: Position,
        base: Mark,
        clean: bool,
    ) -> None:
        """``keys`` are drawn in the first flush if there are none yet."""
        self.name: Final = name
        self.id: Final = stream
        self.sequence = position.sequence
        """Of the last record that was appended."""
        self.size = 0
        """Bytes that wait for a flush."""
        self._intake = intake
        self._keys = keys
        self._position = position
        self._base = base
        """The newest snapshot that is known to be good: not the newest of all, if that was worked around."""
        self._settled = clean
        self._pending: list[list[Stored] | _Snapshot] = []
        self._records: list[Stored] = []
        """What waits after all that is pending."""
        self._removed = False

    def __repr__(self) -> str:
        return f"<Stream {self.name!r}: {self.sequence} records>"

    @property
    def head(self) -> Head:
        """How far the last flush has brought it; to be shown to nobody before that batch is durable."""
        return Head(self.id, self._position.sequence, self._position.chain)

    def append(self, entries: Iterable[Entry], now: int) -> int:
        """Record these, all or none.

        Returns:
            the sequence number of the last.

        Raises:
            LocalError: an entry breaks a limit.
            FullError: too much waits for a flush.
            StoreError: ``closed``.
        """
        self._check_there()
        if not 0 <= now <= _TIME_MAX:
            raise LocalError(f"the time is {now}")
        stored: list[Stored] = []
        size = 0
        for entry in entries:
            kind, payload = entry.kind, entry.payload
            if not 0 < len(kind) <= KIND_SIZE_MAX or not kind.isascii():
                raise LocalError(f"a record's kind is 1 to {KIND_SIZE_MAX} ASCII characters, not {kind!r}")
            if not isinstance(payload, bytes):  # it would be stored as something else, and refused by recovery
                raise LocalError(f"a record's payload is bytes, not {type(payload).__name__}")
            if len(payload) > PAYLOAD_SIZE_MAX:
                raise LocalError(f"a record of {len(payload)} bytes; the limit is {PAYLOAD_SIZE_MAX}")
            stored.append(Stored(now, kind, payload))
            size += len(payload) + RECORD_COST
        if not stored:
            return self.sequence
        self._intake.admit(self, size)
        self._records += stored
        self.sequence += len(stored)
        return self.sequence

    def snapshot(self, state: bytes, *, erase: bool = False) -> int:
        """The state after everything appended so far.

        The snapshot before it, and the records from there to here, are kept in case this one is damaged, so
        ``state`` must be what follows from those; everything older goes. If it does not follow, or if nothing from
        before may remain, ``erase``: then all of that is destroyed, with the key that it was sealed with. A second
        snapshot after the same record replaces the first.

        Returns:
            the sequence number of the last record.

        Raises:
            LocalError: it is too large.
            FullError: too much waits for a flush.
            StoreError: ``closed``.
        """
        self._check_there()
        if len(state) > STATE_SIZE_MAX:
            raise LocalError(f"a snapshot of {len(state)} bytes; the limit is {STATE_SIZE_MAX}")
        self._intake.admit(self, len(state))
        self._pending += (self._records, _Snapshot(state, erase))
        self._records = []
        return self.sequence

    def settle(self) -> None:
        """What an unclean end left in doubt is in doubt no more: others have confirmed how far we were, or what
        could repeat itself has fresh keys. Without this, closing the journal leaves the stream unclean."""
        self._check_there()
        self._settled = True

    def _check_there(self) -> None:
        self._intake.check_open()
        if self._removed:
            raise LocalError(f"the stream {self.name!r} was removed")

    # -- for the journal --------------------------------------------------------------------------------

    def begin(self) -> None:
        """It is new: the next flush says so."""
        self._intake.admit(self, 0)

    def end(self) -> None:
        """It is removed."""
        self._removed = True
        self._intake.touched.pop(self.id, None)
        self._intake.size -= self.size

    def write(self, keys: JournalKeys, changes: Changes, entropy: Entropy) -> None:
        """The rows of everything that waits."""
        if self._keys is None:
            self._begin_epoch(keys, changes, entropy)
        for each in (*self._pending, self._records):
            if isinstance(each, _Snapshot):
                self._write_snapshot(each, keys, changes, entropy)
            else:  # a snapshot ends a group, as recovery may begin there
                for group in _grouped(each, self.size):
                    self._write_group(group, changes, entropy)
        self._pending, self._records, self.size = [], [], 0
        self._write_head(changes, clean=False)

    def close(self, changes: Changes) -> None:
        """Its head says that it was closed in order, unless something is in doubt."""
        if self._settled and not self._position.clean:
            self._write_head(changes, clean=True)

    def _begin_epoch(self, keys: JournalKeys, changes: Changes, entropy: Entropy) -> EpochKeys:
        epoch = self._position.epoch + 1
        secret = entropy(EPOCH_SECRET_SIZE)
        self._keys = EpochKeys(self.id, epoch, secret)
        self._position = msgspec.structs.replace(self._position, epoch=epoch)
        changes.put(Table.KEY, self.id, epoch, keys.wrap(Table.KEY, self.id, epoch, secret, entropy))
        return self._keys

    def _write_group(self, group: list[Stored], changes: Changes, entropy: Entropy) -> None:
        position = self._position
        first = position.sequence + 1
        row, tag = seal_group(self._epoch_keys(), first, group, position.chain, entropy)
        changes.put(Table.GROUP, self.id, first, row)
        self._position = msgspec.structs.replace(position, sequence=position.sequence + len(group), chain=tag)

    def _write_snapshot(self, snapshot: "_Snapshot", keys: JournalKeys, changes: Changes, entropy: Entropy) -> None:
        sequence, chain = self._position.sequence, self._position.chain
        if snapshot.erase:
            for table in (Table.GROUP, Table.SNAPSHOT, Table.KEY):
                changes.remove(table, self.id, END)
            changes.erase = True
            self._begin_epoch(keys, changes, entropy)
        row, tag = seal_snapshot(self._epoch_keys(), sequence, snapshot.state, chain, entropy)
        newest = Mark(sequence, chain, tag)
        # One that replaces another has nothing from before to fall back to: what made the difference is no record.
        older = newest if snapshot.erase or self._position.newest.sequence == sequence else self._base
        if not snapshot.erase:
            changes.remove(Table.GROUP, self.id, older.sequence + 1)
            changes.remove(Table.SNAPSHOT, self.id, older.sequence)
            if self._base != self._position.newest:  # which was worked around, and is worth nothing
                changes.remove(Table.SNAPSHOT, self.id, sequence, self._base.sequence + 1)
        changes.put(Table.SNAPSHOT, self.id, sequence, row)
        self._base = newest
        self._position = msgspec.structs.replace(self._position, newest=newest, older=older)

    def _write_head(self, changes: Changes, *, clean: bool) -> None:
        self._position = msgspec.structs.replace(self._position, clean=clean)
        changes.put(Table.HEAD, self.id, 0, self._position.encode(self._epoch_keys()))

    def _epoch_keys(self) -> EpochKeys:
        assert self._keys is not None
        return self._keys


class _Snapshot(msgspec.Struct, frozen=True, gc=False):
    state: bytes
    erase: bool

    def __repr__(self) -> str:
        return f"_Snapshot({len(self.state)} bytes, erase={self.erase})"


def _grouped(records: list[Stored], size_max: int) -> Iterator[list[Stored]]:
    """As many together as a row may have. They are of ``size_max`` bytes at most."""
    if size_max <= GROUP_SIZE_MAX and len(records) <= GROUP_RECORDS_MAX:
        if records:
            yield records
        return
    group: list[Stored] = []
    size = 0
    for each in records:
        cost = len(each.payload) + RECORD_COST
        if group and (size + cost > GROUP_SIZE_MAX or len(group) == GROUP_RECORDS_MAX):
            yield group
            group, size = [], 0
        group.append(each)
        size += cost
    if group:
        yield group


class Intake:
    """What the streams of a journal share: whether anything is taken in, and what waits for the next flush."""

    __slots__ = ("closed", "size", "touched")

    def __init__(self) -> None:
        self.closed = ""
        """Why nothing is; empty while it is open."""
        self.size = 0
        self.touched: dict[bytes, Stream] = {}

    def check_open(self) -> None:
        if self.closed:
            raise StoreError("closed", self.closed)

    def admit(self, stream: Stream, size: int) -> None:
        """Raises:
        FullError: see there.
        """
        if self.size + size > PENDING_SIZE_MAX:
            raise FullError(f"{self.size} bytes wait for a flush, and {size} more are too many")
        self.size += size
        stream.size += size
        self.touched[stream.id] = stream
