"""A proof is good once, here, now, for this, from who was asked; else it is refused, and changes nothing."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError, ProtocolError
from protocols.identity import DeviceCertificate, IdentityError, SigningKey
from protocols.identity.messages import Challenge, DeviceProven, Proof, ProofPurpose, ProofRequest
from protocols.identity.possession import (
    CHALLENGES_MAX,
    CHALLENGES_PER_DEVICE_MAX,
    LIFETIME_NS,
    SPENT_MAX,
    Challenger,
    PossessionError,
    answer,
)
from protocols.identity.signing import Domain, sign
from protocols.transcript import transcript
from tests.protocols.identity import proofs
from tests.protocols.identity.people import certificate, key

replace = msgspec.structs.replace

ISSUER, DEVICE, OTHER = key("issuer"), key("device"), key("second device")
SESSION, OTHER_SESSION = b"what both sides call their session"[:32], b"another session".ljust(32)
NOW = 10**18
CERTIFICATE = certificate(DEVICE, not_before=NOW, not_after=NOW + LIFETIME_NS)
ASKED = ProofRequest(ProofPurpose.ADD_TO_CHANNEL, b"channel", b"key package reference")


def nonce(number: int = 0) -> bytes:
    return number.to_bytes(32)


class Meeting:
    """An issuer who has challenged ``DEVICE`` at ``NOW``, and the proof that it got."""

    def __init__(self, certificate: DeviceCertificate | None = None) -> None:
        self.issuer = Challenger(ISSUER.public)
        self.challenge = self.challenged()
        self.proof = prove(self.challenge, certificate=certificate)

    def challenged(self, device: SigningKey = DEVICE, number: int = 0, now: int = NOW) -> Challenge:
        return self.issuer.issue(ASKED, device=device.public, binding=SESSION, now=now, nonce=nonce(number))

    def check(
        self, proof: Proof, device: SigningKey = DEVICE, binding: bytes = SESSION, now: int = NOW
    ) -> DeviceProven:
        return self.issuer.check(proof, device=device.public, binding=binding, now=now)

    def refused(self, proof: Proof, device: SigningKey = DEVICE, binding: bytes = SESSION, now: int = NOW) -> str:
        """The reason; nothing may have changed, also not that the genuine proof is good."""
        before = self.issuer.to_bytes()
        with pytest.raises(ProtocolError) as caught:
            self.check(proof, device, binding, now)
        assert self.issuer.to_bytes() == before
        return caught.value.reason


def prove(challenge: Challenge, signer: SigningKey = DEVICE, certificate: DeviceCertificate | None = None) -> Proof:
    return proofs.prove(challenge, signer, certificate)


# -- what is accepted, and what is refused why ------------------------------------------------------------


def test_valid_proof_is_accepted() -> None:
    for shown in (None, CERTIFICATE):
        meeting = Meeting()
        proof = answer(meeting.challenge, ASKED, DEVICE, issuer=ISSUER.public, binding=SESSION, certificate=shown)
        assert proof == prove(meeting.challenge, certificate=shown), "what is signed is what is framed here"
        proven = meeting.check(proof, now=NOW + 5)
        assert proven == DeviceProven(DEVICE.public, ASKED.purpose, b"channel", ASKED.key_package, shown, NOW + 5)
        assert proven.user == (b"" if shown is None else shown.user)


def test_forged_signature_is_refused() -> None:
    meeting = Meeting(CERTIFICATE)
    for bit in range(512):
        forged = bytearray(meeting.proof.signature)
        forged[bit // 8] ^= 1 << bit % 8
        assert meeting.refused(replace(meeting.proof, signature=bytes(forged))) == "bad_signature"
    assert meeting.refused(replace(meeting.proof, signature=bytes(64))) == "bad_signature"
    meeting.check(meeting.proof)


def test_expired_proof_is_refused() -> None:
    meeting = Meeting()
    assert meeting.refused(meeting.proof, now=NOW + LIFETIME_NS) == "expired"
    assert meeting.refused(meeting.proof, now=NOW + 10 * LIFETIME_NS) == "expired"
    meeting.check(meeting.proof, now=NOW + LIFETIME_NS - 1)


def test_signature_by_the_wrong_device_key_is_refused() -> None:
    meeting = Meeting()
    assert meeting.refused(prove(meeting.challenge, OTHER)) == "bad_signature"
    answered_by_another = prove(replace(meeting.challenge, device=OTHER.public), OTHER)
    assert meeting.refused(answered_by_another, device=OTHER) == "wrong_device"
    meeting.check(meeting.proof)


def test_proof_of_someone_elses_key_is_refused() -> None:
    meeting = Meeting()
    assert meeting.refused(meeting.proof, device=OTHER) == "wrong_key"
    meeting.check(meeting.proof)


def test_replayed_proof_is_refused() -> None:
    meeting = Meeting()
    meeting.check(meeting.proof)
    assert meeting.refused(meeting.proof) == "replayed"
    assert meeting.refused(meeting.proof, now=NOW + LIFETIME_NS - 1) == "replayed"
    assert meeting.refused(meeting.proof, now=NOW + LIFETIME_NS) == "expired"


def test_cross_purpose_proof_is_refused() -> None:
    meeting = Meeting()
    for purpose in ProofPurpose:
        if purpose is not ASKED.purpose:
            assert meeting.refused(prove(replace(meeting.challenge, purpose=purpose))) == "cross_purpose"
    # Nor does a signature of another domain over the same fields prove anything.
    statement = sign(DEVICE, Domain.CRDT_BUNDLE, transcript(Domain.POSSESSION, nonce()))
    assert meeting.refused(replace(meeting.proof, signature=statement)) == "bad_signature"


def test_future_dated_proof_is_refused() -> None:
    meeting = Meeting()
    assert meeting.refused(prove(replace(meeting.challenge, issued_at=NOW + 1))) == "future_dated"
    assert meeting.refused(prove(replace(meeting.challenge, issued_at=2**63 - 1))) == "future_dated"


def test_proof_that_comes_before_its_challenge_by_a_clock_set_back_is_refused() -> None:
    meeting = Meeting()
    assert meeting.refused(meeting.proof, now=NOW - 1) == "future_dated"
    meeting.check(meeting.proof)


# -- every other field, and every field at random ---------------------------------------------------------


def test_proof_for_another_channel_key_package_issuer_or_time_is_refused() -> None:
    meeting = Meeting()
    for field, value, reason in (
        ("channel", b"another", "wrong_channel"),
        ("channel", b"", "wrong_channel"),
        ("key_package", b"another", "wrong_key_package"),
        ("issuer", OTHER.public, "wrong_issuer"),
        ("issued_at", NOW - 1, "altered"),
        ("issued_at", 0, "altered"),
    ):
        assert meeting.refused(prove(replace(meeting.challenge, **{field: value}))) == reason
    meeting.check(meeting.proof)


def test_challenge_that_was_never_given_is_unknown() -> None:
    meeting = Meeting()
    assert meeting.refused(prove(replace(meeting.challenge, nonce=nonce(1)))) == "unknown_challenge"
    elsewhere = Challenger(ISSUER.public)
    with pytest.raises(PossessionError, match="challenge") as caught:
        elsewhere.check(meeting.proof, device=DEVICE.public, binding=SESSION, now=NOW)
    assert caught.value.reason == "unknown_challenge"


def test_proof_relayed_over_another_session_is_refused() -> None:
    meeting = Meeting()
    assert meeting.refused(meeting.proof, binding=OTHER_SESSION) == "wrong_binding"
    rebound = prove(replace(meeting.challenge, binding=OTHER_SESSION))
    assert meeting.refused(rebound, binding=OTHER_SESSION) == "wrong_binding"
    assert meeting.refused(rebound) == "wrong_binding"
    meeting.check(meeting.proof)


def test_certificate_is_the_devices_own_signed_and_valid_now() -> None:
    meeting = Meeting(CERTIFICATE)
    assert meeting.refused(replace(meeting.proof, certificate=None)) == "bad_signature"
    for number, (shown, reason) in enumerate(
        (
            (certificate(OTHER, not_before=NOW, not_after=NOW + 9), "wrong_certificate"),
            (replace(CERTIFICATE, signature=bytes(64)), "bad_certificate"),
            (certificate(DEVICE, not_before=NOW - 5, not_after=NOW), "lapsed_certificate"),
            (certificate(DEVICE, not_before=NOW + 1, not_after=NOW + 9), "lapsed_certificate"),
        )
    ):
        challenge = meeting.challenged(number=1 + number)
        assert meeting.refused(prove(challenge, certificate=shown)) == reason
        meeting.check(prove(challenge, certificate=CERTIFICATE))


REASONS = {
    "nonce": {"unknown_challenge"},
    "issued_at": {"altered", "future_dated"},
    "device": {"wrong_key"},
    "issuer": {"wrong_issuer"},
    "purpose": {"cross_purpose"},
    "channel": {"wrong_channel"},
    "binding": {"wrong_binding"},
    "key_package": {"wrong_key_package"},
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "issued_at": st.integers(0, 2**63 - 1),
    "purpose": st.sampled_from(ProofPurpose),
    "channel": st.binary(max_size=64),
    "key_package": st.binary(max_size=64),
}


@settings(max_examples=200, deadline=None)
@given(st.data(), st.booleans())
def test_any_changed_field_is_refused_with_its_own_reason(data: st.DataObject, resigned: bool) -> None:
    """Whether whoever changed it can sign, or not."""
    meeting = Meeting(CERTIFICATE)
    field = data.draw(st.sampled_from([*REASONS, "signature"]))
    if field == "signature":
        other = data.draw(st.binary(min_size=64, max_size=64))
        assert meeting.refused(replace(meeting.proof, signature=other)) == "bad_signature"
    else:
        value = data.draw(VALUES.get(field, st.binary(min_size=32, max_size=32)))
        challenge = replace(meeting.challenge, **{field: value})
        if challenge == meeting.challenge:
            return
        changed = prove(challenge, certificate=CERTIFICATE) if resigned else replace(meeting.proof, challenge=challenge)
        assert meeting.refused(changed) in REASONS[field]
    assert meeting.check(meeting.proof).device == DEVICE.public


# -- the prover -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("issuer", OTHER.public, "wrong_issuer"),
        ("device", OTHER.public, "wrong_device"),
        ("binding", OTHER_SESSION, "wrong_binding"),
        ("purpose", ProofPurpose.REPLACE_DEVICE, "cross_purpose"),
        ("channel", b"another", "wrong_channel"),
        ("key_package", b"", "wrong_key_package"),
    ],
)
def test_prover_signs_nothing_that_it_did_not_ask_for(field: str, value: Any, reason: str) -> None:
    challenge = replace(Meeting().challenge, **{field: value})
    with pytest.raises(PossessionError) as caught:
        answer(challenge, ASKED, DEVICE, issuer=ISSUER.public, binding=SESSION)
    assert caught.value.reason == reason


def test_relayed_challenge_is_signed_for_nobody() -> None:
    """Mallory asks the issuer for a challenge as herself, or has one for Alice, and hands it on to Alice."""
    issuer, mallory, to_mallory = Challenger(ISSUER.public), OTHER, OTHER_SESSION
    hers = issuer.issue(ASKED, device=mallory.public, binding=to_mallory, now=NOW, nonce=nonce())
    for forged in (hers, replace(hers, device=DEVICE.public), replace(hers, binding=SESSION, device=DEVICE.public)):
        with pytest.raises(PossessionError) as caught:
            answer(forged, ASKED, DEVICE, issuer=mallory.public, binding=SESSION)
        assert caught.value.reason == "wrong_issuer"
    # What Alice does sign names Mallory as its issuer, and is worth nothing to anybody else.
    given_away = replace(hers, device=DEVICE.public, binding=SESSION, issuer=mallory.public)
    proof = answer(given_away, ASKED, DEVICE, issuer=mallory.public, binding=SESSION)
    with pytest.raises(PossessionError) as caught:
        issuer.check(proof, device=mallory.public, binding=to_mallory, now=NOW)
    assert caught.value.reason == "wrong_issuer"


def test_certificate_of_another_device_is_our_own_mistake() -> None:
    with pytest.raises(LocalError):
        answer(
            Meeting().challenge,
            ASKED,
            DEVICE,
            issuer=ISSUER.public,
            binding=SESSION,
            certificate=certificate(OTHER),
        )


# -- bounds -----------------------------------------------------------------------------------------------


def test_device_that_asks_too_often_loses_its_own_oldest_challenge() -> None:
    meeting = Meeting()
    others = meeting.challenged(OTHER, number=1_000)
    for number in range(1, CHALLENGES_PER_DEVICE_MAX):
        meeting.challenged(number=number)
    assert len(meeting.issuer) == CHALLENGES_PER_DEVICE_MAX + 1
    newest = meeting.challenged(number=500)
    assert len(meeting.issuer) == CHALLENGES_PER_DEVICE_MAX + 1
    assert meeting.refused(meeting.proof) == "unknown_challenge"
    meeting.check(prove(newest))
    meeting.check(prove(others, OTHER), device=OTHER)


def test_crowd_of_devices_pushes_out_the_oldest_challenge_and_stays_bounded() -> None:
    meeting = Meeting()
    for number in range(1, 2 * CHALLENGES_MAX):
        stranger = number.to_bytes(32)
        meeting.issuer.issue(ASKED, device=stranger, binding=SESSION, now=NOW + number, nonce=nonce(number))
        assert len(meeting.issuer) <= CHALLENGES_MAX
    assert meeting.refused(meeting.proof) == "unknown_challenge"
    assert len(meeting.issuer._by_device) == CHALLENGES_MAX


def test_spent_nonces_are_bounded_and_forgotten_ones_stay_refused() -> None:
    meeting = Meeting()
    for number in range(1, SPENT_MAX + 2):
        meeting.check(prove(meeting.challenged(number=number)))
    assert len(meeting.issuer) == SPENT_MAX + 1
    assert meeting.refused(prove(replace(meeting.challenge, nonce=nonce(1)))) == "unknown_challenge"
    assert meeting.refused(prove(replace(meeting.challenge, nonce=nonce(2)))) == "replayed"
    assert not len(meeting.issuer._by_device) > 1


def test_time_gives_all_room_back() -> None:
    meeting = Meeting()
    later = meeting.challenged(OTHER, number=1, now=NOW + 7)
    assert meeting.issuer.deadline() == NOW + LIFETIME_NS
    meeting.check(meeting.proof)
    meeting.issuer.expire(NOW + LIFETIME_NS - 1)
    assert len(meeting.issuer) == 2
    meeting.issuer.expire(NOW + LIFETIME_NS)
    assert meeting.issuer.deadline() == NOW + 7 + LIFETIME_NS
    meeting.check(prove(later, OTHER), device=OTHER, now=NOW + LIFETIME_NS + 6)
    meeting.issuer.expire(NOW + 7 + LIFETIME_NS)
    assert (len(meeting.issuer), meeting.issuer.deadline()) == (0, None)
    assert meeting.issuer.to_bytes() == Challenger(ISSUER.public).to_bytes()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["issue", "check", "check", "wait"]), st.integers(0, 9), st.integers(0, 3))),
    st.integers(0, 40),
)
def test_when_it_is_swept_and_restored_makes_no_difference(steps: list[tuple[str, int, int]], period: int) -> None:
    """One issuer is never swept, one sometimes, and one is restored each time: they answer alike."""
    issuers = [Challenger(ISSUER.public) for _ in range(3)]
    given: list[Challenge] = []
    accepted: set[bytes] = set()
    now = NOW
    for count, (deed, pick, part) in enumerate(steps):
        issuers[2] = Challenger.from_bytes(issuers[2].to_bytes(), ISSUER.public)
        if period and count % period == 0:
            issuers[1].expire(now)
        if deed == "wait":
            now += part * LIFETIME_NS // 3
        elif deed == "issue":
            device = (DEVICE, OTHER)[part % 2].public
            made = [
                each.issue(ASKED, device=device, binding=SESSION, now=now, nonce=nonce(len(given))) for each in issuers
            ]
            assert made[0] == made[1] == made[2]
            given.append(made[0])
        elif given:
            challenge = given[pick % len(given)]
            signer = DEVICE if challenge.device == DEVICE.public else OTHER
            outcomes = [outcome(each, prove(challenge, signer), signer, now) for each in issuers]
            assert outcomes[0] == outcomes[1] == outcomes[2]
            if outcomes[0] == "accepted":
                assert challenge.nonce not in accepted, "one challenge, one proof"
                assert now < challenge.issued_at + LIFETIME_NS
                accepted.add(challenge.nonce)


def outcome(issuer: Challenger, proof: Proof, device: SigningKey, now: int) -> str:
    try:
        issuer.check(proof, device=device.public, binding=SESSION, now=now)
    except PossessionError as error:
        return error.reason
    return "accepted"


# -- state, and the caller's mistakes ---------------------------------------------------------------------


def test_restored_issuer_goes_on_where_the_saved_one_was() -> None:
    meeting = Meeting()
    meeting.check(prove(meeting.challenged(OTHER, number=1), OTHER), device=OTHER)
    saved = meeting.issuer.to_bytes()
    restored = Challenger.from_bytes(saved, ISSUER.public)
    assert restored.to_bytes() == saved
    assert restored.deadline() == meeting.issuer.deadline()
    restored.check(meeting.proof, device=DEVICE.public, binding=SESSION, now=NOW)
    for damaged in (b"", b"\xc1", saved[:-1], saved[:1] + b"\x63" + saved[2:]):
        with pytest.raises(LocalError):
            Challenger.from_bytes(damaged, ISSUER.public)


@pytest.mark.parametrize(
    "mistake",
    [
        {"nonce": nonce()},
        {"nonce": bytes(16)},
        {"device": b""},
        {"binding": b""},
    ],
)
def test_wrong_amounts_and_used_nonces_are_the_callers_fault(mistake: dict[str, bytes]) -> None:
    meeting = Meeting()
    before = meeting.issuer.to_bytes()
    issue: Callable[..., Challenge] = meeting.issuer.issue
    with pytest.raises(LocalError):
        issue(ASKED, **({"device": DEVICE.public, "binding": SESSION, "now": NOW, "nonce": nonce(1)} | mistake))
    assert meeting.issuer.to_bytes() == before


def test_every_verification_is_accounted_for() -> None:
    meeting = Meeting(CERTIFICATE)
    meeting.refused(meeting.proof, device=OTHER)
    assert meeting.issuer.verifications == 0, "what is cheap to see is seen first"
    meeting.refused(replace(meeting.proof, signature=bytes(64)))
    assert meeting.issuer.verifications == 1
    meeting.check(meeting.proof)
    assert meeting.issuer.verifications == 4


def test_identity_errors_are_told_apart_from_those_of_the_proof() -> None:
    meeting = Meeting()
    unsigned = replace(CERTIFICATE, consent=bytes(64))
    with pytest.raises(IdentityError):
        meeting.check(prove(meeting.challenge, certificate=unsigned))
