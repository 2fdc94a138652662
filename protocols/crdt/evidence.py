"""Proof that somebody equivocated: two operations of one author on one back-link, both signed.

A chain that forks is a lie to somebody, and whoever holds both branches can show it to all. The proof has to be worth
something to who has seen neither, and must not be as large as they are. So each side is a header: what an operation's
id is the hash of, with the hash of the change in the change's place, the signature, and the Merkle path from the id
to what was signed.

    author first index count previous clock dependencies hash-of-change signature | dependency ... | path ...

Nobody can be framed. An honest author signs one operation on each back-link, so two headers with one back-link have
one id, in however many bundles they stand; and an id cannot be passed off as a node of the tree, nor a node as an id.
"""

import struct
from typing import Final

import msgspec

from protocols.crdt.bundles import BUNDLE_COUNT_MAX, SEQUENCE_MAX, Seal, are_sorted
from protocols.crdt.changes import Accuse
from protocols.crdt.clock import CLOCK_MAX
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Held, History
from protocols.crdt.merkle import path_length, root_of_path
from protocols.crdt.operations import DEPENDENCIES_MAX, ID_SIZE, NOTHING, OperationIds, hash_of_change
from protocols.crdt.proofs import path_to

_HEADER: Final = struct.Struct(">32sQBB32sQB32s64s")


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """One side: an operation without its change. Not verified."""

    id: bytes
    sequence: int
    previous: bytes
    seal: Seal
    channel: bytes
    """Under which it is signed: none for the genesis, which is an operation of its author as any other."""


def evidence_of(history: History, held: Held) -> bytes:
    """That its author signed this operation.

    Raises:
        CrdtError: ``no_path``.
    """
    operation, seal, path = held.operation, held.seal, path_to(history, held)
    header = _HEADER.pack(
        seal.author,
        seal.first,
        operation.sequence - seal.first,
        seal.count,
        operation.previous,
        operation.clock,
        len(operation.dependencies),
        hash_of_change(operation.change),
        seal.signature,
    )
    return b"".join((header, *operation.dependencies, *path))


def accusation(history: History, one: Held, other: Held) -> Accuse:
    """Of the author of two operations on one back-link, in the one order that is accepted."""
    first, second = sorted((one, other), key=lambda held: held.id)
    return Accuse(evidence_of(history, first), evidence_of(history, second))


def read_evidence(channel: bytes, data: bytes) -> Evidence:
    """What one side says.

    Raises:
        CrdtError: ``bad_evidence``: these bytes are the canonical form of none.
    """
    if len(data) < _HEADER.size:
        raise CrdtError("bad_evidence", f"{len(data)} bytes are no evidence")
    author, first, index, count, previous, clock, depends, change_hash, signature = _HEADER.unpack_from(data)
    if not (index < count <= BUNDLE_COUNT_MAX and 0 < first <= SEQUENCE_MAX and 0 < clock <= CLOCK_MAX):
        raise CrdtError("bad_evidence", f"operation {index} of {count} from {first}: there is none such")
    length = path_length(count, index)
    if depends > DEPENDENCIES_MAX or len(data) != _HEADER.size + (depends + length) * ID_SIZE:
        raise CrdtError("bad_evidence", f"{len(data)} bytes, with {depends} dependencies and a path of {length}")
    hashes = [data[start : start + ID_SIZE] for start in range(_HEADER.size, len(data), ID_SIZE)]
    dependencies, path = hashes[:depends], hashes[depends:]
    if not are_sorted(dependencies):
        raise CrdtError("bad_evidence", "dependencies are sorted, and each is there once")
    sequence = first + index
    if sequence == 1 and previous == NOTHING and not dependencies:
        channel = _channel_of_first(channel, author, clock, change_hash)
    identifier = OperationIds(channel, author).id_of(sequence, previous, dependencies, clock, change_hash)
    root = root_of_path(identifier, count, index, path)
    return Evidence(identifier, sequence, previous, Seal(author, first, count, root, signature), channel)


def check_accusation(channel: bytes, first: bytes, second: bytes) -> bytes:
    """The key of who wrote two operations on one back-link.

    Raises:
        CrdtError: ``bad_evidence``: one side is not signed by its author for this channel, or together they are no
            equivocation, or are in the other order.
    """
    one, other = read_evidence(channel, first), read_evidence(channel, second)
    if one.seal.author != other.seal.author:
        raise CrdtError("bad_evidence", "two authors")
    if (one.sequence, one.previous) != (other.sequence, other.previous):
        raise CrdtError("bad_evidence", "two back-links")
    if one.id >= other.id:
        raise CrdtError("bad_evidence", "one operation, or the two in the wrong order")
    for side in (one, other):
        try:
            side.seal.verify(side.channel)
        except CrdtError as error:
            raise CrdtError("bad_evidence", error.detail) from None
    return one.seal.author


def _channel_of_first(channel: bytes, author: bytes, clock: int, change_hash: bytes) -> bytes:
    """Under which an operation that depends on nothing is signed: it is the genesis, or not valid at all."""
    genesis = OperationIds(NOTHING, author).id_of(1, NOTHING, (), clock, change_hash)
    return NOTHING if genesis == channel else channel
