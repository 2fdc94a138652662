"""The credential of a leaf says who is behind it, and is worth nothing with another key."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError, ProtocolError
from protocols.identity import Domain, LeafCredential, Purpose, Revocation, Roster, authenticate_leaf, sign
from protocols.identity.leaf import CREDENTIAL_SIZE_MAX, SIGNATURE_KEY_SIZE_MAX
from tests.protocols.identity.people import BEGIN, DEVICE, END, SECOND, STRANGER, USER, altered, certificate, refusal

SCHEME = 0x0807
KEY = bytes(range(100, 132))
CERTIFICATE = certificate()
CREDENTIAL = LeafCredential.sign(DEVICE, CERTIFICATE, SCHEME, KEY)
IDENTITY = CREDENTIAL.to_bytes()


def knows_everybody(user: bytes) -> Roster:
    return Roster(user)


def asked(identity: bytes = IDENTITY, key: bytes = KEY, scheme: int = SCHEME, at: int = BEGIN) -> str:
    return refusal(authenticate_leaf, identity, key, scheme, knows_everybody, at)


def test_a_leaf_is_its_devices_and_users() -> None:
    assert authenticate_leaf(IDENTITY, KEY, SCHEME, knows_everybody, BEGIN) == CERTIFICATE
    assert LeafCredential.from_bytes(IDENTITY) == CREDENTIAL
    assert len(IDENTITY) == 320 <= CREDENTIAL_SIZE_MAX


def test_another_key_or_scheme_is_not_the_leafs() -> None:
    assert asked(key=KEY[:-1] + b"!") == "bad_leaf"
    assert asked(key=KEY + b"\0") == "bad_leaf"
    assert asked(scheme=0x0403) == "wrong_scheme"
    assert asked(altered(CREDENTIAL, scheme=0x0403).to_bytes(), scheme=0x0403) == "bad_leaf"


def test_a_leaf_does_not_move_to_another_device_or_user() -> None:
    for other in (certificate(SECOND), certificate(user=STRANGER)):
        assert asked(altered(CREDENTIAL, certificate=other).to_bytes()) == "bad_leaf"
    with pytest.raises(LocalError):
        LeafCredential.sign(SECOND, CERTIFICATE, SCHEME, KEY)


def test_a_signature_of_another_domain_certifies_no_leaf() -> None:
    fields = USER.public, DEVICE.public, SCHEME.to_bytes(2), KEY
    assert CREDENTIAL.signature == sign(DEVICE, Domain.MLS_LEAF, *fields)
    for domain in Domain:
        if domain != Domain.MLS_LEAF:
            forged = altered(CREDENTIAL, signature=sign(DEVICE, domain, *fields))
            assert asked(forged.to_bytes()) == "bad_leaf"


def test_a_leaf_is_valid_as_long_as_its_device() -> None:
    assert asked(at=BEGIN - 1) == "not_yet_valid"
    assert asked(at=END) == "expired"
    without = certificate(purposes=(Purpose.DHT,))
    assert asked(LeafCredential.sign(DEVICE, without, SCHEME, KEY).to_bytes()) == "wrong_purpose"
    forged = altered(CERTIFICATE, not_after=END + 1)
    assert asked(LeafCredential.sign(DEVICE, forged, SCHEME, KEY).to_bytes()) == "bad_certificate"


def test_a_roster_that_knows_more_than_the_leaf_shows_decides() -> None:
    roster = Roster(USER.public)
    roster.add(Revocation.sign(USER, DEVICE.public, 1_500))

    def known(user: bytes) -> Roster | None:
        return roster if user == USER.public else None

    assert authenticate_leaf(IDENTITY, KEY, SCHEME, known, 1_499) == CERTIFICATE
    assert refusal(authenticate_leaf, IDENTITY, KEY, SCHEME, known, 1_500) == "revoked"
    theirs = LeafCredential.sign(DEVICE, certificate(user=STRANGER), SCHEME, KEY).to_bytes()
    assert refusal(authenticate_leaf, theirs, KEY, SCHEME, known, BEGIN) == "unknown_user"


def test_every_scheme_has_room() -> None:
    largest = bytes(SIGNATURE_KEY_SIZE_MAX)
    made = LeafCredential.sign(DEVICE, CERTIFICATE, 0xFFFF, largest)
    assert authenticate_leaf(made.to_bytes(), largest, 0xFFFF, knows_everybody, BEGIN) == CERTIFICATE
    for scheme, key in ((-1, KEY), (0x10000, KEY), (SCHEME, b""), (SCHEME, bytes(SIGNATURE_KEY_SIZE_MAX + 1))):
        with pytest.raises(LocalError):
            LeafCredential.sign(DEVICE, CERTIFICATE, scheme, key)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 8 * len(IDENTITY) - 1))
def test_a_flipped_bit_is_found(bit: int) -> None:
    flipped = bytearray(IDENTITY)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError):
        authenticate_leaf(bytes(flipped), KEY, SCHEME, knows_everybody, BEGIN)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_no_credential(identity: bytes) -> None:
    with pytest.raises(ProtocolError):
        authenticate_leaf(identity, KEY, SCHEME, knows_everybody, BEGIN)
