"""The asking side of range-based reconciliation: which ranges still differ, and what listed ones had.

Ranges that differ are cut until what is in them is few enough to be listed: all at once if that fits in an answer, as a
round costs more than some kilobytes, else until few keys are in each. Depth first, so what is open is bounded by one
cut of all.
"""

from itertools import pairwise
from typing import Final, Self, TypeAlias

import msgspec

from protocols.crdt.errors import CrdtError
from protocols.crdt.messages import (
    DEPTH_MAX,
    FINGERPRINTS_MAX,
    RANGES_MAX,
    SHORT_SIZE,
    WANTED_MAX,
    List,
    Split,
)
from protocols.crdt.reconciliation import SHORT_BITS, KeyedSet, first_bits, pack_ranges, unpack_shorts

SURPLUS_MAX: Final = 8192
"""Operations that are pushed in one exchange."""
LISTED_AT_ONCE: Final = 5461
"""Keys that are listed rather than their ranges cut: 32 KiB spare a round."""
SHARE_MIN: Final = 8
"""Keys in a range that are not worth another cut."""
_SHARE_LARGE: Final = 128
"""Keys in a range from which on it is cut in 16 and not in 4."""

Asked: TypeAlias = tuple[int, int, list[int]]
"""A depth, some of its ranges (last), and into how many parts each is cut, as a power of two; 0: they are listed."""


class Narrowing(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What two sets differ in, as far as it is known."""

    count: int = 0
    """How many operations the other holds, as it says."""
    open: list[tuple[int, list[int]]] = msgspec.field(default_factory=lambda: [(0, [0])])
    """Ranges that differ, ascending, by depth. In the beginning that is the one which has everything."""
    asked: Asked = (0, 0, [])
    """What was asked about last."""
    wanted: list[int] = []
    """Keys of theirs that nothing here has,"""
    surplus: list[bytes] = []
    """and operations here that no key of theirs is of."""
    is_cut: bool = False
    """Whether something that differs was left for another time."""

    @classmethod
    def of(cls, count: int, bits: int) -> Self:
        """Begins with fingerprints of ``2 ** bits`` ranges that came unasked."""
        return cls(count=count, open=[(0, [0])], asked=(0, bits, [0]))

    def question(self, channel: bytes, held: int) -> Split | List | None:
        """What to ask next of who holds ``held`` operations; None: all is found, or as much as one exchange takes."""
        while self.open and not self.open[-1][1]:
            self.open.pop()
        self.asked = (0, 0, [])
        if not self.open:
            return None
        if len(self.wanted) >= WANTED_MAX or len(self.surplus) >= SURPLUS_MAX:
            self.is_cut = True
            return None
        depth, ranges = self.open[-1]
        share = (max(held, self.count) >> depth) + 1
        if share <= SHARE_MIN or depth == DEPTH_MAX or share * len(ranges) <= LISTED_AT_ONCE:
            ranges = ranges[: min(max(LISTED_AT_ONCE // share, 1), RANGES_MAX)]
            self.asked = (depth, 0, ranges)
            return List(channel, depth, pack_ranges(ranges))
        bits = first_bits(share) if not depth else min(4 if share > _SHARE_LARGE else 2, DEPTH_MAX - depth)
        ranges = ranges[: min(FINGERPRINTS_MAX >> bits, RANGES_MAX)]
        self.asked = (depth, bits, ranges)
        return Split(channel, depth, bits, pack_ranges(ranges))

    def differing(self, prints: bytes, keyed: KeyedSet) -> list[int]:
        """Which parts of the ranges that were asked about differ; changes nothing.

        Raises:
            CrdtError: ``bad_answer``: so many were not asked for.
        """
        depth, bits, ranges = self.asked
        if len(prints) != SHORT_SIZE * len(ranges) << bits:
            raise CrdtError("bad_answer", f"{len(prints)} bytes of fingerprints of {len(ranges)} * 2**{bits} ranges")
        parts = (part for each in ranges for part in range(each << bits, each + 1 << bits))
        compared = zip(parts, keyed.fingerprints(depth, bits, ranges), unpack_shorts(prints), strict=True)
        return [part for part, ours, theirs in compared if ours != theirs]

    def narrow(self, parts: list[int]) -> None:
        """Go on with these parts of the ranges that were asked about."""
        depth, bits, ranges = self.asked
        self._settle(len(ranges))
        self.open.append((depth + bits, parts))

    def listed(self, done: int, data: bytes, keyed: KeyedSet) -> None:
        """Compare the keys of the first ``done`` ranges that were asked about.

        Raises:
            CrdtError: ``bad_answer``: these are not keys of those ranges.
        """
        depth, _, ranges = self.asked
        keys, shift = unpack_shorts(data), SHORT_BITS - depth
        if done > len(ranges) or len(data) % SHORT_SIZE or any(a >= b for a, b in pairwise(keys)):
            raise CrdtError("bad_answer", "keys are whole and ascending, and ranges are listed as they were asked for")
        by_range = dict[int, list[int]]((each, []) for each in ranges[:done])
        if any(each >> shift not in by_range for each in keys):
            raise CrdtError("bad_answer", "keys of ranges that were not asked for")
        for each in keys:
            by_range[each >> shift].append(each)
        for number, theirs in by_range.items():
            ours = keyed.within(depth, number)
            there, here = set(theirs), set(ours)
            self.wanted += [each for each in theirs if each not in here]
            self.surplus += [held.id for each in ours if each not in there and (held := keyed.find(each)) is not None]
        if len(self.wanted) > WANTED_MAX or len(self.surplus) > SURPLUS_MAX:
            self.is_cut = True
            del self.wanted[WANTED_MAX:], self.surplus[SURPLUS_MAX:]
        if done:
            self._settle(done)
        elif depth < DEPTH_MAX:  # More than fits in an answer, so much more than we thought.
            self.asked = (depth, 1, ranges[:1])
            self.narrow([2 * ranges[0], 2 * ranges[0] + 1])
        else:
            self.is_cut = True
            self._settle(1)

    def _settle(self, done: int) -> None:
        """The first of the ranges that are open are done with."""
        depth, ranges = self.open[-1]
        self.open[-1] = depth, ranges[done:]
