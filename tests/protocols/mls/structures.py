"""Hypothesis strategies for every structure on the wire, and how each is read.

Fields hold whatever their types hold: a structure that decodes need not make sense, which is asked later.
"""

from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st

from protocols.mls.codec import Reader
from protocols.mls.commit import Commit, ProposalRef
from protocols.mls.credentials import BasicCredential, CustomCredential, X509Credential, read_credential
from protocols.mls.extensions import Extension, ExternalSender, RequiredCapabilities
from protocols.mls.framing import (
    NEW_MEMBER_COMMIT,
    NEW_MEMBER_PROPOSAL,
    ApplicationData,
    AuthenticatedContent,
    Content,
    FramedContent,
    FramedContentAuthData,
    PrivateMessage,
    PublicMessage,
    Sender,
    SenderType,
)
from protocols.mls.group_context import GroupContext
from protocols.mls.key_package import MLS_1_0, KeyPackage
from protocols.mls.leaf_node import Capabilities, LeafNode, LeafNodeSource, Lifetime
from protocols.mls.message import read_message
from protocols.mls.proposals import (
    Add,
    Custom,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    ReInit,
    Remove,
    SelfRemove,
    Update,
    read_proposal,
)
from protocols.mls.psk import ExternalPsk, ResumptionPsk, read_psk_id
from protocols.mls.update_path import HpkeCiphertext, UpdatePath, UpdatePathNode
from protocols.mls.welcome import EncryptedGroupSecrets, GroupInfo, GroupSecrets, Welcome

UINT16 = st.integers(0, 2**16 - 1)
UINT32 = st.integers(0, 2**32 - 1)
UINT64 = st.integers(0, 2**64 - 1)
OCTETS = st.binary(max_size=8) | st.binary(min_size=62, max_size=66)
"""Short, or where a length grows to two bytes."""


def some(items: st.SearchStrategy[Any], size_max: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=size_max).map(tuple)


EXTENSION = st.builds(Extension, UINT16, OCTETS)
EXTENSIONS = st.lists(EXTENSION, max_size=2, unique_by=lambda each: each.extension_type).map(tuple)
CREDENTIALS = (
    st.builds(BasicCredential, OCTETS)
    | st.builds(X509Credential, some(OCTETS))
    | st.builds(CustomCredential, UINT16.filter(lambda kind: kind not in (1, 2)), OCTETS)
)
NUMBERS = some(UINT16, 3)
CAPABILITIES = st.builds(Capabilities, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
LIFETIMES = st.builds(Lifetime, UINT64, UINT64)


def _leaf_nodes(
    source: LeafNodeSource, lifetime: st.SearchStrategy[Any], parent_hash: st.SearchStrategy[Any]
) -> st.SearchStrategy[LeafNode]:
    fields = (
        OCTETS,
        OCTETS,
        CREDENTIALS,
        CAPABILITIES,
        st.just(int(source)),
        lifetime,
        parent_hash,
        EXTENSIONS,
        OCTETS,
    )
    return st.builds(LeafNode, *fields)


LEAF_NODES = st.one_of(
    _leaf_nodes(LeafNodeSource.KEY_PACKAGE, LIFETIMES, st.none()),
    _leaf_nodes(LeafNodeSource.UPDATE, st.none(), st.none()),
    _leaf_nodes(LeafNodeSource.COMMIT, st.none(), OCTETS),
)
KEY_PACKAGES = st.builds(KeyPackage, UINT16, UINT16, OCTETS, LEAF_NODES, EXTENSIONS, OCTETS)
PSK_IDS = st.builds(ExternalPsk, OCTETS, OCTETS) | st.builds(ResumptionPsk, st.integers(1, 3), OCTETS, UINT64, OCTETS)
PROPOSALS = st.one_of(
    st.builds(Add, KEY_PACKAGES),
    st.builds(Update, LEAF_NODES),
    st.builds(Remove, UINT32),
    st.builds(PreSharedKey, PSK_IDS),
    st.builds(ReInit, OCTETS, UINT16, UINT16, EXTENSIONS),
    st.builds(ExternalInit, OCTETS),
    st.builds(GroupContextExtensions, EXTENSIONS),
    st.just(SelfRemove()),
    st.builds(Custom, UINT16.filter(lambda kind: kind not in (*range(1, 8), 10)), OCTETS),
)
CIPHERTEXTS = st.builds(HpkeCiphertext, OCTETS, OCTETS)
UPDATE_PATHS = st.builds(UpdatePath, LEAF_NODES, some(st.builds(UpdatePathNode, OCTETS, some(CIPHERTEXTS))))
COMMITS = st.builds(Commit, some(PROPOSALS | st.builds(ProposalRef, OCTETS)), st.none() | UPDATE_PATHS)
SENDERS = st.builds(Sender, st.sampled_from((1, 2)), UINT32) | st.sampled_from((NEW_MEMBER_PROPOSAL, NEW_MEMBER_COMMIT))
CONTENTS: st.SearchStrategy[Content] = st.one_of(st.builds(ApplicationData, OCTETS), PROPOSALS, COMMITS)
FRAMED_CONTENTS = st.builds(FramedContent, OCTETS, UINT64, SENDERS, OCTETS, CONTENTS)


@st.composite
def _authenticated(draw: st.DrawFn) -> tuple[FramedContent, FramedContentAuthData]:
    content = draw(FRAMED_CONTENTS)
    tag = draw(OCTETS) if isinstance(content.content, Commit) else None
    return content, FramedContentAuthData(draw(OCTETS), tag)


@st.composite
def _public_messages(draw: st.DrawFn) -> PublicMessage:
    content, auth = draw(_authenticated())
    is_member = content.sender.sender_type == SenderType.MEMBER
    return PublicMessage(content, auth, draw(OCTETS) if is_member else None)


AUTHENTICATED_CONTENTS = st.builds(
    lambda wire_format, both: AuthenticatedContent(wire_format, *both), UINT16, _authenticated()
)
PUBLIC_MESSAGES = _public_messages()
PRIVATE_MESSAGES = st.builds(PrivateMessage, OCTETS, UINT64, st.integers(1, 3), OCTETS, OCTETS, OCTETS)
GROUP_CONTEXTS = st.builds(GroupContext, UINT16, UINT16, OCTETS, UINT64, OCTETS, OCTETS, EXTENSIONS)
GROUP_INFOS = st.builds(GroupInfo, GROUP_CONTEXTS, EXTENSIONS, OCTETS, UINT32, OCTETS)
GROUP_SECRETS = st.builds(GroupSecrets, OCTETS, st.none() | OCTETS, some(PSK_IDS))
WELCOMES = st.builds(Welcome, UINT16, some(st.builds(EncryptedGroupSecrets, OCTETS, CIPHERTEXTS)), OCTETS)
_SENT_KEY_PACKAGES = st.builds(KeyPackage, st.just(MLS_1_0), UINT16, OCTETS, LEAF_NODES, EXTENSIONS, OCTETS)
MESSAGES = st.one_of(PUBLIC_MESSAGES, PRIVATE_MESSAGES, WELCOMES, GROUP_INFOS, _SENT_KEY_PACKAGES)
"""A key package is sent in a message of its own version (§10)."""

STRUCTURES: Final[dict[str, tuple[Callable[[Reader], Any], st.SearchStrategy[Any]]]] = {
    "Extension": (Extension.read, EXTENSION),
    "RequiredCapabilities": (RequiredCapabilities.read, st.builds(RequiredCapabilities, NUMBERS, NUMBERS, NUMBERS)),
    "ExternalSender": (ExternalSender.read, st.builds(ExternalSender, OCTETS, CREDENTIALS)),
    "Credential": (read_credential, CREDENTIALS),
    "Capabilities": (Capabilities.read, CAPABILITIES),
    "Lifetime": (Lifetime.read, LIFETIMES),
    "LeafNode": (LeafNode.read, LEAF_NODES),
    "KeyPackage": (KeyPackage.read, KEY_PACKAGES),
    "PreSharedKeyID": (read_psk_id, PSK_IDS),
    "Proposal": (read_proposal, PROPOSALS),
    "UpdatePath": (UpdatePath.read, UPDATE_PATHS),
    "Commit": (Commit.read, COMMITS),
    "Sender": (Sender.read, SENDERS),
    "FramedContent": (FramedContent.read, FRAMED_CONTENTS),
    "AuthenticatedContent": (AuthenticatedContent.read, AUTHENTICATED_CONTENTS),
    "PublicMessage": (PublicMessage.read, PUBLIC_MESSAGES),
    "PrivateMessage": (PrivateMessage.read, PRIVATE_MESSAGES),
    "GroupContext": (GroupContext.read, GROUP_CONTEXTS),
    "GroupInfo": (GroupInfo.read, GROUP_INFOS),
    "GroupSecrets": (GroupSecrets.read, GROUP_SECRETS),
    "Welcome": (Welcome.read, WELCOMES),
    "MLSMessage": (read_message, MESSAGES),
}
"""By their names in the RFC; an ``MLSMessage`` is encoded by ``encode_message``."""
