"""Clients and groups made by hand, and messages broken by hand and signed again.

A message that is only corrupt is stopped by its signature, and no rule behind that is ever asked. So a test
alters one field of something sound, has its owner sign it again, and names the rule that must refuse it:

    with refused("7.3/lifetime"):
        group.check(value(Add(mallory.altered_key_package(leaf={"lifetime": Lifetime(0, 1)}))), now_s=2)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from protocols.mls.client import KeyPackageBundle, new_key_package, signed_key_package, signed_leaf_node
from protocols.mls.credentials import BasicCredential, Credential
from protocols.mls.errors import MlsError
from protocols.mls.extensions import Extensions
from protocols.mls.framing import NEW_MEMBER_COMMIT, Sender, SenderType, member
from protocols.mls.group_context import GroupContext
from protocols.mls.key_package import MLS_1_0, KeyPackage
from protocols.mls.leaf_node import Capabilities, LeafIndex, LeafNode, LeafNodeSource
from protocols.mls.proposal_list import ProposalList, SentProposal, check_proposals
from protocols.mls.proposals import Proposal
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.suite import SUITES, CipherSuite, Entropy, SignatureKeyPair
from tests.protocols.mls.trees import FOREVER, counting_entropy

SUITE = SUITES[1]
GROUP_ID = b"kitchen"


@contextmanager
def refused(rule: str) -> Iterator[None]:
    """What follows breaks this rule and no other one first."""
    with pytest.raises(MlsError) as caught:
        yield
    assert caught.value.reason == rule, str(caught.value)


@dataclass(frozen=True)
class Client:
    """Somebody with a signature key and a key package, who signs whatever a test wants."""

    name: str
    suite: CipherSuite
    signature: SignatureKeyPair
    bundle: KeyPackageBundle
    entropy: Entropy

    @property
    def key_package(self) -> KeyPackage:
        return self.bundle.key_package

    @property
    def leaf(self) -> LeafNode:
        return self.key_package.leaf_node

    def encryption_key(self) -> bytes:
        """The public half of a fresh pair."""
        return self.suite.kem.derive_key_pair(self.entropy(self.suite.kem.private_size))[1]

    def resigned(self, leaf: LeafNode, index: int, group_id: bytes = GROUP_ID) -> LeafNode:
        return signed_leaf_node(leaf, self.suite, self.signature.private, group_id, index)

    def update(self, index: int, **changes: Any) -> LeafNode:
        """The leaf of an Update by this client, with fields changed before it is signed."""
        return self._successor(index, LeafNodeSource.UPDATE, None, changes)

    def path_leaf(self, index: int, parent_hash: bytes = b"", **changes: Any) -> LeafNode:
        """The leaf of a path by this client."""
        return self._successor(index, LeafNodeSource.COMMIT, parent_hash, changes)

    def altered_key_package(self, leaf: Mapping[str, Any] | None = None, **changes: Any) -> KeyPackage:
        """The key package with fields of it and of its leaf changed before each is signed."""
        inner = msgspec.structs.replace(self.leaf, **(leaf or {}))
        inner = signed_leaf_node(inner, self.suite, self.signature.private)
        outer = msgspec.structs.replace(self.key_package, leaf_node=inner, **changes)
        return signed_key_package(outer, self.suite, self.signature.private)

    def _successor(
        self, index: int, source: LeafNodeSource, parent_hash: bytes | None, changes: Mapping[str, Any]
    ) -> LeafNode:
        new: dict[str, Any] = {"encryption_key": self.encryption_key(), "source": source, "lifetime": None}
        unsigned = msgspec.structs.replace(self.leaf, **new | {"parent_hash": parent_hash} | dict(changes))
        return self.resigned(unsigned, index)


def client(
    name: str,
    suite: CipherSuite = SUITE,
    *,
    credential: Credential | None = None,
    capabilities: Capabilities | None = None,
    last_resort: bool = False,
) -> Client:
    entropy = counting_entropy(name)
    signature = suite.signature_key_pair(entropy)
    bundle = new_key_package(
        suite,
        BasicCredential(name.encode()) if credential is None else credential,
        signature_private=signature.private,
        signature_public=signature.public,
        capabilities=capabilities or Capabilities(cipher_suites=(suite.id,)),
        lifetime=FOREVER,
        last_resort=last_resort,
        entropy=entropy,
    )
    return Client(name, suite, signature, bundle, entropy)


@dataclass(frozen=True)
class Group:
    """Members' leaves in a tree without parents, and a context for them: enough to check proposals."""

    clients: tuple[Client, ...]
    tree: RatchetTree
    context: GroupContext
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def suite(self) -> CipherSuite:
        return self.tree.suite

    def check(self, *sent: SentProposal, committer: Sender | int = 0, **more: Any) -> ProposalList:
        """The list as this committer's commit has it."""
        return check_proposals(
            suite=self.suite,
            context=self.context,
            tree=self.tree,
            proposals=sent,
            committer=member(committer) if isinstance(committer, int) else committer,
            **{**self.settings, **more},
        )

    def check_external(self, joiner: Client, *sent: SentProposal, **more: Any) -> ProposalList:
        """The list as this joiner's external commit has it."""
        leaf = more.pop("path_leaf", None) or joiner.path_leaf(self.tree.leaf_count)
        return self.check(*sent, committer=NEW_MEMBER_COMMIT, path_leaf=leaf, **more)

    def without(self, *leaves: int) -> "Group":
        tree, _ = self.tree.changed({}, [LeafIndex(each) for each in leaves], ())
        return replace(self, tree=tree, context=msgspec.structs.replace(self.context, tree_hash=tree.tree_hash))


def group(size: int, suite: CipherSuite = SUITE, *, extensions: Extensions = (), **clients: Any) -> Group:
    """``size`` members named after their leaves; keyword arguments are those of ``client``."""
    return group_of(*(client(f"member {index}", suite, **clients) for index in range(size)), extensions=extensions)


def group_of(*clients: Client, extensions: Extensions = ()) -> Group:
    suite = clients[0].suite
    tree = RatchetTree.from_leaves(suite, [each.leaf for each in clients])
    context = GroupContext(MLS_1_0, suite.id, GROUP_ID, 7, tree.tree_hash, bytes(suite.hash_size), extensions)
    return Group(clients, tree, context)


def value(proposal: Proposal, committer: Sender | int = 0) -> SentProposal:
    """By value, so the committer's."""
    return SentProposal(proposal, member(committer) if isinstance(committer, int) else committer, None)


def sent(proposal: Proposal, sender: Sender | int, reference: bytes = b"reference") -> SentProposal:
    """By reference, by a member or anybody else."""
    return SentProposal(proposal, member(sender) if isinstance(sender, int) else sender, reference)


def joined(proposal: Proposal) -> SentProposal:
    """By value, in an external commit."""
    return value(proposal, NEW_MEMBER_COMMIT)


def external(index: int) -> Sender:
    return Sender(SenderType.EXTERNAL, index)
