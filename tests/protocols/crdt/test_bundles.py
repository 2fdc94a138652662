import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.bundles import (
    BUNDLE,
    BUNDLE_COUNT_MAX,
    BUNDLE_SIZE_MAX,
    HEADER,
    OPERATION_SIZE_MAX,
    SEQUENCE_MAX,
    SINGLE,
    SINGLE_SIZE_MAX,
    Parcel,
    Seal,
    encode_bundle,
    encode_single,
    parse,
    path_of,
    seal_bundle,
)
from protocols.crdt.changes import Acknowledge, Append, Assign, Change, Clear, Edit, Insert, Remove
from protocols.crdt.clock import CLOCK_MAX
from protocols.crdt.errors import CrdtError
from protocols.crdt.operations import DEPENDENCIES_MAX, NOTHING, OperationIds, encode_change
from protocols.errors import LocalError
from protocols.identity.signing import Domain, SigningKey, sign
from tests.protocols.crdt.forgeries import FORGERIES, changes
from tests.strategies import mutations

KEY: Final = SigningKey.generate(b"k" * 32)
OTHER: Final = SigningKey.generate(b"o" * 32)
CHANNEL: Final = b"c" * 32
PREVIOUS: Final = b"p" * 32
SOMEBODY: Final = (b"d" * 32, b"e" * 32)

encode = msgspec.msgpack.encode
DATED = st.tuples(
    changes(), st.integers(1, 2**40), st.sets(st.binary(min_size=32, max_size=32), max_size=4).map(sorted)
)


def sealed(*written: Change, key: SigningKey = KEY, channel: bytes = CHANNEL, first: int = 5) -> Parcel:
    """These changes, one after the other; the first depends on what two others wrote."""
    dated = [(change, 100 + 10 * number, () if number else SOMEBODY) for number, change in enumerate(written)]
    return seal_bundle(key, channel, dated, first, PREVIOUS)


def appends(count: int) -> list[Change]:
    return [Append(("log",), number) for number in range(count)]


def whole(parcel: Parcel) -> bytes:
    return encode_bundle(parcel.seal, parcel.operations)


def alone(parcel: Parcel, index: int) -> bytes:
    return encode_single(parcel.seal, parcel.operations[index], path_of(parcel.operations, index))


def check(data: bytes, channel: bytes = CHANNEL) -> Parcel:
    """What every way into a replica begins with."""
    parcel = parse(channel, data)
    parcel.seal.verify(channel)
    return parcel


def refused(data: bytes, channel: bytes = CHANNEL) -> str:
    with pytest.raises(CrdtError) as caught:
        check(data, channel)
    return caught.value.reason


def with_body(body: bytes, count: int, kind: int = BUNDLE) -> bytes:
    """A bundle of anybody's, who signed nothing."""
    index = b"\0" if kind == SINGLE else b""
    return HEADER.pack(kind, KEY.public, 1, NOTHING, count, len(body), bytes(64)) + index + body


# -- honest ---------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(DATED, min_size=1, max_size=5), st.integers(1, SEQUENCE_MAX))
def test_what_was_sealed_is_what_is_read_whole_or_alone(
    written: list[tuple[Change, int, Sequence[bytes]]], first: int
) -> None:
    clock, dated = 0, []
    for change, later, dependencies in written:
        clock += later
        dated.append((change, clock, tuple(reversed(dependencies))))
    parcel = seal_bundle(KEY, CHANNEL, dated, first, PREVIOUS)
    read = check(whole(parcel))
    assert read == parcel
    for index, (operation, (change, clock, dependencies)) in enumerate(zip(read.operations, dated, strict=True)):
        assert (operation.change, operation.clock) == (change, clock)
        assert operation.dependencies == tuple(sorted(dependencies))
        assert operation.sequence == first + index
        assert operation.previous == (read.operations[index - 1].id if index else PREVIOUS)
        assert check(alone(parcel, index)).operations == (operation,)
    assert whole(read) == whole(parcel)


@pytest.mark.parametrize("count", range(1, BUNDLE_COUNT_MAX + 1))
def test_each_operation_of_a_bundle_verifies_alone(count: int) -> None:
    parcel = sealed(*appends(count))
    assert check(whole(parcel)) == parcel
    for index in range(count):
        single = check(alone(parcel, index))
        assert single.seal == parcel.seal
        assert single.operations == parcel.operations[index : index + 1]
        assert single.path == path_of(parcel.operations, index)


def test_a_single_operation_is_sent_again_as_it_came() -> None:
    data = alone(sealed(*appends(5)), 3)
    single = check(data)
    assert encode_single(single.seal, single.operations[0], single.path or ()) == data


# -- forged ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("written", "forged"), FORGERIES, ids=lambda change: type(change).__name__)
def test_a_forged_change_of_any_kind_is_refused(written: Change, forged: Change) -> None:
    parcel = sealed(Acknowledge(), written, Acknowledge())
    operation = msgspec.structs.replace(parcel.operations[1], change=forged)
    operations = (parcel.operations[0], operation, parcel.operations[2])
    assert refused(encode_bundle(parcel.seal, operations)) == "bad_signature"
    assert refused(encode_single(parcel.seal, operation, path_of(parcel.operations, 1))) == "bad_signature"


@pytest.mark.parametrize(
    "forged",
    [
        {"clock": 99},
        {"clock": 101},
        {"previous": NOTHING},
        {"dependencies": ()},
        {"dependencies": SOMEBODY[:1]},
        {"dependencies": (b"D" * 32, SOMEBODY[1])},
        {"dependencies": (*SOMEBODY, b"f" * 32)},
    ],
    ids=str,
)
def test_a_forged_past_is_refused(forged: dict[str, object]) -> None:
    parcel = sealed(*appends(3))
    operation = msgspec.structs.replace(parcel.operations[0], **forged)
    assert refused(encode_bundle(parcel.seal, (operation, *parcel.operations[1:]))) == "bad_signature"
    assert refused(encode_single(parcel.seal, operation, path_of(parcel.operations, 0))) == "bad_signature"


@pytest.mark.parametrize(
    ("field", "forged", "reasons"),
    [
        (0, 0, {"malformed"}),
        (0, SINGLE, {"bad_path", "malformed"}),
        (0, 3, {"malformed"}),
        (1, OTHER.public, {"bad_signature"}),
        (1, bytes(32), {"bad_signature"}),
        (2, 0, {"malformed"}),
        (2, 6, {"bad_signature"}),
        (2, SEQUENCE_MAX + 1, {"malformed"}),
        (3, NOTHING, {"bad_signature"}),
        (4, 0, {"bad_count"}),
        (4, 2, {"bad_count"}),
        (4, 4, {"bad_count"}),
        (4, BUNDLE_COUNT_MAX + 1, {"bad_count"}),
        (4, 255, {"bad_count"}),
        (5, 0, {"malformed"}),
        (5, BUNDLE_SIZE_MAX + 1, {"oversized"}),
        (5, 2**32 - 1, {"oversized"}),
        (6, bytes(64), {"bad_signature"}),
        (6, b"\xff" * 64, {"bad_signature"}),
    ],
)
def test_a_forged_header_is_refused(field: int, forged: object, reasons: set[str]) -> None:
    data = whole(sealed(*appends(3)))
    fields = list(HEADER.unpack_from(data))
    fields[field] = forged
    assert refused(HEADER.pack(*fields) + data[HEADER.size :]) in reasons


@pytest.mark.parametrize("data", [whole(sealed(*appends(3))), alone(sealed(*appends(3)), 1)], ids=["bundle", "single"])
def test_a_change_of_any_one_byte_is_refused(data: bytes) -> None:
    assert check(data)
    for place in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            refused(data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])


@pytest.mark.parametrize("data", [whole(sealed(*appends(3))), alone(sealed(*appends(3)), 1)], ids=["bundle", "single"])
def test_what_is_cut_short_or_goes_on_is_refused(data: bytes) -> None:
    for end in range(len(data)):
        assert refused(data[:end]) in ("malformed", "bad_path")
    assert refused(data + b"\0") == "malformed"
    assert refused(data + data) == "malformed"


@given(st.data())
def test_mangled_bytes_are_refused_with_a_reason_or_are_what_was_signed(data: st.DataObject) -> None:
    parcel = sealed(*[change for change, _ in FORGERIES[:8]])
    original = data.draw(st.sampled_from([whole(parcel), alone(parcel, 6)]))
    mangled = data.draw(mutations(original))
    if mangled != original:
        refused(mangled)


def test_an_unsigned_operation_is_refused() -> None:
    parcel = sealed(Assign(("a",), 1))
    unsigned = Seal(KEY.public, parcel.seal.first, 1, parcel.seal.root, bytes(64))
    assert refused(encode_bundle(unsigned, parcel.operations)) == "bad_signature"
    assert refused(encode_single(unsigned, parcel.operations[0], ())) == "bad_signature"


def test_an_operation_that_is_signed_by_another_key_is_refused() -> None:
    parcel = sealed(Assign(("a",), 1), key=OTHER)
    taken = Seal(KEY.public, parcel.seal.first, 1, parcel.seal.root, parcel.seal.signature)
    assert refused(encode_bundle(taken, parcel.operations)) == "bad_signature"


def test_an_operation_of_another_channel_is_refused() -> None:
    parcel = sealed(*appends(3), channel=b"C" * 32)
    assert check(whole(parcel), b"C" * 32)
    assert refused(whole(parcel)) == "bad_signature"
    assert refused(alone(parcel, 2)) == "bad_signature"


def test_a_signature_for_another_purpose_is_refused() -> None:
    parcel = sealed(*appends(2))
    signature = sign(KEY, Domain.RECORD, *parcel.seal.fields(CHANNEL))
    seal = msgspec.structs.replace(parcel.seal, signature=signature)
    assert refused(encode_bundle(seal, parcel.operations)) == "bad_signature"


def test_a_signature_says_channel_author_first_count_and_root() -> None:
    seal = Seal(KEY.public, 5, 3, b"r" * 32, b"")
    other = (
        Seal(OTHER.public, 5, 3, b"r" * 32, b""),
        Seal(KEY.public, 6, 3, b"r" * 32, b""),
        Seal(KEY.public, 5, 4, b"r" * 32, b""),
        Seal(KEY.public, 5, 3, b"R" * 32, b""),
    )
    assert len({each.fields(CHANNEL) for each in (seal, *other)} | {seal.fields(b"C" * 32)}) == 6


@pytest.mark.parametrize("index", [3, 4, 63, 64, 255])
def test_an_operation_is_one_of_its_bundle(index: int) -> None:
    data = alone(sealed(*appends(3)), 1)
    assert refused(data[: HEADER.size] + bytes([index]) + data[HEADER.size + 1 :]) == "bad_path"


def test_operations_are_not_moved_left_out_or_put_elsewhere() -> None:
    parcel, later = sealed(*appends(4)), sealed(*appends(4), first=9)
    operations, seal = parcel.operations, parcel.seal
    for forged in (
        encode_bundle(Seal(seal.author, 5, 3, seal.root, seal.signature), operations[:3]),
        encode_bundle(Seal(seal.author, 6, 3, seal.root, seal.signature), operations[1:]),
        encode_single(seal, operations[1], path_of(operations, 2)),
        encode_single(seal, msgspec.structs.replace(operations[1], sequence=7), path_of(operations, 2)),
        encode_single(later.seal, later.operations[1], path_of(operations, 1)),
    ):
        assert refused(forged) == "bad_signature"


# -- too much -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "size"), [(BUNDLE, BUNDLE_SIZE_MAX + 1), (SINGLE, SINGLE_SIZE_MAX + 1), (BUNDLE, 2**32 - 1)]
)
def test_the_header_alone_tells_what_is_too_large(kind: int, size: int) -> None:
    """What follows is not even there, and need not be."""
    assert refused(HEADER.pack(kind, KEY.public, 1, NOTHING, 1, size, bytes(64))) == "oversized"


def test_a_change_that_could_not_travel_alone_does_not_travel_in_a_bundle() -> None:
    edits = tuple([Insert(None, 0, False, "x" * 8000)] * 9)
    change = Edit(("a",), edits)
    operation = OperationIds(CHANNEL, KEY.public).operation(5, PREVIOUS, (), 1, change, encode_change(change))
    assert len(encode_change(change)) > OPERATION_SIZE_MAX
    assert refused(encode_bundle(Seal(KEY.public, 5, 1, operation.id, bytes(64)), [operation])) == "oversized"


def test_the_largest_operation_there_is_travels_alone() -> None:
    fill = OPERATION_SIZE_MAX - len(encode_change(Edit(("a",), (Insert(None, 0, False, "x" * 8000),) * 8)))
    edits = (*[Insert(None, 0, False, "x" * 8000)] * 8, Insert(None, 0, False, "x" * (fill - 8)))
    change = Edit(("a",), edits)
    assert len(encode_change(change)) == OPERATION_SIZE_MAX
    others = tuple(bytes([number]) * 32 for number in range(DEPENDENCIES_MAX))
    parcel = seal_bundle(KEY, CHANNEL, [(change, CLOCK_MAX, others)], SEQUENCE_MAX, PREVIOUS)
    assert check(alone(parcel, 0)).operations == parcel.operations
    assert check(whole(parcel)) == parcel


def bombs() -> Iterator[tuple[bytes, int]]:
    """Bodies that say that they are larger than they are, or are as dear to decode as their size allows."""
    for claim in (b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdf"):
        yield b"\x91" + claim, 1
        yield b"\x91\x93\x01" + claim, 1
        yield b"\x91\x93\x01\x90" + claim, 1
        yield b"\x91\x93\x01\x90\x93\x01" + claim, 1
        yield b"\x91\x93\x01\x90\x93\x01\x91" + claim, 1
        yield b"\x91\x93\x01\x90\x93\x07\x91\xa1a" + claim, 1
        yield b"\x91\x93\x01\x90\x95\x09" + claim, 1
    yield b"\x91" * BUNDLE_SIZE_MAX, 1
    yield b"\x91\x93\x01\x90" + b"\x92" * (BUNDLE_SIZE_MAX - 4), 1
    yield b"\xdc\x00\x40" + b"\x93\x01\x90\x91\x0d" * 51_000, 64
    tiny = b"\x95\x00\xc0\x00\xc2\xa1\xc3"  # Invalid UTF-8 at the end of all: decoded in vain.
    yield b"\x91\x93\x01\x90\x93\x07\x91\xa1a\xdc\x00\x40" + b"\x95\x00\xc0\x00\xc2\xa1x" * 63 + tiny, 1
    edit = Edit(("a",), (Insert(None, 0, False, "é"),) * 64)
    yield encode([[1, [], edit]] * 64), 64
    yield encode([[1, [bytes([number]) * 32 for number in range(32)], Clear(("é",) * 8)]] * 64), 64


@pytest.mark.parametrize(("body", "count"), [*bombs()])
def test_decoding_costs_no_more_than_a_small_multiple_of_what_was_sent(body: bytes, count: int) -> None:
    data = with_body(body[:BUNDLE_SIZE_MAX], count)
    parse(CHANNEL, whole(sealed(*appends(2))))
    tracemalloc.start()
    try:
        refused(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(data) + 4 * 1024


# -- other encodings ------------------------------------------------------------------------------------------


def test_what_announces_another_count_than_follows_is_refused_before_it_is_decoded() -> None:
    body = encode([[1, [], Acknowledge()]] * 3)
    for count in (1, 2, 4, 15, 16, 64):
        assert refused(with_body(body, count)) == "bad_count"
    assert refused(with_body(encode([[1, [], Acknowledge()]] * 16), 15)) == "bad_count"
    assert refused(with_body(encode([[1, [], Acknowledge()]] * 64), 63)) == "bad_count"
    assert refused(with_body(encode([[1, [], Acknowledge()]] * 2), 1, SINGLE)) == "bad_count"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xdc\x00\x01\x93\x01\x90\x91\x0d", "bad_count"),
        (b"\xdd\x00\x00\x00\x01\x93\x01\x90\x91\x0d", "bad_count"),
        (b"\x91\x93\xcc\x01\x90\x91\x0d", "non_canonical"),
        (b"\x91\x93\xcf\x00\x00\x00\x00\x00\x00\x00\x01\x90\x91\x0d", "non_canonical"),
        (b"\x91\x93\xd0\x01\x90\x91\x0d", "non_canonical"),
        (b"\x91\xdc\x00\x03\x01\x90\x91\x0d", "non_canonical"),
        (b"\x91\x93\x01\xdc\x00\x00\x91\x0d", "non_canonical"),
        (b"\x91\x93\x01\x90\xdc\x00\x01\x0d", "non_canonical"),
        (b"\x91\x93\x01\x90\x93\x01\x91\xd9\x01a\x01", "non_canonical"),
        (b"\x91\x93\x01\x90\x93\x01\x91\xda\x00\x01a\x01", "non_canonical"),
        (b"\x91\x93\x01\x90\x93\x01\x91\xa1a\x91\xc5\x00\x01x", "non_canonical"),
        (b"\x91\x93\x00\x90\x91\x0d", "malformed"),
        (b"\x91\x93\xff\x90\x91\x0d", "malformed"),
        (b"\x91\x93\xcf\x80\x00\x00\x00\x00\x00\x00\x00\x90\x91\x0d", "malformed"),
        (b"\x91\x93\x01\x90\x91\x0e", "malformed"),
        (b"\x91\x93\x01\x90\x92\x0d\x01", "malformed"),
        (b"\x91\x94\x01\x90\x91\x0d\x01", "malformed"),
        (b"\x91\x92\x01\x90", "malformed"),
        (b"\x91\x93\x01\x90\x93\x01\x91\xa1a\xca\x00\x00\x00\x00", "malformed"),
        (b"\x91\x93\x01\x90\x93\x01\x91\xa1a\x80", "malformed"),
        (b"\x91\x93\x01\x90\x93\x01\x91\xa2\xed\xa0\x01", "malformed"),
        (b"\x91\x93\x01\x90\x93\x01\x91\xa3\xed\xa0\x80\x01", "malformed"),
        (b"\x91\x93\x01\x90\x93\x01\x91\xa1a\xd4\x01\x00", "malformed"),
        (b"\x91\x93\x01\x90\x91\x0d\x00", "malformed"),
        (encode([[1, [b"e" * 32, b"d" * 32], Acknowledge()]]), "non_canonical"),
        (encode([[1, [b"d" * 32, b"d" * 32], Acknowledge()]]), "non_canonical"),
        (encode([[1, [b"d" * 31], Acknowledge()]]), "malformed"),
        (encode([[1, [bytes([number]) * 32 for number in range(33)], Acknowledge()]]), "malformed"),
    ],
)
def test_nothing_has_a_second_encoding(body: bytes, reason: str) -> None:
    assert refused(with_body(body, 1)) == reason


def test_clocks_that_add_up_to_more_than_a_clock_are_refused() -> None:
    assert refused(with_body(encode([[CLOCK_MAX, [], Acknowledge()], [1, [], Acknowledge()]]), 2)) == "malformed"


# -- writing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dated",
    [
        [],
        [(Acknowledge(), 1 + number, ()) for number in range(BUNDLE_COUNT_MAX + 1)],
        [(Acknowledge(), 0, ())],
        [(Acknowledge(), CLOCK_MAX + 1, ())],
        [(Acknowledge(), 2, ()), (Acknowledge(), 2, ())],
        [(Acknowledge(), 1, tuple(bytes([number]) * 32 for number in range(DEPENDENCIES_MAX + 1)))],
        [(Acknowledge(), 1, (PREVIOUS, PREVIOUS))],
        [(Assign((), 1), 1, ())],
        [(Assign(("a",), "\ud800"), 1, ())],
        [(Assign(("a",), 2**64), 1, ())],
        [(Assign(("a",), 2**63), 1, ())],
        [(Assign(("a",), 0.5), 1, ())],  # type: ignore[arg-type]
        [(Remove(("a",), "x" * 20_000), 1, ())],
        [(Edit(("a",), (Insert(None, 0, False, "x" * 8000),) * 9), 1, ())],
    ],
)
def test_what_nobody_would_read_is_not_signed(dated: list[tuple[Change, int, tuple[bytes, ...]]]) -> None:
    with pytest.raises(LocalError):
        seal_bundle(KEY, CHANNEL, dated, 1, NOTHING)


def test_what_is_signed_is_held_as_others_read_it() -> None:
    parcel = sealed(Assign(["a"], 1))  # type: ignore[arg-type]
    assert parcel.operations[0].change == Assign(("a",), 1)


def test_a_bundle_that_nobody_would_decode_is_not_encoded() -> None:
    with pytest.raises(LocalError):
        whole(sealed(*[Append(("log",), "x" * 16_000)] * 17))
    assert len(whole(sealed(*[Append(("log",), "x" * 16_000)] * 16))) <= HEADER.size + BUNDLE_SIZE_MAX
