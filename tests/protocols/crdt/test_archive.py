import struct
import tracemalloc
import zlib
from hashlib import sha256
from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.archive import CHUNK_SIZE, CHUNK_SIZE_MAX, archive, unarchive
from protocols.crdt.bundles import BUNDLE, BUNDLE_COUNT_MAX, SINGLE, encode_bundle, parse
from protocols.crdt.changes import Acknowledge, Append, Blob, Delete, Edit, Genesis, Insert
from protocols.crdt.clock import CLOCK_MAX
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import History
from protocols.crdt.operations import NOTHING
from protocols.crdt.proofs import path_to
from tests.protocols.crdt.chains import CHANNEL, GENESIS, beginning, chain, read, take, take_alone
from tests.protocols.crdt.forgeries import FORGERIES
from tests.protocols.crdt.worlds import World, worlds

MAGIC: Final = b"SpacePanda crdt archive 1\0"
ANY: Final = st.sampled_from([change for change, _ in FORGERIES if not isinstance(change, Genesis)])


def units(history: History) -> list[bytes]:
    return list(unarchive(history.channel, archive(history)))


def same(one: History, other: History) -> bool:
    """The same operations in the same order, of which each can be shown to others."""
    assert all(path_to(other, each) == path_to(one, one.operations[each.id]) for each in other)
    return list(one.operations) == list(other.operations)


def chunk(data: bytes, size: int | None = None) -> bytes:
    compressed = zlib.compress(data)
    return MAGIC + struct.pack(">II", len(data) if size is None else size, len(compressed)) + compressed


def refused(data: bytes) -> str:
    with pytest.raises(CrdtError) as caught:
        list(unarchive(CHANNEL, data))
    assert caught.value.reason == "bad_archive"
    return caught.value.detail


def busy() -> History:
    """Two authors who see each other, whole bundles and single operations, edits of each other's text, a fork."""
    history = beginning()
    hello = chain(Edit(("t",), (Insert(None, 0, False, "hello"),)), 1, 2)
    take(history, hello)
    there = chain(
        Edit(("t",), (Insert(hello.operations[0].id, 4, False, "!"), Insert(0, 0, True, "?"))),
        3,
        after=hello.operations[0],
        author=1,
    )
    take(history, there)
    last = hello.operations[-1]
    take(
        history,
        chain(
            Edit(("t",), (Delete(3, 0, 1), Delete(there.operations[0].id, 0, 1))),
            4,
            after=last,
            seen=there.operations[:1],
        ),
    )
    take_alone(history, chain(*range(9), after=there.operations[-1], author=1), 0, 1, 2)
    take(history, chain(1, 20, after=last))
    return history


# -- kept -----------------------------------------------------------------------------------------------------


def test_a_history_comes_back_in_the_bundles_in_which_it_came() -> None:
    history = beginning()
    first = chain(*range(BUNDLE_COUNT_MAX))
    second = chain(1, after=first.operations[-1], author=1)
    third = chain(*range(5), after=first.operations[-1], seen=second.operations)
    parcels = [GENESIS, first, second, third]
    for each in parcels[1:]:
        take(history, each)
    assert units(history) == [encode_bundle(each.seal, each.operations) for each in parcels]


def test_what_cannot_come_back_whole_comes_back_alone_and_proven() -> None:
    history = beginning()
    take_alone(history, chain(*range(9)), 0, 1, 2, 3, 4)
    back = units(history)
    assert [data[0] for data in back[1:]] == [SINGLE] * 5
    assert same(history, read(back))


def test_what_came_alone_comes_back_whole_once_all_of_it_is_here() -> None:
    history, parcel = beginning(), chain(*range(9))
    take_alone(history, parcel, *range(9))
    assert units(history)[1:] == [encode_bundle(parcel.seal, parcel.operations)]


def test_everything_at_once_comes_back() -> None:
    history = busy()
    assert same(history, read(units(history)))


@settings(max_examples=30, deadline=None)
@given(worlds(ANY))
def test_any_history_comes_back(world: World) -> None:
    history = world.history()
    back = read(units(history), world.channel)
    assert same(history, back)
    assert archive(back) == archive(history)


def test_the_order_of_arrival_is_kept_though_an_author_let_go_of_a_part_early() -> None:
    """Bob answers the first operation of a bundle whose last one depends on the answer."""
    history = beginning()
    early = chain(1)
    answer = chain(2, after=early.operations[0], author=1)
    late = chain(1, 3, seen=answer.operations)
    take(history, early)
    take(history, answer)
    take_alone(history, late, 1)
    assert same(history, read(units(history)))

    history = beginning()
    take_alone(history, late, 0)
    take(history, answer)
    take_alone(history, late, 1)
    assert same(history, read(units(history)))


def test_operations_that_were_signed_twice_come_back_once() -> None:
    history = beginning()
    take(history, chain(1, 2))
    take(history, chain(1, 2, 3, 4))
    back = units(history)
    assert [data[0] for data in back] == [BUNDLE, BUNDLE, SINGLE, SINGLE]
    assert same(history, read(back))


def test_the_end_of_a_bundle_is_not_taken_for_all_of_it() -> None:
    """Its last operation stands where that of a whole bundle would, as Bob's is between."""
    history, long = beginning(), chain(1, 2, 3)
    take(history, chain(1))
    take_alone(history, long, 1)
    take(history, chain(4, author=1))
    take_alone(history, long, 2)
    assert same(history, read(units(history)))


def test_a_history_of_many_chunks_comes_back() -> None:
    history, after = beginning(), GENESIS.operations[0]
    for number in range(5):
        noise = [sha256(b"%d %d" % (number, part)).digest() * 500 for part in range(15)]
        parcel = chain(*[Append(("log",), Blob(each)) for each in noise], after=after)
        after = parcel.operations[-1]
        take(history, parcel)
    assert same(history, read(units(history)))


def test_an_empty_history_is_an_empty_archive() -> None:
    assert units(History(CHANNEL)) == []


def test_keystrokes_are_kept_in_few_bytes_and_one_signature_for_64() -> None:
    history, after = beginning(), GENESIS.operations[0]
    text = "It is a truth universally acknowledged, that a single man in possession of a good fortune" * 6
    for start in range(0, 512, BUNDLE_COUNT_MAX):
        keys = text[start : start + BUNDLE_COUNT_MAX]
        parcel = chain(*[Edit(("t",), (Insert(1, 0, False, key),)) for key in keys], after=after)
        after = parcel.operations[-1]
        take(history, parcel)
    assert len(archive(history)) < 4 * 512


def test_names_of_others_operations_cost_less_than_their_ids() -> None:
    history, before = beginning(), [GENESIS.operations[0]] * 2
    for number in range(200):
        author = number % 2
        edit = Edit(("t",), (Insert(before[1 - author].id, 0, False, "x"),))
        parcel = chain(
            edit,
            after=before[author] if number > 1 else GENESIS.operations[0],
            author=author,
            seen=before[1 - author : 2 - author] if number > 1 else (),
        )
        take(history, parcel)
        before[author] = parcel.operations[0]
    assert len(archive(history)) < 200 * (64 + 16)


# -- damaged --------------------------------------------------------------------------------------------------


def test_damage_is_found_here_or_at_the_signature_wherever_it_is() -> None:
    history = busy()
    data = archive(history)
    known = set(units(history))
    for place in range(len(data)):
        for flip in (0x01, 0x80):
            bent = data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]
            assert_harmless(bent, known)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whoever_alters_what_is_compressed_makes_nothing_that_is_signed(data: st.DataObject) -> None:
    history = busy()
    packed = archive(history)
    inside = bytearray(zlib.decompress(packed[len(MAGIC) + 8 :]))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(inside) - 1))
        inside[place] = data.draw(st.integers(0, 255))
    assert_harmless(chunk(bytes(inside)), set(units(history)))


def assert_harmless(data: bytes, known: set[bytes]) -> None:
    """What comes out is refused in the end, or was in there before."""
    number = 0
    try:
        for number, unit in enumerate(unarchive(CHANNEL, data)):
            if unit not in known:
                channel = CHANNEL if number else NOTHING
                parse(channel, unit).seal.verify(channel)
                raise AssertionError("an archive made something up, and it is signed")
    except CrdtError:
        pass


def test_what_is_cut_short_or_goes_on_is_refused() -> None:
    data = archive(busy())
    for end in [*range(len(MAGIC)), *range(len(MAGIC) + 1, len(data))]:
        assert refused(data[:end])
    assert refused(data + b"\0")
    assert refused(data + data)


def test_another_channels_archive_is_refused() -> None:
    with pytest.raises(CrdtError, match="another channel"):
        list(unarchive(b"C" * 32, archive(busy())))


@pytest.mark.parametrize("claim", [0, 1000, CHUNK_SIZE_MAX + 1, 2**32 - 1])
def test_a_chunk_is_as_large_as_it_says_and_as_is_allowed(claim: int) -> None:
    assert refused(chunk(bytes(999), claim))


def test_a_chunk_that_is_whole_but_not_as_announced_is_refused() -> None:
    data = archive(busy())
    size, compressed_size = struct.unpack_from(">II", data, len(MAGIC))
    compressed = data[len(MAGIC) + 8 :]
    for claim in (size - 1, size + 1, CHUNK_SIZE_MAX):
        assert "announced" in refused(MAGIC + struct.pack(">II", claim, compressed_size) + compressed)
    more = compressed + b"more"
    assert "announced" in refused(MAGIC + struct.pack(">II", size, len(more)) + more)


@pytest.mark.parametrize(
    ("unit", "detail"),
    [
        ([2, 1, bytes(64), 64, 63, [], [1, [], Acknowledge()]], "63 of a bundle"),
        ([1, 1, bytes(64), [[CLOCK_MAX, [], Acknowledge()]]], "clock"),
        ([1, 2, bytes(64), [[1, [], Acknowledge()]]], "before its beginning"),
        ([1, 1, bytes(64), [[1, [2], Acknowledge()]]], "before its beginning"),
        ([1, 1, bytes(64), [[1, [], [7, ["t"], [[1, -2, 0, 1]]]]]], "before its beginning"),
        ([1, 1, bytes(64), [[1, [0], Acknowledge()]]], ">= 1"),
        ([1, 0, bytes(64), [[1, [], Acknowledge()]]], ">= 1"),
        ([1, 1, bytes(64), [[0, [], Acknowledge()]]], ">= 1"),
        ([1, 1, bytes(64), [[1, [], Append(("log",), "x" * 16_000)]] * 17], "limit"),
    ],
)
def test_units_that_name_what_cannot_be_are_refused(unit: list[object], detail: str) -> None:
    """They follow a genesis, as any do."""
    operation, seal = GENESIS.operations[0], GENESIS.seal
    genesis = [1, seal.author, seal.signature, [[operation.clock, [], operation.change]]]
    assert list(unarchive(CHANNEL, chunk(msgspec.msgpack.encode([genesis])))) == units(beginning())
    assert detail in refused(chunk(msgspec.msgpack.encode([genesis, unit])))


def test_a_bomb_costs_no_more_than_a_chunk() -> None:
    packed = [chunk(bytes(10_000_000), claim) for claim in (CHUNK_SIZE_MAX, 10_000_000)]
    packed.append(chunk(b"\xdd\xff\xff\xff\xff" + bytes(1000)))
    packed.append(chunk(b"\xdd\x00\x00\x40\x00" + bytes(CHUNK_SIZE_MAX - 5)))
    for data in packed:
        tracemalloc.start()
        try:
            assert refused(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 3 * CHUNK_SIZE_MAX


def test_a_chunk_and_the_largest_unit_fit_what_is_read() -> None:
    assert CHUNK_SIZE + 2 * 256 * 1024 <= CHUNK_SIZE_MAX
