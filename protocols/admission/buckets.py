"""Rate limits by key, in memory that a flood of keys cannot grow.

A bucket is one integer, the theoretical arrival time (TAT) of the generic cell rate algorithm (ITU-T
I.371): the time at which the bucket will be full again. Once that time has passed, the entry says the
same as no entry and may be dropped; until then it is never dropped. When a table is full of busy buckets,
the keys that found no place share one more. So a flood of fresh keys costs bounded memory, frees no
offender, and takes nothing from those who already hold a bucket.

Rejected: an LRU of buckets (a flood evicts the offender's debt, which is what the flood is for), a log of
arrivals (memory grows with the rate), two generations of which the older is dropped whole (a key that
is busy for a millisecond would hold its place for seconds), and a timer that sweeps (an idle peer should
cost nothing; here whoever brings a new key looks at a few old ones).
"""

from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Final, Generic, TypeVar

import msgspec

from protocols.errors import LocalError

NS_PER_S: Final = 1_000_000_000

SWEEP: Final = 2  # old keys looked at for every new one: more than one, or idle keys would pile up
SWEEP_FULL: Final = 16  # with the table full, look harder before making a newcomer share: about 1 µs


class Verdict(Enum):
    """What became of a packet or request; true if it may come in. Its value labels the rejections counted."""

    ADMITTED = "admitted"
    RATE_LIMITED = "rate_limited"  # its own bucket cannot pay
    CROWDED_OUT = "crowded_out"  # the table is full of busy keys, and the shared bucket cannot pay
    BREAKER_OPEN = "breaker_open"

    def __bool__(self) -> bool:
        return self is Verdict.ADMITTED


_ADMITTED: Final = Verdict.ADMITTED  # looking these up in the class is slow in CPython 3.11
_RATE_LIMITED: Final = Verdict.RATE_LIMITED
_CROWDED_OUT: Final = Verdict.CROWDED_OUT


def require_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise LocalError(f"{name} must be at least 1, not {value}")


@dataclass(frozen=True, slots=True)
class Quota:
    """So many units a second, and so many at once after a rest.

    A unit takes a whole number of ns, rounded up: what is admitted in any time t is at most
    ``burst + t / interval_ns``, exactly. A rate of 4 million is exact, one of 3 million is 0.2% slow.
    """

    rate_per_s: int
    burst: int

    def __post_init__(self) -> None:
        require_positive(rate_per_s=self.rate_per_s, burst=self.burst)
        if self.rate_per_s > NS_PER_S:
            raise LocalError(f"rate_per_s {self.rate_per_s} is finer than the clock")

    @property
    def interval_ns(self) -> int:
        return -(-NS_PER_S // self.rate_per_s)

    @property
    def depth_ns(self) -> int:
        return self.burst * self.interval_ns


K = TypeVar("K", int, bytes)


class TableState(msgspec.Struct, Generic[K], array_like=True, forbid_unknown_fields=True):
    tats: dict[K, int]
    shared_tat: int
    unswept: int


class BucketTable(Generic[K]):
    """Buckets of one depth, by key. Prices are units times the quota's interval; ``now`` never goes back."""

    __slots__ = ("_depth_ns", "_keys_max", "_shared_tat", "_tats", "_unswept")

    def __init__(self, depth_ns: int, keys_max: int) -> None:
        self._depth_ns = depth_ns
        self._keys_max = keys_max
        self._tats: dict[K, int] = {}
        self._shared_tat = 0
        # The keys that the sweep has yet to visit, last first. Only the sweep deletes keys and new ones
        # come last, so these are always the first keys of the dict, and their number restores them.
        self._unswept: list[K] | None = None

    def __len__(self) -> int:
        return len(self._tats)

    def admit(self, key: K, price_ns: int, now: int) -> Verdict:
        tat = self._tats.get(key)
        if tat is None:
            return self._admit_newcomer(key, price_ns, now)
        if tat < now:  # noqa: PLR1730 - max() would take a tenth of the time of the whole check
            tat = now
        tat += price_ns
        if tat - now > self._depth_ns:
            return _RATE_LIMITED
        self._tats[key] = tat
        return _ADMITTED

    def _admit_newcomer(self, key: K, price_ns: int, now: int) -> Verdict:
        if price_ns > self._depth_ns:
            return _RATE_LIMITED
        self._sweep(now, SWEEP)
        if len(self._tats) >= self._keys_max:
            self._sweep(now, SWEEP_FULL)
        if len(self._tats) < self._keys_max:
            self._tats[key] = now + price_ns
            return _ADMITTED
        tat = max(self._shared_tat, now) + price_ns
        if tat - now > self._depth_ns:
            return _CROWDED_OUT
        self._shared_tat = tat
        return _ADMITTED

    def _sweep(self, now: int, keys: int) -> None:
        unswept, tats = self._unswept, self._tats
        for _ in range(min(keys, len(tats))):
            if not unswept:  # the copy is paid for by the newcomers that it takes to work it off
                unswept = self._unswept = list(tats)
            key = unswept.pop()
            if tats[key] <= now:
                del tats[key]

    def refill(self, key: K, now: int) -> None:
        if key in self._tats:
            self._tats[key] = now

    def state(self) -> TableState[K]:
        return TableState(self._tats, self._shared_tat, len(self._unswept or ()))

    def restore(self, state: TableState[K]) -> None:
        """All keys are kept, even above a lower bound than before: no newcomer joins until they went idle."""
        if not 0 <= state.unswept <= len(state.tats):
            raise LocalError("more keys to sweep than keys")
        self._tats = state.tats
        self._shared_tat = state.shared_tat
        self._unswept = list(islice(state.tats, state.unswept)) or None
