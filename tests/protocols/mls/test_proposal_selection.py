"""What a committer keeps of the proposals that arrived."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.mls.credentials import CustomCredential
from protocols.mls.errors import MlsError
from protocols.mls.extensions import Extension
from protocols.mls.framing import NEW_MEMBER_PROPOSAL, member
from protocols.mls.leaf_node import Capabilities
from protocols.mls.policy import Policy
from protocols.mls.proposal_rules import SentProposal
from protocols.mls.proposal_selection import Selection, select_proposals
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
from protocols.mls.psk import ExternalPsk
from tests.protocols.mls.kit import Group, client, external, group, sent, value

ABLE = Capabilities(cipher_suites=(1,), extensions=(0xF001,), proposals=(10,), credentials=(1, 9))
KITCHEN = group(6, capabilities=ABLE)
DAVE, ERIN = client("dave", capabilities=ABLE), client("erin")
PSK = PreSharedKey(ExternalPsk(b"psk", bytes(32)))


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
    selection = select(*pending, own=(own,))
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
