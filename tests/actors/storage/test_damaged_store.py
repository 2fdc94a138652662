"""A database in which something was left, lost or changed: moved keys, a log that is gone, a flipped bit."""

from pathlib import Path

import apsw
import pytest

from actors.storage import sqlite_store
from actors.storage.sqlite_store import PAGE_SIZE, SqliteStore
from protocols.errors import LocalError
from protocols.journal import Batch, Removal, Row, StoreError, Table

STREAM = bytes(16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / "journal.db"


def test_an_erased_key_is_in_no_file_although_its_neighbours_made_sqlite_move_it(path: Path) -> None:
    keys = [b"key %027d|" % number * 2 for number in range(60)]
    store = SqliteStore(path, synced=False)
    for number, key in enumerate(keys):
        head = Row(Table.HEAD, bytes([number]) * 16, 0, bytes(60))
        store.write(Batch((head, Row(Table.KEY, STREAM, number, key))), 0)
    for size in (200, 1000, 2000, 3000, 3900):
        store.write(Batch(tuple(Row(Table.HEAD, bytes([number]) * 16, 0, bytes(size)) for number in (7, 33))), 0)
    assert [row.data for row in store.rows(Table.KEY, STREAM)] == keys
    assert store.row(Table.KEY, STREAM, 7) == keys[7]
    store.write(Batch(removals=(Removal(Table.KEY, STREAM, 0, 60),), erase=True), 0)
    left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert not any(key[:32] in left for key in keys)


def test_a_log_that_is_gone_is_reported_and_an_orderly_end_is_not(path: Path) -> None:
    store = SqliteStore(path)
    store.write(Batch((Row(Table.HEAD, STREAM, 0, b"closed in order"),)), 0)
    store.close()
    store = SqliteStore(path)
    assert store.torn == 0
    store.write(Batch((Row(Table.HEAD, STREAM, 0, b"not closed"),)), 0)
    alone = path.read_bytes()
    store.close()
    path.write_bytes(alone)
    store = SqliteStore(path)
    assert store.row(Table.HEAD, STREAM, 0) == b"closed in order"
    assert store.torn
    store.close()
    assert SqliteStore(path).torn == 0


def test_a_bit_that_makes_text_of_bytes_is_one_sentence(path: Path) -> None:
    store = SqliteStore(path)
    store.write(Batch((Row(Table.GROUP, STREAM, 1, b"\xff" * 60),)), 0)
    store.close()
    data = path.read_bytes()
    blob = data.index(b"\xff" * 60)
    header = data.rindex(b"\x81\x04", 0, blob)  # the varint 132: a blob of 60 bytes; 133 is text
    path.write_bytes(data[:header] + b"\x81\x05" + data[header + 2 :])
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="is damaged") as caught:
        store.row(Table.GROUP, STREAM, 1)
    assert caught.value.reason == "malformed"


def test_an_index_that_hides_rows_does_not_make_a_store_look_empty(path: Path) -> None:
    store = SqliteStore(path)
    store.write(Batch(tuple(Row(Table.GROUP, STREAM, number, b"kept") for number in range(9))), 0)
    store.close()
    connection = apsw.Connection(str(path))
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE type = 'index'").get
    connection.close()
    data = bytearray(path.read_bytes())
    cells = (root - 1) * PAGE_SIZE + 3
    assert data[cells : cells + 2] == b"\0\x09"
    for shown in (0, 4):
        data[cells + 1] = shown
        path.write_bytes(data)
        with pytest.raises(StoreError, match="does not show all of its rows") as caught:
            SqliteStore(path)
        assert caught.value.reason == "malformed"


def test_a_row_larger_than_any_of_ours_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(path)
    store.write(Batch((Row(Table.GROUP, STREAM, 1, bytes(20_000)),)), 0)
    store.close()
    monkeypatch.setattr(sqlite_store, "ROW_SIZE_MAX", 10_000)
    store = SqliteStore(path)
    with pytest.raises(LocalError, match="the limit is 10000"):
        store.write(Batch((Row(Table.GROUP, STREAM, 2, bytes(10_001)),)), 0)
    with pytest.raises(StoreError, match="is damaged") as caught:
        store.row(Table.GROUP, STREAM, 1)
    assert caught.value.reason == "malformed"
