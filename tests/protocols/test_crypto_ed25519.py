"""Which signatures verify, of those about which Ed25519 implementations disagree.

The classes are those of "Taming the Many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020, §5), made here from the
curve's points. What ours decides:

- S is below L, or anybody could make a second signature out of a first (RFC 8032 §5.1.7).
- A and R are encoded in the one canonical way.
- A and R are not of small order. Such a key belongs to nobody: one signature fits every eighth message, or all.
- The equation is the one without cofactor, S·B = R + h·A. The owner of a key can make signatures about which it
  and the other one, times eight, disagree, and replicas would with them. libsodium's later sources have the other
  one, so a new release of PyNaCl has to pass here before it is ours.

An A or R of mixed order, a large one plus one of small order, is taken if that equation holds. To find out costs as
much as verifying, and gains nothing: only the owner of A makes such signatures, and h covers A and R as encoded. The
bridge to X25519 does refuse such an A, as eight keys would lead to one shared secret.
"""

from collections.abc import Iterator

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crypto import (
    CryptoError,
    ed25519_public,
    ed25519_sign,
    ed25519_verify,
    x25519,
    x25519_private_of_ed25519,
    x25519_public,
    x25519_public_of_ed25519,
)
from protocols.errors import LocalError
from tests.edwards25519 import (
    BASE,
    IDENTITY,
    ORDER,
    PRIME,
    Point,
    add,
    challenge,
    encode,
    encode_scalar,
    multiply,
    point_with,
    torsion,
)

PRIVATE, NONCE = 0x5EED_0F_A, 0x5EED_0F_4
LARGE_A, LARGE_R = multiply(PRIVATE, BASE), multiply(NONCE, BASE)
TORSION = [multiply(k, torsion(8)) for k in range(8)]
"""The points of small order: the k-th is k times a generator T, so that their sums are sums modulo eight."""
SMALL = [encode(point) for point in TORSION]
MIXED_A = [encode(add(LARGE_A, point)) for point in TORSION]
MIXED_R = [encode(add(LARGE_R, point)) for point in TORSION]

SOLVABLE = 43
"""Pairs (a, k) for which k + h·a is 0 modulo eight for some h: 8 of each odd a, 4 of 2 and 6, 2 of 4, 1 of 0."""

seeds = st.binary(min_size=32, max_size=32)


def made(public: bytes, r: bytes, private: int, nonce: int, a: int, k: int) -> Iterator[tuple[bool, bytes, bytes]]:
    """Messages and signatures for A = private·B + a·T and R = nonce·B + k·T, T of order eight: one for which
    S·B = R + h·A, and one for which it holds only times eight, as far as there are such."""
    for wanted in (True, False):
        for number in range(64):
            message = number.to_bytes(1, "big")
            h = challenge(r, public, message)
            if ((k + h * a) % 8 == 0) == wanted:
                yield wanted, message, r + encode_scalar((nonce + h * private) % ORDER)
                break


def openssl_verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    """By the same equation and without our other rules: that a case is refused for what it is made for."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def odd_encodings(point: Point) -> list[bytes]:
    """What decodes to this point and is not its encoding: y + p where it fits, and a sign for an x of zero."""
    x, y = point
    ys = (y, y + PRIME) if y < 19 else (y,)
    signs = (x & 1,) if x else (0, 1)
    every = [(each | sign << 255).to_bytes(32, "little") for each in ys for sign in signs]
    return [each for each in every if each != encode(point)]


def test_the_plain_curve_is_ed25519() -> None:
    assert encode(BASE).hex() == "58" + "66" * 31
    assert multiply(ORDER, BASE) == IDENTITY
    assert [len({encode(multiply(k, torsion(order))) for k in range(8)}) for order in (1, 2, 4, 8)] == [1, 2, 4, 8]
    assert [len(odd_encodings(point)) for point in TORSION].count(0) == 4
    public = ed25519_public(bytes(32))
    sign, y = divmod(int.from_bytes(public, "little"), 2**255)
    assert encode(point_with(y, sign)) == public


# -- verifying --------------------------------------------------------------------------------------


def test_mixed_orders_verify_exactly_if_the_equation_without_cofactor_holds() -> None:
    verdicts = []
    for a, public in enumerate(MIXED_A):
        for k, r in enumerate(MIXED_R):
            for holds, message, signature in made(public, r, PRIVATE, NONCE, a, k):
                assert ed25519_verify(public, message, signature) == holds, (a, k)
                verdicts.append(holds)
    assert verdicts.count(True) == SOLVABLE
    assert verdicts.count(False) == 63  # all pairs but that of large orders


def test_key_of_small_order_verifies_nothing() -> None:
    refused = 0
    for a, public in enumerate(SMALL):
        for k in range(8):
            for r, nonce in ((MIXED_R[k], NONCE), (SMALL[k], 0)):
                for holds, message, signature in made(public, r, 0, nonce, a, k):
                    assert not ed25519_verify(public, message, signature), (a, k)
                    assert openssl_verifies(public, message, signature) == holds
                    refused += holds
    assert refused == 2 * SOLVABLE


def test_signature_whose_r_is_of_small_order_does_not_verify() -> None:
    refused = 0
    for a, public in enumerate(MIXED_A):
        for k, r in enumerate(SMALL):
            for holds, message, signature in made(public, r, PRIVATE, 0, a, k):
                assert not ed25519_verify(public, message, signature), (a, k)
                assert openssl_verifies(public, message, signature) == holds
                refused += holds
    assert refused == SOLVABLE


def test_key_that_is_not_canonically_encoded_verifies_nothing() -> None:
    """Whichever of its encodings was hashed. Those of large order have no private key that anybody knows."""
    for a, point in enumerate(TORSION):
        for public in odd_encodings(point):
            for hashed in (public, encode(point)):
                for _, message, signature in made(hashed, MIXED_R[0], 0, NONCE, a, 0):
                    assert not ed25519_verify(public, message, signature), public.hex()


def test_r_that_is_not_canonically_encoded_does_not_verify() -> None:
    for k, point in enumerate(TORSION):
        for r in odd_encodings(point):
            for hashed in (r, encode(point)):
                for a, public in enumerate(MIXED_A):
                    for _, message, signature in made(public, hashed, PRIVATE, 0, a, k):
                        assert not ed25519_verify(public, message, r + signature[32:]), r.hex()


@settings(max_examples=25)
@given(seeds, st.binary(max_size=32))
def test_s_has_to_be_below_the_order(seed: bytes, message: bytes) -> None:
    public = ed25519_public(seed)
    signature = ed25519_sign(seed, public, message)
    s = int.from_bytes(signature[32:], "little")
    assert s < ORDER
    for larger in range(s + ORDER, 2**256, ORDER):
        assert not ed25519_verify(public, message, signature[:32] + encode_scalar(larger))


def test_point_that_is_not_on_the_curve_verifies_nothing() -> None:
    off = encode_scalar(2)
    with pytest.raises(ValueError, match="no point"):
        point_with(2, 0)
    assert not ed25519_verify(off, b"", MIXED_R[0] + encode_scalar(NONCE))
    assert not ed25519_verify(MIXED_A[0], b"", off + encode_scalar(NONCE))


# -- the bridge to X25519 ---------------------------------------------------------------------------


@settings(max_examples=25)
@given(seeds, seeds)
def test_bridged_halves_belong_together_and_agree_on_a_secret(ours: bytes, theirs: bytes) -> None:
    public = ed25519_public(ours)
    private = x25519_private_of_ed25519(ours, public)
    assert x25519_public(private) == x25519_public_of_ed25519(public)
    assert x25519(private, x25519_public(theirs)) == x25519(theirs, x25519_public_of_ed25519(public))


@settings(max_examples=25)
@given(seeds)
def test_bridge_is_the_map_of_rfc_7748(seed: bytes) -> None:
    """§4.1: u = (1 + y) / (1 - y)."""
    public = ed25519_public(seed)
    y = int.from_bytes(public, "little") & 2**255 - 1
    u = (1 + y) * pow(1 - y, -1, PRIME) % PRIME
    assert x25519_public_of_ed25519(public) == u.to_bytes(32, "little")


def bridged(public: bytes) -> str:
    """``taken``, or the reason of the refusal."""
    try:
        x25519_public_of_ed25519(public)
    except CryptoError as error:
        return error.reason
    return "taken"


def test_bridge_takes_one_of_the_eight_keys_that_share_a_secret() -> None:
    assert [bridged(public) for public in MIXED_A] == ["taken"] + ["bad_point"] * 7


def test_bridge_refuses_keys_of_small_order_and_what_is_no_point() -> None:
    assert {bridged(public) for public in (*SMALL, encode_scalar(2))} == {"bad_point"}


def test_bridge_takes_no_encoding_that_is_not_canonical() -> None:
    """All there are: y + p below 2^255, with either sign, and the two x of zero."""
    odd = [encode_scalar(y + PRIME | sign << 255) for y in range(19) for sign in (0, 1)]
    odd += [encode_scalar(y | 1 << 255) for y in (1, PRIME - 1)]
    assert {bridged(public) for public in odd} == {"bad_point"}
    assert not any(ed25519_verify(public, b"", MIXED_R[0] + encode_scalar(NONCE)) for public in odd)


def test_bridge_refuses_wrong_lengths_by_whose_fault_they_are() -> None:
    public = ed25519_public(bytes(32))
    assert bridged(public[1:]) == bridged(public + b"\0") == "bad_key_length"
    for seed, half in ((bytes(31), public), (bytes(32), public[1:]), (bytes(31), public + b"\0")):
        with pytest.raises(LocalError):
            x25519_private_of_ed25519(seed, half)
