"""HPKE by RFC 9180's first example, by its promises, and against the HPKE of cryptography.

All published cases are run by ``tests/cluster/conformance/test_hpke.py``.
"""

from typing import Any

import pytest
from cryptography.hazmat.primitives import hpke as theirs
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crypto import CryptoError
from protocols.errors import LocalError
from protocols.mls.hpke import (
    AES_128_GCM,
    AES_256_GCM,
    CHACHA20_POLY1305,
    EXPORT_ONLY,
    HKDF_SHA256,
    HKDF_SHA384,
    HKDF_SHA512,
    PSK_SIZE_MIN,
    Hpke,
)
from protocols.mls.kem import (
    DHKEM_P256,
    DHKEM_P384,
    DHKEM_P521,
    DHKEM_X448,
    DHKEM_X25519,
    MLKEM768_X25519,
    Kem,
)

HPKE = Hpke(DHKEM_X25519, HKDF_SHA256, AES_128_GCM)
EVERY = (
    HPKE,
    Hpke(DHKEM_P256, HKDF_SHA256, AES_128_GCM),
    Hpke(DHKEM_P384, HKDF_SHA384, AES_256_GCM),
    Hpke(DHKEM_P521, HKDF_SHA512, AES_256_GCM),
    Hpke(DHKEM_X448, HKDF_SHA512, CHACHA20_POLY1305),
    Hpke(MLKEM768_X25519, HKDF_SHA384, AES_256_GCM),
)
PSK = b"\x33" * PSK_SIZE_MIN

every_hpke = pytest.mark.parametrize("hpke", EVERY, ids=repr)


def entropy(size: int) -> bytes:
    return b"\x2a" * size


def key_pair(kem: Kem, byte: int = 7) -> tuple[bytes, bytes]:
    return kem.derive_key_pair(bytes((byte,)) * kem.private_size)


def test_first_example_of_rfc_9180() -> None:
    """§A.1.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, base mode."""
    ikm_e = bytes.fromhex("7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234")
    ikm_r = bytes.fromhex("6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037")
    private, public = DHKEM_X25519.derive_key_pair(ikm_r)
    schedule = HPKE.key_schedule(b"Ode on a Grecian Urn")
    kem_output, sender = schedule.setup_sender(public, lambda _: ikm_e)
    assert kem_output.hex() == "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"

    plaintext = b"Beauty is truth, truth beauty"
    ciphertexts = [sender.seal(b"Count-%d" % number, plaintext) for number in range(3)]
    assert [each.hex() for each in ciphertexts] == [
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a",
        "af2d7e9ac9ae7e270f46ba1f975be53c09f8d875bdc8535458c2494e8a6eab251c03d0c22a56b8ca42c2063b84",
        "498dfcabd92e8acedc281e85af1cb4e3e31c7dc394a1ca20e173cb72516491588d96a19ad4a683518973dcc180",
    ]
    recipient = schedule.setup_recipient(kem_output, private, public)
    assert [recipient.open(b"Count-%d" % n, each) for n, each in enumerate(ciphertexts)] == [plaintext] * 3
    exported = "e9e43065102c3836401bed8c3c3c75ae46be1639869391d62c61f1ec7af54931"
    assert sender.export(b"TestContext", 32).hex() == recipient.export(b"TestContext", 32).hex() == exported


@every_hpke
@settings(max_examples=10)
@given(info=st.binary(max_size=200), aad=st.binary(max_size=50), plaintext=st.binary(max_size=300), psk=st.booleans())
def test_what_is_sealed_opens_in_both_modes(hpke: Hpke, info: bytes, aad: bytes, plaintext: bytes, psk: bool) -> None:
    private, public = key_pair(hpke.kem)
    schedule = hpke.key_schedule(info, PSK, b"id") if psk else hpke.key_schedule(info)
    kem_output, ciphertext = schedule.seal(public, aad, plaintext, entropy)
    assert schedule.open(kem_output, private, public, aad, ciphertext) == plaintext
    recipient = schedule.setup_recipient(kem_output, private, public)
    assert recipient.open(aad, ciphertext) == plaintext, "a single message is the first of its context"


@every_hpke
def test_one_key_schedule_serves_many_keys_and_each_opens_its_own(hpke: Hpke) -> None:
    schedule = hpke.key_schedule(b"info")
    pairs = [key_pair(hpke.kem, byte) for byte in (1, 2, 3)]
    sealed = [schedule.seal(public, b"", b"%d" % number, entropy) for number, (_, public) in enumerate(pairs)]
    for number, (private, public) in enumerate(pairs):
        kem_output, ciphertext = sealed[number]
        assert hpke.key_schedule(b"info").open(kem_output, private, public, b"", ciphertext) == b"%d" % number
        kem_output, ciphertext = sealed[number - 1]
        with pytest.raises(CryptoError):
            schedule.open(kem_output, private, public, b"", ciphertext)


@every_hpke
def test_nothing_opens_if_anything_differs(hpke: Hpke) -> None:
    private, public = key_pair(hpke.kem)
    schedule = hpke.key_schedule(b"info", PSK, b"id")
    kem_output, ciphertext = schedule.seal(public, b"aad", b"plaintext", entropy)
    for other in (
        hpke.key_schedule(b"inf0", PSK, b"id"),
        hpke.key_schedule(b"info"),
        hpke.key_schedule(b"info", PSK, b"di"),
        hpke.key_schedule(b"info", PSK[:-1] + b"\0", b"id"),
    ):
        with pytest.raises(CryptoError):
            other.open(kem_output, private, public, b"aad", ciphertext)
    with pytest.raises(CryptoError):
        schedule.open(kem_output, private, public, b"aae", ciphertext)
    for position in range(len(ciphertext)):
        altered = ciphertext[:position] + bytes((ciphertext[position] ^ 1,)) + ciphertext[position + 1 :]
        with pytest.raises(CryptoError):
            schedule.open(kem_output, private, public, b"aad", altered)
    for bad in (b"", ciphertext[:15], ciphertext + b"\0"):
        with pytest.raises(CryptoError):
            schedule.open(kem_output, private, public, b"aad", bad)


@settings(max_examples=50)
@given(kem_output=st.binary(max_size=40), ciphertext=st.binary(max_size=40), sized=st.binary(min_size=32, max_size=32))
def test_arbitrary_bytes_raise_nothing_but_a_crypto_error(kem_output: bytes, ciphertext: bytes, sized: bytes) -> None:
    private, public = key_pair(DHKEM_X25519)
    for each in (kem_output, sized):
        with pytest.raises(CryptoError):
            HPKE.key_schedule(b"").open(each, private, public, b"", ciphertext)


@every_hpke
def test_both_ends_export_the_same_secret(hpke: Hpke) -> None:
    private, public = key_pair(hpke.kem)
    schedule = hpke.key_schedule(b"")
    kem_output, secret = schedule.send_export(public, b"context", 48, entropy)
    assert schedule.receive_export(kem_output, private, public, b"context", 48) == secret
    assert schedule.setup_recipient(kem_output, private, public).export(b"context", 48) == secret
    assert schedule.receive_export(kem_output, private, public, b"another", 48) != secret
    assert hpke.key_schedule(b"x").receive_export(kem_output, private, public, b"context", 48) != secret


def test_messages_of_a_context_open_in_their_order_only() -> None:
    private, public = key_pair(DHKEM_X25519)
    schedule = HPKE.key_schedule(b"")
    kem_output, sender = schedule.setup_sender(public, entropy)
    first, second = sender.seal(b"", b"message"), sender.seal(b"", b"message")
    assert first != second
    recipient = schedule.setup_recipient(kem_output, private, public)
    for out_of_order in (second, b"", first[:-1]):
        with pytest.raises(CryptoError):
            recipient.open(b"", out_of_order)
    assert [recipient.open(b"", each) for each in (first, second)] == [b"message"] * 2
    with pytest.raises(CryptoError):
        recipient.open(b"", second)


def test_context_ends_before_a_nonce_repeats() -> None:
    _, public = key_pair(DHKEM_X25519)
    _, sender = HPKE.key_schedule(b"").setup_sender(public, entropy)
    sender._sequence = 2**96 - 2
    sender.seal(b"", b"the last")
    with pytest.raises(LocalError, match="used up"):
        sender.seal(b"", b"one more")


def test_export_only_exports_only() -> None:
    hpke = Hpke(DHKEM_X25519, HKDF_SHA256, EXPORT_ONLY)
    private, public = key_pair(hpke.kem)
    schedule = hpke.key_schedule(b"")
    kem_output, sender = schedule.setup_sender(public, entropy)
    recipient = schedule.setup_recipient(kem_output, private, public)
    assert sender.export(b"", 32) == recipient.export(b"", 32)
    for call in (
        lambda: sender.seal(b"", b""),
        lambda: recipient.open(b"", bytes(16)),
        lambda: schedule.seal(public, b"", b"", entropy),
        lambda: schedule.open(kem_output, private, public, b"", bytes(16)),
    ):
        with pytest.raises(LocalError, match="export-only"):
            call()


def test_psk_and_its_id_come_together_and_the_psk_is_long_enough() -> None:
    for psk, psk_id in ((PSK, b""), (b"", b"id"), (PSK[:-1], b"id")):
        with pytest.raises(LocalError):
            HPKE.key_schedule(b"", psk, psk_id)


def test_nothing_secret_is_shown() -> None:
    private, public = key_pair(DHKEM_X25519, 0x61)
    schedule = HPKE.key_schedule(b"", PSK, b"id")
    kem_output, sender = schedule.setup_sender(public, entropy)
    shown = repr((HPKE, schedule, sender, schedule.setup_recipient(kem_output, private, public)))
    assert "aaaa" not in shown
    assert "3333" not in shown


# -- beside cryptography's own ------------------------------------------------------------------------------


def _x25519(public: bytes) -> Any:
    return X25519PublicKey.from_public_bytes(public)


def _p256(public: bytes) -> Any:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)


def _p384(public: bytes) -> Any:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), public)


def _p521(public: bytes) -> Any:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP521R1(), public)


def _hybrid(public: bytes) -> Any:
    return theirs.MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(public[:1184]), _x25519(public[1184:]))


@pytest.mark.parametrize(
    ("hpke", "suite", "load"),
    [
        (EVERY[0], (theirs.KEM.X25519, theirs.KDF.HKDF_SHA256, theirs.AEAD.AES_128_GCM), _x25519),
        (EVERY[1], (theirs.KEM.P256, theirs.KDF.HKDF_SHA256, theirs.AEAD.AES_128_GCM), _p256),
        (EVERY[2], (theirs.KEM.P384, theirs.KDF.HKDF_SHA384, theirs.AEAD.AES_256_GCM), _p384),
        (EVERY[3], (theirs.KEM.P521, theirs.KDF.HKDF_SHA512, theirs.AEAD.AES_256_GCM), _p521),
        (EVERY[5], (theirs.KEM.MLKEM768_X25519, theirs.KDF.HKDF_SHA384, theirs.AEAD.AES_256_GCM), _hybrid),
    ],
)
def test_we_open_what_cryptography_seals(hpke: Hpke, suite: tuple[Any, Any, Any], load: Any) -> None:
    private, public = key_pair(hpke.kem)
    sealed = theirs.Suite(*suite).encrypt(b"plaintext", load(public), b"info")
    kem_output, ciphertext = sealed[: hpke.kem.kem_output_size], sealed[hpke.kem.kem_output_size :]
    assert hpke.key_schedule(b"info").open(kem_output, private, public, b"", ciphertext) == b"plaintext"
