"""A box for a device of which only its signing key is known: Noise N (§7.4) to the X25519 form of that key.

Sessions use the certified static of a device (see ``identity.device``). But who has never met a device, and wants to
leave something for it, has only its Ed25519 key: the box is sealed to the same point on the Montgomery curve. That a
key signs and opens boxes is proven safe for Ed25519 with a KEM on X25519 whose hash is not the signature's
(Thormarker, ePrint 2021/509): ours is SHA-256, that of Ed25519 is SHA-512.

What it gives and what not (§7.7, source 0 and destination 2): only the device opens it, in the context that it was
sealed for; anybody may have sealed it; it can be opened again, as often as it arrives; and who gets hold of the
device's key opens all old boxes. What is inside says for itself who said it, and once.
"""

from typing import Final

from protocols.crypto import (
    AEAD_TAG_SIZE,
    X25519_KEY_SIZE,
    CryptoError,
    x25519_private_of_ed25519,
    x25519_public,
    x25519_public_of_ed25519,
)
from protocols.errors import LocalError
from protocols.identity.signing import SigningKey
from protocols.noise.errors import NoiseError
from protocols.noise.handshake import HandshakeState, KeyPair
from protocols.noise.symmetric import MESSAGE_SIZE_MAX
from protocols.transcript import transcript

NOISE_NAME: Final = "Noise_N_25519_ChaChaPoly_SHA256"

SEAL_ENTROPY_SIZE: Final = X25519_KEY_SIZE
SEAL_OVERHEAD: Final = X25519_KEY_SIZE + AEAD_TAG_SIZE
PLAINTEXT_SIZE_MAX: Final = MESSAGE_SIZE_MAX - SEAL_OVERHEAD
"""§3: a Noise message has at most 65535 bytes. What is larger is sealed under a key of its own, and that goes here."""

CONTEXT_SIZE_MAX: Final = 255
"""What a box is for: a purpose, and an id or two."""


def seal_to_device(device_public: bytes, plaintext: bytes, context: bytes, entropy: bytes) -> bytes:
    """``plaintext`` for the device alone, in ``context`` alone; ``entropy`` is for this box and never used again.

    Raises:
        NoiseError: ``bad_key_length`` or ``bad_point``: nobody has this key.
    """
    if len(entropy) != SEAL_ENTROPY_SIZE or len(plaintext) > PLAINTEXT_SIZE_MAX:
        raise LocalError(f"no box of {len(plaintext)} bytes is sealed with {len(entropy)} bytes of entropy")
    try:
        remote_static = x25519_public_of_ed25519(device_public)
    except CryptoError as error:
        raise NoiseError(error.reason, error.detail) from None
    handshake = HandshakeState(
        NOISE_NAME,
        initiator=True,
        prologue=_prologue(device_public, context),
        ephemeral=entropy,
        remote_static=remote_static,
    )
    return handshake.write_message(plaintext)


def open_sealed_box(key: SigningKey, sealed: bytes, context: bytes) -> bytes:
    """What was sealed to the device of ``key`` in ``context``.

    Raises:
        NoiseError: ``message_too_short``, ``message_too_long``, ``low_order_point`` or ``decrypt_failed``: sealed to
            another device, in another context, or altered.
    """
    private = x25519_private_of_ed25519(key.seed, key.public)
    handshake = HandshakeState(
        NOISE_NAME,
        initiator=False,
        prologue=_prologue(key.public, context),
        static=KeyPair(private, x25519_public(private)),
    )
    return handshake.read_message(sealed)


def _prologue(device_public: bytes, context: bytes) -> bytes:
    """The signing key too: two of them, A and -A, are one key of X25519."""
    if not 0 < len(context) <= CONTEXT_SIZE_MAX:
        raise LocalError(f"a box has a context of 1 to {CONTEXT_SIZE_MAX} bytes, not {len(context)}")
    return transcript("spacepanda/sealed-box/1", device_public, context)
