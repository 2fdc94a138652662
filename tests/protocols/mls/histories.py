"""Histories of whole groups, as documents of the shape ``passive-client`` that the MLS working group publishes.

What is published joins, and follows two commits. A real member follows hundreds, of every kind that RFC 9420 has: by
members, by newcomers and by those who come back, of proposals from inside and outside, into groups that continue
others. Here members of ours make such histories at random, with one member among them whom nobody plays. Its keys and
what was sent to it are the document, and whether it can follow is found out by ``spacepanda conformance`` alone.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any, Final

from protocols.mls.client import KeyPackageBundle, new_key_package
from protocols.mls.commit import ProposalRef
from protocols.mls.committing import Welcomes
from protocols.mls.credentials import BasicCredential, CustomCredential
from protocols.mls.epoch import Epoch
from protocols.mls.extensions import (
    Extension,
    Extensions,
    ExternalSender,
    RequiredCapabilities,
    external_pub_extension,
    external_senders_extension,
)
from protocols.mls.external import make_external_commit
from protocols.mls.founding import branch, reinitialise
from protocols.mls.framing import PublicMessage, SenderType
from protocols.mls.group import Group
from protocols.mls.joining import Origin, stage_welcome
from protocols.mls.key_package import KeyPackage
from protocols.mls.leaf_node import Capabilities, LeafIndex
from protocols.mls.message import encode_message
from protocols.mls.opening import VerifiedCommit, VerifiedProposal
from protocols.mls.policy import Policy
from protocols.mls.proposals import (
    Add,
    Custom,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    Remove,
    SelfRemove,
)
from protocols.mls.psk import ExternalPsk, PreSharedKeyId, ResumptionPsk, ResumptionUsage
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.send_ledger import SendLedger
from protocols.mls.services import Services
from protocols.mls.signatures import SignatureKeyPair
from protocols.mls.staging import StagedCommit
from protocols.mls.suite import CipherSuite
from tests.protocols.mls.trees import FOREVER, counting_entropy

Case = dict[str, Any]

LISTENER: Final = "listener"
"""The passive client."""

MEMBERS_MIN: Final = 4
MEMBERS_MAX: Final = 8

GREASE: Final = 0x1A1A
EXTENSION, PROPOSAL, CREDENTIAL = 0xF0E1, 0xF0B1, 0xF0C1
"""For private use (§17): every client here lists them, and no code knows them."""

PSKS: Final = {b"door": b"under the mat", b"safe": b"behind the picture"}


class History:
    """A group that everybody plays but the listener."""

    def __init__(self, suite: CipherSuite, seed: str, past: dict[tuple[bytes, int], tuple[bytes, Origin]]) -> None:
        self.suite: Final = suite
        self.seed: Final = seed
        self.random: Final = Random(seed)
        self.entropy: Final = counting_entropy(seed)
        self.group_id = f"group of {seed}".encode()
        self.groups: Final[dict[str, Group]] = {}
        self.bundles: Final[dict[str, KeyPackageBundle]] = {}
        self.outsider: Final = suite.signature_key_pair(self.entropy)
        self.past: Final = past
        """Resumption PSK and origin of every epoch of this group and of those that it continues."""
        self.pending: list[bytes] = []
        self.proposed: Final[dict[bytes, VerifiedProposal]] = {}
        self.case: Case | None = None
        self.joined_at = 0
        self.followed: Final[set[str]] = set()
        """What the listener had to understand, in words."""
        self._names: Final = (f"{seed} {number}" for number in itertools.count())

    def found(self) -> None:
        """Founded by one member, who adds the first others."""
        founder = self.newcomer()
        self.groups[founder] = Group.create(
            self.bundles[founder],
            self.group_id,
            entropy=self.entropy,
            now_ns=0,
            extensions=self.context_extensions(),
            services=self.services,
        )
        self.commit(founder, [self.added() for _ in range(MEMBERS_MIN)])

    @property
    def services(self) -> Services:
        """Whatever is proposed is committed: resumption PSKs that everybody has, and the ReInit to come."""
        return Services(policy=Policy(accept=lambda _proposal, _sender: True), psks=self.psk)

    def psk(self, psk: PreSharedKeyId) -> bytes | None:
        if isinstance(psk, ExternalPsk):
            return PSKS.get(psk.psk_id)
        return self.past[psk.psk_group_id, psk.psk_epoch][0]

    def origin(self, group_id: bytes, epoch: int) -> Origin | None:
        return self.past[group_id, epoch][1]

    # -- clients ------------------------------------------------------------------------------------

    def newcomer(self, name: str | None = None) -> str:
        name = next(self._names) if name is None else name
        self.bundles[name] = self._bundle(name, self.suite.signature_key_pair(self.entropy))
        return name

    def fresh(self, name: str) -> KeyPackage:
        """Another key package of the same client."""
        old = self.bundles[name]
        signature = SignatureKeyPair(old.signature_private, old.key_package.leaf_node.signature_key)
        self.bundles[name] = self._bundle(name, signature)
        return self.bundles[name].key_package

    def _bundle(self, name: str, signature: SignatureKeyPair) -> KeyPackageBundle:
        custom = name != LISTENER and name.endswith(("3", "7"))
        return new_key_package(
            self.suite,
            CustomCredential(CREDENTIAL, name.encode()) if custom else BasicCredential(name.encode()),
            signature_private=signature.private,
            signature_public=signature.public,
            capabilities=Capabilities(
                cipher_suites=(self.suite.id, GREASE),
                extensions=(GREASE, EXTENSION),
                proposals=(10, PROPOSAL, GREASE),
                credentials=(1, GREASE, CREDENTIAL),
            ),
            lifetime=FOREVER,
            extensions=(Extension(GREASE, b"in a key package"),),
            leaf_extensions=(Extension(GREASE, b"in a leaf"),) if custom else (),
            entropy=self.entropy,
        )

    def anybody(self, *but: str) -> str:
        return self.random.choice([name for name in self.groups if name not in but])

    @property
    def somebody(self) -> Group:
        return next(iter(self.groups.values()))

    def leaf(self, name: str) -> LeafIndex:
        return self.groups[name].current.own_leaf

    # -- what may be proposed -----------------------------------------------------------------------

    def context_extensions(self) -> Extensions:
        return (
            Extension(EXTENSION, self.random.randbytes(3)),
            RequiredCapabilities((EXTENSION,), (PROPOSAL,), (1, CREDENTIAL)).extension(),
            external_senders_extension([ExternalSender(self.outsider.public, BasicCredential(b"outsider"))]),
        )

    def added(self) -> Proposal:
        return Add(self.bundles[self.newcomer()].key_package)

    def removed(self, *but: str) -> Proposal:
        return Remove(self.leaf(self.anybody(*but)))

    def external_psk(self) -> Proposal:
        return PreSharedKey(ExternalPsk(self.random.choice(list(PSKS)), self.entropy(self.suite.hash_size)))

    def resumption_psk(self) -> Proposal:
        """Of an epoch that the listener knows."""
        epoch = self.random.randint(self.joined_at, self.somebody.current.number)
        nonce = self.entropy(self.suite.hash_size)
        return PreSharedKey(ResumptionPsk(ResumptionUsage.APPLICATION, self.group_id, epoch, nonce))

    def extended(self) -> Proposal:
        return GroupContextExtensions(self.context_extensions())

    def private(self) -> Proposal:
        return Custom(PROPOSAL, self.random.randbytes(5))

    def some(self, *makers: Callable[[], Proposal]) -> list[Proposal]:
        return [make() for make in self.random.sample(makers, self.random.randint(1, len(makers)))]

    # -- how it happens -----------------------------------------------------------------------------

    def propose(self, name: str, proposal: Proposal) -> None:
        public = self.random.random() < 0.5
        self.deliver(self.groups[name].propose(proposal, entropy=self.entropy, public=public).message, name)

    def deliver(self, message: bytes, *senders: str) -> None:
        for name, group in self.groups.items():
            if name not in senders:
                content = group.receive(message).content
                assert isinstance(content, VerifiedProposal)
                self.proposed[content.reference] = content
        self.pending.append(message)

    def commit(self, name: str, proposals: Iterable[Proposal] = (), *, with_path: bool = True) -> StagedCommit:
        with_tree = self.random.random() < 0.5
        own = self.groups[name].commit(
            proposals,
            entropy=self.entropy,
            now_ns=0,
            with_path=with_path,
            public=self.random.random() < 0.5,
            welcomes=self.random.choice(list(Welcomes)),
            tree_in_welcome=with_tree,
            group_info_extensions=(Extension(GREASE, b"in a group info"), external_pub_extension(b"as in OpenMLS")),
        )
        self.groups[name].adopt(own.commit, now_ns=0)
        self.follow(name, own.commit, own.message, with_tree)
        return own.commit

    def commit_from_outside(self, name: str, replaces: LeafIndex | None = None) -> None:
        nonce = self.entropy(self.suite.hash_size)
        commit = make_external_commit(
            self.somebody.current.group_info(),
            self.bundles[name],
            entropy=self.entropy,
            replaces=replaces,
            self_removes=tuple(each for each in self.somebody.proposals() if isinstance(each.proposal, SelfRemove)),
            psk_ids=(ExternalPsk(b"door", nonce),) if self.random.random() < 0.5 else (),
            psks=self.psk,
        )
        ledger = self.groups[name].ledger if name in self.groups else None
        self.groups[name] = Group.join(commit, now_ns=0, ledger=ledger or SendLedger(), services=self.services)
        content, auth = commit.authenticated.content, commit.authenticated.auth
        self.follow(name, commit, encode_message(PublicMessage(content, auth)))

    def follow(self, author: str, commit: StagedCommit, message: bytes, with_tree: bool = True) -> None:
        """All others adopt it, and newcomers join."""
        for name, group in list(self.groups.items()):
            if name != author:
                found = group.receive(message).content
                assert isinstance(found, VerifiedCommit)
                group.adopt(group.stage(found, now_ns=0).commit, now_ns=0)
                if group.removed:
                    del self.groups[name]
        if self.case is not None:
            self.followed.update(self._described(commit))
            self.case["epochs"].append(
                {
                    "proposals": [each.hex() for each in self.pending],
                    "commit": message.hex(),
                    "epoch_authenticator": self.groups[author].current.authenticator.hex(),
                }
            )
        self.pending = []
        self.welcome(commit, with_tree)

    def welcome(self, commit: StagedCommit, with_tree: bool = True) -> None:
        """Whoever a commit adds joins, but for the listener, who is told how to."""
        assert commit.next is not None
        tree = None if with_tree else commit.next.tree
        names = {bundle.key_package: name for name, bundle in self.bundles.items()}
        places = {leaf: names[key_package] for leaf, key_package in commit.added}
        for sealed in commit.welcomes:
            for name in (places[leaf] for leaf in sealed.joiners):
                if name == LISTENER:
                    self.case = self._case(encode_message(sealed.welcome), tree, commit.next)
                    continue
                bundle = self.bundles[name]
                joined = stage_welcome(sealed.welcome, [bundle], ratchet_tree=tree, psks=self.psk, origins=self.origin)
                self.groups[name] = Group.join(joined, now_ns=0, services=self.services, ledger=SendLedger())
        epoch = self.somebody.current
        assert {group.current.authenticator for group in self.groups.values()} == {epoch.authenticator}
        self.past[epoch.group_id, epoch.number] = epoch.resumption_psk, self.somebody.origin()

    def _described(self, commit: StagedCommit) -> Iterator[str]:
        """Each proposal as the listener meets it: "Add by EXTERNAL", "ReInit by value"."""
        for each in commit.commit.proposals:
            if isinstance(each, ProposalRef):
                proposed = self.proposed[each.reference]
                yield f"{type(proposed.proposal).__name__} by {SenderType(proposed.sender.sender_type).name}"
            else:
                yield f"{type(each).__name__} by value"
        yield "external commit" if commit.external else "member's commit"
        yield "no path" if commit.commit.path is None else "path"

    # -- the listener -------------------------------------------------------------------------------

    def admit_listener(self) -> None:
        listener = self.newcomer(LISTENER)
        proposals = [Add(self.bundles[listener].key_package), *self.some(self.added, self.external_psk)]
        self.commit(self.anybody(), proposals, with_path=self.random.random() < 0.5)

    def _case(self, welcome: bytes, tree: RatchetTree | None, epoch: Epoch) -> Case:
        bundle = self.bundles[LISTENER]
        self.joined_at = epoch.number
        return {
            "cipher_suite": self.suite.id,
            "external_psks": [{"psk_id": name.hex(), "psk": psk.hex()} for name, psk in PSKS.items()],
            "key_package": encode_message(bundle.key_package).hex(),
            "signature_priv": bundle.signature_private.hex(),
            "encryption_priv": bundle.encryption_private.hex(),
            "init_priv": bundle.init_private.hex(),
            "welcome": welcome.hex(),
            "ratchet_tree": None if tree is None else tree.encode().hex(),
            "initial_epoch_authenticator": epoch.authenticator.hex(),
            "epochs": [],
        }

    # -- groups that continue this one --------------------------------------------------------------

    def branched(self) -> "History":
        """A group of the listener and some others."""
        names = self.random.sample(list(self.groups), MEMBERS_MIN - 1)
        next_one = History(self.suite, f"{self.seed} branched", self.past)
        founder, *others = [next_one.newcomer(name) for name in [*names, LISTENER]]
        commit = branch(
            self.somebody.current,
            next_one.bundles[founder],
            next_one.group_id,
            [next_one.bundles[name].key_package for name in others],
            entropy=self.entropy,
            extensions=next_one.context_extensions(),
        )
        return next_one.begun(founder, commit)

    def reinitialised(self, suite: CipherSuite) -> "History":
        """The same members in a new group of another suite; this one ends."""
        next_one = History(suite, f"{self.seed} reinitialised", self.past)
        proposal = ReInit(next_one.group_id, 1, suite.id, next_one.context_extensions())
        if self.random.random() < 0.5:
            self.propose(self.anybody(), proposal)
            self.commit(self.anybody())
        else:
            self.commit(self.anybody(), [proposal], with_path=self.random.random() < 0.5)
        founder, *others = [next_one.newcomer(name) for name in [*self.groups, LISTENER]]
        key_packages = [next_one.bundles[name].key_package for name in others]
        commit = reinitialise(self.somebody.current, next_one.bundles[founder], key_packages, entropy=self.entropy)
        return next_one.begun(founder, commit)

    def begun(self, founder: str, commit: StagedCommit) -> "History":
        assert commit.next is not None
        assert commit.keys is not None
        self.groups[founder] = Group(commit.next, commit.keys, ledger=SendLedger(), now_ns=0, services=self.services)
        self.welcome(commit)
        return self


def document(histories: Iterable[History]) -> list[Case]:
    return [case for history in histories if (case := history.case) is not None]
