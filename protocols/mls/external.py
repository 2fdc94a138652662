"""From outside of a group (RFC 9420 §12.1.8, §12.4.3.2): external commits and external proposals."""

from collections.abc import Collection

from protocols.errors import LocalError
from protocols.mls.client import KeyPackageBundle
from protocols.mls.committing import NO_CHANGE, LeafMaker, complete_commit
from protocols.mls.epoch import Epoch, entered
from protocols.mls.errors import MlsError
from protocols.mls.extensions import external_pub
from protocols.mls.framing import (
    NEW_MEMBER_COMMIT,
    NEW_MEMBER_PROPOSAL,
    AuthenticatedContent,
    FramedContent,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
)
from protocols.mls.joining import believed_tree
from protocols.mls.key_schedule import EpochSecrets, send_external_init
from protocols.mls.leaf_node import LeafIndex
from protocols.mls.opening import VerifiedProposal
from protocols.mls.proposal_rules import SentProposal
from protocols.mls.proposals import Add, ExternalInit, PreSharedKey, Proposal, Remove, SelfRemove
from protocols.mls.protection import sign_content, verify_content
from protocols.mls.psk import PreSharedKeyId
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.signatures import SignatureKeyPair
from protocols.mls.staging import (
    NO_CHECKS,
    Checks,
    PskLookup,
    StagedCommit,
    known_psks,
    no_psks,
    propose_changes,
)
from protocols.mls.suite import CipherSuite, Entropy, cipher_suite
from protocols.mls.transcript import interim_transcript_hash
from protocols.mls.tree_private import TreePrivate
from protocols.mls.welcome import GroupInfo


def make_external_commit(
    group_info: GroupInfo,
    bundle: KeyPackageBundle,
    *,
    entropy: Entropy,
    ratchet_tree: RatchetTree | None = None,
    replaces: LeafIndex | None = None,
    self_removes: tuple[VerifiedProposal, ...] = (),
    psk_ids: tuple[PreSharedKeyId, ...] = (),
    psks: PskLookup = no_psks,
    authenticated_data: bytes = b"",
    groups: Collection[bytes] = (),
    checks: Checks = NO_CHECKS,
) -> StagedCommit:
    """Join without being added, or come back (§12.4.3.2).

    The result's ``next`` is the epoch that we are in if the group accepts the commit. It is made once on an epoch
    and sent again as it is: two by one signature key are evidence against it, as those of a member are.

    Args:
        bundle: the credential, capabilities and signature key to join with; its other keys are not used.
        replaces: the leaf that we had, to be removed by the same commit. It has our signature key, or members ask
            an authentication service whether the new one is ours too, as we do here (``checks``).
        groups: the ids of those in which we are, but for one to which we come back.
        self_removes: proposals of members who want to leave, which an external commit may carry out
            (``self_remove_from_outside``).

    Raises:
        MlsError: the group info or its tree break a rule, or the commit would.
    """
    suite = cipher_suite(group_info.group_context.cipher_suite)
    key = external_pub(group_info.extensions)
    if key is None:
        raise MlsError("12.4.3.2/no-external-pub", "the group info has no external_pub extension: it admits nobody")
    if (group_id := group_info.group_context.group_id) in groups:
        raise MlsError("12.4.3/group-id", f"we are in group {group_id.hex()} already")
    tree = believed_tree(group_info, suite, ratchet_tree, checks)
    signer = bundle.signer
    outside = _seen_from_outside(group_info, suite, tree, signer)
    kem_output, init_secret = send_external_init(suite, key, entropy)
    proposals: list[Proposal] = [ExternalInit(kem_output)]
    if replaces is not None:
        proposals.append(Remove(replaces))
    proposals += (PreSharedKey(each) for each in psk_ids)
    sent = [SentProposal(each, NEW_MEMBER_COMMIT, None) for each in proposals]
    sent += (SentProposal(each.proposal, each.sender, each.reference) for each in self_removes)
    maker = LeafMaker(outside, bundle.key_package.leaf_node, signer, NO_CHANGE)
    proposed = propose_changes(outside, sent, NEW_MEMBER_COMMIT, checks, path_leaf=maker.draft())
    return complete_commit(
        outside,
        proposed,
        NEW_MEMBER_COMMIT,
        sent,
        maker.path(proposed, entropy),
        signer.private,
        signer=signer,
        init_secret=init_secret,
        wire_format=WireFormat.PUBLIC_MESSAGE,
        psks=known_psks(proposed.proposals.psks, psks),
        authenticated_data=authenticated_data,
        entropy=entropy,
        run=checks.run,
    ).commit


def epoch_shown_by(group_info: GroupInfo) -> bytes:
    """What members can confirm to somebody outside, before he relies on a group info: their
    ``Epoch.interim_transcript_hash``. It covers the context and the confirmation tag, so in effect the secrets; the
    epoch authenticator (§8.7), which is made of those, nobody outside can compute."""
    context = group_info.group_context
    suite = cipher_suite(context.cipher_suite)
    return interim_transcript_hash(suite, context.confirmed_transcript_hash, group_info.confirmation_tag)


def external_message(commit: StagedCommit) -> PublicMessage:
    """An external commit of ours for the wire: it is always public, as nobody outside has a key to hide it with."""
    if not commit.external or not commit.own:
        raise LocalError(f"{commit!r} is no external commit of ours")
    return PublicMessage(commit.authenticated.content, commit.authenticated.auth)


def _seen_from_outside(group_info: GroupInfo, suite: CipherSuite, tree: RatchetTree, signer: SignatureKeyPair) -> Epoch:
    """The public half of an epoch: enough to commit on it from outside, and to do nothing else."""
    nothing = EpochSecrets(*(b"",) * len(EpochSecrets.__struct_fields__))
    private = TreePrivate(LeafIndex(0), b"", {})
    context, tag = group_info.group_context, group_info.confirmation_tag
    return entered(suite, context, tree, tag, nothing, private, signer.private)


def self_remove_from_outside(group_info: GroupInfo, tree: RatchetTree, message: PublicMessage) -> VerifiedProposal:
    """A member's wish to leave, as who joins by an external commit hears it and may carry it out.

    Its signature is checked; not its membership tag, for which only members have the key.

    Args:
        tree: the one of the group info, which ``make_external_commit`` is going to believe or not.

    Raises:
        MlsError: it is no SelfRemove of a member in the epoch of the group info.
    """
    context, content = group_info.group_context, message.content
    if content.group_id != context.group_id:
        raise MlsError("6/other-group", f"group {content.group_id.hex()}")
    if content.epoch != context.epoch:
        rule = "6/future-epoch" if content.epoch > context.epoch else "6/past-epoch"
        raise MlsError(rule, f"epoch {content.epoch}; the group info is of {context.epoch}")
    if not isinstance(proposal := content.content, SelfRemove):
        raise MlsError("12.4.3.2/proposal-by-reference", f"to a {type(content.content).__name__}")
    if content.sender.sender_type != SenderType.MEMBER:
        raise MlsError("12.1.8/sender-type", f"a SelfRemove by sender type {content.sender.sender_type}")
    leaf = tree.leaf(LeafIndex(content.sender.index))
    if leaf is None:
        raise MlsError("6/sender-not-member", f"leaf {content.sender.index} is blank")
    suite = cipher_suite(context.cipher_suite)
    signed = AuthenticatedContent(WireFormat.PUBLIC_MESSAGE, content, message.auth)
    verify_content(suite, leaf.signature_key, signed, context.encode())
    # Who is outside cannot know the authenticator of the epoch.
    return VerifiedProposal(b"", proposal, content.sender, suite.proposal_ref(signed.encode()), signed)


def propose_from_outside(
    context_of: GroupInfo, proposal: Proposal, sender_index: int, signer: SignatureKeyPair
) -> PublicMessage:
    """A proposal by one of the group's external senders (§12.1.8)."""
    return _outside(context_of, proposal, Sender(SenderType.EXTERNAL, sender_index), signer)


def propose_oneself(group_info: GroupInfo, bundle: KeyPackageBundle) -> PublicMessage:
    """A request to be added (§12.1.8): an Add proposal, signed by the key of the leaf that it would add."""
    package = bundle.key_package
    if package.cipher_suite != group_info.group_context.cipher_suite:
        raise LocalError(f"a key package of suite {package.cipher_suite} for a group of another")
    return _outside(group_info, Add(package), NEW_MEMBER_PROPOSAL, bundle.signer)


def _outside(group_info: GroupInfo, proposal: Proposal, sender: Sender, signer: SignatureKeyPair) -> PublicMessage:
    context = group_info.group_context
    content = FramedContent(context.group_id, context.epoch, sender, b"", proposal)
    suite = cipher_suite(context.cipher_suite)
    signed = sign_content(suite, *signer, WireFormat.PUBLIC_MESSAGE, content, b"")
    return PublicMessage(signed.content, signed.auth)
