"""A commit as others process it, on an epoch alone: pure, repeatable, and the same for everybody. The traps of §12.4.2
that a wrong implementation falls into with messages that are right."""

import pytest

from protocols.mls.commit import Commit, ProposalRef
from protocols.mls.framing import member
from protocols.mls.opening import VerifiedCommit, VerifiedProposal
from protocols.mls.proposals import Add, GroupContextExtensions, PreSharedKey, Remove
from protocols.mls.psk import ExternalPsk
from protocols.mls.staging import MissingProposalsError, StagedCommit, known_psks, resolved, stage_commit
from protocols.mls.transcript import confirmed_transcript_hash
from protocols.mls.tree_private import TreePrivate
from tests.protocols.mls.kit import refused
from tests.protocols.mls.room import NOW_NS, Room, shared_psk, untouched
from tests.protocols.mls.test_histories import REQUIREMENTS


@pytest.fixture
def room() -> Room:
    room = Room.of("ada", "bob", "cyd", "dan")
    room.fill()
    return room


def verified(commit: StagedCommit) -> VerifiedCommit:
    return VerifiedCommit(commit.parent, commit.commit, commit.authenticated.content.sender, commit.authenticated)


def test_staging_is_a_function_of_the_epoch_and_the_commit(room: Room) -> None:
    commit = room.make("ada", Remove(3)).commit
    epoch = room["bob"].current
    before = epoch.to_bytes()
    first, second = (stage_commit(epoch, verified(commit), proposals={}) for _ in range(2))
    assert epoch.to_bytes() == before
    assert first.next is not None
    assert second.next is not None
    assert first.next.to_bytes() == second.next.to_bytes()
    assert first.keys is not second.keys


def test_update_and_removal_of_others_leave_our_keys_those_that_the_tree_wants(room: Room) -> None:
    for step in range(3):
        update = room["cyd"].propose_update(entropy=room.entropy).message
        room.receive(update, ["ada", "bob", "dan"])
        room.commit("bob" if step % 2 else "ada")
        for group in room.groups.values():
            group.current.private.check(group.current.tree)
    room.commit("dan", Remove(room.leaf("ada")), Add(room.key_package("eve")))
    for group in room.groups.values():
        group.current.private.check(group.current.tree)


def test_own_update_needs_the_keys_that_were_made_with_it(room: Room) -> None:
    update = room["cyd"].propose_update(entropy=room.entropy).message
    room.receive(update, ["ada", "bob", "dan"])
    own = room.make("ada")
    cyd = room["cyd"]
    proposals = {each.reference: each for each in cyd.proposals()}
    with refused("12.1.2/unknown-update"):
        stage_commit(cyd.current, verified(own.commit), proposals=proposals)
    room.follow(own.message, ["cyd"])
    private = cyd.current.private
    assert isinstance(private, TreePrivate)
    assert private.leaf_private != cyd.epoch(own.commit.parent).private.leaf_private


def test_extensions_change_under_the_old_context_and_bind_with_the_new(room: Room) -> None:
    """The commit is signed under the old context; the path is encrypted under the provisional one, which has the new
    extensions and the old transcript."""
    own = room.make("ada", GroupContextExtensions(REQUIREMENTS[1]))
    before = room["bob"].current
    staged = room.stage("bob", own.message)
    assert staged.next is not None
    assert staged.next.context.extensions == REQUIREMENTS[1]
    assert before.context.extensions == ()
    assert staged.next.context.epoch == before.number + 1
    assert staged.next.context.tree_hash == staged.next.tree.tree_hash
    transcript = confirmed_transcript_hash(before.suite, before.interim_transcript_hash, staged.authenticated)
    assert staged.next.context.confirmed_transcript_hash == transcript


def test_whoever_is_added_with_a_path_gets_it_from_the_welcome(room: Room) -> None:
    """No ciphertext is for it, and its path secret is that of the lowest node above it and the committer."""
    own = room.commit("ada", Remove(room.leaf("bob")), Add(room.key_package("eve")))
    path = own.commit.commit.path
    assert path is not None
    assert room.leaf("eve") == 1
    # Ada's path meets Eve at node 1, whose only receiver would be Eve: its ciphertexts are none.
    assert [len(each.encrypted_path_secret) for each in path.nodes] == [0, 1]
    assert sorted(room["eve"].current.private.parents) == [1, 3]


def test_proposals_are_whose_they_are(room: Room) -> None:
    """By reference their sender's, by value the committer's; member 0 too."""
    message = room["ada"].propose(Remove(3), entropy=room.entropy).message
    found = room["bob"].receive(message).content
    assert isinstance(found, VerifiedProposal)
    commit = Commit((ProposalRef(found.reference), Remove(2)), None)
    first, second = resolved(commit, member(1), {found.reference: found})
    assert (first.sender, first.reference) == (member(0), found.reference)
    assert (second.sender, second.reference) == (member(1), None)
    with pytest.raises(MissingProposalsError) as missing:
        resolved(commit, member(1), {})
    assert missing.value.references == (found.reference,)


def test_member_at_leaf_zero_is_a_sender_like_others(room: Room) -> None:
    update = room["ada"].propose_update(entropy=room.entropy).message
    room.receive(update, ["bob", "cyd", "dan"])
    assert room.commit("dan").commit.updated == (0,)


def test_pending_commit_of_ours_does_not_stand_in_the_way_of_anothers(room: Room) -> None:
    own, theirs = room.make("bob", Remove(3)), room.make("ada")
    room.follow(theirs.message, ["bob", "cyd", "dan"])
    room["ada"].adopt(theirs.commit, now_ns=NOW_NS)
    room.check_agreement()
    assert own.commit in room["bob"].staged(own.commit.parent)


def test_psks_are_those_of_the_list_in_its_order() -> None:
    ids = tuple(ExternalPsk(name, bytes(32)) for name in (b"b", b"a"))
    assert [psk for psk, _ in known_psks(ids, shared_psk)] == list(ids)
    with refused("8.4/unknown-psk"):
        known_psks((*ids, ExternalPsk(b"secret", bytes(32))), shared_psk)


def test_order_of_psks_matters_to_the_epoch(room: Room) -> None:
    one, two = (PreSharedKey(ExternalPsk(name, bytes(32))) for name in (b"a", b"b"))
    room.commit("ada", one, two)
    own = room.make("bob", two, one, with_path=False)
    with untouched(room["cyd"]):
        pass
    room.follow(own.message, ["cyd"])


def test_tree_shrinks_only_when_its_right_half_is_empty() -> None:
    room = Room.of("ada", "bob", "cyd", "dan", "eve")
    room.fill()
    room.commit("ada", Remove(room.leaf("dan")))
    assert room["ada"].current.tree.leaf_count == 8
    room.commit("bob", Remove(room.leaf("eve")))
    assert room["ada"].current.tree.leaf_count == 4
    for group in room.groups.values():
        group.current.private.check(group.current.tree)
    room.commit("cyd", Add(room.key_package("fay")), Add(room.key_package("gus")))
    assert [room.leaf("fay"), room.leaf("gus")] == [3, 4]
    room.fill()
