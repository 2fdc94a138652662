"""A box for a device that is known by its signing key alone."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crypto import x25519_private_of_ed25519, x25519_public_of_ed25519
from protocols.errors import LocalError
from protocols.identity import SigningKey
from protocols.noise.errors import NoiseError
from protocols.noise.handshake import HandshakeState, KeyPair
from protocols.noise.sealed import (
    CONTEXT_SIZE_MAX,
    PLAINTEXT_SIZE_MAX,
    SEAL_OVERHEAD,
    open_sealed_box,
    seal_to_device,
)
from protocols.transcript import transcript
from tests.edwards25519 import BASE, add, encode, multiply, torsion

DEVICE, OTHER = SigningKey(bytes(range(32))), SigningKey(bytes(range(1, 33)))
ENTROPY = sha256(b"a box").digest()
CONTEXT = b"welcome/kitchen"
BOX = seal_to_device(DEVICE.public, b"come in", CONTEXT, ENTROPY)


def refusal(key: SigningKey, sealed: bytes, context: bytes = CONTEXT) -> str:
    with pytest.raises(NoiseError) as caught:
        open_sealed_box(key, sealed, context)
    return caught.value.reason


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300), st.binary(min_size=1, max_size=CONTEXT_SIZE_MAX), st.binary(min_size=32, max_size=32))
def test_what_is_sealed_to_a_device_it_opens(plaintext: bytes, context: bytes, entropy: bytes) -> None:
    sealed = seal_to_device(DEVICE.public, plaintext, context, entropy)
    assert len(sealed) == len(plaintext) + SEAL_OVERHEAD
    assert open_sealed_box(DEVICE, sealed, context) == plaintext


def test_a_box_is_noise_n_to_the_bridged_key() -> None:
    private = x25519_private_of_ed25519(DEVICE.seed, DEVICE.public)
    responder = HandshakeState(
        "Noise_N_25519_ChaChaPoly_SHA256",
        initiator=False,
        prologue=transcript("spacepanda/sealed-box/1", DEVICE.public, CONTEXT),
        static=KeyPair(private, x25519_public_of_ed25519(DEVICE.public)),
    )
    assert responder.read_message(BOX) == b"come in"
    assert responder.remote_static is None, "who sealed it stays unknown"


def test_only_the_device_opens_it_and_only_in_its_context() -> None:
    assert refusal(OTHER, BOX) == "decrypt_failed"
    assert refusal(DEVICE, BOX, CONTEXT + b"!") == "decrypt_failed"
    assert refusal(DEVICE, seal_to_device(OTHER.public, b"come in", CONTEXT, ENTROPY)) == "decrypt_failed"


def test_keys_that_share_a_secret_do_not_share_boxes() -> None:
    """A and -A are one key of X25519. The box is for the device that was named."""
    twin = bytes([*DEVICE.public[:31], DEVICE.public[31] ^ 0x80])
    assert x25519_public_of_ed25519(twin) == x25519_public_of_ed25519(DEVICE.public)
    assert refusal(DEVICE, seal_to_device(twin, b"come in", CONTEXT, ENTROPY)) == "decrypt_failed"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 8 * len(BOX) - 1))
def test_a_flipped_bit_is_found(bit: int) -> None:
    flipped = bytearray(BOX)
    flipped[bit // 8] ^= 1 << bit % 8
    assert refusal(DEVICE, bytes(flipped)) in {"decrypt_failed", "low_order_point"}


def test_the_bit_that_x25519_ignores_is_found_too() -> None:
    """RFC 7748 §5: the highest bit of a point is masked. The handshake hash has it all the same."""
    assert refusal(DEVICE, BOX[:31] + bytes([BOX[31] ^ 0x80]) + BOX[32:]) == "decrypt_failed"


def test_a_box_cut_short_or_grown_is_refused() -> None:
    for size in range(SEAL_OVERHEAD):
        assert refusal(DEVICE, BOX[:size]) == "message_too_short"
    assert refusal(DEVICE, BOX[:-1]) == "decrypt_failed"
    assert refusal(DEVICE, BOX + b"\0") == "decrypt_failed"
    assert refusal(DEVICE, bytes(65_536)) == "message_too_long"


def test_an_ephemeral_key_of_small_order_is_refused() -> None:
    assert refusal(DEVICE, bytes(32) + BOX[32:]) == "low_order_point"


def test_nothing_is_sealed_to_a_key_that_nobody_has() -> None:
    small = [encode(multiply(k, torsion(8))) for k in range(8)]
    mixed = encode(add(multiply(5, BASE), torsion(8)))
    for public in (*small, mixed, b"\2" + bytes(31)):
        with pytest.raises(NoiseError) as caught:
            seal_to_device(public, b"", CONTEXT, ENTROPY)
        assert caught.value.reason == "bad_point"
    with pytest.raises(NoiseError) as caught:
        seal_to_device(DEVICE.public[1:], b"", CONTEXT, ENTROPY)
    assert caught.value.reason == "bad_key_length"


def test_sizes_have_bounds() -> None:
    largest = seal_to_device(DEVICE.public, bytes(PLAINTEXT_SIZE_MAX), CONTEXT, ENTROPY)
    assert open_sealed_box(DEVICE, largest, CONTEXT) == bytes(PLAINTEXT_SIZE_MAX)
    for plaintext, context, entropy in (
        (bytes(PLAINTEXT_SIZE_MAX + 1), CONTEXT, ENTROPY),
        (b"", b"", ENTROPY),
        (b"", bytes(CONTEXT_SIZE_MAX + 1), ENTROPY),
        (b"", CONTEXT, ENTROPY[1:]),
    ):
        with pytest.raises(LocalError):
            seal_to_device(DEVICE.public, plaintext, context, entropy)
    with pytest.raises(LocalError):
        open_sealed_box(DEVICE, BOX, b"")


def test_another_box_has_another_ephemeral_key() -> None:
    second = seal_to_device(DEVICE.public, b"come in", CONTEXT, sha256(b"a second box").digest())
    assert BOX[:32] != second[:32]
    assert BOX[32:] != second[32:]
