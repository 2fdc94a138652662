"""Identities that lie to others: what is refused, who is blamed, and what a relay gets out of it."""

import msgspec
import pytest

from actors.identity import ATTEMPTS_MAX
from protocols.identity.messages import (
    ANSWERS,
    REQUESTS,
    Accepted,
    AskCertificate,
    CertificateAnswer,
    CertificateUnknown,
    Challenge,
    DeviceProven,
    Proof,
    ProofAccepted,
    ProofPurpose,
    ProofRefused,
    WatchProofs,
)
from protocols.identity.possession import LIFETIME_NS
from protocols.messages import Message
from protocols.rpc.calls import Completed, Incoming
from tests.actors.provers import (
    ADD,
    ALICE,
    ASKED,
    DEVICES,
    IDENTITIES,
    ISSUER,
    MALLORY,
    World,
    certificate,
    challenge_for,
    proof_of,
    refusal,
)
from tests.protocols.identity.proofs import prove

replace = msgspec.structs.replace


# -- liars as provers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("issuer", DEVICES[ALICE], "wrong_issuer"),
        ("device", DEVICES[ALICE], "wrong_key"),
        ("purpose", ProofPurpose.ADD_DEVICE, "cross_purpose"),
        ("channel", b"another", "wrong_channel"),
        ("key_package", b"another", "wrong_key_package"),
        ("issued_at", 0, "altered"),
    ],
)
def test_prover_that_alters_the_challenge_is_refused_and_blamed(field: str, value: object, reason: str) -> None:
    world = World()
    challenge = challenge_for(world)
    altered = replace(proof_of(challenge), challenge=replace(challenge, **{field: value}))
    assert refusal(world, altered) == reason
    assert world.blamed == [(reason, MALLORY)]
    world.call(MALLORY, ISSUER, proof_of(challenge))
    world.run()
    assert isinstance(world.results(ISSUER)[0], DeviceProven), "the challenge itself is as good as before"


def test_forged_and_replayed_proofs_are_refused_and_blamed() -> None:
    world = World()
    challenge = challenge_for(world)
    proof = proof_of(challenge)
    assert refusal(world, replace(proof, signature=bytes(64))) == "bad_signature"
    world.call(MALLORY, ISSUER, proof)
    world.run()
    (completed,), (proven,) = world.results(MALLORY), world.results(ISSUER)
    assert isinstance(completed, Completed)
    assert isinstance(proven, DeviceProven)
    assert ANSWERS.decode(completed.body) == Accepted(challenge.nonce)
    assert refusal(world, proof) == "replayed"
    assert world.blamed == [("bad_signature", MALLORY), ("replayed", MALLORY)]
    assert world.count("possession_checks", "replayed") == 1


@pytest.mark.parametrize("body", [b"\x91\xa8id.proof", b"\x91\xa7id.what", b"\x92\xaaid.request\xa3all"])
def test_nonsense_is_refused_and_blamed(body: bytes) -> None:
    world = World()
    reason = refusal(world, body)
    assert world.blamed == [(reason, MALLORY)]


def test_late_proofs_and_unknown_challenges_blame_nobody() -> None:
    world = World()
    challenge = challenge_for(world)
    assert refusal(world, proof_of(replace(challenge, nonce=bytes(32)))) == "unknown_challenge"
    assert refusal(world, proof_of(replace(challenge, issued_at=2**62))) == "future_dated"
    world.run(until=challenge.issued_at + LIFETIME_NS + 1)
    assert refusal(world, proof_of(challenge)) == "expired"
    assert world.blamed == []
    assert len(world.identity(ISSUER).challenger) == 0, "and the timer has swept it"


def test_certificates_that_lie_are_blamed_and_lapsed_ones_are_not() -> None:
    stolen = certificate(ALICE)
    for shown, reason, faults in (
        (stolen, "wrong_certificate", [("wrong_certificate", MALLORY)]),
        (replace(certificate(MALLORY), signature=bytes(64)), "bad_certificate", [("bad_certificate", MALLORY)]),
        (certificate(MALLORY, not_after=1), "lapsed_certificate", []),
    ):
        world = World()
        challenge = challenge_for(world)
        assert refusal(world, prove(challenge, IDENTITIES[MALLORY].signing, shown)) == reason
        assert world.blamed == faults


# -- liars as issuers, and between two honest ones ---------------------------------------------------------


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        ({"issuer": DEVICES[ISSUER]}, "wrong_issuer"),
        ({"device": DEVICES[MALLORY]}, "wrong_device"),
        ({"binding": bytes(32)}, "wrong_binding"),
        ({"purpose": ProofPurpose.ADD_DEVICE}, "cross_purpose"),
        ({"channel": b"another"}, "wrong_channel"),
        ({"key_package": b""}, "wrong_key_package"),
    ],
)
def test_prover_refuses_a_challenge_that_it_did_not_ask_for(alter: dict[str, object], reason: str) -> None:
    world = World()
    mallory = world.application(MALLORY)
    mallory.answers = lambda incoming: replace(mallorys(incoming), **alter)
    world.prove(issuer=MALLORY)
    world.run()
    assert world.results(ALICE) == [ProofRefused(1, DEVICES[MALLORY], reason)]
    assert world.blamed == [(reason, MALLORY)]
    assert [incoming.kind for incoming in mallory.asked] == ["id.request"], "and signs nothing"


def mallorys(incoming: Incoming) -> Challenge:
    """An honest challenge by Mallory."""
    fields = (ASKED.purpose, ASKED.channel, incoming.binding, ASKED.key_package)
    return Challenge(bytes(32), 7, incoming.device, DEVICES[MALLORY], *fields)


@pytest.mark.parametrize(
    "said", [Accepted(bytes(32)), CertificateAnswer(None), Accepted(bytes([1]) * 32), b"", b"\x91\xa7id.what"]
)
def test_issuer_that_answers_another_question_is_blamed(said: Message | bytes) -> None:
    for honest_first in (False, True):
        world = World()
        mallory = world.application(MALLORY)

        def lie(incoming: Incoming, said: Message | bytes = said, honest: bool = honest_first) -> Message | bytes:
            return mallorys(incoming) if honest and incoming.kind == "id.request" else said

        mallory.answers = lie
        world.prove(issuer=MALLORY)
        world.run()
        (outcome,) = world.results(ALICE)
        if honest_first and said == Accepted(bytes(32)):
            assert isinstance(outcome, ProofAccepted), "that was the answer"
        else:
            assert isinstance(outcome, ProofRefused)
            assert world.blamed == [(outcome.reason, MALLORY)]


def test_challenge_where_a_verdict_is_due_is_not_signed() -> None:
    world = World()
    mallory = world.application(MALLORY)
    mallory.answers = mallorys
    world.prove(issuer=MALLORY)
    world.run()
    assert world.results(ALICE) == [ProofRefused(1, DEVICES[MALLORY], "unexpected_answer")]
    assert [incoming.kind for incoming in mallory.asked] == ["id.request", "id.proof"]


def test_relay_between_two_sessions_gets_nothing_signed_and_nothing_accepted() -> None:
    """Alice proves herself to Mallory, who would pass for Alice at the issuer."""
    world = World()
    mallory = world.application(MALLORY)
    hers = challenge_for(world)
    for relayed in (hers, replace(hers, device=DEVICES[ALICE])):
        mallory.answers = lambda _, relayed=relayed: relayed  # type: ignore[misc]
        world.prove(issuer=MALLORY)
        world.run()
        assert world.results(ALICE) == [ProofRefused(1, DEVICES[MALLORY], "wrong_issuer")]
    # A challenge of her own Alice does sign; Mallory gives it the issuer's nonce and time, and passes the proof on.
    own = replace(hers, issuer=DEVICES[MALLORY], device=DEVICES[ALICE], binding=world.binding(ALICE, MALLORY))
    mallory.answers = lambda incoming: own if incoming.kind == "id.request" else None
    world.prove(issuer=MALLORY, token=2)
    world.run(10)
    proof = REQUESTS.decode(mallory.asked[-1].body)
    assert isinstance(proof, Proof)
    assert refusal(world, proof) == "wrong_issuer"
    back = replace(proof, challenge=replace(own, issuer=DEVICES[ISSUER], binding=hers.binding))
    assert refusal(world, back) == "wrong_key"
    assert refusal(world, replace(back, challenge=hers)) == "bad_signature"
    assert {peer for _, peer in world.blamed} == {MALLORY}


def test_proof_over_another_session_of_the_same_device_is_refused() -> None:
    world = World()
    challenge = challenge_for(world)
    for number, other in ((MALLORY, ISSUER), (ISSUER, MALLORY)):
        world.close(number, other)
    assert refusal(world, proof_of(challenge)) == "wrong_binding"
    assert world.binding(MALLORY, ISSUER) != challenge.binding
    assert world.blamed == [], "sessions are renewed, and nobody did wrong"


def test_refusals_that_invite_another_try_are_believed_a_few_times() -> None:
    world = World()
    mallory = world.application(MALLORY)
    world.tell(MALLORY, "identity", WatchProofs(ADD))
    mallory.answers = lambda incoming: mallorys(incoming) if incoming.kind == "id.request" else None
    world.prove(issuer=MALLORY)
    for _ in range(20):
        world.run(1)
        if mallory.asked and mallory.asked[-1].kind == "id.proof":
            world.close(MALLORY, ALICE)
            world.close(ALICE, MALLORY)
            mallory.asked.append(mallory.asked[0])
    assert [type(result) for result in world.results(ALICE)] == [ProofRefused]
    assert sum(incoming.kind == "id.proof" for incoming in mallory.asked) == ATTEMPTS_MAX


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (CertificateAnswer(certificate(ALICE)), "wrong_certificate"),
        (CertificateAnswer(replace(certificate(MALLORY), consent=bytes(64))), "bad_certificate"),
        (Accepted(bytes(32)), "unexpected_answer"),
    ],
)
def test_certificate_that_cannot_be_believed_is_not_told(said: Message, reason: str) -> None:
    world = World()
    world.application(MALLORY).answers = lambda _: said
    world.tell(ALICE, "identity", AskCertificate(4, DEVICES[MALLORY], MALLORY))
    world.run()
    assert world.results(ALICE) == [CertificateUnknown(4, DEVICES[MALLORY], reason)]
    assert world.blamed == [(reason, MALLORY)]
