"""What a signature promises, for every scheme: it is the key's, of these bytes, and always the same one."""

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crypto import CryptoError
from protocols.errors import LocalError
from protocols.mls.curves import P256, P384, P521
from protocols.mls.signatures import (
    ECDSA_P256,
    ECDSA_P384,
    ECDSA_P521,
    ED448,
    ED25519,
    EcDsa,
    SignatureKeyPair,
    SignatureScheme,
)

SCHEMES = (ED25519, ED448, ECDSA_P256, ECDSA_P384, ECDSA_P521)
ORDERS = {ECDSA_P256: P256.order, ECDSA_P384: P384.order, ECDSA_P521: P521.order}
PRIME_448 = 2**448 - 2**224 - 1

every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=repr)


def key_pair(scheme: SignatureScheme, byte: int = 1) -> SignatureKeyPair:
    return scheme.key_pair(lambda size: bytes((byte,)) * size)


@every_scheme
def test_signature_is_the_keys_and_of_the_message(scheme: SignatureScheme) -> None:
    private, public = key_pair(scheme)
    other = key_pair(scheme, 2)
    signature = scheme.sign(private, public, b"message")
    assert scheme.verify(public, b"message", signature)
    assert not scheme.verify(public, b"message ", signature)
    assert not scheme.verify(other.public, b"message", signature)
    for position in range(0, len(signature), 7):
        flipped = signature[:position] + bytes((signature[position] ^ 4,)) + signature[position + 1 :]
        assert not scheme.verify(public, b"message", flipped)


@every_scheme
def test_equal_inputs_make_equal_keys_and_signatures(scheme: SignatureScheme) -> None:
    private, public = key_pair(scheme)
    assert key_pair(scheme) == (private, public)
    assert scheme.public(private) == public
    assert (len(private), len(public)) == (scheme.private_size, scheme.public_size)
    assert scheme.sign(private, public, b"message") == scheme.sign(private, public, b"message")


@every_scheme
@settings(max_examples=30)
@given(public=st.binary(max_size=140), signature=st.binary(max_size=140), data=st.data())
def test_arbitrary_bytes_never_verify_and_never_raise(
    scheme: SignatureScheme, public: bytes, signature: bytes, data: st.DataObject
) -> None:
    sized = data.draw(st.binary(min_size=scheme.public_size, max_size=scheme.public_size))
    for key in (public, sized, key_pair(scheme).public):
        assert not scheme.verify(key, b"message", signature)


@every_scheme
def test_key_of_a_wrong_length_is_refused(scheme: SignatureScheme) -> None:
    _, public = key_pair(scheme)
    scheme.check_public(public)
    for bad in (b"", public[:-1], public + b"\0"):
        with pytest.raises(CryptoError) as caught:
            scheme.check_public(bad)
        assert caught.value.reason == "bad_key_length"


@every_scheme
def test_our_own_halves_of_a_wrong_length_sign_nothing(scheme: SignatureScheme) -> None:
    private, public = key_pair(scheme)
    for halves in ((private[:-1], public), (private, public[:-1])):
        with pytest.raises(LocalError) as caught:
            scheme.sign(*halves, b"message")
        assert private.hex() not in str(caught.value)


@every_scheme
def test_key_pair_shows_its_public_half_only(scheme: SignatureScheme) -> None:
    pair = scheme.key_pair(lambda size: b"\x5a" * size)
    assert pair.private.hex() not in repr(pair)
    assert pair.public.hex() in repr(pair)


@pytest.mark.parametrize("y", [0, 1, PRIME_448 - 1, PRIME_448, PRIME_448 + 1])
@pytest.mark.parametrize("sign", [0, 0x80])
def test_nothing_verifies_under_an_ed448_key_of_small_order(y: int, sign: int) -> None:
    """The signature R, S = 0 of somebody who knows no private key: OpenSSL takes it for y = 0."""
    public = y.to_bytes(56, "little") + bytes((sign,))
    for r in (0, 1, PRIME_448 - 1):
        forged = r.to_bytes(56, "little") + bytes(58)
        assert not any(ED448.verify(public, bytes((number,)), forged) for number in range(8))


def test_nothing_verifies_under_an_ed25519_key_of_small_order() -> None:
    for public in (bytes(32), b"\1" + bytes(31), (2**255 - 20).to_bytes(32, "little")):
        forged = b"\1" + bytes(63)
        assert not any(ED25519.verify(public, bytes((number,)), forged) for number in range(8))


@every_scheme
def test_twin_of_a_signature_has_the_same_signers_share(scheme: SignatureScheme) -> None:
    private, public = key_pair(scheme)
    shares = set()
    for number in range(8):
        message = bytes((number,))
        signature = scheme.sign(private, public, message)
        shares.add(share := scheme.signers_share(signature))
        if not isinstance(scheme, EcDsa):
            assert share == signature
            continue
        r, s = decode_dss_signature(signature)
        assert share == r.to_bytes(scheme.private_size, "big")
        assert 2 * s < ORDERS[scheme]
        twin = encode_dss_signature(r, ORDERS[scheme] - s)
        assert scheme.verify(public, message, twin)
        assert scheme.signers_share(twin) == share
    assert len(shares) == 8


@pytest.mark.parametrize("scheme", ORDERS, ids=repr)
def test_bytes_that_are_no_ecdsa_signature_have_no_signers_share(scheme: SignatureScheme) -> None:
    for bad in (b"", b"\x30", bytes.fromhex("30060201ff020101"), encode_dss_signature(2**528, 1)):
        with pytest.raises(CryptoError):
            scheme.signers_share(bad)


def test_ecdsa_key_pair_draws_again_what_is_no_scalar() -> None:
    draws = iter([b"\xff" * 32, bytes(32), b"\3" * 32])
    assert ECDSA_P256.key_pair(lambda _: next(draws)).private == b"\3" * 32
