"""A certificate says one thing: this static, here, for this."""

from hashlib import sha512

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.identity import CERTIFICATE_SIZE, DeviceIdentity, IdentityError, Purpose, certified_device, certify
from protocols.identity.device import NETWORK_ID_SIZE_MAX

ENTROPY = sha512(b"a device").digest()
NETWORK = b"a network"
DEVICE = DeviceIdentity.generate(ENTROPY, NETWORK)
OTHER = DeviceIdentity.generate(sha512(b"another device").digest(), NETWORK)


def test_certificate_names_its_device() -> None:
    assert certified_device(DEVICE.certificate, DEVICE.static_public, NETWORK) == DEVICE.device_public


def test_same_entropy_gives_the_same_identity() -> None:
    assert DeviceIdentity.generate(ENTROPY, NETWORK) == DEVICE
    assert len({DEVICE.device_public, DEVICE.static_public, OTHER.device_public, OTHER.static_public}) == 4


def test_certificate_does_not_move() -> None:
    cases = [
        (DEVICE.certificate, OTHER.static_public, NETWORK, Purpose.SESSION),
        (DEVICE.certificate, DEVICE.static_public, b"another network", Purpose.SESSION),
        (DEVICE.certificate, DEVICE.static_public, NETWORK, Purpose.MLS),
        (OTHER.certificate[:32] + DEVICE.certificate[32:], DEVICE.static_public, NETWORK, Purpose.SESSION),
    ]
    for certificate, static, network, purpose in cases:
        with pytest.raises(IdentityError) as caught:
            certified_device(certificate, static, network, purpose)
        assert caught.value.reason == "bad_static"


def test_certificate_for_another_purpose_is_no_session_certificate() -> None:
    other = certify(DEVICE.signing, DEVICE.static_public, NETWORK, Purpose.MLS)
    assert certified_device(other, DEVICE.static_public, NETWORK, Purpose.MLS) == DEVICE.device_public
    with pytest.raises(IdentityError):
        certified_device(other, DEVICE.static_public, NETWORK)


def test_device_key_of_small_order_certifies_nothing() -> None:
    # With the neutral element as public key, R = B * S verifies for every message if the check is not strict.
    neutral = (1).to_bytes(32, "little")
    with pytest.raises(IdentityError):
        certified_device(neutral + neutral + bytes(32), DEVICE.static_public, NETWORK)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_certify_nothing(certificate: bytes) -> None:
    with pytest.raises(IdentityError):
        certified_device(certificate, DEVICE.static_public, NETWORK)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 8 * CERTIFICATE_SIZE - 1))
def test_flipped_bit_certifies_nothing(bit: int) -> None:
    flipped = bytearray(DEVICE.certificate)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IdentityError):
        certified_device(bytes(flipped), DEVICE.static_public, NETWORK)


def test_secrets_are_not_printed() -> None:
    printed = repr(DEVICE)
    for secret in (DEVICE.signing.seed, DEVICE.static_private):
        assert repr(secret) not in printed
        assert secret.hex() not in printed


def test_wrong_amounts_are_the_callers_fault() -> None:
    with pytest.raises(LocalError):
        DeviceIdentity.generate(ENTROPY[:63], NETWORK)
    for network_id in (b"", bytes(NETWORK_ID_SIZE_MAX + 1)):
        with pytest.raises(LocalError):
            DeviceIdentity.generate(ENTROPY, network_id)
