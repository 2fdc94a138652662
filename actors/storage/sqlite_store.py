"""A journal's rows in an SQLite database, durable when ``write`` returns.

SQLite in WAL mode is the one file format of this project that others have tested against every power failure there
is. It comes through apsw: a current SQLite whatever the system has (the bug that could corrupt a database whose log
was started again while it was checkpointed was there until 3.51.3), transactions that begin where we say, and a file
layer whose faults tests inject at every call. Rejected: files of our own in SQLite's place, which would need all of
those tests; LMDB, whose map of the file turns a failed disk into a signal; a table for each sort of row, which
measures the same as one.

A batch is one transaction, and a commit is one append to the log and one fsync. When the log has become too long,
what it holds is carried over into the database, but not before the batch that made it so has been acknowledged: the
next one waits for it. Nor is anything carried over in a thread of its own, whose fsyncs would delay all others.

*A failed fsync* is the end of a store, as is any failure to write: what the system shows of the file afterwards need
not be what the disk has. The next opening therefore writes the log's bytes once more, over themselves, before it
trusts them, and then carries all of them over into the database; only then the store is open.

*A log that is gone* takes along what was written last, and what it leaves may look like an orderly end: somebody
copied the database alone, or cleaned up. So the database itself has a mark that it is in use, from before the first
write until it is closed in order; with the mark and without a log, it counts as torn, and no stream as clean.

*Erasing* overwrites what is removed with zeros, in the database, and cuts the log to nothing, both synced before
``write`` returns. That is as far as a program reaches. The blocks that the log gave back to the file system keep their
bytes until they are used again; a copying or journaling file system, a snapshot, the spare blocks of an SSD and
whoever made a backup keep them as long as they like. So what the journal relies on erasing is keys, a few bytes, and
all else is worth nothing without them. And SQLite, when it moves a small row to another page, as it does while others
come and go, leaves a copy in the free space of the old one, which neither deleting nor ``secure_delete`` clears. So a
key has a page of its own, which is never moved, and is cleared when it is freed.

The database is opened in exclusive mode: one process, no index of the log in shared memory, and who comes second is
told so.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import apsw

from actors.storage.files import MODE, FileError, require_ours, sentences
from actors.storage.wal import tail
from protocols.errors import LocalError
from protocols.journal.rows import ROW_SIZE_MAX
from protocols.journal.store import STREAM_SIZE, Batch, Row, StoreError, Table

APPLICATION_ID: Final = 0x53504A4C
"""``SPJL``, at byte 68 of the database."""
VERSION: Final = 1
PAGE_SIZE: Final = 4096
"""A small row that is written again costs one page of the log. Larger pages gain 10% with groups of 64 records."""
KEY_MARGIN: Final = bytes(PAGE_SIZE)
"""Before a key. A leaf of the tree takes less than this of a row, and the rest of it has pages of its own."""
PAGE_SIZE_MIN: Final = 512
"""Of any SQLite database."""
LOG_PAGES_MAX: Final = 4096
"""16 MiB. To carry that over takes as long as a hundred commits, and delays one in seven hundred: none of the 99% that
are promised to be fast. With 4 MiB it would be one in a hundred and thirty. An opening after a crash takes as long."""
LOG_SIZE_KEPT: Final = 2 * LOG_PAGES_MAX * PAGE_SIZE
"""What a snapshot has left the log with is given back. Below, a log that is written over needs no new blocks from
the file system, and syncs in two thirds of the time."""
READ_SIZE: Final = 1 << 20
"""Bytes of rows that are read in one go, and in memory together."""
WRITE_SIZE: Final = 1 << 16
"""SQLite's file layer writes no more than 128 KiB at once."""
NUMBER_MAX: Final = 2**63 - 2
"""SQLite's integers have a sign, and a range needs an end."""

SCHEMA: Final = (
    "CREATE TABLE rows (sort INTEGER NOT NULL, stream BLOB NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL, "
    "PRIMARY KEY (sort, stream, number)) STRICT"
)
"""A table with an index, not one that is its own index (WITHOUT ROWID): a third faster and a sixth smaller with rows
of 14 kB, as only the keys move when the tree is balanced."""
PUT: Final = "INSERT INTO rows VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data"
REMOVE: Final = "DELETE FROM rows WHERE sort = ? AND stream = ? AND number >= ? AND number < ?"
ONE: Final = "SELECT data FROM rows WHERE sort = ? AND stream = ? AND number = ?"
FOLLOWING: Final = "SELECT number, data FROM rows WHERE sort = ? AND stream = ? AND number >= ? ORDER BY number"

IN_USE: Final = "SELECT 1 FROM rows WHERE sort = -1"
MARK: Final = "INSERT INTO rows VALUES (-1, x'', 0, x'')"
UNMARK: Final = "DELETE FROM rows WHERE sort = -1"
INDEXED: Final = (
    "SELECT (SELECT count(*) FROM rows NOT INDEXED) = (SELECT count(*) FROM rows INDEXED BY sqlite_autoindex_rows_1)"
)
"""Whether every row is found. What the index does not show looks as if it had never been: five flipped bits suffice."""
STREAMS: Final = "SELECT DISTINCT stream FROM rows WHERE sort = ? ORDER BY stream"


class SqliteStore:
    """Implements ``Store``."""

    def __init__(self, path: Path, *, synced: bool = True, vfs: str = "") -> None:
        """Open the store at ``path``; create it, if there is no file.

        Args:
            synced: whether batches survive the power's failure, and not only the program's. For measuring what the
                rest costs, and for tests of the rest.
            vfs: SQLite's name of the file layer to use; its own by default.

        Raises:
            StoreError: with nothing changed but what SQLite does to recover.
        """
        path = path.absolute()
        self._path = path.parent.resolve() / path.name
        self._vfs = vfs
        self._log_pages = 0
        self._connection: apsw.Connection | None = None
        self.torn = 0
        try:
            with sentences(str(path), "opened"):
                has_log = _claim(self._path)
                self._open(synced, has_log)
        except BaseException as error:
            self._abandon()
            _explain(error, self._path)
            raise

    def write(self, batch: Batch, now: int) -> int:
        for row in batch.rows:
            _require_key(row.table, row.stream, row.number)
            if len(row.data) > ROW_SIZE_MAX:
                raise LocalError(f"a row of {len(row.data)} bytes; the limit is {ROW_SIZE_MAX}")
        with self._fatal() as connection:
            if self._log_pages > LOG_PAGES_MAX:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            connection.execute("BEGIN IMMEDIATE")
            for each in batch.removals:
                end = min(each.end, NUMBER_MAX + 1)
                connection.execute(REMOVE, (each.table, each.stream, min(each.first, end), end))
            connection.executemany(PUT, map(_stored, batch.rows))
            connection.execute("COMMIT")
            if batch.erase:
                self._empty_log()
        return now

    def row(self, table: Table, stream: bytes, number: int) -> bytes | None:
        _require_key(table, stream, number)
        with self._fatal() as connection:
            found: bytes | None = connection.execute(ONE, (table, stream, number)).get
            if found is None:
                return None
            self._require_types(number, found)
        return _loaded(table, found)

    def rows(self, table: Table, stream: bytes, first: int = 0) -> Iterator[Row]:
        """No read is under way between two of them, so a write may come in between and is seen from there on."""
        _require_key(table, stream, first)
        while chunk := self._chunk(table, stream, first):
            yield from chunk
            first = chunk[-1].number + 1

    def streams(self, table: Table) -> Iterator[bytes]:
        with self._fatal() as connection:
            streams = [stream for (stream,) in connection.execute(STREAMS, (table,))]
        yield from streams

    def close(self) -> None:
        """The log is carried over and removed; if that fails it is left to the next opening, with nothing lost."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(apsw.Error):
                connection.execute(UNMARK)
            with suppress(apsw.Error):
                connection.close(True)

    def _chunk(self, table: Table, stream: bytes, first: int) -> list[Row]:
        chunk: list[Row] = []
        size = 0
        with self._fatal() as connection:
            cursor = connection.execute(FOLLOWING, (table, stream, first))
            for number, data in cursor:
                self._require_types(number, data)
                chunk.append(Row(table, stream, number, _loaded(table, data)))
                size += len(data)
                if size >= READ_SIZE:
                    break
            cursor.close()
        return chunk

    def _open(self, synced: bool, has_log: bool) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
        self._connection = connection = apsw.Connection(str(self._path), flags=flags, vfs=self._vfs or None)
        # A database that somebody prepared runs no code of its own, and what it claims about its cells is checked.
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        connection.pragma("cell_size_check", 1)
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, ROW_SIZE_MAX + PAGE_SIZE)  # no more memory than for one of ours
        connection.pragma("locking_mode", "exclusive")
        connection.pragma("temp_store", "memory")
        connection.pragma("mmap_size", 0)
        connection.pragma("secure_delete", 1)
        connection.pragma("synchronous", "full" if synced else "off")
        connection.pragma("journal_size_limit", LOG_SIZE_KEPT)
        connection.set_wal_hook(self._committed)  # in place of SQLite's own checkpoints, within a commit
        connection.pragma("schema_version")  # takes the lock, and takes in the log
        if not self._is_ours(connection):
            connection.pragma("page_size", PAGE_SIZE)
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute(SCHEMA)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", VERSION)
            connection.execute("COMMIT")
        connection.pragma("journal_mode", "wal")
        self._take_in_log()
        if not connection.execute(INDEXED).get:
            raise StoreError("malformed", f"{self._path} is damaged: its index does not show all of its rows")
        if not connection.execute(IN_USE).get:
            connection.execute(MARK)
            self._empty_log()
        elif not has_log:
            self.torn += 1  # at least; nobody knows

    def _is_ours(self, connection: apsw.Connection) -> bool:
        """Whether this is a store already; if not, it is empty: a creation that did not get far."""
        application, version = connection.pragma("application_id"), connection.pragma("user_version")
        schema = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")]
        if (application, version, schema) == (0, 0, []):
            return False
        if application != APPLICATION_ID:
            raise StoreError("not_a_store", f"{self._path} is a database of something else")
        if version > VERSION:
            raise StoreError("version", f"{self._path} is of version {version}; this program knows {VERSION}")
        if version < VERSION or schema != [SCHEMA]:
            raise StoreError("malformed", f"{self._path} has other tables than a journal")
        return True

    def _require_types(self, number: object, data: object) -> None:
        """SQLite checks what it writes, and takes what it reads from the file's word."""
        if not isinstance(number, int) or not isinstance(data, bytes):
            raise StoreError("malformed", f"{self._path} is damaged: a row of it is not of its table's types")

    def _take_in_log(self) -> None:
        """Make sure that the disk has what we read of the log, count what SQLite drops, and empty it."""
        if not os.path.lexists(f"{self._path}-wal"):
            return  # it was closed in order
        assert self._connection is not None
        taken, _ = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        with self._log() as file:
            self.torn, damaged = tail(file, taken)
            if damaged:
                raise StoreError("malformed", f"the log of {self._path} is damaged behind frame {taken}")
            size = file.xFileSize()
            for start in range(0, size, WRITE_SIZE):
                amount = min(WRITE_SIZE, size - start)
                file.xWrite(file.xRead(amount, start), start)
            file.xSync(apsw.SQLITE_SYNC_FULL)
        self._empty_log()

    def _empty_log(self) -> None:
        """Carry all of it over, and cut it to nothing: for good, which SQLite leaves to the next commit."""
        assert self._connection is not None
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        with self._log() as file:
            file.xSync(apsw.SQLITE_SYNC_FULL)

    @contextmanager
    def _log(self) -> Iterator[apsw.VFSFile]:
        """The log, beside SQLite, as it is SQLite's alone to write to it while a connection is at work."""
        file = apsw.VFSFile(self._vfs, f"{self._path}-wal", [apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_WAL, 0])
        try:
            yield file
        finally:
            file.xClose()

    def _committed(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    @contextmanager
    def _fatal(self) -> Iterator[apsw.Connection]:
        """Whatever fails in here is the end of this store."""
        if self._connection is None:
            raise StoreError("closed", f"{self._path} is closed, or has failed: open it anew")
        try:
            yield self._connection
        except BaseException as error:
            self._abandon()
            _explain(error, self._path)
            raise

    def _abandon(self) -> None:
        """Let go, and touch nothing any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(apsw.Error):
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                connection.close(True)


def _stored(row: Row) -> tuple[Table, bytes, int, bytes]:
    return row.table, row.stream, row.number, KEY_MARGIN + row.data if row.table is Table.KEY else row.data


def _loaded(table: Table, data: bytes) -> bytes:
    return data.removeprefix(KEY_MARGIN) if table is Table.KEY else data


def _require_key(table: Table, stream: bytes, number: int) -> None:
    if len(stream) not in (0, STREAM_SIZE) or not 0 <= number <= NUMBER_MAX:
        raise LocalError(f"no row is numbered {number} in a stream named by {len(stream)} bytes, in {table!r}")


def _claim(path: Path) -> bool:
    """Create the database, for its owner only, if there is none; refuse what is not a file of ours.

    Returns:
        whether it has a log.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE))
    except FileExistsError:
        pass
    else:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    log = Path(f"{path}-wal")
    require_ours(str(path), path.lstat())
    if os.path.lexists(log):
        require_ours(str(log), log.lstat())
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(path.parent, os.W_OK | os.X_OK):
        raise StoreError("read_only", f"{path} cannot be opened: no permission to write it, or in its folder")
    size = path.stat().st_size
    if 0 < size < PAGE_SIZE_MIN:
        # SQLite would take it for empty, and write over it.
        raise StoreError("not_a_store", f"{path} is not a database")
    if not size and log.exists() and log.stat().st_size:
        # SQLite would take the log for a leftover, and remove it.
        raise StoreError("malformed", f"{path} is empty, and its log is not")
    return log.exists()


def _explain(error: BaseException, path: Path) -> None:
    """Raise what the world did to us in our words; return if it is something else."""
    match error:
        case apsw.NotADBError():
            raise StoreError("not_a_store", f"{path} is not a database") from error
        case apsw.BusyError() | apsw.LockedError():
            raise StoreError("locked", f"{path} is in use") from error
        case UnicodeDecodeError():
            raise StoreError("malformed", f"{path} is damaged: it has text, and a journal has none") from None
        case apsw.CorruptError() | apsw.TooBigError():
            raise StoreError("malformed", f"{path} is damaged: {error}") from error
        case apsw.FullError():
            raise StoreError("full", f"{path} cannot grow: the disk is full") from error
        case apsw.Error():
            raise StoreError("io", f"{path}: {error}") from error
        case FileError():
            raise StoreError(error.reason, error.detail) from error
        case _:
            pass
