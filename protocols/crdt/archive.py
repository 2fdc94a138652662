"""A whole history, stored in few bytes and given back as the bundles that it came in.

What is kept is what was signed, without what follows from the rest: an operation is named by how far back in the
archive it stands, and not by 32 bytes that no compression helps; authors, sequences and clocks follow from back-links,
ids from everything. Nothing in here is believed: units go through ``Replica.receive`` again, and a damaged or altered
archive gives operations that nobody signed.

    archive  magic | size compressed-size zlib([unit, ...]) | ...

A unit is a whole bundle or an operation with its Merkle path, in the order of arrival, in which causes come before
effects. What a chunk decompresses to is announced, limited and held to.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final, NamedTuple, TypeAlias

import msgspec

from protocols.crdt.bundles import (
    BUNDLE_COUNT_MAX,
    Seal,
    encode_bundle,
    encode_single,
)
from protocols.crdt.changes import (
    EDITS_MAX,
    RUN_SIZE_MAX,
    Acknowledge,
    Add,
    Append,
    Assign,
    AssignMulti,
    Authority,
    Clear,
    Delete,
    Edit,
    Increment,
    Insert,
    Integer,
    Path,
    Reference,
    Remove,
)
from protocols.crdt.clock import CLOCK_MAX
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Held, History
from protocols.crdt.operations import DEPENDENCIES_MAX, NOTHING, Operation, OperationIds, encode_change
from protocols.crdt.proofs import bundle_of, path_to
from protocols.errors import LocalError
from protocols.identity.signing import SIGNATURE_SIZE, Signature
from protocols.messages import Key32, Uint64

CHUNK_SIZE: Final = 512 * 1024
"""Bytes after which a chunk is full: zlib looks back 32 KiB, so larger ones are no smaller."""
CHUNK_SIZE_MAX: Final = 1024 * 1024
"""A full chunk, and the largest unit."""

_MAGIC: Final = b"SpacePanda crdt archive 1\0"
_CHUNK: Final = struct.Struct(">II")

_Back = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
"""An operation: how far before this one it stands in the archive."""

_Reference: TypeAlias = Integer | Key32
"""That of an edit. An operation of another author is a negative number, how far back it stands."""


class _Insert(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=0):
    parent: _Reference | None
    offset: Uint64
    left: bool
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=RUN_SIZE_MAX)]


class _Delete(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=1):
    target: _Reference
    offset: Uint64
    count: Uint64


class _Edit(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=7):
    """The only change that names operations."""

    path: Path
    edits: Annotated[tuple[_Insert | _Delete, ...], msgspec.Meta(min_length=1, max_length=EDITS_MAX)]


class _Kept(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """An operation."""

    later: Annotated[int, msgspec.Meta(ge=1, le=CLOCK_MAX)]
    """Its clock, above that of its back-link."""
    dependencies: Annotated[tuple[_Back, ...], msgspec.Meta(max_length=DEPENDENCIES_MAX)]
    change: Assign | AssignMulti | Increment | Add | Remove | Append | _Edit | Clear | Authority | Acknowledge


class _Bundle(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=1):
    """All that was signed together."""

    back_link: _Back | Key32
    """How far back it stands, which says who the author is; or who, if these are its first operations."""
    signature: Signature
    operations: Annotated[tuple[_Kept, ...], msgspec.Meta(min_length=1, max_length=BUNDLE_COUNT_MAX)]


class _Single(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=2):
    """One of ``count`` that were signed together."""

    back_link: _Back | Key32
    signature: Signature
    count: Annotated[int, msgspec.Meta(ge=1, le=BUNDLE_COUNT_MAX)]
    index: Annotated[int, msgspec.Meta(ge=0, lt=BUNDLE_COUNT_MAX)]
    path: Annotated[tuple[Key32, ...], msgspec.Meta(max_length=6)]
    operation: _Kept


_Units: TypeAlias = Annotated[tuple[_Bundle | _Single, ...], msgspec.Meta(max_length=CHUNK_SIZE_MAX // SIGNATURE_SIZE)]
_DECODE: Final = msgspec.msgpack.Decoder(_Units).decode
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_ARRAY: Final = struct.Struct(">BI")
_ARRAY_TAG: Final = 0xDD
"""Of a MessagePack array with a length of 4 bytes, which is put together without its elements decoded."""


def archive(history: History) -> bytes:
    """Everything that ``history`` holds, from the genesis on.

    Raises:
        CrdtError: ``no_path``: of a bundle of which a part is not held, an operation that came without its path.
    """
    return _MAGIC + b"".join(_chunks(_Archiver(history).units()))


def unarchive(channel: bytes, data: bytes) -> Iterator[bytes]:
    """Bundles and single operations, as ``Replica.receive`` takes them; first the genesis, from which a replica begins.

    Raises:
        CrdtError: ``bad_archive``, once the iterator comes to what is damaged, or at once if it is another channel's.
            Damage of which it cannot be seen here makes bundles whose signature is bad.
    """
    if not data.startswith(_MAGIC):
        raise CrdtError("bad_archive", "this is no archive of a channel's history")
    reader = _Unarchiver(channel)
    start = len(_MAGIC)
    while start < len(data):
        if len(data) < start + _CHUNK.size:
            raise CrdtError("bad_archive", "it is cut off")
        size, compressed_size = _CHUNK.unpack_from(data, start)
        start += _CHUNK.size + compressed_size
        for unit in _decompress(data[start - compressed_size : start], size, compressed_size):
            yield reader.restore(unit)


class _Archiver:
    """Turns a history into units."""

    def __init__(self, history: History) -> None:
        self._history: Final = history
        self._numbers: Final[dict[bytes, int]] = {}
        """Of operations, by id: their places in the archive."""
        self._next = 0

    def units(self) -> Iterator[_Bundle | _Single]:
        for held in self._history:
            if held.id in self._numbers:
                continue
            seal, bundle = held.seal, bundle_of(self._history, held)
            back_link = self._back_link(held.operation)
            if bundle is not None and _came_together(held, bundle):
                yield _Bundle(back_link, seal.signature, tuple([self._keep(each) for each in bundle]))
            else:
                index, path = held.sequence - seal.first, path_to(self._history, held)
                yield _Single(back_link, seal.signature, seal.count, index, path, self._keep(held))

    def _back_link(self, operation: Operation) -> int | bytes:
        if operation.previous == NOTHING:
            return operation.author
        return self._next - self._numbers[operation.previous]

    def _keep(self, held: Held) -> _Kept:
        operation, number, numbers = held.operation, self._next, self._numbers
        previous = self._history.operations.get(operation.previous)
        later = operation.clock - (previous.operation.clock if previous else 0)
        dependencies = tuple([number - numbers[each] for each in operation.dependencies])
        change = operation.change
        kept = _Kept(later, dependencies, self._edit(change) if isinstance(change, Edit) else change)
        numbers[operation.id] = number
        self._next = number + 1
        return kept

    def _edit(self, edit: Edit) -> _Edit:
        return _Edit(edit.path, tuple([self._part(each) for each in edit.edits]))

    def _part(self, part: Insert | Delete) -> _Insert | _Delete:
        if isinstance(part, Delete):
            return _Delete(self._reference(part.target), part.offset, part.count)
        parent = None if part.parent is None else self._reference(part.parent)
        return _Insert(parent, part.offset, part.left, part.text)

    def _reference(self, reference: Reference) -> _Reference:
        if isinstance(reference, int) or reference not in self._numbers:
            return reference
        return self._numbers[reference] - self._next


def _came_together(held: Held, bundle: Sequence[Held]) -> bool:
    """Whether a bundle is all that arrived from ``held`` on until its last operation. So the order of arrival is kept,
    even where others have answered a part of a bundle and the rest depends on that."""
    return bundle[0] is held and bundle[-1].order == held.order + len(bundle) - 1


class _Place(NamedTuple):
    """What those that come later need to know of an operation."""

    id: bytes
    author: bytes
    sequence: int
    clock: int


class _Unarchiver:
    """Turns units back into what travels."""

    def __init__(self, channel: bytes) -> None:
        self._channel: Final = channel
        self._places: Final[list[_Place]] = []

    def restore(self, unit: _Bundle | _Single) -> bytes:
        """Raises:
        CrdtError: ``bad_archive``: nothing that travels is like that.
        """
        kept = unit.operations if isinstance(unit, _Bundle) else (unit.operation,)
        if isinstance(unit.back_link, bytes):
            before = _Place(NOTHING, unit.back_link, 0, 0)
        else:
            before = self._at(-unit.back_link)
        is_first = not self._places
        ids = OperationIds(NOTHING if is_first else self._channel, before.author)
        operations = self._operations(ids, before, kept)
        if is_first and operations[0].id != self._channel:
            raise CrdtError("bad_archive", "it begins with the genesis of another channel")
        index, count = (0, len(kept)) if isinstance(unit, _Bundle) else (unit.index, unit.count)
        first = before.sequence + 1 - index
        if first < 1:
            raise CrdtError("bad_archive", f"operation {before.sequence + 1} of its author, but {index} of a bundle")
        seal = Seal(before.author, first, count, NOTHING, unit.signature)
        try:
            if isinstance(unit, _Bundle):
                return encode_bundle(seal, operations)
            return encode_single(seal, operations[0], unit.path)
        except LocalError as error:
            raise CrdtError("bad_archive", str(error)) from None

    def _operations(self, ids: OperationIds, before: _Place, kept: Iterable[_Kept]) -> list[Operation]:
        operations = []
        for each in kept:
            clock = before.clock + each.later
            if clock > CLOCK_MAX:
                raise CrdtError("bad_archive", "a clock that no operation can have")
            dependencies = tuple([self._at(-back).id for back in each.dependencies])
            change = self._edit(each.change) if isinstance(each.change, _Edit) else each.change
            encoded = encode_change(change)
            operation = ids.operation(before.sequence + 1, before.id, dependencies, clock, change, encoded)
            before = _Place(operation.id, operation.author, operation.sequence, clock)
            self._places.append(before)
            operations.append(operation)
        return operations

    def _edit(self, edit: _Edit) -> Edit:
        return Edit(edit.path, tuple([self._part(each) for each in edit.edits]))

    def _part(self, part: _Insert | _Delete) -> Insert | Delete:
        if isinstance(part, _Delete):
            return Delete(self._reference(part.target), part.offset, part.count)
        parent = None if part.parent is None else self._reference(part.parent)
        return Insert(parent, part.offset, part.left, part.text)

    def _reference(self, reference: _Reference) -> Reference:
        return self._at(reference).id if isinstance(reference, int) and reference < 0 else reference

    def _at(self, back: int) -> _Place:
        """The place so many before the next one, as a negative number."""
        if -back > len(self._places):
            raise CrdtError("bad_archive", "it names an operation before its beginning")
        return self._places[back]


def _chunks(units: Iterable[_Bundle | _Single]) -> Iterator[bytes]:
    """Units in compressed pieces of about ``CHUNK_SIZE``."""
    waiting: list[bytes] = []
    size = 0
    for unit in units:
        encoded = _ENCODE(unit)
        waiting.append(encoded)
        size += len(encoded)
        if size >= CHUNK_SIZE:
            yield _compress(waiting)
            waiting, size = [], 0
    if waiting:
        yield _compress(waiting)


def _compress(units: Sequence[bytes]) -> bytes:
    chunk = b"".join((_ARRAY.pack(_ARRAY_TAG, len(units)), *units))
    compressed = zlib.compress(chunk, 9)
    return _CHUNK.pack(len(chunk), len(compressed)) + compressed


def _decompress(data: bytes, size: int, compressed_size: int) -> tuple[_Bundle | _Single, ...]:
    if size > CHUNK_SIZE_MAX or len(data) != compressed_size:
        raise CrdtError("bad_archive", f"a chunk of {size} bytes in {compressed_size}, of which {len(data)} are here")
    inflater = zlib.decompressobj()
    try:
        chunk = inflater.decompress(data, size + 1)  # With one byte to spare, more than was announced shows.
        if len(chunk) != size or not inflater.eof or inflater.unused_data:
            raise CrdtError("bad_archive", f"a chunk is not the {size} bytes that were announced")
        units: tuple[_Bundle | _Single, ...] = _DECODE(chunk)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CrdtError("bad_archive", str(error)) from None
    return units
