"""A live group for the fuzzer, the same at every start: honest members, Mallory among them, and who is outside.

Its tree has all that makes trees difficult: a member who is unmerged, blank parents, leaves of all three sources,
room to the right. Proposals of every kind of sender wait in the epoch, so that commits can refer to them.
"""

from collections.abc import Iterator
from functools import cache
from hashlib import shake_256
from typing import Any, Final, NamedTuple

from protocols.mls.client import KeyPackageBundle, default_capabilities, lifetime_from, new_key_package
from protocols.mls.credentials import BasicCredential, CustomCredential, X509Credential
from protocols.mls.extensions import Extension, ExternalSender, RequiredCapabilities, external_senders_extension
from protocols.mls.external import external_message, make_external_commit, propose_from_outside, propose_oneself
from protocols.mls.group import NANOSECONDS, Group
from protocols.mls.joining import stage_welcome
from protocols.mls.leaf_node import Capabilities, LeafIndex, Lifetime
from protocols.mls.message import MlsMessage, encode_message, parse
from protocols.mls.opening import VerifiedCommit
from protocols.mls.outcomes import Outgoing, OwnCommit
from protocols.mls.proposals import (
    Add,
    Custom,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    Remove,
    SelfRemove,
)
from protocols.mls.psk import ExternalPsk, PreSharedKeyId, ResumptionPsk, ResumptionUsage
from protocols.mls.send_ledger import SendLedger
from protocols.mls.services import Retention, Services
from protocols.mls.staging import Checks
from protocols.mls.suite import CipherSuite, Entropy, SignatureKeyPair, cipher_suite
from tests.fuzz.mutations import Donors

NOW_S: Final = 1_700_000_000
NOW_NS: Final = NOW_S * NANOSECONDS
SUITES: Final = (1, 2)
"""X25519, where every byte string is nearly a key, and P-256, where hardly any is."""

MALLORY: Final = LeafIndex(1)
HONEST: Final = ("alice", "erin", "frank")
"""On both sides of the tree, and the one that is unmerged; carol is there too but has nothing to say."""

RETENTION: Final = {"alice": Retention(epochs=2)}
"""The others keep one epoch, which is twice as quick."""


def retention_of(name: str) -> Retention:
    return RETENTION.get(name, Retention(epochs=1))


def entropy_of(seed: object) -> Entropy:
    """The same bytes for the same seed, others at every draw."""
    count = 0

    def draw(size: int) -> bytes:
        nonlocal count
        count += 1
        return shake_256(f"{seed} {count}".encode()).digest(size)

    return draw


def psks(psk: PreSharedKeyId) -> bytes | None:
    """What all members share beside the group."""
    return b"shared" if isinstance(psk, ExternalPsk) and psk.psk_id == b"known" else None


SERVICES: Final = Services(psks=psks)
CHECKS: Final = Checks(now_s=NOW_S)


class Stored(NamedTuple):
    """A member between two inputs."""

    state: bytes
    ledger: bytes
    retention: Retention

    def restored(self) -> Group:
        return Group.from_bytes(
            self.state, SendLedger.from_bytes(self.ledger), services=SERVICES, retention=self.retention
        )


class World(NamedTuple):
    suite: CipherSuite
    members: dict[str, Stored]
    bundles: tuple[KeyPackageBundle, ...]
    """Of those who are outside."""
    keys: dict[bytes, SignatureKeyPair]
    """Every signature key there is, by its public half."""
    outsider: SignatureKeyPair
    """The external sender of the group."""
    proposals: tuple[Proposal, ...]
    """Sound ones, that Mallory may make."""
    references: tuple[bytes, ...]
    """Of the proposals that wait."""
    messages: tuple[bytes, ...]
    """Every kind, as sent."""
    records: tuple[bytes, ...]
    """Of alice, each written after her state here."""
    donors: Donors

    def restored(self, name: str) -> Group:
        return self.members[name].restored()


def adopt(group: Group, message: bytes) -> None:
    """What an honest member does with a commit."""
    found = group.receive(message).content
    assert isinstance(found, VerifiedCommit)
    group.adopt(group.stage(found, now_ns=NOW_NS).commit, now_ns=NOW_NS)


class _Builder:
    def __init__(self, suite: CipherSuite) -> None:
        self.suite: Final = suite
        self.entropy: Final = entropy_of(f"world {suite.id}")
        self.keys: Final[dict[bytes, SignatureKeyPair]] = {}
        self.groups: Final[dict[str, Group]] = {}
        self.messages: Final[list[bytes]] = []

    def bundle(self, name: str, **options: Any) -> KeyPackageBundle:
        signer = self.suite.signature_key_pair(self.entropy)
        self.keys[signer.public] = signer
        return new_key_package(
            self.suite,
            BasicCredential(name.encode()),
            signature_private=signer.private,
            signature_public=signer.public,
            capabilities=default_capabilities(),
            lifetime=lifetime_from(NOW_S),
            entropy=self.entropy,
            **options,
        )

    def commit(self, author: str, *proposals: Proposal, joiners: dict[str, KeyPackageBundle], **options: Any) -> None:
        """Everybody moves on, and those who are added come in."""
        added = [Add(each.key_package) for each in joiners.values()]
        own = self._made(author, [*added, *proposals], options)
        for name, group in list(self.groups.items()):
            if name != author:
                adopt(group, own.message)
                if group.removed:
                    del self.groups[name]
        for name, bundle in joiners.items():
            welcome = own.commit.welcomes[0].welcome
            self.messages.append(encode_message(welcome))
            staged = stage_welcome(welcome, [bundle], psks=psks, checks=CHECKS)
            self.groups[name] = Group.join(
                staged, now_ns=NOW_NS, services=SERVICES, retention=retention_of(name), ledger=SendLedger()
            )

    def _made(self, author: str, proposals: list[Proposal], options: dict[str, Any]) -> OwnCommit:
        group = self.groups[author]
        own = group.commit(proposals, entropy=self.entropy, now_ns=NOW_NS, **options)
        group.adopt(own.commit, now_ns=NOW_NS)
        self.messages.append(own.message)
        return own

    def tell(self, author: str, outgoing: Outgoing) -> None:
        self.messages.append(outgoing.message)
        for name, group in self.groups.items():
            if name != author:
                group.receive(outgoing.message)


@cache
def world(suite_id: int) -> World:
    suite = cipher_suite(suite_id)
    builder = _Builder(suite)
    outsider = suite.signature_key_pair(builder.entropy)
    builder.keys[outsider.public] = outsider
    extensions = (
        external_senders_extension([ExternalSender(outsider.public, BasicCredential(b"outsider"))]),
        RequiredCapabilities(proposal_types=(10,), credential_types=(1,)).extension(),
    )
    builder.groups["alice"] = Group.create(
        builder.bundle("alice"),
        b"fuzzed",
        entropy=builder.entropy,
        now_ns=NOW_NS,
        extensions=extensions,
        services=SERVICES,
        retention=retention_of("alice"),
    )
    founders = {name: builder.bundle(name) for name in ("mallory", "carol", "dave", "frank", "grace")}
    builder.commit("alice", joiners=founders)
    builder.commit("dave", joiners={})
    builder.commit("frank", joiners={}, public=True)
    builder.commit("alice", Remove(3), Remove(5), joiners={})
    builder.commit("mallory", joiners={"erin": builder.bundle("erin")}, with_path=False)
    outside = (builder.bundle("henry"), builder.bundle("irene", last_resort=True))
    return _waiting(builder, outsider, outside)


def _waiting(builder: _Builder, outsider: SignatureKeyPair, outside: tuple[KeyPackageBundle, ...]) -> World:
    """Proposals by all kinds of senders, then what there is to choose from."""
    groups, suite, entropy = builder.groups, builder.suite, builder.entropy
    info = groups["alice"].current.group_info()
    nonce = entropy(suite.hash_size)
    psk = ExternalPsk(b"known", nonce)
    builder.tell("alice", groups["alice"].propose_update(entropy=entropy))
    builder.tell("carol", groups["carol"].leave(entropy=entropy))
    builder.tell("frank", groups["frank"].propose(PreSharedKey(psk), entropy=entropy))
    added = Outgoing(encode_message(propose_oneself(info, outside[1])), (), ())
    builder.tell("", added)
    builder.tell("", Outgoing(encode_message(propose_from_outside(info, Remove(4), 0, outsider)), (), ()))

    stored = {
        name: Stored(group.to_bytes(), group.ledger.to_bytes(), retention_of(name)) for name, group in groups.items()
    }
    external = make_external_commit(info, outside[0], entropy=entropy, psk_ids=(psk,), psks=psks, checks=CHECKS)
    messages = (
        *builder.messages,
        *_messages(groups, entropy),
        encode_message(info),
        encode_message(outside[0].key_package),
    )
    joined = encode_message(external_message(external))
    proposals = _proposals(groups["mallory"], outside, nonce)
    parsed = [parse(each) for each in (*messages, joined)]
    return World(
        suite=suite,
        members=stored,
        bundles=outside,
        keys=builder.keys,
        outsider=outsider,
        proposals=proposals,
        references=tuple(each.reference for each in groups["alice"].proposals()),
        messages=(*messages, joined),
        records=tuple(_records(stored["alice"].restored(), messages, entropy)),
        donors=Donors(_samples(parsed, proposals, groups)),
    )


def _messages(groups: dict[str, Group], entropy: Entropy) -> Iterator[bytes]:
    for public in (False, True):
        yield groups["frank"].propose(Remove(2), entropy=entropy, public=public).message
    yield groups["erin"].send(b"said", entropy=entropy, despite_proposals=True, authenticated_data=b"shown").message
    yield groups["mallory"].commit(entropy=entropy, now_ns=NOW_NS).message
    yield groups["frank"].commit(entropy=entropy, now_ns=NOW_NS, pending=False, public=True).message


def _proposals(mallory: Group, outside: tuple[KeyPackageBundle, ...], nonce: bytes) -> tuple[Proposal, ...]:
    epoch = mallory.current
    resumption = ResumptionPsk(ResumptionUsage.APPLICATION, epoch.group_id, epoch.number - 1, nonce)
    return (
        Add(outside[0].key_package),
        Remove(2),
        Add(outside[1].key_package),
        PreSharedKey(ExternalPsk(b"known", nonce)),
        PreSharedKey(resumption),
        GroupContextExtensions(epoch.context.extensions),
        GroupContextExtensions(()),
        ReInit(b"again", 1, epoch.suite.id, ()),
        SelfRemove(),
        ExternalInit(bytes(epoch.suite.kem.public_size)),
        Custom(0xF00D, b"body"),
    )


def _records(alice: Group, messages: tuple[bytes, ...], entropy: Entropy) -> Iterator[bytes]:
    """Of what she receives, stages, makes and adopts, as far as it goes."""
    for message in messages[-7:-2]:
        received = alice.receive(message)
        yield received.record
        if isinstance(received.content, VerifiedCommit):
            yield alice.stage(received.content, now_ns=NOW_NS).record
    yield from alice.send(b"heard", entropy=entropy, despite_proposals=True).records
    own = alice.commit(entropy=entropy, now_ns=NOW_NS)
    yield own.record
    yield alice.adopt(own.commit, now_ns=NOW_NS).record
    yield alice.return_to(alice.epochs[0]).record


def _samples(parsed: list[MlsMessage], proposals: tuple[Proposal, ...], groups: dict[str, Group]) -> Iterator[Any]:
    """Structures that are sound, and rarer ones of which a client here makes none."""
    yield from parsed
    yield from proposals
    for group in groups.values():
        for waiting in group.proposals():
            yield waiting.authenticated
        yield group.current.context
        yield from (leaf for _, leaf in group.current.tree.members())
    yield X509Credential((b"leaf", b"root"))
    yield CustomCredential(0x0A0A, b"")
    yield Lifetime(0, 2**64 - 1)
    yield Extension(10, b"")
    yield Extension(0x0A0A, b"")
    yield Capabilities()
