"""Bodies larger than a frame: whole or not at all, within bounds at both ends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.rpc.calls import MS, RpcConfig
from protocols.rpc.chunks import BODIES_IN_ALL, Budget, Outgoing, Partial, chunk_count
from protocols.rpc.frames import (
    CHUNK_SIZE,
    CHUNKS_STOP,
    TRACE_NONE,
    WINDOW_CHUNKS,
    Ack,
    Cancel,
    Chunk,
    Error,
    Request,
    Response,
    RpcError,
)
from protocols.rpc.server import STALLED_NS
from tests.protocols.rpc.ends import BOB, DELAY_NS, DEVICES, Ends, question

WELCOME = 350_000
LOST: tuple[int, ...] = ()


def large(size: int = WELCOME) -> bytes:
    return question(bytes(index % 251 for index in range(size)))


def first(identifier: int, size: int, timeout_ms: int = 60_000) -> Request:
    """The first frame of a large request."""
    return Request(identifier, timeout_ms, TRACE_NONE, size, large(size)[:CHUNK_SIZE])


def test_welcome_sized_body_arrives_both_ways() -> None:
    ends = Ends()
    ends.call(large())
    ends.run()
    assert [one.body for one in ends.incoming] == [large()]
    assert [one.body for one in ends.completed] == [large()]
    assert ends.repeated == 0
    # 22 chunks each way, in windows of 1, 2, 4, 8 and 16: five round trips each.
    assert ends.completed[0].elapsed == 2 * 5 * 2 * DELAY_NS - DELAY_NS - DELAY_NS


def test_nothing_follows_the_first_chunk_before_it_is_acknowledged() -> None:
    ends = Ends(fate=lambda _: LOST)
    ends.call(large())
    ends.run()
    assert {type(frame) for _, _, frame in ends.sent} == {Request}


@pytest.mark.parametrize("lost", range(12))
def test_any_one_lost_datagram_delays_but_loses_nothing(lost: int) -> None:
    ends = Ends(fate=lambda n: LOST if n == lost else (DELAY_NS,))
    ends.call(large(100_000))
    ends.run()
    assert [one.body for one in ends.completed] == [large(100_000)]
    assert len(ends.incoming) == 1
    assert ends.repeated <= 1


def test_one_lost_chunk_in_a_full_window_is_repeated_before_its_timer() -> None:
    ends = Ends()
    ends.answer = lambda _: question()
    chunks = 0

    def fate(_: int) -> tuple[int, ...]:
        nonlocal chunks
        chunks += isinstance(ends.sent[-1][2], Chunk)
        return LOST if chunks == 8 and isinstance(ends.sent[-1][2], Chunk) else (DELAY_NS,)

    ends.fate = fate
    ends.call(large())
    ends.run()
    assert len(ends.completed) == 1
    assert ends.repeated == 0
    assert ends.now < 500 * MS


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([LOST, (DELAY_NS,), (DELAY_NS, 3 * DELAY_NS), (7 * DELAY_NS,), (MS,)]), max_size=120),
    st.integers(CHUNK_SIZE - 20, 6 * CHUNK_SIZE),
)
def test_large_bodies_survive_loss_duplication_and_reordering(fates: list[tuple[int, ...]], size: int) -> None:
    ends = Ends(fate=lambda n: fates[n] if n < len(fates) else (DELAY_NS,))
    ends.call(large(size), timeout_ns=60_000 * MS)
    ends.run()
    if ends.completed:
        assert ends.completed[0].body == large(size)
        assert [one.body for one in ends.incoming] == [large(size)]
    else:
        assert ends.failed[0].reason in ("timeout", "stalled")
        assert fates.count(LOST) >= 4
    for rpc in ends.rpcs:
        assert rpc.deadline() is None


@settings(max_examples=100)
@given(st.lists(st.integers(0, 9), max_size=200), st.integers(CHUNK_SIZE + 1, 40 * CHUNK_SIZE))
def test_sender_never_exceeds_the_window_and_always_finishes(script: list[int], size: int) -> None:
    body = bytes(size)
    sender, receiver = Outgoing(body, 1, 0), Partial(size, body[:CHUNK_SIZE])
    road: list[int | tuple[int, int]] = [0]
    fate = iter(script)
    steps = 0
    while not sender.done:
        steps += 1
        assert steps < 1000
        choice = next(fate, 0)
        if not road or choice == 9:
            road += sender.time_out(60)
            continue
        what = road.pop(choice % len(road) if choice < 7 else 0)
        if choice in (7, 8):
            continue  # lost
        if isinstance(what, int):
            if what:
                receiver.add(what, sender.chunk(what))
            road.append(receiver.acknowledgement())
        else:
            road += sender.acknowledge(*what, 1) or []
        assert sender.sent <= sender.base + 1 + WINDOW_CHUNKS
        assert Outgoing.from_state(sender.state()).state() == sender.state()
    assert receiver.complete
    assert receiver.body() == body


def test_timeout_halves_the_window_and_repeats_the_oldest_missing_chunks() -> None:
    sender = Outgoing(bytes(40 * CHUNK_SIZE), 1, 0)
    for received in (1, 3):
        sender.acknowledge(received, 0, 1)
    assert (sender.base, sender.sent, sender.window) == (3, 7, 4)
    sender.acknowledge(3, 0b001, 1)  # chunk 4
    assert (sender.sent, sender.window) == (9, 5)
    assert sender.time_out(60) == [3, 5]
    assert sender.time_out(60) == [3]
    assert sender.time_out(60) == [3]
    assert sender.rto == 8
    # What is still missing goes out with what follows, once something arrives.
    assert sender.acknowledge(5, 0, 1) == []


# -- bounds -------------------------------------------------------------------------------------------------


def test_body_above_the_limit_is_refused_before_anything_is_kept() -> None:
    ends = Ends(config=RpcConfig(body_size_max=100_000))
    ends.call(bytes(100_001))
    assert [(one.reason, one.happened) for one in ends.failed] == [("too_large", "no")]
    assert not ends.sent
    ends.receive(BOB, first(0, 100_001))
    assert [(error.code, error.happened) for error in ends.frames(Error) if isinstance(error, Error)] == [
        ("too_large", "no")
    ]
    assert ends.rpcs[BOB].deadline() is None


def test_answer_above_the_callers_limit_fails_the_call_and_stops_the_callee() -> None:
    ends = Ends()
    ends.answer = lambda _: None
    ends.call(question())
    ends.run(DELAY_NS)
    ends.receive(0, Response(0, 2**20 + 1, bytes(CHUNK_SIZE)))
    assert [(one.reason, one.happened) for one in ends.failed] == [("too_large", "perhaps")]
    assert isinstance(ends.sent[-1][2], Cancel)


def test_answer_above_our_own_limit_becomes_an_error() -> None:
    ends = Ends(config=RpcConfig(body_size_max=50_000))
    ends.answer = lambda _: bytes(50_001)
    ends.call(question())
    ends.run()
    assert [(one.reason, one.happened) for one in ends.failed] == [("too_large", "perhaps")]


def test_partial_bodies_are_bounded_per_session_by_number_and_by_bytes() -> None:
    ends = Ends(config=RpcConfig(large_per_session_max=3, body_size_max=100_000))
    for identifier in range(5):
        ends.receive(BOB, first(identifier, 20_000))
    assert [type(frame) for _, _, frame in ends.sent] == [Ack, Ack, Ack, Error, Error]
    ends = Ends(config=RpcConfig(large_per_session_max=9, body_size_max=100_000))
    for identifier in range(3):
        ends.receive(BOB, first(identifier, 90_000))
    assert [type(frame) for _, _, frame in ends.sent] == [Ack, Ack, Error]


def test_partial_bodies_are_bounded_in_all() -> None:
    config = RpcConfig(body_size_max=1000_000)
    budget = Budget(config)
    taken = [session for session in range(20) if budget.reserve(session, 1000_000)]
    assert len(taken) == BODIES_IN_ALL
    budget.release(taken[0], 1000_000)
    assert budget.reserve(50, 1000_000)
    small = Budget(config)
    assert sum(small.reserve(session, 17_000) for session in range(100)) == config.large_max


def test_every_transfer_gives_its_room_back() -> None:
    ends = Ends(config=RpcConfig(large_max=1))
    for token in range(3):
        ends.call(large(20_000), token=token)
        ends.run()
    assert len(ends.completed) == 3


def test_stalled_request_gives_its_room_back_and_says_so() -> None:
    ends = Ends(fate=lambda _: LOST, config=RpcConfig(large_per_session_max=1))
    ends.receive(BOB, first(0, 50_000))
    ends.run()
    assert ends.now == STALLED_NS
    assert [frame.code for frame in ends.frames(Error) if isinstance(frame, Error)] == ["stalled"]
    ends.receive(BOB, first(1, 50_000))
    assert isinstance(ends.sent[-1][2], Ack)


def test_large_answer_that_nobody_acknowledges_is_dropped_at_the_deadline() -> None:
    ends = Ends(config=RpcConfig(large_per_session_max=1))
    ends.answer = lambda _: large()
    body = question()
    ends.fate = lambda _: LOST
    ends.receive(BOB, Request(0, 5_000, TRACE_NONE, len(body), body))
    ends.receive(BOB, Request(1, 5_000, TRACE_NONE, len(body), body))
    assert [type(frame) for _, _, frame in ends.sent] == [Response, Error]
    ends.run()
    assert ends.now == 5_000 * MS
    ends.receive(BOB, Request(2, 5_000, TRACE_NONE, len(body), body))
    assert isinstance(ends.sent[-1][2], Response)


def test_session_down_gives_all_room_back() -> None:
    ends = Ends(config=RpcConfig(large_max=1))
    ends.call(large())
    ends.run(DELAY_NS)
    for end in (0, 1):
        ends.do(end, lambda rpc, end=end: rpc.session_down(1 + end))  # type: ignore[misc]
        assert ends.rpcs[end].deadline() is None
    ends.run()
    ends.connect()
    ends.call(large(), token=1)
    ends.run()
    assert [one.token for one in ends.completed] == [1]


def test_cancelled_transfer_stops() -> None:
    ends = Ends()
    ends.call(large(1_000_000))
    ends.run(5 * DELAY_NS)
    ends.do(0, lambda rpc: rpc.cancel("dht", 0))
    ends.run()
    assert not ends.incoming
    assert len(ends.frames(Chunk)) < chunk_count(1_000_000) // 2


# -- lies ---------------------------------------------------------------------------------------------------


def test_chunk_that_contradicts_the_declared_size_is_a_fault_and_changes_nothing() -> None:
    ends = Ends()
    ends.receive(BOB, first(0, 40_000))
    ends.receive(BOB, first(1, 1_000_000))
    before = ends.rpcs[BOB].to_bytes()
    for chunk in (
        Chunk(1, False, 18, bytes(CHUNK_SIZE)),
        Chunk(0, False, 1, bytes(CHUNK_SIZE - 1)),
        Chunk(0, False, 2, bytes(CHUNK_SIZE)),
        Chunk(0, False, 3, b""),
        Chunk(0, False, 900, bytes(CHUNK_SIZE)),
    ):
        with pytest.raises(RpcError, match="bad_size"):
            ends.receive(BOB, chunk)
        assert ends.rpcs[BOB].to_bytes() == before


def test_acknowledging_what_was_never_sent_is_a_fault_and_changes_nothing() -> None:
    ends = Ends(fate=lambda _: LOST)
    ends.call(large())
    before = ends.rpcs[0].to_bytes()
    for ack in (Ack(0, False, 2, 0), Ack(0, False, 0, 1), Ack(0, False, 1, 1)):
        with pytest.raises(RpcError, match="bad_ack"):
            ends.receive(0, ack)
        assert ends.rpcs[0].to_bytes() == before


def test_receiver_may_stop_a_transfer() -> None:
    ends = Ends(fate=lambda _: LOST)
    ends.call(large())
    ends.receive(0, Ack(0, False, CHUNKS_STOP, 0))
    ends.receive(0, Response(0, 2, b"ok"))
    assert [one.body for one in ends.completed] == [b"ok"]


def test_chunks_of_a_finished_request_are_told_to_stop() -> None:
    ends = Ends()
    ends.answer = lambda _: None
    body = large(20_000)
    ends.receive(BOB, Request(0, 60_000, TRACE_NONE, len(body), body[:CHUNK_SIZE]))
    rest = body[CHUNK_SIZE:]
    ends.receive(BOB, Chunk(0, False, 1, rest))
    assert [one.body for one in ends.incoming] == [body]
    ends.receive(BOB, Chunk(0, False, 1, rest))
    assert ends.sent[-1][2] == Ack(0, False, CHUNKS_STOP, 0)
    assert len(ends.incoming) == 1
    assert ends.incoming[0].device == DEVICES[0]


# -- time ---------------------------------------------------------------------------------------------------


def test_request_that_is_complete_after_its_deadline_is_not_delivered() -> None:
    ends = Ends(fate=lambda _: LOST)
    body = large(20_000)
    ends.receive(BOB, Request(0, 1_000, TRACE_NONE, len(body), body[:CHUNK_SIZE]))
    ends.now = 1_000 * MS
    ends.receive(BOB, Chunk(0, False, 1, body[CHUNK_SIZE:]))
    assert not ends.incoming
    ends.run()
    assert ends.rpcs[BOB].deadline() is None


def test_sender_that_repeats_its_first_chunk_has_not_stalled() -> None:
    ends = Ends(fate=lambda _: LOST)
    ends.receive(BOB, first(0, 50_000))
    ends.run(STALLED_NS - 1)
    ends.receive(BOB, first(0, 50_000))
    ends.run(2 * STALLED_NS - 2)
    assert not ends.frames(Error)


def test_question_is_not_repeated_while_its_large_answer_arrives() -> None:
    ends = Ends()
    ends.answer = lambda _: None
    ends.call(question(), timeout_ns=10_000 * MS)
    ends.receive(0, Response(0, 50_000, bytes(CHUNK_SIZE)))
    ends.run()
    assert len(ends.frames(Request)) == 1
    assert ends.failed[0].reason == "timeout"


def test_lost_answer_to_a_large_request_is_asked_for_at_the_measured_pace() -> None:
    ends = Ends()
    ends.answer = lambda _: question()
    ends.fate = lambda _: LOST if isinstance(ends.sent[-1][2], Response) and ends.repeated == 0 else (DELAY_NS,)
    ends.call(large())
    ends.run()
    assert ends.replayed == ["answered"]
    assert ends.completed[0].elapsed < 600 * MS
