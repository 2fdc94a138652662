"""An epoch (RFC 9420 §8): the immutable value that everything else is computed from.

Nothing here moves. A commit makes another epoch from this one, and several may be made, staged and compared
before one is adopted; whoever keeps an epoch can return to it. That is what a group without a server to order
its commits needs, and it is why the two things that must not be copied are elsewhere: the message keys
(``secret_tree.MessageKeys``, one object an epoch) and the positions used for sending (``SendLedger``).

An epoch is identified by its ``authenticator`` (§8.7). Equal trees do not make equal epochs, and equal numbers
still less: two branches of a fork number theirs alike.
"""

import msgspec

from protocols.errors import LocalError
from protocols.mls.codec import Reader, decode, opaque, optional, read_version, uint8, uint16
from protocols.mls.extensions import (
    Extension,
    Extensions,
    ExtensionType,
    external_pub_extension,
)
from protocols.mls.group_context import GroupContext
from protocols.mls.key_schedule import (
    EpochSecrets,
    confirmation_tag,
    epoch_secrets,
    exporter,
    external_key_pair,
    joiner_secret,
)
from protocols.mls.leaf_node import LeafIndex, LeafNode
from protocols.mls.message_keys import MessageKeys
from protocols.mls.proposals import Proposal, ReInit, read_proposal
from protocols.mls.psk import PreSharedKeyId, psk_secret
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.signatures import SignatureKeyPair
from protocols.mls.suite import CipherSuite, cipher_suite
from protocols.mls.transcript import interim_transcript_hash
from protocols.mls.tree_private import TreePrivate
from protocols.mls.welcome import GROUP_INFO_LABEL, GroupInfo

_VERSION = 1


class Epoch(msgspec.Struct, frozen=True, eq=False):
    """One member's view of one epoch: what all members know, and what only this one does."""

    suite: CipherSuite
    context: GroupContext
    tree: RatchetTree
    confirmation_tag: bytes
    secrets: EpochSecrets
    """Without the encryption secret, which became the message keys."""
    private: TreePrivate
    signature_private: bytes
    reinit: ReInit | None = None
    """Set by a commit of a ReInit proposal: the group takes no further commits (§11.2)."""
    context_bytes: bytes = b""
    interim_transcript_hash: bytes = b""

    def __repr__(self) -> str:
        return f"Epoch({self.group_id.hex()} #{self.number}, {self.authenticator.hex()[:16]}, leaf {self.own_leaf})"

    @property
    def group_id(self) -> bytes:
        return self.context.group_id

    @property
    def number(self) -> int:
        return self.context.epoch

    @property
    def authenticator(self) -> bytes:
        """``epoch_authenticator`` (§8.7): public, and equal only where everything is."""
        return self.secrets.epoch_authenticator

    @property
    def resumption_psk(self) -> bytes:
        return self.secrets.resumption_psk

    @property
    def own_leaf(self) -> LeafIndex:
        return self.private.leaf_index

    @property
    def own_leaf_node(self) -> LeafNode:
        leaf = self.tree.leaf(self.own_leaf)
        if leaf is None:
            raise LocalError(f"{self!r}: its own leaf is blank")
        return leaf

    def export(self, label: bytes, context: bytes, size: int) -> bytes:
        """``MLS-Exporter`` (§8.5): a secret for the application's own use."""
        return exporter(self.suite, self.secrets.exporter_secret, label, context, size)

    def group_info(self, *, with_tree: bool = True, with_external_pub: bool = True, more: Extensions = ()) -> GroupInfo:
        """This epoch as we show it to those who are not in it (§12.4.3), signed.

        Args:
            with_tree: whether it carries the ratchet tree, or its reader has to get that elsewhere.
            with_external_pub: whether it lets its reader join by an external commit; never in a Welcome.
        """
        extensions = list(more)
        if with_tree:
            extensions.append(Extension(ExtensionType.RATCHET_TREE, self.tree.encode()))
        if with_external_pub:
            extensions.append(external_pub_extension(external_key_pair(self.suite, self.secrets.external_secret)[1]))
        unsigned = GroupInfo(self.context, tuple(extensions), self.confirmation_tag, self.own_leaf, b"")
        signature = self.suite.sign_with_label(*self.signer, GROUP_INFO_LABEL, unsigned.to_be_signed())
        return msgspec.structs.replace(unsigned, signature=signature)

    @property
    def signer(self) -> SignatureKeyPair:
        """The signature keys of our leaf."""
        return SignatureKeyPair(self.signature_private, self.own_leaf_node.signature_key)

    def to_bytes(self) -> bytes:
        """Everything, secrets included: to be sealed by whoever stores it."""
        return b"".join(
            (
                uint8(_VERSION),
                uint16(self.suite.id),
                self.context.encode(),
                opaque(self.tree.encode()),
                opaque(self.confirmation_tag),
                self.secrets.encode(),
                self.private.encode(),
                opaque(self.signature_private),
                optional(None if self.reinit is None else self.reinit.encode()),
            )
        )

    @classmethod
    def read(cls, reader: Reader) -> "Epoch":
        read_version(reader, "an epoch", _VERSION)
        suite = cipher_suite(reader.uint16())
        context = GroupContext.read(reader)
        tree = RatchetTree.decode(suite, reader.opaque())
        tag = reader.opaque()
        secrets, private = EpochSecrets.read(reader), TreePrivate.read(reader)
        signature_private = reader.opaque()
        reinit = reader.optional(read_proposal)
        return entered(suite, context, tree, tag, secrets, private, signature_private, reinit)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Epoch":
        return decode(cls.read, data)


def entered(
    suite: CipherSuite,
    context: GroupContext,
    tree: RatchetTree,
    tag: bytes,
    secrets: EpochSecrets,
    private: TreePrivate,
    signature_private: bytes,
    reinit: Proposal | None = None,
) -> Epoch:
    """An epoch, with what is derived from its public part."""
    return Epoch(
        suite,
        context,
        tree,
        tag,
        secrets,
        private,
        signature_private,
        reinit if isinstance(reinit, ReInit) else None,
        context.encode(),
        interim_transcript_hash(suite, context.confirmed_transcript_hash, tag),
    )


class Secrets(msgspec.Struct, frozen=True, eq=False):
    """What the key schedule yields on entering an epoch."""

    joiner_secret: bytes
    psk_secret: bytes
    epoch: EpochSecrets
    confirmation_tag: bytes

    def __repr__(self) -> str:
        return "Secrets(...)"


def scheduled(
    suite: CipherSuite,
    context: GroupContext,
    init_secret: bytes,
    commit_secret: bytes,
    psks: tuple[tuple[PreSharedKeyId, bytes], ...],
) -> Secrets:
    """The key schedule (§8) from one epoch's ``init_secret`` into the next, whose final context this is."""
    context_bytes = context.encode()
    joiner = joiner_secret(suite, init_secret, commit_secret, context_bytes)
    psk = psk_secret(suite, psks)
    secrets = epoch_secrets(suite, joiner, psk, context_bytes)
    tag = confirmation_tag(suite, secrets.confirmation_key, context.confirmed_transcript_hash)
    return Secrets(joiner, psk, secrets, tag)


def take_message_keys(
    suite: CipherSuite, secrets: EpochSecrets, tree: RatchetTree, own_leaf: LeafIndex
) -> tuple[EpochSecrets, MessageKeys]:
    """The message keys of an epoch, and its secrets without the one that they were made of."""
    keys = MessageKeys(suite, secrets.encryption_secret, tree.leaf_count, own_leaf)
    return msgspec.structs.replace(secrets, encryption_secret=b""), keys
