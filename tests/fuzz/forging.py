"""Mallory: a member with all the keys and none of the scruples (RFC 9420 §16.12).

Nothing here asks whether what it makes is allowed. Whatever was changed is signed again by whoever owns the key,
tagged, encrypted, and given the confirmation tag that it would have if it were allowed; so a receiver finds
nothing wrong with it but the one thing that is.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from protocols.errors import LocalError
from protocols.mls.client import KeyPackageBundle, signed_key_package, signed_leaf_node
from protocols.mls.codec import opaque, uint8, uint32, uint64
from protocols.mls.commit import Commit, ProposalRef
from protocols.mls.committing import NO_CHANGE, LeafMaker
from protocols.mls.epoch import Epoch, Secrets, scheduled
from protocols.mls.errors import MlsError
from protocols.mls.framing import (
    NEW_MEMBER_COMMIT,
    AuthenticatedContent,
    FramedContent,
    FramedContentAuthData,
    PrivateMessage,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    content_type,
    member,
)
from protocols.mls.group import Group
from protocols.mls.group_context import GroupContext
from protocols.mls.key_schedule import external_key_pair, send_external_init
from protocols.mls.leaf_node import LeafNode, LeafNodeSource
from protocols.mls.message import encode_message
from protocols.mls.proposal_rules import SentProposal
from protocols.mls.proposals import Add, ExternalInit, Proposal, Update
from protocols.mls.protection import membership_tag, ratchet_of, sender_data_key_nonce, sign_content
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.ratchets import MessageKey
from protocols.mls.staging import Proposed, final_context, known_psks, propose_changes
from protocols.mls.suite import SignatureKeyPair
from protocols.mls.treekem import NewPath, apply_path, new_path
from protocols.mls.update_path import UpdatePath
from tests.fuzz.draws import Draws
from tests.fuzz.mutations import mutated
from tests.fuzz.world import CHECKS, MALLORY, World, entropy_of, psks

PROPOSALS_MAX: Final = 5
"""Of her own in a commit: enough for any two to be in each other's way."""


class Forged(NamedTuple):
    """A commit, and what its author knows of the epoch that it leads to, if it leads anywhere."""

    authenticated: AuthenticatedContent
    proposed: Proposed
    tree: RatchetTree
    context: GroupContext
    secrets: Secrets
    path: NewPath | None


class Mallory:
    """One input's worth of her. ``draws`` decides everything that is not decided by what she wants."""

    def __init__(self, world: World, group: Group, draws: Draws) -> None:
        self.world: Final = world
        self.group: Final = group
        self.epoch: Final[Epoch] = group.current
        self.draws: Final = draws
        self.entropy: Final = entropy_of("mallory")
        self.signer: Final = world.keys[self.epoch.own_leaf_node.signature_key]

    def changed(self, value: Any, times: int = 3) -> Any:
        """Up to so many changes, none if the bytes are used up."""
        return mutated(value, self.draws, self.world.donors, self.draws.below(times + 1))

    # -- proposals ------------------------------------------------------------------------------------------

    def proposal(self) -> Proposal:
        """One that is nearly sound."""
        choice = self.draws.below(len(self.world.proposals) + 1)
        if choice == len(self.world.proposals):
            return self.resigned(Update(self.changed(self._updated_leaf())), MALLORY)
        proposal = self.world.proposals[choice]
        if isinstance(proposal, Add):
            return self.resigned(Add(self.changed(proposal.key_package)), MALLORY)
        changed: Proposal = self.changed(proposal)
        return changed

    def _updated_leaf(self) -> LeafNode:
        suite = self.epoch.suite
        _, public = suite.kem.derive_key_pair(suite.kem.draw_ikm(self.entropy))
        return msgspec.structs.replace(
            self.epoch.own_leaf_node,
            encryption_key=public,
            source=LeafNodeSource.UPDATE,
            lifetime=None,
            parent_hash=None,
        )

    def resigned(self, proposal: Proposal, index: int) -> Proposal:
        """With the signatures that belong there, where somebody has the key for them."""
        if isinstance(proposal, Update):
            return Update(self.signed_leaf(proposal.leaf_node, index))
        if isinstance(proposal, Add):
            package = proposal.key_package
            package = msgspec.structs.replace(package, leaf_node=self.signed_leaf(package.leaf_node, 0))
            signer = self.world.keys.get(package.leaf_node.signature_key)
            if signer is not None and not self.draws.chance(16):
                package = signed_key_package(package, self.epoch.suite, signer.private)
            return Add(package)
        return proposal

    def signed_leaf(self, leaf: LeafNode, index: int) -> LeafNode:
        signer = self.world.keys.get(leaf.signature_key)
        if signer is None or self.draws.chance(16):
            return leaf
        return signed_leaf_node(leaf, self.epoch.suite, signer.private, self.epoch.group_id, index)

    # -- commits --------------------------------------------------------------------------------------------

    def commit(self) -> Forged:
        """Mallory's own, of her proposals and of those that wait."""
        sent = [
            SentProposal(self.proposal(), member(MALLORY), None) for _ in range(self.draws.below(PROPOSALS_MAX + 1))
        ]
        sent += self._waiting(3)
        with_path = not self.draws.chance(4)
        leaf = self.epoch.own_leaf_node
        return self.committed(member(MALLORY), sent, leaf, self.signer, self.epoch.secrets.init_secret, with_path)

    def _waiting(self, one_in: int) -> list[SentProposal]:
        chosen = [each for each in self.group.proposals() if self.draws.chance(one_in)]
        return [SentProposal(each.proposal, each.sender, each.reference) for each in chosen]

    def external_commit(self, bundle: KeyPackageBundle) -> Forged:
        """That of somebody outside, whom she tells what she knows."""
        epoch = self.epoch
        leaf = bundle.key_package.leaf_node
        _, public = external_key_pair(epoch.suite, epoch.secrets.external_secret)
        kem_output, init_secret = send_external_init(epoch.suite, public, self.entropy)
        proposals = [ExternalInit(kem_output), *(self.proposal() for _ in range(self.draws.below(3)))]
        sent = [SentProposal(each, NEW_MEMBER_COMMIT, None) for each in proposals]
        sent += self._waiting(4)
        signer = self.world.keys[leaf.signature_key]
        return self.committed(NEW_MEMBER_COMMIT, sent, leaf, signer, init_secret, True)

    def committed(
        self,
        committer: Sender,
        sent: Sequence[SentProposal],
        leaf: LeafNode,
        signer: SignatureKeyPair,
        init_secret: bytes,
        with_path: bool,
    ) -> Forged:
        epoch, suite = self.epoch, self.epoch.suite
        maker = LeafMaker(epoch, leaf, signer, NO_CHANGE)
        proposed = self._proposed(sent, committer, maker.draft() if with_path else None)
        tree, commit_secret, path, update_path = proposed.tree, bytes(suite.hash_size), None, None
        if with_path:
            path, update_path, tree = self._path(proposed, maker)
            commit_secret = path.commit_secret
        items = tuple(ProposalRef(each.reference) if each.reference else each.proposal for each in sent)
        commit: Commit = self.changed(Commit(items, update_path), 1)
        content: FramedContent = FramedContent(epoch.group_id, epoch.number, committer, b"", commit)
        if self.draws.chance(4):
            content = msgspec.structs.replace(self.changed(content), content=commit)
        wire_format = WireFormat.PRIVATE_MESSAGE if self.draws.chance(2) else WireFormat.PUBLIC_MESSAGE
        if content.sender.sender_type != SenderType.MEMBER:
            wire_format = WireFormat.PUBLIC_MESSAGE
        signed = sign_content(suite, signer.private, signer.public, wire_format, content, epoch.context_bytes)
        context = final_context(epoch, proposed, tree, signed)
        secrets = scheduled(suite, context, init_secret, commit_secret, self._psks(proposed))
        tag = self.draws.altered(secrets.confirmation_tag) if self.draws.chance(16) else secrets.confirmation_tag
        signed = AuthenticatedContent(
            signed.wire_format, signed.content, FramedContentAuthData(signed.auth.signature, tag)
        )
        return Forged(signed, proposed, tree, context, secrets, path)

    def _proposed(self, sent: Sequence[SentProposal], committer: Sender, leaf: LeafNode | None) -> Proposed:
        """What these proposals make of the group; if they may not be, what none would make of it."""
        try:
            return propose_changes(self.epoch, sent, committer, CHECKS, path_leaf=leaf)
        except MlsError:
            least = sent[:1] if committer == NEW_MEMBER_COMMIT else ()
            return propose_changes(self.epoch, least, committer, CHECKS, path_leaf=leaf or self.epoch.own_leaf_node)

    def _path(self, proposed: Proposed, maker: LeafMaker) -> tuple[NewPath, UpdatePath, RatchetTree]:
        """A sound path, how it is sent, and the tree that a receiver makes of that."""

        def make(parent_hash: bytes, encryption_key: bytes) -> LeafNode:
            leaf = msgspec.structs.replace(maker.draft(), parent_hash=parent_hash, encryption_key=encryption_key)
            changed = self.changed(leaf) if self.draws.chance(2) else leaf
            kept = msgspec.structs.replace(
                changed, parent_hash=parent_hash, encryption_key=encryption_key, source=LeafNodeSource.COMMIT
            )
            return self.signed_leaf(kept, proposed.committer)

        path = new_path(proposed.tree, proposed.committer, make, self.entropy)
        context = proposed.provisional(path.tree.tree_hash).encode()
        if self.draws.chance(8):
            context = self.draws.altered(context)
        update_path = path.encrypt(context, proposed.joiners, self.entropy)
        if not self.draws.chance(3):
            return path, update_path, path.tree
        changed: UpdatePath = self.changed(update_path)
        changed = msgspec.structs.replace(changed, leaf_node=self.signed_leaf(changed.leaf_node, proposed.committer))
        try:
            tree = apply_path(proposed.tree, proposed.committer, changed, proposed.joiners)
        except MlsError:
            tree = path.tree
        return path, changed, tree

    def _psks(self, proposed: Proposed) -> Any:
        def lookup(psk: Any) -> bytes:
            return psks(psk) or self.epoch.resumption_psk

        return known_psks(proposed.proposals.psks, lookup)

    # -- messages -------------------------------------------------------------------------------------------

    def sent(self, content: Any, *, sender: Sender | None = None, signer: SignatureKeyPair | None = None) -> bytes:
        """A proposal or application data in a message, with some of that changed too."""
        epoch, by = self.epoch, member(MALLORY) if sender is None else sender
        framed = FramedContent(epoch.group_id, epoch.number, by, self.draws.take(self.draws.below(4)), content)
        if self.draws.chance(4):
            framed = self.changed(framed)
        private = framed.sender.sender_type == SenderType.MEMBER and self.draws.chance(2)
        wire_format = WireFormat.PRIVATE_MESSAGE if private else WireFormat.PUBLIC_MESSAGE
        key = signer or self.signer
        return self.protected(
            sign_content(epoch.suite, key.private, key.public, wire_format, framed, epoch.context_bytes)
        )

    def protected(self, authenticated: AuthenticatedContent) -> bytes:
        """For the wire, as its wire format says."""
        if authenticated.wire_format == WireFormat.PRIVATE_MESSAGE:
            return encode_message(self._private(authenticated))
        epoch = self.epoch
        tag = None
        if authenticated.content.sender.sender_type == SenderType.MEMBER:
            tag = membership_tag(epoch.suite, epoch.secrets.membership_key, authenticated, epoch.context_bytes)
        message = PublicMessage(authenticated.content, authenticated.auth, tag)
        return encode_message(self.changed(message) if self.draws.chance(16) else message)

    def _private(self, authenticated: AuthenticatedContent) -> PrivateMessage:
        """By hand, as ``seal_private`` would refuse most of it: other senders, other padding, far generations."""
        draws, epoch, suite = self.draws, self.epoch, self.epoch.suite
        content = authenticated.content
        kind = content_type(content.content)
        generation = draws.below(2048) if draws.chance(4) else draws.below(3)
        key = self._key(kind, generation)
        plaintext = content.content.encode() + authenticated.auth.encode()
        plaintext += draws.take(draws.below(8)) if draws.chance(4) else bytes(draws.below(64))
        head = opaque(content.group_id) + uint64(content.epoch) + uint8(kind)
        guard = draws.take(4).ljust(4, b"\0")
        nonce = bytes(one ^ other for one, other in zip(key.nonce, guard.ljust(len(key.nonce), b"\0"), strict=True))
        ciphertext = suite.aead(key.key).encrypt(nonce, plaintext, head + opaque(content.authenticated_data))
        leaf = draws.choice((0, 2, 3, 4, 5, 7, 2**31, 2**32 - 1)) if draws.chance(8) else content.sender.index
        named = draws.choice((0, 1023, 1024, 2**32 - 1)) if draws.chance(8) else key.generation
        data = uint32(leaf) + uint32(named) + guard
        if draws.chance(16):
            data = draws.altered(data)
        sender_key, sender_nonce = sender_data_key_nonce(suite, epoch.secrets.sender_data_secret, ciphertext)
        sealed = suite.aead(sender_key).encrypt(sender_nonce, data, head)
        message = PrivateMessage(content.group_id, content.epoch, kind, content.authenticated_data, sealed, ciphertext)
        changed: PrivateMessage = self.changed(message) if draws.chance(16) else message
        return changed

    def _key(self, kind: int, generation: int) -> MessageKey:
        """Of this generation, or the next that she has not used yet."""
        keys, ratchet = self.group._kept[self.epoch.authenticator].keys, ratchet_of(kind)
        while True:
            try:
                return keys.advance(ratchet, generation)
            except LocalError:
                generation += 1
