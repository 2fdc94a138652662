"""Joining from a Welcome (RFC 9420 §12.4.3.1), and believing a group info (§12.4.3).

A join is staged like a commit: the epoch is computed whole and can be looked at, and refused, before anything
depends on it. Only when the joiner's first epoch is durable may the key package's private keys be erased, as a
Welcome cannot be opened twice.
"""

from collections.abc import Callable, Collection, Sequence
from hmac import compare_digest
from typing import TypeAlias

import msgspec

from protocols.crypto import CryptoError, open_sealed
from protocols.mls.client import KeyPackageBundle
from protocols.mls.codec import decode
from protocols.mls.credentials import Credential
from protocols.mls.epoch import Epoch, entered, take_message_keys
from protocols.mls.errors import MlsError
from protocols.mls.extensions import IN_GROUP_INFO, Extensions, ExtensionType, find_extension
from protocols.mls.group_context import GroupContext
from protocols.mls.key_package import MLS_1_0
from protocols.mls.key_schedule import EpochSecrets, confirmation_tag, epoch_secrets, welcome_key_nonce, welcome_secret
from protocols.mls.leaf_node import LeafIndex
from protocols.mls.message_keys import MessageKeys
from protocols.mls.policy import Policy
from protocols.mls.proposals import ReInit
from protocols.mls.psk import PreSharedKeyId, ResumptionPsk, ResumptionUsage, psk_secret
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.staging import NO_CHECKS, Checks, PskLookup, known_psks, no_psks
from protocols.mls.suite import CipherSuite, cipher_suite
from protocols.mls.treekem import private_from_welcome
from protocols.mls.validation import check_members
from protocols.mls.welcome import GROUP_INFO_LABEL, EncryptedGroupSecrets, GroupInfo, GroupSecrets, Welcome


class Origin(msgspec.Struct, frozen=True):
    """What a reinitialised or branched group has to agree with: the epoch that it came from (§11.2, §11.3)."""

    context: GroupContext
    tree: RatchetTree
    reinit: ReInit | None


OriginLookup: TypeAlias = Callable[[bytes, int], Origin | None]
"""An epoch of some group by group id and number; None if it is not kept here."""


def no_origin(_group_id: bytes, _epoch: int) -> Origin | None:
    """The lookup of those who keep no other groups."""
    return None


class OpenedWelcome(msgspec.Struct, frozen=True, eq=False):
    """What a Welcome says, before there is a tree to hold it against."""

    suite: CipherSuite
    bundle: KeyPackageBundle
    """The key package of ours that it is for."""
    group_secrets: GroupSecrets
    psk_secret: bytes
    group_info: GroupInfo

    def __repr__(self) -> str:
        return f"OpenedWelcome(for {self.bundle!r}, of group {self.group_info.group_context.group_id.hex()})"

    def epoch_secrets(self) -> EpochSecrets:
        """The secrets of the epoch that it leads to.

        Raises:
            MlsError: ``12.4.3.1/confirmation-tag``.
        """
        context, joiner = self.group_info.group_context, self.group_secrets.joiner_secret
        secrets = epoch_secrets(self.suite, joiner, self.psk_secret, context.encode())
        tag = confirmation_tag(self.suite, secrets.confirmation_key, context.confirmed_transcript_hash)
        if not compare_digest(tag, self.group_info.confirmation_tag):
            raise MlsError("12.4.3.1/confirmation-tag", "the group info's is not that of its epoch")
        return secrets


class StagedJoin(msgspec.Struct, frozen=True, eq=False):
    """A group that we can join: its epoch, and who signed for it."""

    epoch: Epoch
    keys: MessageKeys
    bundle: KeyPackageBundle
    """Whose Welcome it was: when the group is durable, its private keys go, but for a last resort's."""
    signer: LeafIndex
    psks: tuple[PreSharedKeyId, ...]
    extensions: Extensions
    """Of the group info, but for the tree and the external_pub: what the inviter says beside the group context."""


def stage_welcome(
    welcome: Welcome,
    bundles: Sequence[KeyPackageBundle],
    *,
    ratchet_tree: RatchetTree | None = None,
    psks: PskLookup = no_psks,
    origins: OriginLookup = no_origin,
    groups: Collection[bytes] = (),
    checks: Checks = NO_CHECKS,
) -> StagedJoin:
    """Open a Welcome with whichever of our key packages it is for.

    Args:
        ratchet_tree: the tree, where the Welcome does not carry it.
        origins: our epochs of other groups, for a group that continues one of them.
        groups: the ids of those in which we are.

    Raises:
        MlsError: a rule is broken, by the rule that it names.
    """
    opened = open_welcome(welcome, bundles, psks=psks)
    suite, bundle, group_secrets, group_info = opened.suite, opened.bundle, opened.group_secrets, opened.group_info
    context = group_info.group_context
    if context.group_id in groups:
        raise MlsError("12.4.3/group-id", f"we are in group {context.group_id.hex()} already")
    tree = believed_tree(group_info, suite, ratchet_tree, checks)
    leaf = tree.leaf_of_signature_key(bundle.key_package.leaf_node.signature_key)
    if leaf is None or tree.leaf(leaf) != bundle.key_package.leaf_node:
        raise MlsError("12.4.3.1/own-leaf", "the leaf of our key package is not in the tree")
    signer = LeafIndex(group_info.signer)
    private = private_from_welcome(tree, leaf, bundle.encryption_private, group_secrets.path_secret, signer)
    check_origin(group_secrets.psks, context, tree, origins, checks.policy)
    kept, keys = take_message_keys(suite, opened.epoch_secrets(), tree, leaf)
    epoch = entered(suite, context, tree, group_info.confirmation_tag, kept, private, bundle.signature_private)
    # Some peers put the external_pub in Welcomes too. It is not believed: ours comes from the key schedule.
    more = tuple(each for each in group_info.extensions if each.extension_type not in IN_GROUP_INFO)
    return StagedJoin(epoch, keys, opened.bundle, signer, group_secrets.psks, more)


def open_welcome(welcome: Welcome, bundles: Sequence[KeyPackageBundle], *, psks: PskLookup = no_psks) -> OpenedWelcome:
    """Which group it is, so that a joiner knows whose tree to ask for; nothing of it is to be relied on yet.

    Raises:
        MlsError: it is for none of our key packages, or does not open, or is of no shape that may be.
    """
    suite = cipher_suite(welcome.cipher_suite)
    bundle, entry = _addressee(suite, welcome, bundles)
    group_secrets = decode(
        GroupSecrets.read,
        suite.decrypt_with_label(
            bundle.init_private,
            bundle.key_package.init_key,
            b"Welcome",
            welcome.encrypted_group_info,
            entry.encrypted_group_secrets.kem_output,
            entry.encrypted_group_secrets.ciphertext,
        ),
    )
    _check_psk_usages(group_secrets.psks, suite)
    psk = psk_secret(suite, known_psks(group_secrets.psks, psks))
    key, nonce = welcome_key_nonce(suite, welcome_secret(suite, group_secrets.joiner_secret, psk))
    try:
        plaintext = open_sealed(suite.aead(key), nonce, b"", welcome.encrypted_group_info)
    except CryptoError:
        raise MlsError("12.4.3.1/group-info", "it does not open: another joiner secret or PSK sealed it") from None
    group_info = decode(GroupInfo.read, plaintext)
    context = group_info.group_context
    if (context.version, context.cipher_suite) != (bundle.key_package.version, bundle.key_package.cipher_suite):
        raise MlsError("12.4.3.1/version-or-suite", "the group's are not those of our key package")
    return OpenedWelcome(suite, bundle, group_secrets, psk, group_info)


def _addressee(
    suite: CipherSuite, welcome: Welcome, bundles: Sequence[KeyPackageBundle]
) -> tuple[KeyPackageBundle, EncryptedGroupSecrets]:
    ours = {
        suite.key_package_ref(each.key_package.encode()): each
        for each in bundles
        if each.key_package.cipher_suite == suite.id
    }
    for entry in welcome.secrets:
        if (bundle := ours.get(entry.new_member)) is not None:
            return bundle, entry
    raise MlsError(
        "12.4.3.1/not-for-us", f"none of our {len(bundles)} key packages is among its {len(welcome.secrets)}"
    )


def _check_psk_usages(psks: tuple[PreSharedKeyId, ...], suite: CipherSuite) -> None:
    resuming = [each for each in psks if isinstance(each, ResumptionPsk) and each.usage != ResumptionUsage.APPLICATION]
    if len(resuming) > 1:
        raise MlsError("12.4.3.1/several-origins", "more than one PSK for reinitialisation or branching")
    if any(len(each.psk_nonce) != suite.hash_size for each in psks):
        raise MlsError("12.1.4/psk-nonce-size", f"a PSK nonce has not the {suite.hash_size} bytes of the hash")
    if len(set(psks)) != len(psks):
        raise MlsError("12.2/duplicate-psk", "a Welcome names a PSK twice")


def believed_tree(
    group_info: GroupInfo, suite: CipherSuite, ratchet_tree: RatchetTree | None, checks: Checks
) -> RatchetTree:
    """The tree of a group info, with all that §12.4.3.1 wants checked before anybody relies on it."""
    context = group_info.group_context
    if context.version != MLS_1_0 or context.cipher_suite != suite.id:
        raise MlsError("12.4.3.1/version-or-suite", f"version {context.version}, suite {context.cipher_suite}")
    tree = ratchet_tree
    if tree is None:
        data = find_extension(group_info.extensions, ExtensionType.RATCHET_TREE)
        if data is None:
            raise MlsError("12.4.3.1/no-tree", "the group info has no ratchet_tree extension and none was given")
        tree = RatchetTree.decode(suite, data)
    signer = tree.leaf(LeafIndex(group_info.signer))
    if signer is None:
        raise MlsError("12.4.3.1/signer", f"leaf {group_info.signer}, which signed the group info, is blank")
    content = group_info.to_be_signed()
    if not suite.verify_with_label(signer.signature_key, GROUP_INFO_LABEL, content, group_info.signature):
        raise MlsError("12.4.3.1/signature", "the group info is not signed by its signer")
    if tree.tree_hash != context.tree_hash:
        raise MlsError("12.4.3.1/tree-hash", "the tree is not the one of the group context")
    tree.validate_structure()
    tree.verify_parent_keys(checks.run)
    tree.verify_parent_hashes()
    # Not the lifetimes: a key package that was good when its owner was added may be long over (§7.3).
    check_members(tree, context, authenticate=checks.authenticate, policy=checks.policy)
    tree.verify_leaf_signatures(context.group_id, checks.run)
    return tree


def check_origin(
    psks: tuple[PreSharedKeyId, ...],
    context: GroupContext,
    tree: RatchetTree,
    origins: OriginLookup,
    policy: Policy,
) -> None:
    """A group that continues another is what that one agreed on (§11.2), or a part of it (§11.3)."""
    for psk in psks:
        if not isinstance(psk, ResumptionPsk) or psk.usage == ResumptionUsage.APPLICATION:
            continue
        if context.epoch != 1:
            raise MlsError("11.2/first-epoch", f"a group that continues another is joined at epoch {context.epoch}")
        origin = origins(psk.psk_group_id, psk.psk_epoch)
        if origin is None:
            raise MlsError("11.2/unknown-origin", f"epoch {psk.psk_epoch} of group {psk.psk_group_id.hex()}")
        if psk.usage == ResumptionUsage.REINIT:
            _check_reinit(origin, context, tree, policy)
        else:
            _check_branch(origin, context, tree, policy)


def _check_reinit(origin: Origin, context: GroupContext, tree: RatchetTree, policy: Policy) -> None:
    if origin.reinit is None:
        raise MlsError("11.2/not-reinitialised", "the old group committed no ReInit in that epoch")
    wanted = origin.reinit
    agreed = (wanted.group_id, wanted.version, wanted.cipher_suite, wanted.extensions)
    if agreed != (context.group_id, context.version, context.cipher_suite, context.extensions):
        raise MlsError("11.2/other-parameters", "group id, version, suite or extensions are not those of the ReInit")
    if _clients(tree, policy) != _clients(origin.tree, policy):
        raise MlsError("11.2/other-members", "the members are not those of the old group")


def _check_branch(origin: Origin, context: GroupContext, tree: RatchetTree, policy: Policy) -> None:
    if (origin.context.version, origin.context.cipher_suite) != (context.version, context.cipher_suite):
        raise MlsError("11.3/other-parameters", "version or suite are not those of the old group")
    if not frozenset(_clients(origin.tree, policy)).issuperset(_clients(tree, policy)):
        raise MlsError("11.3/other-members", "a member was none of the old group")


def _clients(tree: RatchetTree, policy: Policy) -> list[bytes]:
    """Who is in a group, however their keys changed: §11.3 leaves to the application who is the same."""
    name = policy.client or _encoded
    return sorted(name(leaf.credential) for _, leaf in tree.members())


def _encoded(credential: Credential) -> bytes:
    return credential.encode()
