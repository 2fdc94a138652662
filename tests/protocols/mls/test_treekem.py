import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.mls.codec import decode
from protocols.mls.credentials import BasicCredential
from protocols.mls.errors import MlsError
from protocols.mls.leaf_node import Capabilities, LeafIndex, LeafNode, LeafNodeSource, Lifetime
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.suite import SUITES, CipherSuite
from protocols.mls.tree_math import node_of
from protocols.mls.tree_private import TreePrivate
from protocols.mls.treekem import NewPath, apply_path, new_path, open_path, private_from_welcome
from protocols.mls.update_path import HpkeCiphertext, UpdatePath
from tests.protocols.mls.kit import refused
from tests.protocols.mls.trees import counting_entropy

SUITE = SUITES[1]
CONTEXT = b"the encoded group context"


def leaf_node(public: bytes, name: str, parent_hash: bytes | None = None) -> LeafNode:
    """Without a signature, which is not looked at here."""
    source = LeafNodeSource.KEY_PACKAGE if parent_hash is None else LeafNodeSource.COMMIT
    lifetime = Lifetime(0, 1) if parent_hash is None else None
    key = name.encode().ljust(32, b".")
    return LeafNode(public, key, BasicCredential(key), Capabilities(), source, lifetime, parent_hash, (), b"")


@dataclass
class Group:
    """All members in one place, each with what it knows."""

    suite: CipherSuite
    tree: RatchetTree
    privates: dict[LeafIndex, TreePrivate]
    names: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def of(cls, size: int, suite: CipherSuite = SUITE) -> "Group":
        """A blank tree."""
        pairs = [suite.kem.derive_key_pair(b"%64d" % index) for index in range(size)]
        tree = RatchetTree.from_leaves(suite, [leaf_node(public, f"m{i}") for i, (_, public) in enumerate(pairs)])
        members = [LeafIndex(index) for index in range(size)]
        return cls(suite, tree, {leaf: TreePrivate(leaf, pairs[leaf][0], {}) for leaf in members})

    @classmethod
    def filled(cls, size: int, suite: CipherSuite = SUITE) -> "Group":
        """A tree in which all have committed."""
        group = cls.of(size, suite)
        for leaf in list(group.privates):
            group.commit(leaf)
        return group

    def path(self, sender: int, tree: RatchetTree | None = None) -> NewPath:
        name = f"path {next(self.names)} of {sender}"
        return new_path(
            self.tree if tree is None else tree,
            LeafIndex(sender),
            lambda parent_hash, public: leaf_node(public, name, parent_hash),
            counting_entropy(name),
        )

    def commit(self, sender: int, *, updates: Sequence[int] = (), removes: Sequence[int] = (), adds: int = 0) -> None:
        """Everybody follows, but those who are removed, who cannot."""
        kem = self.suite.kem
        fresh = [
            kem.derive_key_pair(counting_entropy(f"leaf {next(self.names)}")(64)) for _ in range(len(updates) + adds)
        ]
        updated = dict(zip(map(LeafIndex, updates), fresh, strict=False))
        added = fresh[len(updates) :]
        tree, joiners = self.tree.changed(
            {leaf: leaf_node(public, f"u{public.hex()}") for leaf, (_, public) in updated.items()},
            [LeafIndex(leaf) for leaf in removes],
            [leaf_node(public, f"a{public.hex()}") for _, public in added],
        )
        sender = LeafIndex(sender)
        path = self.path(sender, tree)
        update_path = path.encrypt(CONTEXT, joiners, counting_entropy("seals"))
        after = apply_path(tree, sender, decode(UpdatePath.read, update_path.encode()), joiners)
        assert after.tree_hash == path.tree.tree_hash

        for leaf in map(LeafIndex, removes):
            with pytest.raises(LocalError):
                open_path(after, self.privates.pop(leaf), sender, update_path, CONTEXT, joiners)
        for leaf, private in self.privates.items():
            if leaf != sender:
                base = private.with_leaf_key(updated[leaf][0]) if leaf in updated else private.pruned(tree)
                self.privates[leaf], secret = open_path(after, base, sender, update_path, CONTEXT, joiners)
                assert secret == path.commit_secret
        self.privates[sender] = path.private
        for joiner, (leaf_private, _) in zip(joiners, added, strict=True):
            secret = path.path_secret_for(joiner)
            self.privates[joiner] = private_from_welcome(after, joiner, leaf_private, secret, sender)
        self.tree = after
        self.check()

    def check(self) -> None:
        """Each member holds the keys of exactly the parents above it that do not list it as unmerged."""
        for private in self.privates.values():
            private.check(self.tree)
        self.tree.validate_structure()
        self.tree.verify_parent_hashes()


def replaced(update_path: UpdatePath, at: int, **changed: object) -> UpdatePath:
    nodes = list(update_path.nodes)
    nodes[at] = msgspec.structs.replace(nodes[at], **changed)
    return UpdatePath(update_path.leaf_node, tuple(nodes))


# -- histories ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_members_agree_after_any_history_and_hold_what_the_tree_says(data: st.DataObject) -> None:
    group = Group.of(data.draw(st.integers(1, 9)))
    for _ in range(data.draw(st.integers(1, 5))):
        members = sorted(group.privates)
        sender, *others = data.draw(st.permutations(members))
        removes = others[: data.draw(st.integers(0, len(others)))]
        updates = others[len(removes) :][: data.draw(st.integers(0, 2))]
        encoded = group.tree.encode()
        before = group.tree
        group.commit(sender, updates=updates, removes=removes, adds=data.draw(st.integers(0, 4)))
        assert before.encode() == encoded


@pytest.mark.parametrize("suite", SUITES.values(), ids=repr)
def test_every_suite_carries_a_path(suite: CipherSuite) -> None:
    group = Group.of(3, suite)
    group.commit(0)
    group.commit(1, adds=2)
    group.commit(4, removes=[0])


def test_removed_member_opens_nothing_of_the_path_that_removes_it() -> None:
    group = Group.filled(8)
    leaving = group.privates[LeafIndex(5)]
    tree, _ = group.tree.changed({}, [LeafIndex(5)], [])
    path = group.path(2, tree)
    update_path = path.encrypt(CONTEXT, (), counting_entropy("seals"))
    for each in update_path.nodes:
        for sealed in each.encrypted_path_secret:
            for node, key in [(node_of(LeafIndex(5)), leaving.leaf_private), *leaving.parents.items()]:
                there = group.tree.node(node)
                assert there is not None
                with pytest.raises(MlsError, match=r"5\.1\.3/decrypt"):
                    SUITE.decrypt_with_label(
                        key, there.encryption_key, b"UpdatePathNode", CONTEXT, sealed.kem_output, sealed.ciphertext
                    )


def test_path_of_a_member_alone_has_no_node_and_a_fresh_commit_secret() -> None:
    group = Group.of(1)
    one, two = group.path(0), group.path(0)
    assert one.path == ()
    assert one.encrypt(CONTEXT, (), counting_entropy("seals")).nodes == ()
    assert one.leaf_node.parent_hash == b""
    assert one.commit_secret != two.commit_secret
    one.private.check(one.tree)


def test_commit_secret_is_one_step_beyond_the_root() -> None:
    path = Group.of(4).path(1)
    assert SUITE.derive_secret(path.path_secrets[0], b"path") == path.path_secrets[1]
    assert SUITE.derive_secret(path.path_secrets[1], b"path") == path.commit_secret


# -- who gets what ------------------------------------------------------------------------------------------


def test_members_added_with_the_path_get_no_ciphertext_but_the_welcome() -> None:
    group = Group.of(4)
    tree, joiners = group.tree.changed({}, [], [leaf_node(bytes([n]) * 32, f"new {n}") for n in range(1, 4)])
    path = group.path(0, tree)
    with_them = path.encrypt(CONTEXT, (), counting_entropy("seals"))
    without = path.encrypt(CONTEXT, joiners, counting_entropy("seals"))
    assert joiners == (4, 5, 6)
    assert [len(each.encrypted_path_secret) for each in with_them.nodes] == [1, 2, 3]
    assert [len(each.encrypted_path_secret) for each in without.nodes] == [1, 2, 0]
    assert {path.path_secret_for(joiner) for joiner in joiners} == {path.path_secrets[2]}


def test_path_secret_of_a_welcome_is_that_of_the_lowest_common_ancestor() -> None:
    path = Group.of(8).path(4)
    secrets = [path.path_secret_for(LeafIndex(leaf)) for leaf in (5, 6, 7, 0, 3)]
    assert [path.path_secrets.index(secret) for secret in secrets] == [0, 1, 1, 2, 2]
    with pytest.raises(LocalError):
        path.path_secret_for(LeafIndex(4))


def test_newcomer_joins_by_a_path_from_a_vacant_leaf() -> None:
    for size, removed in ((4, []), (5, [2]), (8, [])):
        group = Group.filled(size)
        tree, [newcomer] = group.tree.changed({}, [LeafIndex(leaf) for leaf in removed], [leaf_node(b"", "vacant")])
        path = group.path(newcomer, tree)
        update_path = path.encrypt(CONTEXT, (), counting_entropy("seals"))
        after = apply_path(tree, newcomer, update_path)
        assert after.tree_hash == path.tree.tree_hash
        assert after.leaf(newcomer) == path.leaf_node
        for leaf, private in group.privates.items():
            if leaf not in removed:
                opened, secret = open_path(after, private.pruned(tree), newcomer, update_path, CONTEXT)
                assert secret == path.commit_secret
                opened.check(after)
        path.private.check(after)


def test_blank_leaf_has_no_path() -> None:
    group = Group.of(5)
    update_path = group.path(4).encrypt(CONTEXT, (), counting_entropy("seals"))
    for nobody in (6, 8):
        with pytest.raises(LocalError):
            apply_path(group.tree, LeafIndex(nobody), update_path)


def test_threads_seal_the_same_path() -> None:
    path = Group.of(200).path(7)
    with ThreadPoolExecutor(2) as pool:
        assert path.encrypt(CONTEXT, (), counting_entropy("s"), pool.map) == path.encrypt(
            CONTEXT, (), counting_entropy("s")
        )


# -- rules --------------------------------------------------------------------------------------------------


class Sent:
    """A sound path of member 1 of four, to break."""

    def __init__(self) -> None:
        self.group = Group.filled(4)
        self.path = self.group.path(1)
        self.update_path = self.path.encrypt(CONTEXT, (), counting_entropy("seals"))

    def apply(self, update_path: UpdatePath) -> RatchetTree:
        return apply_path(self.group.tree, LeafIndex(1), update_path)

    def open(self, update_path: UpdatePath, context: bytes = CONTEXT) -> tuple[TreePrivate, bytes]:
        return open_path(self.path.tree, self.group.privates[LeafIndex(2)], LeafIndex(1), update_path, context)


@pytest.fixture
def sent() -> Sent:
    return Sent()


def test_path_of_another_length_is_refused(sent: Sent) -> None:
    nodes = sent.update_path.nodes
    extra = msgspec.structs.replace(nodes[-1], encryption_key=b"\5" * 32)
    for wrong in (nodes[:-1], (), (*nodes, extra)):
        with refused("7.6/path-length"):
            sent.apply(UpdatePath(sent.update_path.leaf_node, wrong))


def test_ciphertexts_too_few_or_too_many_are_refused(sent: Sent) -> None:
    there = sent.update_path.nodes[1].encrypted_path_secret
    for wrong in ((), (*there, there[0])):
        with refused("7.6/ciphertext-count"):
            sent.apply(replaced(sent.update_path, 1, encrypted_path_secret=wrong))


def test_ciphertext_for_a_member_just_added_is_refused() -> None:
    group = Group.of(4)
    tree, joiners = group.tree.changed({}, [], [leaf_node(b"\7" * 32, "new")])
    update_path = group.path(0, tree).encrypt(CONTEXT, (), counting_entropy("seals"))
    with refused("7.6/ciphertext-count"):
        apply_path(tree, LeafIndex(0), update_path, joiners)


def test_committer_that_keeps_its_leaf_key_is_refused(sent: Sent) -> None:
    old = sent.group.tree.leaf(LeafIndex(1))
    assert old is not None
    leaf = msgspec.structs.replace(sent.update_path.leaf_node, encryption_key=old.encryption_key)
    with refused("7.3/unchanged-encryption-key"):
        sent.apply(UpdatePath(leaf, sent.update_path.nodes))


def test_key_that_is_in_the_tree_already_is_refused(sent: Sent) -> None:
    other = sent.group.tree.leaf(LeafIndex(3))
    assert other is not None
    leaf = msgspec.structs.replace(sent.update_path.leaf_node, encryption_key=other.encryption_key)
    with refused("7.3/duplicate-encryption-key"):
        sent.apply(UpdatePath(leaf, sent.update_path.nodes))
    with refused("7.3/duplicate-encryption-key"):
        sent.apply(replaced(sent.update_path, 0, encryption_key=other.encryption_key))


def test_key_that_stands_twice_in_a_path_is_refused(sent: Sent) -> None:
    with refused("7.3/duplicate-encryption-key"):
        sent.apply(replaced(sent.update_path, 0, encryption_key=sent.update_path.nodes[1].encryption_key))
    with refused("7.3/duplicate-encryption-key"):
        sent.apply(replaced(sent.update_path, 0, encryption_key=sent.update_path.leaf_node.encryption_key))


@pytest.mark.parametrize("public", [bytes(32), b"\1" * 31, b""], ids=["low order", "short", "empty"])
def test_key_that_is_none_is_refused(sent: Sent, public: bytes) -> None:
    with refused("5.1/invalid-public-key"):
        sent.apply(replaced(sent.update_path, 1, encryption_key=public))
    leaf = msgspec.structs.replace(sent.update_path.leaf_node, encryption_key=public)
    with refused("5.1/invalid-public-key"):
        sent.apply(UpdatePath(leaf, sent.update_path.nodes))


@pytest.mark.parametrize("parent_hash", [b"", None, b"\1" * 32])
def test_leaf_with_another_parent_hash_is_refused(sent: Sent, parent_hash: bytes | None) -> None:
    leaf = msgspec.structs.replace(sent.update_path.leaf_node, parent_hash=parent_hash)
    with refused("7.9/leaf-parent-hash"):
        sent.apply(UpdatePath(leaf, sent.update_path.nodes))


def test_other_key_in_a_path_breaks_the_parent_hash(sent: Sent) -> None:
    for at in range(2):
        with refused("7.9/leaf-parent-hash"):
            sent.apply(replaced(sent.update_path, at, encryption_key=SUITE.kem.derive_key_pair(b"1" * 32)[1]))


def test_path_of_another_context_or_garbled_is_refused(sent: Sent) -> None:
    private = sent.group.privates[LeafIndex(2)]
    with refused("5.1.3/decrypt"):
        sent.open(sent.update_path, context=b"another context")
    [sealed] = sent.update_path.nodes[1].encrypted_path_secret
    for wrong in (HpkeCiphertext(bytes(32), sealed.ciphertext), HpkeCiphertext(sealed.kem_output, b"")):
        with refused("5.1.3/decrypt"):
            sent.open(replaced(sent.update_path, 1, encrypted_path_secret=(wrong,)))
    assert sent.group.privates[LeafIndex(2)] is private
    sent.group.check()


@pytest.mark.parametrize("secret", [b"", b"\1" * 32, b"\1" * 4096], ids=len)
def test_path_secret_of_other_keys_is_refused(sent: Sent, secret: bytes) -> None:
    receiver = sent.group.tree.parent(sent.path.path[1][1])
    assert receiver is not None
    sealed = SUITE.encrypt_with_label(
        receiver.encryption_key, b"UpdatePathNode", CONTEXT, secret, counting_entropy("seal")
    )
    with refused("7.5/path-secret-mismatch"):
        sent.open(replaced(sent.update_path, 1, encrypted_path_secret=(HpkeCiphertext(*sealed),)))


def test_path_secret_of_the_wrong_node_is_refused() -> None:
    """It derives true keys of the path, one node off."""
    group = Group.filled(8)
    path = group.path(0)
    update_path = path.encrypt(CONTEXT, (), counting_entropy("seals"))
    receiver = group.tree.parent(path.path[1][1])
    assert receiver is not None
    secret = path.path_secrets[2]
    sealed = SUITE.encrypt_with_label(
        receiver.encryption_key, b"UpdatePathNode", CONTEXT, secret, counting_entropy("seal")
    )
    wrong = replaced(update_path, 1, encrypted_path_secret=(HpkeCiphertext(*sealed),))
    with refused("7.5/path-secret-mismatch"):
        open_path(path.tree, group.privates[LeafIndex(2)], LeafIndex(0), wrong, CONTEXT)


# -- the Welcome --------------------------------------------------------------------------------------------


def joined() -> tuple[NewPath, LeafIndex, bytes]:
    """A path of member 2 that a new member joins with: the path, its leaf and its leaf's private key."""
    group = Group.filled(4)
    private, public = SUITE.kem.derive_key_pair(b"new".ljust(32))
    tree, [joiner] = group.tree.changed({}, [], [leaf_node(public, "new")])
    return group.path(2, tree), joiner, private


def test_welcome_with_another_path_secret_is_refused() -> None:
    path, joiner, private = joined()
    good = path.path_secret_for(joiner)
    assert private_from_welcome(path.tree, joiner, private, good, LeafIndex(2)).parents
    for secret, sender in ((b"\1" * 32, 2), (b"", 2), (path.path_secrets[0], 2), (good, joiner)):
        with refused("12.4.3.1/path-secret-mismatch"):
            private_from_welcome(path.tree, joiner, private, secret, LeafIndex(sender))


def test_welcome_without_the_path_secret_it_needs_is_refused() -> None:
    path, joiner, private = joined()
    with refused("12.4.3.1/path-secret-missing"):
        private_from_welcome(path.tree, joiner, private, None, LeafIndex(2))


def test_welcome_of_a_commit_without_a_path_brings_the_leaf_key_alone() -> None:
    group = Group.filled(3)
    private, public = SUITE.kem.derive_key_pair(b"new".ljust(32))
    tree, [joiner] = group.tree.changed({}, [], [leaf_node(public, "new")])
    assert private_from_welcome(tree, joiner, private, None, LeafIndex(2)).parents == {}
    with pytest.raises(LocalError):
        private_from_welcome(tree, joiner, group.privates[LeafIndex(0)].leaf_private, None, LeafIndex(2))


# -- the caller's mistakes ----------------------------------------------------------------------------------


def test_own_path_is_adopted_not_opened(sent: Sent) -> None:
    with pytest.raises(LocalError):
        open_path(sent.path.tree, sent.group.privates[LeafIndex(1)], LeafIndex(1), sent.update_path, CONTEXT)


def test_path_that_was_not_applied_is_not_opened(sent: Sent) -> None:
    with pytest.raises(LocalError):
        sent.open(UpdatePath(sent.update_path.leaf_node, ()))


def test_keys_of_another_group_open_nothing() -> None:
    sent = Sent()
    stranger = TreePrivate(LeafIndex(40), b"\1" * 32, {})
    with pytest.raises(LocalError):
        open_path(sent.path.tree, stranger, LeafIndex(1), sent.update_path, CONTEXT)


def test_leaf_has_to_be_made_as_asked() -> None:
    group = Group.of(2)
    makers = (
        lambda parent_hash, public: leaf_node(b"\1" * 32, "other key", parent_hash),
        lambda parent_hash, public: leaf_node(public, "other parent hash", b"\1" * 32),
        lambda parent_hash, public: leaf_node(public, "other source"),
    )
    for make_leaf in makers:
        with pytest.raises(LocalError):
            new_path(group.tree, LeafIndex(0), make_leaf, counting_entropy("path"))


def test_short_entropy_is_the_callers_mistake(sent: Sent) -> None:
    group = Group.of(2)
    with pytest.raises(LocalError):
        new_path(
            group.tree,
            LeafIndex(0),
            lambda parent_hash, public: leaf_node(public, "m", parent_hash),
            lambda size: b"\1" * min(size, 31),
        )
    with pytest.raises(LocalError):
        sent.path.encrypt(CONTEXT, (), lambda size: b"")


# -- secrets and state --------------------------------------------------------------------------------------


def test_no_representation_shows_a_key(sent: Sent) -> None:
    private = sent.path.private
    secrets = [private.leaf_private, *private.parents.values(), *sent.path.path_secrets, sent.path.commit_secret]
    for shown in (repr(sent.path), repr(private)):
        assert not any(repr(secret)[2:-1] in shown or secret.hex() in shown for secret in secrets)


def test_private_keys_go_to_bytes_and_back(sent: Sent) -> None:
    for private in sent.group.privates.values():
        encoded = private.encode()
        assert decode(TreePrivate.read, encoded) == private
        for end in range(len(encoded)):
            with pytest.raises(MlsError):
                decode(TreePrivate.read, encoded[:end])
