"""Which operations does one of two replicas hold and the other not, if almost all are held by both?

Range-based set reconciliation (Meyer 2023): compare fingerprints of ranges, cut what differs, and list what is short.
The ranges are not of ids but of **keyed hashes** of ids, under a key that only the two ends of a session have. Whoever
grinds ids, to have them fall into one range or cancel out in a sum, would have to know the key of each session to come;
and as keyed hashes are spread evenly, ranges are simply equal parts of their space, named by a number and a depth. The
peer at the other end has the key, but needs no collision to lie.

A fingerprint is the sum of the keys in a range, cut to 48 bits. Sums have differences, so those of any range come from
two look-ups among prefix sums. A key has 64 bits; on the wire are its first 48.

Rejected: coded symbols (rateless IBLTs) send a fifth of the bytes, of a total that operations outweigh anyway, but
peel in rounds of random access, in Python at twenty times the cost; and negentropy's unkeyed sums (a wire format
without sessions needs them) are open to grinding.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate, islice
from typing import Final

from protocols.crdt.history import Held, History
from protocols.crdt.messages import RANGE_SIZE, SHORT_SIZE, SPLIT_BITS_MAX

KEY_BITS: Final = 64
SHORT_BITS: Final = 8 * SHORT_SIZE
_CUT: Final = KEY_BITS - SHORT_BITS
_MASK: Final = (1 << SHORT_BITS) - 1

SETS_MAX: Final = 4
"""Sessions whose keys are held at once, at 150 bytes an operation. A replica reconciles with two or three at a time;
another one costs 1 us an operation."""


class KeyedSet:
    """The operations of a history by their keyed hashes, under one key; follows the history as it grows."""

    __slots__ = ("_history", "_ids", "_key", "_seen", "_sums", "keys")

    def __init__(self, history: History, key: bytes) -> None:
        self._history: Final = history
        self._key: Final = key
        self._ids: Final[dict[int, bytes]] = {}
        self._seen = 0
        self.keys: Final[list[int]] = []
        """Sorted."""
        self._sums: list[int] = [0]
        self.update()

    def __len__(self) -> int:
        return len(self.keys)

    def update(self) -> None:
        """Take in what the history has more than before; what is new goes to its end."""
        if len(self._history) == self._seen:
            return
        key, new = self._key, list(islice(self._history.operations, self._seen, None))
        self._seen += len(new)
        hashed = b"".join([blake2b(key + each, digest_size=8).digest() for each in new])
        keys = struct.unpack(f">{len(new)}Q", hashed)
        self._ids.update(zip(keys, new, strict=True))
        self.keys.extend(keys)
        self.keys.sort()
        self._sums = list(accumulate(self.keys, initial=0))

    def fingerprints(self, depth: int, bits: int, ranges: Sequence[int]) -> Iterator[int]:
        """Of each part of each range."""
        keys, sums, shift, parts = self.keys, self._sums, KEY_BITS - depth - bits, 1 << bits
        for each in ranges:
            first = each << bits
            low = bisect_left(keys, first << shift)
            for part in range(first + 1, first + parts + 1):
                high = bisect_left(keys, part << shift, low)
                yield (sums[high] - sums[low]) & _MASK
                low = high

    def within(self, depth: int, number: int) -> list[int]:
        """The keys of a range as they travel, ascending."""
        low, high = self._bounds(depth, number)
        return [each >> _CUT for each in self.keys[low:high]]

    def count(self, depth: int, number: int) -> int:
        """How many keys are in a range."""
        low, high = self._bounds(depth, number)
        return high - low

    def find(self, short: int) -> Held | None:
        """The operation whose key begins so."""
        index = bisect_left(self.keys, short << _CUT)
        if index < len(self.keys) and self.keys[index] >> _CUT == short:
            return self._history.operations.get(self._ids[self.keys[index]])
        return None

    def _bounds(self, depth: int, number: int) -> tuple[int, int]:
        shift = KEY_BITS - depth
        low = bisect_left(self.keys, number << shift)
        return low, bisect_left(self.keys, number + 1 << shift, low)


class KeyedSets:
    """Keyed sets of one history, for the sessions that were used last. Holds nothing that cannot be made again."""

    __slots__ = ("_history", "_sets")

    def __init__(self, history: History) -> None:
        self._history: Final = history
        self._sets: Final[dict[bytes, KeyedSet]] = {}

    def of(self, binding: bytes) -> KeyedSet:
        """The set for the session with this channel binding, which both ends know and nobody else, as it is now."""
        found = self._sets.pop(binding, None)
        if found is None:
            found = KeyedSet(self._history, session_key(self._history.channel, binding))
            while len(self._sets) >= SETS_MAX:
                del self._sets[next(iter(self._sets))]
        else:
            found.update()
        self._sets[binding] = found
        return found


def session_key(channel: bytes, binding: bytes) -> bytes:
    """A key for the hashes of one channel's ids on one session."""
    return blake2b(channel + binding, digest_size=32, person=b"SpacePanda crdt\0").digest()


def first_bits(count: int) -> int:
    """Into how many parts a set of this size is cut first, as a power of two.

    With ``n`` operations of which ``d`` differ, ``b`` parts cost ``b`` fingerprints and ``d * n / b`` listed keys: that
    is least at the root of ``d * n``, and ``d`` is taken to be about a hundred.
    """
    return min((count.bit_length() + 7) // 2, SPLIT_BITS_MAX)


def pack_shorts(shorts: Sequence[int] | Iterator[int]) -> bytes:
    return b"".join([each.to_bytes(SHORT_SIZE, "big") for each in shorts])


def unpack_shorts(data: bytes) -> list[int]:
    """The numbers in as many whole ones as there are."""
    return [int.from_bytes(data[i : i + SHORT_SIZE], "big") for i in range(0, len(data), SHORT_SIZE)]


def pack_ranges(ranges: Sequence[int]) -> bytes:
    return struct.pack(f">{len(ranges)}I", *ranges)


def unpack_ranges(data: bytes) -> tuple[int, ...]:
    """``data`` has whole ones."""
    return struct.unpack(f">{len(data) // RANGE_SIZE}I", data)
