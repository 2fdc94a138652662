"""Commits and Welcomes as their author makes them, on an epoch alone; no group around it is needed."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from protocols.errors import LocalError
from protocols.mls.committing import LeafChange, Welcomes, make_commit
from protocols.mls.credentials import BasicCredential
from protocols.mls.epoch import Epoch
from protocols.mls.extensions import ExtensionType, find_extension
from protocols.mls.framing import WireFormat, member
from protocols.mls.joining import stage_welcome
from protocols.mls.opening import VerifiedCommit
from protocols.mls.policy import Policy
from protocols.mls.proposal_list import SentProposal
from protocols.mls.proposals import Add, PreSharedKey, Proposal, Remove
from protocols.mls.protection import verify_content
from protocols.mls.psk import ExternalPsk
from protocols.mls.staging import Checks, StagedCommit, stage_commit
from protocols.mls.suite import SUITES
from protocols.mls.welcome import GROUP_INFO_LABEL
from tests.protocols.mls.kit import refused
from tests.protocols.mls.room import Room, person, shared_psk
from tests.protocols.mls.trees import counting_entropy


@pytest.fixture
def room() -> Room:
    room = Room.of("ada", "bob", "cyd")
    room.fill()
    return room


def by_ada(room: Room, *proposals: Proposal, **options: Any) -> StagedCommit:
    sent = [SentProposal(each, member(0)) for each in proposals]
    options = {"entropy": counting_entropy("commit"), "psks": shared_psk} | options
    return make_commit(room["ada"].current, sent, **options)


def staged(epoch: Epoch, commit: StagedCommit, **options: Any) -> StagedCommit:
    found = VerifiedCommit(commit.parent, commit.commit, commit.authenticated.content.sender, commit.authenticated)
    return stage_commit(epoch, found, proposals={}, psks=shared_psk, **options)


def test_author_and_others_come_to_the_same_epoch(room: Room) -> None:
    commit = by_ada(room, Remove(1), Add(person("eve").key_package), PreSharedKey(ExternalPsk(b"x", bytes(32))))
    other = staged(room["cyd"].current, commit)
    assert commit.next is not None
    assert other.next is not None
    assert commit.next.context == other.next.context
    assert commit.next.secrets == other.next.secrets
    assert (commit.id, commit.added, commit.removed) == (other.id, other.added, other.removed)
    out = staged(room["bob"].current, commit)
    assert (out.next, out.keys) == (None, None)


@pytest.mark.parametrize("suite", SUITES)
def test_equal_entropy_makes_equal_commits(suite: int) -> None:
    room = Room.of("ada", "bob", suite=SUITES[suite])
    first, second = (by_ada(room, Add(person("eve", room.suite).key_package)) for _ in range(2))
    assert (first.id == second.id) == room.suite.deterministic
    assert by_ada(room, entropy=counting_entropy("other")).id != by_ada(room).id


def test_threads_change_nothing_in_the_bytes() -> None:
    room = Room.of("ada", *(f"m{number}" for number in range(140)))
    adds = [Add(person(f"n{number}").key_package) for number in range(70)]
    with ThreadPoolExecutor(2) as pool:

        def run(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterable[Any]:
            return pool.map(work, items)

        threaded = by_ada(room, *adds, checks=Checks(run=run))
    plain = by_ada(room, *adds)
    assert threaded.id == plain.id
    assert threaded.welcomes == plain.welcomes


def test_commit_is_signed_with_the_old_key_and_the_welcome_with_the_new(room: Room) -> None:
    """Whoever processes the commit knows the old leaf; whoever joins knows the new one only."""
    new = room.suite.signature_key_pair(counting_entropy("new key"))
    eve = person("eve")
    epoch = room["ada"].current
    commit = by_ada(room, Add(eve.key_package), leaf=LeafChange(signature=new))
    assert commit.next is not None
    verify_content(epoch.suite, epoch.own_leaf_node.signature_key, commit.authenticated, epoch.context_bytes)
    assert commit.next.own_leaf_node.signature_key == new.public
    assert commit.next.signature_private == new.private
    assert stage_welcome(commit.welcomes[0].welcome, [eve.bundle]).epoch.authenticator == commit.next.authenticator
    info = commit.next.group_info()
    assert epoch.suite.verify_with_label(new.public, GROUP_INFO_LABEL, info.to_be_signed(), info.signature)
    staged(room["bob"].current, commit)


def test_own_credential_changes_as_the_application_allows(room: Room) -> None:
    change = LeafChange(credential=BasicCredential(b"ada, since renamed"))
    with refused("5.3.1/successor"):
        by_ada(room, leaf=change)
    lenient = Checks(policy=Policy(may_succeed=lambda *_: True))
    commit = by_ada(room, leaf=change, checks=lenient)
    assert commit.next is not None
    assert commit.next.own_leaf_node.credential == change.credential
    with refused("5.3.1/successor"):
        staged(room["bob"].current, commit)
    staged(room["bob"].current, commit, checks=lenient)


def test_path_is_left_out_where_the_proposals_do_without(room: Room) -> None:
    for proposals in ((Add(person("eve").key_package),), (PreSharedKey(ExternalPsk(b"x", bytes(32))),)):
        commit = by_ada(room, *proposals, with_path=False)
        assert commit.commit.path is None
        assert commit.next is not None
        assert staged(room["bob"].current, commit).next.authenticator == commit.next.authenticator  # type: ignore[union-attr]
    for proposals_that_need_one in ((), (Remove(1),)):
        with refused("12.4/path-required"):
            by_ada(room, *proposals_that_need_one, with_path=False)
    with pytest.raises(LocalError, match="path"):
        by_ada(room, Add(person("eve").key_package), with_path=False, leaf=LeafChange(extensions=()))


def test_joiners_get_one_welcome_or_one_each(room: Room) -> None:
    joiners = [person(f"n{number}") for number in range(3)]
    adds = [Add(each.key_package) for each in joiners]
    [one] = by_ada(room, *adds).welcomes
    assert one.joiners == (3, 4, 5)
    each = by_ada(room, *adds, welcomes=Welcomes.ONE_EACH).welcomes
    assert [sealed.joiners for sealed in each] == [(3,), (4,), (5,)]
    for joiner, sealed in zip(joiners, each, strict=True):
        alone, together = (stage_welcome(welcome, [joiner.bundle]) for welcome in (sealed.welcome, one.welcome))
        assert alone.epoch.own_leaf == together.epoch.own_leaf == sealed.joiners[0]
        assert alone.epoch.authenticator == together.epoch.authenticator


def test_welcome_has_a_tree_only_if_wanted_and_never_an_external_pub(room: Room) -> None:
    eve = person("eve")
    with_tree, without = (
        by_ada(room, Add(eve.key_package), tree_in_welcome=each).welcomes[0].welcome for each in (True, False)
    )
    assert len(without.encrypted_group_info) < len(with_tree.encrypted_group_info) // 2
    joined = stage_welcome(with_tree, [eve.bundle])
    assert find_extension(joined.extensions, ExtensionType.EXTERNAL_PUB) is None


def test_wire_format_is_signed(room: Room) -> None:
    public = by_ada(room, wire_format=WireFormat.PUBLIC_MESSAGE)
    private = by_ada(room, wire_format=WireFormat.PRIVATE_MESSAGE)
    assert public.commit == private.commit
    assert public.authenticated.auth.signature != private.authenticated.auth.signature
    assert public.next is not None
    assert private.next is not None
    assert public.next.authenticator != private.next.authenticator


def test_psk_that_we_do_not_have_is_not_committed(room: Room) -> None:
    with refused("8.4/unknown-psk"):
        by_ada(room, PreSharedKey(ExternalPsk(b"secret", bytes(32))))
