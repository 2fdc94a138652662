"""The leaves that a commit brings, beside those that stay: uniqueness of keys and mutual support."""

import pytest

from protocols.mls.credentials import CustomCredential
from protocols.mls.leaf_node import Capabilities, LeafIndex, NodeIndex
from protocols.mls.policy import Policy
from protocols.mls.proposal_rules import ProposalError
from protocols.mls.proposals import Add, Remove, Update
from protocols.mls.suite import SUITES
from tests.protocols.mls.kit import GROUP_ID, Group, client, group, refused, sent, value
from tests.protocols.mls.trees import filled_tree

KITCHEN = group(6)
DAVE, ERIN = client("dave"), client("erin")
BOB, CAROL = KITCHEN.clients[1], KITCHEN.clients[2]
EITHER = Capabilities(cipher_suites=(1,), credentials=(1, 9))


def test_updates_do_not_take_a_members_keys() -> None:
    with refused("7.3/duplicate-encryption-key"):
        KITCHEN.check(sent(Update(BOB.update(1, encryption_key=CAROL.leaf.encryption_key)), 1))
    stolen = CAROL.update(1, credential=BOB.leaf.credential)
    with refused("7.3/duplicate-signature-key"):
        KITCHEN.check(sent(Update(stolen), 1))


def test_added_and_updated_leaves_differ_from_each_other() -> None:
    key = DAVE.leaf.encryption_key
    with refused("7.3/duplicate-encryption-key"):
        KITCHEN.check(value(Add(DAVE.key_package)), sent(Update(BOB.update(1, encryption_key=key)), 1))
    with refused("7.3/duplicate-encryption-key"):
        KITCHEN.check(value(Add(DAVE.key_package)), value(Add(ERIN.altered_key_package(leaf={"encryption_key": key}))))
    dave_as_bob = DAVE.update(1, credential=BOB.leaf.credential)
    with refused("7.3/duplicate-signature-key"):
        KITCHEN.check(sent(Update(dave_as_bob), 1), value(Add(DAVE.key_package)))


def test_path_leaf_differs_from_all_others() -> None:
    committer = KITCHEN.clients[0]
    KITCHEN.check(value(Add(DAVE.key_package)), path_leaf=committer.path_leaf(0))
    with refused("7.3/duplicate-encryption-key"):
        KITCHEN.check(
            value(Add(DAVE.key_package)), path_leaf=committer.path_leaf(0, encryption_key=DAVE.leaf.encryption_key)
        )
    with refused("7.3/duplicate-signature-key"):
        KITCHEN.check(path_leaf=committer.path_leaf(0, signature_key=CAROL.leaf.signature_key))
    with refused("5.3.1/successor"):
        KITCHEN.check(path_leaf=committer.path_leaf(0, credential=CAROL.leaf.credential))


def test_who_clashes_with_the_path_leaf_is_at_fault() -> None:
    """The committer cannot leave out its own leaf; and all who are at fault are named at once."""
    path_leaf = KITCHEN.clients[0].path_leaf(0)
    key = path_leaf.encryption_key
    adds = [value(Add(each.altered_key_package(leaf={"encryption_key": key}))) for each in (DAVE, ERIN)]
    with pytest.raises(ProposalError) as caught:
        KITCHEN.check(value(Remove(5)), *adds, path_leaf=path_leaf)
    faults = (caught.value, *caught.value.others)
    assert [(each.reason, each.position) for each in faults] == [
        ("7.3/duplicate-encryption-key", 1),
        ("7.3/duplicate-encryption-key", 2),
    ]


def test_keys_are_free_once_their_owner_lets_go_of_them() -> None:
    taken = CAROL.leaf.encryption_key
    KITCHEN.check(sent(Update(BOB.update(1, encryption_key=taken)), 1), value(Remove(2)))
    KITCHEN.check(value(Remove(2)), sent(Update(BOB.update(1, encryption_key=taken)), 1))
    KITCHEN.check(sent(Update(BOB.update(1, encryption_key=taken)), 1), sent(Update(CAROL.update(2)), 2))
    # Bob and Carol change places, which no order of looking at the two could allow.
    KITCHEN.check(
        sent(Update(BOB.update(1, encryption_key=taken)), 1),
        sent(Update(CAROL.update(2, encryption_key=BOB.leaf.encryption_key)), 2),
    )


def test_key_of_a_parent_is_taken_until_the_commit_blanks_the_parent() -> None:
    filled = filled_tree(SUITES[1], 4)
    parent = filled.tree.parent(NodeIndex(1))
    assert parent is not None
    base = group(4)
    kitchen = Group(base.clients, filled.tree, base.context)
    add = value(Add(DAVE.altered_key_package(leaf={"encryption_key": parent.encryption_key})), 3)
    with refused("7.3/duplicate-encryption-key"):
        kitchen.check(add, committer=3)
    with refused("7.3/duplicate-encryption-key"):
        kitchen.check(add, value(Remove(2), 3), committer=3)
    kitchen.check(add, value(Remove(0), 3), committer=3)


def test_credential_types_suit_those_who_stay_and_those_who_come() -> None:
    certified = client("certified", credential=CustomCredential(9, b"c"), capabilities=EITHER)
    with refused("7.3/credential-support"):
        KITCHEN.check(value(Add(certified.key_package)))
    able = group(3, capabilities=EITHER)
    able.check(value(Add(certified.key_package)))
    # Dave supports basic credentials only, and so can join before the other or not at all.
    with pytest.raises(ProposalError) as caught:
        able.check(value(Add(certified.key_package)), value(Add(DAVE.key_package)))
    assert (caught.value.reason, caught.value.position) == ("7.3/credential-support", 1)
    with pytest.raises(ProposalError) as caught:
        able.check(value(Add(DAVE.key_package)), value(Add(certified.key_package)))
    assert (caught.value.reason, caught.value.position) == ("7.3/credential-support", 1)
    with refused("7.3/credential-support"):
        able.check(
            path_leaf=able.clients[0].path_leaf(0, capabilities=Capabilities(cipher_suites=(1,), credentials=(9,)))
        )


def test_only_member_may_change_its_credential_type() -> None:
    alone = group(1)
    leaf = alone.clients[0].path_leaf(0, credential=CustomCredential(9, b"c"), capabilities=EITHER)
    with refused("5.3.1/successor"):
        alone.check(path_leaf=leaf)
    alone.check(path_leaf=leaf, policy=Policy(may_succeed=lambda old, new: True))


def test_group_is_left_as_it_was() -> None:
    before = KITCHEN.tree.encode()
    KITCHEN.check(value(Add(DAVE.key_package)), value(Remove(5)))
    with refused("12.1.3/blank-leaf"):
        KITCHEN.check(value(Remove(9)))
    assert KITCHEN.tree.encode() == before
    assert KITCHEN.tree.leaf(LeafIndex(5)) is not None
    assert KITCHEN.context.group_id == GROUP_ID
