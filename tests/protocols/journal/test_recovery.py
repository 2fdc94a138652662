"""Whatever is done to the rows, recovery is exact or it is refused, and says what is wrong.

``total`` of a recovery is the same whether it begins at the newest snapshot, at the one before, or at the beginning:
so "exact" is one comparison.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Final

import pytest

from protocols.journal import Head, Journal, JournalError, Recovery, Row, Table
from protocols.journal.rows import ROW_OVERHEAD
from tests.protocols.journal.kit import KEYS, NOW, OTHER_KEYS, Peer, entries, payloads, total
from tests.protocols.journal.memory import MemoryStore, Place

PLAIN, ERASED, FRESH = b"plain", b"erased", b"fresh"
NAMES: Final = (PLAIN, ERASED, FRESH)


def story() -> Peer:
    """Three streams: with two snapshots, records between them and after; with its past erased; with records alone."""
    peer = Peer()
    plain, erased, fresh = (peer.stream(name) for name in NAMES)
    state = b""
    for step in range(8):
        payload = b"record %d" % step
        state += payload
        for stream in (plain, erased, fresh):
            stream.append(entries(payload), NOW + step)
        if step in (0, 2, 5):
            plain.snapshot(state)
        if step == 4:
            erased.snapshot(state, erase=True)
        peer.flush()
    return peer


WRITTEN: Final = story()
ROWS: Final = dict(WRITTEN.store.stored)
EXPECTED: Final = b"".join(b"record %d" % step for step in range(8))


def place(name: bytes, table: Table, number: int) -> Place:
    return table, KEYS.stream(name) if name else b"", number


def opened(rows: dict[Place, bytes]) -> dict[bytes, Recovery]:
    journal = Journal.open(KEYS, MemoryStore(rows))
    return {name: journal.open_stream(name)[1] for name in NAMES}


def refusal(rows: dict[Place, bytes]) -> str:
    """Why it was refused; or ``exact``, if all of it is there and nobody noticed; or ``reported``."""
    try:
        found = opened(rows)
    except JournalError as error:
        return error.reason
    assert [total(each) for each in found.values()] == [EXPECTED] * 3
    return "reported" if any(each.damaged for each in found.values()) else "exact"


def test_the_story_is_recovered_exactly() -> None:
    found = opened(ROWS)
    assert refusal(ROWS) == "exact"
    assert [len(each.records) for each in found.values()] == [2, 3, 8]
    kept = sorted((table, number) for table, stream, number in ROWS if stream == KEYS.stream(PLAIN))
    groups = [(Table.GROUP, number) for number in range(4, 9)]
    assert kept == [(Table.HEAD, 0), (Table.KEY, 1), (Table.SNAPSHOT, 3), (Table.SNAPSHOT, 6), *groups]


BAD: Final = {
    Table.ROLL: {"bad_roll", "version"},
    Table.HEAD: {"bad_head", "version", "spliced"},
    Table.KEY: {"bad_key", "version"},
    Table.GROUP: {"bad_group", "version", "spliced"},
}


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize("at", ROWS, ids=lambda at: f"{at[0].name}-{at[1].hex()[:4]}-{at[2]}")
def test_every_byte_of_every_row_changed_is_found(at: Place, mask: int) -> None:
    """The version, the epoch and the number stand at the front; everything after them is bad, and nothing else."""
    data = ROWS[at]
    reasons = []
    for position in range(len(data)):
        altered = bytearray(data)
        altered[position] ^= mask
        reasons.append(refusal({**ROWS, at: bytes(altered)}))
    if at[0] is Table.SNAPSHOT:
        alone = at[1] == KEYS.stream(ERASED)
        assert set(reasons) == ({"bad_snapshot", "spliced", "version"} if alone else {"reported"})
    else:
        assert set(reasons) <= BAD[at[0]]
        assert set(reasons[20:]) <= {f"bad_{at[0].name.lower()}"}
        assert reasons[0] == "version"


@pytest.mark.parametrize("at", ROWS, ids=lambda at: f"{at[0].name}-{at[1].hex()[:4]}-{at[2]}")
def test_every_row_cut_short_or_made_longer_is_found(at: Place) -> None:
    data = ROWS[at]
    for altered in (*(data[:size] for size in range(len(data))), data + b"\0", b"\1" + data, data + data):
        found = refusal({**ROWS, at: altered})
        assert found != "exact"
        assert found != "reported" or at[0] is Table.SNAPSHOT


@pytest.mark.parametrize("at", ROWS, ids=lambda at: f"{at[0].name}-{at[1].hex()[:4]}-{at[2]}")
def test_every_row_removed_is_missed(at: Place) -> None:
    rows = dict(ROWS)
    del rows[at]
    last = at[0] is Table.GROUP and at[2] == 8
    expected = {"missing", "truncated"} if last else {"bad_roll"} if at[0] is Table.ROLL else {"missing"}
    if at[0] is Table.SNAPSHOT and at[1] == KEYS.stream(PLAIN):
        expected = {"reported"}
    assert refusal(rows) in expected


def test_any_two_rows_exchanged_are_found() -> None:
    for one, other in combinations(ROWS, 2):
        rows = {**ROWS, one: ROWS[other], other: ROWS[one]}
        found = refusal(rows)
        assert found != "exact", (one, other)
        if {one[0], other[0]} == {Table.GROUP} and one[1] == other[1]:
            assert found == "spliced"


def older_rows(peer: Peer) -> Iterator[tuple[Place, bytes]]:
    """Every row that was there once and is gone or different now."""
    for batch in peer.batches:
        for row in batch.rows:
            at = (row.table, row.stream, row.number)
            if peer.store.stored.get(at) != row.data:
                yield at, row.data


def test_every_older_copy_of_a_row_put_back_is_found() -> None:
    seen = 0
    for at, data in older_rows(WRITTEN):
        found = refusal({**ROWS, at: data})
        seen += 1
        assert found in {
            Table.ROLL: ["bad_roll"],
            Table.HEAD: ["bad_head", "spliced"],
            Table.KEY: ["spliced"],
            Table.SNAPSHOT: ["spliced"],
            Table.GROUP: ["spliced"],
        }.get(at[0], []), (at, found)
    assert seen > 20


def test_rows_of_another_journal_are_found() -> None:
    """One with the same names, numbers and entropy, under another root key; and one under ours."""
    other = Peer(keys=OTHER_KEYS)
    twin = Peer(seed="twin")
    for peer in (other, twin):
        for name in NAMES:
            stream = peer.stream(name)
            for step in range(8):
                stream.append(entries(b"record %d" % step), NOW)
                if step in (2, 5):
                    stream.snapshot(b"what it says")
                peer.flush()
    for name in NAMES:
        theirs = {at: data for at, data in twin.store.stored.items() if at[1] == KEYS.stream(name)}
        for (table, stream_id, number), data in other.store.stored.items():
            if stream_id == OTHER_KEYS.stream(name):
                assert refusal({**ROWS, (table, KEYS.stream(name), number): data}) != "exact", (table, number)
        for at, data in theirs.items():
            assert refusal({**ROWS, at: data}) != "exact", at


def test_groups_of_another_stream_and_of_an_erased_epoch_are_found() -> None:
    for number in (6, 7, 8):
        rows = {**ROWS, place(ERASED, Table.GROUP, number): ROWS[place(FRESH, Table.GROUP, number)]}
        assert refusal(rows) == "spliced", "another stream, another epoch"
        rows = {**ROWS, place(PLAIN, Table.GROUP, number): ROWS[place(FRESH, Table.GROUP, number)]}
        assert refusal(rows) == "bad_group", "another stream, and the epoch has the same number"


def test_the_end_removed_is_found_with_the_head_and_without() -> None:
    rows = dict(ROWS)
    for number in (8, 7, 6):
        del rows[place(FRESH, Table.GROUP, number)]
        assert refusal(rows) == "truncated"
    del rows[place(FRESH, Table.HEAD, 0)]
    assert refusal(rows) == "missing"


def test_a_group_tag_does_not_pass_for_a_head() -> None:
    """The head that says "7", made of bytes that are there."""
    group = ROWS[place(FRESH, Table.GROUP, 7)]
    head = ROWS[place(FRESH, Table.HEAD, 0)]
    rows = dict(ROWS)
    del rows[place(FRESH, Table.GROUP, 8)]
    rows[place(FRESH, Table.HEAD, 0)] = head[:10] + (7).to_bytes(8, "big") + group[-32:] + head[50:-32] + group[-32:]
    assert refusal(rows) == "bad_head"


def test_a_whole_stream_removed_is_found_and_the_others_are_opened() -> None:
    for name in NAMES:
        for gone in ([at for at in ROWS if at[1] == KEYS.stream(name)], [place(name, Table.HEAD, 0)]):
            peer = Peer(MemoryStore({at: data for at, data in ROWS.items() if at not in gone}))
            assert name in peer.journal.streams
            for each in NAMES:
                if each != name:
                    assert total(peer.journal.open_stream(each)[1]) == EXPECTED
            with pytest.raises(JournalError, match="is gone") as caught:
                peer.stream(name)
            assert caught.value.reason == "missing"
            peer.journal.remove_stream(name)
            peer.flush()
            assert peer.opened_again().journal.streams == tuple(each for each in NAMES if each != name)


def test_a_second_key_is_found() -> None:
    for number in (0, 1, 3):
        assert refusal({**ROWS, place(ERASED, Table.KEY, number): ROWS[place(FRESH, Table.KEY, 1)]}) == "spliced"


def test_a_whole_stream_and_the_roll_put_back_are_found() -> None:
    """The roll from before a stream was made, or none: the stream is there and not named."""
    at = place(b"", Table.ROLL, 0)
    rows = dict(ROWS)
    del rows[at]
    for without in (rows, {**rows, at: next(data for older, data in older_rows(wider()) if older == at)}):
        with pytest.raises(JournalError, match="does not name") as caught:
            Journal.open(KEYS, MemoryStore(without))
        assert caught.value.reason == "bad_roll"


def test_rows_without_a_head_of_a_stream_that_the_roll_does_not_name_are_found() -> None:
    peer = Peer()
    peer.store.stored[place(FRESH, Table.GROUP, 1)] = ROWS[place(FRESH, Table.GROUP, 1)]
    with pytest.raises(JournalError, match="does not name") as caught:
        peer.stream(FRESH)
    assert caught.value.reason == "bad_roll"


def wider() -> Peer:
    """Its first roll names one stream, its second names more."""
    peer = Peer()
    for name in NAMES:
        peer.stream(name)
        peer.flush()
    return peer


@pytest.mark.parametrize("table", [Table.KEY, Table.SNAPSHOT, Table.GROUP])
def test_rows_without_end_are_refused_by_the_first_that_should_not_be_there(table: Table) -> None:
    class Endless(MemoryStore):
        taken = 0

        def rows(self, table_: Table, stream: bytes, first: int = 0) -> Iterator[Row]:
            yield from super().rows(table_, stream, first)
            while table_ is table:
                self.taken += 1
                assert self.taken < 3, "they are not gathered"
                yield Row(table, stream, 100 + self.taken, b"\1")

    peer = Peer(Endless(ROWS))
    with pytest.raises(JournalError) as caught:
        peer.stream(FRESH)
    assert caught.value.reason == {Table.GROUP: "bad_head"}.get(table, "spliced")


def test_a_damaged_snapshot_is_worked_around_and_reported() -> None:
    rows = {**ROWS, place(PLAIN, Table.SNAPSHOT, 6): b"\1 damaged"}
    found = opened(rows)[PLAIN]
    assert found.snapshot == EXPECTED[: len("record 0") * 3]
    assert payloads(found) == [b"record %d" % step for step in range(3, 8)]
    assert found.damaged == (6,)
    rows = {**ROWS, place(PLAIN, Table.SNAPSHOT, 3): b"\1 damaged"}
    assert opened(rows)[PLAIN] == Recovery(EXPECTED[:48], opened(ROWS)[PLAIN].records, False, 0, (3,))


def test_a_stream_whose_first_snapshot_is_damaged_is_recovered_from_its_beginning() -> None:
    peer = Peer()
    stream = peer.stream(b"a")
    stream.append(entries(b"1", b"2"), NOW)
    stream.snapshot(b"12")
    peer.flush()
    del peer.store.stored[place(b"a", Table.SNAPSHOT, 2)]
    recovery = peer.recovered(b"a")
    assert (recovery.snapshot, payloads(recovery), recovery.damaged) == (None, [b"1", b"2"], (2,))


def test_without_a_snapshot_that_verifies_it_is_refused() -> None:
    rows = {**ROWS, place(PLAIN, Table.SNAPSHOT, 6): b"\1 damaged", place(PLAIN, Table.SNAPSHOT, 3): b"\1 damaged"}
    assert refusal(rows) == "bad_snapshot"


def test_a_snapshot_from_before_it_was_replaced_is_found() -> None:
    peer = Peer()
    stream = peer.stream(b"a")
    stream.snapshot(b"first")
    peer.flush()
    first = peer.store.stored[place(b"a", Table.SNAPSHOT, 0)]
    stream.snapshot(b"second")
    peer.flush()
    peer.store.stored[place(b"a", Table.SNAPSHOT, 0)] = first
    with pytest.raises(JournalError, match="older one") as caught:
        peer.recovered(b"a")
    assert caught.value.reason == "spliced"


def test_a_work_around_goes_on_and_the_next_snapshots_make_it_whole() -> None:
    peer = Peer(MemoryStore({**ROWS, place(PLAIN, Table.SNAPSHOT, 6): b"\1 damaged"}), seed="next")
    stream = peer.stream(PLAIN)
    stream.append(entries(b"more"), NOW)
    stream.snapshot(EXPECTED + b"more")
    stream.append(entries(b"yet more"), NOW)
    stream.snapshot(EXPECTED + b"moreyet more")
    peer.flush()
    recovery = peer.recovered(PLAIN)
    assert (total(recovery), recovery.damaged) == (EXPECTED + b"moreyet more", ())


def test_after_a_work_around_the_next_snapshot_falls_back_to_the_good_one() -> None:
    """And not to the damaged one, which goes."""
    peer = Peer(MemoryStore({**ROWS, place(PLAIN, Table.SNAPSHOT, 6): b"\1 damaged"}), seed="next")
    stream = peer.stream(PLAIN)
    stream.append(entries(b"more"), NOW)
    peer.flush()
    assert peer.recovered(PLAIN).damaged == (6,), "nothing is thrown away before there is something better"
    stream.snapshot(EXPECTED + b"more")
    peer.flush()
    kept = [at[2] for at in peer.store.stored if at[:2] == (Table.SNAPSHOT, KEYS.stream(PLAIN))]
    assert sorted(kept) == [3, 9]
    assert peer.recovered(PLAIN).damaged == ()
    peer.store.stored[place(PLAIN, Table.SNAPSHOT, 9)] = b"\1 damaged"
    recovery = peer.recovered(PLAIN)
    assert (recovery.snapshot, total(recovery), recovery.damaged) == (EXPECTED[:24], EXPECTED + b"more", (9,))


def test_a_beginning_that_a_snapshot_was_worked_around_to_is_kept_for_the_next() -> None:
    peer = Peer()
    stream = peer.stream(b"a")
    for payload in (b"1", b"2", b"3"):
        stream.append(entries(payload), NOW)
        if payload == b"2":
            stream.snapshot(b"12")
            peer.flush()
            peer.store.stored[place(b"a", Table.SNAPSHOT, 2)] = b"\1 damaged"
            peer = peer.opened_again()
            stream = peer.stream(b"a")
    stream.snapshot(b"123")
    peer.flush()
    assert peer.recovered(b"a").snapshot == b"123"
    del peer.store.stored[place(b"a", Table.SNAPSHOT, 3)]
    assert payloads(peer.recovered(b"a")) == [b"1", b"2", b"3"]


def test_a_group_that_no_head_covers_is_found_whole_or_in_part() -> None:
    """Both come in one batch, of which a store shows all or nothing: the head was put back, or the group added."""
    peer = Peer(MemoryStore(ROWS), seed="next")
    peer.stream(FRESH).append(entries(b"more"), NOW)
    batch = peer.journal.flush(peer.entropy)
    assert batch is not None
    (group,) = (row for row in batch.rows if row.table is Table.GROUP)
    for size in (0, 1, len(group.data) - 1, len(group.data)):
        assert refusal({**ROWS, (group.table, group.stream, group.number): group.data[:size]}) == "bad_head"


def test_what_the_store_dropped_is_reported_and_unclean() -> None:
    peer = Peer()
    peer.stream(b"a").append(entries(b"1"), NOW)
    peer.close()
    store = MemoryStore(peer.store.stored)
    store.torn = 77
    recovery = Journal.open(KEYS, store).open_stream(b"a")[1]
    assert (total(recovery), recovery.torn, recovery.clean) == (b"1", 77, False)


def test_a_group_lost_in_a_crash_does_not_pass_for_the_one_that_was_written_in_its_place() -> None:
    peer = Peer(MemoryStore(ROWS), seed="first try")
    peer.stream(FRESH).append(entries(b"lost"), NOW)
    peer.flush()
    lost = peer.store.stored[place(FRESH, Table.GROUP, 9)]
    again = Peer(MemoryStore(ROWS), seed="second try")
    again.stream(FRESH).append(entries(b"kept"), NOW)
    again.flush()
    again.store.stored[place(FRESH, Table.GROUP, 9)] = lost
    assert refusal(again.store.stored) == "spliced"


def test_what_was_erased_cannot_be_opened_with_the_root_key_and_everything_that_is_left() -> None:
    """The rows of the erased epoch, as somebody copied them before; but its key row, which nobody did."""
    erased = KEYS.stream(ERASED)
    copied = {at: data for at, data in older_rows(WRITTEN) if at[1] == erased and at[0] is not Table.KEY}
    before = [each for each in WRITTEN.batches if not each.erase]
    (key,) = (row.data for each in before for row in each.rows if (row.table, row.stream) == (Table.KEY, erased))
    secret = KEYS.unwrap(Table.KEY, erased, 1, key)
    left = b"".join(ROWS.values())
    assert key not in left
    assert secret not in left
    for at, data in ROWS.items():
        if at[0] in (Table.KEY, Table.ROLL):
            assert KEYS.unwrap(*at, data) != secret
    groups = {at: data for at, data in copied.items() if at[0] is Table.GROUP}
    assert len(groups) == 4
    assert refusal({**ROWS, **groups}) == "spliced"
    heads = [row.data for each in before for row in each.rows if (row.table, row.stream) == (Table.HEAD, erased)]
    for head in heads[:4]:
        assert refusal({**ROWS, **groups, (Table.HEAD, erased, 0): head}) == "spliced"
    assert all(len(data) > ROW_OVERHEAD for data in groups.values())


def anchor_after(steps: int, name: bytes = b"a", erase: bool = False) -> tuple[Peer, Head, MemoryStore]:
    peer = Peer()
    stream = peer.stream(name)
    for step in range(steps):
        stream.append(entries(b"%d" % step, b"and"), NOW)
        peer.flush()
    if erase:
        stream.snapshot(b"", erase=True)
        peer.flush()
    return peer, stream.head, MemoryStore(peer.store.stored)


def test_a_journal_that_contains_its_anchor_is_opened() -> None:
    peer, anchor, _ = anchor_after(3)
    assert peer.recovered(b"a", anchor).anchored
    peer.opened_again().stream(b"a")
    peer.journal.open_stream(b"b")[0].append(entries(b"x"), NOW)
    peer.flush()
    assert peer.recovered(b"a", anchor).anchored


def test_a_journal_put_back_from_before_its_anchor_is_refused() -> None:
    _, _, old = anchor_after(2)
    _, anchor, _ = anchor_after(3)
    with pytest.raises(JournalError, match="ends at 4, and had 6") as caught:
        Peer(old).stream(b"a", anchor)
    assert caught.value.reason == "truncated"


def test_a_journal_with_another_history_than_its_anchor_is_refused() -> None:
    peer, anchor, _ = anchor_after(3)
    _, _, old = anchor_after(2)
    forked = Peer(old, seed="forked")
    stream = forked.stream(b"a")
    for _ in range(3):
        stream.append(entries(b"another", b"history"), NOW)
        forked.flush()
    with pytest.raises(JournalError) as caught:
        forked.recovered(b"a", anchor)
    assert caught.value.reason == "forked"
    in_the_middle = Head(anchor.stream, anchor.sequence - 1, anchor.tag)
    with pytest.raises(JournalError, match="another history"):
        peer.recovered(b"a", in_the_middle)


def test_an_anchor_holds_across_erasing_and_one_from_before_what_is_kept_is_only_compared() -> None:
    peer, anchor, _ = anchor_after(3, erase=True)
    assert peer.recovered(b"a", anchor).anchored
    with pytest.raises(JournalError, match="another history"):
        peer.recovered(b"a", Head(anchor.stream, anchor.sequence, bytes(32)))
    _, early, _ = anchor_after(2)
    assert not peer.recovered(b"a", early).anchored


def test_a_stream_with_an_anchor_that_is_gone_is_refused() -> None:
    _, anchor, _ = anchor_after(3)
    with pytest.raises(JournalError, match="there was") as caught:
        Peer().stream(b"a", anchor)
    assert caught.value.reason == "missing"


def test_without_an_anchor_a_whole_older_copy_is_opened() -> None:
    """What cannot be found out from the inside, so nobody should think it is."""
    _, _, old = anchor_after(2)
    assert len(Peer(old).recovered(b"a").records) == 4
