"""What a stranger can do to a peer's sessions: nothing that lasts, and nothing in another's name."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crypto import x25519_public
from protocols.errors import ProtocolError
from protocols.identity import DeviceIdentity, Purpose, certify
from protocols.noise import exchange
from protocols.noise.datagrams import (
    COOKIE,
    COOKIE_DATAGRAM,
    DATA,
    FINAL,
    HEADER,
    INIT,
    INIT_HEADER,
    RESPONSE,
    SessionError,
)
from protocols.noise.interface import DialFailed, SessionUp
from tests.pair import LATENCY, SECOND, Entropy, Pair
from tests.protocols.noise.peers import (
    NETWORK,
    A,
    B,
    Peer,
    can_talk,
    heard,
    identity,
    init_of,
    met,
    peer,
    refused,
    say,
    state,
    two,
)

STEPS = (INIT, RESPONSE, FINAL, DATA)


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    bits = st.integers(0, 8 * len(data) - 1)
    return st.one_of(
        st.integers(0, len(data) - 1).map(lambda size: data[:size]),
        st.binary(min_size=1, max_size=3000).map(lambda tail: data + tail),
        bits.map(lambda bit: (int.from_bytes(data, "big") ^ 1 << bit).to_bytes(len(data), "big")),
        st.integers(0, 255).filter(lambda kind: kind != data[0]).map(lambda kind: bytes([kind]) + data[1:]),
        st.binary(max_size=300),
    )


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from(STEPS))
def test_mangled_datagram_changes_nothing_and_stops_no_handshake(data: st.DataObject, step: int) -> None:
    pair, first, second = two()
    pair.tell(A, first.dial(second, B, 0))
    while not any(flight.data[0] == step for flight in pair.sent):
        pair.step(SECOND)
    flight = pair.sent[-1] if step != DATA else next(each for each in pair.sent if each.data[0] == DATA)
    mangled = data.draw(mutations(flight.data))
    target: Peer = pair.machines[flight.target]
    sessions, before = len(target.sessions), state(target)
    try:
        target.receive(flight.source, mangled, pair.now)
    except ProtocolError:
        assert state(target) == before
    assert len(target.sessions) == sessions, "a mangled datagram made or ended a session"
    pair.run(10 * SECOND)
    assert can_talk(pair)


def test_garbage_with_the_right_index_does_not_kill_a_handshake() -> None:
    pair, first, second = two()
    pair.tell(A, first.dial(second, B, 0))
    while not pair.of(A, SessionUp):
        flight = pair.sent[-1]
        if flight.data[0] in (RESPONSE, FINAL):
            forged = flight.data[: HEADER.size] + bytes(len(flight.data) - HEADER.size)
            reason = refused(pair.machines[flight.target], flight.source, forged, pair.now)
            assert reason in ("low_order_point", "decrypt_failed")
        pair.step(SECOND)
    final = pair.sent[-1].data
    assert refused(second, A, final[:-1] + bytes([final[-1] ^ 1]), pair.now) == "decrypt_failed"
    pair.run(SECOND)
    assert can_talk(pair)


def test_handshake_stays_with_its_endpoint() -> None:
    pair, first, second = two()
    pair.tell(A, first.dial(second, B, 0))
    while not pair.of(A, SessionUp):
        flight = pair.sent[-1]
        if flight.data[0] == INIT:
            cookie = COOKIE_DATAGRAM.pack(COOKIE, INIT_HEADER.unpack_from(flight.data)[1], bytes(15) + b"c")
            assert refused(first, 77, cookie, pair.now) == "wrong_endpoint"
        if flight.data[0] == RESPONSE:
            assert refused(first, 77, flight.data, pair.now) == "wrong_endpoint"
        pair.step(SECOND)
    assert refused(second, 77, pair.sent[-1].data, pair.now) == "wrong_endpoint"


def test_rewritten_index_breaks_the_handshake_of_who_rewrote_it() -> None:
    pair, first, second = two(lambda flight: [])
    pair.tell(A, first.dial(second, B, 0))
    kind, index, cookie = INIT_HEADER.unpack_from(pair.sent[0].data)
    rewritten = INIT_HEADER.pack(kind, index ^ 1, cookie) + pair.sent[0].data[INIT_HEADER.size :]
    (response,) = second.receive(A, rewritten, 0)
    redirected = HEADER.pack(RESPONSE, index) + response.data[HEADER.size :]  # type: ignore[attr-defined]
    assert refused(first, B, redirected, 0) == "decrypt_failed"


def forged_identity(change: Callable[[DeviceIdentity], DeviceIdentity]) -> tuple[Pair, Peer, Peer]:
    """An honest peer at A and one at B whose identity does not hold together."""
    honest, liar = peer(1), Peer(change(identity(2)), Entropy("liar"))
    return Pair({A: honest, B: liar}), honest, liar


def other_static(liar: DeviceIdentity) -> DeviceIdentity:
    private = bytes([7]) * 32
    return replace(liar, static_private=private, static_public=x25519_public(private))


def other_device(liar: DeviceIdentity) -> DeviceIdentity:
    return replace(liar, certificate=identity(3).certificate, signing=identity(3).signing)


def other_purpose(liar: DeviceIdentity) -> DeviceIdentity:
    other = certify(liar.signing, liar.static_public, NETWORK, Purpose.MLS)
    return replace(liar, certificate=other)


def foreign_certificate(liar: DeviceIdentity) -> DeviceIdentity:
    foreign = certify(liar.signing, liar.static_public, b"elsewhere")
    return replace(liar, certificate=foreign)


@pytest.mark.parametrize("change", [other_static, other_device, other_purpose, foreign_certificate])
def test_certificate_that_does_not_fit_makes_no_session_in_either_role(
    change: Callable[[DeviceIdentity], DeviceIdentity],
) -> None:
    pair, honest, liar = forged_identity(change)
    pair.tell(A, honest.dial(liar, B, 0))
    pair.run(30 * SECOND)
    assert pair.events[A] == [DialFailed(liar.device, B, "timeout")]
    assert {error.reason for error in pair.errors[A]} == {"bad_static"}

    pair, honest, liar = forged_identity(change)
    pair.tell(B, liar.dial(honest, A, 0))
    pair.run(30 * SECOND)
    assert pair.events[A] == []
    assert len(honest.sessions) == 0
    assert "bad_static" in {error.reason for error in pair.errors[A]}


@pytest.mark.parametrize("low_order", [0, 1])
def test_static_of_low_order_makes_no_session_in_either_role(low_order: int) -> None:
    def change(liar: DeviceIdentity) -> DeviceIdentity:
        static = low_order.to_bytes(32, "little")
        certificate = certify(liar.signing, static, NETWORK)
        return replace(liar, static_public=static, certificate=certificate)

    pair, honest, liar = forged_identity(change)
    pair.tell(A, honest.dial(liar, B, 0))
    pair.run(30 * SECOND)
    assert len(honest.sessions) == 0
    assert "low_order_point" in {error.reason for error in pair.errors[A]}

    pair, honest, liar = forged_identity(change)
    pair.tell(B, liar.dial(honest, A, 0))
    pair.run(30 * SECOND)
    assert len(honest.sessions) == 0
    assert "low_order_point" in {error.reason for error in pair.errors[A]}


def test_ephemeral_of_low_order_is_refused_before_anything_is_kept() -> None:
    second = peer(2)
    init = init_of(peer(1), B)
    forged = init[: INIT_HEADER.size] + bytes(32) + init[INIT_HEADER.size + 32 :]
    assert refused(second, A, forged, 0) == "low_order_point"


def test_other_network_is_no_network_of_ours() -> None:
    stranger = Peer(identity(2, b"another network"), Entropy("stranger"))
    honest = peer(1)
    pair = Pair({A: honest, B: stranger})
    pair.tell(A, honest.dial(stranger, B, 0))
    pair.run(30 * SECOND)
    assert pair.events[A] == [DialFailed(stranger.device, B, "timeout")]
    assert {error.reason for error in pair.errors[A]} == {"decrypt_failed"}


def test_peer_with_our_own_key_gets_no_session() -> None:
    ours = identity(1)
    message, initiator = exchange.start(ours, 7, bytes([1]) * 32)
    reply, responder = exchange.answer(ours, 7, 8, bytes([2]) * 32, message)
    final, _ = exchange.conclude(ours, initiator, reply)
    with pytest.raises(SessionError) as caught:
        exchange.accept(ours, responder, 7, final)
    assert caught.value.reason == "own_device"


def test_handshake_reflected_to_its_sender_makes_no_session() -> None:
    # Somebody between sends everything back to A, as if B said it.
    first, second = peer(1), peer(2)
    pair = Pair({A: first}, lambda flight: [])
    pair.tell(A, first.dial(second, B, 0))
    done = 0
    while done < len(pair.sent):
        with suppress(ProtocolError):
            pair.tell(A, first.receive(B, pair.sent[done].data, pair.now))
        done += 1
    assert len(first.sessions) == 0
    assert pair.of(A, SessionUp) == []


def test_data_is_delivered_once_and_names_its_device() -> None:
    pair, first, second = met(lambda flight: [LATENCY, LATENCY, 3 * LATENCY])
    say(pair, A, second.device, b"once")
    pair.run(SECOND)
    assert heard(pair, B) == [b"once"]
    assert pair.events[B][-1].device == first.device
    assert {error.reason for error in pair.errors[B]} <= {"replayed", "finished_handshake"} | {"unknown_handshake"}


def test_forged_data_neither_moves_a_session_nor_keeps_it_alive() -> None:
    pair, _, second = met()
    final = next(flight.data for flight in pair.sent if flight.data[0] == FINAL)
    forged = bytes([DATA]) + final[1:5] + (5).to_bytes(8, "big") + bytes(32)
    assert refused(second, 77, forged, pair.now) == "decrypt_failed"


def test_session_follows_its_device_but_not_an_old_datagram() -> None:
    pair, first, second = met()
    session = first.sessions.session_with(second.device) or 0
    old, new = (first.sessions.send(session, data, pair.now)[0].data for data in (b"old", b"new"))  # type: ignore[attr-defined]
    (opened,) = second.receive(77, new, pair.now)
    assert (opened.data, opened.endpoint) == (b"new", 77)  # type: ignore[attr-defined]
    second.receive(A, old, pair.now)
    (reply,) = second.sessions.send(opened.session, b"reply", pair.now)  # type: ignore[attr-defined]
    assert reply.endpoint == 77  # type: ignore[attr-defined]


def test_no_datagram_names_more_memory_than_it_brings() -> None:
    first = peer(1)
    for size in (0, 1, 4, 28, 2049, 65_535, 65_536):
        for kind in range(8):
            data = (bytes([kind]) + bytes(size))[:size]
            assert refused(first, 7, data, 0) in (
                "bad_size",
                "unknown_datagram",
                "unknown_session",
            )


def test_pieces_of_a_handshake_print_no_secret() -> None:
    pair, first, second = two()
    pair.tell(A, first.dial(second, B, 0))
    pair.step(SECOND)
    for pending in (*first.sessions._dials.values(), *second.sessions._half_open.values()):
        assert "\\x" not in repr(pending)
        assert len(repr(pending)) < 40
