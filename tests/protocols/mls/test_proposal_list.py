"""Lists of proposals, as commits have them."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.mls.credentials import BasicCredential
from protocols.mls.errors import MlsError
from protocols.mls.extensions import Extension, ExtensionType, RequiredCapabilities
from protocols.mls.framing import NEW_MEMBER_PROPOSAL, Sender, SenderType, member
from protocols.mls.leaf_node import Capabilities, LeafIndex, LeafNode
from protocols.mls.policy import Policy
from protocols.mls.proposal_list import apply_proposals
from protocols.mls.proposal_rules import ProposalError, SentProposal
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
from protocols.mls.ratchet_tree import RatchetTree
from tests.protocols.mls.kit import Client, Group, client, external, group, group_of, joined, refused, sent, value

KITCHEN = group(6)
DAVE, ERIN = client("dave"), client("erin")
PSK = PreSharedKey(ExternalPsk(b"psk", bytes(32)))
INIT = joined(ExternalInit(bytes(32)))
ABLE = Capabilities(cipher_suites=(1,), extensions=(0xF001,), proposals=(10, 0xF001), credentials=(1, 2))
CUSTOM = Extension(0xF001, b"")


def group_with(*parts: Iterable[Client]) -> Group:
    return group_of(*(each for part in parts for each in part))


def update(index: int, where: Group = KITCHEN) -> SentProposal:
    return sent(Update(where.clients[index].update(index)), index)


# -- a member's commit (§12.2) ----------------------------------------------------------------------


def test_list_shows_its_proposals_by_kind_and_in_order() -> None:
    listed = KITCHEN.check(
        value(Add(DAVE.key_package)), update(2), value(Remove(4)), value(PSK), sent(Add(ERIN.key_package), 3),
        sent(Remove(1), 1),
    )  # fmt: skip
    assert listed.adds == (DAVE.key_package, ERIN.key_package)
    assert [index for index, _ in listed.updates] == [2]
    assert listed.removes == (4, 1)
    assert listed.psks == (PSK.psk,)
    assert listed.extensions == KITCHEN.context.extensions
    assert listed.path_required


def test_committers_own_update_is_refused() -> None:
    with refused("12.2/committer-update"):
        KITCHEN.check(update(0), committer=0)
    with refused("12.2/committer-update"):
        KITCHEN.check(value(Update(KITCHEN.clients[3].update(3)), 3), committer=3)


def test_committer_does_not_remove_itself() -> None:
    for index in (0, 5):
        with refused("12.2/committer-remove"):
            KITCHEN.check(value(Remove(index), index), committer=index)
        with refused("12.2/committer-remove"):
            KITCHEN.check(sent(Remove(index), 3), committer=index)


@pytest.mark.parametrize(
    "pair",
    [
        (update(2), update(2)),
        (update(2), value(Remove(2))),
        (value(Remove(2)), sent(Remove(2), 4)),
        (value(Remove(0), 1), update(0)),
    ],
)
def test_one_leaf_is_updated_or_removed_once(pair: tuple[SentProposal, SentProposal]) -> None:
    with refused("12.2/same-leaf"):
        KITCHEN.check(*pair, committer=1 if any(each.sender.index == 1 for each in pair) else 0)


def test_client_is_added_once() -> None:
    again = DAVE.altered_key_package(leaf={"encryption_key": DAVE.encryption_key()})
    with refused("12.2/duplicate-add"):
        KITCHEN.check(value(Add(DAVE.key_package)), value(Add(DAVE.key_package)))
    with refused("12.2/duplicate-add"):
        KITCHEN.check(value(Add(DAVE.key_package)), sent(Add(again), NEW_MEMBER_PROPOSAL))


def test_member_is_added_only_if_removed_with_it() -> None:
    bob = KITCHEN.clients[2]
    package = bob.altered_key_package(leaf={"encryption_key": bob.encryption_key()})
    with refused("12.2/already-member"):
        KITCHEN.check(value(Add(package)))
    KITCHEN.check(value(Add(package)), value(Remove(2)))
    KITCHEN.check(value(Remove(2)), value(Add(package)))
    with refused("12.2/already-member"):
        KITCHEN.check(value(Add(package)), value(Remove(3)))


def test_application_may_know_clients_by_more_than_their_keys() -> None:
    def client_of(credential: object) -> bytes:
        assert isinstance(credential, BasicCredential)
        return credential.identity.partition(b"@")[0]

    policy = Policy(client=client_of)
    first, second = (client(f"frank@{place}") for place in ("home", "work"))
    KITCHEN.check(value(Add(first.key_package)), value(Add(second.key_package)))
    with refused("12.2/duplicate-add"):
        KITCHEN.check(value(Add(first.key_package)), value(Add(second.key_package)), policy=policy)
    twin = client("member 3@work")
    with refused("12.2/already-member"):
        KITCHEN.check(value(Add(twin.key_package)), policy=policy)
    KITCHEN.check(value(Add(twin.key_package)), value(Remove(3)), policy=policy)


def test_psk_stands_once() -> None:
    with refused("12.2/duplicate-psk"):
        KITCHEN.check(value(PSK), sent(PSK, 3))
    KITCHEN.check(value(PSK), value(PreSharedKey(ExternalPsk(b"psk", b"\1" * 32))))


def test_context_extensions_change_once() -> None:
    with refused("12.2/duplicate-context-extensions"):
        KITCHEN.check(value(GroupContextExtensions(())), sent(GroupContextExtensions(()), 1))


@pytest.mark.parametrize("other", [value(PSK), value(ReInit(b"next", 1, 1, ())), value(Remove(3))])
def test_reinit_is_alone(other: SentProposal) -> None:
    assert KITCHEN.check(value(ReInit(b"next", 1, 1, ()))).reinit == ReInit(b"next", 1, 1, ())
    with refused("12.2/reinit-with-others"):
        KITCHEN.check(other, value(ReInit(b"next", 1, 1, ())))


def test_external_init_is_for_external_commits() -> None:
    with refused("12.2/external-init"):
        KITCHEN.check(value(ExternalInit(bytes(32))))


@pytest.mark.parametrize("proposal", [SelfRemove(), Custom(0xF001, b"")])
def test_further_types_need_all_who_process_the_commit(proposal: Proposal) -> None:
    able = [client(f"able {number}", capabilities=ABLE) for number in range(3)]
    mixed = group_with(able, [client("plain")])
    with refused("12.2/unsupported-proposal-type"):
        mixed.check(sent(proposal, 1))
    # Those who go with this commit or come with it need not understand it.
    mixed.check(sent(proposal, 1), value(Remove(3)))
    group_with(able).check(sent(proposal, 1), value(Add(DAVE.key_package)))


def test_self_remove_is_committed_by_reference_and_by_others() -> None:
    able = group(3, capabilities=ABLE)
    assert able.check(sent(SelfRemove(), 2)).gone == (2,)
    with refused("extensions-draft/self-remove-by-value"):
        able.check(value(SelfRemove()))
    with refused("12.2/committer-remove"):
        able.check(sent(SelfRemove(), 0))
    with refused("12.2/same-leaf"):
        able.check(sent(SelfRemove(), 2), value(Remove(2)))


def test_path_is_required_by_the_registry_and_by_the_application() -> None:
    able = group(3, capabilities=ABLE)
    assert able.check().path_required
    for optional in (Add(DAVE.key_package), PSK, ReInit(b"next", 1, 1, ()), Custom(0xF001, b"")):
        assert not able.check(value(optional)).path_required
    for required in (value(Remove(1)), value(GroupContextExtensions(())), update(1, able), sent(SelfRemove(), 1)):
        assert able.check(required, value(PSK)).path_required
    policy = Policy(path_required=frozenset({0xF001}))
    assert able.check(value(Custom(0xF001, b"")), policy=policy).path_required


def test_psk_usages_of_a_group_that_follows_are_allowed_in_its_first_commit() -> None:
    reinit = value(PreSharedKey(ResumptionPsk(ResumptionUsage.REINIT, b"old", 9, bytes(32))))
    with refused("12.1.4/psk-usage"):
        KITCHEN.check(reinit)
    KITCHEN.check(reinit, follow_up=ResumptionUsage.REINIT)
    with refused("12.1.4/psk-usage"):
        KITCHEN.check(reinit, follow_up=ResumptionUsage.BRANCH)


def test_commit_by_nobody_is_refused() -> None:
    with refused("6/sender-not-member"):
        KITCHEN.check(committer=7)
    with refused("6/sender-not-member"):
        KITCHEN.without(2).check(committer=2)
    for sender in (external(0), NEW_MEMBER_PROPOSAL):
        with pytest.raises(LocalError):
            KITCHEN.check(committer=sender)
    with pytest.raises(LocalError):
        KITCHEN.check(value(PSK, 1), committer=2)


# -- the new extensions bind the list (§12.3) -------------------------------------------------------


def test_new_extensions_bind_the_adds_of_their_list() -> None:
    able = group(2, capabilities=ABLE)
    change = value(GroupContextExtensions((RequiredCapabilities((0xF001,)).extension(),)))
    with refused("7.3/required-capabilities"):
        able.check(value(Add(DAVE.key_package)), change)
    listed = able.check(value(Add(client("able dave", capabilities=ABLE).key_package)), change)
    assert listed.extensions == listed.group_context_extensions


def test_extensions_that_go_bind_nobody() -> None:
    strict = group(2, capabilities=ABLE, extensions=(CUSTOM,))
    add = value(Add(DAVE.key_package))
    with refused("13.4/context-extension-support"):
        strict.check(add)
    assert strict.check(add, value(GroupContextExtensions(()))).extensions == ()


def test_new_extensions_need_members_who_stay() -> None:
    mixed = group_with([client(f"able {number}", capabilities=ABLE) for number in range(3)], [client("plain")])
    change = value(GroupContextExtensions((CUSTOM,)))
    with refused("13.4/context-extension-support"):
        mixed.check(change)
    mixed.check(change, value(Remove(3)))
    with refused("12.1.7/required-capabilities"):
        mixed.check(value(GroupContextExtensions((RequiredCapabilities((), (0xF001,)).extension(),))))


def test_members_who_update_in_the_list_count_as_they_will_be() -> None:
    plain = group(3)
    change = value(GroupContextExtensions((CUSTOM,)))
    updates = [sent(Update(plain.clients[index].update(index, capabilities=ABLE)), index) for index in (1, 2)]
    with refused("13.4/context-extension-support"):
        plain.check(change, *updates)
    plain.check(change, *updates, path_leaf=plain.clients[0].path_leaf(0, capabilities=ABLE))
    with refused("erratum-8745/extension-support"):
        plain.check(change, *updates, path_leaf=plain.clients[0].path_leaf(0))


# -- an external commit (§12.2, §12.4.3.2) ----------------------------------------------------------


def test_external_commit_has_one_external_init() -> None:
    assert KITCHEN.check_external(DAVE, INIT, joined(PSK)).external_init is not None
    for proposals in ((), (joined(PSK),), (INIT, INIT)):
        with refused("12.2/external-commit-init-count"):
            KITCHEN.check_external(DAVE, *proposals)


@pytest.mark.parametrize(
    "proposal", [Add(DAVE.key_package), GroupContextExtensions(()), ReInit(b"next", 1, 1, ()), Custom(0xF001, b"")]
)
def test_external_commit_has_few_kinds_of_proposals(proposal: Proposal) -> None:
    with refused("12.2/external-commit-proposal-type"):
        KITCHEN.check_external(ERIN, INIT, joined(proposal))


def test_external_commit_refers_to_nothing() -> None:
    with refused("12.4.3.2/proposal-by-reference"):
        KITCHEN.check_external(DAVE, INIT, sent(Remove(1), 1))
    with refused("12.4.3.2/proposal-by-reference"):
        KITCHEN.check_external(DAVE, INIT, sent(PSK, 1))


def test_external_commit_carries_out_self_removes() -> None:
    able = group(3, capabilities=ABLE)
    listed = able.check_external(DAVE, INIT, sent(SelfRemove(), 0), sent(SelfRemove(), 2))
    assert listed.gone == (0, 2)
    with refused("12.2/unsupported-proposal-type"):
        group(3).check_external(DAVE, INIT, sent(SelfRemove(), 0))


def test_external_commit_removes_an_older_appearance_only() -> None:
    returning = client("member 2")
    assert KITCHEN.check_external(returning, INIT, joined(Remove(2))).removes == (2,)
    with refused("12.2/external-commit-remove-other"):
        KITCHEN.check_external(returning, INIT, joined(Remove(0)))
    with refused("12.2/external-commit-remove-count"):
        KITCHEN.check_external(returning, INIT, joined(Remove(2)), joined(Remove(3)))
    with refused("12.1.3/blank-leaf"):
        KITCHEN.check_external(returning, INIT, joined(Remove(6)))


def test_joiner_with_a_members_name_and_another_key_needs_an_authentication_service_to_vouch_for_it() -> None:
    """Anybody can write a name. The service knows who may have it; without one the old key has to sign."""
    stranger = client("stranger", credential=KITCHEN.clients[2].leaf.credential)
    with refused("12.2/external-commit-remove-other"):
        KITCHEN.check_external(stranger, INIT, joined(Remove(2)))
    KITCHEN.check_external(stranger, INIT, joined(Remove(2)), authenticate=lambda _credential, _key: True)
    with refused("12.2/external-commit-remove-other"):
        KITCHEN.check_external(DAVE, INIT, joined(Remove(2)), authenticate=lambda _credential, _key: True)


def test_returning_joiner_may_keep_its_signature_key_and_not_its_encryption_key() -> None:
    returning = KITCHEN.clients[2]
    KITCHEN.check_external(returning, INIT, joined(Remove(2)))
    with refused("7.3/duplicate-signature-key"):
        KITCHEN.check_external(returning, INIT)
    old = returning.path_leaf(6, encryption_key=returning.leaf.encryption_key)
    with refused("7.3/unchanged-encryption-key"):
        KITCHEN.check_external(returning, INIT, joined(Remove(2)), path_leaf=old)


def test_external_commit_has_a_leaf() -> None:
    with pytest.raises(LocalError):
        KITCHEN.check(INIT, committer=INIT.sender)


# -- signatures -------------------------------------------------------------------------------------


def test_signatures_are_checked_whole_and_name_the_proposal() -> None:
    forged = msgspec.structs.replace(DAVE.key_package, signature=bytes(64))
    proposals = [value(Add(client(f"new {number}").key_package)) for number in range(40)]
    proposals.insert(33, value(Add(forged)))
    with pytest.raises(ProposalError) as caught:
        KITCHEN.check(*proposals)
    assert (caught.value.reason, caught.value.position) == ("10.1/key-package-signature", 33)
    with ThreadPoolExecutor(2) as pool, refused("10.1/key-package-signature"):
        KITCHEN.check(*proposals, run=pool.map)
    KITCHEN.check(*proposals, signatures=False)


# -- applying (§12.3) -------------------------------------------------------------------------------


def test_updates_come_before_removes_and_removes_before_adds() -> None:
    change = GroupContextExtensions((RequiredCapabilities().extension(),))
    listed = KITCHEN.check(
        value(Add(DAVE.key_package)), value(Remove(1)), update(2), value(change), value(Add(ERIN.key_package))
    )
    applied = apply_proposals(KITCHEN.tree, listed)
    assert applied.added == ((1, DAVE.key_package), (6, ERIN.key_package))
    assert (applied.removed, applied.updated, applied.extensions) == ((1,), (2,), change.extensions)
    assert applied.tree.leaf(LeafIndex(1)) == DAVE.leaf
    assert applied.tree.leaf(LeafIndex(2)) == listed.updates[0][1]
    assert KITCHEN.tree.leaf(LeafIndex(1)) == KITCHEN.clients[1].leaf


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_applied_list_is_what_its_proposals_make_one_after_the_other(data: st.DataObject) -> None:
    leaves = data.draw(st.permutations(range(1, 6)))
    removed, updated = leaves[: data.draw(st.integers(0, 3))], leaves[3 : data.draw(st.integers(3, 5))]
    news = [client(f"new {number}") for number in range(data.draw(st.integers(0, 5)))]
    proposals = [value(Remove(each)) for each in removed] + [update(each) for each in updated]
    proposals += [value(Add(each.key_package)) for each in news]
    shuffled = data.draw(st.permutations(proposals))
    listed = KITCHEN.check(*shuffled, signatures=False)

    expected: list[LeafNode | None] = [each.leaf for each in KITCHEN.clients]
    for index, leaf in listed.updates:
        expected[index] = leaf
    for gone in removed:
        expected[gone] = None
    for package in listed.adds:
        blank = expected.index(None) if None in expected else len(expected)
        expected[blank : blank + 1] = [package.leaf_node]
    applied = apply_proposals(KITCHEN.tree, listed)
    assert applied.tree.tree_hash == RatchetTree.from_leaves(KITCHEN.suite, expected).tree_hash


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_list_raises_anything_but_a_rule(data: st.DataObject) -> None:
    """Whatever a peer commits by value or refers to, with every sender that a message can have."""
    kinds: list[Proposal] = [
        Add(DAVE.key_package), Add(KITCHEN.clients[1].key_package), Update(KITCHEN.clients[1].update(1)), Remove(0),
        Remove(1), Remove(2**32 - 1), PSK, ReInit(b"", 1, 1, ()), ExternalInit(b""), GroupContextExtensions((CUSTOM,)),
        GroupContextExtensions((Extension(ExtensionType.REQUIRED_CAPABILITIES, b"\1"),)), SelfRemove(), Custom(9, b""),
    ]  # fmt: skip
    senders = [member(0), member(1), member(9), external(0), NEW_MEMBER_PROPOSAL]
    committer = data.draw(st.sampled_from([member(0), member(1), member(77), Sender(SenderType.NEW_MEMBER_COMMIT)]))
    proposals = data.draw(
        st.lists(
            st.builds(lambda kind: SentProposal(kind, committer, None), st.sampled_from(kinds))
            | st.builds(sent, st.sampled_from(kinds), st.sampled_from(senders)),
            max_size=4,
        )
    )
    with suppress(MlsError):
        KITCHEN.check(*proposals, committer=committer, path_leaf=ERIN.path_leaf(0))
