import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.storage import sqlite_store
from actors.storage.sqlite_store import NUMBER_MAX, PAGE_SIZE, SqliteStore
from actors.storage.wal import FRAME, HEADER
from protocols.errors import LocalError
from protocols.journal.store import STREAM_SIZE, Batch, Removal, Row, StoreError, Table

A: Final = b"a" * STREAM_SIZE
B: Final = b"b" * STREAM_SIZE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    result = SqliteStore(path)
    yield result
    result.close()


def group(number: int, data: bytes, stream: bytes = A) -> Row:
    return Row(Table.GROUP, stream, number, data)


def put(store: SqliteStore, *rows: Row) -> None:
    store.write(Batch(rows), 0)


def numbers(store: SqliteStore, first: int = 0, stream: bytes = A) -> list[int]:
    return [row.number for row in store.rows(Table.GROUP, stream, first)]


def log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def copy(path: Path, name: str) -> Path:
    """The files as a power failure would leave them now, if everything was synced."""
    folder = path.parent / name
    folder.mkdir()
    for each in (path, log(path)):
        if each.exists():
            shutil.copy(each, folder / each.name)
    return folder / path.name


def refused(path: Path) -> tuple[str, str]:
    with pytest.raises(StoreError) as caught:
        SqliteStore(path)
    return caught.value.reason, str(caught.value)


# -- rows ---------------------------------------------------------------------------------------


def test_rows_come_in_order_of_their_numbers_from_the_first_asked_for(store: SqliteStore) -> None:
    put(store, *(group(number, b"%d" % number) for number in (NUMBER_MAX, 3, 256, 2, 1)), group(7, b"other", B))
    assert list(store.rows(Table.GROUP, A, 2)) == [group(n, b"%d" % n) for n in (2, 3, 256, NUMBER_MAX)]
    assert list(store.rows(Table.SNAPSHOT, A)) == []
    assert store.row(Table.GROUP, B, 7) == b"other"
    assert store.row(Table.GROUP, B, 8) is None


def test_a_batch_removes_first_and_its_last_row_of_a_key_stays(store: SqliteStore) -> None:
    put(store, *(group(number, b"old") for number in range(5)))
    store.write(Batch((group(2, b"new"), group(2, b"newer")), (Removal(Table.GROUP, A, 1, 4),)), 0)
    assert list(store.rows(Table.GROUP, A)) == [group(0, b"old"), group(2, b"newer"), group(4, b"old")]


def test_a_write_is_durable_when_it_returns(store: SqliteStore, path: Path) -> None:
    assert store.write(Batch((group(1, b"one"),)), 17) == 17
    after = SqliteStore(copy(path, "after"))
    assert numbers(after) == [1]
    after.close()


def test_a_write_between_two_rows_of_an_iteration_is_seen_from_there_on(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "READ_SIZE", 100)
    put(store, *(group(number, bytes(60)) for number in range(1, 6)))
    rows = store.rows(Table.GROUP, A)
    assert [next(rows).number, next(rows).number] == [1, 2]
    store.write(Batch((group(6, b""),), (Removal(Table.GROUP, A, 3, 4),)), 0)
    assert [row.number for row in rows] == [4, 5, 6]


@pytest.mark.parametrize("number", [-1, NUMBER_MAX + 1])
def test_a_number_that_sqlite_has_not_is_refused_with_nothing_changed(store: SqliteStore, number: int) -> None:
    for call in (
        lambda: put(store, group(1, b"one"), group(number, b"two")),
        lambda: store.row(Table.GROUP, A, number),
        lambda: list(store.rows(Table.GROUP, A, number)),
        lambda: store.row(Table.GROUP, b"short", 1),
    ):
        with pytest.raises(LocalError):
            call()
    assert numbers(store) == []
    put(store, group(1, b"one"))


Keys = st.tuples(st.sampled_from(list(Table)), st.sampled_from([b"", A, B]), st.integers(0, 6))
Batches = st.builds(
    lambda rows, removals, erase: Batch(
        tuple(Row(table, stream, number, data) for (table, stream, number), data in rows),
        tuple(Removal(table, stream, first, first + length) for (table, stream, first), length in removals),
        erase,
    ),
    st.lists(st.tuples(Keys, st.binary(max_size=40) | st.sampled_from([bytes(5000), b"x" * 9000])), max_size=5),
    st.lists(st.tuples(Keys, st.integers(-1, 7)), max_size=2),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | Batches, max_size=8))
def test_a_store_holds_what_a_dictionary_would(batches: Sequence[Batch | None]) -> None:
    """``None``: it is closed and opened anew."""
    model: dict[tuple[Table, bytes, int], bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        store = SqliteStore(path, synced=False)
        for batch in batches:
            if batch is None:
                store.close()
                store = SqliteStore(path, synced=False)
                assert store.torn == 0
                continue
            store.write(batch, 0)
            for removal in batch.removals:
                for number in range(removal.first, removal.end):
                    model.pop((removal.table, removal.stream, number), None)
            model |= {(row.table, row.stream, row.number): row.data for row in batch.rows}
        for table in Table:
            for stream in (b"", A, B):
                expected = sorted(key for key in model if key[:2] == (table, stream))
                assert list(store.rows(table, stream)) == [Row(*key, model[key]) for key in expected]
        store.close()


def test_what_is_closed_says_so_and_closing_again_is_no_mistake(store: SqliteStore) -> None:
    store.close()
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: put(store),
        lambda: store.row(Table.ROLL, b"", 0),
        lambda: next(store.rows(Table.GROUP, A)),
    ]
    for call in calls:
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.reason == "closed"


# -- the file -----------------------------------------------------------------------------------


def test_the_files_are_its_owners_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        put(store, group(1, b"one"))
        assert {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {
            path.name: 0o600,
            log(path).name: 0o600,
        }
        store.close()
        assert not log(path).exists()
    finally:
        os.umask(before)


def test_a_second_opener_is_told_that_it_is_in_use_and_the_first_is_not_disturbed(
    store: SqliteStore, path: Path
) -> None:
    assert refused(path) == ("locked", f"{path} is in use")
    script = "import sys; from pathlib import Path; from actors.storage.sqlite_store import SqliteStore\n"
    script += "try: SqliteStore(Path(sys.argv[1]))\nexcept Exception as error: print(error.reason)"
    for _ in range(2):  # the lock survives that this process opened and closed the file, too
        assert refused(path)[0] == "locked"
        found = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
        assert found.stdout == "locked\n"
    put(store, group(1, b"one"))


def test_a_link_a_folder_and_files_that_others_may_read_are_refused(path: Path) -> None:
    SqliteStore(path).close()
    link = path.with_name("link.db")
    link.symlink_to(path)
    assert refused(link)[0] == "not_a_file"
    dangling = path.with_name("dangling.db")
    dangling.symlink_to(path.with_name("nothing"))
    assert refused(dangling)[0] == "not_a_file"
    assert not path.with_name("nothing").exists()
    folder = path.with_name("folder")
    folder.mkdir()
    assert refused(folder)[0] == "not_a_file"
    path.chmod(0o640)
    assert refused(path)[0] == "exposed"
    path.chmod(0o600)
    log(path).symlink_to(path)
    assert refused(path)[0] == "not_a_file"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_someone_elses_file_is_refused(path: Path) -> None:
    SqliteStore(path).close()
    os.chown(path, 12345, -1)
    assert refused(path)[0] == "foreign"


def test_no_folder_is_one_sentence(path: Path) -> None:
    reason, sentence = refused(path / "journal.db")
    assert reason == "missing"
    assert "\n" not in sentence
    assert refused(path.parent / "none" / "journal.db")[0] == "missing"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("mode", [0o500, 0o700])
def test_a_folder_or_a_file_that_may_not_be_written_is_one_sentence(path: Path, mode: int) -> None:
    SqliteStore(path).close()
    path.chmod(0o400)
    path.parent.chmod(mode)
    assert refused(path)[0] == "read_only"
    path.parent.chmod(0o700)


def test_what_is_no_store_is_refused_and_not_touched(path: Path) -> None:
    def other_database() -> None:
        apsw.Connection(str(path)).execute("CREATE TABLE mine (a)").connection.close()

    for make in (lambda: path.write_bytes(b"My diary. " * 900), lambda: path.write_bytes(b"x"), other_database):
        path.unlink(missing_ok=True)
        make()
        path.chmod(0o600)
        before = path.read_bytes()
        assert refused(path)[0] == "not_a_store"
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]


def altered(path: Path, *statements: str) -> None:
    SqliteStore(path).close()
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_a_store_of_a_later_version_is_refused_by_its_version(path: Path) -> None:
    altered(path, "PRAGMA user_version = 2")
    assert refused(path) == ("version", f"{path} is of version 2; this program knows 1")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER forget AFTER INSERT ON rows BEGIN DELETE FROM rows; END",
        "CREATE TABLE more (a)",
        "DROP TABLE rows",
        "PRAGMA user_version = 0",
    ],
)
def test_a_store_with_other_tables_or_with_code_is_refused(path: Path, statement: str) -> None:
    altered(path, statement)
    assert refused(path)[0] == "malformed"


def test_a_creation_that_was_cut_off_begins_anew(path: Path) -> None:
    path.touch(0o600)
    store = SqliteStore(path)
    put(store, group(1, b"one"))
    store.close()


def test_a_damaged_page_is_named_and_ends_the_store(path: Path) -> None:
    store = SqliteStore(path)
    put(store, *(group(number, bytes(3000)) for number in range(50)))
    store.close()
    content = bytearray(path.read_bytes())
    for start in range(PAGE_SIZE, len(content), PAGE_SIZE):
        content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        numbers(store := SqliteStore(path))
    assert caught.value.reason == "malformed"


# -- the log ------------------------------------------------------------------------------------


def frames(path: Path) -> Iterator[tuple[int, int]]:
    """Where each frame of a log begins, and whether it ends a commit."""
    content = log(path).read_bytes()
    for start in range(HEADER.size, len(content), FRAME.size + PAGE_SIZE):
        yield start, FRAME.unpack(content[start : start + FRAME.size])[1]


def unclean(path: Path, count: int) -> Path:
    """A store that crashed after so many commits of a few frames each."""
    store = SqliteStore(path)
    for number in range(1, count + 1):
        put(store, group(number, bytes([number]) * 9_000))
    result = copy(path, "crashed")
    store.close()
    return result


def test_a_torn_transaction_is_dropped_and_its_bytes_are_counted(path: Path) -> None:
    crashed = unclean(path, 3)
    before_last = [start for start, commit in frames(crashed) if commit][1] + FRAME.size + PAGE_SIZE
    size = log(crashed).stat().st_size
    for cut in (size - 1, size - PAGE_SIZE, before_last + FRAME.size + 100, before_last + 10, before_last):
        attempt = copy(crashed, f"cut at {cut}")
        os.truncate(log(attempt), cut)
        store = SqliteStore(attempt)
        assert store.torn == cut - before_last
        assert numbers(store) == [1, 2]
        put(store, group(3, b"again"))
        store.close()
        assert SqliteStore(attempt).torn == 0


def test_damage_in_the_middle_of_the_log_is_no_torn_end(path: Path) -> None:
    crashed = unclean(path, 4)
    content = bytearray(log(crashed).read_bytes())
    content[next(frames(crashed))[0] + FRAME.size + 1000] ^= 1
    log(crashed).write_bytes(content)
    before = crashed.read_bytes()
    assert refused(crashed)[0] == "malformed"
    assert (crashed.read_bytes(), log(crashed).read_bytes()) == (before, bytes(content))


@pytest.mark.parametrize("at", [3, 10, 17, 22, 29])
def test_a_flipped_bit_of_the_logs_header_does_not_drop_the_log(path: Path, at: int) -> None:
    crashed = unclean(path, 2)
    content = bytearray(log(crashed).read_bytes())
    content[at] ^= 4
    log(crashed).write_bytes(content)
    before = crashed.read_bytes()
    assert refused(crashed)[0] == "malformed"
    assert (crashed.read_bytes(), log(crashed).read_bytes()) == (before, bytes(content))


def test_a_log_without_its_database_is_refused_and_kept(path: Path) -> None:
    crashed = unclean(path, 1)
    os.truncate(crashed, 0)
    assert refused(crashed)[0] == "malformed"
    assert log(crashed).stat().st_size


def test_the_log_is_bounded_and_no_batch_carries_itself_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "LOG_PAGES_MAX", 100)
    monkeypatch.setattr(sqlite_store, "LOG_SIZE_KEPT", 200 * PAGE_SIZE)
    store = SqliteStore(path, synced=False)
    largest, carried = 0, []
    for number in range(60):
        size = path.stat().st_size
        put(store, group(number, bytes(13_000)))
        largest = max(largest, log(path).stat().st_size)
        if path.stat().st_size != size:
            carried.append(number)
    assert largest <= (100 + 2 * 7) * (PAGE_SIZE + FRAME.size)
    assert len(carried) == 60 * 5 // 100
    put(store, group(1000, bytes(500 * PAGE_SIZE)))
    assert path.stat().st_size < 500 * PAGE_SIZE < log(path).stat().st_size
    put(store, group(1001, b""))
    assert log(path).stat().st_size <= 200 * PAGE_SIZE < path.stat().st_size
    store.close()


# -- erasing ------------------------------------------------------------------------------------


def test_what_was_erased_is_in_no_file_any_more(path: Path) -> None:
    """Rows of all sizes between others that stay, so that pages of the tree are split, merged and freed."""
    random = Random(2)
    store = SqliteStore(path, synced=False)
    kept: dict[tuple[bytes, int], bytes] = {}
    gone: list[bytes] = []
    for round_ in range(60):
        rows = []
        for _ in range(random.randrange(1, 12)):
            stream, number = random.choice((A, B)), random.randrange(200)
            data = random.randbytes(random.choice((32, 90, 700, 5_000, 20_000)))
            gone += [kept[stream, number]] if (stream, number) in kept else []
            kept[stream, number] = data
            rows.append(Row(Table.KEY, stream, number, data))
        store.write(Batch(tuple({(row.stream, row.number): row for row in rows}.values())), 0)
        gone += [row.data for row in rows if kept[row.stream, row.number] != row.data]
        if round_ % 3 == 0:
            stream, first = random.choice((A, B)), random.randrange(180)
            for key in [key for key in kept if key[0] == stream and first <= key[1] < first + 30]:
                gone.append(kept.pop(key))
            store.write(Batch((), (Removal(Table.KEY, stream, first, first + 30),)), 0)
    before = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert any(data[:16] in before for data in gone), "the log has what the database has no more"
    store.write(Batch((), (Removal(Table.KEY, A, 0, 20),), erase=True), 0)
    gone += [kept.pop(key) for key in list(kept) if key[0] == A and key[1] < 20]
    after = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert len(gone) > 100
    assert [data for data in kept.values() if data[:16] not in after] == []
    for data in gone:
        assert not any(data[at : at + 16] in after for at in range(0, len(data) - 15, 16 if len(data) < 100 else 300))
    store.close()


def test_erased_bytes_are_gone_also_if_the_power_goes_before_the_log_is_emptied(path: Path) -> None:
    store = SqliteStore(path)
    put(store, group(1, b"a secret of the epoch"))
    store.write(Batch((), (Removal(Table.GROUP, A, 1, 2),)), 0)
    crashed = copy(path, "crashed")
    store.close()
    assert b"a secret of the epoch" in log(crashed).read_bytes()
    store = SqliteStore(crashed)
    assert b"a secret of the epoch" not in crashed.read_bytes()
    assert log(crashed).read_bytes() == b""
    store.close()
