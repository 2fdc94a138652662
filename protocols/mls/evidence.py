"""Fork evidence: a member who signs two commits in one epoch has forked the group, and here is the proof.

Nobody orders the commits of a group without a server, so two of *different* members on one parent are nobody's
fault. Two of *one* member are: an honest member reserves "I have committed on this parent" before it signs. The
proof needs nothing that only members know. It is two signatures of one key over one group context, the leaf
that says whose key that is, and the contents that differ; whether the commits could have been applied is of no
account, as an equivocator would then only have to make the second one invalid.

What "differ" means has two traps in it. The confirmation tag is not signed, and any member can attach another; a third
party can turn one ECDSA signature into another over the same content. To compare those would be to frame honest
members. But the transcript covers the signature: who signs one content twice, each time with another nonce, has made
two epochs as well. So what is compared is all that takes the signer's key to make (``signers_part``).
"""

from typing import Final

import msgspec

from protocols.errors import LocalError
from protocols.mls.codec import Reader, decode, opaque, uint8, uint16
from protocols.mls.commit import Commit
from protocols.mls.credentials import Authenticate
from protocols.mls.epoch import Epoch
from protocols.mls.errors import MlsError
from protocols.mls.framing import AuthenticatedContent, SenderType, WireFormat
from protocols.mls.group_context import GroupContext
from protocols.mls.leaf_node import LEAF_NODE_LABEL, LeafNode
from protocols.mls.opening import sender_leaf
from protocols.mls.protection import verify_content
from protocols.mls.suite import CipherSuite, cipher_suite

_VERSION: Final = 1


class ForkEvidence(msgspec.Struct, frozen=True):
    """Two commits by one signer in one epoch."""

    context: GroupContext
    """Of the parent, which both signatures cover."""
    leaf: LeafNode
    """The signer's in the parent; of an external commit, the one that it brought."""
    first: AuthenticatedContent
    second: AuthenticatedContent
    """The one with the smaller encoding comes first, so that a pair of commits makes one proof."""

    def __repr__(self) -> str:
        where = f"{self.context.group_id.hex()} #{self.context.epoch}"
        return f"ForkEvidence({where}, {self.first.content.sender}, {self.leaf.credential})"

    def verify(self, authenticate: Authenticate | None = None) -> None:
        """Check the proof, whoever made it; needs no membership and no secret.

        It convicts a signature key. That the key belongs to whom the leaf names is for ``authenticate`` to say, or
        for a member to see in its tree of that epoch: anybody can write another's name into a leaf and sign it.

        Raises:
            MlsError: it proves nothing, for the reason named.
        """
        suite = cipher_suite(self.context.cipher_suite)
        context = self.context.encode()
        for each in (self.first, self.second):
            content = each.content
            if not isinstance(content.content, Commit) or content.sender.sender_type not in _COMMITTERS:
                raise MlsError("fork/not-commits", "one of the two is no commit of a member or new member")
            if (content.group_id, content.epoch) != (self.context.group_id, self.context.epoch):
                raise MlsError("fork/other-epoch", "one of the two belongs to another group or epoch")
            if each.wire_format not in (WireFormat.PUBLIC_MESSAGE, WireFormat.PRIVATE_MESSAGE):
                raise MlsError("fork/not-commits", f"wire format {each.wire_format} carries no commits")
            verify_content(suite, self.leaf.signature_key, each, context)
        if self.first.content.sender != self.second.content.sender:
            raise MlsError("fork/other-sender", "the two have different senders")
        first, second = (signers_part(suite, each) for each in (self.first, self.second))
        if first == second:
            raise MlsError("fork/same-commit", "what the signer alone can have made is the same in both")
        if first > second:
            raise MlsError("fork/order", "the two are not in order")
        self._check_leaf()
        if authenticate is not None and not authenticate(self.leaf.credential, self.leaf.signature_key):
            raise MlsError("5.3.1/credential", f"{self.leaf.credential} in the evidence")

    def _check_leaf(self) -> None:
        """A member's leaf is signed; that of an external commit is covered by the commit's signature."""
        sender, commit = self.first.content.sender, self.first.content.content
        if sender.sender_type == SenderType.MEMBER:
            suite, key = cipher_suite(self.context.cipher_suite), self.leaf.signature_key
            content = self.leaf.to_be_signed(self.context.group_id, sender.index)
            if not suite.verify_with_label(key, LEAF_NODE_LABEL, content, self.leaf.signature):
                raise MlsError("7.3/leaf-signature", f"of the leaf {sender.index} in the evidence")
        elif not isinstance(commit, Commit) or commit.path is None or commit.path.leaf_node != self.leaf:
            raise MlsError("fork/leaf", "the leaf is not that of the first commit's path")

    def to_bytes(self) -> bytes:
        return b"".join(
            (
                uint8(_VERSION),
                self.context.encode(),
                self.leaf.encode(),
                opaque(self.first.encode()),
                opaque(self.second.encode()),
            )
        )

    @classmethod
    def read(cls, reader: Reader) -> "ForkEvidence":
        if (version := reader.uint8()) != _VERSION:
            raise MlsError("fork/version", f"evidence of version {version}; this code reads {_VERSION}")
        context, leaf = GroupContext.read(reader), LeafNode.read(reader)
        first, second = reader.opaque(), reader.opaque()
        return cls(context, leaf, decode(AuthenticatedContent.read, first), decode(AuthenticatedContent.read, second))

    @classmethod
    def from_bytes(cls, data: bytes) -> "ForkEvidence":
        """Raises ``MlsError`` for bytes that are no evidence; what they prove, only ``verify`` tells."""
        return decode(cls.read, data)


_COMMITTERS: Final = (SenderType.MEMBER, SenderType.NEW_MEMBER_COMMIT)


def signers_part(suite: CipherSuite, authenticated: AuthenticatedContent) -> bytes:
    """What nobody but the signer can have made: what the signature covers beside the context, and of the signature
    what it takes the key to choose. Two of these are two transcripts, so two epochs, by one hand."""
    share = suite.signature.signers_share(authenticated.auth.signature)
    return uint16(authenticated.wire_format) + authenticated.content.encode() + share


def signer_of(authenticated: AuthenticatedContent) -> bytes:
    """Whom two commits must have in common to be evidence: a leaf, or a joiner's key."""
    content = authenticated.content
    if content.sender.sender_type == SenderType.MEMBER:
        return content.sender.encode()
    commit = content.content
    assert isinstance(commit, Commit)
    if commit.path is None:
        raise LocalError("an external commit without a path was let through")
    return content.sender.encode() + commit.path.leaf_node.signature_key


def fork_evidence(epoch: Epoch, one: AuthenticatedContent, other: AuthenticatedContent) -> ForkEvidence | None:
    """The proof that two verified commits of one signer make, or None if they are the same commit."""
    parts = [signers_part(epoch.suite, each) for each in (one, other)]
    if parts[0] == parts[1]:
        return None
    first, second = (one, other) if parts[0] < parts[1] else (other, one)
    sender, commit = first.content.sender, first.content.content
    if sender.sender_type == SenderType.MEMBER:
        leaf = sender_leaf(epoch, sender)
    else:
        assert isinstance(commit, Commit)
        assert commit.path is not None
        leaf = commit.path.leaf_node
    return ForkEvidence(epoch.context, leaf, first, second)
