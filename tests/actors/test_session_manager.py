"""The session manager between a network, a limiter and RPC, on a real host."""

from collections.abc import Mapping
from typing import ClassVar, Self

import pytest

from actors.actor import Actor, handles
from actors.context import Context
from actors.host import Host
from actors.session_manager import SessionManager
from actors.setup import PeerSetup
from protocols.messages import Message, Packet
from protocols.noise.contexts import AeadContexts
from protocols.noise.interface import (
    CloseSession,
    Datagram,
    Dial,
    DialFailed,
    Opened,
    SendFrame,
    SessionDown,
    SessionUp,
)
from tests.pair import MS, SECOND
from tests.protocols.noise.peers import identity

A, B = 1, 2
COSTS = {"x25519": (0, 1_000_000), "ed25519_verify": (0, 2_000_000), "aead": (10, 1)}


class Door(Actor):
    """A limiter that admits everything, and keeps what was opened."""

    __slots__ = ("opened",)
    service: ClassVar[str] = "limiter"

    def __init__(self, setup: PeerSetup) -> None:
        self.opened: list[Opened] = []

    @handles(Packet)
    def packet(self, packet: Packet, ctx: Context) -> None:
        ctx.send("sessions", Datagram(packet.source, packet.data))

    @handles(Opened)
    def keep(self, opened: Opened, ctx: Context) -> None:
        self.opened.append(opened)

    def to_bytes(self) -> bytes:
        return b""

    @classmethod
    def from_bytes(cls, data: bytes, setup: PeerSetup) -> Self:
        return cls(setup)


class Caller(Actor):
    """An RPC that keeps the news."""

    __slots__ = ("news",)
    service: ClassVar[str] = "rpc"

    def __init__(self, setup: PeerSetup) -> None:
        self.news: list[Message] = []

    @handles(SessionUp, SessionDown, DialFailed)
    def keep(self, news: Message, ctx: Context) -> None:
        self.news.append(news)

    def to_bytes(self) -> bytes:
        return b""

    @classmethod
    def from_bytes(cls, data: bytes, setup: PeerSetup) -> Self:
        return cls(setup)


class Wire:
    """10 ms each way, or nothing at all."""

    def __init__(self) -> None:
        self.cut = False

    def transit(self, source: int, destination: int, size: int, sent_at: int, ordinal: int) -> tuple[int, ...]:
        return () if self.cut else (sent_at + 10 * MS,)


def empty_host(wire: Wire, costs: Mapping[str, tuple[int, int]] | None = None) -> Host:
    contexts = AeadContexts(16)

    def build(number: int, incarnation: int) -> tuple[PeerSetup, tuple[type[Actor], ...]]:
        setup = PeerSetup(identity=identity(number), endpoint=number, aead=contexts)
        return setup, (Door, SessionManager, Caller)

    return Host(build, seed=7, network=wire, costs=costs)


def host_of_two(costs: Mapping[str, tuple[int, int]] | None = None) -> tuple[Host, Wire]:
    wire = Wire()
    host = empty_host(wire, costs)
    host.up(A)
    host.up(B)
    return host, wire


def news(host: Host, number: int) -> list[Message]:
    caller = host.actor(number, "rpc")
    assert isinstance(caller, Caller)
    return caller.news


def opened(host: Host, number: int) -> list[Opened]:
    door = host.actor(number, "limiter")
    assert isinstance(door, Door)
    return door.opened


def manager(host: Host, number: int) -> SessionManager:
    actor = host.actor(number, "sessions")
    assert isinstance(actor, SessionManager)
    return actor


def met(costs: Mapping[str, tuple[int, int]] | None = None) -> tuple[Host, Wire, int]:
    host, wire = host_of_two(costs)
    host.tell(A, "sessions", Dial(identity(B).device_public, B))
    host.run(SECOND)
    (up,) = news(host, A)
    assert isinstance(up, SessionUp)
    return host, wire, up.session


def test_dial_is_answered_on_both_sides_and_frames_reach_the_limiter() -> None:
    host, _, session = met()
    host.tell(A, "sessions", SendFrame(session, b"frame"))
    host.run(2 * SECOND)
    (up,) = news(host, B)
    assert isinstance(up, SessionUp)
    assert opened(host, B) == [Opened(up.session, identity(A).device_public, A, b"frame")]
    assert host.counters["sessions_up", "initiator"] == host.counters["sessions_up", "responder"] == 1


def test_timer_of_a_dial_fires_and_the_dial_fails() -> None:
    host, wire = host_of_two()
    wire.cut = True
    host.tell(A, "sessions", Dial(identity(B).device_public, B))
    host.run(11 * SECOND)
    assert news(host, A) == [DialFailed(identity(B).device_public, B, "timeout")]
    assert host.packets_sent == 4


def test_timer_moves_forward_for_an_earlier_deadline_and_stays_one() -> None:
    host, wire, _ = met()
    host.run(100 * SECOND)
    wire.cut = True
    sent = host.packets_sent
    host.tell(A, "sessions", Dial(identity(3).device_public, B))
    host.run(111 * SECOND)
    assert news(host, A)[1:] == [DialFailed(identity(3).device_public, B, "timeout")]
    assert host.packets_sent - sent == 4
    assert len(host._peer(A).timers) == len(host._peer(B).timers) == 1


def test_closed_session_is_down_and_the_host_falls_silent() -> None:
    host, _, session = met()
    host.tell(A, "sessions", CloseSession(session, "enough"))
    assert news(host, A)[1:] == [SessionDown(session, identity(B).device_public, "enough")]
    host.run(1000 * SECOND)
    assert [type(each) for each in news(host, B)] == [SessionUp, SessionDown]
    assert host.next_time() > 1000 * SECOND
    assert len(manager(host, A).sessions) == len(manager(host, B).sessions) == 0


def test_forgery_is_a_security_event_of_no_device_and_repetition_is_none() -> None:
    host, _, _ = met()
    host.tell(B, "sessions", Datagram(A, b"\x09garbage"))
    assert host.counters["security_events", "unknown_datagram"] == 1
    assert host.events[-1].fields["device"] == ""
    host.tell(B, "sessions", Datagram(A, b"\x04" + bytes(40)))
    assert host.counters["stale_datagrams", "unknown_session"] == 1
    assert [key for key in host.counters if key[0] == "security_events"] == [("security_events", "unknown_datagram")]


def test_handshake_occupies_the_virtual_core_for_what_it_computes() -> None:
    host, _, _ = met(COSTS)
    (up_a,), (up_b,) = news(host, A), news(host, B)
    assert isinstance(up_a, SessionUp)
    assert isinstance(up_b, SessionUp)
    # Initiator: one exchange for INIT, three and a verification for RESPONSE. Responder: three, one and a verification.
    works = [(manager(host, n).sessions.exchanges, manager(host, n).sessions.verifications) for n in (A, B)]
    assert works == [(4, 1), (4, 1)]


def test_forged_handshakes_are_charged_too() -> None:
    host, wire = host_of_two(COSTS)
    wire.cut = True
    host.tell(A, "sessions", Dial(identity(B).device_public, B))
    before = host.now
    init = b"\x01" + b"\x00\x00\x00\x07" + bytes(16) + bytes(247)
    host.tell(B, "sessions", Datagram(A, init))
    assert host.counters["security_events", "low_order_point"] == 1
    assert host.now - before >= 3_000_000


@pytest.mark.parametrize("at_ms", [5, 15, 25, 35, 500])
def test_restored_host_continues_the_same(at_ms: int) -> None:
    def story(restore: bool) -> dict[int, bytes]:
        host, _ = host_of_two()
        host.tell(A, "sessions", Dial(identity(B).device_public, B))
        host.run(at_ms * MS)
        if restore:
            state = host.to_bytes()
            host = empty_host(Wire())
            host.restore(state)
        host.run(1000 * SECOND)
        return host.digests()

    assert story(True) == story(False)
