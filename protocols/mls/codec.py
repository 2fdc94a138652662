"""The presentation language of RFC 9420 §2: what is on the wire is a structure's one encoding, or nothing.

Each structure has ``encode`` and a classmethod ``read`` beside its fields, built from the pieces here. A length
is compared with the bytes that are really there before anything is allocated, so a few bytes that claim a
gigabyte cost nothing. As an empty item of three bytes becomes an object of seventy, a reader has room for so many.
Lengths are minimal, flags are 0 or 1, and ``decode`` leaves no byte over: what decodes encodes to the same bytes,
and hashes and signatures can be taken over a re-encoding.
"""

from collections.abc import Callable, Iterable
from struct import Struct, unpack_from
from typing import Final, TypeVar

from protocols.errors import LocalError
from protocols.mls.errors import MlsError

T = TypeVar("T")

MESSAGE_SIZE_MAX: Final = 64 * 1024 * 1024
"""The largest encoding read. A Welcome with the tree of 100,000 members has about 35 MB."""

VECTOR_SIZE_MAX: Final = 2**30 - 1
"""What the four-byte length can say (§2.1.2); the eight-byte form of QUIC does not exist in MLS."""

NUMBERS_MAX: Final = 2**20
"""Numbers in one vector. The longest are the unmerged leaves of a tree, which has no more leaves than that."""

ITEMS_MAX: Final = 2**20
"""Items of one vector, where the structure does not say fewer."""

ROOM_MAX: Final = 4 * MESSAGE_SIZE_MAX
"""Bytes that the objects of one encoding may take beside what is in them. The tree of 100,000 members takes 120 MB at
most, unmerged leaves and all; of the emptiest items 64 MB would make 1.6 GB."""

ITEM_SIZE: Final = 96
NUMBER_SIZE: Final = 36
"""What an item of a vector, and a number in a tuple, is taken to need. Measured, an empty item takes 40 to 120."""

_UINT16: Final = Struct(">H")
_UINT32: Final = Struct(">I")
_UINT64: Final = Struct(">Q")
_SHORT: Final = tuple(bytes((size,)) for size in range(64))

_UINT16S: Final[dict[int, int]] = {}
"""Each of the 65,536 numbers that was read, once: 5 MB at most. Capabilities name the same few again and again."""


# -- writing ----------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """A vector's length in its shortest form (§2.1.2)."""
    if value < 64:
        return _SHORT[value]
    if value < 2**14:
        return _UINT16.pack(0x4000 | value)
    if value <= VECTOR_SIZE_MAX:
        return _UINT32.pack(0x8000_0000 | value)
    raise LocalError(f"a vector of {value} bytes; MLS writes at most {VECTOR_SIZE_MAX}")


def opaque(data: bytes) -> bytes:
    """``opaque data<V>``."""
    size = len(data)
    return (_SHORT[size] if size < 64 else varint(size)) + data


def vector(items: Iterable[bytes]) -> bytes:
    """``T items<V>``, of items encoded already; the length counts bytes, not items."""
    return opaque(b"".join(items))


def optional(item: bytes | None) -> bytes:
    """``optional<T>`` (§2.1.1)."""
    return b"\0" if item is None else b"\1" + item


uint8: Final = _SHORT.__getitem__
"""One byte, of a value below 64: every ``uint8`` of RFC 9420 is a small enumeration."""
uint16: Final[Callable[[int], bytes]] = _UINT16.pack
uint32: Final[Callable[[int], bytes]] = _UINT32.pack
uint64: Final[Callable[[int], bytes]] = _UINT64.pack


def uint16s(values: tuple[int, ...]) -> bytes:
    """``uint16 values<V>``."""
    return opaque(b"".join(map(uint16, values)))


def uint32s(values: tuple[int, ...]) -> bytes:
    """``uint32 values<V>``."""
    return opaque(b"".join(map(uint32, values)))


# -- reading ----------------------------------------------------------------------------------------


class Reader:
    """A cursor over bytes; every method takes one value off the front, or raises ``MlsError`` of section 2."""

    __slots__ = ("data", "end", "offset", "room")

    def __init__(self, data: bytes) -> None:
        self.data: Final = data
        self.offset = 0
        self.end = len(data)
        self.room = ROOM_MAX

    def take(self, size: int) -> bytes:
        """Bytes of a known size."""
        start = self.offset
        stop = start + size
        if stop > self.end:
            raise MlsError("2.1/truncated", f"{size} bytes wanted at byte {start}, {self.end - start} are there")
        self.offset = stop
        return self.data[start:stop]

    def uint8(self) -> int:
        offset = self.offset
        if offset >= self.end:
            raise MlsError("2.1/truncated", f"a byte wanted at byte {offset}")
        self.offset = offset + 1
        return self.data[offset]

    def uint16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def uint64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def varint(self) -> int:
        """A vector's length (§2.1.2); a longer form than needed, or the form of eight bytes, is refused."""
        first = self.uint8()
        form = first >> 6
        if form == 0:
            return first
        if form == 1:
            value = (first & 0x3F) << 8 | self.uint8()
            least = 64
        elif form == 2:
            value = (first & 0x3F) << 24 | int.from_bytes(self.take(3), "big")
            least = 2**14
        else:
            raise MlsError("2.1.2/invalid-length", f"the length at byte {self.offset - 1} begins with binary 11")
        if value < least:
            raise MlsError("2.1.2/non-minimal-length", f"{value} in the form for at least {least}")
        return value

    def opaque(self) -> bytes:
        """``opaque<V>``."""
        offset = self.offset
        data = self.data
        if offset < self.end and (size := data[offset]) < 64:
            start = offset + 1
        else:
            size = self.varint()
            start = self.offset
        stop = start + size
        if stop > self.end:
            raise MlsError("2.1/truncated", f"a vector of {size} bytes at byte {start}, {self.end - start} are there")
        self.offset = stop
        return data[start:stop]

    def vector(self, read: Callable[["Reader"], T], count_max: int = ITEMS_MAX) -> tuple[T, ...]:
        """``T<V>``: items until the announced bytes are used up, none of which may reach beyond them."""
        size = self.varint()
        outer, stop = self.end, self.offset + size
        if stop > outer:
            raise MlsError("2.1/truncated", f"a vector of {size} bytes, {outer - self.offset} are there")
        self.end = stop
        items: list[T] = []
        count_max = min(count_max, self.room // ITEM_SIZE)
        while self.offset < stop:
            if len(items) == count_max:
                raise MlsError("2.1/too-large", f"a vector of more than {count_max} items")
            items.append(read(self))
        self.end = outer
        self.spend(len(items) * ITEM_SIZE)
        return tuple(items)

    def spend(self, size: int) -> None:
        """Take so many bytes off the room for objects."""
        self.room -= size
        if self.room < 0:
            raise MlsError("2.1/too-large", f"more objects than fit into {ROOM_MAX} bytes")

    def uint16s(self) -> tuple[int, ...]:
        """``uint16<V>``."""
        numbers = self._numbers(2, "H")
        return tuple(map(_UINT16S.setdefault, numbers, numbers))

    def uint32s(self) -> tuple[int, ...]:
        """``uint32<V>``."""
        numbers = self._numbers(4, "I")
        self.spend(len(numbers) * NUMBER_SIZE)
        return numbers

    def _numbers(self, size: int, code: str) -> tuple[int, ...]:
        data = self.opaque()
        count, rest = divmod(len(data), size)
        if rest:
            raise MlsError("2.1/truncated", f"a vector of {len(data)} bytes holds no whole number of {size}-byte items")
        if count > NUMBERS_MAX:
            raise MlsError("2.1/too-large", f"a vector of {count} numbers; at most {NUMBERS_MAX} are read")
        return unpack_from(f">{count}{code}", data)

    def optional(self, read: Callable[["Reader"], T]) -> T | None:
        """``optional<T>`` (§2.1.1): the presence octet is 0 or 1."""
        present = self.uint8()
        if present > 1:
            raise MlsError("2.1.1/invalid-presence", f"the presence octet is {present}")
        return read(self) if present else None

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.end - self.offset)


def decode(read: Callable[[Reader], T], data: bytes) -> T:
    """The one value that ``data`` encodes, whole.

    Raises:
        MlsError: of section 2, or what the structure's own ``read`` refuses.
    """
    if len(data) > MESSAGE_SIZE_MAX:
        raise MlsError("2.1/too-large", f"{len(data)} bytes; at most {MESSAGE_SIZE_MAX} are read")
    reader = Reader(data)
    value = read(reader)
    if reader.offset != len(data):
        raise MlsError("2.1/trailing-bytes", f"{len(data) - reader.offset} bytes after the end")
    return value


def read_version(reader: Reader, what: str, version: int) -> None:
    """The first byte of what we stored ourselves.

    Raises:
        LocalError: another version of this code stored it.
    """
    if (found := reader.uint8()) != version:
        raise LocalError(f"{what} stored as version {found}; this code reads {version}")
