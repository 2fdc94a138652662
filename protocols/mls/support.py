"""What all members of a group support, kept with the tree so that nobody is asked twice (RFC 9420 §7.2, §7.3).

Whether an extension may be used depends on every member; whether a member may join, on every credential in use.
Asking leaf by leaf makes a join quadratic. Sets of what everybody has and of what somebody uses can be joined in
any grouping, so each subtree keeps its own and a changed leaf redoes its ancestors only. As most members run the
same software most joins are of one object with itself.
"""

from functools import lru_cache
from typing import Final

import msgspec

from protocols.mls.extensions import DEFAULT_EXTENSIONS
from protocols.mls.leaf_node import Capabilities, LeafNode
from protocols.mls.proposals import DEFAULT_PROPOSALS

SUPPORTS_MAX: Final = 4096
"""Distinct sets, and pairs of them, remembered in the process: one for each release of each client in use."""

SUPPORT_COUNT_MAX: Final = 128
"""What is listed by a set that is remembered, or by a pair: ours list 21. Whoever sends us a tree has a say in what is
remembered; with this bound it takes 90 MB at most."""

_NONE: Final[frozenset[int]] = frozenset()


class Support(msgspec.Struct, frozen=True, gc=False):
    """``common``: every member lists it; ``in_use``: some member's leaf has it. Nobody at all supports everything."""

    members: bool = False
    common_versions: frozenset[int] = _NONE
    common_cipher_suites: frozenset[int] = _NONE
    common_extensions: frozenset[int] = _NONE
    common_proposals: frozenset[int] = _NONE
    common_credentials: frozenset[int] = _NONE
    credentials_in_use: frozenset[int] = _NONE
    extensions_in_use: frozenset[int] = _NONE

    def all_support_version(self, version: int) -> bool:
        return not self.members or version in self.common_versions

    def all_support_cipher_suite(self, cipher_suite: int) -> bool:
        return not self.members or cipher_suite in self.common_cipher_suites

    def all_support_extension(self, extension_type: int) -> bool:
        """The default types need no listing (§7.2)."""
        return not self.members or extension_type in DEFAULT_EXTENSIONS or extension_type in self.common_extensions

    def all_support_proposal(self, proposal_type: int) -> bool:
        """The default types need no listing (§7.2)."""
        return not self.members or proposal_type in DEFAULT_PROPOSALS or proposal_type in self.common_proposals

    def all_support_credential(self, credential_type: int) -> bool:
        return not self.members or credential_type in self.common_credentials

    def joined(self, other: "Support") -> "Support":
        """Of the members of both."""
        if self is other:
            return self
        return (_joined if self._count + other._count <= SUPPORT_COUNT_MAX else _joined.__wrapped__)(self, other)

    @property
    def _count(self) -> int:
        return (
            len(self.common_versions)
            + len(self.common_cipher_suites)
            + len(self.common_extensions)
            + len(self.common_proposals)
            + len(self.common_credentials)
            + len(self.credentials_in_use)
            + len(self.extensions_in_use)
        )


def leaf_support(leaf_node: LeafNode) -> Support:
    """Of one member."""
    in_use = tuple(each.extension_type for each in leaf_node.extensions)
    kept = leaf_node.capabilities.count + len(in_use) <= SUPPORT_COUNT_MAX
    recall = _leaf_support if kept else _leaf_support.__wrapped__
    return recall(leaf_node.capabilities, leaf_node.credential.credential_type, in_use)


@lru_cache(maxsize=SUPPORTS_MAX)
def _leaf_support(listed: Capabilities, credential_type: int, in_use: tuple[int, ...]) -> Support:
    return Support(
        True,
        frozenset(listed.versions),
        frozenset(listed.cipher_suites),
        frozenset(listed.extensions),
        frozenset(listed.proposals),
        frozenset(listed.credentials),
        frozenset((credential_type,)),
        frozenset(in_use),
    )


@lru_cache(maxsize=SUPPORTS_MAX)
def _joined(one: Support, other: Support) -> Support:
    if not one.members:
        return other
    if not other.members:
        return one
    return Support(
        True,
        one.common_versions & other.common_versions,
        one.common_cipher_suites & other.common_cipher_suites,
        one.common_extensions & other.common_extensions,
        one.common_proposals & other.common_proposals,
        one.common_credentials & other.common_credentials,
        one.credentials_in_use | other.credentials_in_use,
        one.extensions_in_use | other.extensions_in_use,
    )
