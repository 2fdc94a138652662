"""Which leaves, key packages and extensions are sound (RFC 9420 §7.3, §10.1, §13.4).

A leaf has to be sound in itself, for its group, and beside all other members: each must support the credential
type of each. Asking every pair is what makes joining quadratic elsewhere. Here the members are asked at once, by
the summary that the tree keeps (``RatchetTree.support``): what all of them support, and what any of them uses.

What is unique among members is not looked at here, as it can only be said of a whole list of proposals
(``proposal_list``) or of a whole tree (``tree_validation``).

Capabilities "MUST NOT" list default types (§7.2). We never do, and ignore it where others do: releases of most
libraries have listed them, such leaves are in groups now, and what is listed without need harms nobody. In the same
way GREASE among a key package's extensions need not be listed (§10): mlspp draws it twice and lists another value.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from protocols.mls.chunks import Run, in_chunks
from protocols.mls.credentials import Authenticate, Credential
from protocols.mls.errors import MlsError
from protocols.mls.extensions import (
    DEFAULT_EXTENSIONS,
    GREASE,
    IN_GROUP_CONTEXT,
    IN_GROUP_INFO,
    IN_KEY_PACKAGE,
    IN_LEAF_NODE,
    Extensions,
    ExtensionType,
    RequiredCapabilities,
    external_senders,
    required_capabilities,
)
from protocols.mls.group_context import GroupContext
from protocols.mls.key_package import KEY_PACKAGE_LABEL, MLS_1_0, KeyPackage
from protocols.mls.leaf_node import LEAF_NODE_LABEL, LeafNode, LeafNodeSource
from protocols.mls.policy import DEFAULT_POLICY, Policy
from protocols.mls.proposals import DEFAULT_PROPOSALS
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.suite import CipherSuite
from protocols.mls.support import Support

_KNOWN: Final = IN_LEAF_NODE | IN_KEY_PACKAGE | IN_GROUP_CONTEXT | IN_GROUP_INFO


# -- signatures -------------------------------------------------------------------------------------


class SignatureClaim(msgspec.Struct, frozen=True, gc=False):
    """Something said to be signed; ``rule`` is what a false claim breaks."""

    rule: str
    public: bytes
    label: bytes
    content: bytes
    signature: bytes


def leaf_signature(leaf: LeafNode, group_id: bytes, leaf_index: int) -> SignatureClaim:
    content = leaf.to_be_signed(group_id, leaf_index)
    return SignatureClaim("7.3/leaf-signature", leaf.signature_key, LEAF_NODE_LABEL, content, leaf.signature)


def key_package_signatures(key_package: KeyPackage) -> tuple[SignatureClaim, SignatureClaim]:
    """The leaf's and the whole one's, by one key (§10.1)."""
    leaf = leaf_signature(key_package.leaf_node, b"", 0)
    content = key_package.to_be_signed()
    return leaf, SignatureClaim(
        "10.1/key-package-signature", leaf.public, KEY_PACKAGE_LABEL, content, key_package.signature
    )


def forgeries(suite: CipherSuite, claims: Sequence[SignatureClaim], run: Run = map) -> Iterator[int]:
    """The positions of claims that are false, in order."""

    def false(claims: Sequence[tuple[int, SignatureClaim]]) -> Iterator[int]:
        for position, each in claims:
            if not suite.verify_with_label(each.public, each.label, each.content, each.signature):
                yield position

    return in_chunks(run, false, tuple(enumerate(claims)))


def check_signatures(suite: CipherSuite, claims: Sequence[SignatureClaim]) -> None:
    for position in forgeries(suite, claims):
        raise MlsError(claims[position].rule)


# -- leaves -----------------------------------------------------------------------------------------


class Demands(msgspec.Struct, frozen=True):
    """What a group's extensions ask of each member's capabilities."""

    suite: CipherSuite
    extensions: tuple[int, ...]
    """The types in the group context that are not default ones."""
    required: RequiredCapabilities


DEMANDS_MAX: Final = 256
DEMANDS_SIZE_MAX: Final = 4096
"""Groups' extensions whose demands are remembered, and the bytes of each: anybody's group info is asked about too. They
take 10 MB at most; longer ones, with certificates of external senders, are read anew in microseconds."""


def demands(suite: CipherSuite, extensions: Extensions) -> Demands:
    """Remembered, as a list of a thousand Adds asks a thousand times."""
    size = sum(4 + len(each.extension_data) for each in extensions)
    return (_demands if size <= DEMANDS_SIZE_MAX else _demands.__wrapped__)(suite, extensions)


@lru_cache(maxsize=DEMANDS_MAX)
def _demands(suite: CipherSuite, extensions: Extensions) -> Demands:
    types = (each.extension_type for each in extensions)
    required = required_capabilities(extensions) or RequiredCapabilities()
    return Demands(suite, tuple(each for each in types if each not in DEFAULT_EXTENSIONS), required)


def check_leaf_node(
    leaf: LeafNode,
    *,
    suite: CipherSuite,
    source: LeafNodeSource,
    group_id: bytes,
    leaf_index: int,
    extensions: Extensions,
    support: Support | None,
    now_s: int | None = None,
    authenticate: Authenticate | None = None,
    policy: Policy = DEFAULT_POLICY,
    signature: bool = True,
) -> None:
    """All of §7.3 but uniqueness.

    Args:
        extensions: those of the group context, as the commit leaves them (§12.3).
        support: what the other members support and use; None if that is asked elsewhere.
        now_s: Unix time; None leaves the lifetime open, which is no more than a recommendation on receipt.
        authenticate: the authentication service; None trusts every credential.
        signature: False if the caller checks signatures, many at a time.

    Raises:
        MlsError: of §5.3.1, §7.2, §7.3, §13.4, §17.3 or erratum 8745.
    """
    if leaf.source != source:
        raise MlsError("7.3/leaf-source", f"source {leaf.source} where {source.name} belongs")
    check_leaf_itself(leaf, suite=suite, now_s=now_s, authenticate=authenticate, policy=policy)
    check_abilities(leaf, demands(suite, extensions))
    if support is not None:
        check_credentials_beside(leaf, support)
    if signature:
        check_signatures(suite, (leaf_signature(leaf, group_id, leaf_index),))


def check_leaf_itself(
    leaf: LeafNode,
    *,
    suite: CipherSuite,
    now_s: int | None,
    authenticate: Authenticate | None,
    policy: Policy = DEFAULT_POLICY,
) -> None:
    """What can be said of a leaf without knowing its group."""
    capabilities = leaf.capabilities
    if leaf.credential.credential_type in GREASE:
        raise MlsError("13.5/grease-credential-type", f"type {leaf.credential.credential_type:#06x}")
    if leaf.credential.credential_type not in capabilities.credentials:
        raise MlsError("7.2/credential-type", f"type {leaf.credential.credential_type}")
    listed = _listed_extensions(leaf) if leaf.extensions else DEFAULT_EXTENSIONS
    for extension in leaf.extensions:
        kind = extension.extension_type
        if kind in _KNOWN and kind not in IN_LEAF_NODE:
            raise MlsError("17.3/extension-place", f"type {kind} in a leaf")
        if kind not in listed:
            raise MlsError("7.3/extension-support", f"type {kind}")
    if (lifetime := leaf.lifetime) is not None:
        longest = policy.lifetime_max_s
        if longest is not None and lifetime.not_after - lifetime.not_before > longest:
            raise MlsError("7.2/lifetime-too-long", f"{lifetime.not_after - lifetime.not_before} s")
        if now_s is not None and not lifetime.not_before <= now_s <= lifetime.not_after:
            raise MlsError("7.3/lifetime", f"{lifetime.not_before} to {lifetime.not_after}, it is {now_s}")
    suite.check_public(leaf.encryption_key)
    check_credential(leaf.credential, leaf.signature_key, authenticate)


def check_abilities(leaf: LeafNode, wanted: Demands) -> None:
    """Whether a leaf's capabilities are enough for its group."""
    capabilities = leaf.capabilities
    if MLS_1_0 not in capabilities.versions:
        raise MlsError("7.2/unsupported-version", f"capabilities list {capabilities.versions}")
    if wanted.suite.id not in capabilities.cipher_suites:
        raise MlsError("7.2/unsupported-cipher-suite", f"capabilities list {capabilities.cipher_suites}")
    required = wanted.required
    if not (
        _all_in(required.extension_types, capabilities.extensions, DEFAULT_EXTENSIONS)
        and _all_in(required.proposal_types, capabilities.proposals, DEFAULT_PROPOSALS)
        and _all_in(required.credential_types, capabilities.credentials)
    ):
        raise MlsError("7.3/required-capabilities", f"{capabilities} for {required}")
    listed = _listed_extensions(leaf) if wanted.extensions else DEFAULT_EXTENSIONS
    for kind in wanted.extensions:
        if kind not in listed:
            # §13.4 asks it of those who are added only; without the erratum an Update could take it back.
            added = leaf.source == LeafNodeSource.KEY_PACKAGE
            raise MlsError("13.4/context-extension-support" if added else "erratum-8745/extension-support", f"{kind}")


def check_credentials_beside(leaf: LeafNode, support: Support) -> None:
    """Whether a leaf's credential type suits the other members, and theirs suit it (§7.3)."""
    kind = leaf.credential.credential_type
    if not support.all_support_credential(kind):
        raise MlsError("7.3/credential-support", f"not every member supports credential type {kind}")
    if not support.credentials_in_use.issubset(leaf.capabilities.credentials):
        in_use = sorted(support.credentials_in_use)
        raise MlsError("7.3/credential-support", f"types {in_use} are in use, {leaf.capabilities.credentials} listed")


def check_credential(credential: Credential, signature_key: bytes, authenticate: Authenticate | None) -> None:
    if authenticate is not None and not authenticate(credential, signature_key):
        raise MlsError("5.3.1/credential", f"of type {credential.credential_type}")


def _all_in(wanted: tuple[int, ...], listed: tuple[int, ...], default: frozenset[int] = frozenset()) -> bool:
    return not wanted or default.union(listed).issuperset(wanted)


def _listed_extensions(leaf: LeafNode) -> frozenset[int]:
    """A set, as a stranger may list a million types, and use sixty thousand."""
    return DEFAULT_EXTENSIONS.union(leaf.capabilities.extensions)


# -- key packages -----------------------------------------------------------------------------------


def check_key_package(
    key_package: KeyPackage,
    *,
    suite: CipherSuite,
    extensions: Extensions = (),
    support: Support | None = None,
    now_s: int | None = None,
    authenticate: Authenticate | None = None,
    policy: Policy = DEFAULT_POLICY,
    signatures: bool = True,
) -> None:
    """§10.1. Without ``extensions`` and ``support`` it says whether the key package is fit for any group at all.

    Raises:
        MlsError: of §10.1, or as ``check_leaf_node`` does.
    """
    if key_package.version != MLS_1_0:
        raise MlsError("10.1/version", f"version {key_package.version}")
    if key_package.cipher_suite != suite.id:
        raise MlsError("10.1/cipher-suite", f"{key_package.cipher_suite:#06x} in a group of {suite.id:#06x}")
    leaf = key_package.leaf_node
    if key_package.init_key == leaf.encryption_key:
        raise MlsError("10.1/init-key")
    listed = _listed_extensions(leaf) if key_package.extensions else DEFAULT_EXTENSIONS
    for extension in key_package.extensions:
        kind = extension.extension_type
        if kind in _KNOWN and kind not in IN_KEY_PACKAGE:
            raise MlsError("17.3/extension-place", f"type {kind} in a key package")
        if kind == ExtensionType.LAST_RESORT_KEY_PACKAGE and extension.extension_data:
            raise MlsError("extensions-draft/last-resort-data", f"{len(extension.extension_data)} bytes")
        if kind not in listed and kind not in GREASE:
            raise MlsError("10/extension-support", f"type {kind}")
    check_leaf_node(
        leaf,
        suite=suite,
        source=LeafNodeSource.KEY_PACKAGE,
        group_id=b"",
        leaf_index=0,
        extensions=extensions,
        support=support,
        now_s=now_s,
        authenticate=authenticate,
        policy=policy,
        signature=False,
    )
    suite.check_public(key_package.init_key)
    if signatures:
        check_signatures(suite, key_package_signatures(key_package))


# -- groups -----------------------------------------------------------------------------------------


def check_group_context_extensions(
    extensions: Extensions,
    support: Support | None,
    *,
    suite: CipherSuite,
    authenticate: Authenticate | None = None,
) -> None:
    """Whether a group of such members can have these extensions (§12.1.7, §12.1.8.1, §13.4).

    Raises:
        MlsError: of §12.1.7, §13.4, §13.5 or §17.3; of §2 if the data of a known type is malformed.
    """
    for extension in extensions:
        if extension.extension_type in GREASE:
            raise MlsError("13.5/grease-context-extension", f"type {extension.extension_type:#06x}")
        if extension.extension_type in _KNOWN and extension.extension_type not in IN_GROUP_CONTEXT:
            raise MlsError("17.3/extension-place", f"type {extension.extension_type} in a group context")
    for sender in external_senders(extensions):
        suite.check_signature_public(sender.signature_key)
        check_credential(sender.credential, sender.signature_key, authenticate)
    wanted = demands(suite, extensions)
    if support is None:
        return
    required = wanted.required
    if not (
        all(map(support.all_support_extension, required.extension_types))
        and all(map(support.all_support_proposal, required.proposal_types))
        and all(map(support.all_support_credential, required.credential_types))
    ):
        raise MlsError("12.1.7/required-capabilities", f"{required}")
    for kind in wanted.extensions:
        if not support.all_support_extension(kind):
            raise MlsError("13.4/context-extension-support", f"not every member supports type {kind}")


def check_members(
    tree: RatchetTree,
    context: GroupContext,
    *,
    authenticate: Authenticate | None = None,
    policy: Policy = DEFAULT_POLICY,
) -> None:
    """Every leaf of a tree that somebody shows us (§12.4.3.1): linear, and without the signatures.

    Raises:
        MlsError: as ``check_leaf_node`` and ``check_group_context_extensions`` do.
    """
    suite = tree.suite
    check_group_context_extensions(context.extensions, None, suite=suite, authenticate=authenticate)
    wanted = demands(suite, context.extensions)
    for _, leaf in tree.members():
        check_leaf_itself(leaf, suite=suite, now_s=None, authenticate=authenticate, policy=policy)
        check_abilities(leaf, wanted)
    support = tree.support
    if not support.credentials_in_use <= support.common_credentials:
        missing = sorted(support.credentials_in_use - support.common_credentials)
        raise MlsError("7.3/credential-support", f"types {missing} are in use and not supported by all")
