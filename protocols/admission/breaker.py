"""Cutting off a peer that breaks the protocol, and letting it back.

    closed     everything passes; faults are counted
    open       nothing passes until ``open_ns`` is over
    half-open  a few probes pass; ``probes`` successes close the breaker, one fault opens it again

Faults are a bucket too: each takes ``forgive_ns`` to be forgiven, and ``failures`` unforgiven ones open
the breaker. So that many within ``forgive_ns`` always do, and a trickle slower than one per
``forgive_ns`` never does. Good requests in between excuse nothing: a peer could buy faults with them.

A probe takes a lease. Its outcome returns the lease, and if nobody reports one (our handler failed, the
session died), the lease expires: probes are bounded, and a breaker cannot stay half-open for want of news.

Rejected: a window of fault times (ten integers a peer for a sharper edge that nothing needs), and a
breaker that all faulty peers share once the tables are full: it would punish one for another's faults,
which is what somebody who wants to cut off an honest peer is after. Late-comers go uncounted then;
their rate limit still holds.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from protocols.admission.buckets import NS_PER_S, BucketTable, TableState, Verdict, require_positive


class BreakerState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_CLOSED: Final = BreakerState.CLOSED  # every good request of every peer ends here: see Verdict


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    failures: int = 10
    forgive_ns: int = 60 * NS_PER_S
    open_ns: int = 30 * NS_PER_S
    probes: int = 3  # the successes that close a half-open breaker, and the most probes under way at once
    lease_ns: int = 10 * NS_PER_S

    def __post_init__(self) -> None:
        require_positive(
            failures=self.failures,
            forgive_ns=self.forgive_ns,
            open_ns=self.open_ns,
            probes=self.probes,
            lease_ns=self.lease_ns,
        )

    @property
    def probation_ns(self) -> int:
        """A half-open breaker left alone closes when the faults that opened it would all be forgiven."""
        return max(self.failures * self.forgive_ns, 2 * self.open_ns)


class Breaker(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Kept only for a peer that is cut off or on probation."""

    half_open_at: int
    successes: int = 0
    leases: list[int] = []  # when each probe under way expires, ascending


class BreakersState(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    faults: TableState[bytes]
    tripped: dict[bytes, Breaker]


class Breakers:
    """The breakers of all peers. ``now`` never goes back."""

    __slots__ = ("_faults", "_peers_max", "_policy", "tripped")

    def __init__(self, policy: BreakerPolicy, peers_max: int) -> None:
        self._policy = policy
        self._peers_max = peers_max
        # A fault that this bucket cannot pay is the one that opens the breaker.
        self._faults: BucketTable[bytes] = BucketTable((policy.failures - 1) * policy.forgive_ns, peers_max)
        self.tripped: dict[bytes, Breaker] = {}  # open or half-open, in the order in which they opened

    def __len__(self) -> int:
        return len(self._faults) + len(self.tripped)

    def state_of(self, peer: bytes, now: int) -> BreakerState:
        breaker = self._find(peer, now)
        if breaker is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < breaker.half_open_at else BreakerState.HALF_OPEN

    def blocks(self, peer: bytes, now: int) -> bool:
        """Open, or half-open with as many probes under way as could close it."""
        breaker = self._find(peer, now)
        if breaker is None:
            return False
        if now < breaker.half_open_at:
            return True
        return len(breaker.leases) + breaker.successes >= self._policy.probes

    def lease(self, peer: bytes, now: int) -> None:
        """A request that nothing blocks is let in: on probation it is a probe."""
        breaker = self._find(peer, now)
        if breaker is not None:
            breaker.leases.append(now + self._policy.lease_ns)

    def record_fault(self, peer: bytes, now: int) -> BreakerState:
        breaker = self._find(peer, now)
        if breaker is None:
            if self._faults.admit(peer, self._policy.forgive_ns, now) is not Verdict.RATE_LIMITED:
                return BreakerState.CLOSED
        elif now < breaker.half_open_at:
            return BreakerState.OPEN  # of a request that came in before: the punishment is not prolonged
        return self._open(peer, now)

    def record_success(self, peer: bytes, now: int) -> BreakerState:
        """Counts only against a lease: a request let in before the breaker opened proves nothing now."""
        breaker = self._find(peer, now)
        if breaker is None:
            return _CLOSED
        if breaker.leases:
            del breaker.leases[0]
            breaker.successes += 1
            if breaker.successes >= self._policy.probes:
                del self.tripped[peer]
        return self.state_of(peer, now)

    def _find(self, peer: bytes, now: int) -> Breaker | None:
        breaker = self.tripped.get(peer)
        if breaker is None:
            return None
        if now >= breaker.half_open_at + self._policy.probation_ns:
            del self.tripped[peer]
            return None
        while breaker.leases and breaker.leases[0] <= now:
            del breaker.leases[0]
        return breaker

    def _open(self, peer: bytes, now: int) -> BreakerState:
        reopened = self.tripped.pop(peer, None)  # and goes last, so that the first is always the oldest
        while self.tripped:
            if self._find(next(iter(self.tripped)), now) is not None:
                break
        if reopened is None and len(self.tripped) >= self._peers_max:
            return BreakerState.CLOSED  # no offender is freed for another
        self.tripped[peer] = Breaker(now + self._policy.open_ns)
        self._faults.refill(peer, now)  # these faults are paid for: it starts afresh when it closes
        return BreakerState.OPEN

    def state(self) -> BreakersState:
        return BreakersState(self._faults.state(), self.tripped)

    def restore(self, state: BreakersState) -> None:
        self._faults.restore(state.faults)
        self.tripped = state.tripped
