"""An epoch as a group keeps it: the value, its message keys, and all that arrived or was made in it."""

from typing import Final

from protocols.errors import LocalError
from protocols.mls.commit import Commit, ProposalRef
from protocols.mls.epoch import Epoch
from protocols.mls.errors import MlsError
from protocols.mls.evidence import ForkEvidence, fork_evidence, signer_of, signers_part
from protocols.mls.framing import AuthenticatedContent, Sender, SenderType
from protocols.mls.message_keys import MessageKeys
from protocols.mls.opening import VerifiedCommit, VerifiedProposal
from protocols.mls.proposals import SelfRemove
from protocols.mls.ratchets import Ratchet
from protocols.mls.send_ledger import COMMIT, SendLedger
from protocols.mls.staging import LeafSecrets, StagedCommit, commit_id

PROPOSALS_MAX: Final = 1024
"""Proposals kept in one epoch, from all senders together. To choose among so many takes a committer 0.15 s, also
where all of them clash."""

PROPOSALS_PER_SENDER_MAX: Final = 256
"""Of one sender, so that nobody uses up what all share."""

WANTED_PROPOSALS_MAX: Final = 16 * PROPOSALS_MAX
"""With those that a commit refers to, which come in beyond the other limits. A member has two commits here, and each
wants at most as many as an honest one names: so it takes eight members to use this up, not one."""

COMMITS_MAX: Final = 64
"""Members' commits kept on one parent. An honest member makes one; what more than these race is a flood."""

COMMITS_FROM_OUTSIDE_MAX: Final = 8
"""External commits kept on one parent, oldest forgotten first, those that are staged last. Whoever has the group info
makes any number of them, each by another key: to refuse more would let him choose which ones we hear."""

COMMITS_PER_SIGNER_MAX: Final = 2
"""Two of one signer are evidence, a third proves nothing more."""

STAGED_MAX: Final = 16
"""Commits staged on one parent at once. Each holds an epoch, of which most is shared with its parent. Those from
outside have half of the places, or a flood of them would keep members' commits out."""

ECHOES_MAX: Final = 1024
"""Own messages remembered, oldest forgotten first: what comes back later is taken for a stranger's replay."""


class KeptEpoch:
    """Mutable, and never copied; its ``epoch`` is a value."""

    def __init__(self, epoch: Epoch, keys: MessageKeys, parent: bytes, since_ns: int) -> None:
        self.epoch: Final = epoch
        self.keys: Final = keys
        self.parent: Final = parent
        """The authenticator of the epoch before; empty for the one with which we came."""
        self.since_ns: Final = since_ns
        self.proposals: Final[dict[bytes, VerifiedProposal]] = {}
        """By reference, as they came."""
        self.committable: Final[dict[bytes, bool]] = {}
        """Whether anybody would commit them, by reference: of those about which that was asked. Not stored."""
        self.own_updates: Final[dict[bytes, LeafSecrets]] = {}
        """By the public encryption key of the leaf that we proposed."""
        self.commits: Final[dict[bytes, VerifiedCommit]] = {}
        """By the hash of what nobody but the signer can have made: with another confirmation tag, which any member can
        attach, a commit takes no second place, and the latest stays, as a false one may have come first."""
        self.staged: Final[dict[bytes, StagedCommit]] = {}
        """By commit id."""
        self.messages: Final[dict[bytes, bytes]] = {}
        """What we sent or shall send of our own commits and proposals, by commit id or reference."""
        self._echoes: Final[dict[bytes, None]] = {}

    @property
    def parent_name(self) -> bytes:
        """What the right to commit is reserved for. Evidence is over the group context, and a Welcome that lies can
        lead into two epochs that have the same one."""
        return self.epoch.suite.hash(self.epoch.context_bytes)

    def align(self, ledger: SendLedger) -> None:
        """After a restore: what either of the two knows was given out, neither gives out again, and those keys go."""
        number, name = self.epoch.number, self.epoch.authenticator
        for ratchet in Ratchet:
            ledger.note(number, name, ratchet, self.keys.sent(ratchet))
            if (following := ledger.following(name, ratchet)) > self.keys.sent(ratchet):
                self.keys.mark_sent(ratchet, following - 1)
        if any(each.own for each in self.staged.values()):
            ledger.note(number, self.parent_name, COMMIT, 1)

    # -- our own messages ---------------------------------------------------------------------------

    def remember(self, echo: bytes) -> None:
        self._echoes[echo] = None
        if len(self._echoes) > ECHOES_MAX:
            del self._echoes[next(iter(self._echoes))]

    def is_echo(self, echo: bytes) -> bool:
        return echo in self._echoes

    @property
    def echoes(self) -> tuple[bytes, ...]:
        return tuple(self._echoes)

    # -- others' ------------------------------------------------------------------------------------

    def check_room(self, verified: VerifiedProposal | VerifiedCommit) -> None:
        """Before anything is kept.

        Raises:
            MlsError: ``limit/proposals`` or ``limit/commits``: its sender, or all together, sent too many.
        """
        if isinstance(verified, VerifiedProposal):
            if verified.reference in self.proposals:
                return
            if not self.has_room_for_proposal(verified.sender) and not self._is_wanted(verified):
                raise MlsError("limit/proposals", f"{len(self.proposals)} in epoch {self.epoch.number}")
        elif self._name(verified.authenticated) not in self.commits:
            signer = signer_of(verified.authenticated)
            same = sum(signer_of(each.authenticated) == signer for each in self.commits.values())
            members = sum(_is_members(each) for each in self.commits.values())
            if same >= COMMITS_PER_SIGNER_MAX or (_is_members(verified) and members >= COMMITS_MAX):
                raise MlsError("limit/commits", f"{same} of {members} on this epoch are from this signer")

    def has_room_for_proposal(self, sender: Sender) -> bool:
        within = self.within_limits()
        same = sum(each.sender == sender for each in within)
        return same < PROPOSALS_PER_SENDER_MAX and len(within) < PROPOSALS_MAX

    def within_limits(self) -> list[VerifiedProposal]:
        """The proposals for which there is room whether or not a commit wants them, in the order of their arrival.
        Those beyond take no place from others, and we do not commit them: how many they are, their author says."""
        counts: dict[Sender, int] = {}
        within = []
        for each in self.proposals.values():
            counts[each.sender] = counts.get(each.sender, 0) + 1
            if counts[each.sender] <= PROPOSALS_PER_SENDER_MAX:
                within.append(each)
        return within[:PROPOSALS_MAX]

    def has_place_for(self, commit: VerifiedCommit) -> bool:
        """Whether it may be staged beside the others."""
        outside = sum(each.external for each in self.staged.values())
        is_held_back = not _is_members(commit) and outside >= COMMITS_FROM_OUTSIDE_MAX
        return len(self.staged) < STAGED_MAX and not is_held_back

    def keep(self, verified: VerifiedProposal | VerifiedCommit) -> None:
        if isinstance(verified, VerifiedProposal):
            self.proposals.setdefault(verified.reference, verified)
        else:
            self.commits[self._name(verified.authenticated)] = verified
            self._bound_commits_from_outside()

    def _is_wanted(self, proposal: VerifiedProposal) -> bool:
        """Whether a commit that is kept refers to it. To refuse it for want of room would be to refuse the commit:
        whoever filled the room here and not elsewhere would have split the group. Strangers' commits want nothing but
        SelfRemoves, which is all that they may refer to."""
        return len(self.proposals) < WANTED_PROPOSALS_MAX and any(
            proposal.reference in _references(commit.commit)[:PROPOSALS_MAX]
            for commit in self.commits.values()
            if _is_members(commit) or isinstance(proposal.proposal, SelfRemove)
        )

    def _bound_commits_from_outside(self) -> None:
        outside = [name for name, each in self.commits.items() if not _is_members(each)]
        if len(outside) > COMMITS_FROM_OUTSIDE_MAX:
            staged = [self._name(each.authenticated) for each in self.staged.values()]
            del self.commits[next((name for name in outside[:-1] if name not in staged), outside[0])]

    def evidence(self, commit: AuthenticatedContent) -> ForkEvidence | None:
        """What an earlier commit of the same signer and this one prove together."""
        signer = signer_of(commit)
        for other in self.commits.values():
            if signer_of(other.authenticated) == signer:
                found = fork_evidence(self.epoch, other.authenticated, commit)
                if found is not None:
                    return found
        return None

    def commit_id(self, authenticated: AuthenticatedContent) -> bytes:
        return commit_id(self.epoch, authenticated)

    def _name(self, commit: AuthenticatedContent) -> bytes:
        return self.epoch.suite.hash(signers_part(self.epoch.suite, commit))

    def staged_of(self, commit: StagedCommit) -> StagedCommit:
        """The one that is held for a commit.

        Raises:
            LocalError: it was not staged here, or is forgotten.
        """
        held = self.staged.get(commit.id)
        if held is None:
            raise LocalError(f"{commit!r} was not staged in this group")
        return held


def _references(commit: Commit) -> list[bytes]:
    return [each.reference for each in commit.proposals if isinstance(each, ProposalRef)]


def _is_members(commit: VerifiedCommit) -> bool:
    return commit.sender.sender_type == SenderType.MEMBER
