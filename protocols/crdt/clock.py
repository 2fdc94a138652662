"""Hybrid logical clocks (Kulkarni et al. 2014): wall clock where it can be, and always later than what was seen.

A clock is one integer, 48 bits of milliseconds above 16 bits of a counter. An operation's is greater than that of
every operation it depends on, so their order agrees with causality; whoever claims a time far ahead waits for it.
"""

from collections.abc import Iterable
from typing import Final

COUNTER_BITS: Final = 16
NS_PER_MS: Final = 10**6
CLOCK_MAX: Final = 2**63 - 1
AHEAD_NS_MAX: Final = 5 * 60 * 10**9
"""How far ahead of our clock an operation may be: what clocks that nobody sets are off by."""


def clock_at(now_ns: int) -> int:
    """The first clock of the millisecond in which ``now_ns`` is."""
    return now_ns // NS_PER_MS << COUNTER_BITS


def next_clock(now_ns: int, seen: Iterable[int]) -> int:
    """For an operation written now that depends on operations with the clocks ``seen``."""
    return max(clock_at(now_ns), *(clock + 1 for clock in seen), 1)


def time_ns(clock: int) -> int:
    """The wall-clock time that ``clock`` stands for."""
    return (clock >> COUNTER_BITS) * NS_PER_MS


def is_ahead(clock: int, now_ns: int) -> bool:
    """Whether it is too far ahead of our clock to be believed yet."""
    return clock > clock_at(now_ns + AHEAD_NS_MAX)
