import hashlib
import hmac
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.crypto import (
    AEAD_TAG_SIZE,
    BLAKE2B,
    BLAKE2S,
    SHA256,
    SHA384,
    SHA512,
    AeadContext,
    CryptoError,
    Hash,
    Secret,
    aes_gcm,
    chacha20_poly1305,
    ed448_public,
    ed448_sign,
    ed448_verify,
    ed25519_public,
    ed25519_sign,
    ed25519_verify,
    open_sealed,
    x448,
    x448_public,
    x25519,
    x25519_public,
    xchacha20_poly1305_open,
    xchacha20_poly1305_seal,
)
from protocols.errors import LocalError

HASHES = (SHA256, SHA384, SHA512, BLAKE2S, BLAKE2B)


@given(st.sampled_from(HASHES), st.binary(max_size=200), st.binary(max_size=200))
def test_hmac_is_the_standard_library_s(hash: Hash, key: bytes, data: bytes) -> None:
    assert hash.hmac(key, data) == hmac.digest(key, data, hash.name.lower())
    assert hash.hmac_twice(key, data, b"") == (hash.hmac(key, data), hash.hmac(key, b""))
    assert hash.digest(data) == hashlib.new(hash.name.lower(), data).digest()


@given(st.sampled_from(HASHES), st.binary(min_size=32, max_size=64), st.binary(max_size=64))
def test_noise_hkdf_is_rfc_5869_with_empty_info(hash: Hash, chaining_key: bytes, input_key: bytes) -> None:
    size = hash.digest_size
    stream = hash.hkdf_expand(hash.hkdf_extract(chaining_key, input_key), b"", 3 * size)
    assert b"".join(hash.hkdf_pair(chaining_key, input_key)) == stream[: 2 * size]
    assert b"".join(hash.hkdf_triple(chaining_key, input_key)) == stream


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64))
def test_signature_verifies_until_a_bit_of_anything_changes(seed: bytes, message: bytes) -> None:
    public = ed25519_public(seed)
    signature = ed25519_sign(seed, public, message)
    assert ed25519_verify(public, message, signature)
    assert not ed25519_verify(public, message + b"\0", signature)
    assert not ed25519_verify(public, message, signature[:-1] + bytes([signature[-1] ^ 1]))
    assert not ed25519_verify(public, message, signature[:-1])
    assert not ed25519_verify(public[:-1], message, signature)


def test_ed448_signature_verifies_until_its_shape_or_key_changes() -> None:
    public = ed448_public(bytes(57))
    signature = ed448_sign(bytes(57), b"m")
    assert ed448_verify(public, b"m", signature)
    assert not ed448_verify(public, b"n", signature)
    assert not ed448_verify(public[:-1], b"m", signature)
    assert not ed448_verify(public, b"m", signature + b"\0")


@given(st.binary(min_size=56, max_size=56), st.binary(min_size=56, max_size=56))
def test_x448_agrees_between_two_sides(ours: bytes, theirs: bytes) -> None:
    assert x448(ours, x448_public(theirs)) == x448(theirs, x448_public(ours))


def test_low_order_and_misshapen_public_keys_are_the_peer_s_fault() -> None:
    for function, size in ((x25519, 32), (x448, 56)):
        with pytest.raises(CryptoError) as caught:
            function(b"\1" * size, bytes(size))
        assert caught.value.reason == "low_order_point"
        with pytest.raises(CryptoError) as caught:
            function(b"\1" * size, bytes(size - 1))
        assert caught.value.reason == "bad_key_length"


def test_misshapen_keys_of_our_own_are_local_errors() -> None:
    with pytest.raises(LocalError):
        x25519_public(bytes(31))
    with pytest.raises(LocalError):
        x448_public(bytes(32))
    with pytest.raises(LocalError):
        ed25519_sign(bytes(31), bytes(32), b"")
    with pytest.raises(LocalError):
        ed448_sign(bytes(56), b"")
    with pytest.raises(LocalError):
        chacha20_poly1305(bytes(16))
    with pytest.raises(LocalError):
        aes_gcm(bytes(24))
    with pytest.raises(LocalError):
        xchacha20_poly1305_seal(bytes(31), bytes(24), b"", b"")
    with pytest.raises(LocalError):
        xchacha20_poly1305_seal(bytes(32), bytes(12), b"", b"")
    with pytest.raises(LocalError):
        xchacha20_poly1305_open(bytes(31), bytes(24), b"", bytes(16))


def test_aes_gcm_refuses_a_changed_byte() -> None:
    context = aes_gcm(bytes(16))
    sealed = context.encrypt(bytes(12), b"text", b"ad")
    assert open_sealed(context, bytes(12), b"ad", sealed) == b"text"
    with pytest.raises(CryptoError) as caught:
        open_sealed(context, bytes(12), b"da", sealed)
    assert caught.value.reason == "decrypt_failed"


@given(key=st.binary(min_size=32, max_size=32), nonce=st.binary(min_size=24, max_size=24), text=st.binary(max_size=99))
def test_xchacha20_poly1305_opens_what_it_sealed_and_nothing_else(key: bytes, nonce: bytes, text: bytes) -> None:
    sealed = xchacha20_poly1305_seal(key, nonce, b"ad", text)
    assert len(sealed) == len(text) + AEAD_TAG_SIZE
    assert xchacha20_poly1305_open(key, nonce, b"ad", sealed) == text
    for arguments in (
        (bytes([key[0] ^ 1]) + key[1:], nonce, b"ad", sealed),
        (key, bytes([nonce[0] ^ 1]) + nonce[1:], b"ad", sealed),
        (key, nonce[:-1], b"ad", sealed),
        (key, nonce + b"\0", b"ad", sealed),
        (key, nonce, b"da", sealed),
        (key, nonce, b"ad", sealed[:-1]),
        (key, nonce, b"ad", sealed + b"\0"),
        (key, nonce, b"ad", sealed[: AEAD_TAG_SIZE - 1]),
        (key, nonce, b"ad", b""),
    ):
        with pytest.raises(CryptoError) as caught:
            xchacha20_poly1305_open(*arguments)
        assert caught.value.reason == "decrypt_failed"


@pytest.mark.parametrize("context", [chacha20_poly1305(bytes(32)), aes_gcm(bytes(16))], ids=["ChaCha20", "AES"])
def test_what_no_nonce_could_open_is_refused_by_the_same_error(context: AeadContext) -> None:
    sealed = context.encrypt(bytes(12), b"", b"")
    for nonce, ciphertext in ((b"", sealed), (bytes(7), sealed), (bytes(12), sealed[1:]), (bytes(12), b"")):
        with pytest.raises(CryptoError) as caught:
            open_sealed(context, nonce, b"", ciphertext)
        assert caught.value.reason == "decrypt_failed"


@pytest.mark.parametrize("size", [-1, 255 * 32 + 1])
def test_hkdf_yields_at_most_255_blocks(size: int) -> None:
    assert len(SHA256.hkdf_expand(bytes(32), b"", 255 * 32)) == 255 * 32
    assert SHA256.hkdf_expand(bytes(32), b"", 0) == b""
    with pytest.raises(LocalError, match="8160"):
        SHA256.hkdf_expand(bytes(32), b"", size)


def test_secret_never_shows_its_bytes() -> None:
    secret = Secret(b"hunter2!")
    assert repr(secret) == str(secret) == f"{secret}" == "Secret(8 bytes)"
    assert secret.reveal() == b"hunter2!"
    assert secret == Secret(b"hunter2!")
    assert secret != Secret(b"hunter3!")
    assert secret != b"hunter2!"
    with pytest.raises(TypeError):
        hash(secret)
    with pytest.raises(LocalError):
        pickle.dumps(secret)
