"""A device is a user's when both said so, until the user says otherwise."""

import pytest

from protocols.errors import LocalError
from protocols.identity import ALL_PURPOSES, DeviceCertificate, DeviceRequest, Domain, Purpose, Revocation, sign
from protocols.identity.certificates import STATEMENT_SIZE_MAX, STATEMENTS
from protocols.messages import encode
from tests.protocols.identity.people import (
    BEGIN,
    DEVICE,
    END,
    SECOND,
    STRANGER,
    USER,
    altered,
    certificate,
    key,
    refusal,
    request,
)


def test_a_certificate_is_signed_by_both() -> None:
    made = certificate(purposes=(Purpose.MLS, Purpose.DHT), replaces=SECOND.public)
    made.verify()
    assert (made.user, made.device, made.replaces) == (USER.public, DEVICE.public, SECOND.public)
    assert made.purposes == (Purpose.DHT, Purpose.MLS)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("user", STRANGER.public, "bad_certificate"),
        ("device", SECOND.public, "bad_certificate"),
        ("version", 1, "bad_certificate"),
        ("replaces", SECOND.public, "bad_certificate"),
        ("purposes", ALL_PURPOSES[1:], "bad_certificate"),
        ("not_before", BEGIN - 1, "bad_certificate"),
        ("not_after", END + 1, "bad_certificate"),
        ("consent", bytes(64), "bad_certificate"),
        ("signature", bytes(64), "bad_certificate"),
    ],
)
def test_a_certificate_altered_in_any_field_is_refused(field: str, value: object, reason: str) -> None:
    assert refusal(altered(certificate(), **{field: value}).verify) == reason


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user", STRANGER.public),
        ("device", SECOND.public),
        ("replaces", SECOND.public),
        ("purposes", ALL_PURPOSES[1:]),
        ("signature", bytes(64)),
    ],
)
def test_a_request_altered_in_any_field_is_refused_and_not_certified(field: str, value: object) -> None:
    forged = altered(request(), **{field: value})
    assert refusal(forged.verify) == "bad_request"
    user = USER if field != "user" else STRANGER
    assert refusal(DeviceCertificate.issue, user, forged, 0, BEGIN, END) == "bad_request"


def test_nobody_certifies_a_device_that_did_not_ask_them() -> None:
    """Or what it signs would be theirs: the device asked USER."""
    asked = request()
    assert refusal(DeviceCertificate.issue, STRANGER, asked, 0, BEGIN, END) == "wrong_user"
    theirs = altered(asked, user=STRANGER.public)
    assert refusal(DeviceCertificate.issue, STRANGER, theirs, 0, BEGIN, END) == "bad_request"
    # With the check left out, and the stranger's signature over everything, the device's is still missing.
    claimed = certificate(key("the stranger's own device"), STRANGER)
    unsigned = altered(claimed, device=DEVICE.public, consent=asked.signature)
    forged = altered(unsigned, signature=sign(STRANGER, Domain.DEVICE, *unsigned.fields()))
    assert refusal(forged.verify) == "bad_request"


def test_validity_is_half_open() -> None:
    made = certificate()
    assert refusal(made.require_valid, BEGIN - 1) == "not_yet_valid"
    made.require_valid(BEGIN)
    made.require_valid(END - 1)
    assert refusal(made.require_valid, END) == "expired"


def test_a_certificate_is_for_its_purposes_only() -> None:
    for purpose in Purpose:
        made = certificate(purposes=tuple(each for each in Purpose if each != purpose))
        assert refusal(made.require_purpose, purpose) == "wrong_purpose"
        for other in made.purposes:
            made.require_purpose(other)


def test_a_revocation_is_the_users() -> None:
    made = Revocation.sign(USER, DEVICE.public, 5)
    made.verify()
    for field, value in (("user", STRANGER.public), ("device", SECOND.public), ("revoked_at", 6)):
        assert refusal(altered(made, **{field: value}).verify) == "bad_revocation"
    assert refusal(altered(made, signature=bytes(64)).verify) == "bad_revocation"


def test_a_signature_of_one_statement_is_none_of_another() -> None:
    asked = request()
    assert refusal(altered(certificate(), signature=asked.signature).verify) == "bad_certificate"
    assert refusal(altered(asked, signature=certificate().signature).verify) == "bad_request"
    assert refusal(Revocation(USER.public, DEVICE.public, 5, certificate().signature).verify) == "bad_revocation"


STATEMENTS_MADE = [
    request(),
    request(replaces=SECOND.public),
    certificate(replaces=SECOND.public, version=2**63 - 1, not_before=2**63 - 2, not_after=2**63 - 1),
    certificate(purposes=(Purpose.DHT,)),
    Revocation.sign(USER, DEVICE.public, 2**63 - 1),
]


@pytest.mark.parametrize("statement", STATEMENTS_MADE)
def test_statements_are_their_bytes(statement: DeviceRequest | DeviceCertificate | Revocation) -> None:
    data = STATEMENTS.encode(statement)
    assert len(data) <= 294 < STATEMENT_SIZE_MAX
    assert STATEMENTS.decode(data) == statement
    for cut in range(len(data)):
        assert refusal(STATEMENTS.decode, data[:cut]) in {"malformed", "invalid"}
    assert refusal(STATEMENTS.decode, data + b"\0") == "malformed"


@pytest.mark.parametrize(
    "fields",
    [
        {"purposes": (Purpose.DHT, Purpose.CRDT)},
        {"purposes": (Purpose.DHT, Purpose.DHT)},
        {"not_after": BEGIN},
        {"replaces": bytes(31)},
        {"replaces": DEVICE.public},
        {"user": DEVICE.public},
    ],
)
def test_what_cannot_be_meant_is_refused_whoever_signed_it(fields: dict[str, object]) -> None:
    assert refusal(altered(certificate(), **fields).verify) == "senseless"
    if "not_after" not in fields:
        assert refusal(altered(request(), **fields).verify) == "senseless"


@pytest.mark.parametrize(
    "fields",
    [
        {"purposes": ()},
        {"purposes": ("everything",)},
        {"purposes": (*Purpose, Purpose.DHT)},
        {"not_before": -1},
        {"replaces": bytes(33)},
        {"device": bytes(31)},
        {"signature": bytes(63)},
    ],
)
def test_a_field_out_of_bounds_is_not_decoded(fields: dict[str, object]) -> None:
    made = certificate()
    values = {name: getattr(made, name) for name in made.__struct_fields__} | fields
    assert refusal(DeviceCertificate.from_bytes, encode(["id.device", *values.values()])) == "invalid"


def test_a_caller_who_means_nothing_is_told() -> None:
    with pytest.raises(LocalError):
        request(purposes=())
    with pytest.raises(LocalError):
        request(replaces=DEVICE.public)
    for version, begin, end in ((-1, 0, 1), (2**63, 0, 1), (0, 1, 1), (0, -1, 1), (0, 0, 2**63)):
        with pytest.raises(LocalError):
            DeviceCertificate.issue(USER, request(), version, begin, end)
    for device, at in ((bytes(31), 0), (bytes(32), -1), (bytes(32), 2**63)):
        with pytest.raises(LocalError):
            Revocation.sign(USER, device, at)


def test_every_flipped_bit_is_found() -> None:
    data = bytearray(certificate().to_bytes())
    reasons = set()
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        reasons.add(refusal(lambda: DeviceCertificate.from_bytes(bytes(data)).verify()))
        data[bit // 8] ^= 1 << bit % 8
    assert reasons == {"bad_certificate", "senseless", "invalid", "malformed", "unknown_tag"}
