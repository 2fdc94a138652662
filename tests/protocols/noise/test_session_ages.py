"""How sessions end, are renewed, and make room for others; and what they cost while they live."""

import gc
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.noise.contexts import AeadContexts
from protocols.noise.datagrams import INIT
from protocols.noise.interface import DialFailed, SessionConfig, SessionDown, SessionUp
from protocols.noise.session import COUNTER_LIMIT
from protocols.noise.sessions import Sessions
from tests.pair import LATENCY, MS, SECOND, Entropy, Flight, Pair, perfect
from tests.protocols.noise.peers import A, B, Peer, can_talk, identity, met, peer, refused, say, two

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


def keep_talking(pair: Pair, duration: int) -> None:
    """Both say something every minute, as long as they have a session."""
    first, second = pair.machines[A], pair.machines[B]
    until = pair.now + duration
    while pair.now < until:
        for endpoint, ours, theirs in ((A, first, second), (B, second, first)):
            if ours.sessions.session_with(theirs.device) is not None:
                say(pair, endpoint, theirs.device, b"still here")
        pair.run(min(MINUTE, until - pair.now))


def test_silent_session_ends_on_both_sides_and_leaves_nothing() -> None:
    pair, first, second = met()
    pair.run(11 * MINUTE)
    for endpoint, ours, theirs in ((A, first, second), (B, second, first)):
        (down,) = pair.of(endpoint, SessionDown)
        assert (down.device, down.reason) == (theirs.device, "idle")
        assert (len(ours.sessions), ours.sessions.deadline(), len(ours.contexts)) == (0, None, 0)


def test_sending_to_a_peer_that_is_gone_does_not_keep_its_session_alive() -> None:
    pair, _, _ = met()
    pair.link = lambda flight: []
    keep_talking(pair, 11 * MINUTE)
    assert [down.reason for down in pair.of(A, SessionDown)] == ["idle"]


def test_session_in_use_stays() -> None:
    pair, first, _ = met()
    keep_talking(pair, 30 * MINUTE)
    assert pair.of(A, SessionDown) == pair.of(B, SessionDown) == []
    assert len(first.sessions) == 1


def test_session_of_an_hour_is_renewed_by_its_initiator_and_nothing_is_lost() -> None:
    pair, first, second = met()
    before = first.sessions.session_with(second.device)
    keep_talking(pair, HOUR + 10 * MINUTE)
    after = first.sessions.session_with(second.device)
    assert after != before
    assert [flight.source for flight in pair.sent if flight.data[0] == INIT] == [A, A]
    assert [down.reason for down in pair.of(A, SessionDown) + pair.of(B, SessionDown)] == ["idle", "idle"]
    assert len(pair.of(A, SessionUp)) == len(pair.of(B, SessionUp)) == 2
    assert pair.errors == {A: [], B: []}
    assert can_talk(pair)


def test_older_session_is_readable_until_it_idles_out() -> None:
    pair, first, second = met()
    old = first.sessions.session_with(second.device) or 0
    pair.tell(A, [first.sessions._start_dial(second.device, B, pair.now, first.entropy, renewal=True)])
    pair.run(SECOND)
    assert first.sessions.session_with(second.device) != old
    (transmit,) = first.sessions.send(old, b"on the old one", pair.now)
    (opened,) = second.receive(A, transmit.data, pair.now)  # type: ignore[attr-defined]
    assert opened.data == b"on the old one"  # type: ignore[attr-defined]


def test_session_that_cannot_be_renewed_ends_after_two_hours() -> None:
    pair, _, _ = met()
    pair.link = lambda flight: [] if flight.data[0] == INIT else perfect(flight)
    keep_talking(pair, 2 * HOUR + MINUTE)
    assert [down.reason for down in pair.of(A, SessionDown)] == ["expired"]
    assert pair.of(A, DialFailed) == [], "nobody had asked"


def test_who_dials_while_a_renewal_is_under_way_hears_that_it_failed() -> None:
    pair, first, second = met()
    pair.link = lambda flight: []
    pair.tell(A, [first.sessions._start_dial(second.device, B, pair.now, first.entropy, renewal=True)])
    pair.tell(A, first.sessions.close(first.sessions.session_with(second.device) or 0, "test"))
    pair.tell(A, first.dial(second, B, pair.now))
    pair.run(MINUTE)
    assert pair.of(A, DialFailed) == [DialFailed(second.device, B, "timeout")]


def test_session_refuses_after_its_time_even_if_nobody_told_it_the_time() -> None:
    pair, first, second = met()
    session = first.sessions.session_with(second.device) or 0
    (transmit,) = first.sessions.send(session, b"late", pair.now)
    late = pair.now + 2 * HOUR
    assert refused(second, A, transmit.data, late) == "expired"  # type: ignore[attr-defined]
    assert first.sessions.send(session, b"late", late) == [SessionDown(session, second.device, "expired")]


def test_session_without_counters_left_ends() -> None:
    pair, first, second = met()
    session = first.sessions.session_with(second.device) or 0
    first.sessions._table.by_index[session].send_counter = COUNTER_LIMIT
    assert first.sessions.send(session, b"one too many", pair.now) == [SessionDown(session, second.device, "exhausted")]


def test_third_session_of_a_device_ends_its_first() -> None:
    pair, first, second = met()
    for _ in range(3):
        # B forgets, as after a crash, and is dialled again.
        pair.tell(A, first.sessions.close(first.sessions.session_with(second.device) or 0, "test"))
        pair.tell(A, first.dial(second, B, pair.now))
        pair.run(SECOND)
    ups = [up.session for up in pair.of(B, SessionUp)]
    assert pair.of(B, SessionDown) == [SessionDown(session, first.device, "superseded") for session in ups[:2]]
    assert second.sessions.session_with(first.device) == ups[-1]
    assert len(second.sessions) == 2


def hub_with_guests(count: int, **config: int) -> tuple[Pair, list[Peer]]:
    hub, guests = peer(1, **config), [Peer(identity(100 + n), Entropy(f"guest {n}")) for n in range(count)]
    pair = Pair({A: hub, **{100 + n: guest for n, guest in enumerate(guests)}})
    for n, guest in enumerate(guests):
        pair.tell(100 + n, guest.dial(hub, A, pair.now))
        pair.run(SECOND)
    return pair, guests


def test_full_table_ends_the_session_that_was_silent_longest() -> None:
    pair, guests = hub_with_guests(4, sessions_max=4)
    say(pair, 100, identity(1).device_public, b"guest 0 is still here")
    pair.run(SECOND)
    newcomer = Peer(identity(200), Entropy("newcomer"))
    pair.machines[200] = newcomer
    pair.events[200], pair.errors[200] = [], []
    pair.tell(200, newcomer.dial(pair.machines[A], A, pair.now))
    pair.run(SECOND)
    (down,) = pair.of(A, SessionDown)
    assert (down.device, down.reason) == (guests[1].device, "evicted")
    assert len(pair.machines[A].sessions) == 4


def test_crowd_of_strangers_does_not_end_a_session_that_we_dialled() -> None:
    pair, first, _ = met(sessions_max=3)
    for number in range(10):
        stranger = Peer(identity(300 + number), Entropy(f"stranger {number}"))
        pair.machines[300 + number] = stranger
        pair.events[300 + number], pair.errors[300 + number] = [], []
        pair.tell(300 + number, stranger.dial(first, A, pair.now))
        pair.run(SECOND)
    assert {down.reason for down in pair.of(A, SessionDown)} == {"evicted"}
    assert len(first.sessions) == 3
    assert can_talk(pair)


def test_sign_of_life_is_handed_to_nobody_and_keeps_a_session() -> None:
    pair, _, second = met()
    for _ in range(5):
        say(pair, A, second.device, b"")
        pair.run(MINUTE)
    assert len(second.sessions) == 1
    assert len(pair.events[B]) == 1


def test_memory_of_answered_handshakes_is_bounded() -> None:
    pair, _ = hub_with_guests(9, sessions_max=2, half_open_max=4)
    assert len(pair.machines[A].sessions._answered) == 6


def test_session_costs_less_than_a_kilobyte() -> None:
    count = 300
    hub_with_guests(1)
    config = SessionConfig(sessions_max=2 * count, idle_timeout_ms=10**6, rekey_after_ms=2 * 10**6)
    hub = Peer(identity(1), Entropy("hub"), config, AeadContexts(4))
    guests = [Peer(identity(1000 + n), Entropy(f"guest {n}"), contexts=AeadContexts(2)) for n in range(count)]

    def meet(guest: Peer, endpoint: int, now: int) -> None:
        (init,) = guest.dial(hub, 0, now)
        (response,) = hub.receive(endpoint, init.data, now)  # type: ignore[attr-defined]
        final = guest.receive(0, response.data, now)[0]  # type: ignore[attr-defined]
        hub.receive(endpoint, final.data, now)  # type: ignore[attr-defined]
        session = guest.sessions.session_with(hub.device) or 0
        guest.sessions._table.by_index[session].send_counter = 1000  # so that the window is full size
        for _ in range(3):
            (data,) = guest.sessions.send(session, b"x", now)
            hub.receive(endpoint, data.data, now)  # type: ignore[attr-defined]

    meet(guests[0], 2**40, 0)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number, guest in enumerate(guests[1:], 1):
        meet(guest, 2**40 + number, number * 100 * MS)
        del guest.sessions
    hub.expire(count * 100 * MS)
    guests.clear()
    gc.collect()
    each = (tracemalloc.get_traced_memory()[0] - before) // (count - 1)
    tracemalloc.stop()
    assert len(hub.sessions) == count
    assert each <= 1000, f"{each} bytes"


# -- to bytes and back ------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 1, 1, 3]), max_size=12), st.booleans())
def test_restored_at_every_step_everything_continues_the_same(fates: list[int], both: bool) -> None:
    def link(flight: Flight) -> list[int]:
        fate = fates[flight.number] if flight.number < len(fates) else 1
        return [fate * LATENCY] if fate else []

    def story(restore: bool) -> Pair:
        pair, first, second = two(link)

        def exchange(pair: Pair) -> None:
            for endpoint, machine in pair.machines.items():
                pair.machines[endpoint] = machine.restored()

        pair.before = exchange if restore else None
        pair.tell(A, first.dial(second, B, 0))
        if both:
            pair.tell(B, pair.machines[B].dial(first, A, 0))
        pair.run(20 * SECOND)
        can_talk(pair)
        pair.run(MINUTE)
        return pair

    plain, restored = story(False), story(True)
    assert restored.sent == plain.sent
    assert restored.events == plain.events
    assert restored.machines[A].sessions.to_bytes() == plain.machines[A].sessions.to_bytes()
    assert restored.machines[B].sessions.to_bytes() == plain.machines[B].sessions.to_bytes()


def test_bytes_of_something_else_are_refused() -> None:
    _, first, _ = met()
    good = first.sessions.to_bytes()
    for bad in (b"", b"\x00", good[:-1], good + b"\x00", good[:1] + b"\x02" + good[2:]):
        with pytest.raises(LocalError):
            Sessions.from_bytes(bad, first.identity, first.config, AeadContexts(1))


def test_index_is_never_zero_and_never_taken() -> None:
    config = SessionConfig()
    stuck = Sessions(identity(1), config, AeadContexts(1))
    indexes = set()
    for endpoint in range(10):
        (transmit,) = stuck.dial(identity(2).device_public, endpoint, 0, bytes)
        indexes.add(transmit.data[1:5])  # type: ignore[attr-defined]
    assert indexes == {number.to_bytes(4, "big") for number in range(1, 11)}
