"""What a committer keeps of the proposals that arrived."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.mls.credentials import CustomCredential
from protocols.mls.errors import MlsError
from protocols.mls.extensions import Extension, ExtensionType
from protocols.mls.framing import NEW_MEMBER_PROPOSAL, member
from protocols.mls.leaf_node import Capabilities, LeafIndex
from protocols.mls.policy import Policy
from protocols.mls.proposal_list import ProposalList, check_proposals
from protocols.mls.proposal_rules import SentProposal
from protocols.mls.proposal_selection import Selection, committable, select_proposals
from protocols.mls.proposals import (
    Add,
    Custom,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    Remove,
    SelfRemove,
    Update,
)
from protocols.mls.psk import ExternalPsk, ResumptionPsk, ResumptionUsage
from tests.protocols.mls.kit import GROUP_ID, Group, client, external, group, group_of, sent, value

ABLE = Capabilities(cipher_suites=(1,), extensions=(0xF001,), proposals=(10,), credentials=(1, 9))
KITCHEN = group(6, capabilities=ABLE)
DAVE, ERIN = client("dave", capabilities=ABLE), client("erin")
PSK = PreSharedKey(ExternalPsk(b"psk", bytes(32)))
EVERYTHING = Policy(accept=lambda _proposal, _sender: True)
HERE: dict[str, Any] = {"suite": KITCHEN.suite, "context": KITCHEN.context, "tree": KITCHEN.tree}


def select(*pending: SentProposal, where: Group = KITCHEN, **more: Any) -> Selection:
    return select_proposals(
        suite=where.suite, context=where.context, tree=where.tree, pending=pending, committer=member(0), **more
    )


def update(index: int) -> SentProposal:
    return sent(Update(KITCHEN.clients[index].update(index)), index)


def reasons(selection: Selection) -> list[tuple[SentProposal, str]]:
    return [(each.sent, each.error.reason) for each in selection.rejected]


def test_sound_proposals_are_kept_in_the_order_of_arrival_after_the_own_ones() -> None:
    own = value(Add(ERIN.key_package))
    pending = (update(1), sent(Remove(4), 2), sent(Add(DAVE.key_package), NEW_MEMBER_PROPOSAL), sent(PSK, 3))
    selection = select(*pending, own=(own,), policy=EVERYTHING)
    assert selection.kept == (own, *pending)
    assert selection.rejected == ()


@pytest.mark.parametrize(
    ("pending", "rule"),
    [
        (sent(Remove(0), 1), "12.2/committer-remove"),
        (sent(Update(KITCHEN.clients[0].update(0)), 0), "12.2/committer-update"),
        (sent(Remove(77), 1), "12.1.3/blank-leaf"),
        (sent(ExternalInit(b""), 1), "12.2/external-init"),
        (sent(Remove(1), external(0)), "12.1.8.1/unknown-sender"),
        (sent(Custom(0xF009, b""), 1), "12.2/unsupported-proposal-type"),
        (sent(Add(client("odd", capabilities=Capabilities()).key_package), 1), "7.2/unsupported-cipher-suite"),
        (
            sent(Add(msgspec.structs.replace(DAVE.key_package, signature=bytes(64))), 1),
            "10.1/key-package-signature",
        ),
        (sent(Update(KITCHEN.clients[2].update(3)), 2), "7.3/leaf-signature"),
    ],
)
def test_one_bad_proposal_does_not_stop_the_committer(pending: SentProposal, rule: str) -> None:
    good = (update(1), sent(PSK, 3))
    selection = select(good[0], pending, good[1])
    assert selection.kept == good
    assert reasons(selection) == [(pending, rule)]


def test_remove_is_preferred_to_update_and_self_remove_to_remove() -> None:
    first, second, leave = update(2), sent(Remove(2), 3), sent(SelfRemove(), 2)
    assert select(first, second).kept == (second,)
    assert select(second, first).kept == (second,)
    assert select(second, leave).kept == (leave,)
    assert reasons(select(leave, second)) == [(second, "12.2/same-leaf")]


def test_most_recent_update_and_first_of_equal_others_are_preferred() -> None:
    updates = [update(2), update(2), update(2)]
    assert select(*updates).kept == (updates[2],)
    removes = [sent(Remove(2), 3), sent(Remove(2), 4)]
    assert select(*removes).kept == (removes[0],)
    adds = [sent(Add(DAVE.key_package), 1), sent(Add(DAVE.key_package), 2)]
    assert select(*adds).kept == (adds[0],)
    assert reasons(select(*adds)) == [(adds[1], "12.2/duplicate-add")]
    psks = [sent(PSK, 1), sent(PSK, 2)]
    assert select(*psks).kept == (psks[0],)
    changes = [sent(GroupContextExtensions(()), 1), sent(GroupContextExtensions(()), 2)]
    assert select(*changes).kept == (changes[0],)


def test_own_proposals_win() -> None:
    own = value(Remove(2))
    selection = select(sent(SelfRemove(), 2), update(2), sent(PSK, 1), own=(own, value(PSK)))
    assert selection.kept == (own, value(PSK))
    assert [rule for _, rule in reasons(selection)] == ["12.2/same-leaf", "12.2/same-leaf", "12.2/duplicate-psk"]


def test_own_proposals_that_break_a_rule_are_the_callers_fault() -> None:
    with pytest.raises(MlsError) as caught:
        select(own=(value(Remove(0)),))
    assert caught.value.reason == "12.2/committer-remove"


def test_other_proposals_are_preferred_to_reinit() -> None:
    reinit, another = sent(ReInit(b"next", 1, 1, ()), 1), sent(ReInit(b"other", 1, 1, ()), 2)
    assert select(reinit, sent(PSK, 2)).kept == (sent(PSK, 2),)
    assert select(reinit, another).kept == (reinit,)
    assert [rule for _, rule in reasons(select(reinit, another))] == ["12.2/reinit-with-others"]


def test_what_cannot_stand_together_is_found_out() -> None:
    foreign = client("foreign", credential=CustomCredential(9, b"x"), capabilities=ABLE)
    pending = (sent(Add(ERIN.key_package), 1), sent(Add(foreign.key_package), 2), update(3))
    selection = select(*pending)
    assert selection.kept == (pending[0], pending[2])
    assert reasons(selection) == [(pending[1], "7.3/credential-support")]
    change = sent(GroupContextExtensions((Extension(0xF001, b""),)), 1)
    assert reasons(select(change, pending[0])) == [(pending[0], "13.4/context-extension-support")]


def test_application_chooses_among_them() -> None:
    policy = Policy(accept=lambda proposal, sender: not isinstance(proposal, Remove))
    remove = sent(Remove(2), 1)
    assert reasons(select(remove, update(2), policy=policy)) == [(remove, "policy/refused")]
    assert len(select(remove, update(2), policy=policy).kept) == 1


# -- nobody stops a committer -----------------------------------------------------------------------


def test_committer_who_could_not_follow_leaves_it_out() -> None:
    """Its own leaf is in the commit's path: whatever clashes with that goes, not the commit."""
    plain = group_of(client("plain"), *(client(f"able {number}", capabilities=ABLE) for number in range(3)))
    path_leaf = plain.clients[0].path_leaf(0)
    foreign = client("foreign", credential=CustomCredential(9, b"x"), capabilities=ABLE)
    same = client("same").altered_key_package(leaf={"encryption_key": path_leaf.encryption_key})
    pending = [
        sent(GroupContextExtensions((Extension(0xF001, b""),)), 1),
        sent(Add(foreign.key_package), NEW_MEMBER_PROPOSAL),
        sent(Add(same), 2),
        sent(PSK, 3),
    ]
    selection = select(*pending, where=plain, path_leaf=path_leaf, policy=EVERYTHING)
    assert selection.kept == (pending[3],)
    assert dict(reasons(selection)) == {
        pending[0]: "erratum-8745/extension-support",
        pending[1]: "7.3/credential-support",
        pending[2]: "7.3/duplicate-encryption-key",
    }


def test_extensions_that_others_propose_do_not_forbid_what_we_commit() -> None:
    change, own = sent(GroupContextExtensions((Extension(0xF001, b""),)), 1), value(Add(ERIN.key_package))
    selection = select(change, sent(PSK, 2), own=(own,))
    assert selection.kept == (own, sent(PSK, 2))
    assert reasons(selection) == [(change, "13.4/context-extension-support")]
    with pytest.raises(MlsError, match="duplicate-psk"):
        select(change, own=(value(PSK), value(PSK)))


def test_reinit_of_our_own_is_alone() -> None:
    own, pending = value(ReInit(b"next", 1, 1, ())), (sent(PSK, 1), sent(Add(DAVE.key_package), NEW_MEMBER_PROPOSAL))
    selection = select(*pending, own=(own,), policy=EVERYTHING)
    assert selection.kept == (own,)
    assert reasons(selection) == [(each, "12.2/reinit-with-others") for each in pending]


def test_stranger_is_for_the_application_to_let_in() -> None:
    stranger = sent(Add(DAVE.key_package), NEW_MEMBER_PROPOSAL)
    assert reasons(select(stranger)) == [(stranger, "policy/refused")]
    assert select(stranger, policy=EVERYTHING).kept == (stranger,)


def test_resumption_psk_that_newcomers_lack_is_for_the_application_to_accept() -> None:
    def resumption(group_id: bytes) -> PreSharedKey:
        return PreSharedKey(ResumptionPsk(ResumptionUsage.APPLICATION, group_id, 3, bytes(32)))

    theirs, ours, elsewhere = sent(resumption(GROUP_ID), 1), sent(resumption(GROUP_ID), 0), sent(resumption(b"else"), 1)
    assert reasons(select(theirs, elsewhere)) == [(theirs, "policy/refused")]
    assert select(ours).kept == (ours,)
    assert select(theirs, policy=EVERYTHING).kept == (theirs,)


@pytest.mark.parametrize(
    ("reinit", "rule"),
    [
        (ReInit(b"next", 1, 0xFFFF, ()), "policy/refused"),
        (ReInit(b"next", 1, 2, ()), "policy/refused"),
        (ReInit(b"next", 2, 1, ()), "policy/refused"),
        (ReInit(b"next", 1, 1, (Extension(ExtensionType.REQUIRED_CAPABILITIES, b""),)), "2.1/truncated"),
        (ReInit(b"next", 1, 1, (Extension(0xF002, b""),)), "13.4/context-extension-support"),
    ],
)
def test_reinit_after_which_nothing_could_begin_is_for_the_application_to_accept(reinit: ReInit, rule: str) -> None:
    pending = sent(reinit, 1)
    assert reasons(select(pending)) == [(pending, rule)]
    assert select(pending, policy=EVERYTHING).kept == (pending,)
    assert select(own=(value(reinit),)).kept == (value(reinit),)


def test_flood_of_clashes_is_left_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is looked at as often for many as for two, and the first of each that clash stays."""
    looks: list[int] = []

    def counted(**details: Any) -> ProposalList:
        looks.append(len(details["proposals"]))
        return check_proposals(**details)

    monkeypatch.setattr("protocols.mls.proposal_selection.check_proposals", counted)
    firsts, pending = [], []
    for number in range(20):
        one, other = client(f"one {number}"), client(f"other {number}")
        again = one.altered_key_package(leaf={"encryption_key": one.encryption_key()})
        shared = other.altered_key_package(leaf={"encryption_key": one.leaf.encryption_key})
        firsts.append(sent(Add(one.key_package), 1))
        pending += [firsts[-1], sent(Add(again), 2), sent(Add(shared), 3)]
    selection = select(*pending)
    assert selection.kept == tuple(firsts)
    assert [rule for _, rule in reasons(selection)] == [
        *["12.2/duplicate-add"] * 20, *["7.3/duplicate-encryption-key"] * 20
    ]  # fmt: skip
    assert looks == [60, 40, 20]


# -- what waits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proposal", "stands"),
    [
        (sent(Add(DAVE.key_package), 1), True),
        (update(1), True),
        (update(0), True),
        (sent(Remove(0), 1), True),
        (sent(SelfRemove(), 0), True),
        (sent(PreSharedKey(ResumptionPsk(ResumptionUsage.APPLICATION, GROUP_ID, 3, bytes(32))), 0), True),
        (sent(PreSharedKey(ResumptionPsk(ResumptionUsage.APPLICATION, GROUP_ID, 3, bytes(32))), 1), False),
        (sent(Remove(77), 1), False),
        (sent(Custom(0xF009, b""), 1), False),
        (sent(Add(KITCHEN.clients[1].key_package), 2), False),
        (sent(Add(msgspec.structs.replace(DAVE.key_package, signature=bytes(64))), 1), False),
        (sent(GroupContextExtensions((Extension(0xF002, b""),)), 1), False),
    ],
)
def test_proposal_stands_if_somebody_would_commit_it(proposal: SentProposal, stands: bool) -> None:
    assert committable(proposal, **HERE, own=LeafIndex(0)) == stands


def test_nobody_commits_what_concerns_the_only_member() -> None:
    alone = group(1, capabilities=ABLE)
    here: dict[str, Any] = {"suite": alone.suite, "context": alone.context, "tree": alone.tree, "own": LeafIndex(0)}
    assert not committable(sent(Update(alone.clients[0].update(0)), 0), **here)
    assert committable(sent(PSK, 0), **here)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_arrives_leaves_a_list_that_can_be_committed(data: st.DataObject) -> None:
    kinds: list[Proposal] = [
        Add(DAVE.key_package), Add(ERIN.key_package), Add(KITCHEN.clients[1].key_package), Remove(0), Remove(1),
        Remove(2), Remove(99), PSK, ReInit(b"", 1, 1, ()), ExternalInit(b""), GroupContextExtensions(()),
        GroupContextExtensions((Extension(0xF001, b""),)), SelfRemove(), Custom(0xF009, b""),
        *(Update(KITCHEN.clients[1].update(1)) for _ in range(2)),
    ]  # fmt: skip
    senders = st.sampled_from([member(0), member(1), member(2), member(9), external(0), NEW_MEMBER_PROPOSAL])
    pending = data.draw(st.lists(st.builds(sent, st.sampled_from(kinds), senders), max_size=8))
    selection = select(*pending)
    KITCHEN.check(*selection.kept)
    assert len(selection.kept) + len(selection.rejected) == len(pending)
    assert [each for each in pending if any(each is kept for kept in selection.kept)] == list(selection.kept)
    assert select(*pending).kept == selection.kept
