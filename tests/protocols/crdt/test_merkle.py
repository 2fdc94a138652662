from collections.abc import Sequence
from hashlib import sha256

import pytest

from protocols.crdt.bundles import BUNDLE_COUNT_MAX
from protocols.crdt.merkle import merkle_path, merkle_root, path_length, root_of_path

LEAVES = [sha256(b"leaf %d" % number).digest() for number in range(BUNDLE_COUNT_MAX)]


def rfc6962(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 §2.1 as it is written, with our node's tag: split at the largest power of two below the size."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"SpacePanda crdt node\0" + rfc6962(leaves[:k]) + rfc6962(leaves[k:])).digest()


def rfc6962_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """RFC 6962 §2.1.1."""
    if len(leaves) == 1:
        return ()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if index < k:
        return (*rfc6962_path(leaves[:k], index), rfc6962(leaves[k:]))
    return (*rfc6962_path(leaves[k:], index - k), rfc6962(leaves[:k]))


@pytest.mark.parametrize("count", range(1, BUNDLE_COUNT_MAX + 1))
def test_root_and_paths_are_those_of_rfc_6962(count: int) -> None:
    leaves = LEAVES[:count]
    root = merkle_root(leaves)
    assert root == rfc6962(leaves)
    for index in range(count):
        path = merkle_path(leaves, index)
        assert path == rfc6962_path(leaves, index)
        assert len(path) == path_length(count, index)
        assert root_of_path(leaves[index], count, index, path) == root


def test_trees_of_all_sizes_and_orders_have_roots_of_their_own() -> None:
    roots = [merkle_root(LEAVES[:count]) for count in range(1, BUNDLE_COUNT_MAX + 1)]
    roots += [merkle_root([LEAVES[1], LEAVES[0]]), merkle_root([LEAVES[0]] * 3), merkle_root([LEAVES[0]] * 4)]
    assert len({*roots}) == len(roots)


@pytest.mark.parametrize("count", [2, 3, 5, 8, 64])
def test_a_path_leads_to_the_root_from_its_own_leaf_and_place_only(count: int) -> None:
    leaves = LEAVES[:count]
    root = merkle_root(leaves)
    for index in range(count):
        path = merkle_path(leaves, index)
        assert root_of_path(LEAVES[index - 1], count, index, path) != root
        for other in range(count):
            if other != index and path_length(count, other) == len(path):
                assert root_of_path(leaves[index], count, other, path) != root
        for place in range(len(path)):
            bent = (*path[:place], bytes(32), *path[place + 1 :])
            assert root_of_path(leaves[index], count, index, bent) != root


def test_arguments_are_left_as_they_are() -> None:
    leaves = list(LEAVES)
    merkle_root(leaves)
    merkle_path(leaves, 5)
    assert leaves == LEAVES
