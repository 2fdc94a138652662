"""The limiter alone in its peer, with ears where the sessions and RPC would be."""

from hashlib import sha512
from typing import Any, ClassVar, Final, Self

import pytest

from actors.actor import Actor, handles
from actors.context import TRACE_NONE, Context
from actors.host import Host
from actors.rate_limiter import RateLimiter
from actors.setup import PeerSetup
from protocols.admission import AdmissionPolicy, BreakerPolicy, BreakerState, Fault, Quota, Success
from protocols.identity import DeviceIdentity
from protocols.kademlia.messages import FindNode, Ping
from protocols.messages import Message, Packet, encode
from protocols.noise.interface import Datagram, Opened
from protocols.rpc.calls import Inbound
from protocols.rpc.frames import Ack, Cancel, Chunk, Error, Frame, Request, Response

IDENTITY: Final = DeviceIdentity.generate(sha512(b"peer").digest(), b"test")
GOOD, BAD = bytes(31) + b"g", bytes(31) + b"b"
SECOND: Final = 1_000_000_000
POLICY: Final = AdmissionPolicy(
    requests=Quota(10, 5),
    costs={"kad.store": 5},
    breaker=BreakerPolicy(failures=3, open_ns=30 * SECOND, probes=2, lease_ns=10 * SECOND),
)

PING: Final = encode(Ping())
REQUEST: Final = Request(1, 1_000, TRACE_NONE, len(PING), PING)
OTHERS: Final[tuple[Frame, ...]] = (
    Response(1, 1, b"x"),
    Error(1, "busy", "no", ""),
    Cancel(1),
    Chunk(1, True, 1, b"x"),
    Chunk(1, False, 1, b"x"),
    Ack(1, True, 1, 0),
    Ack(1, False, 1, 0),
)
FAULTY: Final = b"no frame"


class Ear(Actor):
    """Hears what it is told."""

    __slots__ = ("heard",)

    def __init__(self, setup: Any) -> None:
        self.heard: list[Message] = []

    def to_bytes(self) -> bytes:
        return b""

    @classmethod
    def from_bytes(cls, data: bytes, setup: Any) -> Self:
        return cls(setup)


class Sessions(Ear):
    service: ClassVar[str] = "sessions"

    @handles(Datagram)
    def datagram(self, datagram: Datagram, ctx: Context) -> None:
        self.heard.append(datagram)


class Rpc(Ear):
    service: ClassVar[str] = "rpc"

    @handles(Inbound)
    def inbound(self, inbound: Inbound, ctx: Context) -> None:
        self.heard.append(inbound)


class Door:
    """A host with one limiter, and the clock in hand."""

    def __init__(self, policy: AdmissionPolicy = POLICY) -> None:
        setup = PeerSetup(IDENTITY, 0, admission=policy)
        self.host = Host(lambda peer, incarnation: (setup, [RateLimiter, Sessions, Rpc]))
        self.host.up(0)

    def knock(self, frame: Frame | bytes, device: bytes = BAD) -> Inbound | None:
        """A frame of ``device``; what RPC gets of it."""
        before = len(self.rpc.heard)
        data = frame if isinstance(frame, bytes) else encode(frame)
        self.tell(Opened(1, device, 7, data))
        heard = self.rpc.heard[before:]
        assert len(heard) <= 1
        assert not heard or isinstance(heard[0], Inbound)
        return heard[0] if heard else None  # type: ignore[return-value]

    def tell(self, message: Message) -> None:
        self.host.tell(0, "limiter", message)

    def wait(self, seconds: int) -> None:
        self.host.now += seconds * SECOND

    def cut_off(self, device: bytes = BAD) -> None:
        for _ in range(POLICY.breaker.failures):
            self.tell(Fault(device, "unsolicited"))
        assert self.state(device) is BreakerState.OPEN

    def state(self, device: bytes = BAD) -> BreakerState:
        return self.limiter.admission.breaker_state(device, self.host.now)

    @property
    def limiter(self) -> RateLimiter:
        actor = self.host.actor(0, "limiter")
        assert isinstance(actor, RateLimiter)
        return actor

    @property
    def rpc(self) -> Rpc:
        actor = self.host.actor(0, "rpc")
        assert isinstance(actor, Rpc)
        return actor

    def count(self, name: str, label: str = "") -> int:
        return self.host.counters.get((name, label), 0)


def test_packets_are_charged_to_the_endpoint_that_they_name() -> None:
    door = Door(AdmissionPolicy(endpoint_bytes=Quota(4_000, 8_000)))
    for source in (7, 7, 7, 8):
        door.tell(Packet(source, b"x"))
    sessions = door.host.actor(0, "sessions")
    assert isinstance(sessions, Sessions)
    assert sessions.heard == [Datagram(7, b"x"), Datagram(7, b"x"), Datagram(8, b"x")]
    assert door.count("admission_rejected", "packet_rate_limited") == 1


def test_a_request_reaches_rpc_decoded_and_by_reference() -> None:
    inbound = Door().knock(REQUEST)
    assert inbound == Inbound(1, BAD, 7, REQUEST)


def test_the_span_of_a_request_is_a_child_of_the_call_that_it_serves() -> None:
    door = Door()
    trace = bytes(range(24)) + b"\x02"
    door.knock(Request(1, 1_000, trace, len(PING), PING))
    door.knock(REQUEST)
    (row,) = door.host.spans
    assert row.span.name == "admission.request"
    assert row.span.trace_id + row.span.parent_id == trace[:24]
    assert row.attributes == {"verdict": "admitted", "kind": "kad.ping"}


def test_requests_beyond_the_budget_are_dropped_and_cost_nobody_else() -> None:
    door = Door()
    assert sum(door.knock(REQUEST) is not None for _ in range(8)) == POLICY.requests.burst
    assert door.knock(REQUEST, GOOD) is not None
    assert door.count("admission_rejected", "request_rate_limited") == 3
    door.wait(1)
    assert door.knock(REQUEST) is not None


def test_a_request_costs_what_its_kind_does() -> None:
    door = Door()
    body = encode(["kad.store"])
    store = Request(1, 1_000, TRACE_NONE, len(body), body)
    assert door.knock(store) is not None
    assert door.knock(REQUEST) is None


@pytest.mark.parametrize("frame", OTHERS, ids=lambda frame: f"{type(frame).__name__}-{getattr(frame, 'answer', '')}")
def test_what_is_no_request_costs_no_budget(frame: Frame) -> None:
    door = Door()
    for _ in range(3 * POLICY.requests.burst):
        assert door.knock(frame) is not None
    assert sum(door.knock(REQUEST) is not None for _ in range(8)) == POLICY.requests.burst
    assert door.limiter.admission.tracked == 1


@pytest.mark.parametrize("frame", OTHERS, ids=lambda frame: f"{type(frame).__name__}-{getattr(frame, 'answer', '')}")
def test_answers_of_a_device_that_is_cut_off_still_come_in(frame: Frame) -> None:
    door = Door()
    door.cut_off()
    inbound = door.knock(frame)
    assert inbound is not None
    assert not inbound.probe
    assert door.knock(REQUEST) is None
    assert door.count("admission_rejected", "request_breaker_open") == 1


def test_frames_that_make_no_sense_are_counted_and_cut_their_device_off() -> None:
    door = Door()
    untagged = encode(Request(1, 1_000, TRACE_NONE, 3, b"abc"))
    for data in (FAULTY, untagged, encode(FindNode(bytes(32)))):
        assert door.knock(data) is None
    assert door.state(BAD) is BreakerState.OPEN
    assert door.state(GOOD) is BreakerState.CLOSED
    assert door.count("security_events", "malformed") == 2
    assert door.count("security_events", "unknown_tag") == 1
    assert door.count("breakers_opened") == 1
    (opened,) = (row for row in door.host.events if row.name == "breaker_opened")
    assert opened.fields == {"device": BAD.hex()}


def test_faults_that_other_actors_report_cut_a_device_off_once() -> None:
    door = Door()
    for _ in range(2 * POLICY.breaker.failures):
        door.tell(Fault(BAD, "bad_signature"))
    assert door.count("breakers_opened") == 1


def test_nobody_is_asked_about_requests_of_devices_in_good_standing() -> None:
    door = Door()
    door.cut_off(BAD)
    inbound = door.knock(REQUEST, GOOD)
    assert inbound is not None
    assert not inbound.probe


def test_a_device_on_probation_is_free_again_after_its_probes_were_carried_out() -> None:
    door = Door()
    door.cut_off()
    door.wait(30)
    assert door.state() is BreakerState.HALF_OPEN
    probes = [door.knock(REQUEST) for _ in range(4)]
    assert [probe is not None and probe.probe for probe in probes] == [True, True, False, False]
    assert door.knock(OTHERS[0]) is not None
    for _ in range(POLICY.breaker.probes):
        door.tell(Success(BAD))
    assert door.state() is BreakerState.CLOSED
    inbound = door.knock(REQUEST)
    assert inbound is not None
    assert not inbound.probe


def test_answers_take_no_probe_from_the_requests_of_a_device_on_probation() -> None:
    door = Door()
    door.cut_off()
    door.wait(30)
    for frame in OTHERS:
        assert door.knock(frame) is not None
    assert door.knock(REQUEST) is not None


def test_a_fault_on_probation_cuts_off_again() -> None:
    door = Door()
    door.cut_off()
    door.wait(30)
    assert door.knock(REQUEST) is not None
    door.tell(Fault(BAD, "invalid"))
    assert door.state() is BreakerState.OPEN
    assert door.count("breakers_opened") == 2


def test_a_probe_of_which_nobody_reports_gives_its_place_back() -> None:
    door = Door()
    door.cut_off()
    door.wait(30)
    assert [door.knock(REQUEST) is not None for _ in range(3)] == [True, True, False]
    door.wait(10)
    assert door.knock(REQUEST) is not None


def test_a_restored_limiter_remembers_whom_it_cut_off() -> None:
    door = Door()
    door.cut_off()
    setup = PeerSetup(IDENTITY, 0, admission=POLICY)
    restored = RateLimiter.from_bytes(door.limiter.to_bytes(), setup)
    assert restored.admission.breaker_state(BAD, door.host.now) is BreakerState.OPEN
    assert restored.to_bytes() == door.limiter.to_bytes()
