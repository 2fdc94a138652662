"""An epoch as a group keeps it: the value, its message keys, and all that arrived or was made in it."""

from typing import Final

from protocols.errors import LocalError
from protocols.mls.epoch import Epoch
from protocols.mls.errors import MlsError
from protocols.mls.evidence import ForkEvidence, fork_evidence, signed_part, signer_of
from protocols.mls.framing import AuthenticatedContent, SenderType
from protocols.mls.message_keys import MessageKeys
from protocols.mls.opening import VerifiedCommit, VerifiedProposal
from protocols.mls.staging import LeafSecrets, StagedCommit

PROPOSALS_MAX: Final = 1024
"""Proposals kept in one epoch, from all senders together. If each of them clashes with another, which only a list
shows, whoever commits drops them one by one: that takes 6 s for so many, and four times as long for twice as many."""

PROPOSALS_PER_SENDER_MAX: Final = 256
"""Of one sender, so that nobody uses up what all share."""

COMMITS_MAX: Final = 64
"""Members' commits kept on one parent. An honest member makes one; what more than these race is a flood."""

COMMITS_FROM_OUTSIDE_MAX: Final = 8
"""External commits kept on one parent. Whoever has the group info makes any number of them, each by another key, and
they must leave room for those of members here and among the staged ones."""

COMMITS_PER_SIGNER_MAX: Final = 2
"""Two of one signer are evidence, a third proves nothing more."""

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
        self.own_updates: Final[dict[bytes, LeafSecrets]] = {}
        """By the public encryption key of the leaf that we proposed."""
        self.commits: Final[dict[bytes, VerifiedCommit]] = {}
        """By the hash of what their signature covers: with another confirmation tag, which any member can attach, a
        commit takes no second place, and the latest stays, as a false one may have come first."""
        self.staged: Final[dict[bytes, StagedCommit]] = {}
        """By commit id."""
        self.messages: Final[dict[bytes, bytes]] = {}
        """What we sent or shall send of our own commits, by commit id."""
        self._echoes: Final[dict[bytes, None]] = {}

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
            same = sum(each.sender == verified.sender for each in self.proposals.values())
            if same >= PROPOSALS_PER_SENDER_MAX or len(self.proposals) >= PROPOSALS_MAX:
                raise MlsError("limit/proposals", f"{same} of {len(self.proposals)} are from this sender")
        elif self._signed(verified) not in self.commits:
            signer, kind = signer_of(verified.authenticated), verified.sender.sender_type
            alike = [each for each in self.commits.values() if each.sender.sender_type == kind]
            same = sum(signer_of(each.authenticated) == signer for each in alike)
            most = COMMITS_MAX if kind == SenderType.MEMBER else COMMITS_FROM_OUTSIDE_MAX
            if same >= COMMITS_PER_SIGNER_MAX or len(alike) >= most:
                raise MlsError("limit/commits", f"{same} of {len(alike)} on this epoch are from this signer")

    def keep(self, verified: VerifiedProposal | VerifiedCommit) -> None:
        if isinstance(verified, VerifiedProposal):
            self.proposals.setdefault(verified.reference, verified)
        else:
            self.commits[self._signed(verified)] = verified

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

    def _signed(self, commit: VerifiedCommit) -> bytes:
        return self.epoch.suite.hash(signed_part(commit.authenticated))

    def staged_of(self, commit: StagedCommit) -> StagedCommit:
        """The one that is held for a commit.

        Raises:
            LocalError: it was not staged here, or is forgotten.
        """
        held = self.staged.get(commit.id)
        if held is None:
            raise LocalError(f"{commit!r} was not staged in this group")
        return held


def commit_id(epoch: Epoch, authenticated: AuthenticatedContent) -> bytes:
    """A commit's name: the hash of all of it."""
    return epoch.suite.hash(authenticated.encode())
