"""Commits that lie: to some, about the tree, about others. Each is truly its sender's, and refused when it is staged,
or by those whom it harms, who can come back.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.mls.codec import decode
from protocols.mls.commit import Commit, ProposalRef
from protocols.mls.errors import MlsError
from protocols.mls.external import make_external_commit
from protocols.mls.framing import PublicMessage
from protocols.mls.group import Group
from protocols.mls.message import encode_message
from protocols.mls.opening import VerifiedCommit
from protocols.mls.proposals import Add, GroupContextExtensions, PreSharedKey, Remove, SelfRemove, Update
from protocols.mls.psk import ExternalPsk
from protocols.mls.staging import MissingProposalsError, StagedCommit
from protocols.mls.suite import SUITES
from protocols.mls.treekem import NewPath
from protocols.mls.update_path import HpkeCiphertext, UpdatePath
from tests.protocols.mls.room import (
    GROUP_ID,
    NOW_NS,
    Room,
    altered,
    external,
    fresh,
    person,
    public,
    refuses,
    signed,
)

ALL = (1, 2, 3, 7)


@pytest.fixture
def room() -> Room:
    """Ada, Bob, Cyd and Mal; no parent is blank."""
    room = Room.of("ada", "bob", "cyd", "mal")
    room.fill()
    return room


def is_out(group: Group) -> bool:
    return group.removed


def staged_by(room: Room, name: str, message: bytes, rule: str) -> None:
    """The commit is truly its sender's, and refused when it is staged."""
    found = room[name].receive(message).content
    assert isinstance(found, VerifiedCommit)
    with refuses(room[name], rule):
        room[name].stage(found, now_ns=NOW_NS)


def lying(
    room: Room, monkeypatch: pytest.MonkeyPatch, lie: Callable[[UpdatePath], UpdatePath], **options: Any
) -> StagedCommit:
    """A commit by Mal whose path is changed after it was made and before it is signed: all else fits the lie."""
    encrypt = NewPath.encrypt
    with monkeypatch.context() as patch:
        patch.setattr(NewPath, "encrypt", lambda self, *args: lie(encrypt(self, *args)))
        return room.make("mal", **options).commit


def garbage(path: UpdatePath, *nodes: int) -> UpdatePath:
    """Path secrets that nobody can open, for those below some nodes of the copath."""
    changed = list(path.nodes)
    for node in nodes:
        sealed = tuple(
            HpkeCiphertext(each.kem_output, bytes(len(each.ciphertext))) for each in changed[node].encrypted_path_secret
        )
        changed[node] = msgspec.structs.replace(changed[node], encrypted_path_secret=sealed)
    return msgspec.structs.replace(path, nodes=tuple(changed))


def test_garbage_for_some_locks_them_out_and_they_can_say_so_and_come_back(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mal at leaf 3: the lower node's secret is for Cyd, the upper one's for Ada and Bob."""
    commit = lying(room, monkeypatch, lambda path: garbage(path, 1), public=True)
    message = public(room["mal"], commit.authenticated)
    room["mal"].adopt(commit, now_ns=NOW_NS)
    for victim in ("ada", "bob"):
        staged_by(room, victim, message, "5.1.3/decrypt")
    room.follow(message, ["cyd"])
    assert room["cyd"].current.authenticator == room["mal"].current.authenticator

    # A victim comes back by an external commit on what Cyd shows, in place of its old leaf.
    ada, cyd = room["ada"], room["cyd"]
    back = make_external_commit(
        cyd.current.group_info(), fresh(room.client("ada")), entropy=room.entropy, replaces=ada.current.own_leaf
    )
    room.follow(external(back), ["cyd", "mal"])
    room.groups["ada"] = Group.join(back, now_ns=NOW_NS, ledger=ada.ledger, services=room.services)
    del room.groups["bob"]
    room.check_agreement()
    room.receive(room.say("ada"), ["cyd", "mal"])


def test_path_secret_of_other_keys_is_a_mismatch(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens, and is not the secret of the keys that are sent: one node's goes to another's."""
    suite = room.suite

    def swapped(self: NewPath, context: bytes, exclude: Any, entropy: Any, run: Any = map) -> UpdatePath:
        wrong = msgspec.structs.replace(self, path_secrets=tuple(reversed(self.path_secrets)))
        path: UpdatePath = encrypt(wrong, context, exclude, entropy, run)
        return path

    encrypt = NewPath.encrypt
    with monkeypatch.context() as patch:
        patch.setattr(NewPath, "encrypt", swapped)
        commit = room.make("mal", public=True).commit
    for victim in ("ada", "bob", "cyd"):
        staged_by(room, victim, public(room["mal"], commit.authenticated), "7.5/path-secret-mismatch")
    assert suite is room["ada"].current.suite


@pytest.mark.parametrize(
    ("lie", "rule"),
    [
        (lambda path: msgspec.structs.replace(path, nodes=path.nodes[:1]), "7.6/path-length"),
        (lambda path: msgspec.structs.replace(path, nodes=(*path.nodes, path.nodes[0])), "7.6/path-length"),
        (lambda path: msgspec.structs.replace(path, nodes=path.nodes[::-1]), "7.9/leaf-parent-hash"),
        (
            lambda path: msgspec.structs.replace(
                path, nodes=(path.nodes[0], msgspec.structs.replace(path.nodes[1], encrypted_path_secret=()))
            ),
            "7.6/ciphertext-count",
        ),
        (
            lambda path: msgspec.structs.replace(
                path,
                nodes=(
                    path.nodes[0],
                    msgspec.structs.replace(path.nodes[1], encryption_key=path.nodes[0].encryption_key),
                ),
            ),
            "7.3/duplicate-encryption-key",
        ),
        (
            lambda path: msgspec.structs.replace(
                path, nodes=(path.nodes[0], msgspec.structs.replace(path.nodes[1], encryption_key=b"short"))
            ),
            "5.1/invalid-public-key",
        ),
        (
            lambda path: msgspec.structs.replace(
                path, leaf_node=msgspec.structs.replace(path.leaf_node, signature=bytes(64))
            ),
            "7.3/leaf-signature",
        ),
    ],
)
def test_path_that_does_not_fit_the_tree(
    room: Room, monkeypatch: pytest.MonkeyPatch, lie: Callable[[UpdatePath], UpdatePath], rule: str
) -> None:
    commit = lying(room, monkeypatch, lie, public=True)
    for victim in ("ada", "cyd"):
        staged_by(room, victim, public(room["mal"], commit.authenticated), rule)


def test_wrong_confirmation_tag_is_refused(room: Room) -> None:
    own = room.make("mal", public=True)
    for tag in (bytes(32), b"", own.commit.authenticated.auth.confirmation_tag[:31] + b"\0"):  # type: ignore[index]
        message = public(room["mal"], altered(own.commit.authenticated, confirmation_tag=tag))
        staged_by(room, "ada", message, "12.4.2/confirmation-tag")


def test_wrong_membership_tag_is_refused(room: Room) -> None:
    mal = room["mal"]
    made = signed(mal, Remove(0))
    for tag in (b"", bytes(32), bytes(33)):
        with refuses(room["bob"], "6.2/membership-tag"):
            room["bob"].receive(encode_message(PublicMessage(made.content, made.auth, tag)))


def test_commit_of_proposals_that_did_not_come_waits_for_them(room: Room) -> None:
    proposal = room["ada"].propose(Remove(room.leaf("mal")), entropy=room.entropy).message
    room["cyd"].receive(proposal)
    own = room.make("cyd")
    bob = room["bob"]
    found = bob.receive(own.message).content
    assert isinstance(found, VerifiedCommit)
    with refuses(bob, "erratum-8815/unknown-proposal"):
        bob.stage(found, now_ns=NOW_NS)
    with pytest.raises(MissingProposalsError) as missing:
        bob.stage(found, now_ns=NOW_NS)
    assert [ProposalRef(each) for each in missing.value.references] == list(own.commit.commit.proposals)
    bob.receive(proposal)
    bob.adopt(bob.stage(found, now_ns=NOW_NS).commit, now_ns=NOW_NS)
    assert own.commit.next is not None
    assert bob.current.authenticator == own.commit.next.authenticator


def test_forged_add_is_refused(room: Room) -> None:
    """By value, Mal signs for it; the key package in it is not what its owner signed."""
    eve = person("eve")
    package = eve.key_package
    other = person("other").leaf.encryption_key
    forged = [
        (msgspec.structs.replace(package, init_key=other), "10.1/key-package-signature"),
        (
            msgspec.structs.replace(
                package, leaf_node=msgspec.structs.replace(package.leaf_node, encryption_key=other)
            ),
            "7.3/leaf-signature",
        ),
        (msgspec.structs.replace(package, cipher_suite=2), "10.1/cipher-suite"),
        (msgspec.structs.replace(package, version=2), "10.1/version"),
        (eve.altered_key_package(init_key=package.leaf_node.encryption_key), "10.1/init-key"),
        (room.key_package("ada"), "12.2/already-member"),
    ]
    mal = room["mal"]
    for number, (key_package, rule) in enumerate(forged):
        # Each by another epoch's Mal, who may send two commits only.
        fork = {name: Group.from_bytes(group.to_bytes(), group.ledger) for name, group in room.groups.items()}
        message = public(mal, signed(mal, Commit((Add(key_package),), None), authenticated_data=b"%d" % number))
        found = fork["bob"].receive(message).content
        assert isinstance(found, VerifiedCommit)
        with refuses(fork["bob"], rule):
            fork["bob"].stage(found, now_ns=NOW_NS)


def test_commit_of_a_bad_proposal_by_reference_is_the_committers_fault(room: Room) -> None:
    """An honest committer leaves it out, and says why."""
    mal = room["mal"]
    bad = public(mal, signed(mal, Remove(17)))
    for name in ("ada", "bob", "cyd"):
        room[name].receive(bad)
    own = room.make("ada")
    assert [each.error.reason for each in own.rejected] == ["12.1.3/blank-leaf"]
    room.follow(own.message, ["bob", "cyd"])

    reference = room["bob"].proposals(own.commit.parent)[0].reference
    room["bob"].return_to(own.commit.parent)
    liar = public(mal, signed(mal, Commit((ProposalRef(reference),), None)))
    staged_by(room, "bob", liar, "12.1.3/blank-leaf")


def test_committer_cannot_update_itself_by_reference_or_remove_itself(room: Room) -> None:
    mal = room["mal"]
    update = mal.propose_update(entropy=room.entropy).message
    room["bob"].receive(update)
    proposals = mal.proposals()
    assert isinstance(proposals[0].proposal, Update)
    item = ProposalRef(proposals[0].reference)
    for items, rule in (
        ((item,), "12.2/committer-update"),
        ((Remove(room.leaf("mal")),), "12.2/committer-remove"),
        ((SelfRemove(),), "extensions-draft/self-remove-by-value"),
    ):
        bob = Group.from_bytes(room["bob"].to_bytes(), room["bob"].ledger)
        found = bob.receive(public(mal, signed(mal, Commit(items, None)))).content
        assert isinstance(found, VerifiedCommit)
        with refuses(bob, rule):
            bob.stage(found, now_ns=NOW_NS)


def test_external_commit_cannot_remove_anybody_but_its_author(room: Room) -> None:
    eve = person("eve")
    with pytest.raises(MlsError, match="external-commit-remove-other"):
        make_external_commit(
            room["ada"].current.group_info(), eve.bundle, entropy=room.entropy, replaces=room.leaf("bob")
        )


def test_victim_of_a_false_removal_returns_to_the_parent(room: Room) -> None:
    """Who is removed gets no path secret and cannot see whether the commit's tag is true."""
    mal, bob = room["mal"], room["bob"]
    commit = room.make("mal", Remove(room.leaf("bob")), public=True).commit
    false = public(mal, altered(commit.authenticated, confirmation_tag=bytes(32)))
    parent = bob.current.authenticator
    bob.adopt(room.stage("bob", false), now_ns=NOW_NS)
    assert is_out(bob)
    staged_by(room, "cyd", false, "12.4.2/confirmation-tag")
    bob.return_to(parent)
    assert not is_out(bob)
    own = room.make("ada")
    room.follow(own.message, ["bob", "cyd"])
    assert room["bob"].current.authenticator == room["cyd"].current.authenticator


# -- anything at all --------------------------------------------------------------------------------

Edit: TypeAlias = tuple[float, int, bytes]


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """With bytes taken out and others put in."""
    for where, cut, inserted in edits:
        at = int(where * len(data))
        data = data[:at] + inserted + data[at + cut :]
    return data


@cache
def base() -> tuple[Room, bytes, bytes]:
    """A room, an encoded commit of Mal's with a bit of everything, and what Bob has stored."""
    room = Room.of("ada", "bob", "cyd", "mal")
    room.fill()
    psk = PreSharedKey(ExternalPsk(b"any", bytes(32)))
    proposals = (Remove(room.leaf("cyd")), Add(room.key_package("eve")), psk, GroupContextExtensions(()))
    return room, room.make("mal", *proposals, public=True).commit.commit.encode(), room["bob"].to_bytes()


@given(
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 2), st.binary(max_size=2)), min_size=1, max_size=3
    ),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_commit_of_anything_that_its_author_signed_is_refused_by_a_rule(edits: list[Edit], leaf_too: bool) -> None:
    room, encoded, stored = base()
    mal, bob = room["mal"], Group.from_bytes(stored, room["bob"].ledger, services=room.services)
    try:
        commit = decode(Commit.read, edited(encoded, edits))
    except MlsError:
        return
    if leaf_too and commit.path is not None:
        leaf = room.client("mal").resigned(commit.path.leaf_node, room.leaf("mal"), GROUP_ID)
        commit = msgspec.structs.replace(commit, path=msgspec.structs.replace(commit.path, leaf_node=leaf))
    found = bob.receive(public(mal, signed(mal, commit))).content
    assert isinstance(found, VerifiedCommit)
    before = bob.to_bytes()
    try:
        staged = bob.stage(found, now_ns=NOW_NS).commit
    except MlsError:
        assert bob.to_bytes() == before
        return
    # Only whoever is removed by it cannot see that its tag is false.
    assert staged.removed
    assert staged.next is None


# -- every byte -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", ALL)
def test_message_with_any_byte_changed_is_refused_and_changes_nothing(suite: int) -> None:
    room = Room.of("ada", "bob", suite=SUITES[suite])
    room.fill()
    messages = [
        room.say("ada"),
        room["ada"].propose(Remove(1), entropy=room.entropy, public=True).message,
        room["ada"].propose_update(entropy=room.entropy).message,
        room.make("ada", public=True).message,
    ]
    bob = room["bob"]
    before = bob.to_bytes()
    stride = 1 if suite == 1 else 7
    for message in messages:
        for at in range(0, len(message), stride):
            data = message[:at] + bytes((message[at] ^ (1 << at % 8),)) + message[at + 1 :]
            with pytest.raises(MlsError):
                bob.receive(data)
        for at in range(0, len(message), stride):
            with pytest.raises(MlsError):
                bob.receive(message[:at])
    assert bob.to_bytes() == before
    for message in messages:
        bob.receive(message)
