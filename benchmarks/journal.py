"""The journal on SQLite: records without syncs, acknowledgements beside an fsync, a million records opened again.

Records have 200 bytes and come in groups of 64. *Unsynced*: ours are sealed, chained and written by SQLite, which is
told not to sync; beside Python's own sqlite3 that inserts the same records as they are, 64 rows a transaction or one,
and beside the primitives alone, an HMAC and a seal of the same bytes. ``ratio`` is our records a second over those
of the former; the bound is 50,000.

*Synced*: 64 writers each wait for their record before they tell the next one. The unit is an fsync of as many bytes,
written over a file as long as the log and measured after each batch; a row of acknowledgement has
the median (P50) or the 99th percentile of the waits, and ``ratio`` is how many median fsyncs that is: 3 is the bound
for P99. ``unsynced_us`` is the same without syncs: what of it is not the disk, and as much as that on a disk whose
fsync takes a tenth of a millisecond.
Once the core is driven by a loop, and once 64 actors tell the journal's actor in a host in real time. Plain SQLite
syncs a transaction for each record, one writer after the other: all 64 wait for each other.

*Recovery*: a snapshot and 1,000,000 records after it are opened: read, verified, decrypted, decoded. Beside
sqlite3 that selects as many rows. ``ratio`` is our time over its; the bound is 8 seconds.
"""

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, Final, Self

from actors.actor import Actor, handles
from actors.context import Context
from actors.host import Host
from actors.journal import JournalActor
from actors.setup import PeerSetup
from actors.storage.sqlite_store import LOG_PAGES_MAX, PAGE_SIZE, SqliteStore
from benchmarks.rows import OURS, Row, interleaved, main, rounded, row
from cluster.memory import proportional_set_size
from protocols.crypto import SHA256, XCHACHA_NONCE_SIZE, Secret, xchacha20_poly1305_seal
from protocols.identity import DeviceIdentity
from protocols.journal import Entry, Journal, JournalKeys, Stream
from protocols.journal.messages import Append, Durable, OpenStream, Recovered

SIZE: Final = 200
GROUP: Final = 64
KIND: Final = "dht.stored"
NAME: Final = b"dht"
ROOT: Final = bytes(32)
IDENTITY: Final = DeviceIdentity.generate(bytes(64), b"benchmark")
ROUNDS: Final = 7
GROUPS_A_ROUND: Final = 400
BATCHES_A_ROUND: Final = 300
RECOVERED: Final = 1_000_000

ONE_BY_ONE: Final = "sqlite3, a row a transaction"
TOGETHER: Final = f"sqlite3, {GROUP} rows a transaction"
PRIMITIVES: Final = "primitives"
PLAIN: Final = "sqlite3"


def run(quick: bool) -> Iterator[Row]:
    """The three parts, each in a folder of its own beside this one: of a disk, not of memory."""
    for part in (unsynced, synced, recovery):
        with tempfile.TemporaryDirectory(dir=".", prefix=".journal-") as folder:
            yield from part(Path(folder), quick)


# -- records a second -------------------------------------------------------------------------------


def unsynced(folder: Path, quick: bool) -> Iterator[Row]:
    """Records a second that nothing waits for."""
    groups = 4 if quick else GROUPS_A_ROUND
    journal, stream, store = opened(folder, synced=False)
    entries = [Entry(KIND, os.urandom(SIZE)) for _ in range(GROUP)]
    rows = [(KIND, each.payload) for each in entries]
    together, apart = plain(folder / "together.db"), plain(folder / "apart.db")

    def ours() -> None:
        stream.append(entries, 1)
        commit(journal, store)

    def primitives() -> None:
        sealed = xchacha20_poly1305_seal(ROOT, os.urandom(XCHACHA_NONCE_SIZE), b"", bytes(GROUP * (SIZE + 20)))
        SHA256.hmac(ROOT, sealed)

    def rate(work: Callable[[], None], records: int, calls: int) -> float:
        start = time.perf_counter_ns()
        for _ in range(calls):
            work()
        return calls * records * 1e9 / (time.perf_counter_ns() - start)

    contenders = {
        OURS: partial(rate, ours, GROUP, groups),
        TOGETHER: partial(rate, partial(insert, together, rows), GROUP, groups),
        ONE_BY_ONE: partial(rate, partial(insert, apart, rows[:1]), 1, groups * 4),
        PRIMITIVES: partial(rate, primitives, GROUP, groups),
    }
    for measure in contenders.values():
        measure()
    figures = interleaved(contenders, 1 if quick else ROUNDS)
    yield row("journal", f"{SIZE} B records in groups of {GROUP}, unsynced", "per_s", figures, bound_per_s=50_000)
    store.close()
    together.close()
    apart.close()


# -- acknowledgements ---------------------------------------------------------------------------------


class Core:
    """64 writers in a loop: each tells its record, one flush and one write, all are told."""

    commits: ClassVar[int] = 1
    """Of one ``batch``."""

    def __init__(self, folder: Path, *, synced: bool) -> None:
        self._journal, self._stream, self._store = opened(folder, synced=synced)
        self._entry = Entry(KIND, os.urandom(SIZE))

    def batch(self) -> list[int]:
        told = []
        for _ in range(GROUP):
            told.append(time.perf_counter_ns())
            self._stream.append((self._entry,), 1)
        commit(self._journal, self._store)
        return [time.perf_counter_ns() - each for each in told]

    def close(self) -> None:
        self._store.close()


class Writer(Actor):
    """Has one record written at a time, for ever."""

    service: ClassVar[str] = "writer"
    waits: ClassVar[list[int]] = []

    def __init__(self, setup: Any) -> None:
        self._entry = Entry(KIND, os.urandom(SIZE))
        self._told = 0

    def start(self, ctx: Context) -> None:
        ctx.send("journal", OpenStream(NAME))

    @handles(Recovered)
    def recovered(self, message: Recovered, ctx: Context) -> None:
        self._tell(ctx)

    @handles(Durable)
    def durable(self, message: Durable, ctx: Context) -> None:
        self.waits.append(time.perf_counter_ns() - self._told)
        self._tell(ctx)

    def _tell(self, ctx: Context) -> None:
        self._told = time.perf_counter_ns()
        ctx.send("journal", Append(1, NAME, (self._entry,)))

    def to_bytes(self) -> bytes:
        return b""

    @classmethod
    def from_bytes(cls, data: bytes, setup: Any) -> Self:
        return cls(setup)


class Follower(Writer):
    """Begins when it is told to, as one actor has opened the stream for all."""

    def start(self, ctx: Context) -> None:
        self._tell(ctx)


class Actors:
    """The same as actors of one peer in a host."""

    commits: ClassVar[int] = 2

    def __init__(self, folder: Path, *, synced: bool) -> None:
        self._store = SqliteStore(folder / "journal.db", synced=synced)
        Writer.waits.clear()
        followers = [type(f"Follower{n}", (Follower,), {"service": f"writer{n}"}) for n in range(1, GROUP)]
        setup = PeerSetup(IDENTITY, 0, store=lambda: self._store, journal_key=ROOT)
        self._host = Host(lambda peer, incarnation: (setup, (JournalActor, Writer, *followers)), real_time=True)
        self._host.schedule(0, time.perf_counter_ns())

    def batch(self) -> list[int]:
        """What was told before it begins has waited for whatever came in between, so it does not count."""
        waits = Writer.waits
        while len(waits) < 2 * GROUP:
            assert self._host.running or not self._host.handled, self._host.events
            self._host.run(time.perf_counter_ns())
        taken = waits[GROUP:]
        waits.clear()
        return taken

    def close(self) -> None:
        self._store.close()


class Plain:
    """A transaction and a sync for each of 64 records that are told at once."""

    commits: ClassVar[int] = GROUP

    def __init__(self, folder: Path, *, synced: bool) -> None:
        self._connection = plain(folder / "plain.db", "full" if synced else "off")
        self._row = (KIND, os.urandom(SIZE))

    def batch(self) -> list[int]:
        told = time.perf_counter_ns()
        waits = []
        for _ in range(GROUP):
            insert(self._connection, [self._row])
            waits.append(time.perf_counter_ns() - told)
        return waits

    def close(self) -> None:
        self._connection.close()


class Fsync:
    """As many bytes as a batch adds to the log, over a file of its length, and an fsync."""

    def __init__(self, folder: Path, size: int) -> None:
        self._file = os.open(folder / "raw", os.O_RDWR | os.O_CREAT, 0o600)
        self._data = os.urandom(size)
        self._length = LOG_PAGES_MAX * PAGE_SIZE // size * size
        self._at = 0
        os.pwrite(self._file, bytes(self._length), 0)
        os.fsync(self._file)

    def __call__(self) -> int:
        start = time.perf_counter_ns()
        os.pwrite(self._file, self._data, self._at)
        os.fdatasync(self._file)
        self._at = (self._at + len(self._data)) % self._length
        return time.perf_counter_ns() - start

    def close(self) -> None:
        os.close(self._file)


def synced(folder: Path, quick: bool) -> Iterator[Row]:
    """How long a record waits to be acknowledged, in fsyncs."""
    for name, make in (("the core", Core), ("actors in a host", Actors), ("sqlite3, a transaction each", Plain)):
        place, other = folder / name, folder / f"{name}, unsynced"
        place.mkdir()
        other.mkdir()
        batches = 3 if quick else BATCHES_A_ROUND // (30 if make is Plain else 1)
        writers, unsynced = make(place, synced=True), make(other, synced=False)
        fsync = Fsync(place, settled(place, writers, 20))
        rounds: list[tuple[list[int], list[int]]] = []
        without: list[int] = []
        for _ in range(1 if quick else ROUNDS):
            rounds.append(acknowledgements(writers, fsync, batches))
            for _ in range(batches):
                without += unsynced.batch()
        for each in (writers, unsynced, fsync):
            each.close()
        for label, share in (("P50", 50), ("P99", 99)):
            ours = [percentile(waits, share) / 1e3 for waits, _ in rounds]
            theirs = [median(fsyncs) / 1e3 for _, fsyncs in rounds]
            more: dict[str, Any] = {"unsynced_us": rounded(percentile(without, share) / 1e3)}
            if share == 99:
                worst = [percentile(fsyncs, 99) / 1e3 for _, fsyncs in rounds]
                more["fsync_p99_us"] = rounded(median(worst))
                more["ratio_to_fsync_p99"] = rounded(median(a / b for a, b in zip(ours, worst, strict=True)))
                more["bound_ratio"] = 3
            figures = {OURS: ours, "fsync": theirs}
            more["records_per_fsync"] = 1 if make is Plain else GROUP
            yield row("journal", f"{GROUP} writers, synced, {name}, {label}", "us", figures, **more)


def acknowledgements(writers: Core | Actors | Plain, fsync: Fsync, batches: int) -> tuple[list[int], list[int]]:
    """``(waits, fsyncs)``, in nanoseconds, in turns."""
    waits: list[int] = []
    fsyncs: list[int] = []
    for _ in range(batches):
        waits += writers.batch()
        fsyncs.append(fsync())
    return waits, fsyncs


def settled(folder: Path, writers: Core | Actors | Plain, batches: int) -> int:
    """Go on until the log is as long as it gets, and is written over: new blocks make a sync slower, at first.

    Returns:
        bytes that a commit adds to the log.
    """
    before = each = 0
    while True:
        for _ in range(batches):
            writers.batch()
        size = sum(each.stat().st_size for each in folder.glob("*-wal"))
        if size == before:
            return each
        each, before = each or size // (batches * writers.commits), size


def percentile(values: Sequence[int], share: int) -> int:
    return sorted(values)[min(len(values) - 1, len(values) * share // 100)]


# -- recovery -----------------------------------------------------------------------------------------


def recovery(folder: Path, quick: bool) -> Iterator[Row]:
    """A snapshot and very many records, opened again."""
    count = GROUP * 10 if quick else RECOVERED
    journal, stream, store = opened(folder, synced=False)
    connection = plain(folder / "plain.db")
    stream.snapshot(bytes(10_000))
    for first in range(0, count, GROUP):
        payloads = [os.urandom(SIZE) for _ in range(min(GROUP, count - first))]
        stream.append([Entry(KIND, each) for each in payloads], 1)
        commit(journal, store)
        insert(connection, [(KIND, each) for each in payloads])
    store.close()
    connection.close()
    path, other = folder / "journal.db", folder / "plain.db"
    grown: list[int] = []

    def ours() -> float:
        before = proportional_set_size([os.getpid()])
        start = time.perf_counter()
        store = SqliteStore(path)
        _, found = Journal.open(JournalKeys(Secret(ROOT)), store).open_stream(NAME)
        taken = time.perf_counter() - start
        assert len(found.records) == count
        grown.append(proportional_set_size([os.getpid()]) - before)
        store.close()
        return taken

    def theirs() -> float:
        start = time.perf_counter()
        connection = sqlite3.connect(other)
        found = connection.execute("SELECT id, kind, payload FROM records ORDER BY id").fetchall()
        taken = time.perf_counter() - start
        assert len(found) == count
        connection.close()
        return taken

    figures = interleaved({OURS: ours, PLAIN: theirs}, 1 if quick else 3)
    yield row(
        "journal",
        f"{count:,} records after a snapshot, opened",
        "s",
        figures,
        bound_s=8,
        bytes_per_record=round(path.stat().st_size / count, 1),
        sqlite3_bytes_per_record=round(other.stat().st_size / count, 1),
        memory_bytes_per_record=round(grown[0] / count),
    )


# -- what is measured -----------------------------------------------------------------------------------


def opened(folder: Path, *, synced: bool) -> tuple[Journal, Stream, SqliteStore]:
    """A new journal with one stream."""
    store = SqliteStore(folder / "journal.db", synced=synced)
    journal = Journal.open(JournalKeys(Secret(ROOT)), store)
    return journal, journal.open_stream(NAME)[0], store


def commit(journal: Journal, store: SqliteStore) -> None:
    batch = journal.flush(os.urandom)
    assert batch is not None
    store.write(batch, 1)


def plain(path: Path, synchronous: str = "off") -> sqlite3.Connection:
    """SQLite as anybody would use it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE records (id INTEGER PRIMARY KEY, kind TEXT, payload BLOB)")
    return connection


def insert(connection: sqlite3.Connection, rows: Sequence[tuple[str, bytes]]) -> None:
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO records (kind, payload) VALUES (?, ?)", rows)
    connection.execute("COMMIT")


if __name__ == "__main__":
    main(run)
