"""The leaves that a commit brings, beside those that stay (RFC 9420 §7.3, §12.2).

What has to be unique is unique among the members *after* the commit: a key may pass from one member to the next
in one list, and no order of looking at the proposals makes a difference. The members who stay are not visited; the
tree knows their keys by an index, and what they support by a summary.

Where leaves clash, the one further back in the list is at fault, and is no bar to those behind it: whoever leaves
out all that are at fault has as many as go together, found in one pass.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from protocols.mls.errors import MlsError
from protocols.mls.leaf_node import LeafIndex, LeafNode
from protocols.mls.policy import Policy
from protocols.mls.proposal_rules import ProposalError
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


def credential_faults(fresh: Sequence[FreshLeaf], staying: Support) -> Iterator[ProposalError]:
    """Each new leaf beside those who stay and those before it: all support the credential types of all (§7.3)."""
    seen = staying
    for leaf, _, position in fresh:
        try:
            check_credentials_beside(leaf, seen)
        except MlsError as error:
            yield ProposalError(error.reason, error.detail, position)
        else:
            seen = seen.joined(leaf_support(leaf))


def client_faults(
    fresh: Sequence[FreshLeaf], tree: RatchetTree, gone: Collection[LeafIndex], policy: Policy
) -> Iterator[ProposalError]:
    """Nobody is added twice, or while a member (§12.2): one signature key, or what the application calls one client."""
    added = [each for each in fresh if each.place is None and each.position is not None]
    if not added:
        return
    left = frozenset(gone)
    client = policy.client
    members: frozenset[bytes] = frozenset()
    if client is not None:
        members = frozenset(client(leaf.credential) for index, leaf in tree.members() if index not in left)
    keys: set[bytes] = set()
    names: set[bytes] = set()
    for leaf, _, position in added:
        holder = tree.leaf_of_signature_key(leaf.signature_key)
        name = None if client is None else client(leaf.credential)
        if (holder is not None and holder not in left) or name in members:
            yield ProposalError("12.2/already-member", f"{leaf.credential}", position)
        elif leaf.signature_key in keys or name in names:
            yield ProposalError("12.2/duplicate-add", f"{leaf.credential}", position)
        else:
            keys.add(leaf.signature_key)
            if name is not None:
                names.add(name)


def key_faults(
    fresh: Sequence[FreshLeaf], tree: RatchetTree, staying: RatchetTree, gone: Collection[LeafIndex]
) -> Iterator[ProposalError]:
    """No key stands twice in the tree that the commit leaves (§7.3, and beside those of parents §12.4.3.1)."""
    vacated = frozenset([*gone, *(each.place for each in fresh if each.place is not None)])
    signature_keys: set[bytes] = set()
    encryption_keys: set[bytes] = set()
    for leaf, _, position in fresh:
        holder = tree.leaf_of_signature_key(leaf.signature_key)
        if (holder is not None and holder not in vacated) or leaf.signature_key in signature_keys:
            yield ProposalError("7.3/duplicate-signature-key", leaf.signature_key.hex(), position)
            continue
        # The first tree's index is there already; the second's matters if a parent has the key, and is blanked.
        taken = tree.has_encryption_key(leaf.encryption_key) and staying.has_encryption_key(leaf.encryption_key)
        if taken or leaf.encryption_key in encryption_keys:
            yield ProposalError("7.3/duplicate-encryption-key", leaf.encryption_key.hex(), position)
            continue
        signature_keys.add(leaf.signature_key)
        encryption_keys.add(leaf.encryption_key)
