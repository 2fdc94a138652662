"""What stays of the operations behind a stable frontier: the state that they came to, without most of them.

Whole operations would have to be kept for ever, as everything that is checked about a new one is checked against its
past. But behind a frontier that all active members have seen (``stability``) the past of whatever they still write is
the same, so of most of it nothing can be asked any more. What can be is here:

- **the document**: what is live in each container, and of each text the tree, with deleted characters as numbers;
- **acts**: the operations about who may do what, with their places. They are few, and whole: signed by their authors;
- **stubs**: where other operations stand that a later one may name, or that its author's chain goes on from.

All of it follows from the set of operations behind the frontier (and from what of it was named in front of it), and is
put in an order that no arrival chose. So two replicas make the same bytes of it, and can sign for each other's: that is
all that a newcomer has to believe, since what was dropped cannot be checked again. Whoever takes a snapshot from others
demands several signatures (``signers``); its own is worth one.

Rejected: to keep the headers of all operations, so that ids could be recomputed. With 32 bytes that do not compress for
each, that is larger than the whole history in an archive.
"""

import zlib
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Final, TypeVar

import msgspec

from protocols.crdt.bundles import OPERATION_SIZE_MAX
from protocols.crdt.changes import Path, Role
from protocols.crdt.clock import CLOCK_MAX
from protocols.crdt.errors import CrdtError
from protocols.crdt.state import Live
from protocols.identity.signing import Domain, Signature, SigningKey, sign, verify
from protocols.messages import Key32, Uint64

SNAPSHOT_SIZE_MAX: Final = 64 * 1024 * 1024
"""Decompressed: a document of a million live entries."""
SIGNATURES_MAX: Final = 1024
ENDS_MAX: Final = 4096
"""Authors and branches of a channel whose snapshots members can agree on."""
NAMED_MAX: Final = 2048

VERSION: Final = 1
COUNTS: Final = 1
VOUCHED: Final = 2
"""Would count as far as equivocation goes: its author is not fenced, or others had seen it before they knew."""
HEAD: Final = 4
"""Nothing else behind the frontier depends on it."""
ACT: Final = 8
"""About authority: all of it is among the snapshot's units."""

_TAG: Final = b"SpacePanda crdt snapshot 1\0"
_ENCODE: Final = msgspec.msgpack.Encoder().encode


Signatures = Annotated[tuple[tuple[Key32, Signature], ...], msgspec.Meta(max_length=SIGNATURES_MAX)]


class _Data(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What all of this is."""


_DataT = TypeVar("_DataT", bound=_Data)


class Stretch(_Data, frozen=True):
    """A part of an author's chain in which nobody else goes on from its middle; all of an honest author's."""

    author: Uint64
    """Which of the snapshot's authors."""
    first: Uint64
    """Sequence of its first operation,"""
    last: Uint64
    """and of its last one behind the frontier."""
    parent: Uint64
    """The stretch from which it goes on, plus one; 0 for none."""


class Stub(_Data, frozen=True):
    """Where an operation stands."""

    id: Key32
    lane: Uint64
    """Which of the stretches."""
    sequence: Uint64
    clock: Annotated[int, msgspec.Meta(ge=1, le=CLOCK_MAX)]
    past: tuple[Uint64, ...]
    """By stretch, the last operation that is in its past or is itself."""
    known: bytes
    """The acts in its past, as a mask of their numbers, little-endian."""
    flags: Annotated[int, msgspec.Meta(ge=0, le=15)]
    left: Uint64
    """Of its author's allowance, in thousandths."""


class Run(_Data, frozen=True):
    """Characters that were inserted in one piece."""

    parent: Uint64
    """The operation that has the parent: 0 for the root, 1 for this operation, 2 for the text's first, and so on."""
    offset: Uint64
    left: bool
    length: Annotated[int, msgspec.Meta(ge=1, le=OPERATION_SIZE_MAX)]


class Typed(_Data, frozen=True):
    """What one operation inserted into a text."""

    id: Key32
    lane: Uint64
    sequence: Uint64
    clock: Annotated[int, msgspec.Meta(ge=1, le=CLOCK_MAX)]
    counts: bool
    runs: Annotated[tuple[Run, ...], msgspec.Meta(min_length=1)]
    visible: tuple[tuple[Uint64, Annotated[str, msgspec.Meta(min_length=1)]], ...]
    """What is not deleted: offsets, ascending, and characters."""


class Snapshot(_Data, frozen=True):
    """The state at a frontier; everything in it is sorted."""

    version: int
    channel: Key32
    digest: Key32
    """``Replica.digest`` there."""
    authors: tuple[Key32, ...]
    lanes: tuple[Stretch, ...]
    stubs: tuple[Stub, ...]
    """By clock, author, sequence and id: causes before effects, the genesis first."""
    live: tuple[Live, ...]
    texts: tuple[tuple[Path, tuple[Typed, ...]], ...]
    branches: tuple[tuple[Key32, Uint64], ...]
    """In which stretch an operation in ``live`` is, where its author has several."""


class Frame(_Data, frozen=True):
    """Which snapshot of a channel it is: who holds the operations makes the same one from this."""

    ends: Annotated[tuple[Key32, ...], msgspec.Meta(max_length=ENDS_MAX)]
    """The last operation of each stretch, in their order."""
    named: Annotated[tuple[Key32, ...], msgspec.Meta(max_length=NAMED_MAX)]
    """What else has a stub and is no act."""


class Sealed(_Data, frozen=True):
    """A snapshot with what proves it."""

    body: bytes
    """The snapshot, compressed."""
    size: Annotated[int, msgspec.Meta(ge=1, le=SNAPSHOT_SIZE_MAX)]
    """Of what it decompresses to."""
    units: tuple[bytes, ...]
    """The acts, each as it travels alone, in the order of their stubs."""
    tail: tuple[bytes, ...]
    """What its maker held in front of the frontier, as it travels."""
    signatures: Signatures
    """By device, sorted."""


_SNAPSHOT: Final = msgspec.msgpack.Decoder(Snapshot)
_SEALED: Final = msgspec.msgpack.Decoder(Sealed)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The canonical bytes, over which members sign."""
    return _ENCODE(snapshot)


def seal(body: bytes, units: tuple[bytes, ...], tail: tuple[bytes, ...]) -> Sealed:
    """A snapshot that nobody has signed yet."""
    return Sealed(zlib.compress(body, 6), len(body), units, tail, ())


def body_of(compressed: bytes, size: int) -> bytes:
    """The bytes of a snapshot, of which there are ``size``.

    Raises:
        CrdtError: ``bad_snapshot``: it does not decompress to what is announced.
    """
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(compressed, size + 1)  # With one byte to spare, more than announced shows.
    except zlib.error as error:
        raise CrdtError("bad_snapshot", str(error)) from None
    if len(body) != size or not inflater.eof or inflater.unused_data:
        raise CrdtError("bad_snapshot", f"it is not the {size} bytes that were announced")
    return body


def decode_snapshot(body: bytes) -> Snapshot:
    """Raises:
    CrdtError: ``bad_snapshot``: this is no snapshot, or not the canonical encoding of one.
    """
    snapshot = _decode(_SNAPSHOT, body)
    if snapshot.version != VERSION:
        raise CrdtError("bad_snapshot", f"version {snapshot.version}; this code reads {VERSION}")
    if encode_snapshot(snapshot) != body:
        raise CrdtError("bad_snapshot", "it has another, canonical encoding")
    return snapshot


def frame_of(snapshot: Snapshot) -> Frame:
    ends = {stub.lane: stub.id for stub in snapshot.stubs if stub.sequence == snapshot.lanes[stub.lane].last}
    last = dict.fromkeys(ends.values())
    named = [stub.id for stub in snapshot.stubs if not stub.flags & ACT and stub.id not in last]
    return Frame(tuple(ends[lane] for lane in sorted(ends)), tuple(named))


def encode_sealed(sealed: Sealed) -> bytes:
    return _ENCODE(sealed)


def decode_sealed(data: bytes) -> Sealed:
    """Raises:
    CrdtError: ``bad_snapshot``.
    """
    return _decode(_SEALED, data)


def _decode(decoder: msgspec.msgpack.Decoder[_DataT], data: bytes) -> _DataT:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CrdtError("bad_snapshot", str(error)) from None


# -- signatures -----------------------------------------------------------------------------------------


def digest_of(body: bytes) -> bytes:
    """What members sign of a snapshot."""
    return sha256(_TAG + body).digest()


def sign_snapshot(key: SigningKey, channel: bytes, sealed: Sealed, body: bytes) -> Sealed:
    """The same with the signature of a member that made these bytes from its own operations, or loaded them from
    where only it writes."""
    signatures = {device: signature for device, signature in sealed.signatures if device != key.public}
    signatures[key.public] = sign_digest(key, channel, digest_of(body))
    return msgspec.structs.replace(sealed, signatures=tuple(sorted(signatures.items())))


def sign_digest(key: SigningKey, channel: bytes, digest: bytes) -> Signature:
    """What ``sign_snapshot`` adds, for who has made the snapshot itself and was told another one's digest."""
    return sign(key, Domain.CRDT_SNAPSHOT, channel, digest)


def signers(channel: bytes, sealed: Sealed, body: bytes) -> tuple[bytes, ...]:
    """The devices that signed a snapshot, whoever they are.

    Raises:
        CrdtError: ``bad_signature``: somebody did not, or ``bad_snapshot``: the list is not sorted.
    """
    return signers_of(channel, digest_of(body), sealed.signatures)


def signers_of(channel: bytes, digest: bytes, signatures: Signatures) -> tuple[bytes, ...]:
    """The same, by the digest.

    Raises:
        CrdtError: as ``signers``.
    """
    devices = tuple(device for device, _ in signatures)
    if list(devices) != sorted(set(devices)):
        raise CrdtError("bad_snapshot", "signatures are sorted by device, and each is there once")
    for device, signature in signatures:
        if not verify(device, Domain.CRDT_SNAPSHOT, channel, digest, signature=signature):
            raise CrdtError("bad_signature", f"{device.hex()[:16]} did not sign this snapshot")
    return devices


def is_trusted(devices: tuple[bytes, ...], members: Mapping[bytes, Role]) -> bool:
    """Whether more than half of the admins and owners among ``members`` signed: one of them is honest, as long as
    not half of them lie together."""
    leading = [device for device, role in members.items() if role >= Role.ADMIN]
    return 2 * sum(device in devices for device in leading) > len(leading)
