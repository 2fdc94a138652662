"""The leaves that a commit brings, beside those that stay (RFC 9420 §7.3, §12.2).

What has to be unique is unique among the members *after* the commit: a key may pass from one member to the next
in one list, and no order of looking at the proposals makes a difference. The members who stay are not visited; the
tree knows their keys by an index, and what they support by a summary.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from protocols.mls.leaf_node import LeafIndex, LeafNode
from protocols.mls.policy import Policy
from protocols.mls.proposal_rules import ProposalError, at
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.support import Support, leaf_support
from protocols.mls.validation import check_credentials_beside


class FreshLeaf(NamedTuple):
    """A leaf of an Add, an Update or a path."""

    leaf: LeafNode
    place: LeafIndex | None
    """Whose leaf it replaces; None for somebody who joins."""
    position: int | None
    """Of the proposal that has it; None for the path's."""


def staying_members(tree: RatchetTree, gone: Collection[LeafIndex], fresh: Sequence[FreshLeaf]) -> RatchetTree:
    """The members whose leaves the commit leaves alone, and the parents that it does not blank."""
    changed = [*gone, *(each.place for each in fresh if each.place is not None)]
    return tree.changed({}, changed, ())[0] if changed else tree


def check_credentials_together(fresh: Sequence[FreshLeaf], staying: Support) -> None:
    """Each new leaf beside those who stay and those before it: all support the credential types of all (§7.3)."""
    seen = staying
    for each in fresh:
        with at(each.position):
            check_credentials_beside(each.leaf, seen)
        seen = seen.joined(leaf_support(each.leaf))


def check_clients(fresh: Sequence[FreshLeaf], tree: RatchetTree, gone: Collection[LeafIndex], policy: Policy) -> None:
    """Nobody is added twice, or while a member (§12.2): one signature key, or what the application calls one client."""
    added = [each for each in fresh if each.place is None and each.position is not None]
    if not added:
        return
    left = frozenset(gone)
    client = policy.client
    members: frozenset[bytes] = frozenset()
    if client is not None:
        members = frozenset(client(leaf.credential) for index, leaf in tree.members() if index not in left)
    keys: dict[bytes, int] = {}
    names: dict[bytes, int] = {}
    for number, (leaf, _, position) in enumerate(added):
        holder = tree.leaf_of_signature_key(leaf.signature_key)
        already = holder is not None and holder not in left
        twice = keys.setdefault(leaf.signature_key, number) != number
        if client is not None:
            name = client(leaf.credential)
            already = already or name in members
            twice = twice or names.setdefault(name, number) != number
        if already or twice:
            raise ProposalError(
                "12.2/already-member" if already else "12.2/duplicate-add", f"{leaf.credential}", position
            )


def check_keys(
    fresh: Sequence[FreshLeaf], tree: RatchetTree, staying: RatchetTree, gone: Collection[LeafIndex]
) -> None:
    """No key stands twice in the tree that the commit leaves (§7.3, and beside those of parents §12.4.3.1)."""
    vacated = frozenset([*gone, *(each.place for each in fresh if each.place is not None)])
    signature_keys: dict[bytes, int] = {}
    encryption_keys: dict[bytes, int] = {}
    for number, (leaf, _, position) in enumerate(fresh):
        holder = tree.leaf_of_signature_key(leaf.signature_key)
        taken = holder is not None and holder not in vacated
        if taken or signature_keys.setdefault(leaf.signature_key, number) != number:
            raise ProposalError("7.3/duplicate-signature-key", leaf.signature_key.hex(), position)
        # The first tree's index is there already; the second's matters if a parent has the key, and is blanked.
        taken = tree.has_encryption_key(leaf.encryption_key) and staying.has_encryption_key(leaf.encryption_key)
        if taken or encryption_keys.setdefault(leaf.encryption_key, number) != number:
            raise ProposalError("7.3/duplicate-encryption-key", leaf.encryption_key.hex(), position)
