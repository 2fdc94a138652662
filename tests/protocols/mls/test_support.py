from functools import reduce

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.mls import support
from protocols.mls.credentials import BasicCredential, CustomCredential
from protocols.mls.extensions import Extension
from protocols.mls.leaf_node import Capabilities, LeafIndex, LeafNode
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.support import SUPPORT_COUNT_MAX, Support, leaf_support
from tests.protocols.mls.tree_model import SUITE, fake_leaf

_types = st.lists(st.sampled_from([1, 2, 0x0A0A, 0xF000, 0xF001]), max_size=5, unique=True).map(tuple)
_capabilities = st.builds(Capabilities, _types, _types, _types, _types, _types)


@st.composite
def leaves(draw: st.DrawFn) -> LeafNode:
    extensions = tuple(Extension(each, b"") for each in draw(_types))
    credential = draw(st.sampled_from([BasicCredential(b"name"), CustomCredential(0xF000, b"")]))
    return msgspec.structs.replace(
        fake_leaf(0), capabilities=draw(_capabilities), credential=credential, extensions=extensions
    )


@given(st.lists(st.none() | leaves(), min_size=1, max_size=9), leaves(), st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_tree_supports_what_each_of_its_members_does(
    places: list[LeafNode | None], newer: LeafNode, replaced: int
) -> None:
    tree = RatchetTree.from_leaves(SUITE, places)
    before = tree.support
    assert before == expected(tree)
    members = [leaf for leaf, _ in tree.members()]
    if members:
        changed, _ = tree.changed({LeafIndex(members[replaced % len(members)]): newer}, (), [newer])
        assert changed.support == expected(changed)
        assert tree.support is before


def expected(tree: RatchetTree) -> Support:
    members = [leaf for _, leaf in tree.members()]
    if not members:
        return Support()
    lists = [leaf.capabilities for leaf in members]
    return Support(
        True,
        frozenset.intersection(*(frozenset(each.versions) for each in lists)),
        frozenset.intersection(*(frozenset(each.cipher_suites) for each in lists)),
        frozenset.intersection(*(frozenset(each.extensions) for each in lists)),
        frozenset.intersection(*(frozenset(each.proposals) for each in lists)),
        frozenset.intersection(*(frozenset(each.credentials) for each in lists)),
        frozenset(leaf.credential.credential_type for leaf in members),
        frozenset(each.extension_type for leaf in members for each in leaf.extensions),
    )


@given(st.lists(leaves(), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_order_and_grouping_do_not_matter(members: list[LeafNode]) -> None:
    each = [leaf_support(leaf) for leaf in members]
    forwards = reduce(Support.joined, each)
    backwards = reduce(Support.joined, reversed(each))
    nested = reduce(lambda one, other: other.joined(one), each, Support())
    assert forwards == backwards == nested
    assert forwards.joined(Support()) == forwards


def test_default_types_need_no_listing_and_others_do() -> None:
    support = leaf_support(fake_leaf(0))
    assert all(support.all_support_extension(each) for each in range(1, 6))
    assert all(support.all_support_proposal(each) for each in range(1, 8))
    assert not support.all_support_extension(10)
    assert not support.all_support_proposal(10)
    assert support.all_support_credential(1)
    assert not support.all_support_credential(2)
    assert support.all_support_version(1)
    assert not support.all_support_cipher_suite(1)


def test_long_lists_of_strangers_are_not_remembered() -> None:
    """Nor what they have in common with others, and the answer is the same one."""
    short, long = (
        leaf_support(msgspec.structs.replace(fake_leaf(0), capabilities=Capabilities(extensions=tuple(range(count)))))
        for count in (9, SUPPORT_COUNT_MAX + 1)
    )
    assert long.joined(short).common_extensions == short.common_extensions
    remembered = [each.cache_info().currsize for each in (support._leaf_support, support._joined)]
    for first in range(1, 20):
        listed = Capabilities(extensions=tuple(range(first, first + SUPPORT_COUNT_MAX)))
        leaf = msgspec.structs.replace(fake_leaf(0), capabilities=listed)
        assert leaf_support(leaf).joined(long).common_extensions == set(range(first, SUPPORT_COUNT_MAX + 1))
    assert [each.cache_info().currsize for each in (support._leaf_support, support._joined)] == remembered


def test_members_with_equal_abilities_share_one_object() -> None:
    tree = RatchetTree.from_leaves(SUITE, [fake_leaf(number) for number in range(64)])
    assert tree.support is leaf_support(fake_leaf(100))
