"""The RPC actor among the real actors of its peer: limiter, sessions, and two services that talk."""

from hashlib import sha512
from typing import ClassVar, Self

import pytest

from actors.actor import Actor, handles
from actors.context import Context
from actors.host import Host, SpanRow
from actors.rate_limiter import RateLimiter
from actors.rpc import RpcActor
from actors.session_manager import SessionManager
from actors.setup import PeerSetup
from protocols.admission import Success
from protocols.errors import LocalError
from protocols.identity import DeviceIdentity
from protocols.messages import Message, Uint64, encode
from protocols.noise.interface import SendFrame
from protocols.rpc.calls import MS, Abandon, Call, Completed, Failed, Inbound, Incoming, Refuse, Respond
from protocols.rpc.frames import Request, Response

ASKER, ECHO = 0, 1
DELAY_NS = 30 * MS
IDENTITIES = [DeviceIdentity.generate(sha512(b"peer %d" % number).digest(), b"test") for number in (ASKER, ECHO)]


class Question(Message, frozen=True, tag="test.question"):
    text: bytes


class Ask(Message, frozen=True, tag="ask"):
    """From the test to the asker."""

    token: Uint64
    body: bytes
    traced: bool = False


class Asker(Actor):
    """Asks the other peer and remembers what came of it."""

    __slots__ = ("results", "traces")
    service: ClassVar[str] = "asker"

    def __init__(self, setup: PeerSetup) -> None:
        self.results: list[Message] = []
        self.traces: list[bytes] = []

    @handles(Ask)
    def ask(self, ask: Ask, ctx: Context) -> None:
        trace = ctx.root_span("test").trace if ask.traced else ctx.trace
        with ctx.traced(trace):
            ctx.send("rpc", Call(ask.token, IDENTITIES[ECHO].device_public, ECHO, ask.body, 5_000 * MS))
        self.traces.append(trace)

    @handles(Abandon)
    def abandon(self, abandon: Abandon, ctx: Context) -> None:
        ctx.send("rpc", abandon)

    @handles(Completed, Failed)
    def result(self, result: Message, ctx: Context) -> None:
        self.results.append(result)
        self.traces.append(ctx.trace)

    def to_bytes(self) -> bytes:
        return b""

    @classmethod
    def from_bytes(cls, data: bytes, setup: PeerSetup) -> Self:
        return cls(setup)


class Echo(Actor):
    """Answers with the question, refuses what says so, and ignores what says nothing."""

    __slots__ = ("heard",)
    service: ClassVar[str] = "echo"

    def __init__(self, setup: PeerSetup) -> None:
        self.heard: list[Incoming] = []

    @handles(Incoming)
    def incoming(self, incoming: Incoming, ctx: Context) -> None:
        self.heard.append(incoming)
        if b"refuse" in incoming.body:
            ctx.reply(Refuse(incoming.call, "not_today", "says the echo"))
        elif b"ignore" not in incoming.body:
            ctx.reply(Respond(incoming.call, incoming.body))

    def to_bytes(self) -> bytes:
        return b""

    @classmethod
    def from_bytes(cls, data: bytes, setup: PeerSetup) -> Self:
        return cls(setup)


class Road:
    """A delay, and packets that get lost by their number."""

    def __init__(self) -> None:
        self.lost: set[int] = set()
        self.sizes: list[int] = []
        self.cut = False

    def transit(self, source: int, destination: int, size: int, sent_at: int, ordinal: int) -> tuple[int, ...]:
        self.sizes.append(size)
        lost = self.cut or len(self.sizes) - 1 in self.lost
        return () if lost else (sent_at + DELAY_NS,)


def build(number: int, incarnation: int) -> tuple[PeerSetup, list[type[Actor]]]:
    setup = PeerSetup(IDENTITIES[number], number, routes={"test": "echo"})
    return setup, [RateLimiter, SessionManager, RpcActor, Asker, Echo]


class World:
    def __init__(self) -> None:
        self.road = Road()
        self.host = Host(build, network=self.road)
        self.seen: list[tuple[int, Message]] = []
        self.host.observer = lambda time, peer, service, source, sequence, message: self.seen.append((peer, message))
        for number in (ASKER, ECHO):
            self.host.up(number)

    def ask(self, text: bytes, token: int = 1, traced: bool = False) -> None:
        self.host.tell(ASKER, "asker", Ask(token, encode(Question(text)), traced))

    def run(self, ms: int = 10_000) -> None:
        until = self.host.now + ms * MS
        self.host.run(until)
        self.host.now = until

    @property
    def asker(self) -> Asker:
        actor = self.host.actor(ASKER, "asker")
        assert isinstance(actor, Asker)
        return actor

    @property
    def echo(self) -> Echo:
        actor = self.host.actor(ECHO, "echo")
        assert isinstance(actor, Echo)
        return actor

    def spans(self) -> dict[str, SpanRow]:
        """RPC's spans; others trace too."""
        rows = {row.span.name: row for row in self.host.spans if row.span.name.startswith("rpc.")}
        assert set(rows) == {"rpc.call", "rpc.serve"}
        return rows

    def count(self, name: str, label: str = "") -> int:
        return self.host.counters.get((name, label), 0)


def test_call_crosses_two_peers_and_comes_back_to_the_service_that_asked() -> None:
    world = World()
    world.ask(b"hello", token=7)
    world.run()
    (answer,) = world.asker.results
    assert isinstance(answer, Completed)
    assert (answer.token, answer.device, answer.endpoint) == (7, IDENTITIES[ECHO].device_public, ECHO)
    assert answer.body == encode(Question(b"hello"))
    assert [one.device for one in world.echo.heard] == [IDENTITIES[ASKER].device_public]
    assert world.count("rpc_calls") == world.count("rpc_requests") == 1
    assert world.count("rpc_retransmissions") == 0
    assert sum(world.host.histograms["rpc_seconds"].values()) == 1
    assert world.count("security_events") == 0


def test_large_body_crosses_two_peers() -> None:
    world = World()
    world.ask(bytes(350_000))
    world.run()
    (answer,) = world.asker.results
    assert isinstance(answer, Completed)
    assert answer.body == encode(Question(bytes(350_000)))


def test_lost_packets_are_repeated_and_the_request_happens_once() -> None:
    world = World()
    world.ask(b"first")
    world.run()
    sent = len(world.road.sizes)
    world.road.lost = {sent, sent + 2}  # the request, and the answer to its repetition
    world.ask(b"second", token=2)
    world.run()
    assert [type(one) for one in world.asker.results] == [Completed, Completed]
    assert len(world.echo.heard) == 2
    assert world.count("rpc_retransmissions") == 2
    assert world.count("rpc_replays", "answered") == 1


def test_refusal_is_told_as_data_and_counted_under_a_name_of_ours() -> None:
    world = World()
    world.ask(b"refuse")
    world.run()
    (failed,) = world.asker.results
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.happened, failed.refused) == ("not_today", "no", True)
    assert world.count("rpc_failures", "refused") == 1
    assert world.count("rpc_failures", "not_today") == 0


def test_peer_that_fell_silent_is_dialled_anew() -> None:
    world = World()
    world.ask(b"hello")
    world.run()
    world.road.cut = True
    world.ask(b"anybody", token=2)
    world.run()
    failed = world.asker.results[-1]
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.happened) == ("timeout", "perhaps")
    assert world.count("sessions_down", "silent") == 1
    world.road.cut = False
    world.ask(b"again", token=3)
    world.run()
    assert isinstance(world.asker.results[-1], Completed)


def test_peer_that_cannot_be_dialled_was_asked_nothing() -> None:
    world = World()
    world.road.cut = True
    world.ask(b"hello")
    world.run(20_000)
    (failed,) = world.asker.results
    assert isinstance(failed, Failed)
    assert failed.happened == "no"
    assert not world.echo.heard


def test_abandoned_call_tells_nobody_anything() -> None:
    world = World()
    world.ask(b"ignore")
    world.run(1_000)
    world.host.tell(ASKER, "asker", Abandon(1))
    world.run()
    assert len(world.echo.heard) == 1
    assert not world.asker.results


def test_impossible_frame_is_its_sender_s_fault() -> None:
    world = World()
    world.ask(b"hello")
    world.run()
    inbound = next(one for peer, one in world.seen if peer == ASKER and isinstance(one, Inbound))
    lie = Response(999, 3, b"lie")
    world.host.tell(ASKER, "rpc", Inbound(inbound.session, inbound.device, inbound.endpoint, lie))
    assert world.count("security_events", "unsolicited") == 1
    assert "admission.fault" in [one.__struct_config__.tag for _, one in world.seen]
    assert len(world.asker.results) == 1


# -- tracing ------------------------------------------------------------------------------------------------


def test_sampled_trace_crosses_to_the_callee_and_back() -> None:
    world = World()
    world.ask(b"hello", traced=True)
    world.run()
    root, back = world.asker.traces
    assert back == root
    spans = world.spans()
    call, serve = spans["rpc.call"].span, spans["rpc.serve"].span
    assert call.parent_id == root[16:24]
    assert serve.parent_id == call.span_id
    assert call.trace_id == serve.trace_id == root[:16]
    assert spans["rpc.call"].attributes == spans["rpc.serve"].attributes == {"outcome": "ok"}


def test_tracing_changes_no_packet_size_and_no_time() -> None:
    def story(traced: bool) -> tuple[list[int], list[str], int]:
        world = World()
        world.road.lost = {5}
        for token, text in enumerate((b"hello", b"refuse", bytes(40_000))):
            world.ask(text, token=token, traced=traced)
        world.run()
        return world.road.sizes, [type(one).__name__ for _, one in world.seen], world.host.handled

    assert story(traced=True) == story(traced=False)


def test_spans_of_unanswered_requests_end() -> None:
    world = World()
    world.ask(b"ignore", traced=True)
    world.run()
    outcomes = {name: row.attributes for name, row in world.spans().items()}
    assert outcomes == {"rpc.call": {"outcome": "timeout"}, "rpc.serve": {"outcome": "unanswered"}}


def test_untraced_request_carries_zeros() -> None:
    world = World()
    world.ask(b"hello")
    world.run()
    (frame,) = [one.frame for _, one in world.seen if isinstance(one, Inbound) and isinstance(one.frame, Request)]
    assert frame.trace == bytes(25)


# -- state --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pause_ms", [1, 40, 70, 100, 135, 1_100])
def test_host_that_went_to_bytes_goes_on_exactly(pause_ms: int) -> None:
    def story(reborn: bool) -> dict[int, bytes]:
        world = World()
        world.road.lost = {4}
        world.ask(bytes(50_000), token=1, traced=True)
        world.ask(b"ignore", token=2)
        world.run(pause_ms)
        if reborn:
            data = world.host.to_bytes()
            world.host = Host(build, network=world.road)
            world.host.restore(data)
            world.host.run(0)
        world.run(20_000)
        return world.host.digests()

    assert story(reborn=True) == story(reborn=False)


def test_state_of_another_version_is_refused() -> None:
    setup, _ = build(ASKER, 1)
    actor = RpcActor(setup)
    data = actor.to_bytes()
    assert RpcActor.from_bytes(data, setup).to_bytes() == data
    with pytest.raises(LocalError, match="version"):
        RpcActor.from_bytes(bytes([data[0], 99]) + data[2:], setup)


def test_frames_reach_the_sessions_as_bytes() -> None:
    world = World()
    world.ask(b"hello")
    world.run()
    assert sum(isinstance(one, SendFrame) for _, one in world.seen) == 2


# -- probation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reborn", [False, True])
@pytest.mark.parametrize("probe", [False, True])
def test_only_of_probes_the_limiter_hears_that_they_were_carried_out(probe: bool, reborn: bool) -> None:
    world = World()
    world.ask(b"hello")
    world.run()
    inbound = next(one for peer, one in world.seen if peer == ECHO and isinstance(one, Inbound))
    body = encode(Question(b"ignore, for now"))
    request = Request(7, 5_000, bytes(25), len(body), body)
    world.host.tell(ECHO, "rpc", Inbound(inbound.session, inbound.device, inbound.endpoint, request, probe))
    call = world.echo.heard[-1].call
    if reborn:
        data = world.host.to_bytes()
        observer, world.host = world.host.observer, Host(build, network=world.road)
        world.host.observer = observer
        world.host.restore(data)
    world.host.tell(ECHO, "rpc", Respond(call, b"at last"))
    assert [one for _, one in world.seen if isinstance(one, Success)] == [Success(inbound.device)] * probe


def test_probe_that_is_refused_or_too_late_is_no_success() -> None:
    world = World()
    world.ask(b"hello")
    world.run()
    inbound = next(one for peer, one in world.seen if peer == ECHO and isinstance(one, Inbound))
    for identifier, text in ((7, b"refuse"), (8, b"ignore")):
        body = encode(Question(text))
        request = Request(identifier, 5_000, bytes(25), len(body), body)
        world.host.tell(ECHO, "rpc", Inbound(inbound.session, inbound.device, inbound.endpoint, request, True))
    world.run()
    world.host.tell(ECHO, "rpc", Respond(world.echo.heard[-1].call, b"too late"))
    assert not any(isinstance(one, Success) for _, one in world.seen)
