"""Members of a live group in one place, and the hand of one of them who breaks the rules.

``Room`` carries messages to whom a test says and lets everybody follow a commit. What an adversary sends is what a
real member can make: ``forged_public`` and ``forged_private`` sign, tag and encrypt whatever they are given, with
keys that their owner has, so that the only thing wrong with a message is the one that its test is about.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from protocols.mls.client import KeyPackageBundle, default_capabilities, new_key_package
from protocols.mls.commit import Commit
from protocols.mls.epoch import Epoch
from protocols.mls.errors import MlsError
from protocols.mls.extensions import Extensions
from protocols.mls.framing import (
    ApplicationData,
    AuthenticatedContent,
    Content,
    FramedContent,
    PublicMessage,
    WireFormat,
    content_type,
    member,
)
from protocols.mls.group import Group
from protocols.mls.joining import StagedJoin, stage_welcome
from protocols.mls.key_package import KeyPackage
from protocols.mls.leaf_node import LeafIndex
from protocols.mls.message import encode_message
from protocols.mls.opening import VerifiedCommit
from protocols.mls.outcomes import OwnCommit, Received
from protocols.mls.proposals import Add, Proposal
from protocols.mls.protection import membership_tag, ratchet_of, seal_private, sign_content
from protocols.mls.psk import ExternalPsk, PreSharedKeyId
from protocols.mls.ratchets import MessageKey
from protocols.mls.send_ledger import SendLedger
from protocols.mls.services import Services
from protocols.mls.staging import StagedCommit
from protocols.mls.suite import SUITES, CipherSuite, Entropy
from protocols.mls.welcome import Welcome
from tests.protocols.mls.kit import Client, client
from tests.protocols.mls.trees import FOREVER, counting_entropy

SUITE = SUITES[1]
NOW_NS = 1_700_000_000 * 10**9
GROUP_ID = b"room"


def shared_psk(psk: PreSharedKeyId) -> bytes | None:
    """External keys that everybody has; those called ``secret`` nobody."""
    known = isinstance(psk, ExternalPsk) and psk.psk_id != b"secret"
    return b"psk " + psk.encode() if known else None


SERVICES = Services(psks=shared_psk)


def person(name: str, suite: CipherSuite = SUITE) -> Client:
    """A client with the capabilities that we publish."""
    return client(name, suite, capabilities=default_capabilities((suite.id,)))


def fresh(owner: Client) -> KeyPackageBundle:
    """Another key package of the same client, with the same signature key."""
    return new_key_package(
        owner.suite,
        owner.leaf.credential,
        signature_private=owner.signature.private,
        signature_public=owner.signature.public,
        capabilities=owner.leaf.capabilities,
        lifetime=FOREVER,
        entropy=owner.entropy,
    )


def name_at(epoch: Epoch, leaf: int) -> str:
    """Who sits at a leaf."""
    there = epoch.tree.leaf(LeafIndex(leaf))
    assert there is not None
    identity: bytes = getattr(there.credential, "identity")  # noqa: B009  # the union has other kinds
    return identity.decode()


@dataclass
class Room:
    """A group by the names of its members, all in one epoch unless a test parts them."""

    suite: CipherSuite = SUITE
    services: Services = SERVICES
    groups: dict[str, Group] = field(default_factory=dict)
    clients: dict[str, Client] = field(default_factory=dict)
    entropy: Entropy = field(default_factory=lambda: counting_entropy("room"))

    @classmethod
    def of(cls, *names: str, suite: CipherSuite = SUITE, extensions: Extensions = (), **services: Any) -> "Room":
        """The first creates the group and adds the others, who then each commit once if there are few."""
        room = cls(suite, msgspec.structs.replace(SERVICES, **services))
        founder = room.client(names[0])
        room.groups[names[0]] = Group.create(
            founder.bundle,
            GROUP_ID,
            entropy=room.entropy,
            now_ns=NOW_NS,
            extensions=extensions,
            services=room.services,
        )
        if names[1:]:
            room.commit(names[0], *(Add(room.client(name).key_package) for name in names[1:]))
        return room

    def __getitem__(self, name: str) -> Group:
        return self.groups[name]

    def client(self, name: str) -> Client:
        return self.clients.setdefault(name, person(name, self.suite))

    def key_package(self, name: str) -> KeyPackage:
        return self.client(name).key_package

    def leaf(self, name: str) -> LeafIndex:
        return self[name].current.own_leaf

    def others(self, *names: str) -> list[str]:
        return [name for name in self.groups if name not in names]

    # -- messages -----------------------------------------------------------------------------------

    def make(self, name: str, *proposals: Proposal, **options: Any) -> OwnCommit:
        """A commit that nobody has seen or adopted."""
        return self[name].commit(proposals, entropy=self.entropy, now_ns=NOW_NS, **options)

    def say(self, name: str, data: bytes = b"hello") -> bytes:
        return self[name].send(data, entropy=self.entropy).message

    def propose(self, name: str, proposal: Proposal, *, public: bool = False) -> bytes:
        """Proposed to everybody."""
        message = self[name].propose(proposal, entropy=self.entropy, public=public).message
        self.receive(message, self.others(name))
        return message

    def receive(self, message: bytes, names: Iterable[str]) -> dict[str, Received]:
        return {name: self[name].receive(message) for name in names}

    def stage(self, name: str, message: bytes) -> StagedCommit:
        found = self[name].receive(message).content
        assert isinstance(found, VerifiedCommit), found
        return self[name].stage(found, now_ns=NOW_NS).commit

    def follow(self, message: bytes, names: Iterable[str]) -> None:
        """Receive a commit, stage it and adopt it."""
        for name in names:
            self[name].adopt(self.stage(name, message), now_ns=NOW_NS)

    def commit(self, name: str, *proposals: Proposal, **options: Any) -> OwnCommit:
        """Everybody follows; those who are added join, those who are removed leave the room."""
        own = self.make(name, *proposals, **options)
        self[name].adopt(own.commit, now_ns=NOW_NS)
        gone = {name_at(self[name].epoch(own.commit.parent), leaf) for leaf in own.commit.removed}
        self.follow(own.message, self.others(name))
        for gone_name in gone:
            assert self.groups.pop(gone_name).removed
        for sealed in own.commit.welcomes:
            for leaf in sealed.joiners:
                self.join(name_at(self[name].current, leaf), sealed.welcome)
        self.check_agreement()
        return own

    def join(self, name: str, welcome: Welcome) -> Group:
        joined = Group.join(self.staged_join(name, welcome), now_ns=NOW_NS, services=self.services, ledger=SendLedger())
        self.groups[name] = joined
        return joined

    def staged_join(self, name: str, welcome: Welcome) -> StagedJoin:
        return stage_welcome(welcome, [self.client(name).bundle], psks=self.services.psks)

    def fill(self) -> None:
        """Everybody commits once, so that no parent is blank."""
        for name in list(self.groups):
            self.commit(name)

    def check_agreement(self) -> None:
        views = [
            (group.current.authenticator, group.current.context, group.current.export(b"label", b"context", 32))
            for group in self.groups.values()
        ]
        assert all(view == views[0] for view in views)


@contextmanager
def untouched(*groups: Group) -> Iterator[None]:
    """What follows changes nothing that would be stored."""
    before = [(group.to_bytes(), group.ledger.to_bytes()) for group in groups]
    yield
    assert [(group.to_bytes(), group.ledger.to_bytes()) for group in groups] == before


@contextmanager
def refuses(group: Group, rule: str) -> Iterator[None]:
    """What follows is refused by this rule, and leaves the group as it was."""
    with untouched(group), pytest.raises(MlsError) as caught:
        yield
    assert caught.value.reason == rule, str(caught.value)


# -- what an adversary makes ------------------------------------------------------------------------


def signed(
    author: Group,
    body: Content,
    *,
    sender: int | None = None,
    signer: Client | None = None,
    wire_format: WireFormat = WireFormat.PUBLIC_MESSAGE,
    tag: bytes | None = None,
    authenticated_data: bytes = b"",
) -> AuthenticatedContent:
    """Any content, by default in the author's name and with its key."""
    epoch = author.current
    leaf = epoch.own_leaf if sender is None else sender
    content = FramedContent(epoch.group_id, epoch.number, member(leaf), authenticated_data, body)
    public = epoch.own_leaf_node.signature_key if signer is None else signer.signature.public
    private = epoch.signature_private if signer is None else signer.signature.private
    if isinstance(body, Commit) and tag is None:
        tag = bytes(epoch.suite.hash_size)
    return sign_content(epoch.suite, private, public, wire_format, content, epoch.context_bytes, tag)


def public(author: Group, authenticated: AuthenticatedContent) -> bytes:
    """With the membership tag that any member can make."""
    epoch = author.current
    tag = membership_tag(epoch.suite, epoch.secrets.membership_key, authenticated, epoch.context_bytes)
    return encode_message(PublicMessage(authenticated.content, authenticated.auth, tag))


def private(author: Group, authenticated: AuthenticatedContent, key: MessageKey, guard: bytes = bytes(4)) -> bytes:
    """Under any key that the author can derive."""
    epoch = author.current
    sealed = seal_private(epoch.suite, epoch.secrets.sender_data_secret, key, authenticated, guard)
    return encode_message(sealed)


def key_of(author: Group, leaf: int, body: Content, generation: int) -> MessageKey:
    """A key of another member's: everybody can derive those."""
    return author._kept[author.current.authenticator].keys.peek(leaf, ratchet_of(content_type(body)), generation).key


def altered(authenticated: AuthenticatedContent, **changes: Any) -> AuthenticatedContent:
    """With another signature or confirmation tag, which the signature does not cover."""
    return msgspec.structs.replace(authenticated, auth=msgspec.structs.replace(authenticated.auth, **changes))


def external(commit: StagedCommit) -> bytes:
    """An external commit on its way to the members."""
    return encode_message(PublicMessage(commit.authenticated.content, commit.authenticated.auth))


def text(data: bytes) -> ApplicationData:
    return ApplicationData(data)
