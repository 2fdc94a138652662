"""Operations: what one author did, after what, and when.

An operation's id is the hash of all of it but the signature. It names the author's previous operation (the back-link)
and the other operations that it directly depends on, so operations are a DAG without cycles: nobody can name a hash
that comes later. The change itself enters by its own hash, so a header alone proves that its author wrote on a
back-link, however large the change was.
"""

import struct
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

import msgspec

from protocols.crdt.changes import Change

ID_SIZE: Final = 32
NOTHING: Final = bytes(ID_SIZE)
"""The back-link of an author's first operation, and the channel of a genesis, which cannot know its own id."""
DEPENDENCIES_MAX: Final = 32
"""Besides the back-link. Who has seen more branches than this joins some of them now and the rest with its next."""

_TAG: Final = b"SpacePanda crdt operation 1\0"
_HEADER: Final = struct.Struct(">QQB")
encode_change: Final[Callable[[Change], bytes]] = msgspec.msgpack.Encoder().encode
"""The canonical encoding of a change."""


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One operation. Two with one id are the same."""

    id: bytes
    author: bytes
    """A device's key."""
    sequence: int
    """1 is an author's first; there are no gaps."""
    previous: bytes
    """The back-link: the author's operation before this one, on which this depends too."""
    dependencies: tuple[bytes, ...]
    """The other operations that it directly depends on, sorted."""
    clock: int
    change: Change

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Operation) else NotImplemented

    def __hash__(self) -> int:
        return int.from_bytes(self.id[:8], "big")


class OperationIds:
    """Computes the ids of one author's operations in one channel."""

    __slots__ = ("_author", "_prefix")

    def __init__(self, channel: bytes, author: bytes) -> None:
        self._author = author
        self._prefix = _TAG + channel + author

    def id_of(
        self, sequence: int, previous: bytes, dependencies: Sequence[bytes], clock: int, change_hash: bytes
    ) -> bytes:
        return sha256(
            self._prefix
            + _HEADER.pack(sequence, clock, len(dependencies))
            + previous
            + b"".join(dependencies)
            + change_hash
        ).digest()

    def operation(
        self,
        sequence: int,
        previous: bytes,
        dependencies: tuple[bytes, ...],
        clock: int,
        change: Change,
        encoded: bytes,
    ) -> Operation:
        """``encoded`` is the change's encoding (``encode_change``), which whoever knows its size has made already."""
        identifier = self.id_of(sequence, previous, dependencies, clock, sha256(encoded).digest())
        return Operation(identifier, self._author, sequence, previous, dependencies, clock, change)


def hash_of_change(change: Change) -> bytes:
    """What of a change enters the id of its operation."""
    return sha256(encode_change(change)).digest()
