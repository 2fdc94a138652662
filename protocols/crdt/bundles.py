"""How operations travel: in bundles of up to 64 of one author, with one signature for all.

The signature is over channel, author, first sequence, count and the Merkle root of the ids. Who has all of a bundle
needs nothing else; an operation that travels alone takes its Merkle path with it. So every operation that arrives can
be checked, whichever way it comes, and one signature serves 64 of them.

    bundle   kind author first previous count size signature | [[clock delta, dependencies, change], ...]
    single   kind author first previous count size signature | index path ... | [[clock, dependencies, change]]

The header has a fixed size and says how many operations and bytes follow, so what is too large is refused before
anything is decoded. Ids and back-links do not travel: they follow. ``previous`` is the back-link of the first operation
that is there.
"""

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Final

import msgspec

from protocols.crdt.changes import Change
from protocols.crdt.clock import CLOCK_MAX
from protocols.crdt.errors import CrdtError
from protocols.crdt.merkle import merkle_path, merkle_root, path_length, root_of_path
from protocols.crdt.operations import DEPENDENCIES_MAX, ID_SIZE, Operation, OperationIds, encode_change
from protocols.errors import LocalError
from protocols.identity.signing import Domain, SigningKey, sign, verify
from protocols.messages import Key32

BUNDLE_COUNT_MAX: Final = 64
BUNDLE_SIZE_MAX: Final = 256 * 1024
"""Bytes after the header; a quarter of what RPC carries."""
OPERATION_SIZE_MAX: Final = 64 * 1024
"""Bytes of a change. It holds in bundles too: what could not travel alone would be held by some replicas only."""
SINGLE_SIZE_MAX: Final = OPERATION_SIZE_MAX + DEPENDENCIES_MAX * (ID_SIZE + 2) + 16
"""With a clock, dependencies and the headers of arrays."""

SEQUENCE_MAX: Final = 2**63 - 1 - BUNDLE_COUNT_MAX
"""Of a bundle's first operation, so that the others' are integers of 63 bits too."""

BUNDLE: Final = 1
SINGLE: Final = 2

HEADER: Final = struct.Struct(">B32sQ32sBI64s")


class _Written(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """An operation without what follows from its place in the bundle."""

    clock: Annotated[int, msgspec.Meta(ge=1, le=CLOCK_MAX)]
    """Of the first one; of each further one, how much later it is than the one before."""
    dependencies: Annotated[tuple[Key32, ...], msgspec.Meta(max_length=DEPENDENCIES_MAX)]
    change: Change


_BODY: Final = msgspec.msgpack.Decoder(
    Annotated[tuple[_Written, ...], msgspec.Meta(min_length=1, max_length=BUNDLE_COUNT_MAX)]
)
_CHANGE: Final[msgspec.msgpack.Decoder[Change]] = msgspec.msgpack.Decoder(Change)
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class Seal(msgspec.Struct, frozen=True, gc=False):
    """What an author signed."""

    author: bytes
    first: int
    """Sequence of the first operation."""
    count: int
    root: bytes
    signature: bytes

    def fields(self, channel: bytes) -> tuple[bytes, ...]:
        """What the signature is over, under ``Domain.CRDT_BUNDLE``."""
        return channel, self.author, self.first.to_bytes(8, "big"), self.count.to_bytes(1, "big"), self.root

    def verify(self, channel: bytes) -> None:
        """Raises:
        CrdtError: ``bad_signature``: another channel, another author, or nobody signed this.
        """
        if not verify(self.author, Domain.CRDT_BUNDLE, *self.fields(channel), signature=self.signature):
            raise CrdtError("bad_signature", f"not signed by {self.author.hex()[:16]} for this channel")


class Parcel(msgspec.Struct, frozen=True, gc=False):
    """What arrived, decoded, with every id computed, and *not* verified."""

    seal: Seal
    operations: tuple[Operation, ...]
    path: tuple[bytes, ...] | None = None
    """Of the only operation, if it travels alone."""


def seal_bundle(
    key: SigningKey,
    channel: bytes,
    changes: Sequence[tuple[Change, int, tuple[bytes, ...]]],
    first: int,
    previous: bytes,
) -> Parcel:
    """Sign operations that follow each other.

    Args:
        changes: each with its clock and what it depends on besides the one before.
        first: the sequence of the first, and ``previous`` its back-link.

    Raises:
        LocalError: too many, or one that nobody would read: too large, out of bounds, or no later than the one before.
    """
    if not 0 < len(changes) <= BUNDLE_COUNT_MAX:
        raise LocalError(f"a bundle has 1 to {BUNDLE_COUNT_MAX} operations, not {len(changes)}")
    ids = OperationIds(channel, key.public)
    operations, before = [], 0
    for sequence, (written, clock, others) in enumerate(changes, first):
        change, encoded = _as_read(written)
        dependencies = tuple(sorted(others)) if others else ()
        if len(dependencies) > DEPENDENCIES_MAX or (dependencies and not are_sorted(dependencies)):
            raise LocalError(f"an operation depends on at most {DEPENDENCIES_MAX} others, and once on each")
        if not before < clock <= CLOCK_MAX:
            raise LocalError(f"an operation's clock is above {before}, the one before it, and not {clock}")
        operation = ids.operation(sequence, previous, dependencies, clock, change, encoded)
        previous, before = operation.id, clock
        operations.append(operation)
    root = merkle_root([each.id for each in operations])
    unsigned = Seal(key.public, first, len(operations), root, b"")
    signature = sign(key, Domain.CRDT_BUNDLE, *unsigned.fields(channel))
    return Parcel(Seal(key.public, first, len(operations), root, signature), tuple(operations))


def encode_bundle(seal: Seal, operations: Sequence[Operation]) -> bytes:
    """All operations of a bundle.

    Raises:
        LocalError: it is larger than anybody would decode; make smaller bundles.
    """
    before, written = 0, []
    for each in operations:
        written.append(_Written(each.clock - before, each.dependencies, each.change))
        before = each.clock
    body = _ENCODE(written)
    if len(body) > BUNDLE_SIZE_MAX:
        raise LocalError(f"a bundle of {len(body)} bytes; the limit is {BUNDLE_SIZE_MAX}")
    header = HEADER.pack(BUNDLE, seal.author, seal.first, operations[0].previous, seal.count, len(body), seal.signature)
    return header + body


def encode_single(seal: Seal, operation: Operation, path: Sequence[bytes]) -> bytes:
    """One operation with the Merkle path that shows it to be of the bundle of ``seal``."""
    index = operation.sequence - seal.first
    body = _ENCODE([_Written(operation.clock, operation.dependencies, operation.change)])
    header = HEADER.pack(SINGLE, seal.author, seal.first, operation.previous, seal.count, len(body), seal.signature)
    return header + index.to_bytes(1, "big") + b"".join(path) + body


def path_of(operations: Sequence[Operation], index: int) -> tuple[bytes, ...]:
    """The Merkle path of one operation of a whole bundle."""
    return merkle_path([each.id for each in operations], index)


def parse(channel: bytes, data: bytes) -> Parcel:
    """What a bundle or a single says; costs no more than its header allows.

    Raises:
        CrdtError: ``malformed``, ``oversized``, ``bad_count``, ``bad_path`` or ``non_canonical``. Whether it is signed
            is ``Seal.verify``'s to say.
    """
    if len(data) < HEADER.size:
        raise CrdtError("malformed", f"{len(data)} bytes are no bundle")
    kind, author, first, previous, count, size, signature = HEADER.unpack_from(data)
    if kind not in (BUNDLE, SINGLE):
        raise CrdtError("malformed", f"neither a bundle nor a single operation, but {kind}")
    if not 0 < count <= BUNDLE_COUNT_MAX:
        raise CrdtError("bad_count", f"a bundle of {count}; the limit is {BUNDLE_COUNT_MAX}")
    if not 0 < first <= SEQUENCE_MAX:
        raise CrdtError("malformed", f"no author's sequence is {first}")
    if size > (limit := BUNDLE_SIZE_MAX if kind == BUNDLE else SINGLE_SIZE_MAX):
        raise CrdtError("oversized", f"{size} bytes of operations; the limit is {limit}")
    start, index, path = HEADER.size, 0, None
    if kind == SINGLE:
        if len(data) <= start or (index := data[start]) >= count:
            raise CrdtError("bad_path", f"the bundle has {count} operations")
        length = path_length(count, index)
        path = tuple(data[start + 1 + i * ID_SIZE : start + 1 + (i + 1) * ID_SIZE] for i in range(length))
        start += 1 + length * ID_SIZE
    if len(data) != start + size:
        raise CrdtError("malformed", f"{len(data)} bytes, where {start + size} were announced")
    written = _decode_body(data[start:], 1 if kind == SINGLE else count)
    operations = _operations(OperationIds(channel, author), written, first + index, previous)
    if path is None:
        root = merkle_root([each.id for each in operations])
    else:
        root = root_of_path(operations[0].id, count, index, path)
    return Parcel(Seal(author, first, count, root, signature), operations, path)


def author_of(data: bytes) -> bytes:
    """Whose a bundle or a single is that was parsed once."""
    return data[1 : 1 + ID_SIZE]


def are_sorted(ids: Sequence[bytes]) -> bool:
    """Whether each is there once, in order."""
    return all(a < b for a, b in pairwise(ids))


def _as_read(change: Change) -> tuple[Change, bytes]:
    """A change as others will read it, and its encoding: what they would refuse is not signed."""
    try:
        encoded = encode_change(change)
        read = _CHANGE.decode(encoded)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise LocalError(f"no {type(change).__name__} that anybody would read: {error}") from None
    if len(encoded) > OPERATION_SIZE_MAX:
        raise LocalError(f"a change of {len(encoded)} bytes; the limit is {OPERATION_SIZE_MAX}")
    return read, encoded


def _decode_body(body: bytes, count: int) -> tuple[_Written, ...]:
    if not body or (body[0] != 0x90 + count if count < 16 else body[:3] != b"\xdc" + count.to_bytes(2, "big")):
        raise CrdtError("bad_count", f"the header says {count} operations, and the body does not begin so")
    try:
        written: tuple[_Written, ...] = _BODY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CrdtError("malformed", str(error)) from None
    if _ENCODE(written) != body:
        raise CrdtError("non_canonical", "these operations have another, canonical encoding")
    return written


def _operations(
    ids: OperationIds, written: Sequence[_Written], sequence: int, previous: bytes
) -> tuple[Operation, ...]:
    operations, clock = [], 0
    for each in written:
        clock += each.clock
        dependencies = each.dependencies
        if clock > CLOCK_MAX:
            raise CrdtError("malformed", "a clock that no operation can have")
        if dependencies and not are_sorted(dependencies):
            raise CrdtError("non_canonical", "dependencies are sorted, and each is there once")
        encoded = encode_change(each.change)
        if len(encoded) > OPERATION_SIZE_MAX:
            raise CrdtError("oversized", f"a change of {len(encoded)} bytes; the limit is {OPERATION_SIZE_MAX}")
        operation = ids.operation(sequence, previous, dependencies, clock, each.change, encoded)
        previous = operation.id
        sequence += 1
        operations.append(operation)
    return tuple(operations)
