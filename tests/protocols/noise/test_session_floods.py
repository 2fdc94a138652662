"""A responder under a flood: bounded, and still there for honest peers."""

import tracemalloc

from protocols.crypto import x25519_public
from protocols.noise.datagrams import (
    COOKIE,
    COOKIE_DATAGRAM,
    DATA,
    FINAL,
    INIT,
    INIT_HEADER,
    INIT_PADDING,
    RESPONSE,
    SessionError,
)
from protocols.noise.sessions import COOKIES_PER_DIAL_MAX, HALF_OPEN_PER_ENDPOINT_MAX
from tests.pair import SECOND, Entropy
from tests.protocols.noise.peers import A, B, Peer, can_talk, init_of, peer, refused, two


def flood(victim: Peer, count: int, now: int = 0, source: int = 1000) -> list[int]:
    """INITs of ``count`` endpoints; the types of the answers."""
    entropy = Entropy(f"flood {source}")
    answers = []
    for number in range(count):
        init = INIT_HEADER.pack(INIT, number + 1, bytes(16)) + x25519_public(entropy(32)) + INIT_PADDING
        answers += [output.data[0] for output in victim.receive(source + number, init, now)]  # type: ignore[attr-defined]
    return answers


def test_responder_under_load_answers_with_cookies_and_keeps_nothing() -> None:
    victim = peer(2)
    answers = flood(victim, 100)
    half = victim.config.half_open_max // 2
    assert answers == [RESPONSE] * half + [COOKIE] * (100 - half)
    assert victim.sessions.half_open == half
    exchanges = victim.sessions.exchanges
    flood(victim, 100, source=5000)
    assert victim.sessions.exchanges == exchanges, "a Diffie-Hellman for a stranger under load"


def test_honest_dial_gets_through_a_flood_with_its_cookie() -> None:
    pair, first, second = two()
    flood(second, 100)
    pair.tell(A, first.dial(second, B, 0))
    pair.run(SECOND // 2)
    assert [flight.data[0] for flight in pair.sent] == [INIT, COOKIE, INIT, RESPONSE, FINAL, DATA]
    assert can_talk(pair)


def test_cookie_is_of_one_endpoint_and_index_and_ages() -> None:
    victim, initiator = peer(2), peer(1)
    flood(victim, 100)
    init = init_of(initiator, B)
    (demand,) = victim.receive(A, init, 0)
    _, index, cookie = COOKIE_DATAGRAM.unpack(demand.data)  # type: ignore[attr-defined]
    with_cookie = INIT_HEADER.pack(INIT, index, cookie) + init[INIT_HEADER.size :]
    with_other_index = INIT_HEADER.pack(INIT, index ^ 1, cookie) + init[INIT_HEADER.size :]
    lifetime = victim.config.cookie_lifetime_ms * 1_000_000

    def answer(source: int, data: bytes, now: int) -> int:
        return victim.restored().receive(source, data, now)[0].data[0]  # type: ignore[attr-defined,no-any-return]

    assert answer(A, with_cookie, 0) == RESPONSE
    assert answer(A, with_cookie, 2 * lifetime - 1) == RESPONSE
    assert answer(A, with_cookie, 2 * lifetime) == COOKIE
    assert answer(77, with_cookie, 0) == COOKIE
    assert answer(A, with_other_index, 0) == COOKIE


def test_half_open_handshakes_are_bounded_whatever_is_presented() -> None:
    victim = peer(2)
    entropy = Entropy("cookies")
    reasons = []
    for number in range(3 * victim.config.half_open_max):
        init = INIT_HEADER.pack(INIT, 9, bytes(16)) + x25519_public(entropy(32)) + INIT_PADDING
        (answer,) = victim.receive(1000 + number, init, 0)
        if answer.data[0] == COOKIE:  # type: ignore[attr-defined]
            cookie = answer.data[5:]  # type: ignore[attr-defined]
            paid = INIT_HEADER.pack(INIT, 9, cookie) + init[INIT_HEADER.size :]
            try:
                victim.receive(1000 + number, paid, 0)
            except SessionError as error:
                reasons.append(error.reason)
    assert victim.sessions.half_open == victim.config.half_open_max
    assert reasons == ["half_open_full"] * 2 * victim.config.half_open_max


def test_spoofed_handshakes_of_an_endpoint_do_not_shut_it_out() -> None:
    pair, first, second = two()
    entropy = Entropy("spoofer")
    for number in range(10):
        init = INIT_HEADER.pack(INIT, number + 1, bytes(16)) + x25519_public(entropy(32)) + INIT_PADDING
        second.receive(A, init, 0)
    assert second.sessions.half_open == HALF_OPEN_PER_ENDPOINT_MAX
    pair.tell(A, first.dial(second, B, 0))
    pair.run(SECOND)
    assert can_talk(pair)
    assert second.sessions.half_open == HALF_OPEN_PER_ENDPOINT_MAX - 1


def test_initiator_answers_few_cookies() -> None:
    pair, first, second = two(lambda flight: [])
    pair.tell(A, first.dial(second, B, 0))
    index = INIT_HEADER.unpack_from(pair.sent[0].data)[1]
    for number in range(COOKIES_PER_DIAL_MAX):
        cookie = COOKIE_DATAGRAM.pack(COOKIE, index, bytes([number + 1]) * 16)
        assert len(first.receive(B, cookie, 0)) == 1
        assert refused(first, B, cookie, 0) == "unused_cookie"
    assert refused(first, B, COOKIE_DATAGRAM.pack(COOKIE, index, bytes([9]) * 16), 0) == "unused_cookie"


def test_flood_of_ten_thousand_leaves_memory_flat() -> None:
    victim = peer(2)
    flood(victim, 200)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for round_ in range(10):
        now = round_ * SECOND
        flood(victim, 1000, now, source=10_000 * (round_ + 1))
        victim.expire(now)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 50_000
    assert victim.sessions.half_open <= victim.config.half_open_max
