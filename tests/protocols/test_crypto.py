import hashlib
import hmac
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.crypto import (
    BLAKE2B,
    BLAKE2S,
    SHA256,
    SHA384,
    SHA512,
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
)
from protocols.errors import LocalError
from tests.vectors import vectors

HASHES = (SHA256, SHA384, SHA512, BLAKE2S, BLAKE2B)


def wycheproof(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for group in vectors(f"wycheproof/{name}_test.json")["testGroups"]:
        for case in group["tests"]:
            yield group, case


def test_x25519_agrees_with_wycheproof_and_refuses_low_order_points() -> None:
    refused = 0
    for _, case in wycheproof("x25519"):
        private, public, shared = (bytes.fromhex(case[key]) for key in ("private", "public", "shared"))
        if shared == bytes(32):
            refused += 1
            with pytest.raises(CryptoError) as caught:
                x25519(private, public)
            assert caught.value.reason == "low_order_point"
            continue
        try:
            assert x25519(private, public) == shared, case
        except CryptoError:
            assert case["result"] == "acceptable", case
    assert refused > 0


def test_ed25519_agrees_with_wycheproof() -> None:
    for group, case in wycheproof("ed25519"):
        public = bytes.fromhex(group["publicKey"]["pk"])
        verified = ed25519_verify(public, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
        assert verified == (case["result"] == "valid"), case


def test_chacha20_poly1305_agrees_with_wycheproof() -> None:
    for _, case in wycheproof("chacha20_poly1305"):
        nonce, ad, text, sealed, tag = (bytes.fromhex(case[key]) for key in ("iv", "aad", "msg", "ct", "tag"))
        if len(nonce) != 12:
            continue
        context = chacha20_poly1305(bytes.fromhex(case["key"]))
        if case["result"] == "valid":
            assert context.encrypt(nonce, text, ad) == sealed + tag, case
            assert open_sealed(context, nonce, ad, sealed + tag) == text, case
        else:
            with pytest.raises(CryptoError):
                open_sealed(context, nonce, ad, sealed + tag)


def test_hkdf_agrees_with_wycheproof() -> None:
    for _, case in wycheproof("hkdf_sha256"):
        ikm, salt, info = (bytes.fromhex(case[key]) for key in ("ikm", "salt", "info"))
        extracted = SHA256.hkdf_extract(salt, ikm)
        if case["result"] == "valid":
            assert SHA256.hkdf_expand(extracted, info, case["size"]).hex() == case["okm"], case
        else:
            with pytest.raises(LocalError):
                SHA256.hkdf_expand(extracted, info, case["size"])


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


def test_small_order_ed25519_key_verifies_nothing() -> None:
    identity = b"\1" + bytes(31)
    assert not ed25519_verify(identity, b"anything", identity + bytes(32))


def test_ed448_agrees_with_rfc_8032() -> None:
    """§7.4, "1 octet"."""
    seed = bytes.fromhex(
        "c4eab05d357007c632f3dbb48489924d552b08fe0c353a0d4a1f00acda2c463afbea67c5e8d2877c5e3bc397a659949ef8021e954e0a12274e"
    )
    public = bytes.fromhex(
        "43ba28f430cdff456ae531545f7ecd0ac834a55d9358c0372bfa0c6c6798c0866aea01eb00742802b8438ea4cb82169c235160627b4c3a9480"
    )
    signature = bytes.fromhex(
        "26b8f91727bd62897af15e41eb43c377efb9c610d48f2335cb0bd0087810f4352541b143c4b981b7e18f62de8ccdf633fc1bf037ab7cd77980"
        "5e0dbcc0aae1cbcee1afb2e027df36bc04dcecbf154336c19f0af7e0a6472905e799f1953d2a0ff3348ab21aa4adafd1d234441cf807c03a00"
    )
    assert ed448_public(seed) == public
    assert ed448_sign(seed, b"\3") == signature
    assert ed448_verify(public, b"\3", signature)
    assert not ed448_verify(public, b"\4", signature)
    assert not ed448_verify(public[:-1], b"\3", signature)
    assert not ed448_verify(public, b"\3", signature + b"\0")


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


def test_aes_gcm_refuses_a_changed_byte() -> None:
    context = aes_gcm(bytes(16))
    sealed = context.encrypt(bytes(12), b"text", b"ad")
    assert open_sealed(context, bytes(12), b"ad", sealed) == b"text"
    with pytest.raises(CryptoError) as caught:
        open_sealed(context, bytes(12), b"da", sealed)
    assert caught.value.reason == "decrypt_failed"


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
