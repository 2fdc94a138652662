"""The host: order, timers, incarnations, bounds, virtual CPU time, state."""

from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.actor import Actor, handles
from actors.context import TRACE_NONE, Context
from actors.host import BACKLOG_SIZE_MAX, NEVER, HandlerError, Host
from protocols.errors import LocalError, ProtocolError
from protocols.messages import Message, Packet
from tests.actors.worlds import MS, Gossip, Poke, Recorder, Steady, recorder, recorders


def test_packet_arrives_after_its_latency() -> None:
    host = recorders(2)
    host.run(1)
    context_of(host, 0).transmit(1, b"hello")
    host.run(10 * MS)
    assert recorder(host, 1).seen == [(0, "start")]
    host.run(10 * MS + 1)
    assert recorder(host, 1).seen[1:] == [(10 * MS, b"hello")]


def test_equal_times_run_by_destination_then_source_then_sequence() -> None:
    order: list[tuple[int, bytes]] = []

    def note(actor: Recorder, message: Message, ctx: Context) -> None:
        assert isinstance(message, Packet)
        order.append((ctx._peer.number, message.data))

    host = recorders(4, note)
    host.run(1)
    for source, destination, data in (
        (3, 1, b"d"),
        (2, 0, b"b"),
        (3, 0, b"c"),
        (2, 1, b"x"),
        (1, 0, b"a"),
        (1, 0, b"A"),
    ):
        context_of(host, source).transmit(destination, data)
    host.run(NEVER)
    assert order == [(0, b"a"), (0, b"A"), (0, b"b"), (0, b"c"), (1, b"x"), (1, b"d")]


def test_cancelled_timer_never_fires() -> None:
    host = recorders(1)
    host.run(1)
    context = context_of(host, 0)
    kept, cancelled = context.after(5, Poke(1)), context.after(5, Poke(2))
    context.cancel(cancelled)
    context.cancel(12_345)
    host.run(NEVER)
    context.cancel(kept)
    assert [what for _, what in recorder(host, 0).seen[1:]] == [Poke(1)]


def test_timers_and_packets_of_a_dead_incarnation_die_with_it() -> None:
    host = recorders(1)
    host.schedule(1, 0, 5 * MS)
    host.schedule(1, 8 * MS)
    host.run(1)
    context_of(host, 1).after(20 * MS, Poke(1))
    context_of(host, 0).transmit(1, b"for the first life")
    host.run(9 * MS)
    context_of(host, 0).transmit(1, b"for the second")
    host.run(NEVER)
    assert [what for _, what in recorder(host, 1).seen] == ["start", b"for the second"]
    assert host.counters["packets_dropped", "peer_down"] == 1


def test_what_is_sent_to_a_peer_that_never_comes_up_is_dropped() -> None:
    host = recorders(1)
    host.add(3)
    host.run(1)
    context_of(host, 0).transmit(3, b"hello")
    context_of(host, 0).transmit(4, b"hello")
    host.run(NEVER)
    assert host.counters["packets_dropped", "peer_down"] == 1
    assert host.counters["packets_dropped", "no_such_endpoint"] == 1
    assert list(host.digests()) == [0]


def test_a_new_incarnation_draws_nothing_twice() -> None:
    host = recorders(0)
    host.schedule(0, 0, 10)
    host.schedule(0, 20)
    host.run(1)
    first = (context_of(host, 0).entropy(32), context_of(host, 0).rng.below(2**64))
    host.run(NEVER)
    second = (context_of(host, 0).entropy(32), context_of(host, 0).rng.below(2**64))
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_protocol_error_is_a_counted_security_event_and_the_host_goes_on() -> None:
    def refuse(actor: Recorder, message: Message, ctx: Context) -> None:
        raise ProtocolError("bad_bytes", "0xff at offset 3")

    host = recorders(2, refuse)
    host.run(1)
    context_of(host, 0).transmit(1, b"x")
    context_of(host, 0).transmit(1, b"y")
    host.run(NEVER)
    assert host.counters["security_events", "bad_bytes"] == 2
    assert [row.fields["reason"] for row in host.events] == ["bad_bytes", "bad_bytes"]


def test_a_bug_stops_the_run_and_names_peer_event_and_seed() -> None:
    def fail(actor: Recorder, message: Message, ctx: Context) -> None:
        raise KeyError("missing")

    host = recorders(2, fail, seed=77)
    host.run(1)
    context_of(host, 0).transmit(1, b"x")
    with pytest.raises(HandlerError, match=r"Recorder of peer 1 .*Packet.* seed 77.*KeyError"):
        host.run(NEVER)


def test_in_real_time_a_bug_stops_its_peer_and_not_the_host() -> None:
    def fail(actor: Recorder, message: Message, ctx: Context) -> None:
        if isinstance(message, Packet) and message.data == b"poison":
            ctx.send("limiter", Poke())
            raise KeyError("missing")

    host = recorders(3, fail, real_time=True, network=Steady(1))
    host.run(1)
    context_of(host, 0).transmit(1, b"poison")
    context_of(host, 0).transmit(1, b"nobody is there any more")
    context_of(host, 0).transmit(2, b"fine")
    host.run(3)
    assert host.actor(1, "limiter") is None
    assert recorder(host, 2).seen[1][1] == b"fine"
    assert host.counters["peers_quarantined", ""] == host.counters["packets_dropped", "peer_down"] == 1
    assert "KeyError" in str(host.events[0].fields["detail"])


def test_a_state_of_another_version_or_none_at_all_is_refused() -> None:
    host = recorders(0)
    for data in (b"", b"\x01", recorders(1).to_bytes()[:-1]):
        with pytest.raises(LocalError, match="no state of a host"):
            host.restore(data)


def test_unknown_endpoint_is_a_counted_drop() -> None:
    host = recorders(1)
    host.run(1)
    context_of(host, 0).transmit(99, b"x")
    assert host.counters["packets_dropped", "no_such_endpoint"] == 1


def test_mailboxes_are_bounded_and_what_is_shed_is_counted() -> None:
    def flood(actor: Recorder, message: Message, ctx: Context) -> None:
        if isinstance(message, Packet):
            for number in range(50):
                ctx.send("limiter", Poke(number))

    host = recorders(2, flood, mailbox_size_max=20)
    host.run(1)
    context_of(host, 0).transmit(1, b"x")
    host.run(NEVER)
    assert [what for _, what in recorder(host, 1).seen[2:]] == [Poke(number) for number in range(20)]
    assert host.counters["mailbox_shed", "limiter"] == 30


def test_message_for_a_service_that_does_not_exist_is_a_bug() -> None:
    host = recorders(2, lambda actor, message, ctx: ctx.send("nowhere", Poke()))
    host.run(1)
    context_of(host, 0).transmit(1, b"x")
    with pytest.raises(HandlerError, match="no actor 'nowhere'"):
        host.run(NEVER)


class Asker(Actor):
    """Asks the recorder's neighbour, which replies."""

    service: ClassVar[str] = "asker"

    def __init__(self, setup: Any) -> None:
        self.answers: list[Message] = []

    @handles(Poke)
    def poke(self, poke: Poke, ctx: Context) -> None:
        if ctx.sender:
            self.answers.append(poke)
        else:
            ctx.send("limiter", poke)


def test_reply_goes_to_whoever_sent_the_message() -> None:
    def answer(actor: Recorder, message: Message, ctx: Context) -> None:
        ctx.reply(Poke(42))

    host = Host(lambda peer, incarnation: (answer, [Recorder, Asker]))
    host.schedule(0, 0)
    host.run(1)
    host.tell(0, "asker", Poke(1))
    asker = host.actor(0, "asker")
    assert isinstance(asker, Asker)
    assert asker.answers == [Poke(42)]


# -- virtual CPU time -------------------------------------------------------------------------------------


def test_what_a_handler_sends_leaves_when_the_core_is_done() -> None:
    def work(actor: Recorder, message: Message, ctx: Context) -> None:
        if isinstance(message, Packet) and message.data == b"work":
            ctx.transmit(0, b"before")
            ctx.charge("hash", 5)
            ctx.after(MS, Poke())

    host = recorders(2, work, costs={"hash": (2 * MS, MS)})
    host.run(1)
    context_of(host, 0).transmit(1, b"work")
    host._settle(host._peer(0))
    host.run(NEVER)
    assert recorder(host, 0).seen[1:] == [(10 * MS + 7 * MS + 10 * MS, b"before")]
    assert recorder(host, 1).seen[1:] == [(10 * MS, b"work"), (10 * MS + 7 * MS + MS, Poke())]


def test_events_wait_for_a_busy_core_in_the_order_of_arrival() -> None:
    def work(actor: Recorder, message: Message, ctx: Context) -> None:
        ctx.charge("hash", 3)

    host = recorders(4, work, costs={"hash": (0, MS)})
    host.run(1)
    for source, data in ((1, b"a"), (2, b"b"), (3, b"c")):
        context_of(host, source).transmit(0, data)
        host._settle(host._peer(source))
    host.run(NEVER)
    assert recorder(host, 0).seen[1:] == [(10 * MS, b"a"), (13 * MS, b"b"), (16 * MS, b"c")]


def test_a_crash_forgets_what_waits_for_the_core() -> None:
    host = recorders(1, lambda actor, message, ctx: ctx.charge("hash", 3), costs={"hash": (0, MS)})
    host.schedule(1, 0, 11 * MS)
    host.schedule(1, 12 * MS)
    host.run(1)
    for _ in range(5):
        context_of(host, 0).transmit(1, b"x")
    host._settle(host._peer(0))
    host.run(NEVER)
    assert recorder(host, 1).seen == [(12 * MS, "start")]


def test_the_backlog_of_a_busy_core_is_bounded() -> None:
    host = recorders(2, lambda actor, message, ctx: ctx.charge("hash", 1), costs={"hash": (0, 1000 * MS)})
    host.run(1)
    for _ in range(BACKLOG_SIZE_MAX + 10):
        context_of(host, 0).transmit(1, b"x")
    host._settle(host._peer(0))
    host.run(20 * MS)
    assert host.counters["packets_dropped", "backlog_full"] == 9


# -- the digest, and state --------------------------------------------------------------------------------


def gossip(peers: int, seed: int, costs: Any = None) -> Host:
    host = Host(lambda peer, incarnation: (peers, [Gossip]), seed=seed, network=Steady(3 * MS), costs=costs)
    for peer in range(peers):
        host.schedule(peer, peer * 1000, 150 * MS if peer % 5 == 4 else None)
        if peer % 5 == 4:
            host.schedule(peer, 170 * MS)
    return host


@pytest.mark.parametrize("costs", [None, {"hash": (0, 2_000)}])
def test_windows_do_not_show_in_the_digest(costs: Any) -> None:
    whole, pieces = gossip(20, 1, costs), gossip(20, 1, costs)
    whole.run(300 * MS)
    for until in range(0, 300 * MS + 1, 7 * MS):
        pieces.run(until)
    pieces.run(300 * MS)
    assert whole.digests() == pieces.digests()
    assert whole.handled == pieces.handled > 1000


def test_another_seed_gives_another_digest() -> None:
    first, second = gossip(5, 1), gossip(5, 2)
    first.run(100 * MS)
    second.run(100 * MS)
    assert first.digests() != second.digests()


@pytest.mark.parametrize("costs", [None, {"hash": (0, 2_000)}])
def test_a_host_restored_at_every_window_goes_on_as_if_nothing_had_been(costs: Any) -> None:
    through, host = gossip(10, 3, costs), gossip(10, 3, costs)
    for until in range(0, 300 * MS, 10 * MS):
        through.run(until)
        host.run(until)
        restored = Host(host._build, seed=3, network=Steady(3 * MS), costs=costs)
        restored.restore(host.to_bytes())
        assert restored.to_bytes() == host.to_bytes()
        host = restored
    assert host.digests() == through.digests()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**32))
def test_hosts_in_step_handle_what_one_host_handles(peers: int, seed: int) -> None:
    one = gossip(peers, seed)
    one.run(200 * MS)
    homes = [(seed >> peer) & 1 for peer in range(peers)]
    two = []
    for number in range(2):
        host = gossip(peers, seed)
        halves = Host(host._build, seed=seed, network=Steady(3 * MS), number=number, route=lambda peer, _: homes[peer])
        for peer in range(peers):
            if homes[peer] == number:
                halves.schedule(peer, peer * 1000, 150 * MS if peer % 5 == 4 else None)
                if peer % 5 == 4:
                    halves.schedule(peer, 170 * MS)
        two.append(halves)
    while (earliest := min(host.next_time() for host in two)) < 200 * MS:
        for host in two:
            host.run(min(earliest + 3 * MS, 200 * MS))
        for number, host in enumerate(two):
            two[1 - number].accept(host.take_outbox(1 - number))
    assert one.digests() == two[0].digests() | two[1].digests()


# -- telemetry --------------------------------------------------------------------------------------------


def test_an_unsampled_span_costs_nothing_and_is_none() -> None:
    host = recorders(1)
    host.run(1)
    context = context_of(host, 0)
    assert context.trace == TRACE_NONE
    assert context.span("nothing") is None
    context.finish(None, outcome="whatever")
    assert host.spans == []


def test_spans_nest_through_messages_and_packets() -> None:
    def follow(actor: Recorder, message: Message, ctx: Context) -> None:
        ctx.finish(ctx.span("handled"), kind=type(message).__name__)

    host = recorders(2, follow)
    host.run(1)
    context = context_of(host, 0)
    root = context.root_span("root")
    with context.traced(root.trace):
        context.transmit(1, b"x")
    host.run(NEVER)
    context.finish(root)
    (child, parent) = host.spans
    assert child.span.trace_id == parent.span.trace_id
    assert child.span.parent_id == parent.span.span_id
    assert (child.peer, parent.peer) == (1, 0)
    assert child.span.start == 10 * MS


def test_two_handlers_for_one_message_are_refused() -> None:
    with pytest.raises(LocalError, match="twice"):

        class Confused(Actor):
            @handles(Poke)
            def one(self, poke: Poke, ctx: Context) -> None: ...

            @handles(Poke)
            def two(self, poke: Poke, ctx: Context) -> None: ...


def context_of(host: Host, peer: int) -> Context:
    """The context of a peer's recorder, so that a test can act for it."""
    host.trace = TRACE_NONE
    return host._peer(peer).contexts["limiter"]
