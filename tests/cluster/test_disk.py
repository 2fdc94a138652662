"""The simulated disk: whatever crashes and fails when, what was durable is there, and nothing else."""

from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.randomness import derive_key
from cluster.disk import ROW_COST, DiskModel, Disks, SimulatedDisk
from cluster.sections import DiskSection
from protocols.errors import LocalError
from protocols.journal.store import Batch, Removal, Row, StoreError, Table

MS: Final = 1_000_000
STREAM: Final = bytes(16)
OTHER: Final = bytes(15) + b"\1"
ALWAYS: Final = 1 << 32
KEY: Final = derive_key(1, "disk", 0)


def model(*, sync_ns: int = 10 * MS, size_max: int = 10**6, torn: int = 0, sync_failure: int = 0) -> DiskModel:
    return DiskModel(sync_ns, size_max, torn, sync_failure)


def disk(**options: int) -> SimulatedDisk:
    return SimulatedDisk(model(**options), KEY).open()


def group(number: int, data: bytes = b"data", stream: bytes = STREAM) -> Row:
    return Row(Table.GROUP, stream, number, data)


def put(*numbers: int, data: bytes = b"data") -> Batch:
    return Batch(tuple(group(number, data) for number in numbers))


def contents(of: SimulatedDisk) -> list[Row]:
    return [row for table in Table for stream in (STREAM, OTHER) for row in of.rows(table, stream)]


def numbers(of: SimulatedDisk) -> list[int]:
    return [row.number for row in contents(of)]


def test_a_batch_is_durable_one_sync_after_the_disk_gets_to_it() -> None:
    one = disk()
    assert one.write(put(1), 0) == 10 * MS
    assert one.write(put(2), 3 * MS) == 20 * MS
    assert one.write(put(3), 50 * MS) == 60 * MS


def test_what_is_written_is_read_at_once_in_order_and_by_table_stream_and_number() -> None:
    one = disk()
    one.write(Batch((group(9), group(2), group(5, stream=OTHER), Row(Table.HEAD, STREAM, 0, b"head"))), 0)
    assert [row.number for row in one.rows(Table.GROUP, STREAM)] == [2, 9]
    assert [row.number for row in one.rows(Table.GROUP, STREAM, 3)] == [9]
    assert list(one.rows(Table.GROUP, OTHER)) == [group(5, stream=OTHER)]
    assert one.row(Table.HEAD, STREAM, 0) == b"head"
    assert one.row(Table.HEAD, OTHER, 0) is None


def test_a_batch_does_its_removals_first_and_replaces_rows() -> None:
    one = disk(sync_ns=0)
    one.write(put(1, 2, 3, 4), 0)
    one.write(Batch((group(2, b"new"),), (Removal(Table.GROUP, STREAM, 2, 4),)), 0)
    assert contents(one) == [group(1), group(2, b"new"), group(4)]


def test_a_crash_loses_what_is_not_durable_by_then_and_nothing_else() -> None:
    one = disk()
    one.write(put(1, 2), 0)
    one.write(Batch((group(2, b"new"), group(3)), (Removal(Table.GROUP, STREAM, 1, 2),)), 1 * MS)
    one.write(put(4), 2 * MS)
    one.crash(20 * MS - 1)
    assert contents(one.open()) == [group(1), group(2)]
    one.crash(20 * MS)
    one.open().write(put(5), 20 * MS)
    one.crash(30 * MS)
    assert numbers(one) == [1, 2, 5]
    assert one.torn == 0


def test_only_the_batch_that_is_being_written_can_be_found_torn() -> None:
    one = disk(torn=ALWAYS)
    one.write(put(1), 0)
    one.write(put(2, data=bytes(1_000)), 0)
    one.crash(15 * MS)
    assert numbers(one.open()) == [1]
    assert 0 < one.torn <= 1_000 + ROW_COST
    one.crash(16 * MS)
    assert one.torn == 0, "it was dropped when the disk was opened"


def test_a_disk_that_is_full_fails_and_keeps_what_it_had() -> None:
    one = disk(sync_ns=0, size_max=1_000)
    one.write(put(1, data=bytes(1_000 - ROW_COST)), 0)
    assert one.used == 1_000
    with pytest.raises(StoreError) as caught:
        one.write(put(2, data=b""), 0)
    assert caught.value.reason == "full"
    assert (numbers(one), one.used) == ([1], 1_000)


def test_a_disk_that_failed_is_of_no_use_until_it_is_opened_anew() -> None:
    one = disk(sync_ns=0, sync_failure=ALWAYS)
    for reason in ("io", "closed", "closed"):
        with pytest.raises(StoreError) as caught:
            one.write(put(1), 0)
        assert caught.value.reason == reason
    one.crash(0)
    one.open()
    with pytest.raises(StoreError, match="a sync failed"):
        one.write(put(1), 0)


def test_a_disk_has_one_user() -> None:
    disks = Disks(model(), 1)
    one = disks.open(3)
    with pytest.raises(StoreError) as caught:
        disks.open(3)
    assert caught.value.reason == "locked"
    one.close()
    assert disks.open(3) is one
    disks.crash(3, 0)
    assert disks.open(3) is one


def test_only_peers_that_opened_one_have_a_disk() -> None:
    disks = Disks(model(), 1)
    disks.crash(5, 0)
    assert disks.to_bytes(5) == b""
    disks.restore(5, b"")
    assert disks.to_bytes(5) == b""
    disks.open(5)
    assert disks.to_bytes(5) != b""


def test_what_one_disk_draws_does_not_move_another() -> None:
    def failures(others: int) -> list[int]:
        disks = Disks(model(sync_ns=0, sync_failure=ALWAYS // 4), 1)
        failed = []
        for attempt in range(100):
            for peer in (*range(2, 2 + others), 1):
                try:
                    disks.open(peer).write(put(attempt), attempt)
                except StoreError:
                    if peer == 1:
                        failed.append(attempt)
                disks.crash(peer, attempt)
        return failed

    assert failures(0) == failures(3)
    assert 10 < len(failures(0)) < 40


def test_options_are_read_from_their_digits() -> None:
    section = DiskSection(kind="simulated", sync_ms=0.1, torn=0.25, sync_failure=1, size_mb=2)
    assert DiskModel.of(section) == DiskModel(100_000, 2_000_000, ALWAYS // 4, ALWAYS)


def test_what_is_no_state_of_a_disk_is_refused() -> None:
    data = disk().to_bytes()
    for wrong in (b"", data[:-1], data[:1] + b"\x63" + data[2:]):
        with pytest.raises(LocalError):
            SimulatedDisk.from_bytes(wrong, model(), KEY)


# -- whatever happens -----------------------------------------------------------------------------------------

ROWS = st.builds(
    lambda table, stream, number, size: Row(table, stream, number, bytes([number]) * size),
    st.sampled_from([Table.HEAD, Table.GROUP]),
    st.sampled_from([STREAM, OTHER]),
    st.integers(0, 5),
    st.integers(0, 40),
)
REMOVALS = st.builds(
    lambda stream, first, count: Removal(Table.GROUP, stream, first, first + count),
    st.sampled_from([STREAM, OTHER]),
    st.integers(0, 5),
    st.integers(0, 4),
)
BATCHES = st.builds(lambda rows, removals: Batch(tuple(rows), tuple(removals)), st.lists(ROWS), st.lists(REMOVALS))
STEPS = st.lists(
    st.tuples(st.integers(0, 15), st.one_of(BATCHES, st.sampled_from(["crash", "checkpoint"]))), max_size=30
)


def after(rows: dict[Any, bytes], batch: Batch) -> dict[Any, bytes]:
    """The plainest disk there is."""
    kept = {
        key: data
        for key, data in rows.items()
        if not any(key[:2] == (r.table, r.stream) and r.first <= key[2] < r.end for r in batch.removals)
    }
    return kept | {(row.table, row.stream, row.number): row.data for row in batch.rows}


@settings(max_examples=150, deadline=None)
@given(
    steps=STEPS,
    torn=st.sampled_from([0, ALWAYS // 2, ALWAYS]),
    failure=st.sampled_from([0, ALWAYS // 8]),
    size_max=st.sampled_from([600, 10**6]),
)
def test_what_was_acknowledged_is_there_whatever_crashes(
    steps: list[tuple[int, Any]], torn: int, failure: int, size_max: int
) -> None:
    kind = model(sync_ns=10, size_max=size_max, torn=torn, sync_failure=failure)
    one = SimulatedDisk(kind, KEY).open()
    durable: dict[Any, bytes] = {}
    under_way: list[tuple[int, dict[Any, bytes]]] = []
    now = 0
    for delay, step in steps:
        now += delay
        while under_way and under_way[0][0] <= now:
            durable = under_way.pop(0)[1]
        crashes = step == "crash"
        if step == "checkpoint":
            data = one.to_bytes()
            one = SimulatedDisk.from_bytes(data, kind, KEY).open()
            assert one.to_bytes() == data
        elif not crashes:
            try:
                durable_at = one.write(step, now)
            except StoreError:
                crashes = True
            else:
                under_way.append((durable_at, after(under_way[-1][1] if under_way else durable, step)))
        if crashes:
            one.crash(now)
            one.open()
            under_way.clear()
        newest = under_way[-1][1] if under_way else durable
        assert {(row.table, row.stream, row.number): row.data for row in contents(one)} == newest
        assert one.used == sum(len(data) + ROW_COST for data in newest.values()) <= size_max
