"""The disks of simulated peers: what is on one when its peer comes up again.

A disk takes its time. A batch is durable one sync after the disk got to it, and it does one at a time; when the
power goes before that, the batch is gone, and so are those behind it. What was being written then may be found torn:
half of it is there, which whoever opens the disk finds out, drops and counts, as SQLite does with its log. A real disk
may also happen to keep what it has not acknowledged; one that never does is the harder world for whoever acknowledges
too early.

Reads see what has been written, durable or not, like those of a file do. So a disk keeps its newest rows, and beside
each batch that is under way what was there before: a crash takes that back, newest first. The other way, durable rows
and batches to put over them, makes every read a search.

Like a real one, a disk that has failed once is of no use until it is opened anew: nobody knows what it has done.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple, NoReturn

import msgspec

from actors.randomness import Stream, derive_key
from cluster.sections import NS_PER_MS, DiskSection, exact
from protocols.errors import LocalError
from protocols.journal.store import Batch, Row, StoreError, Table

ROW_COST: Final = 64
"""Bytes that a row takes beside its data: its key, and its share of a page."""

STATE_VERSION: Final = 1

_CERTAIN: Final = 1 << 32

_Before = tuple[int, bytes, int, bytes | None]
"""A row's table, stream and number, and its data before a batch; None if there was no such row."""


class DiskModel(NamedTuple):
    """What sort of disk it is."""

    sync_ns: int
    size_max: int
    torn: int
    """The probability that a crash tears the batch that is being written, out of 2**32."""
    sync_failure: int
    """The probability that a sync fails."""

    @classmethod
    def of(cls, section: DiskSection) -> "DiskModel":
        """The model that a scenario asks for."""
        return cls(
            int((exact(section.sync_ms) * NS_PER_MS).to_integral_value()),
            section.size_mb * 1_000_000,
            int((exact(section.torn) * _CERTAIN).to_integral_value()),
            int((exact(section.sync_failure) * _CERTAIN).to_integral_value()),
        )


class _Flight(msgspec.Struct, array_like=True):
    """A batch that is not durable yet."""

    begins_at: int
    durable_at: int
    size: int
    before: list[_Before]
    """In the order in which the batch changed them."""


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    rows: list[tuple[int, bytes, int, bytes]]
    flights: list[_Flight]
    torn: int
    failed: bool
    draws: int


class SimulatedDisk:
    """One peer's disk, a ``Store``. Its draws depend on nothing but its key and how many there were."""

    __slots__ = ("_draws", "_failed", "_flights", "_key", "_model", "_opened", "_rows", "_used", "torn")

    def __init__(self, model: DiskModel, key: bytes) -> None:
        self._model = model
        self._key = key
        self._draws = Stream(key)
        self._rows: dict[tuple[int, bytes], dict[int, bytes]] = {}
        self._used = 0
        self._flights: deque[_Flight] = deque()
        self._failed = False
        self._opened = False
        self.torn = 0

    @property
    def used(self) -> int:
        """Bytes taken."""
        return self._used

    def open(self) -> "SimulatedDisk":
        """Begin to use it; until it is closed, or the power goes, nobody else can."""
        if self._opened:
            raise StoreError("locked", "this disk is in use")
        self._opened = True
        return self

    def write(self, batch: Batch, now: int) -> int:
        self._settle(now)
        if self._failed:
            raise StoreError("closed", "this disk has failed; it has to be opened anew")
        flight = _Flight(max(now, self._flights[-1].durable_at if self._flights else 0), 0, 0, [])
        flight.durable_at = flight.begins_at + self._model.sync_ns
        for removal in batch.removals:
            numbers = self._rows.get((removal.table, removal.stream), {})
            for number in [each for each in numbers if removal.first <= each < removal.end]:
                self._put(flight, removal.table, removal.stream, number, None)
        for row in batch.rows:
            flight.size += len(row.data) + ROW_COST
            self._put(flight, row.table, row.stream, row.number, row.data)
        if self._used > self._model.size_max:
            self._fail(flight, "full", f"no room on this disk: it has {self._model.size_max} bytes")
        if self._model.sync_failure and self._draws.below(_CERTAIN) < self._model.sync_failure:
            self._fail(flight, "io", "a sync failed")
        if flight.durable_at > now:
            self._flights.append(flight)
        return flight.durable_at

    def row(self, table: Table, stream: bytes, number: int) -> bytes | None:
        return self._rows.get((table, stream), {}).get(number)

    def rows(self, table: Table, stream: bytes, first: int = 0) -> Iterator[Row]:
        numbers = self._rows.get((table, stream), {})
        for number in sorted(each for each in numbers if each >= first):
            yield Row(table, stream, number, numbers[number])

    def streams(self, table: Table) -> Iterator[bytes]:
        yield from sorted(stream for (sort, stream), numbers in self._rows.items() if sort == table and numbers)

    def close(self) -> None:
        self._opened = False

    def crash(self, now: int) -> None:
        """The power goes: whatever is not durable by ``now`` is gone; then it can be opened anew."""
        self._settle(now)
        self.torn = 0
        if self._flights and self._flights[0].begins_at <= now and self._flights[0].size and self._model.torn:
            size = self._flights[0].size
            if self._draws.below(_CERTAIN) < self._model.torn:
                self.torn = 1 + self._draws.below(size)
        while self._flights:
            self._undo(self._flights.pop())
        self._failed = self._opened = False

    # -- inside -------------------------------------------------------------------------------------------

    def _settle(self, now: int) -> None:
        """What was there before a batch that is durable by now is of no interest any more."""
        while self._flights and self._flights[0].durable_at <= now:
            self._flights.popleft()

    def _put(self, flight: _Flight, table: int, stream: bytes, number: int, data: bytes | None) -> None:
        flight.before.append((table, stream, number, self._replace(table, stream, number, data)))

    def _replace(self, table: int, stream: bytes, number: int, data: bytes | None) -> bytes | None:
        """Put or remove a row; returns what was there."""
        numbers = self._rows.setdefault((int(table), stream), {})
        before = numbers.pop(number, None)
        if before is not None:
            self._used -= len(before) + ROW_COST
        if data is not None:
            numbers[number] = data
            self._used += len(data) + ROW_COST
        return before

    def _undo(self, flight: _Flight) -> None:
        for table, stream, number, data in reversed(flight.before):
            self._replace(table, stream, number, data)

    def _fail(self, flight: _Flight, reason: str, detail: str) -> NoReturn:
        self._undo(flight)
        self._failed = True
        raise StoreError(reason, detail)

    # -- state --------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        rows = [
            (table, stream, number, data)
            for (table, stream), numbers in sorted(self._rows.items())
            for number, data in sorted(numbers.items())
        ]
        state = _State(STATE_VERSION, rows, list(self._flights), self.torn, self._failed, self._draws.position)
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes, model: DiskModel, key: bytes) -> "SimulatedDisk":
        """The disk whose ``to_bytes`` gave ``data``; whoever used it has to open it."""
        try:
            state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise LocalError(f"this is no state of a disk: {error}") from None
        if state.version != STATE_VERSION:
            raise LocalError(f"a disk's state of version {state.version}, not {STATE_VERSION}")
        disk = cls(model, key)
        for row in state.rows:
            disk._replace(*row)
        disk._flights = deque(state.flights)
        disk.torn, disk._failed = state.torn, state.failed
        disk._draws = Stream(key, state.draws)
        return disk


class Disks:
    """The disks of a host's peers. Each is made when it is first opened, and stays when its peer goes down."""

    def __init__(self, model: DiskModel, seed: int) -> None:
        self._model: Final = model
        self._seed: Final = seed
        self._disks: Final[dict[int, SimulatedDisk]] = {}

    def open(self, peer: int) -> SimulatedDisk:
        """The disk of a peer that comes up."""
        disk = self._disks.get(peer)
        if disk is None:
            disk = self._disks[peer] = SimulatedDisk(self._model, self._key(peer))
        return disk.open()

    def crash(self, peer: int, now: int) -> None:
        """A peer goes down, and its disk with it."""
        disk = self._disks.get(peer)
        if disk is not None:
            disk.crash(now)

    def to_bytes(self, peer: int) -> bytes:
        """The state of a peer's disk; nothing if it has none."""
        disk = self._disks.get(peer)
        return b"" if disk is None else disk.to_bytes()

    def restore(self, peer: int, data: bytes) -> None:
        """Take up what ``to_bytes`` gave."""
        if data:
            self._disks[peer] = SimulatedDisk.from_bytes(data, self._model, self._key(peer))

    def close(self) -> None:
        """Nothing of them is anywhere else."""
        self._disks.clear()

    def _key(self, peer: int) -> bytes:
        return derive_key(self._seed, "disk", peer)
