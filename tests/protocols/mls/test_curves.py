"""The NIST curves against RFC 6979's examples, and against keys that are no keys."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocols.crypto import CryptoError
from protocols.errors import LocalError
from protocols.mls.curves import P256, P384, P521, Curve

CURVES = (P256, P384, P521)
PRIMES = {
    "P-256": 2**256 - 2**224 + 2**192 + 2**96 - 1,
    "P-384": 2**384 - 2**128 - 2**96 + 2**32 - 1,
    "P-521": 2**521 - 1,
}
OPENSSL = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}

every_curve = pytest.mark.parametrize("curve", CURVES, ids=repr)


def scalar(curve: Curve, value: int) -> bytes:
    return value.to_bytes(curve.private_size, "big")


def small_point(curve: Curve) -> tuple[int, int]:
    """The point with the smallest x of all."""
    for x in range(100):
        try:
            compressed = b"\2" + x.to_bytes(curve.private_size, "big")
            numbers = ec.EllipticCurvePublicKey.from_encoded_point(OPENSSL[curve.name], compressed).public_numbers()
        except ValueError:
            continue
        return numbers.x, numbers.y
    raise AssertionError


@pytest.mark.parametrize(
    ("curve", "private", "r", "s"),
    [
        (  # RFC 6979 §A.2.5, SHA-256, "sample"
            P256,
            "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721",
            "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
            "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
        ),
        (  # RFC 6979 §A.2.6, SHA-384, "sample"
            P384,
            "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5",
            "94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46",
            "99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8",
        ),
    ],
    ids=["P-256", "P-384"],
)
def test_signatures_are_those_of_rfc_6979_with_the_smaller_s(curve: Curve, private: str, r: str, s: str) -> None:
    key, larger = bytes.fromhex(private), int(s, 16)
    signature = curve.sign(key, curve.public(key), b"sample")
    assert decode_dss_signature(signature) == (int(r, 16), curve.order - larger)
    assert curve.verify(curve.public(key), b"sample", encode_dss_signature(int(r, 16), larger))
    assert curve.verify(curve.public(key), b"sample", signature)


@every_curve
def test_both_ends_of_an_exchange_agree(curve: Curve) -> None:
    alice, bob = scalar(curve, 2**200 + 1), scalar(curve, curve.order - 1)
    alice_public, bob_public = curve.public(alice), curve.public(bob)
    shared = curve.exchange(alice, alice_public, bob_public)
    assert shared == curve.exchange(bob, bob_public, alice_public)
    assert curve.exchange_once(alice, bob_public) == (alice_public, shared)
    assert len(shared) == curve.shared_size


@every_curve
def test_only_an_uncompressed_point_of_the_curve_is_a_public_key(curve: Curve) -> None:
    good = curve.public(scalar(curve, 5))
    curve.check_public(good)
    compressed = bytes((2 + good[-1] % 2,)) + good[1 : 1 + curve.private_size]
    off_curve = good[:-1] + bytes((good[-1] ^ 1,))
    hybrid = bytes((6 + good[-1] % 2,)) + good[1:]
    zero = bytes(len(good))
    bad = (b"", b"\0", compressed, off_curve, hybrid, good[:-1], good + b"\0", zero, b"\4" + zero[1:])
    for each in bad:
        with pytest.raises(CryptoError):
            curve.check_public(each)
        with pytest.raises(CryptoError):
            curve.exchange_once(scalar(curve, 7), each)
        assert not curve.verify(each, b"message", curve.sign(scalar(curve, 5), good, b"message"))


@every_curve
def test_coordinate_not_below_the_prime_is_refused(curve: Curve) -> None:
    """x and x + p are one coordinate in two spellings; a key has one, or unique keys would not be unique."""
    size = curve.private_size
    x, y = small_point(curve)
    y_bytes = y.to_bytes(size, "big")
    curve.check_public(b"\4" + x.to_bytes(size, "big") + y_bytes)
    with pytest.raises(CryptoError):
        curve.check_public(b"\4" + (x + PRIMES[curve.name]).to_bytes(size, "big") + y_bytes)


@every_curve
def test_scalar_out_of_range_is_our_callers_fault(curve: Curve) -> None:
    for value in (0, curve.order):
        with pytest.raises(LocalError):
            curve.public(scalar(curve, value))
    with pytest.raises(LocalError):
        curve.public(b"\1")


@every_curve
def test_halves_that_do_not_belong_together_sign_nothing(curve: Curve) -> None:
    private, other = scalar(curve, 3), curve.public(scalar(curve, 4))
    for public in (other, b"", bytes(curve.public_size)):
        with pytest.raises(LocalError) as caught:
            curve.sign(private, public, b"message")
        assert private.hex() not in str(caught.value)
        with pytest.raises(LocalError):
            curve.exchange(private, public, other)


@every_curve
def test_sampling_passes_over_what_is_no_scalar(curve: Curve) -> None:
    candidates = [bytes(curve.private_size), scalar(curve, curve.order), scalar(curve, 9)]
    assert curve.sample_private(candidates.__getitem__) == scalar(curve, 9)


@every_curve
def test_sampling_ends_without_entropy(curve: Curve) -> None:
    with pytest.raises(LocalError, match="256 draws"):
        curve.sample_private(lambda _: bytes(curve.private_size))
    with pytest.raises(LocalError, match="bytes for a private key"):
        curve.sample_private(lambda _: b"")


def test_excess_bits_of_a_candidate_are_cleared() -> None:
    """P-521 has seven of them (RFC 9180 §7.1.3)."""
    candidate = b"\xfe" + bytes(64) + b"\1"
    assert P521.sample_private(lambda _: candidate) == scalar(P521, 1)


def test_public_key_is_what_openssl_makes_of_the_scalar() -> None:
    key = ec.derive_private_key(12345, ec.SECP256R1()).public_key()
    assert P256.public(scalar(P256, 12345)) == key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@every_curve
def test_signature_in_any_other_form_is_refused(curve: Curve) -> None:
    private = scalar(curve, 77)
    public = curve.public(private)
    signature = curve.sign(private, public, b"message")
    r, s = decode_dss_signature(signature)
    raw = scalar(curve, r) + scalar(curve, s)
    for other in (b"", raw, signature + b"\0", signature[:-1], b"\x30\0", b"\x30\x06\x02\x01\0\x02\x01\0"):
        assert not curve.verify(public, b"message", other)
    assert not curve.verify(public, b"massage", signature)
