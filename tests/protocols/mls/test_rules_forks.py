"""What a group bounds, so that nobody floods it, and what is no proof that somebody forked it."""

from typing import Any

import msgspec
import pytest

from protocols.mls import kept
from protocols.mls.credentials import BasicCredential
from protocols.mls.evidence import ForkEvidence
from protocols.mls.framing import AuthenticatedContent, FramedContent, WireFormat, member
from protocols.mls.group import Group
from protocols.mls.kept import COMMITS_FROM_OUTSIDE_MAX, COMMITS_PER_SIGNER_MAX, PROPOSALS_PER_SENDER_MAX
from protocols.mls.proposals import PreSharedKey, Proposal, Remove
from protocols.mls.protection import sign_content
from protocols.mls.psk import ExternalPsk
from protocols.mls.suite import SignatureKeyPair
from tests.protocols.mls.forgery import (
    Forged,
    forge_commit,
    forge_external_commit,
    forge_message,
)
from tests.protocols.mls.kit import refused
from tests.protocols.mls.refusals import refuses_commit, refuses_message
from tests.protocols.mls.room import Room


def room() -> Room:
    return Room.of("alice", "bob", "carol")


def keys(author: Group) -> SignatureKeyPair:
    return SignatureKeyPair(author.current.signature_private, author.current.own_leaf_node.signature_key)


def proposal(author: Group, body: Proposal) -> bytes:
    epoch = author.current
    content = FramedContent(epoch.group_id, epoch.number, member(epoch.own_leaf), b"", body)
    return forge_message(epoch, content, keys(author))


# -- limits -----------------------------------------------------------------------------------------


def test_proposals_of_one_sender_are_kept_up_to_a_number() -> None:
    here = room()
    messages = [
        proposal(here["alice"], PreSharedKey(ExternalPsk(b"%d" % number, bytes(32))))
        for number in range(PROPOSALS_PER_SENDER_MAX + 1)
    ]
    for message in messages[:-1]:
        here["bob"].receive(message)
    refuses_message(here, "limit/proposals", messages[-1])
    here["bob"].receive(messages[0])
    here["bob"].receive(proposal(here["carol"], Remove(0)))


def test_commits_of_one_signer_are_kept_up_to_a_number() -> None:
    here = room()
    messages = [forge_commit(here["alice"], content={"authenticated_data": bytes([n])}).message for n in range(3)]
    for message in messages[:COMMITS_PER_SIGNER_MAX]:
        here["bob"].receive(message)
    refuses_message(here, "limit/commits", messages[COMMITS_PER_SIGNER_MAX])
    here["bob"].receive(forge_commit(here["carol"]).message)


def test_commits_from_outside_leave_room_for_those_of_members() -> None:
    here = room()
    for number in range(COMMITS_FROM_OUTSIDE_MAX + 2):
        here["bob"].receive(forge_external_commit(here["alice"], here.client(f"eve {number}")).message)
    assert len(here["bob"].commits()) == COMMITS_FROM_OUTSIDE_MAX
    here["bob"].receive(forge_commit(here["carol"]).message)
    assert len(here["bob"].commits()) == COMMITS_FROM_OUTSIDE_MAX + 1


def test_commits_are_staged_on_one_epoch_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    here = room()
    monkeypatch.setattr(kept, "STAGED_MAX", 1)
    here.stage("bob", forge_commit(here["alice"]).message)
    refuses_commit(here, "limit/staged", forge_commit(here["carol"]))


def test_places_among_the_staged_are_not_all_for_commits_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    here = room()
    monkeypatch.setattr(kept, "COMMITS_FROM_OUTSIDE_MAX", 1)
    here.stage("bob", forge_external_commit(here["alice"], here.client("eve")).message)
    refuses_commit(here, "limit/staged", forge_external_commit(here["alice"], here.client("mallory")))
    here.stage("bob", forge_commit(here["carol"]).message)


# -- fork evidence ----------------------------------------------------------------------------------


def evidence() -> tuple[Room, ForkEvidence]:
    """Alice made two commits, and bob has both."""
    here = room()
    proof = None
    for forged in (forge_commit(here["alice"]), forge_commit(here["alice"], Remove(2))):
        proof = here["bob"].receive(forged.message).evidence
    assert proof is not None
    proof.verify()
    return here, proof


def refuted(rule: str, proof: ForkEvidence, **changes: Any) -> None:
    with refused(rule):
        msgspec.structs.replace(proof, **changes).verify()


def resigned(author: Group, authenticated: AuthenticatedContent, **changes: Any) -> AuthenticatedContent:
    """What alice signed, with other contents, which she signs too."""
    content = msgspec.structs.replace(authenticated.content, **changes)
    pair, epoch = keys(author), author.current
    return sign_content(
        epoch.suite, pair.private, pair.public, authenticated.wire_format, content, epoch.context_bytes, b""
    )


def test_two_proposals_are_no_fork() -> None:
    here, proof = evidence()
    refuted("fork/not-commits", proof, first=resigned(here["alice"], proof.first, content=Remove(2)))


@pytest.mark.parametrize("wire_format", [0, WireFormat.WELCOME])
def test_nothing_but_a_message_carries_a_commit(wire_format: int) -> None:
    here, proof = evidence()
    strange = resigned(here["alice"], msgspec.structs.replace(proof.first, wire_format=wire_format))
    refuted("fork/not-commits", proof, first=strange)


@pytest.mark.parametrize("changes", [{"epoch": 2}, {"group_id": b"elsewhere"}])
def test_commits_in_two_epochs_are_no_fork(changes: dict[str, Any]) -> None:
    here, proof = evidence()
    refuted("fork/other-epoch", proof, first=resigned(here["alice"], proof.first, **changes))


def test_commits_in_two_names_are_no_fork() -> None:
    here, proof = evidence()
    refuted("fork/other-sender", proof, second=resigned(here["alice"], proof.second, sender=member(1)))


def test_one_commit_twice_is_no_fork_whatever_is_changed_that_nobody_signed() -> None:
    _, proof = evidence()
    other_tag = msgspec.structs.replace(proof.first.auth, confirmation_tag=b"other")
    refuted("fork/same-commit", proof, second=msgspec.structs.replace(proof.first, auth=other_tag))


def test_commits_are_in_order_so_that_there_is_one_proof() -> None:
    _, proof = evidence()
    refuted("fork/order", proof, first=proof.second, second=proof.first)


def test_commit_that_the_leaf_did_not_sign_convicts_nobody() -> None:
    here, proof = evidence()
    refuted("6.1/signature", proof, leaf=here["carol"].current.own_leaf_node)


def test_leaf_that_is_not_signed_convicts_nobody() -> None:
    _, proof = evidence()
    leaf = msgspec.structs.replace(proof.leaf, credential=BasicCredential(b"bob"))
    refuted("7.3/leaf-signature", proof, leaf=leaf)


def test_leaf_whose_credential_nobody_vouches_for_convicts_a_key_and_no_person() -> None:
    _, proof = evidence()
    with refused("5.3.1/credential"):
        proof.verify(lambda _credential, _key: False)


def test_leaf_of_external_commits_is_that_of_the_first() -> None:
    here = room()
    joins: list[Forged] = [
        forge_external_commit(here["alice"], here.client("dave"), content={"authenticated_data": data})
        for data in (b"one", b"two")
    ]
    proof = [here["bob"].receive(each.message).evidence for each in joins][1]
    assert proof is not None
    proof.verify()
    refuted("fork/leaf", proof, leaf=msgspec.structs.replace(proof.leaf, credential=BasicCredential(b"bob")))


def test_evidence_of_another_version_is_not_read() -> None:
    _, proof = evidence()
    assert ForkEvidence.from_bytes(proof.to_bytes()) == proof
    with refused("fork/version"):
        ForkEvidence.from_bytes(b"\2" + proof.to_bytes()[1:])
