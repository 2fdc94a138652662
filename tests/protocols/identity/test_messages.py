"""The words of identities: canonical, bounded, and nothing else."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.identity.messages import (
    ANSWERS,
    CHANNEL_SIZE_MAX,
    KEY_PACKAGE_SIZE_MAX,
    MESSAGE_SIZE_MAX,
    REQUESTS,
    Accepted,
    CertificateAnswer,
    CertificateRequest,
    Challenge,
    Proof,
    ProofPurpose,
    ProofRequest,
)
from protocols.messages import Codec, CodecError, Message, encode
from tests.protocols.identity.people import certificate

CHALLENGE = Challenge(
    nonce=bytes(32),
    issued_at=2**63 - 1,
    device=b"D" * 32,
    issuer=b"I" * 32,
    purpose=ProofPurpose.ADD_TO_CHANNEL,
    channel=bytes(CHANNEL_SIZE_MAX),
    binding=b"B" * 32,
    key_package=bytes(KEY_PACKAGE_SIZE_MAX),
)
PROOF = Proof(CHALLENGE, certificate(not_after=2**63 - 1), bytes(64))
CASES: list[tuple[Codec, Message]] = [  # type: ignore[type-arg]
    (REQUESTS, ProofRequest(ProofPurpose.REPLACE_DEVICE)),
    (REQUESTS, ProofRequest(ProofPurpose.ADD_TO_CHANNEL, b"channel", b"reference")),
    (REQUESTS, PROOF),
    (REQUESTS, msgspec.structs.replace(PROOF, certificate=None)),
    (REQUESTS, CertificateRequest()),
    (ANSWERS, CHALLENGE),
    (ANSWERS, Accepted(bytes(32))),
    (ANSWERS, CertificateAnswer(certificate())),
    (ANSWERS, CertificateAnswer(None)),
]


@pytest.mark.parametrize(("codec", "message"), CASES)
def test_what_is_said_is_what_is_heard(codec: Codec, message: Message) -> None:  # type: ignore[type-arg]
    data = codec.encode(message)
    assert codec.decode(data) == message
    for cut in range(len(data)):
        with pytest.raises(CodecError):
            codec.decode(data[:cut])
    with pytest.raises(CodecError):
        codec.decode(data + b"\0")


def test_the_largest_message_fits() -> None:
    assert MESSAGE_SIZE_MAX // 2 < len(REQUESTS.encode(PROOF)) < MESSAGE_SIZE_MAX


@pytest.mark.parametrize(
    "field",
    [
        {"nonce": bytes(31)},
        {"nonce": bytes(33)},
        {"issued_at": -1},
        {"device": b""},
        {"issuer": bytes(31)},
        {"purpose": "add-to-everything"},
        {"channel": bytes(CHANNEL_SIZE_MAX + 1)},
        {"binding": bytes(64)},
        {"key_package": bytes(KEY_PACKAGE_SIZE_MAX + 1)},
        {"channel": "text"},
    ],
)
def test_a_field_out_of_its_bounds_is_no_challenge_and_no_proof(field: dict[str, object]) -> None:
    challenge = msgspec.structs.replace(CHALLENGE, **field)
    for codec, message in ((ANSWERS, challenge), (REQUESTS, msgspec.structs.replace(PROOF, challenge=challenge))):
        with pytest.raises(CodecError) as caught:
            codec.decode(encode(message))
        assert caught.value.reason == "invalid"


def test_a_signature_of_another_length_is_no_proof() -> None:
    for signature in (b"", bytes(63), bytes(65)):
        with pytest.raises(CodecError):
            REQUESTS.decode(encode(msgspec.structs.replace(PROOF, signature=signature)))


def test_answers_are_no_requests_and_requests_no_answers() -> None:
    for codec, message in CASES:
        with pytest.raises(CodecError) as caught:
            (ANSWERS if codec is REQUESTS else REQUESTS).decode(encode(message))
        assert caught.value.reason == "unknown_tag"


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=1_100))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    for codec in (REQUESTS, ANSWERS):
        with pytest.raises(CodecError):
            codec.decode(data)
