"""A client before it is in any group (RFC 9420 §10): what it publishes, and the private keys that it keeps for it.

A key package is used once: the Welcome that answers it is sealed to its init key, and who still has that key can
open the Welcome. A client publishes many and keeps one, marked as the last resort, for when they are used up.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from protocols.errors import LocalError
from protocols.mls.codec import Reader, decode, opaque, read_version, uint8
from protocols.mls.credentials import Credential, CredentialType
from protocols.mls.extensions import DEFAULT_EXTENSIONS, GREASE, Extension, Extensions, ExtensionType
from protocols.mls.key_package import KEY_PACKAGE_LABEL, MLS_1_0, KeyPackage
from protocols.mls.leaf_node import LEAF_NODE_LABEL, Capabilities, LeafNode, LeafNodeSource, Lifetime
from protocols.mls.proposals import ProposalType
from protocols.mls.signatures import SignatureKeyPair
from protocols.mls.suite import SUITES, CipherSuite, Entropy

_VERSION: Final = 1

CLOCK_SKEW_S: Final = 3600
"""How far a key package's lifetime begins in the past: some clocks of those who will read it are slow."""

LIFETIME_S: Final = 84 * 24 * 3600
"""Twelve weeks, as other implementations have it."""


def default_capabilities(suites: Iterable[int] = tuple(SUITES), entropy: Entropy | None = None) -> Capabilities:
    """What this implementation supports, and with ``entropy`` a value that nobody does (GREASE, §13.5).

    One and the same value goes into each list. Four independent ones would make fifty thousand different
    capabilities of one, and a group of thousands is only as quick as its members are alike.
    """
    grease = () if entropy is None else (sorted(GREASE)[entropy(1)[0] % len(GREASE)],)
    return Capabilities(
        versions=(MLS_1_0,),
        cipher_suites=(*suites, *grease),
        extensions=(ExtensionType.LAST_RESORT_KEY_PACKAGE, *grease),
        proposals=(ProposalType.SELF_REMOVE, *grease),
        credentials=(CredentialType.BASIC, CredentialType.X509, *grease),
    )


def lifetime_from(now_s: int, seconds: int = LIFETIME_S) -> Lifetime:
    return Lifetime(max(0, now_s - CLOCK_SKEW_S), now_s + seconds)


class KeyPackageBundle(msgspec.Struct, frozen=True):
    """A key package with the private keys of its three public ones."""

    key_package: KeyPackage
    init_private: bytes
    """Erase it once the group joined with it is durable, unless the key package is a last resort."""
    encryption_private: bytes
    signature_private: bytes

    def __repr__(self) -> str:
        leaf = self.key_package.leaf_node
        return f"KeyPackageBundle({leaf.credential}, init_key={self.key_package.init_key.hex()[:16]})"

    @property
    def signer(self) -> SignatureKeyPair:
        return SignatureKeyPair(self.signature_private, self.key_package.leaf_node.signature_key)

    @property
    def is_last_resort(self) -> bool:
        """Whether it may be used more than once (draft-ietf-mls-extensions)."""
        kinds = (each.extension_type for each in self.key_package.extensions)
        return ExtensionType.LAST_RESORT_KEY_PACKAGE in kinds

    def to_bytes(self) -> bytes:
        """Private keys included: to be sealed by whoever stores it."""
        private = (self.init_private, self.encryption_private, self.signature_private)
        return uint8(_VERSION) + self.key_package.encode() + b"".join(map(opaque, private))

    @classmethod
    def from_bytes(cls, data: bytes) -> "KeyPackageBundle":
        return decode(cls.read, data)

    @classmethod
    def read(cls, reader: Reader) -> "KeyPackageBundle":
        read_version(reader, "a key package", _VERSION)
        return cls(KeyPackage.read(reader), reader.opaque(), reader.opaque(), reader.opaque())


def new_key_package(
    suite: CipherSuite,
    credential: Credential,
    *,
    signature_private: bytes,
    signature_public: bytes,
    capabilities: Capabilities,
    lifetime: Lifetime,
    extensions: Extensions = (),
    leaf_extensions: Extensions = (),
    last_resort: bool = False,
    entropy: Entropy,
) -> KeyPackageBundle:
    """A fresh one. Its ``leaf_node`` can also be the first leaf of a new group.

    Raises:
        LocalError: ``capabilities`` do not list the type of an extension, or of the credential (§7.2, §10).
    """
    if last_resort:
        extensions = (*extensions, Extension(ExtensionType.LAST_RESORT_KEY_PACKAGE, b""))
    listed = DEFAULT_EXTENSIONS.union(capabilities.extensions)
    if unlisted := [each for each in (*extensions, *leaf_extensions) if each.extension_type not in listed]:
        raise LocalError(f"an extension of type {unlisted[0].extension_type} that the capabilities do not list")
    if credential.credential_type not in capabilities.credentials:
        raise LocalError(f"a credential of type {credential.credential_type} that the capabilities do not list")
    encryption_private, encryption_key = suite.kem.derive_key_pair(suite.kem.draw_ikm(entropy))
    init_private, init_key = suite.kem.derive_key_pair(suite.kem.draw_ikm(entropy))
    leaf = LeafNode(
        encryption_key=encryption_key,
        signature_key=signature_public,
        credential=credential,
        capabilities=capabilities,
        source=LeafNodeSource.KEY_PACKAGE,
        lifetime=lifetime,
        parent_hash=None,
        extensions=leaf_extensions,
        signature=b"",
    )
    leaf = signed_leaf_node(leaf, suite, signature_private)
    unsigned = KeyPackage(MLS_1_0, suite.id, init_key, leaf, extensions, b"")
    key_package = signed_key_package(unsigned, suite, signature_private)
    return KeyPackageBundle(key_package, init_private, encryption_private, signature_private)


def signed_leaf_node(
    leaf: LeafNode, suite: CipherSuite, signature_private: bytes, group_id: bytes = b"", leaf_index: int = 0
) -> LeafNode:
    """Outside of a key package it is signed for one place in one group (§7.2)."""
    content = leaf.to_be_signed(group_id, leaf_index)
    signature = suite.sign_with_label(signature_private, leaf.signature_key, LEAF_NODE_LABEL, content)
    return msgspec.structs.replace(leaf, signature=signature)


def signed_key_package(key_package: KeyPackage, suite: CipherSuite, signature_private: bytes) -> KeyPackage:
    public = key_package.leaf_node.signature_key
    signature = suite.sign_with_label(signature_private, public, KEY_PACKAGE_LABEL, key_package.to_be_signed())
    return msgspec.structs.replace(key_package, signature=signature)
