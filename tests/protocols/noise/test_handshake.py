import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.conformance import run_files
from protocols.errors import LocalError
from protocols.noise.handshake import HandshakeState, KeyPair
from protocols.noise.suite import Protocol, protocol
from protocols.noise.symmetric import MESSAGE_SIZE_MAX
from tests.protocols.noise.pair import XX, key, pair, protocols, reason, shake, side
from tests.vectors import vector_path

IK = "Noise_IK_25519_ChaChaPoly_BLAKE2s"
FALLBACK = "Noise_XXfallback_25519_ChaChaPoly_BLAKE2s"


def test_all_published_vectors_pass() -> None:
    [result] = run_files([vector_path("noise/cacophony.json")])
    assert (result.passed, result.failed, result.unsupported) == (944, (), ())


@settings(max_examples=60, deadline=None)
@given(protocols())
def test_any_pattern_psks_and_suite_agree_on_both_sides(suite: Protocol) -> None:
    a, b = shake(side(suite, initiator=True), side(suite, initiator=False))
    assert a.handshake_hash == b.handshake_hash
    assert b.decrypt(a.encrypt(b"there", b"ad"), b"ad") == b"there"
    if suite.pattern.one_way:
        with pytest.raises(LocalError, match="one-way"):
            b.encrypt(b"back")
        with pytest.raises(LocalError, match="one-way"):
            a.decrypt(b"")
    else:
        assert a.decrypt(b.encrypt(b"back")) == b"back"
    for end, plan, them in ((a, suite.initiator, "responder"), (b, suite.responder, "initiator")):
        knows = plan.needs_remote_static or any(not s.writing and "s" in s.tokens for s in plan.steps)
        expected = suite.dh.public(key(them + "s", suite.dh.size)) if knows else None
        assert end.remote_static == expected


@settings(max_examples=60, deadline=None)
@given(protocols(), st.data())
def test_bad_message_leaves_the_reader_untouched(suite: Protocol, data: st.DataObject) -> None:
    """At each step: a flipped bit, a cut, an extension. What is not authenticated yet may be read changed;
    then the handshake fails later, or (§7.7, level 0) the payload alone was changed."""
    initiator, responder = side(suite, initiator=True), side(suite, initiator=False)
    while not initiator.finished:
        writer, reader = (initiator, responder) if initiator.our_turn else (responder, initiator)
        message = writer.write_message(b"payload")
        before = reader.to_bytes()
        place = data.draw(st.integers(0, len(message) - 1))
        flipped = bytearray(message)
        flipped[place] ^= 1 << data.draw(st.integers(0, 7))
        cut = message[: data.draw(st.integers(0, len(message) - 1))]
        for bad in (bytes(flipped), cut, message + b"\0", bytes(MESSAGE_SIZE_MAX + 1)):
            try_on = HandshakeState.from_bytes(before)
            if why := reason(try_on.read_message, bad):
                assert why in ("decrypt_failed", "message_too_short", "message_too_long", "low_order_point")
                assert try_on.to_bytes() == before
        assert reader.read_message(message) == b"payload"


@pytest.mark.parametrize("name", [XX, IK, "Noise_KKpsk0_25519_AESGCM_SHA512"])
def test_encrypted_message_with_any_byte_changed_is_refused(name: str) -> None:
    initiator, responder = pair(name)
    while not initiator.finished:
        writer, reader = (initiator, responder) if initiator.our_turn else (responder, initiator)
        message = writer.write_message(b"payload")
        if message.endswith(b"payload"):
            reader.read_message(message)  # nothing of XX's first message is authenticated yet
            continue
        before = reader.to_bytes()
        for place in range(len(message)):
            bad = message[:place] + bytes([message[place] ^ 0x40]) + message[place + 1 :]
            # The top bit of an X25519 key is ignored by the curve but not by the transcript hash.
            assert reason(reader.read_message, bad) in ("decrypt_failed", "low_order_point")
            assert reader.to_bytes() == before
        reader.read_message(message)
    assert initiator.split().handshake_hash == responder.split().handshake_hash


def test_low_order_ephemeral_key_is_refused() -> None:
    _, responder = pair(IK)
    before = responder.to_bytes()
    assert reason(responder.read_message, bytes(96)) == "low_order_point"
    assert responder.to_bytes() == before


def test_low_order_key_read_without_a_dh_fails_the_next_write() -> None:
    _, responder = pair(XX)
    responder.read_message(bytes(32))
    before = responder.to_bytes()
    assert reason(responder.write_message) == "low_order_point"
    assert responder.to_bytes() == before


def test_writing_out_of_turn_or_too_much_is_ours_to_fix() -> None:
    initiator, responder = pair(XX)
    with pytest.raises(LocalError, match="turn to read"):
        initiator.read_message(bytes(32))
    with pytest.raises(LocalError, match="turn to write"):
        responder.write_message()
    with pytest.raises(LocalError, match="do not fit"):
        initiator.write_message(bytes(MESSAGE_SIZE_MAX - 31))
    message = initiator.write_message(bytes(MESSAGE_SIZE_MAX - 32))
    assert len(message) == MESSAGE_SIZE_MAX
    assert len(responder.read_message(message)) == MESSAGE_SIZE_MAX - 32


def test_unfinished_handshake_cannot_become_a_transport_and_a_finished_one_only_once() -> None:
    initiator, responder = pair(XX)
    for end in (initiator, responder):
        assert not hasattr(end, "encrypt")
        with pytest.raises(LocalError, match="no transport before"):
            end.split()
    shake(initiator, responder)
    for end in (initiator, responder):
        for call in (end.split, end.write_message, end.to_bytes):
            with pytest.raises(LocalError):
                call()


@pytest.mark.parametrize(
    "changed",
    [
        {"prologue": b"another"},
        {"psks": [bytes(32)]},
        {"static": KeyPair(bytes(32), protocol(XX).dh.public(bytes(32)))},
    ],
)
def test_sides_that_differ_in_prologue_psk_or_key_do_not_agree(changed: dict[str, object]) -> None:
    suite = protocol("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
    initiator, responder = side(suite, initiator=True), side(suite, initiator=False, **changed)
    why = reason(responder.read_message, initiator.write_message())
    if not why:
        why = reason(initiator.read_message, responder.write_message())
    assert why == "decrypt_failed"


@pytest.mark.parametrize(
    "changed",
    [
        {"static": None},
        {"ephemeral": b""},
        {"ephemeral": bytes(31)},
        {"remote_static": bytes(32)},
        {"remote_ephemeral": bytes(32)},
        {"psks": [bytes(32)]},
    ],
)
def test_key_that_is_missing_misshapen_or_not_needed_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(LocalError):
        side(protocol(XX), initiator=True, **changed)


@settings(max_examples=30, deadline=None)
@given(protocols())
def test_half_open_handshake_goes_to_bytes_and_back_between_any_two_messages(suite: Protocol) -> None:
    sides = [side(suite, initiator=True), side(suite, initiator=False)]
    while not sides[0].finished:
        sides = [HandshakeState.from_bytes(half.to_bytes()) for half in sides]
        writer, reader = sides if sides[0].our_turn else reversed(sides)
        assert reader.read_message(writer.write_message(b"x")) == b"x"
    a, b = (HandshakeState.from_bytes(half.to_bytes()).split() for half in sides)
    assert a.handshake_hash == b.handshake_hash
    assert b.decrypt(a.encrypt(b"after")) == b"after"


def test_bytes_that_are_no_saved_handshake_are_refused() -> None:
    initiator, _ = pair(XX)
    saved = initiator.to_bytes()
    for bad in (b"", saved[:-1], saved + b"\0", b"\x00" + saved[1:], saved.replace(b"XX", b"XY"), saved[1:]):
        with pytest.raises(LocalError):
            HandshakeState.from_bytes(bad)


@given(st.integers(0), st.integers(0, 255))
def test_damaged_saved_handshake_is_refused_or_another_handshake(place: int, byte: int) -> None:
    saved = bytearray(pair("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")[0].to_bytes())
    saved[place % len(saved)] = byte
    with contextlib.suppress(LocalError):
        HandshakeState.from_bytes(bytes(saved))


def test_responder_that_cannot_read_ik_falls_back_to_xx() -> None:
    """Noise Pipes (§10.4): Alice's stale idea of Bob's key costs no round trip."""
    alice = side(protocol(IK), initiator=True, remote_static=protocol(IK).dh.public(b"\7" * 32))
    bob = side(protocol(IK), initiator=False)
    message = alice.write_message(b"early")
    assert reason(bob.read_message, message) == "decrypt_failed"

    bob = side(protocol(FALLBACK), initiator=True, remote_ephemeral=message[:32])
    alice = side(protocol(FALLBACK), initiator=False, ephemeral=key("initiatore", 32))
    for_bob, for_alice = shake(bob, alice)
    assert for_bob.handshake_hash == for_alice.handshake_hash
    assert for_alice.decrypt(for_bob.encrypt(b"hello")) == b"hello"
    assert for_alice.remote_static == protocol(IK).dh.public(key("initiators", 32))


def test_nothing_printed_shows_a_key() -> None:
    initiator, _ = pair(XX)
    private = key("initiators", 32)
    for shown in (repr(initiator), repr(initiator._static), repr(initiator._symmetric)):
        assert repr(private)[2:-1] not in shown
        assert "private" not in shown
