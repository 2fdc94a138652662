"""From a dial to two sessions, whatever the network does."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.noise.datagrams import (
    DATA,
    FINAL,
    FINAL_SIZE,
    INIT,
    INIT_SIZE,
    PLAINTEXT_SIZE_MAX,
    RESPONSE,
    RESPONSE_SIZE,
    RESPONSES_MAX,
    StaleDatagramError,
)
from protocols.noise.interface import DialFailed, SessionConfig, SessionDown, SessionUp
from protocols.noise.sessions import EARLY_DATA_MAX, EARLY_DATA_SIZE_MAX
from tests.pair import LATENCY, SECOND, Entropy, Flight, Pair, perfect
from tests.protocols.noise.peers import A, B, Peer, can_talk, heard, identity, met, peer, refused, say, two

TIMEOUT = 10 * SECOND


def kinds(pair: Pair) -> list[int]:
    return [flight.data[0] for flight in pair.sent]


def test_dial_gives_both_ends_a_session_bound_to_the_same_hash() -> None:
    pair, first, second = met()
    (up_a,), (up_b,) = pair.events[A], pair.events[B]
    binding = first.sessions.channel_binding(up_a.session)
    assert up_a == SessionUp(up_a.session, second.device, B, True, binding)
    assert up_b == SessionUp(up_b.session, first.device, A, False, binding)
    assert binding == second.sessions.channel_binding(up_b.session)
    assert kinds(pair) == [INIT, RESPONSE, FINAL, DATA]
    assert can_talk(pair)


def test_two_handshakes_have_different_bindings() -> None:
    pair, first, second = met()
    before = first.sessions.channel_binding(first.sessions.session_with(second.device) or 0)
    pair.tell(A, first.sessions.close(first.sessions.session_with(second.device) or 0, "test"))
    pair.tell(A, first.dial(second, B, pair.now))
    pair.run(SECOND)
    assert first.sessions.channel_binding(first.sessions.session_with(second.device) or 0) != before


def test_what_one_init_may_cause_is_no_amplification() -> None:
    assert RESPONSES_MAX * RESPONSE_SIZE <= 3 * INIT_SIZE
    assert max(INIT_SIZE, RESPONSE_SIZE, FINAL_SIZE) <= 2048
    pair, first, second = two(lambda flight: [LATENCY] if flight.source == A and flight.number == 0 else [])
    pair.tell(A, first.dial(second, B, 0))
    pair.run()
    assert sum(len(flight.data) for flight in pair.sent if flight.source == B) <= 3 * INIT_SIZE


def test_first_message_alone_changes_nothing_that_lasts() -> None:
    pair, first, second = two(lambda flight: [LATENCY] if flight.source == A else [])
    pair.tell(A, first.dial(second, B, 0))
    pair.run(5 * SECOND)
    assert (len(second.sessions), second.sessions.half_open) == (0, 1)
    pair.run(60 * SECOND)
    assert (len(second.sessions), second.sessions.half_open) == (0, 0)
    assert second.sessions.deadline() is None
    assert pair.events[B] == []


def test_dial_of_nobody_fails_in_time_and_leaves_nothing() -> None:
    pair, first, second = two(lambda flight: [])
    pair.tell(A, first.dial(second, B, 0))
    pair.run(TIMEOUT - 1)
    assert pair.events[A] == []
    assert [flight.sent_at // SECOND for flight in pair.sent] == [0, 1, 3, 7]
    assert len({flight.data for flight in pair.sent}) == 1
    pair.run(1)
    assert pair.events[A] == [DialFailed(second.device, B, "timeout")]
    assert (first.sessions.dialling, first.sessions.deadline()) == (0, None)


@pytest.mark.parametrize("lost", range(4))
def test_each_datagram_may_be_lost_once(lost: int) -> None:
    pair, first, second = two(lambda flight: [] if flight.number == lost else [LATENCY])
    pair.tell(A, first.dial(second, B, 0))
    pair.run(TIMEOUT)
    assert can_talk(pair)
    assert len(pair.of(A, SessionUp)) == len(pair.of(B, SessionUp)) == 1


@pytest.mark.parametrize("kind", [INIT, RESPONSE, FINAL])
def test_repetition_is_answered_with_the_same_bytes(kind: int) -> None:
    pair, first, second = two(lambda flight: [LATENCY, 2 * LATENCY] if flight.data[0] == kind else [LATENCY])
    pair.tell(A, first.dial(second, B, 0))
    pair.run(SECOND)
    for each in (INIT, RESPONSE, FINAL):
        assert len({flight.data for flight in pair.sent if flight.data[0] == each}) == 1
    assert can_talk(pair)
    assert len(pair.of(A, SessionUp)) == len(pair.of(B, SessionUp)) == 1


def test_replayed_second_message_is_answered_until_confirmed_and_then_refused() -> None:
    pair, first, second = two(lambda flight: [] if flight.data[0] == DATA else [LATENCY])
    pair.tell(A, first.dial(second, B, 0))
    pair.run(SECOND // 2)
    response = next(flight.data for flight in pair.sent if flight.data[0] == RESPONSE)
    final = next(flight.data for flight in pair.sent if flight.data[0] == FINAL)
    (again,) = first.receive(B, response, pair.now)
    assert again.data == final  # type: ignore[attr-defined]
    assert len(first.sessions) == 1
    assert can_talk(pair)
    assert refused(first, B, response, pair.now) == "unknown_handshake"


def test_answer_to_a_repetition_that_differs_is_no_repetition() -> None:
    # B forgot, and answers INIT anew while A still waits for a confirmation.
    pair, first, _ = two(lambda flight: [] if flight.data[0] == DATA else [LATENCY])
    pair.tell(A, first.dial(peer(2), B, 0))
    pair.run(SECOND // 2)
    (answer,) = Peer(identity(2), Entropy("forgetful")).receive(A, pair.sent[0].data, pair.now)
    assert refused(first, B, answer.data, pair.now) == "unknown_handshake"  # type: ignore[attr-defined]


def test_responder_repeats_itself_a_limited_number_of_times() -> None:
    pair, first, second = two(lambda flight: [LATENCY] if flight.number == 0 else [], retransmit_first_ms=10)
    pair.tell(A, first.dial(second, B, 0))
    pair.run()
    assert kinds(pair).count(RESPONSE) == RESPONSES_MAX


def test_init_that_arrives_again_after_the_handshake_starts_no_other() -> None:
    pair, _, second = met()
    assert refused(second, A, pair.sent[0].data, pair.now) == "finished_handshake"
    assert second.sessions.half_open == 0


def test_initiator_whose_session_nobody_confirms_is_told() -> None:
    pair, first, second = two(lambda flight: [LATENCY] if flight.data[0] in (INIT, RESPONSE) else [])
    pair.tell(A, first.dial(second, B, 0))
    pair.run(30 * SECOND)
    (up,) = pair.of(A, SessionUp)
    assert pair.of(A, SessionDown) == [SessionDown(up.session, second.device, "unconfirmed")]
    assert pair.events[B] == []
    assert (len(first.sessions), len(second.sessions), second.sessions.half_open) == (0, 0, 0)


def test_data_that_overtakes_the_last_message_is_opened_after_it() -> None:
    pair, first, second = two(lambda flight: [5 * LATENCY if flight.data[0] == FINAL else LATENCY])
    pair.tell(A, first.dial(second, B, 0))
    while not pair.of(A, SessionUp):
        pair.step(SECOND)
    for number in range(EARLY_DATA_MAX + 1):
        say(pair, A, second.device, b"early %d" % number)
    say(pair, A, second.device, bytes(EARLY_DATA_SIZE_MAX))
    pair.run(SECOND)
    assert heard(pair, B) == [b"early %d" % number for number in range(EARLY_DATA_MAX)]
    assert [error.reason for error in pair.errors[B]] == ["early_data_full"] * 2
    assert isinstance(pair.events[B][0], SessionUp)


def test_garbage_among_early_data_does_no_harm() -> None:
    pair, first, second = two(lambda flight: [5 * LATENCY if flight.data[0] == FINAL else LATENCY])
    pair.tell(A, first.dial(second, B, 0))
    while not pair.of(A, SessionUp):
        pair.step(SECOND)
    final = next(flight for flight in pair.sent if flight.data[0] == FINAL)
    pair.inject(Flight(0, A, B, bytes([DATA]) + final.data[1:5] + bytes(40), 0))
    say(pair, A, second.device, b"early")
    pair.run(SECOND)
    assert heard(pair, B) == [b"early"]


def test_dial_of_a_device_with_a_session_is_answered_at_once() -> None:
    pair, first, second = met()
    assert first.dial(second, B, pair.now) == pair.events[A]
    assert second.dial(first, A, pair.now) == pair.events[B]


def test_dial_asked_twice_is_one_dial_and_one_answer() -> None:
    pair, first, second = two()
    pair.tell(A, first.dial(second, B, 0))
    assert first.dial(second, B, 0) == []
    pair.run(SECOND)
    assert len(pair.of(A, SessionUp)) == 1


def test_dial_of_another_device_fails_as_soon_as_that_is_known() -> None:
    pair, first, second = two()
    stranger = peer(3)
    pair.tell(A, first.dial(stranger, B, 0))
    pair.run(TIMEOUT)
    assert pair.events[A] == [DialFailed(stranger.device, B, "wrong_device")]
    assert kinds(pair).count(FINAL) == 0, "who was not dialled learns who dials"
    pair.run()
    assert pair.events[B] == []
    assert (second.sessions.half_open, second.sessions.deadline()) == (0, None)


def test_nobody_dials_himself() -> None:
    first = peer(1)
    assert first.dial(first, B, 0) == [DialFailed(first.device, B, "own_device")]
    # A wrong address book that leads to ourselves ends as every wrong device does.
    second = peer(2)
    pair = Pair({A: first})
    pair.tell(A, first.dial(second, A, 0))
    pair.run(60 * SECOND)
    assert pair.events[A] == [DialFailed(second.device, A, "wrong_device")]
    assert (len(first.sessions), first.sessions.half_open) == (0, 0)


def test_dials_are_bounded() -> None:
    config = SessionConfig()
    first = peer(1)
    for endpoint in range(config.dials_max):
        assert first.dial(peer(2), 100 + endpoint, 0) != []
    assert first.dial(peer(2), 99, 0) == [DialFailed(peer(2).device, 99, "too_many_dials")]
    assert first.sessions.dialling == config.dials_max


def test_one_session_satisfies_every_dial_of_its_device() -> None:
    pair, first, second = two()
    pair.tell(A, first.dial(second, B, 0))
    pair.tell(A, first.dial(second, 77, 0))
    pair.run()
    assert len(pair.events[A]) == 1
    assert first.sessions.dialling == 0


def test_sending_on_a_session_that_has_ended_does_nothing() -> None:
    _, first, second = met()
    session = first.sessions.session_with(second.device) or 0
    assert first.sessions.close(session, "test") == [SessionDown(session, second.device, "test")]
    assert first.sessions.close(session, "test") == []
    assert first.sessions.send(session, b"late", SECOND) == []
    with pytest.raises(LocalError):
        first.sessions.channel_binding(session)


def test_frame_too_large_for_a_datagram_is_the_callers_fault() -> None:
    _, first, second = met()
    with pytest.raises(LocalError):
        first.sessions.send(first.sessions.session_with(second.device) or 0, bytes(PLAINTEXT_SIZE_MAX + 1), SECOND)


def test_configuration_that_makes_no_sense_is_refused() -> None:
    for config in ({"half_open_max": 0}, {"retransmit_first_ms": 10_000}, {"rekey_after_ms": 10**9}):
        with pytest.raises(LocalError):
            SessionConfig(**config)


FATES = st.sampled_from([[], [], [1], [1], [1], [1, 1], [1, 40], [40], [400]])


@settings(max_examples=60, deadline=None)
@given(st.lists(FATES, max_size=40), st.sampled_from(["A", "B", "AB"]), st.integers(0, 60))
def test_any_network_ends_in_talk_or_in_a_failure_that_is_told(fates: list[list[int]], who: str, gap_ms: int) -> None:
    def link(flight: Flight) -> Sequence[int]:
        fate = fates[flight.number] if flight.number < len(fates) else [1]
        return [LATENCY * delay for delay in fate]

    pair, first, second = two(link)
    if "A" in who:
        pair.tell(A, first.dial(second, B, 0))
    pair.run(gap_ms * SECOND // 1000)
    if "B" in who:
        pair.tell(B, second.dial(first, A, pair.now))
    pair.run(4 * TIMEOUT)
    errors = pair.errors[A] + pair.errors[B]
    assert all(isinstance(error, StaleDatagramError) for error in errors), errors
    for endpoint, other in ((A, second), (B, first)):
        ups, downs = pair.of(endpoint, SessionUp), pair.of(endpoint, SessionDown)
        failed = pair.of(endpoint, DialFailed)
        assert len(failed) <= 1
        dialled = "AB"[endpoint - 1] in who
        assert ups or failed or not dialled, "a dial without an answer"
        alive = pair.machines[endpoint].sessions.session_with(other.device) is not None
        assert alive == (len(ups) > len(downs))
        assert pair.machines[endpoint].sessions.half_open == 0
        assert pair.machines[endpoint].sessions.dialling == 0
    if pair.of(A, SessionUp) and pair.of(B, SessionUp) and not pair.of(A, SessionDown) + pair.of(B, SessionDown):
        assert can_talk(pair)
    # Whatever happened, the next dial over a sound network works.
    pair.link = perfect
    for peer_ in (first, second):
        for device in (first.device, second.device):
            session = peer_.sessions.session_with(device)
            if session is not None:
                peer_.sessions.close(session, "test")
    pair.tell(A, first.dial(second, B, pair.now))
    pair.run(SECOND)
    assert can_talk(pair)
