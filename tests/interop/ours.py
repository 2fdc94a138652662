"""Our own implementation as a ``Member``: a ``Group`` driven the way an actor would drive it, without the storage.

What is decided here is what the protocol leaves to its caller: a commit of ours is adopted as soon as it is made,
one of theirs as soon as it arrives, and a resumption secret is taken from the epochs that are still kept.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final, Literal, TypeVar

from protocols.errors import LocalError, ProtocolError
from protocols.mls import proposals, psk
from protocols.mls.client import KeyPackageBundle, default_capabilities, lifetime_from, new_key_package
from protocols.mls.credentials import BasicCredential
from protocols.mls.epoch import Epoch
from protocols.mls.extensions import Extension, ExtensionType, find_extension
from protocols.mls.external import external_message, make_external_commit, propose_oneself
from protocols.mls.founding import branch, reinitialise
from protocols.mls.group import NANOSECONDS, Group
from protocols.mls.joining import Origin, stage_welcome
from protocols.mls.key_package import MLS_1_0, KeyPackage
from protocols.mls.message import MlsMessage, encode_message, parse
from protocols.mls.opening import ApplicationMessage, VerifiedCommit, VerifiedProposal
from protocols.mls.outcomes import Echo
from protocols.mls.policy import Policy
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.send_ledger import SendLedger
from protocols.mls.services import Services
from protocols.mls.signatures import SignatureKeyPair
from protocols.mls.staging import Checks
from protocols.mls.suite import CipherSuite, cipher_suite
from protocols.mls.welcome import GroupInfo, Welcome
from tests.interop.member import (
    Add,
    Committed,
    Custom,
    Extensions,
    ExternalPsk,
    GroupContextExtensions,
    Proposal,
    Received,
    Refused,
    ReInit,
    Remove,
    ResumptionPsk,
    Status,
    Update,
)

_Message = TypeVar("_Message", bound=MlsMessage)


@contextmanager
def _verdicts() -> Iterator[None]:
    """What our code raises, as the story's word for it: the rule's identifier, if a rule was broken."""
    try:
        yield
    except ProtocolError as error:
        raise Refused(f"{error.reason}: {error.detail}") from error
    except LocalError as error:
        raise Refused(f"LocalError: {error}") from error


class OurClient:
    """One client of ours: a ``Member``. What it draws follows from its name and cipher suite."""

    changes_context_by_path = True

    def __init__(self, name: str, suite: int) -> None:
        self._name: Final = name.encode()
        self._entropy: Final = Random(f"{name} {suite}").randbytes
        self._suite = cipher_suite(suite)
        self._signer = self._suite.signature_key_pair(self._entropy)
        self._bundles: list[KeyPackageBundle] = []
        self._psks: dict[bytes, bytes] = {}
        self._group: Group | None = None
        self._services: Final = Services(psks=self._psk, policy=Policy(accept=lambda *_: True))

    def key_package(self, suite: int | None = None) -> bytes:
        bundle = self._bundle(self._suite if suite is None else cipher_suite(suite))
        self._bundles.append(bundle)
        return encode_message(bundle.key_package)

    @_verdicts()
    def create_group(self, group_id: bytes, extensions: Extensions = ()) -> None:
        bundle = self._bundle(self._suite)
        self._group = Group.create(
            bundle,
            group_id,
            entropy=self._entropy,
            now_ns=self._now_ns(),
            extensions=_extensions(extensions),
            services=self._services,
        )

    @_verdicts()
    def join(self, welcome: bytes, tree: bytes = b"", resume: bool = False) -> None:
        message = _parsed(Welcome, welcome)
        ratchet_tree = RatchetTree.decode(cipher_suite(message.cipher_suite), tree) if tree else None
        staged = stage_welcome(
            message,
            self._bundles,
            ratchet_tree=ratchet_tree,
            psks=self._psk,
            origins=self._origin,
            checks=self._checks(),
        )
        self._group = Group.join(staged, now_ns=self._now_ns(), services=self._services, ledger=SendLedger())
        used = staged.epoch.own_leaf_node
        self._bundles = [each for each in self._bundles if each.key_package.leaf_node != used]
        self._signer = SignatureKeyPair(staged.epoch.signature_private, used.signature_key)
        self._suite = staged.epoch.suite

    @_verdicts()
    def external_commit(self, group_info: bytes, tree: bytes = b"", resync: bool = False) -> bytes:
        info = _parsed(GroupInfo, group_info)
        ratchet_tree = RatchetTree.decode(self._suite, tree) if tree else None
        shown = ratchet_tree or _tree_within(info, self._suite)
        commit = make_external_commit(
            info,
            self._bundle(self._suite),
            entropy=self._entropy,
            ratchet_tree=ratchet_tree,
            replaces=shown.leaf_of_signature_key(self._signer.public) if resync else None,
            checks=self._checks(),
        )
        ledger = None if self._group is None else self._group.ledger
        self._group = Group.join(commit, now_ns=self._now_ns(), ledger=ledger or SendLedger(), services=self._services)
        return encode_message(external_message(commit))

    @_verdicts()
    def propose_to_join(self, group_info: bytes) -> bytes:
        bundle = self._bundle(self._suite)
        self._bundles.append(bundle)
        return encode_message(propose_oneself(_parsed(GroupInfo, group_info), bundle))

    @_verdicts()
    def propose(self, proposal: Proposal, public: bool = False) -> bytes:
        if isinstance(proposal, Update):
            return self._in_group.propose_update(entropy=self._entropy, public=public).message
        return self._in_group.propose(self._proposal(proposal), entropy=self._entropy, public=public).message

    @_verdicts()
    def commit(self, *proposals: Proposal, public: bool = False, with_tree: bool = True) -> Committed:
        group = self._in_group
        own = group.commit(
            [self._proposal(each) for each in proposals],
            entropy=self._entropy,
            now_ns=self._now_ns(),
            tree_in_welcome=with_tree,
            public=public,
        )
        assert not own.rejected, own.rejected
        group.adopt(own.commit, now_ns=self._now_ns())
        welcomes = [encode_message(each.welcome) for each in own.commit.welcomes]
        return Committed(own.message, welcomes[0] if welcomes else None)

    @_verdicts()
    def process(self, message: bytes) -> Received:
        group = self._in_group
        match group.receive(message).content:
            case ApplicationMessage(data=data):
                return Received("application", data)
            case VerifiedProposal():
                return Received("proposal")
            case VerifiedCommit() as commit:
                group.adopt(group.stage(commit, now_ns=self._now_ns()).commit, now_ns=self._now_ns())
                return Received("commit", removed=group.removed)
            case Echo():
                raise Refused("Echo: a message of our own")

    @_verdicts()
    def encrypt(self, data: bytes, authenticated_data: bytes = b"") -> bytes:
        return self._in_group.send(data, entropy=self._entropy, authenticated_data=authenticated_data).message

    @_verdicts()
    def succeed(
        self, usage: Literal["reinit", "branch"], group_id: bytes, key_packages: Sequence[bytes], suite: int
    ) -> bytes:
        old, bundle = self._in_group.current, self._bundle(cipher_suite(suite))
        others = [_parsed(KeyPackage, each) for each in key_packages]
        if usage == "reinit":
            commit = reinitialise(old, bundle, others, entropy=self._entropy, checks=self._checks())
        else:
            commit = branch(old, bundle, group_id, others, entropy=self._entropy, checks=self._checks())
        self._group = Group.join(commit, now_ns=self._now_ns(), services=self._services, ledger=SendLedger())
        return encode_message(commit.welcomes[0].welcome)

    def store_psk(self, psk_id: bytes, psk: bytes) -> None:
        self._psks[psk_id] = psk

    def group_info(self, with_tree: bool = True) -> bytes:
        return encode_message(self._in_group.current.group_info(with_tree=with_tree))

    def ratchet_tree(self) -> bytes:
        return self._in_group.current.tree.encode()

    def export(self, label: str, context: bytes, length: int) -> bytes:
        return self._in_group.current.export(label.encode(), context, length)

    def status(self) -> Status:
        epoch = self._in_group.current
        context = epoch.context
        return Status(
            group_id=context.group_id,
            epoch=context.epoch,
            tree_hash=context.tree_hash,
            confirmed_transcript_hash=context.confirmed_transcript_hash,
            epoch_authenticator=epoch.authenticator,
            extensions=tuple((each.extension_type, each.extension_data) for each in context.extensions),
            members={index: _identity(leaf.credential) for index, leaf in epoch.tree.members()},
        )

    def own_index(self) -> int:
        return self._in_group.current.own_leaf

    # -- what the group asks, and what it is given ----------------------------------------------------

    @property
    def _in_group(self) -> Group:
        assert self._group is not None, "the story lets a client act before it is in a group"
        return self._group

    def _now_ns(self) -> int:
        """The clock that ts-mls reads too: it leaves nobody a choice."""
        return time.time_ns()

    def _checks(self) -> Checks:
        return Checks(now_s=self._now_ns() // NANOSECONDS)

    def _bundle(self, suite: CipherSuite) -> KeyPackageBundle:
        signer = self._signer if suite is self._suite else suite.signature_key_pair(self._entropy)
        return new_key_package(
            suite,
            BasicCredential(self._name),
            signature_private=signer.private,
            signature_public=signer.public,
            capabilities=default_capabilities(entropy=self._entropy),
            lifetime=lifetime_from(self._now_ns() // NANOSECONDS),
            entropy=self._entropy,
        )

    def _proposal(self, wanted: Proposal) -> proposals.Proposal:
        nonce = self._entropy(self._suite.hash_size)
        match wanted:
            case Add(key_package):
                return proposals.Add(_parsed(KeyPackage, key_package))
            case Remove(leaf):
                return proposals.Remove(leaf)
            case ExternalPsk(psk_id):
                return proposals.PreSharedKey(psk.ExternalPsk(psk_id, nonce))
            case ResumptionPsk(epoch):
                usage = psk.ResumptionUsage.APPLICATION
                return proposals.PreSharedKey(psk.ResumptionPsk(usage, self._in_group.group_id, epoch, nonce))
            case GroupContextExtensions(extensions):
                return proposals.GroupContextExtensions(_extensions(extensions))
            case ReInit(group_id, suite, extensions):
                return proposals.ReInit(group_id, MLS_1_0, suite, _extensions(extensions))
            case Custom(proposal_type, data):
                return proposals.Custom(proposal_type, data)
            case Update():
                raise Refused("LocalError: a committer updates by its path")

    def _psk(self, wanted: psk.PreSharedKeyId) -> bytes | None:
        if isinstance(wanted, psk.ExternalPsk):
            return self._psks.get(wanted.psk_id)
        epoch = self._kept(wanted.psk_group_id, wanted.psk_epoch)
        return None if epoch is None else epoch.resumption_psk

    def _origin(self, group_id: bytes, number: int) -> Origin | None:
        epoch = self._kept(group_id, number)
        return None if epoch is None else self._in_group.origin(epoch.authenticator)

    def _kept(self, group_id: bytes, number: int) -> Epoch | None:
        if self._group is None:
            return None
        epochs = map(self._group.epoch, self._group.epochs)
        return next((each for each in epochs if (each.group_id, each.number) == (group_id, number)), None)


def _parsed(kind: type[_Message], data: bytes) -> _Message:
    message = parse(data)
    assert isinstance(message, kind)
    return message


def _tree_within(info: GroupInfo, suite: CipherSuite) -> RatchetTree:
    data = find_extension(info.extensions, ExtensionType.RATCHET_TREE)
    assert data is not None
    return RatchetTree.decode(suite, data)


def _extensions(pairs: Extensions) -> tuple[Extension, ...]:
    return tuple(Extension(kind, data) for kind, data in pairs)


def _identity(credential: object) -> bytes:
    assert isinstance(credential, BasicCredential)
    return credential.identity
