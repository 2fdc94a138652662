"""One peer's door: what is charged to whom.

Blame (design, section 3): a packet charges only the endpoint that it claims to come from, which can be
forged, so it reaches no breaker. Requests are charged to the authenticated peer, whatever session they
came through: if a session held the budget, reconnecting would refill it. Faults are recorded against a
peer only by a caller who knows that this peer made them: a failure of our own handler, disk or clock
must not be recorded, nor relayed content that somebody else signed.

Time is any clock that the caller keeps, in ns. A step backwards counts as no time at all: it unlocks
nothing, and time goes on from there, as a monotonic clock does when the state of an earlier boot is
restored. (Waiting for the old time to come again would lock every peer out for as long.)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from protocols.admission.breaker import BreakerPolicy, Breakers, BreakersState, BreakerState
from protocols.admission.buckets import BucketTable, Quota, TableState, Verdict, require_positive
from protocols.errors import LocalError

STATE_VERSION: Final = 1

_ADMITTED: Final = Verdict.ADMITTED


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """What a peer grants to others: shared by all the peers of a host, and no part of their state.

    A packet pays for its bytes, but for at least ``packet_bytes_min``: a quota of bytes then bounds packets
    too (by default 4 MB and 1000 packets a second), and one integer holds both.
    """

    endpoint_bytes: Quota = field(default=Quota(4_000_000, 8_000_000))
    packet_bytes_min: int = 4_000
    group_of: Callable[[int], int] | None = None  # endpoint to subnet: addresses that one host gets cheaply
    group_bytes: Quota = field(default=Quota(32_000_000, 64_000_000))
    requests: Quota = field(default=Quota(100, 200))
    costs: Mapping[str, int] = field(default_factory=dict)  # request kind to units of `requests`, else 1
    breaker: BreakerPolicy = field(default=BreakerPolicy())
    endpoints_max: int = 4096  # busy at once, about 0.5 MB; idle ones take no place. Groups as many
    peers_max: int = 4096  # the same for authenticated peers, for faulty ones and for open breakers

    _prices_ns: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_positive(
            packet_bytes_min=self.packet_bytes_min,
            endpoints_max=self.endpoints_max,
            peers_max=self.peers_max,
            **{f"cost of {kind}": cost for kind, cost in self.costs.items()},
        )
        if self.packet_bytes_min > min(self.endpoint_bytes.burst, self.group_bytes.burst):
            raise LocalError("packet_bytes_min exceeds a burst: no packet could ever come in")
        for kind, cost in self.costs.items():
            if cost > self.requests.burst:
                raise LocalError(f"cost of {kind} exceeds the burst: none could ever come in")
        prices = {kind: cost * self.requests.interval_ns for kind, cost in self.costs.items()}
        object.__setattr__(self, "_prices_ns", prices)

    def price_ns(self, kind: str) -> int:
        return self._prices_ns.get(kind) or self.requests.interval_ns


_DEFAULT_POLICY: Final = AdmissionPolicy()


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    skew: int
    latest: int
    endpoints: TableState[int]
    groups: TableState[int]
    requests: TableState[bytes]
    breakers: BreakersState


class Admission:
    """Endpoints are integers of at most 64 bits; peers are their authenticated keys.

    Nothing can be removed from outside: who comes back finds its budget and its breaker as it left them.
    """

    __slots__ = ("_breakers", "_endpoints", "_groups", "_latest", "_policy", "_requests", "_skew")

    def __init__(self, policy: AdmissionPolicy = _DEFAULT_POLICY) -> None:
        self._policy = policy
        self._skew = 0  # added to the caller's clock, so that ours never goes back
        self._latest = 0
        self._endpoints: BucketTable[int] = BucketTable(policy.endpoint_bytes.depth_ns, policy.endpoints_max)
        self._groups: BucketTable[int] = BucketTable(policy.group_bytes.depth_ns, policy.endpoints_max)
        self._requests: BucketTable[bytes] = BucketTable(policy.requests.depth_ns, policy.peers_max)
        self._breakers = Breakers(policy.breaker, policy.peers_max)

    def admit_packet(self, endpoint: int, size: int, now: int) -> Verdict:
        """Before authentication. What its group refuses, the endpoint has paid for all the same."""
        now = self._advance(now)
        policy = self._policy
        if size < policy.packet_bytes_min:  # noqa: PLR1730 - as in BucketTable.admit
            size = policy.packet_bytes_min
        verdict = self._endpoints.admit(endpoint, size * policy.endpoint_bytes.interval_ns, now)
        if policy.group_of is None or verdict is not _ADMITTED:
            return verdict
        return self._groups.admit(policy.group_of(endpoint), size * policy.group_bytes.interval_ns, now)

    def admit_request(self, peer: bytes, kind: str, now: int) -> Verdict:
        """After decryption. What the breaker refuses costs no budget; what the budget refuses, no probe."""
        now = self._advance(now)
        breakers = self._breakers
        if breakers.tripped and breakers.blocks(peer, now):
            return Verdict.BREAKER_OPEN
        verdict = self._requests.admit(peer, self._policy.price_ns(kind), now)
        if breakers.tripped and verdict is _ADMITTED:
            breakers.lease(peer, now)
        return verdict

    def record_fault(self, peer: bytes, now: int) -> BreakerState:
        """``peer`` itself broke the protocol inside its own session. Returns the breaker's new state."""
        return self._breakers.record_fault(peer, self._advance(now))

    def record_success(self, peer: bytes, now: int) -> BreakerState:
        """A request of ``peer`` was carried out. Returns the breaker's new state."""
        return self._breakers.record_success(peer, self._advance(now))

    def breaker_state(self, peer: bytes, now: int) -> BreakerState:
        return self._breakers.state_of(peer, self._advance(now))

    def on_probation(self, peer: bytes) -> bool:
        """Whether the request of ``peer`` that was just admitted is a probe, whose outcome counts."""
        return peer in self._breakers.tripped

    @property
    def tracked(self) -> int:
        """Entries held, idle ones not yet swept included: at most 2 * endpoints_max + 3 * peers_max."""
        return len(self._endpoints) + len(self._groups) + len(self._requests) + len(self._breakers)

    def _advance(self, now: int) -> int:
        now += self._skew
        if now < self._latest:
            self._skew += self._latest - now
            return self._latest
        self._latest = now
        return now

    def to_bytes(self) -> bytes:
        """All that decides a later verdict, in its order: a restored door answers like this one."""
        state = _State(
            STATE_VERSION,
            self._skew,
            self._latest,
            self._endpoints.state(),
            self._groups.state(),
            self._requests.state(),
            self._breakers.state(),
        )
        try:
            return msgspec.msgpack.encode(state)
        except OverflowError as error:
            raise LocalError("an endpoint or a time exceeds 64 bits") from error

    @classmethod
    def from_bytes(cls, data: bytes, policy: AdmissionPolicy = _DEFAULT_POLICY) -> "Admission":
        try:
            state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise LocalError(f"admission state: {error}") from error
        if state.version != STATE_VERSION:
            raise LocalError(f"admission state: version {state.version}, not {STATE_VERSION}")
        admission = cls(policy)
        admission._skew = state.skew
        admission._latest = state.latest
        admission._endpoints.restore(state.endpoints)
        admission._groups.restore(state.groups)
        admission._requests.restore(state.requests)
        admission._breakers.restore(state.breakers)
        return admission
