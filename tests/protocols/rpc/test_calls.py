"""Calls between two peers: answered once, in time, by the device that was asked."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.rpc.calls import MS, Connect, RpcConfig, Send
from protocols.rpc.frames import FRAMES, TRACE_NONE, Ack, Cancel, Chunk, Error, Frame, Request, Response, RpcError
from protocols.rpc.machine import Rpc
from protocols.rpc.replay import REPLIES_PER_SESSION_MAX, WINDOW_IDS
from tests.protocols.rpc.ends import ALICE, BINDING, BOB, DELAY_NS, DEVICES, NAMESPACES, TIMEOUT_NS, Ends, question

LOST: tuple[int, ...] = ()


def request(identifier: int, kind: str = "test.question", timeout_ms: int = 10_000) -> Request:
    body = question(kind=kind)
    return Request(identifier, timeout_ms, TRACE_NONE, len(body), body)


def test_call_is_answered_by_the_device_that_was_asked() -> None:
    ends = Ends()
    ends.call(question(b"hello"), token=7)
    ends.run()
    (answer,) = ends.completed
    assert (answer.service, answer.token, answer.device) == ("dht", 7, DEVICES[BOB])
    assert answer.body == question(b"hello")
    assert answer.elapsed == 2 * DELAY_NS
    assert [(one.kind, one.device) for one in ends.incoming] == [("test.question", DEVICES[ALICE])]
    assert not ends.failed
    assert ends.repeated == 0


def test_both_directions_use_the_same_ids_without_meeting() -> None:
    ends = Ends()
    ends.call(question(b"from alice"), end=ALICE)
    ends.call(question(b"from bob"), end=BOB)
    ends.run()
    assert {(one.device, one.body) for one in ends.completed} == {
        (DEVICES[BOB], question(b"from alice")),
        (DEVICES[ALICE], question(b"from bob")),
    }


# -- replay -------------------------------------------------------------------------------------------------


def test_replayed_request_is_answered_once() -> None:
    ends = Ends()
    ends.receive(BOB, request(0))
    ends.receive(BOB, request(0))
    assert len(ends.incoming) == 1
    assert ends.replayed == ["answered"]
    first, again = ends.frames(Response)
    assert first == again


def test_replayed_request_in_progress_is_ignored() -> None:
    ends = Ends()
    ends.answer = lambda _: None
    ends.receive(BOB, request(0))
    ends.receive(BOB, request(0))
    assert len(ends.incoming) == 1
    assert ends.replayed == ["in_progress"]
    assert not ends.sent


def test_flood_that_evicts_the_answer_does_not_reopen_the_replay() -> None:
    ends = Ends()
    for identifier in range(REPLIES_PER_SESSION_MAX + 1):
        ends.receive(BOB, request(identifier))
    ends.receive(BOB, request(0))
    assert ends.replayed == ["forgotten"]
    assert len(ends.incoming) == REPLIES_PER_SESSION_MAX + 1


def test_request_below_the_window_is_dropped() -> None:
    ends = Ends()
    ends.receive(BOB, request(WINDOW_IDS))
    ends.receive(BOB, request(0))
    ends.receive(BOB, request(1))
    assert ends.replayed == ["too_old"]
    assert len(ends.incoming) == 2


def test_replay_after_the_answer_was_dropped_is_not_executed() -> None:
    ends = Ends()
    ends.receive(BOB, request(0, timeout_ms=500))
    ends.now += 501 * MS
    ends.receive(BOB, request(0))
    assert ends.replayed == ["forgotten"]


def test_honest_caller_keeps_its_oldest_call_within_the_window() -> None:
    ends = Ends()
    ends.answer = lambda body: None if body == question(b"slow") else body
    ends.call(question(b"slow"), token=1, timeout_ns=60_000 * MS)
    for token in range(2, 2 * WINDOW_IDS):
        ends.call(question(), token=token)
        ends.run(ends.now + 3 * DELAY_NS)
    assert "too_old" not in ends.replayed
    assert len(ends.completed) == WINDOW_IDS - 1
    assert {(one.reason, one.happened) for one in ends.failed} == {("overloaded", "no")}


# -- who answers --------------------------------------------------------------------------------------------


def test_answer_from_another_session_is_ignored() -> None:
    ends = Ends()
    ends.answer = lambda _: None
    rpc = ends.rpcs[ALICE]
    mallory = b"M" * 32
    rpc.session_up(9, mallory, 300, BINDING, 0)
    ends.call(question())
    before = rpc.to_bytes()
    with pytest.raises(RpcError, match="unsolicited"):
        rpc.receive(9, mallory, 300, Response(0, 3, b"lie"), 5)
    assert rpc.to_bytes() == before
    # Even when Mallory was asked as well and the id exists on both sessions.
    rpc.call("dht", 99, mallory, 300, question(), TIMEOUT_NS, 0)
    (spoof,) = rpc.receive(9, mallory, 300, Response(0, 3, b"lie"), 5)
    assert (spoof.token, spoof.device) == (99, mallory)  # type: ignore[union-attr]
    assert not ends.completed


def test_question_and_answer_name_the_session_that_carried_them() -> None:
    ends = Ends()
    ends.reborn = True
    ends.call(question(b"small"), token=1)
    ends.call(question(bytes(50_000)), token=2)
    ends.run()
    assert [each.binding for each in ends.incoming] == [BINDING] * 2
    assert [each.binding for each in ends.completed] == [BINDING] * 2
    # A newer session does not lend its name to what the older one still carries.
    ends.call(question(b"late"), token=3)
    renewed = bytes(32)
    for end in (ALICE, BOB):
        ends.rpcs[end].session_up(7, DEVICES[1 - end], 101 - end, renewed, ends.now)
    ends.run()
    assert (ends.incoming[-1].binding, ends.completed[-1].binding) == (BINDING, BINDING)
    assert ends.completed[-1].token == 3


def test_late_duplicate_of_an_answer_is_nobody_s_fault() -> None:
    ends = Ends(fate=lambda _: (DELAY_NS, 2 * DELAY_NS))
    ends.call(question())
    ends.run()
    assert len(ends.completed) == len(ends.incoming) == 1


@pytest.mark.parametrize(
    "frame",
    [
        Response(0, 0, b""),
        Error(0, "no", "no", ""),
        Ack(0, False, 1, 0),
        Ack(0, True, 1, 0),
        Chunk(0, True, 1, b""),
        Chunk(0, False, 1, b""),
    ],
)
def test_frame_about_what_was_never_asked_is_a_fault_and_changes_nothing(frame: Frame) -> None:
    ends = Ends()
    before = ends.rpcs[BOB].to_bytes()
    with pytest.raises(RpcError, match="unsolicited"):
        ends.receive(BOB, frame)
    assert ends.rpcs[BOB].to_bytes() == before


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (Request(0, 1, TRACE_NONE, 2, b"abc"), "bad_size"),
        (Request(0, 1, TRACE_NONE, 4, b"abc"), "bad_size"),
        (Request(0, 1, TRACE_NONE, 100_000, b"abc"), "bad_size"),
        (Request(0, 1, TRACE_NONE, 3, b"abc"), "no_kind"),
        (Request(0, 1, TRACE_NONE, 0, b""), "no_kind"),
    ],
)
def test_request_that_contradicts_itself_is_a_fault_and_changes_nothing(frame: Request, reason: str) -> None:
    ends = Ends()
    before = ends.rpcs[BOB].to_bytes()
    with pytest.raises(RpcError) as caught:
        ends.receive(BOB, frame)
    assert caught.value.reason == reason
    assert ends.rpcs[BOB].to_bytes() == before


# -- time ---------------------------------------------------------------------------------------------------


def test_unanswered_call_is_repeated_with_doubling_pauses_until_its_deadline() -> None:
    ends = Ends(fate=lambda _: LOST)
    ends.call(question(), timeout_ns=10_000 * MS)
    ends.run()
    assert [time // MS for time, _, _ in ends.sent] == [0, 1000, 3000, 7000]
    assert len({FRAMES.encode(frame) for _, _, frame in ends.sent}) == 1
    (failed,) = ends.failed
    assert (failed.reason, failed.happened) == ("timeout", "perhaps")
    assert ends.now == 10_000 * MS


def test_pause_follows_the_measured_round_trip_with_a_floor() -> None:
    ends = Ends()
    for token in range(20):
        ends.call(question(), token=token)
        ends.run()
    ends.fate = lambda _: LOST
    start = ends.now
    count = len(ends.sent)
    ends.call(question(), token=99, timeout_ns=2_000 * MS)
    ends.run()
    assert [(time - start) // MS for time, _, _ in ends.sent[count:]] == [0, 250, 750, 1750]


def test_repeated_call_measures_no_round_trip_but_its_pause_is_kept() -> None:
    ends = Ends(fate=lambda n: LOST if n == 0 else (DELAY_NS,))
    ends.call(question(), token=0)
    ends.run()
    ends.fate = lambda n: LOST
    start, count = ends.now, len(ends.sent)
    ends.call(question(), token=1, timeout_ns=5_000 * MS)
    ends.run()
    assert [(time - start) // MS for time, _, _ in ends.sent[count:]] == [0, 2000]


def test_lost_answer_is_repeated_from_the_cache() -> None:
    ends = Ends(fate=lambda n: LOST if n == 1 else (DELAY_NS,))
    ends.call(question())
    ends.run()
    assert len(ends.completed) == len(ends.incoming) == 1
    assert ends.repeated == 1
    assert ends.replayed == ["answered"]


def test_service_that_never_answers_is_forgotten_at_the_deadline() -> None:
    ends = Ends()
    ends.answer = lambda _: None
    ends.receive(BOB, request(0, timeout_ms=100))
    assert ends.rpcs[BOB].deadline() == 100 * MS
    ends.run()
    assert ends.rpcs[BOB].deadline() is None
    ends.respond(ends.incoming[0].call, b"too late")
    assert not ends.sent


def test_silent_session_is_closed_and_the_next_call_dials_anew() -> None:
    ends = Ends(fate=lambda _: LOST)
    ends.call(question(), token=1, timeout_ns=5_000 * MS)
    ends.call(question(), token=2, timeout_ns=8_000 * MS)
    ends.run()
    assert [one.session for one in ends.disconnects] == [1]
    assert [(one.token, one.reason, one.happened) for one in ends.failed] == [
        (1, "timeout", "perhaps"),
        (2, "session_down", "perhaps"),
    ]
    ends.call(question(), token=3)
    assert len(ends.connects) == 1


def test_session_that_was_heard_meanwhile_stays_open() -> None:
    ends = Ends()
    ends.answer = lambda body: None if body == question(b"ignored") else body
    ends.call(question(b"ignored"), token=1, timeout_ns=5_000 * MS)
    ends.call(question(b"answered"), token=2)
    ends.run()
    assert not ends.disconnects


def test_call_given_less_than_a_round_trip_closes_nothing() -> None:
    ends = Ends()
    ends.call(question(), timeout_ns=10 * MS)
    ends.run()
    assert ends.failed[0].reason == "timeout"
    assert not ends.disconnects


# -- did it happen? -----------------------------------------------------------------------------------------


def test_what_never_left_did_not_happen() -> None:
    ends = Ends(connected=False)
    ends.call(question(), token=1)
    ends.call(question(), token=2, timeout_ns=100 * MS)
    assert len(ends.connects) == 1
    ends.run(200 * MS)
    ends.do(ALICE, lambda rpc: rpc.dial_failed(DEVICES[BOB], "unreachable"))
    assert [(one.token, one.reason, one.happened) for one in ends.failed] == [
        (2, "timeout", "no"),
        (1, "unreachable", "no"),
    ]
    assert ends.rpcs[ALICE].deadline() is None


def test_calls_that_waited_are_sent_in_order_with_the_time_that_is_left() -> None:
    ends = Ends(connected=False)
    for token in range(3):
        ends.call(question(b"%d" % token), token=token)
    ends.now = 4_000 * MS
    ends.connect()
    ends.run()
    assert [one.token for one in ends.completed] == [0, 1, 2]
    assert [one.timeout_ms for one in ends.frames(Request) if isinstance(one, Request)] == [6_000] * 3


def test_session_lost_in_flight_means_perhaps() -> None:
    ends = Ends()
    ends.call(question())
    ends.do(ALICE, lambda rpc: rpc.session_down(1))
    assert [(one.reason, one.happened) for one in ends.failed] == [("session_down", "perhaps")]
    ends.run()
    assert not ends.completed


def test_refusal_carries_its_reason_and_what_happened() -> None:
    ends = Ends()
    ends.answer = lambda _: None
    ends.call(question())
    ends.run(DELAY_NS)
    call = ends.incoming[0].call
    ends.do(BOB, lambda rpc: rpc.refuse(call, "disk_full", "half written", ends.now, "perhaps"))
    ends.run()
    (failed,) = ends.failed
    assert (failed.reason, failed.happened, failed.detail) == ("disk_full", "perhaps", "half written")
    assert failed.refused


def test_unknown_namespace_is_refused_and_nothing_happened() -> None:
    ends = Ends()
    ends.call(question(kind="nobody.home"))
    ends.run()
    assert [(one.reason, one.happened) for one in ends.failed] == [("unknown_kind", "no")]
    assert not ends.incoming


def test_request_above_the_callees_bounds_is_refused_and_nothing_happened() -> None:
    ends = Ends(config=RpcConfig(serving_per_session_max=3))
    ends.answer = lambda _: None
    for token in range(5):
        ends.call(question(), token=token, timeout_ns=1_000 * MS)
    ends.run(900 * MS)
    assert [(one.token, one.reason, one.happened) for one in ends.failed] == [
        (3, "overloaded", "no"),
        (4, "overloaded", "no"),
    ]


def test_calls_above_our_own_bounds_fail_at_once() -> None:
    config = RpcConfig(calls_per_session_max=2, calls_max=5, waiting_per_device_max=2, waiting_max=3)
    rpc = Rpc(config, NAMESPACES)
    rpc.session_up(1, DEVICES[BOB], 100, BINDING, 0)
    outcome = []
    for token in range(3):
        outcome += rpc.call("dht", token, DEVICES[BOB], 100, question(), TIMEOUT_NS, 0)
    for token in range(10, 13):
        outcome += rpc.call("dht", token, b"C" * 32, 200, question(), TIMEOUT_NS, 0)
    for token in range(20, 22):
        outcome += rpc.call("dht", token, b"D" * 32, 300, question(), TIMEOUT_NS, 0)
    assert [type(one).__name__ for one in outcome] == [
        "Send",
        "Send",
        "Failed",
        "Connect",
        "Failed",
        "Connect",
        "Failed",
    ]


def test_every_bound_gives_its_room_back() -> None:
    config = RpcConfig(calls_max=1, serving_max=1, waiting_max=1)
    ends = Ends(config=config)
    for token in range(5):
        ends.call(question(), token=token)
        ends.run()
    assert len(ends.completed) == 5


def test_waiting_gives_its_room_back_however_it_ends() -> None:
    rpc = Rpc(RpcConfig(waiting_max=1), NAMESPACES)
    for token in range(6):
        assert [type(one) for one in rpc.call("dht", token, DEVICES[BOB], 1, question(), TIMEOUT_NS, 0)] == [Connect]
        if token % 3 == 0:
            rpc.dial_failed(DEVICES[BOB], "unreachable")
        elif token % 3 == 1:
            rpc.session_up(token, DEVICES[BOB], 1, BINDING, 0)
            rpc.session_down(token)
        else:
            rpc.cancel("dht", token)


def test_misuse_is_the_caller_s_own_error() -> None:
    ends = Ends()
    ends.call(question(), token=1)
    with pytest.raises(LocalError, match="open call 1"):
        ends.call(question(), token=1)
    with pytest.raises(LocalError, match="cannot wait"):
        ends.call(question(), token=2, timeout_ns=0)
    with pytest.raises(LocalError, match="cannot wait"):
        ends.call(question(), token=2, timeout_ns=61_000 * MS)
    with pytest.raises(LocalError, match="another device"):
        ends.rpcs[ALICE].receive(1, b"X" * 32, 0, Cancel(0), 0)


# -- cancel -------------------------------------------------------------------------------------------------


def test_cancelled_call_is_not_answered_and_its_token_is_free() -> None:
    ends = Ends()
    ends.answer = lambda _: None
    ends.call(question(), token=1)
    ends.run(DELAY_NS)
    ends.do(ALICE, lambda rpc: rpc.cancel("dht", 1))
    ends.run()
    ends.respond(ends.incoming[0].call, question())
    assert [type(frame) for _, _, frame in ends.sent] == [Request, Cancel]
    assert not ends.completed
    assert not ends.failed
    ends.answer = lambda body: body
    ends.call(question(), token=1)
    ends.run()
    assert len(ends.completed) == 1


def test_cancel_that_overtakes_its_request_keeps_it_from_happening() -> None:
    ends = Ends()
    ends.receive(BOB, Cancel(0))
    ends.receive(BOB, request(0))
    assert not ends.incoming
    assert ends.replayed == ["forgotten"]


def test_call_cancelled_while_it_waits_was_never_sent() -> None:
    ends = Ends(connected=False)
    ends.call(question(), token=1)
    ends.do(ALICE, lambda rpc: rpc.cancel("dht", 1))
    ends.connect()
    ends.run()
    assert not ends.sent


# -- sessions -----------------------------------------------------------------------------------------------


def test_newest_session_is_used_and_the_older_one_still_answers() -> None:
    ends = Ends()
    rpc = ends.rpcs[ALICE]
    (first,) = rpc.call("dht", 1, DEVICES[BOB], 100, question(), TIMEOUT_NS, 0)
    rpc.session_up(5, DEVICES[BOB], 100, BINDING, 1)
    (second,) = rpc.call("dht", 2, DEVICES[BOB], 100, question(), TIMEOUT_NS, 1)
    assert isinstance(first, Send)
    assert isinstance(second, Send)
    assert (first.session, second.session) == (1, 5)
    (answer,) = rpc.receive(1, DEVICES[BOB], 100, Response(0, 2, b"ok"), 2)
    assert answer.token == 1  # type: ignore[union-attr]
    rpc.session_down(5)
    rpc.session_up(1, DEVICES[BOB], 100, BINDING, 3)
    (third,) = rpc.call("dht", 3, DEVICES[BOB], 100, question(), TIMEOUT_NS, 3)
    assert isinstance(third, Send)
    assert third.session == 1


def test_end_of_an_older_session_leaves_the_newest_in_use() -> None:
    rpc = Ends().rpcs[ALICE]
    rpc.session_up(5, DEVICES[BOB], 100, BINDING, 1)
    rpc.session_down(1)
    (sent,) = rpc.call("dht", 1, DEVICES[BOB], 100, question(), TIMEOUT_NS, 1)
    assert isinstance(sent, Send)
    assert sent.session == 5


def test_frames_of_a_session_that_is_gone_are_dropped() -> None:
    ends = Ends()
    ends.do(BOB, lambda rpc: rpc.session_down(2))
    ends.receive(BOB, request(0))
    assert not ends.incoming
    assert not ends.sent


def test_session_that_is_gone_leaves_nothing_behind() -> None:
    ends = Ends()
    fresh = len(Rpc(ends.config, NAMESPACES).to_bytes())
    ends.answer = lambda body: body if len(ends.incoming) % 2 else None
    for token in range(10):
        ends.call(question(bytes(1_000)), token=token)
    ends.run(DELAY_NS)
    for end in (ALICE, BOB):
        ends.do(end, lambda rpc: rpc.session_down(1 + ALICE) + rpc.session_down(1 + BOB))
        assert len(ends.rpcs[end].to_bytes()) == fresh
        assert ends.rpcs[end].deadline() is None


# -- the whole --------------------------------------------------------------------------------------------

FATES = st.lists(
    st.lists(st.integers(1, 700).map(lambda ms: ms * MS), max_size=2).map(tuple) | st.just((DELAY_NS,)), max_size=60
)


@settings(max_examples=60, deadline=None)
@given(FATES, st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.integers(0, 900)), max_size=12), st.booleans())
def test_every_call_ends_once_and_happens_at_most_once_on_any_network(
    fates: list[tuple[int, ...]], calls: list[tuple[int, bool, int]], reborn: bool
) -> None:
    ends = Ends(fate=lambda n: fates[n] if n < len(fates) else (DELAY_NS,))
    ends.reborn = reborn
    for token, (end, large, pause) in enumerate(calls):
        ends.call(question(bytes([token]) * (40_000 if large else 10)), token=token, timeout_ns=30_000 * MS, end=end)
        ends.run(ends.now + pause * MS)
    ends.run()
    assert sorted(one.token for one in ends.ended) == list(range(len(calls)))
    for one in ends.completed:
        assert one.body == question(bytes([one.token]) * (40_000 if calls[one.token][1] else 10))
    bodies = [one.body for one in ends.incoming]
    assert len(bodies) == len(set(bodies))
    assert all(rpc.deadline() is None for rpc in ends.rpcs)


@settings(max_examples=30, deadline=None)
@given(FATES)
def test_machine_continues_exactly_after_going_to_bytes(fates: list[tuple[int, ...]]) -> None:
    def story(reborn: bool) -> tuple[list[tuple[int, int, Frame]], bytes]:
        ends = Ends(fate=lambda n: fates[n] if n < len(fates) else (DELAY_NS,))
        ends.reborn = reborn
        for token in range(6):
            ends.call(question(bytes([token]) * (50_000 if token % 3 == 0 else 5)), token=token, end=token % 2)
            ends.run(ends.now + 100 * MS)
        ends.run()
        return ends.sent, ends.rpcs[ALICE].to_bytes()

    assert story(reborn=False) == story(reborn=True)


def frames() -> st.SearchStrategy[Frame]:
    small = st.integers(0, 4)
    sizes = st.sampled_from([0, 3, 16_384, 16_385, 40_000])
    bodies = st.sampled_from([b"", b"abc", question(), bytes(16_384), question(bytes(16_360)), bytes(7_232)])
    return st.one_of(
        st.builds(Request, small, st.integers(1, 60_000), st.just(TRACE_NONE), sizes, bodies),
        st.builds(request, small),
        st.builds(Response, small, sizes, bodies),
        st.builds(Error, small, st.just("no"), st.just("no"), st.just("")),
        st.builds(Cancel, small),
        st.builds(Chunk, small, st.booleans(), st.integers(1, 4), bodies),
        st.builds(Ack, small, st.booleans(), st.sampled_from([0, 1, 2, 3, 65_535]), small),
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(frames(), max_size=40))
def test_peer_that_sends_anything_breaks_nothing(script: list[Frame]) -> None:
    ends = Ends(fate=lambda _: LOST)
    ends.call(question(), end=BOB, token=1)
    ends.call(question(bytes(40_000)), end=BOB, token=2)
    for frame in script:
        before = ends.rpcs[BOB].to_bytes()
        try:
            ends.receive(BOB, frame)
        except RpcError:
            assert ends.rpcs[BOB].to_bytes() == before
        ends.now += MS
    ends.run()
    assert ends.rpcs[BOB].deadline() is None
    assert sorted(one.token for one in ends.ended) == [1, 2]
