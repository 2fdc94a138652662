"""Equivocation is proved to third parties, and honest members cannot be framed for it."""

from hashlib import sha256, sha512

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from nacl import bindings as sodium

from protocols.errors import LocalError
from protocols.mls.codec import decode
from protocols.mls.errors import MlsError
from protocols.mls.evidence import ForkEvidence, fork_evidence, signer_of
from protocols.mls.external import make_external_commit
from protocols.mls.framing import AuthenticatedContent, PublicMessage
from protocols.mls.group import Group
from protocols.mls.message import encode_message
from protocols.mls.opening import VerifiedCommit
from protocols.mls.proposals import Remove
from protocols.mls.protection import sign_content
from protocols.mls.psk import ExternalPsk
from protocols.mls.send_ledger import SendLedger
from protocols.mls.suite import SUITES
from tests.protocols.mls.forgery import forge_welcome
from tests.protocols.mls.kit import refused
from tests.protocols.mls.room import NOW_NS, Room, altered, person, public, untouched

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture(params=[1, 2])
def room(request: pytest.FixtureRequest) -> Room:
    room = Room.of("ada", "bob", "cyd", "mal", suite=SUITES[request.param])
    room.fill()
    return room


def twin(room: Room, name: str) -> Group:
    """The same member without its ledger: what an equivocator makes of itself."""
    return Group.from_bytes(room[name].to_bytes(), SendLedger(), services=room.services)


def forked(room: Room, *, public: bool = True) -> tuple[bytes, bytes]:
    """Two commits of Mal's in one epoch."""
    one = twin(room, "mal").commit([Remove(room.leaf("bob"))], entropy=room.entropy, now_ns=NOW_NS, public=public)
    two = twin(room, "mal").commit([Remove(room.leaf("cyd"))], entropy=room.entropy, now_ns=NOW_NS, public=public)
    return one.message, two.message


def test_second_commit_of_one_member_is_proof_against_it(room: Room) -> None:
    one, two = forked(room)
    ada, bob = room["ada"], room["bob"]
    assert ada.receive(one).evidence is None
    evidence = ada.receive(two).evidence
    assert evidence is not None
    assert evidence.leaf == room["mal"].current.own_leaf_node
    assert evidence.context == ada.current.context
    # Somebody else, who is in no group, reads it from bytes; whoever saw the two otherwise makes the same proof.
    read = ForkEvidence.from_bytes(evidence.to_bytes())
    read.verify()
    read.verify(lambda credential, key: credential == evidence.leaf.credential and key == evidence.leaf.signature_key)
    bob.receive(two)
    assert bob.receive(one).evidence == evidence


def test_private_commits_are_proof_too(room: Room) -> None:
    """They have one generation, so each arrives at another member first; a kept commit is as good as a new one."""
    one, two = forked(room, public=False)
    found = []
    for name, message in (("ada", one), ("bob", two)):
        content = room[name].receive(message).content
        assert isinstance(content, VerifiedCommit)
        found.append(content.authenticated)
    evidence = fork_evidence(room["ada"].current, *found)
    assert evidence is not None
    evidence.verify()


def test_commit_need_not_be_valid_to_be_proof(room: Room) -> None:
    """Or an equivocator would make the second one invalid."""
    ada, mal, second = room["ada"], room["mal"], twin(room, "mal")
    sound = room.make("mal", public=True)
    ada.receive(sound.message)
    twin_commit = second.commit(entropy=room.entropy, now_ns=NOW_NS, public=True).commit
    unsound = public(mal, altered(twin_commit.authenticated, confirmation_tag=bytes(32)))
    evidence = ada.receive(unsound).evidence
    assert evidence is not None
    evidence.verify()


def test_commits_of_different_members_are_nobodys_fault(room: Room) -> None:
    ada, bob, cyd = (room.make(name) for name in ("ada", "bob", "cyd"))
    mal = room["mal"]
    assert [mal.receive(each.message).evidence for each in (ada, bob, cyd)] == [None] * 3
    assert fork_evidence(mal.current, ada.commit.authenticated, ada.commit.authenticated) is None


def test_honest_member_signs_one_commit_whatever_happens(room: Room) -> None:
    """After a crash before the commit was sent, after a return to its parent, and without its ledger if what it
    stored has the commit."""
    ada = room["ada"]
    before, parent = ada.to_bytes(), ada.current.authenticator
    own = room.make("ada")
    ada.adopt(own.commit, now_ns=NOW_NS)
    ada.return_to(parent)
    ledger = SendLedger()
    for each in own.reservations:
        ledger.apply(each)
    stored = ada.to_bytes()
    restored = [Group.from_bytes(stored, each) for each in (ada.ledger, SendLedger())]
    for group in (ada, Group.from_bytes(before, ledger), *restored):
        with pytest.raises(LocalError, match="committed in epoch"):
            group.commit(entropy=room.entropy, now_ns=NOW_NS)
    assert ada.message_of(own.commit) == own.message


def test_same_commit_with_another_tag_or_signature_frames_nobody(room: Room) -> None:
    """The tag is not signed. An ECDSA signature (r, s) has a twin (r, n - s), which anybody can compute."""
    honest = room.make("ada", public=True).commit.authenticated
    variants = [altered(honest, confirmation_tag=bytes(32))]
    if room.suite.id == 2:
        r, s = decode_dss_signature(honest.auth.signature)
        variants.append(altered(honest, signature=encode_dss_signature(r, P256_ORDER - s)))
    bob, mal = room["bob"], room["mal"]
    first = bob.receive(public(mal, honest))
    assert isinstance(first.content, VerifiedCommit)
    leaf = room["ada"].current.own_leaf_node
    for each in variants:
        again = bob.receive(public(mal, each))
        assert isinstance(again.content, VerifiedCommit)  # it is indeed Ada's signature
        assert again.evidence is None
        assert fork_evidence(bob.current, honest, each) is None
        for pair in ((honest, each), (each, honest)):
            with refused("fork/same-commit"):
                ForkEvidence(bob.current.context, leaf, *pair).verify()


def test_signature_twin_of_a_commit_leads_elsewhere_and_frames_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transcript covers the signature, and Mal, who processed Ada's commit, can compute the tag that goes with
    the twin. So one commit may lead to two epochs: a choice between branches, and nobody's equivocation."""
    room = Room.of("ada", "bob", "mal", suite=SUITES[2])
    own = room.make("ada", public=True)
    r, s = decode_dss_signature(own.commit.authenticated.auth.signature)
    twin = altered(own.commit.authenticated, signature=encode_dss_signature(r, P256_ORDER - s))
    bob, mal = room["bob"], room["mal"]
    with monkeypatch.context() as patch:
        patch.setattr("protocols.mls.staging.compare_digest", lambda *_: True)
        computed = room.stage("mal", public(mal, twin)).next
    assert computed is not None
    twin = altered(twin, confirmation_tag=computed.confirmation_tag)
    false, true = room.stage("bob", public(mal, twin)), room.stage("bob", own.message)
    assert bob.receive(own.message).evidence is None
    assert false.next is not None
    assert true.next is not None
    assert false.next.authenticator == computed.authenticator != true.next.authenticator
    assert own.commit.next is not None
    assert true.next.authenticator == own.commit.next.authenticator


def test_one_content_signed_twice_is_proof(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transcript covers the signature, and whoever has the key makes as many of them as it draws nonces. So Mal
    leads Ada and Bob into two epochs by commits that say the same."""
    own, mal, cyd = room.make("mal", public=True), room["mal"], room["cyd"]
    again = signed_again(room, own.commit.authenticated, monkeypatch)
    with monkeypatch.context() as patch:  # Cyd, an accomplice, finds the tag that goes with it
        patch.setattr("protocols.mls.staging.compare_digest", lambda *_: True)
        elsewhere = room.stage("cyd", public(cyd, again)).next
    assert elsewhere is not None
    message = public(mal, altered(again, confirmation_tag=elsewhere.confirmation_tag))
    room.follow(own.message, ["ada"])
    room.follow(message, ["bob"])
    ada, bob = room["ada"], room["bob"]
    assert ada.current.authenticator != bob.current.authenticator == elsewhere.authenticator
    evidence = ada.receive(message).evidence
    assert evidence is not None
    assert bob.receive(own.message).evidence == evidence
    assert evidence.first.content == evidence.second.content
    ForkEvidence.from_bytes(evidence.to_bytes()).verify()
    # Mal hears of what it has not made: somebody else has its key.
    assert mal.receive(message).evidence == evidence


def signed_again(room: Room, commit: AuthenticatedContent, monkeypatch: pytest.MonkeyPatch) -> AuthenticatedContent:
    """By Mal, with a nonce that is not the one of its scheme."""
    epoch, tag = room["mal"].current, commit.auth.confirmation_tag
    private, key = epoch.signature_private, epoch.own_leaf_node.signature_key
    sign = {1: ed25519_signature, 2: p256_signature}[room.suite.id]
    with monkeypatch.context() as patch:
        patch.setattr(type(room.suite.signature), "sign", lambda _scheme, *args: sign(*args))
        again = sign_content(room.suite, private, key, commit.wire_format, commit.content, epoch.context_bytes, tag)
    assert again.auth.signature != commit.auth.signature
    return again


def ed25519_signature(seed: bytes, public: bytes, message: bytes) -> bytes:
    """RFC 8032 §5.1.6, but for the nonce."""
    head = sha512(seed).digest()[:32]
    scalar = bytes((head[0] & 248,)) + head[1:31] + bytes((head[31] & 63 | 64,))
    nonce = sodium.crypto_core_ed25519_scalar_reduce(sha512(b"nonce").digest())
    point = sodium.crypto_scalarmult_ed25519_base_noclamp(nonce)
    challenge = sodium.crypto_core_ed25519_scalar_reduce(sha512(point + public + message).digest())
    private = sodium.crypto_core_ed25519_scalar_reduce(scalar + bytes(32))
    product = sodium.crypto_core_ed25519_scalar_mul(challenge, private)
    return bytes(point + sodium.crypto_core_ed25519_scalar_add(nonce, product))


def p256_signature(private: bytes, _public: bytes, message: bytes) -> bytes:
    """FIPS 186-5 §6.4.1, but for the nonce."""
    nonce = int.from_bytes(sha256(b"nonce").digest(), "big") % P256_ORDER
    r = derive_private_key(nonce, SECP256R1()).public_key().public_numbers().x % P256_ORDER
    digest, scalar = sha256(message).digest(), int.from_bytes(private, "big")
    s = pow(nonce, -1, P256_ORDER) * (int.from_bytes(digest, "big") + r * scalar) % P256_ORDER
    return encode_dss_signature(r, s)


def test_member_lured_into_two_epochs_of_one_context_commits_once(room: Room) -> None:
    """Evidence is over the group context, and a joiner has no more than a Welcome to tell it which secrets go with
    one. Mal's second one names a PSK that the first does not."""
    mal, client = room["mal"], room.client("dan")
    psk = ExternalPsk(b"lure", bytes(room.suite.hash_size))
    true = forge_welcome(mal, client)
    false = forge_welcome(mal, client, psks=(psk,), known={psk: b"psk " + psk.encode()})
    dan = room.join("dan", true)
    own = room.make("dan")
    journal = SendLedger()
    for each in own.reservations:
        journal.apply(each)
    for ledger in (dan.ledger, SendLedger.from_bytes(dan.ledger.to_bytes()), journal):
        joined = room.staged_join("dan", false)
        lured = Group.join(joined, now_ns=NOW_NS, ledger=ledger, services=room.services)
        assert lured.current.context == dan.epoch(own.commit.parent).context
        assert lured.current.authenticator != own.commit.parent
        with untouched(lured), pytest.raises(LocalError, match="committed in epoch"):
            lured.commit(entropy=room.entropy, now_ns=NOW_NS)
        lured.send(b"what is no commit is no evidence", entropy=room.entropy)


def test_evidence_is_nothing_with_any_byte_changed(room: Room) -> None:
    one, two = forked(room)
    room["ada"].receive(one)
    evidence = room["ada"].receive(two).evidence
    assert evidence is not None
    data = evidence.to_bytes()
    unsigned = tag_ranges(evidence)
    for at in range(0, len(data), 3):
        if not any(at in each for each in unsigned):
            with pytest.raises((MlsError, LocalError)):
                ForkEvidence.from_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]).verify()


def tag_ranges(evidence: ForkEvidence) -> list[range]:
    """Where the confirmation tags are, which prove nothing and are not looked at."""
    data, ranges = evidence.to_bytes(), []
    for each in (evidence.first, evidence.second):
        tag = each.auth.confirmation_tag
        assert tag is not None
        start = data.index(tag)
        ranges.append(range(start, start + len(tag)))
    return ranges


def test_another_name_in_the_leaf_convicts_nobody_of_that_name(room: Room) -> None:
    """A leaf is signed by its own key, so Mal can sign one with Ada's name: ``authenticate`` tells."""
    one, two = forked(room)
    room["ada"].receive(one)
    evidence = room["ada"].receive(two).evidence
    assert evidence is not None
    ada, mal = room["ada"].current.own_leaf_node, room.client("mal")
    named = mal.resigned(msgspec.structs.replace(evidence.leaf, credential=ada.credential), 3, b"room")
    framing = msgspec.structs.replace(evidence, leaf=named)

    def authenticate(credential: object, key: bytes) -> bool:
        return (credential == ada.credential) == (key == ada.signature_key)

    with refused("5.3.1/credential"):
        framing.verify(authenticate)
    evidence.verify(authenticate)
    # With Ada's own leaf, the signatures are not hers.
    with refused("6.1/signature"):
        msgspec.structs.replace(evidence, leaf=ada).verify()
    with refused("7.3/leaf-signature"):
        msgspec.structs.replace(
            evidence, leaf=msgspec.structs.replace(evidence.leaf, credential=ada.credential)
        ).verify()


def test_two_external_commits_of_one_joiner_are_proof_against_its_key(room: Room) -> None:
    group_info, eve = room["ada"].current.group_info(), person("eve", room.suite)
    made = [make_external_commit(group_info, eve.bundle, entropy=room.entropy).authenticated for _ in range(2)]
    bob = room["bob"]
    first, second = (bob.receive(encode_message(PublicMessage(each.content, each.auth))) for each in made)
    assert first.evidence is None
    evidence = second.evidence
    assert evidence is not None
    evidence.verify()
    named = msgspec.structs.replace(evidence.leaf, credential=room["ada"].current.own_leaf_node.credential)
    with refused("fork/leaf"):
        msgspec.structs.replace(evidence, leaf=named).verify()
    # A proposal of the joiner's other device is by another key, so by another signer.
    fay = make_external_commit(group_info, person("fay", room.suite).bundle, entropy=room.entropy).authenticated
    assert signer_of(fay) != signer_of(made[0])
    assert bob.receive(encode_message(PublicMessage(fay.content, fay.auth))).evidence is None


def test_evidence_survives_what_a_member_stores(room: Room) -> None:
    """A commit that was kept before a restart makes a proof with one that comes after it."""
    one, two = forked(room)
    ada = room["ada"]
    ada.receive(one)
    evidence = Group.from_bytes(ada.to_bytes(), ada.ledger).receive(two).evidence
    assert evidence == ada.receive(two).evidence
    assert evidence is not None
    assert decode(AuthenticatedContent.read, evidence.first.encode()) == evidence.first
