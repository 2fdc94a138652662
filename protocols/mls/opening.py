"""From parsed to verified (RFC 9420 §6): whose message is this, and did they really write it?

Opening changes nothing. For a private message it says which key it used; ``MessageKeys.consume`` erases that
once the caller knows that the message is to be kept.
"""

from typing import TypeAlias

import msgspec

from protocols.mls.commit import Commit
from protocols.mls.credentials import Credential
from protocols.mls.epoch import Epoch
from protocols.mls.errors import MlsError
from protocols.mls.extensions import external_senders
from protocols.mls.framing import (
    ApplicationData,
    AuthenticatedContent,
    FramedContent,
    PrivateMessage,
    PublicMessage,
    Sender,
    SenderType,
)
from protocols.mls.leaf_node import LeafIndex, LeafNode
from protocols.mls.message_keys import MessageKeys, Opening
from protocols.mls.proposal_rules import who_may
from protocols.mls.proposals import Add, Proposal, SelfRemove
from protocols.mls.protection import open_private, open_public, verify_content


class ApplicationMessage(msgspec.Struct, frozen=True):
    """What a member said."""

    epoch: bytes
    """The authenticator of the epoch in which it was said."""
    sender: LeafIndex
    credential: Credential
    """Of the sender's leaf in that epoch: the leaf may be another's by now."""
    authenticated_data: bytes
    data: bytes

    def __repr__(self) -> str:
        return f"ApplicationMessage(from leaf {self.sender}, {len(self.data)} bytes)"


class VerifiedProposal(msgspec.Struct, frozen=True):
    """A proposal that its sender signed; whether it may be committed is asked when it is."""

    epoch: bytes
    proposal: Proposal
    sender: Sender
    reference: bytes
    """``ProposalRef`` (§5.2), by which commits name it."""
    authenticated: AuthenticatedContent


class VerifiedCommit(msgspec.Struct, frozen=True):
    """A commit that its sender signed; ``stage`` tells whether it is sound and what would follow."""

    epoch: bytes
    """The authenticator of its parent."""
    commit: Commit
    sender: Sender
    authenticated: AuthenticatedContent


Verified: TypeAlias = ApplicationMessage | VerifiedProposal | VerifiedCommit


def open_message(
    epoch: Epoch, keys: MessageKeys, message: PublicMessage | PrivateMessage
) -> tuple[AuthenticatedContent, Opening | None]:
    """Decrypt or check the tag, then check the signature.

    Raises:
        MlsError: of sections 6 and 9, of 12.1.8 for senders from outside, and a SelfRemove that is not public.
    """
    opening = None
    if isinstance(message, PrivateMessage):
        authenticated, opening = open_private(epoch.suite, epoch.secrets.sender_data_secret, keys, message)
    else:
        authenticated = open_public(epoch.suite, epoch.secrets.membership_key, message, epoch.context_bytes)
    verify_sender(epoch, authenticated)
    if opening is not None and isinstance(authenticated.content.content, SelfRemove):
        # Whoever joins by an external commit has to be able to carry it out, and reads public messages only.
        raise MlsError("extensions-draft/self-remove-private", f"by leaf {authenticated.content.sender.index}")
    return authenticated, opening


def verify_sender(epoch: Epoch, authenticated: AuthenticatedContent) -> None:
    """That its sender may send such a thing, and signed it (§6.1)."""
    key = signature_key(epoch, authenticated.content)
    verify_content(epoch.suite, key, authenticated, epoch.context_bytes)


def signature_key(epoch: Epoch, content: FramedContent) -> bytes:
    """The key that must have signed, by the sender's type (§6.1)."""
    sender, body = content.sender, content.content
    match sender.sender_type:
        case SenderType.MEMBER:
            return sender_leaf(epoch, sender).signature_key
        case SenderType.EXTERNAL:
            senders = external_senders(epoch.context.extensions)
            if isinstance(body, Commit | ApplicationData):
                raise MlsError("6/sender-content", "an external sender may only propose")
            if not who_may(sender, body):
                raise MlsError("12.1.8/sender-type", f"type {body.proposal_type} by an external sender")
            if sender.index >= len(senders):
                raise MlsError("12.1.8.1/unknown-sender", f"index {sender.index} of {len(senders)}")
            return senders[sender.index].signature_key
        case SenderType.NEW_MEMBER_PROPOSAL:
            if not isinstance(body, Add):
                raise MlsError("6/sender-content", "a new member may only propose to be added")
            return body.key_package.leaf_node.signature_key
        case _:
            if not isinstance(body, Commit):
                raise MlsError("6/sender-content", "a new member's commit is a commit")
            if body.path is None:
                raise MlsError("12.4.3.2/path-required", "an external commit without a path")
            return body.path.leaf_node.signature_key


def sender_leaf(epoch: Epoch, sender: Sender) -> LeafNode:
    """The leaf that a member sent from, in the epoch of the message."""
    leaf = epoch.tree.leaf(LeafIndex(sender.index))
    if leaf is None:
        raise MlsError("6/sender-not-member", f"leaf {sender.index} of epoch {epoch.number} is blank")
    return leaf


def verified(epoch: Epoch, authenticated: AuthenticatedContent) -> Verified:
    """An opened message, as the type of what it carries."""
    content = authenticated.content
    body, sender = content.content, content.sender
    match body:
        case ApplicationData(data):
            credential = sender_leaf(epoch, sender).credential
            leaf = LeafIndex(sender.index)
            return ApplicationMessage(epoch.authenticator, leaf, credential, content.authenticated_data, data)
        case Commit():
            return VerifiedCommit(epoch.authenticator, body, sender, authenticated)
        case _:
            reference = epoch.suite.proposal_ref(authenticated.encode())
            return VerifiedProposal(epoch.authenticator, body, sender, reference, authenticated)
