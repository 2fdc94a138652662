"""One proposal for itself (RFC 9420 §12.1): who may send it, and whether what it contains is sound.

That is all that can be said of it on arrival. Whether it goes together with others, and which extensions bind it
when a commit changes those, is decided once it stands in a list (``proposal_list``).
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from protocols.errors import LocalError
from protocols.mls.credentials import Authenticate
from protocols.mls.errors import MlsError
from protocols.mls.extensions import GREASE, Extensions, external_senders
from protocols.mls.framing import Sender, SenderType
from protocols.mls.group_context import GroupContext
from protocols.mls.key_package import MLS_1_0
from protocols.mls.leaf_node import LeafIndex, LeafNode, LeafNodeSource
from protocols.mls.policy import DEFAULT_POLICY, Policy
from protocols.mls.proposals import (
    DEFAULT_PROPOSALS,
    Add,
    Custom,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ProposalType,
    ReInit,
    Remove,
    SelfRemove,
    Update,
)
from protocols.mls.psk import PreSharedKeyId, ResumptionPsk, ResumptionUsage
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.suite import CipherSuite, cipher_suite
from protocols.mls.support import Support
from protocols.mls.validation import (
    SignatureClaim,
    check_group_context_extensions,
    check_key_package,
    check_leaf_node,
    check_signatures,
    key_package_signatures,
    leaf_signature,
)

_T = ProposalType
MAY_PROPOSE: Final[dict[int, frozenset[int]]] = {
    SenderType.MEMBER: frozenset({*DEFAULT_PROPOSALS, _T.SELF_REMOVE} - {_T.EXTERNAL_INIT}),
    SenderType.EXTERNAL: frozenset({_T.ADD, _T.REMOVE, _T.PSK, _T.REINIT, _T.GROUP_CONTEXT_EXTENSIONS}),
    SenderType.NEW_MEMBER_PROPOSAL: frozenset({_T.ADD}),
    SenderType.NEW_MEMBER_COMMIT: frozenset({_T.EXTERNAL_INIT, _T.REMOVE, _T.PSK}),
}
"""Who may propose what (§12.1.8, §12.4.3.2 and the registry of §17.4). Custom types are for members only."""


class SentProposal(msgspec.Struct, frozen=True):
    """A proposal and who sent it; ``reference`` is None for one that a commit has by value."""

    proposal: Proposal
    sender: Sender
    reference: bytes | None = None


class ProposalError(MlsError):
    """A rule that one proposal of a list breaks: the one at ``position``, or the list without it if None.

    ``others`` are what else was found by the same check, for who leaves all offenders out at once.
    """

    def __init__(
        self, reason: str, detail: str = "", position: int | None = None, others: tuple["ProposalError", ...] = ()
    ) -> None:
        super().__init__(reason, detail)
        self.position = position
        self.others = others

    def __reduce__(self) -> tuple[type["ProposalError"], tuple[object, ...]]:  # type: ignore[override]
        return type(self), (self.reason, self.detail, self.position, self.others)


class at:  # noqa: N801
    """Puts a proposal's position on the errors that checking it raises."""

    __slots__ = ("position",)

    def __init__(self, position: int | None) -> None:
        self.position = position

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, MlsError) and not isinstance(error, ProposalError):
            raise ProposalError(error.reason, error.detail, self.position) from None


def leaf_concerned(sent: SentProposal) -> int | None:
    """The leaf that a proposal replaces or removes."""
    if isinstance(sent.proposal, Remove):
        return sent.proposal.removed
    return sent.sender.index if isinstance(sent.proposal, Update | SelfRemove) else None


def who_may(sender: Sender, proposal: Proposal) -> bool:
    """Whether this type of sender may propose this at all."""
    if isinstance(proposal, Custom):
        return sender.sender_type == SenderType.MEMBER
    return proposal.proposal_type in MAY_PROPOSE[sender.sender_type]


def check_proposal(
    sent: SentProposal,
    *,
    suite: CipherSuite,
    context: GroupContext,
    tree: RatchetTree,
    now_s: int | None = None,
    authenticate: Authenticate | None = None,
    policy: Policy = DEFAULT_POLICY,
    signatures: bool = True,
) -> None:
    """A proposal for itself, as on its arrival (§12.1): it can be committed, if not beside every other one.

    Raises:
        MlsError: a rule that no list around it can mend.
    """
    check_parties(sent, context, tree)
    checker = ProposalChecker(suite, context, tree, (), now_s, authenticate, policy, None)
    checker.check(sent, None)
    if signatures:
        check_signatures(suite, checker.claims(sent))


def check_parties(sent: SentProposal, context: GroupContext, tree: RatchetTree) -> None:
    """Who sends it may, and whom it removes is there."""
    proposal, sender = sent.proposal, sent.sender
    if proposal.proposal_type in GREASE:
        raise MlsError("13.5/grease-proposal-type", f"type {proposal.proposal_type:#06x}")
    if not who_may(sender, proposal):
        if isinstance(proposal, ExternalInit):
            raise MlsError("12.2/external-init")
        if sender.sender_type == SenderType.NEW_MEMBER_COMMIT:
            raise MlsError("12.2/external-commit-proposal-type", f"type {proposal.proposal_type}")
        raise MlsError("12.1.8/sender-type", f"type {proposal.proposal_type} by sender type {sender.sender_type}")
    if sender.sender_type == SenderType.MEMBER and not is_member(tree, sender.index):
        raise MlsError("6/sender-not-member", f"leaf {sender.index}")
    if sender.sender_type == SenderType.EXTERNAL and sender.index >= len(external_senders(context.extensions)):
        raise MlsError("12.1.8.1/unknown-sender", f"external sender {sender.index}")
    if isinstance(proposal, Remove) and not is_member(tree, proposal.removed):
        raise MlsError("12.1.3/blank-leaf", f"leaf {proposal.removed}")


def check_prudent(sent: SentProposal, committer: Sender, context: GroupContext, tree: RatchetTree) -> None:
    """What others proposed, is sound, and would harm the group: left out unless the application decides (``accept``).

    Any member can name a resumption PSK of the group that those who joined since, or keep fewer epochs, do not have:
    the commit locks them out. And a ReInit ends the group, also where nobody can begin the one that it names. And
    whoever has heard of a group's id can ask to be added to it: to let strangers in is for the application to say.
    """
    proposal = sent.proposal
    if sent.sender == committer:
        return
    if sent.sender.sender_type == SenderType.NEW_MEMBER_PROPOSAL:
        raise MlsError("policy/refused", "a stranger asks to be added, and no policy says that it may be")
    if isinstance(proposal, PreSharedKey) and isinstance(proposal.psk, ResumptionPsk):
        if proposal.psk.psk_group_id == context.group_id:
            raise MlsError("policy/refused", f"not every member need have {proposal.psk!r}")
    elif isinstance(proposal, ReInit):
        support = tree.support
        if proposal.version != MLS_1_0 or not support.all_support_cipher_suite(proposal.cipher_suite):
            raise MlsError("policy/refused", f"version {proposal.version}, suite {proposal.cipher_suite:#06x} for all")
        check_group_context_extensions(proposal.extensions, support, suite=cipher_suite(proposal.cipher_suite))


def check_committed(sent: SentProposal, committer: Sender) -> None:
    """What this committer may not commit, of itself or at all (§12.2, §12.4.3.2)."""
    proposal, by_value, own = sent.proposal, sent.reference is None, sent.sender == committer
    if by_value and not own:
        raise LocalError("a proposal by value is its committer's")
    if isinstance(proposal, SelfRemove):
        if by_value:
            raise MlsError("extensions-draft/self-remove-by-value")
    elif committer.sender_type == SenderType.NEW_MEMBER_COMMIT and not by_value:
        raise MlsError("12.4.3.2/proposal-by-reference", f"type {proposal.proposal_type}")
    if committer.sender_type != SenderType.MEMBER:
        return
    if isinstance(proposal, Update) and own:
        raise MlsError("12.2/committer-update", f"leaf {committer.index}")
    if isinstance(proposal, Remove | SelfRemove) and leaf_concerned(sent) == committer.index:
        raise MlsError("12.2/committer-remove", f"leaf {committer.index}")


@dataclass(frozen=True, slots=True)
class ProposalChecker:
    """What the proposals of one list are held against."""

    suite: CipherSuite
    context: GroupContext
    tree: RatchetTree
    extensions: Extensions
    """The new ones: they bind the other proposals of their list (§12.3)."""
    now_s: int | None
    authenticate: Authenticate | None
    policy: Policy
    follow_up: ResumptionUsage | None

    def check(self, sent: SentProposal, base: Support | None) -> None:
        """``base`` is None for a proposal outside of a list, which cannot be held against the other members."""
        match proposal := sent.proposal:
            case Add(key_package):
                check_key_package(
                    key_package,
                    suite=self.suite,
                    extensions=self.extensions,
                    now_s=self.now_s,
                    authenticate=self.authenticate,
                    policy=self.policy,
                    signatures=False,
                )
            case Update(leaf_node):
                self._check_update(leaf_node, sent.sender.index)
            case PreSharedKey(psk):
                self._check_psk(psk)
            case ReInit(version=version):
                if version < self.context.version:
                    raise MlsError("12.1.5/version", f"{version} after {self.context.version}")
            case GroupContextExtensions(extensions):
                check_group_context_extensions(extensions, base, suite=self.suite, authenticate=self.authenticate)
            case _:
                pass
        accept = self.policy.accept
        if accept is not None and not accept(proposal, sent.sender):
            raise MlsError("policy/refused", f"type {proposal.proposal_type} by {sent.sender}")

    def _check_update(self, leaf: LeafNode, index: int) -> None:
        check_leaf_node(
            leaf,
            suite=self.suite,
            source=LeafNodeSource.UPDATE,
            group_id=self.context.group_id,
            leaf_index=index,
            extensions=self.extensions,
            support=None,
            now_s=self.now_s,
            authenticate=self.authenticate,
            policy=self.policy,
            signature=False,
        )
        old = self.tree.leaf(LeafIndex(index))
        assert old is not None  # its sender is a member
        check_successor(old, leaf, self.policy)

    def _check_psk(self, psk: PreSharedKeyId) -> None:
        if len(psk.psk_nonce) != self.suite.hash_size:
            raise MlsError("12.1.4/psk-nonce-size", f"{len(psk.psk_nonce)} bytes, not {self.suite.hash_size}")
        if isinstance(psk, ResumptionPsk) and psk.usage not in (ResumptionUsage.APPLICATION, self.follow_up):
            raise MlsError("12.1.4/psk-usage", f"usage {psk.usage}")

    def claims(self, sent: SentProposal) -> tuple[SignatureClaim, ...]:
        """The signatures inside a proposal; the one around it is its message's."""
        match sent.proposal:
            case Add(key_package):
                return key_package_signatures(key_package)
            case Update(leaf_node):
                return (leaf_signature(leaf_node, self.context.group_id, sent.sender.index),)
            case _:
                return ()


def check_successor(old: LeafNode, new: LeafNode, policy: Policy) -> None:
    """A leaf that takes another's place, by an Update or a resync (§7.3, §5.3.1)."""
    if old.encryption_key == new.encryption_key:
        raise MlsError("7.3/unchanged-encryption-key")
    check_credential_successor(old, new, policy)


def check_credential_successor(old: LeafNode, new: LeafNode, policy: Policy) -> None:
    if not policy.may_succeed(old.credential, new.credential):
        raise MlsError("5.3.1/successor", f"{new.credential} after {old.credential}")


def is_member(tree: RatchetTree, index: int) -> bool:
    return tree.leaf(LeafIndex(index)) is not None
