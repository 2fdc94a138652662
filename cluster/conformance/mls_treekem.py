"""The published cases of TreeKEM (``treekem.json``): paths of others opened from every leaf, then paths of ours."""

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from cluster.conformance.registry import Kind, MismatchError, expect_equal, register
from cluster.conformance.shapes import cases_with, octets, suite_of
from protocols.mls.codec import decode
from protocols.mls.group_context import GroupContext
from protocols.mls.key_package import MLS_1_0
from protocols.mls.leaf_node import LEAF_NODE_LABEL, LeafIndex, LeafNode, LeafNodeSource, NodeIndex
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.suite import CipherSuite, Entropy
from protocols.mls.tree_math import common_ancestor
from protocols.mls.tree_private import TreePrivate
from protocols.mls.treekem import apply_path, new_path, open_path
from protocols.mls.update_path import UpdatePath


def _cases(document: Any) -> Iterator[tuple[str, Any]]:
    for number, case in enumerate(document):
        leaves = len(case["leaves_private"]) if isinstance(case, dict) else 0
        yield f"{number}: suite {case['cipher_suite'] if leaves else '?'}, {leaves} leaves", case


def _run(case: dict[str, Any]) -> None:
    suite = suite_of(case)
    tree = RatchetTree.decode(suite, octets(case["ratchet_tree"]))
    privates = {each["index"]: _private(suite, each) for each in case["leaves_private"]}
    for private in privates.values():
        private.check(tree)
    for each in case["update_paths"]:
        _open_theirs(case, tree, privates, each)
    signature_keys = {each["index"]: octets(each["signature_priv"]) for each in case["leaves_private"]}
    for sender in privates:
        _make_ours(case, tree, privates, sender, signature_keys[sender])


def _private(suite: CipherSuite, published: dict[str, Any]) -> TreePrivate:
    parents = {
        NodeIndex(each["node"]): _node_private(suite, octets(each["path_secret"])) for each in published["path_secrets"]
    }
    return TreePrivate(LeafIndex(published["index"]), octets(published["encryption_priv"]), parents)


def _node_private(suite: CipherSuite, path_secret: bytes) -> bytes:
    return suite.kem.derive_key_pair(suite.derive_secret(path_secret, b"node"))[0]


def _open_theirs(
    case: dict[str, Any], tree: RatchetTree, privates: dict[int, TreePrivate], published: dict[str, Any]
) -> None:
    sender = LeafIndex(published["sender"])
    update_path = decode(UpdatePath.read, octets(published["update_path"]))
    after = apply_path(tree, sender, update_path)
    expect_equal(f"tree hash after the path of leaf {sender}", after.tree_hash, octets(published["tree_hash_after"]))
    context = _context(case, after)
    for leaf, private in privates.items():
        if leaf == sender:
            continue
        opened, commit_secret = open_path(after, private, sender, update_path, context)
        expect_equal(f"commit secret at leaf {leaf}", commit_secret, octets(published["commit_secret"]))
        key = _node_private(tree.suite, octets(published["path_secrets"][leaf]))
        meeting = common_ancestor(sender, LeafIndex(leaf))
        expect_equal(f"key from the path secret at leaf {leaf}", opened.parents[meeting], key)


def _make_ours(
    case: dict[str, Any], tree: RatchetTree, privates: dict[int, TreePrivate], sender: int, signature_key: bytes
) -> None:
    suite, leaf_index = tree.suite, LeafIndex(sender)
    old = tree.leaf(leaf_index)
    if old is None:
        raise MismatchError(f"leaf {sender} has private keys and is blank")
    expect_equal(f"signature key of leaf {sender}", suite.signature_public(signature_key), old.signature_key)

    def make_leaf(parent_hash: bytes, encryption_key: bytes) -> LeafNode:
        leaf = LeafNode(
            encryption_key,
            old.signature_key,
            old.credential,
            old.capabilities,
            LeafNodeSource.COMMIT,
            None,
            parent_hash,
            old.extensions,
            b"",
        )
        to_be_signed = leaf.to_be_signed(octets(case["group_id"]), leaf_index)
        signature = suite.sign_with_label(signature_key, old.signature_key, LEAF_NODE_LABEL, to_be_signed)
        return msgspec.structs.replace(leaf, signature=signature)

    path = new_path(tree, leaf_index, make_leaf, _entropy(f"path of {sender}"))
    context = _context(case, path.tree)
    update_path = decode(UpdatePath.read, path.encrypt(context, (), _entropy(f"seals of {sender}")).encode())
    after = apply_path(tree, leaf_index, update_path)
    expect_equal(f"our tree hash from leaf {sender}", after.tree_hash, path.tree.tree_hash)
    path.private.check(after)
    for leaf, private in privates.items():
        if leaf != sender:
            _, commit_secret = open_path(after, private, leaf_index, update_path, context)
            expect_equal(f"our commit secret from leaf {sender} at {leaf}", commit_secret, path.commit_secret)


def _context(case: dict[str, Any], tree: RatchetTree) -> bytes:
    return GroupContext(
        MLS_1_0,
        case["cipher_suite"],
        octets(case["group_id"]),
        case["epoch"],
        tree.tree_hash,
        octets(case["confirmed_transcript_hash"]),
        (),
    ).encode()


def _entropy(seed: str) -> Entropy:
    """The same bytes in every run: a case that failed once fails again."""
    draws = itertools.count()
    return lambda size: hashlib.shake_256(f"{seed} {next(draws)}".encode()).digest(size)


register(Kind("MLS treekem", cases_with("leaves_private", "update_paths", "ratchet_tree"), _cases, _run))
