"""From outside: external commits and proposals. What they must not do is in ``test_rules_joining``."""

from typing import Any

import msgspec
import pytest

from protocols.errors import LocalError
from protocols.mls.credentials import Credential
from protocols.mls.errors import MlsError
from protocols.mls.extensions import ExternalSender, external_senders_extension
from protocols.mls.external import (
    epoch_shown_by,
    external_message,
    make_external_commit,
    propose_from_outside,
    propose_oneself,
    self_remove_from_outside,
)
from protocols.mls.framing import AuthenticatedContent, PublicMessage, Sender, SenderType, WireFormat, member
from protocols.mls.group import Group
from protocols.mls.leaf_node import LeafIndex
from protocols.mls.message import encode_message, parse
from protocols.mls.opening import VerifiedCommit, VerifiedProposal
from protocols.mls.policy import Policy
from protocols.mls.proposals import Add, GroupContextExtensions, Remove, SelfRemove
from protocols.mls.psk import ExternalPsk
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.send_ledger import SendLedger
from protocols.mls.staging import Checks, StagedCommit
from protocols.mls.suite import SUITES
from tests.protocols.mls.kit import Client, client, refused
from tests.protocols.mls.room import NOW_NS, Room, fresh, person, refuses, shared_psk, signed, untouched

OPEN_HOUSE = Policy(accept=lambda _proposal, _sender: True)


def enter(room: Room, client: Client, via: str, **options: Any) -> StagedCommit:
    """Everybody who is left follows an external commit of this client."""
    epoch = room[via].current
    with untouched(room[via]):
        commit = make_external_commit(epoch.group_info(), fresh(client), entropy=room.entropy, **options)
    removed = [name for name, group in room.groups.items() if group.current.own_leaf in commit.removed]
    message = encode_message(external_message(commit))
    room.follow(message, room.others(client.name))
    for name in removed:
        del room.groups[name]
    room.groups[client.name] = Group.join(commit, now_ns=NOW_NS, services=room.services, ledger=SendLedger())
    room.check_agreement()
    return commit


@pytest.mark.parametrize("suite", [1, 2, 3, 7])
def test_outsider_joins_and_is_heard(suite: int) -> None:
    room = Room.of("ada", "bob", suite=SUITES[suite])
    eve = person("eve", room.suite)
    commit = enter(room, eve, "bob")
    assert commit.external
    assert commit.own
    assert commit.committer == 2
    for name in ("ada", "bob"):
        room[name].receive(room.say("eve"))
        room["eve"].receive(room.say(name))
    room.fill()


def test_member_with_a_commit_of_its_own_under_way_follows_an_external_one() -> None:
    room = Room.of("ada", "bob")
    own = room.make("bob", Add(room.key_package("dan")))
    commit = enter(room, person("eve"), "ada")
    assert room["bob"].parent(room["bob"].current.authenticator) == own.commit.parent
    assert commit.next is not None
    assert room["bob"].current.authenticator == commit.next.authenticator
    assert own.commit in room["bob"].staged(own.commit.parent)


def test_joiner_takes_the_leftmost_free_leaf_after_the_removes() -> None:
    room = Room.of("ada", "bob", "cyd", "dan")
    room.commit("ada", Remove(room.leaf("bob")))
    assert enter(room, person("eve"), "cyd").committer == 1
    assert enter(room, person("fay"), "cyd").committer == 4


def test_lost_member_comes_back_in_its_own_place_or_further_left() -> None:
    room = Room.of("ada", "bob", "cyd", "dan")
    room.fill()
    leaf = room.leaf("cyd")
    commit = enter(room, room.client("cyd"), "dan", replaces=leaf)
    assert (commit.committer, commit.removed) == (leaf, (leaf,))
    room.commit("ada", Remove(room.leaf("bob")))
    commit = enter(room, room.client("dan"), "ada", replaces=room.leaf("dan"))
    assert commit.committer == 1
    room.fill()


def test_last_member_of_a_tree_comes_back_though_the_tree_shrinks_under_it() -> None:
    room = Room.of("ada", "bob", "cyd", "dan", "eve")
    room.fill()
    commit = enter(room, room.client("eve"), "ada", replaces=room.leaf("eve"))
    assert commit.committer == 4
    assert room["eve"].current.tree.leaf_count == 8
    room.fill()


def test_only_member_comes_back_to_its_group() -> None:
    """Nobody else is there to follow: its new epoch has the group's resumption of nothing but the roster."""
    room = Room.of("ada")
    old = room["ada"].current
    commit = make_external_commit(
        old.group_info(), fresh(room.client("ada")), entropy=room.entropy, replaces=LeafIndex(0)
    )
    assert commit.next is not None
    assert [int(leaf) for leaf, _ in commit.next.tree.members()] == [0]


def test_external_commit_carries_out_that_others_leave() -> None:
    room = Room.of("ada", "bob", "cyd")
    leaving = room["cyd"].leave(entropy=room.entropy).message
    room.receive(leaving, ["ada", "bob"])
    [proposal] = room["ada"].proposals()
    commit = enter(room, person("eve"), "ada", self_removes=(proposal,))
    assert commit.removed == (2,)
    assert commit.committer == 2
    assert sorted(room.groups) == ["ada", "bob", "eve"]


def test_joiner_hears_from_the_wire_that_others_leave() -> None:
    room = Room.of("ada", "bob", "cyd")
    leaving = room["cyd"].leave(entropy=room.entropy).message
    room.receive(leaving, ["ada", "bob"])
    message, epoch = parse(leaving), room["ada"].current
    assert isinstance(message, PublicMessage)
    found = self_remove_from_outside(epoch.group_info(), epoch.tree, message)
    [proposal] = room["ada"].proposals()
    assert found == msgspec.structs.replace(proposal, epoch=b"")
    assert enter(room, person("eve"), "ada", self_removes=(found,)).removed == (2,)
    with refused("6/past-epoch"):
        self_remove_from_outside(room["ada"].current.group_info(), room["ada"].current.tree, message)


def test_nothing_but_a_members_own_wish_is_heard_from_outside() -> None:
    room = Room.of("ada", "bob", "cyd")
    ada = room["ada"]
    info, tree = ada.current.group_info(), ada.current.tree

    def heard(authenticated: AuthenticatedContent, **changes: Any) -> None:
        content = msgspec.structs.replace(authenticated.content, **changes)
        self_remove_from_outside(info, tree, PublicMessage(content, authenticated.auth))

    leaving = signed(ada, SelfRemove())
    heard(leaving)
    for rule, authenticated, changes in (
        ("6/other-group", leaving, {"group_id": b"other"}),
        ("6/future-epoch", leaving, {"epoch": 2}),
        ("6/past-epoch", leaving, {"epoch": 0}),
        ("12.4.3.2/proposal-by-reference", signed(ada, Remove(0)), {}),
        ("12.1.8/sender-type", leaving, {"sender": Sender(SenderType.EXTERNAL, 0)}),
        ("6/sender-not-member", leaving, {"sender": member(3)}),
        ("6/sender-not-member", leaving, {"sender": member(99)}),
        ("6.1/signature", leaving, {"sender": member(1)}),
        ("6.1/signature", leaving, {"authenticated_data": b"more"}),
        ("6.1/signature", signed(ada, SelfRemove(), wire_format=WireFormat.PRIVATE_MESSAGE), {}),
    ):
        with refused(rule):
            heard(authenticated, **changes)


def test_member_who_comes_back_with_another_signature_key_is_believed_by_the_service_and_after_a_restart() -> None:
    def registered(credential: Credential, _signature_key: bytes) -> bool:
        return credential in known

    known = [person(name).leaf.credential for name in ("ada", "bob", "cyd")]
    room = Room.of("ada", "bob", "cyd", authenticate=registered)
    renewed = client("bob of a new device", credential=known[1], capabilities=room.client("bob").leaf.capabilities)
    with refused("12.2/external-commit-remove-other"):
        make_external_commit(
            room["ada"].current.group_info(), renewed.bundle, entropy=room.entropy, replaces=room.leaf("bob")
        )
    back = make_external_commit(
        room["ada"].current.group_info(),
        renewed.bundle,
        entropy=room.entropy,
        replaces=room.leaf("bob"),
        checks=Checks(authenticate=registered),
    )
    message = encode_message(external_message(back))
    trusting = Group.from_bytes(room["cyd"].to_bytes(), SendLedger())
    found = trusting.receive(message).content
    assert isinstance(found, VerifiedCommit)
    with refuses(trusting, "12.2/external-commit-remove-other"):
        trusting.stage(found, now_ns=NOW_NS)
    staged = room.stage("ada", message)
    restored = Group.from_bytes(room["ada"].to_bytes(), room["ada"].ledger, services=room.services)
    assert [each.id for each in restored.staged()] == [staged.id]


def test_psk_proves_that_the_joiner_was_invited() -> None:
    room = Room.of("ada", "bob")
    psk = ExternalPsk(b"invitation", bytes(32))
    enter(room, person("eve"), "ada", psk_ids=(psk,), psks=shared_psk)
    with refused("8.4/unknown-psk"):
        make_external_commit(
            room["ada"].current.group_info(), person("fay").bundle, entropy=room.entropy, psk_ids=(psk,)
        )


def test_tree_may_come_apart_from_the_group_info() -> None:
    room = Room.of("ada", "bob")
    epoch = room["ada"].current
    tree = RatchetTree.decode(room.suite, epoch.tree.encode())
    commit = make_external_commit(
        epoch.group_info(with_tree=False), person("eve").bundle, entropy=room.entropy, ratchet_tree=tree
    )
    assert commit.next is not None
    with pytest.raises(MlsError, match="no-tree"):
        make_external_commit(epoch.group_info(with_tree=False), person("eve").bundle, entropy=room.entropy)


def test_external_commit_on_an_epoch_that_was_left_is_of_another_branch() -> None:
    """It races the commit that was made there; nobody is moved by it who does not want to be."""
    room = Room.of("ada", "bob")
    old = room["ada"].current
    room.commit("ada")
    late = make_external_commit(old.group_info(), person("eve").bundle, entropy=room.entropy)
    message = encode_message(external_message(late))
    staged = room.stage("bob", message)
    assert staged.parent == old.authenticator
    assert staged.next is not None
    assert late.next is not None
    assert staged.next.authenticator == late.next.authenticator != room["bob"].current.authenticator


def test_external_commit_is_joined_by_nobody_but_its_author() -> None:
    room = Room.of("ada", "bob")
    eve = make_external_commit(room["ada"].current.group_info(), person("eve").bundle, entropy=room.entropy)
    message = encode_message(external_message(eve))
    with pytest.raises(LocalError):
        Group.join(room.stage("bob", message), now_ns=NOW_NS, ledger=SendLedger())


# -- proposals --------------------------------------------------------------------------------------


def may_propose(server: Client) -> GroupContextExtensions:
    sender = ExternalSender(server.signature.public, server.leaf.credential)
    return GroupContextExtensions((external_senders_extension([sender]),))


def test_external_sender_proposes_and_members_commit_it() -> None:
    room = Room.of("ada", "bob", "cyd")
    server = person("server")
    room.commit("ada", may_propose(server))
    info = room["ada"].current.group_info()
    message = encode_message(propose_from_outside(info, Remove(room.leaf("cyd")), 0, server.signature))
    for received in room.receive(message, room.groups).values():
        assert isinstance(received.content, VerifiedProposal)
        assert received.content.sender.sender_type == SenderType.EXTERNAL
    assert room.commit("bob").commit.removed == (2,)
    info = room["ada"].current.group_info()
    with refuses(room["ada"], "12.1.8.1/unknown-sender"):
        room["ada"].receive(encode_message(propose_from_outside(info, Remove(1), 1, server.signature)))


def test_external_proposal_signed_by_another_is_refused() -> None:
    room = Room.of("ada", "bob")
    server = person("server")
    room.commit("ada", may_propose(server))
    forged = propose_from_outside(room["ada"].current.group_info(), Remove(0), 0, person("mal").signature)
    with refuses(room["bob"], "6.1/signature"):
        room["bob"].receive(encode_message(forged))


def test_newcomer_proposes_itself_and_is_welcomed() -> None:
    room = Room.of("ada", "bob", policy=OPEN_HOUSE)
    eve = room.client("eve")
    message = encode_message(propose_oneself(room["ada"].current.group_info(), eve.bundle))
    room.receive(message, ["ada", "bob"])
    own = room.commit("ada")
    assert [leaf for leaf, _ in own.commit.added] == [2]
    assert room["eve"].current.own_leaf == 2
    room.commit("eve")


def test_newcomer_of_another_suite_does_not_propose_itself() -> None:
    room = Room.of("ada")
    with pytest.raises(LocalError):
        propose_oneself(room["ada"].current.group_info(), person("eve", SUITES[2]).bundle)


def test_proposal_for_one_that_is_added_meanwhile_is_left_out() -> None:
    room = Room.of("ada", "bob", policy=OPEN_HOUSE)
    eve = room.client("eve")
    message = encode_message(propose_oneself(room["ada"].current.group_info(), eve.bundle))
    room.receive(message, ["ada", "bob"])
    own = room.make("ada", Add(eve.key_package))
    assert [each.error.reason for each in own.rejected] == ["12.2/duplicate-add"]
    room.follow(own.message, ["bob"])


def test_members_confirm_the_epoch_that_a_group_info_shows() -> None:
    room = Room.of("ada", "bob")
    shown = epoch_shown_by(room["ada"].current.group_info())
    assert shown == room["bob"].current.interim_transcript_hash
    room.commit("bob")
    assert shown != room["ada"].current.interim_transcript_hash
    assert epoch_shown_by(room["ada"].current.group_info()) == room["bob"].current.interim_transcript_hash
