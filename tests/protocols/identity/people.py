"""Users and their devices, for the tests of identities."""

from hashlib import sha256
from typing import TypeVar

import pytest

from protocols.errors import ProtocolError
from protocols.identity import ALL_PURPOSES, DeviceCertificate, DeviceRequest, IdentityError, Purpose, SigningKey
from protocols.identity.roster import Roster
from protocols.messages import Message

MessageT = TypeVar("MessageT", bound=Message)

BEGIN, END = 1_000, 2_000
"""From when until when a device of these tests is valid."""


def key(name: str) -> SigningKey:
    return SigningKey(sha256(name.encode()).digest())


USER, STRANGER = key("user"), key("stranger")
DEVICE, SECOND = key("device"), key("second device")


def request(
    device: SigningKey = DEVICE,
    user: SigningKey = USER,
    purposes: tuple[Purpose, ...] = ALL_PURPOSES,
    replaces: bytes = b"",
) -> DeviceRequest:
    return DeviceRequest.sign(device, user.public, purposes, replaces)


def certificate(
    device: SigningKey = DEVICE,
    user: SigningKey = USER,
    version: int = 0,
    not_before: int = BEGIN,
    not_after: int = END,
    purposes: tuple[Purpose, ...] = ALL_PURPOSES,
    replaces: bytes = b"",
) -> DeviceCertificate:
    return DeviceCertificate.issue(user, request(device, user, purposes, replaces), version, not_before, not_after)


def altered(original: MessageT, **fields: object) -> MessageT:
    values = {name: getattr(original, name) for name in original.__struct_fields__}
    return type(original)(**(values | fields))


def reason_of(roster: Roster, device: SigningKey, purpose: Purpose, at: int) -> str:
    """Why a device is not in standing, or "good"; asking changes nothing."""
    before = roster.to_bytes()
    try:
        found = roster.standing(device.public, purpose, at)
    except IdentityError as error:
        return error.reason
    finally:
        assert roster.to_bytes() == before
    assert found.device == device.public
    return "good"


def refusal(call: object, *arguments: object, **keywords: object) -> str:
    """The reason for which a call is refused."""
    with pytest.raises(ProtocolError) as caught:
        call(*arguments, **keywords)  # type: ignore[operator]
    return caught.value.reason
