"""What a group's steps return: what happened, and what has to be durable before anybody acts on it."""

import msgspec

from protocols.mls.evidence import ForkEvidence
from protocols.mls.opening import Verified
from protocols.mls.proposal_selection import Rejected
from protocols.mls.staging import StagedCommit


class Echo(msgspec.Struct, frozen=True):
    """A message of our own that came back. ``commit`` is there if it is a commit that we still hold."""

    epoch: bytes
    commit: StagedCommit | None = None


class Received(msgspec.Struct, frozen=True):
    """What arrived."""

    content: Verified | Echo
    record: bytes
    """Secret. To be durable before the message is acknowledged; as large as one proposal or commit, or 80 bytes."""
    evidence: ForkEvidence | None = None
    """The sender of this commit had made another one in the same epoch: both together prove it. If the sender is
    ourselves, somebody else has our signature key, or we lost what we had done."""

    def __repr__(self) -> str:
        return f"Received({self.content!r}{', and evidence' if self.evidence else ''})"


class Outgoing(msgspec.Struct, frozen=True):
    """A message of ours. Nothing may be sent before ``reservations`` and ``records`` are durable."""

    message: bytes
    reservations: tuple[bytes, ...]
    """For the store that is never rolled back; none for a public message, which uses no key."""
    records: tuple[bytes, ...]
    """Secret."""

    def __repr__(self) -> str:
        return f"Outgoing({len(self.message)} bytes)"


class Staged(msgspec.Struct, frozen=True):
    """A commit that can be adopted."""

    commit: StagedCommit
    record: bytes
    """Secret."""

    def __repr__(self) -> str:
        return f"Staged({self.commit!r})"


class OwnCommit(msgspec.Struct, frozen=True):
    """A commit of ours: ``message`` is sent once the reservations and the record are durable, and
    ``commit.welcomes`` once it is adopted."""

    commit: StagedCommit
    message: bytes
    reservations: tuple[bytes, ...]
    record: bytes
    rejected: tuple[Rejected, ...]
    """Proposals of others that could not be committed, and why."""

    def __repr__(self) -> str:
        return f"OwnCommit({self.commit!r}, {len(self.message)} bytes, {len(self.rejected)} proposals rejected)"


class Moved(msgspec.Struct, frozen=True):
    """The group stands elsewhere.

    If epochs are in ``erase``, their secrets are still in what was stored before: store ``Group.to_bytes()`` afresh,
    and then destroy all older states and records, this one included.
    """

    record: bytes
    erase: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Moved({len(self.erase)} epochs to erase)"
