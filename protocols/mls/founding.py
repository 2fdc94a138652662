"""The first epoch of a group (RFC 9420 §11), and groups that continue another (§11.2, §11.3)."""

from collections.abc import Sequence
from typing import NamedTuple

from protocols.errors import LocalError
from protocols.mls.client import KeyPackageBundle
from protocols.mls.committing import Welcomes, make_commit
from protocols.mls.epoch import Epoch, entered, take_message_keys
from protocols.mls.extensions import Extensions
from protocols.mls.framing import member
from protocols.mls.group_context import GroupContext
from protocols.mls.kem import drawn
from protocols.mls.key_package import MLS_1_0, KeyPackage
from protocols.mls.key_schedule import confirmation_tag, derived_secrets
from protocols.mls.leaf_node import LeafIndex
from protocols.mls.message_keys import MessageKeys
from protocols.mls.policy import DEFAULT_POLICY, Policy
from protocols.mls.proposal_rules import SentProposal
from protocols.mls.proposals import Add, PreSharedKey, Proposal
from protocols.mls.psk import PreSharedKeyId, ResumptionPsk, ResumptionUsage
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.staging import NO_CHECKS, Checks, StagedCommit
from protocols.mls.suite import Entropy, cipher_suite
from protocols.mls.tree_private import TreePrivate
from protocols.mls.validation import check_group_context_extensions, check_key_package


class Founded(NamedTuple):
    """A group of one."""

    epoch: Epoch
    keys: MessageKeys


def found(
    bundle: KeyPackageBundle,
    group_id: bytes,
    extensions: Extensions,
    entropy: Entropy,
    *,
    policy: Policy = DEFAULT_POLICY,
) -> Founded:
    """Epoch 0: the creator's leaf, and secrets that nobody else has.

    Raises:
        MlsError: our own key package, or the extensions, break a rule.
    """
    suite = cipher_suite(bundle.key_package.cipher_suite)
    leaf = bundle.key_package.leaf_node
    tree = RatchetTree.from_leaves(suite, [leaf])
    check_key_package(bundle.key_package, suite=suite, extensions=extensions, policy=policy)
    check_group_context_extensions(extensions, tree.support, suite=suite)
    context = GroupContext(MLS_1_0, suite.id, group_id, 0, tree.tree_hash, b"", extensions)
    secrets = derived_secrets(suite, drawn(entropy, suite.hash_size))
    tag = confirmation_tag(suite, secrets.confirmation_key, b"")
    own = LeafIndex(0)
    kept, keys = take_message_keys(suite, secrets, tree, own)
    private = TreePrivate(own, bundle.encryption_private, {})
    return Founded(entered(suite, context, tree, tag, kept, private, bundle.signature_private), keys)


def reinitialise(
    old: Epoch,
    bundle: KeyPackageBundle,
    key_packages: Sequence[KeyPackage],
    *,
    entropy: Entropy,
    welcomes: Welcomes = Welcomes.ONE_FOR_ALL,
    tree_in_welcome: bool = True,
    checks: Checks = NO_CHECKS,
) -> StagedCommit:
    """The group that a ReInit agreed on, with all members of the old one in it at once (§11.2).

    Args:
        old: the epoch that the commit of the ReInit began.
        key_packages: fresh ones of all other members, of the new cipher suite.

    Raises:
        MlsError: the ReInit's extensions, or a key package, break a rule.
        LocalError: no ReInit ended that epoch, or the one that did asks for another suite or for a later version.
    """
    wanted = old.reinit
    if wanted is None:
        raise LocalError(f"{old!r} was not ended by a ReInit proposal")
    if wanted.version != MLS_1_0:
        raise LocalError(f"the ReInit asks for version {wanted.version}, and groups here are of {MLS_1_0}")
    if bundle.key_package.cipher_suite != wanted.cipher_suite:
        raise LocalError(f"our key package is of suite {bundle.key_package.cipher_suite}, not {wanted.cipher_suite}")
    founded = found(bundle, wanted.group_id, wanted.extensions, entropy, policy=checks.policy)
    return _continued(old, founded, ResumptionUsage.REINIT, key_packages, entropy, welcomes, tree_in_welcome, checks)


def branch(
    old: Epoch,
    bundle: KeyPackageBundle,
    group_id: bytes,
    key_packages: Sequence[KeyPackage],
    *,
    entropy: Entropy,
    extensions: Extensions = (),
    welcomes: Welcomes = Welcomes.ONE_FOR_ALL,
    tree_in_welcome: bool = True,
    checks: Checks = NO_CHECKS,
) -> StagedCommit:
    """A group of some of the old one's members, bound to it (§11.3)."""
    if bundle.key_package.cipher_suite != old.suite.id:
        raise LocalError(f"a branch keeps the cipher suite: {old.suite.id}, not {bundle.key_package.cipher_suite}")
    founded = found(bundle, group_id, extensions, entropy, policy=checks.policy)
    return _continued(old, founded, ResumptionUsage.BRANCH, key_packages, entropy, welcomes, tree_in_welcome, checks)


def _continued(
    old: Epoch,
    founded: Founded,
    usage: ResumptionUsage,
    key_packages: Sequence[KeyPackage],
    entropy: Entropy,
    welcomes: Welcomes,
    tree_in_welcome: bool,
    checks: Checks,
) -> StagedCommit:
    """The first commit, which adds everybody and proves by the old group's secret that they were in it."""
    epoch = founded.epoch
    psk = ResumptionPsk(usage, old.group_id, old.number, drawn(entropy, epoch.suite.hash_size))

    def psks(wanted: PreSharedKeyId) -> bytes | None:
        return old.resumption_psk if wanted == psk else None

    sender = member(epoch.own_leaf)
    proposals: list[Proposal] = [*(Add(each) for each in key_packages), PreSharedKey(psk)]
    return make_commit(
        epoch,
        [SentProposal(each, sender, None) for each in proposals],
        entropy=entropy,
        psks=psks,
        welcomes=welcomes,
        tree_in_welcome=tree_in_welcome,
        checks=checks,
        follow_up=usage,
    )
