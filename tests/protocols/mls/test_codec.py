import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.mls.codec import (
    MESSAGE_SIZE_MAX,
    ROOM_MAX,
    VECTOR_SIZE_MAX,
    Reader,
    decode,
    opaque,
    optional,
    uint8,
    uint16,
    uint16s,
    uint32,
    uint32s,
    uint64,
    varint,
    vector,
)
from protocols.mls.commit import Commit
from protocols.mls.credentials import read_credential
from protocols.mls.errors import MlsError
from protocols.mls.extensions import read_extensions
from protocols.mls.welcome import Welcome
from tests.protocols.mls.kit import refused

LENGTHS = {
    0: "00",
    1: "01",
    63: "3f",
    64: "4040",
    16383: "7fff",
    16384: "80004000",
    VECTOR_SIZE_MAX: "bfffffff",
}


@pytest.mark.parametrize(("length", "header"), LENGTHS.items())
def test_length_is_written_in_its_shortest_form(length: int, header: str) -> None:
    assert varint(length).hex() == header
    assert decode(Reader.varint, bytes.fromhex(header)) == length


@given(st.integers(0, VECTOR_SIZE_MAX))
def test_every_length_is_read_as_it_was_written(length: int) -> None:
    assert decode(Reader.varint, varint(length)) == length


@pytest.mark.parametrize("header", ["4000", "403f", "80000000", "80000040", "80003fff"])
def test_length_in_a_longer_form_than_needed_is_refused(header: str) -> None:
    for read in (Reader.varint, Reader.opaque, Reader.uint16s, lambda reader: reader.vector(Reader.uint8)):
        with refused("2.1.2/non-minimal-length"):
            decode(read, bytes.fromhex(header) + bytes(64))


@pytest.mark.parametrize("first", ["c0", "ff"])
def test_length_of_eight_bytes_does_not_exist(first: str) -> None:
    with refused("2.1.2/invalid-length"):
        decode(Reader.opaque, bytes.fromhex(first) + bytes(64))


def test_nothing_longer_than_a_length_can_say_is_written() -> None:
    with pytest.raises(LocalError):
        varint(VECTOR_SIZE_MAX + 1)


@pytest.mark.parametrize(
    "read",
    [
        Reader.opaque,
        Reader.uint16s,
        Reader.uint32s,
        lambda reader: reader.vector(Reader.opaque),
        lambda reader: reader.vector(Reader.uint64),
        lambda reader: reader.optional(Reader.opaque),
        lambda reader: reader.vector(lambda inner: inner.vector(Reader.uint8)),
    ],
)
@pytest.mark.parametrize("length", [64, 2**14, 2**20, VECTOR_SIZE_MAX])
def test_claimed_length_allocates_nothing(read: Callable[[Reader], Any], length: int) -> None:
    data = b"\1" + varint(length) + b"few"
    tracemalloc.start()
    try:
        with refused("2.1/truncated"):
            decode(read, data[1:] if read(Reader(b"\0")) is not None else data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000


def test_message_that_is_too_large_is_not_looked_at() -> None:
    with refused("2.1/too-large"):
        decode(lambda _: pytest.fail("read"), bytes(MESSAGE_SIZE_MAX + 1))


def test_items_of_a_vector_end_with_it() -> None:
    inner = opaque(b"abc")
    whole = vector([inner, inner]) + b"rest!"
    reader = Reader(whole)
    assert reader.vector(Reader.opaque) == (b"abc", b"abc")
    assert reader.rest() == b"rest!"
    for short in range(1, len(inner)):
        with refused("2.1/truncated"):
            Reader(varint(2 * len(inner) - short) + inner + inner + b"rest!").vector(Reader.opaque)


def test_vector_of_more_items_than_make_sense_is_refused() -> None:
    items = vector([b"\7"] * 5)
    assert Reader(items).vector(Reader.uint8, 5) == (7,) * 5
    with refused("2.1/too-large"):
        Reader(items).vector(Reader.uint8, 4)


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (
            lambda reader: reader.vector(lambda inner: inner.vector(Reader.opaque)),
            vector([vector([b"\0"] * 2**14)] * 4),
        ),
        (lambda reader: reader.vector(Reader.uint32s), vector([uint32s((7,) * 2**15)] * 4)),
    ],
    ids=["items", "numbers"],
)
def test_many_vectors_together_have_room_for_so_many_objects(read: Callable[[Reader], Any], data: bytes) -> None:
    """Each alone is short enough."""
    reader = Reader(data)
    read(reader)
    spent = ROOM_MAX - reader.room
    assert spent >= 2**16 * 36
    reader = Reader(data)
    reader.room = spent
    read(reader)
    reader = Reader(data)
    reader.room = spent - 1
    with refused("2.1/too-large"):
        read(reader)


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (Welcome.read, uint16(1) + vector([bytes(3)] * 2**20) + b"\0"),
        (Commit.read, vector([b"\2\0"] * 2**20) + b"\0"),
        (read_extensions, vector([uint16(7) + b"\0"] * 2**20)),
        (read_credential, uint16(2) + vector([b"\0"] * 2**20)),
    ],
    ids=["Welcome", "Commit", "extensions", "certificates"],
)
def test_million_empty_items_do_not_become_a_million_objects(read: Callable[[Reader], Any], data: bytes) -> None:
    tracemalloc.start()
    try:
        with refused("2.1/too-large"):
            decode(read, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60_000_000


@pytest.mark.parametrize("read", [Reader.uint16s, Reader.uint32s])
def test_vector_of_numbers_holds_whole_numbers(read: Callable[[Reader], Any]) -> None:
    with refused("2.1/truncated"):
        decode(read, opaque(b"odd"))


@pytest.mark.parametrize("octet", [2, 127, 255])
def test_presence_octet_is_zero_or_one(octet: int) -> None:
    with refused("2.1.1/invalid-presence"):
        decode(lambda reader: reader.optional(Reader.uint8), bytes((octet, 0)))


def test_nothing_may_follow() -> None:
    with refused("2.1/trailing-bytes"):
        decode(Reader.opaque, opaque(b"whole") + b"\0")


# -- any structure made of these pieces -------------------------------------------------------------

Shape = tuple[bytes, Callable[[Reader], Any], Any]
"""An encoding, how it is read, and what was encoded."""


def _numbers(size: int, write: Callable[[int], bytes], read: Callable[[Reader], int]) -> st.SearchStrategy[Shape]:
    return st.integers(0, 256**size - 1).map(lambda value: (write(value), read, value))


NUMBERS = st.one_of(
    st.integers(0, 63).map(lambda value: (uint8(value), Reader.uint8, value)),
    _numbers(2, uint16, Reader.uint16),
    _numbers(4, uint32, Reader.uint32),
    _numbers(8, uint64, Reader.uint64),
)
PIECES: st.SearchStrategy[Shape] = st.one_of(
    NUMBERS,
    (st.binary(max_size=70) | st.just(bytes(2**14))).map(lambda data: (opaque(data), Reader.opaque, data)),
    st.lists(st.integers(0, 2**16 - 1)).map(lambda each: (uint16s(tuple(each)), Reader.uint16s, tuple(each))),
    st.lists(st.integers(0, 2**32 - 1)).map(lambda each: (uint32s(tuple(each)), Reader.uint32s, tuple(each))),
)


def _sequence(parts: list[Shape]) -> Shape:
    reads = [read for _, read, _ in parts]
    return (
        b"".join(data for data, _, _ in parts),
        lambda reader: [read(reader) for read in reads],
        [value for _, _, value in parts],
    )


def _optional(part: Shape | None) -> Shape:
    if part is None:
        return optional(None), lambda reader: reader.optional(Reader.uint8), None
    data, read, value = part
    return optional(data), lambda reader: reader.optional(read), value


def _vector(part: Shape, count: int) -> Shape:
    data, read, value = part
    return vector([data] * count), lambda reader: reader.vector(read), (value,) * (count if data else 0)


SHAPES: st.SearchStrategy[Shape] = st.recursive(
    PIECES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(_sequence),
        (st.none() | inner).map(_optional),
        st.builds(_vector, inner, st.integers(0, 3)),
    ),
    max_leaves=8,
)


@given(SHAPES, st.binary(min_size=1, max_size=3), st.data())
def test_structure_is_read_whole_or_not_at_all(shape: Shape, more: bytes, drawn: st.DataObject) -> None:
    data, read, value = shape
    assert decode(read, data) == value
    with refused("2.1/trailing-bytes"):
        decode(read, data + more)
    if data:
        with pytest.raises(MlsError) as caught:
            decode(read, data[: drawn.draw(st.integers(0, len(data) - 1))])
        assert caught.value.reason.startswith("2.1")
