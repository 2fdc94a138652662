"""Counter-based randomness: a draw depends on what it is for, never on what was drawn elsewhere.

A stream is a key and a counter. Its key is the hash of the seed and of everything that says what the
stream is for: peer, incarnation, service, purpose. So a restarted peer repeats nothing, adding a draw to
one actor leaves all others alone, and a stream's whole state is two numbers. BLAKE2b in counter mode
gives 64 bytes a call; it is a pseudo-random function, so the same streams may feed key generation in a
simulation, where the "entropy" must be repeatable. Real time uses ``SystemRandomness`` instead.

Rejected: Mersenne Twister (2.5 kB of state per stream, order-dependent) and splitmix64 (not faster in
Python than one BLAKE2b call, and no pseudo-random function).
"""

import os
from hashlib import blake2b
from typing import Final, Protocol

import msgspec

_BLOCK: Final = 64


def derive_key(seed: int, *purpose: int | str) -> bytes:
    """The 32-byte key of the stream for ``purpose`` under ``seed``; distinct purposes give unrelated keys."""
    return blake2b(msgspec.msgpack.encode((seed, *purpose)), digest_size=32, person=b"spacepanda-rng").digest()


class Randomness(Protocol):
    """What a context offers actors as their only randomness."""

    def entropy(self, size: int) -> bytes:
        """``size`` bytes fit for key material."""
        ...

    def below(self, limit: int) -> int:
        """A uniform integer in ``range(limit)``."""
        ...


class Stream:
    """A repeatable stream; ``position`` counts the 64-byte blocks taken so far."""

    __slots__ = ("_key", "position")

    def __init__(self, key: bytes, position: int = 0) -> None:
        self._key = key
        self.position = position

    def entropy(self, size: int) -> bytes:
        """The next ``size`` bytes; a call always starts on a fresh block, so calls do not overlap."""
        if size <= _BLOCK:
            self.position += 1
            return blake2b(self.position.to_bytes(8, "little"), key=self._key, digest_size=size).digest()
        return b"".join(self.entropy(min(_BLOCK, size - start)) for start in range(0, size, _BLOCK))

    def below(self, limit: int) -> int:
        """A uniform integer in ``range(limit)``: 128 bits reduced, a bias below 2**-64 for any 64-bit limit."""
        return int.from_bytes(self.entropy(16), "little") % limit


class SystemRandomness:
    """The operating system's randomness, for peers that run in real time."""

    __slots__ = ()

    def entropy(self, size: int) -> bytes:
        return os.urandom(size)

    def below(self, limit: int) -> int:
        return int.from_bytes(os.urandom(16), "little") % limit
