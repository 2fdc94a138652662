"""Ratchets (RFC 9420 §9.1): each generation's secret gives one key, one nonce and the next secret, and is erased.

Messages may come late, so a ratchet that has to jump keeps the keys it passes, until their messages come or it
keeps too many: then the oldest go. A generation below the floor whose key is not here was used or dropped, nobody
knows; from the floor on, it was used.
"""

from enum import IntEnum
from struct import unpack
from typing import Final

import msgspec

from protocols.errors import LocalError
from protocols.mls.codec import Reader, opaque, uint8, uint32, uint64, vector
from protocols.mls.suite import CipherSuite

GENERATIONS: Final = 2**32
"""A generation is a ``uint32``."""


class Ratchet(IntEnum):
    """Each leaf has two (§9): one for proposals and commits, one for application data."""

    HANDSHAKE = 0
    APPLICATION = 1


_LABELS: Final = (b"handshake", b"application")


class MessageKey(msgspec.Struct, frozen=True, gc=False):
    """The key and nonce of one generation, and where they belong."""

    leaf: int
    ratchet: Ratchet
    generation: int
    key: bytes
    nonce: bytes

    def __repr__(self) -> str:
        return f"MessageKey({self.leaf}, {self.ratchet.name}, {self.generation})"

    @property
    def position(self) -> bytes:
        """What a journal has to remember of the message: nine bytes."""
        return uint32(self.leaf) + uint8(self.ratchet) + uint32(self.generation)


def read_position(position: bytes) -> tuple[int, Ratchet, int]:
    leaf, ratchet, generation = unpack(">IBI", position) if len(position) == 9 else (0, len(Ratchet), 0)
    if ratchet >= len(Ratchet):
        raise LocalError(f"these {len(position)} bytes are no position of a ratchet")
    return leaf, Ratchet(ratchet), generation


def first_secret(suite: CipherSuite, leaf_secret: bytes, ratchet: Ratchet) -> bytes:
    """A ratchet's secret of generation 0 (§9)."""
    return suite.expand_with_label(leaf_secret, _LABELS[ratchet], b"", suite.hash_size)


def next_secret(suite: CipherSuite, secret: bytes, generation: int) -> bytes:
    """The secret of the generation after this one, whose own is ``secret``."""
    return suite.derive_tree_secret(secret, b"secret", generation, suite.hash_size)


def key_and_nonce(suite: CipherSuite, secret: bytes, generation: int) -> tuple[bytes, bytes]:
    return (
        suite.derive_tree_secret(secret, b"key", generation, suite.key_size),
        suite.derive_tree_secret(secret, b"nonce", generation, suite.nonce_size),
    )


class Chain:
    """One ratchet of one leaf: the secret of its next generation, and the keys that were passed on the way."""

    __slots__ = ("floor", "generation", "kept", "secret")

    def __init__(
        self, secret: bytes, generation: int = 0, floor: int = 0, kept: dict[int, bytes] | None = None
    ) -> None:
        self.secret = secret
        self.generation = generation
        self.floor = floor
        self.kept: Final[dict[int, bytes]] = kept if kept is not None else {}
        """Key and nonce in one, oldest first."""

    def __repr__(self) -> str:
        return f"<Chain at {self.generation}, {len(self.kept)} kept>"

    def drop_oldest(self, count: int) -> int:
        """How many were dropped."""
        dropped = list(self.kept)[: max(count, 0)]
        for generation in dropped:
            del self.kept[generation]
            self.floor = generation + 1
        return len(dropped)

    def encode(self) -> bytes:
        kept = vector(uint32(generation) + opaque(pair) for generation, pair in self.kept.items())
        return opaque(self.secret) + uint64(self.generation) + uint64(self.floor) + kept

    @classmethod
    def read(cls, reader: Reader) -> "Chain":
        return cls(reader.opaque(), reader.uint64(), reader.uint64(), dict(reader.vector(_read_kept)))


def _read_kept(reader: Reader) -> tuple[int, bytes]:
    return reader.uint32(), reader.opaque()
