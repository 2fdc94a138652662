"""When a replica lets go of what lies behind its stable frontier, and how it comes back if others have.

An admin that finds enough behind the frontier proposes a snapshot, now and then, by lot, so that few do it at once; the
others sign it (``settling``). All other members ask one of them what is settled. So each compacts in its own time, and
all with a snapshot that has signatures.
"""

from collections.abc import Sequence
from typing import Final, Self

import msgspec

from actors.randomness import Randomness
from protocols.crdt.changes import Role
from protocols.crdt.config import CrdtConfig
from protocols.crdt.errors import CrdtError
from protocols.crdt.messages import Confirm, Fetch, Mark, Request, Response, Settled
from protocols.crdt.rejoining import Rejoining, rejoined
from protocols.crdt.replica import Replica
from protocols.crdt.settling import NO_FRAME, Offer, Proposal, followed, is_settled, owners_of
from protocols.crdt.snapshot import body_of, digest_of, sign_digest
from protocols.errors import LocalError
from protocols.identity.signing import SigningKey

CONFIRMERS_MAX: Final = 32
"""Admins and owners that are asked to sign."""
PROPOSAL_NS: Final = 60 * 10**9
"""How long they may take; then there may be another proposal."""
CONFIRM_PAUSE_NS: Final = 10 * 10**9
"""Between two snapshots that are made to be confirmed: each is all of the document, and anybody may ask who is an
admin."""
REJOIN_NS: Final = 600 * 10**9
"""After which another member is asked for its snapshot: the largest takes that long on a slow line."""


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    proposal: bytes | None
    rejoining: bytes | None
    call: int
    confirmed: bytes
    confirm_at: int


class Settling:
    """What one replica has to do with snapshots."""

    __slots__ = ("_confirm_at", "_confirmed", "_key", "_offer", "_proposal", "_rejoining", "call")

    def __init__(self, key: SigningKey) -> None:
        self._key: Final = key
        self._offer = Offer(None)
        self._proposal: Proposal | None = None
        self._rejoining: Rejoining | None = None
        self.call = -1
        """The token of the question of who rejoins."""
        self._confirmed = b""
        """The digest that was signed last for somebody,"""
        self._confirm_at = 0
        """and when another one may be worked out."""

    def adopt(self, replica: Replica) -> None:
        """This is the replica from now on."""
        self._offer, self._proposal, self._rejoining = Offer(replica.settled), None, None

    # -- compacting ---------------------------------------------------------------------------------------

    def questions(
        self, replica: Replica, reachable: Sequence[bytes], config: CrdtConfig, now: int, draws: Randomness
    ) -> list[tuple[bytes, Request]]:
        """What to ask whom, if it is worthwhile to compact."""
        if not config.compact_after or replica.unsettled < config.compact_after:
            return []
        if self._proposal is not None and now - self._proposal.began_at < PROPOSAL_NS:
            return []
        self._proposal = None
        if replica.settleable() < config.compact_after:
            return []
        members, own = replica.judge.members, self._key.public
        leading = [device for device, role in members.items() if role >= Role.ADMIN]
        others = [device for device in reachable if device in leading]
        if own in leading and not draws.below(len(leading)):
            return self._propose(replica, others, now, draws)
        return [(others[draws.below(len(others))], Settled(replica.channel))] if others else []

    def _propose(
        self, replica: Replica, others: list[bytes], now: int, draws: Randomness
    ) -> list[tuple[bytes, Request]]:
        sealed = replica.snapshot()
        if sealed is None:
            return []
        self._proposal = proposal = Proposal(replica.channel, sealed, now)
        proposal.sign(((self._key.public, sign_digest(self._key, replica.channel, proposal.digest)),))
        count = min(CONFIRMERS_MAX, len(others))
        return [(others.pop(draws.below(len(others))), proposal.question) for _ in range(count)]

    def answered(self, replica: Replica, mark: Mark) -> None:
        """What somebody has signed, or has settled.

        Raises:
            CrdtError: ``bad_signature`` or ``bad_snapshot``.
        """
        proposal = self._proposal
        if mark.frame.ends:
            sealed = followed(replica, mark)
            if sealed is not None:
                self._proposal = Proposal(replica.channel, sealed, 0)
        elif proposal is not None and mark.digest == proposal.digest:
            proposal.sign(mark.signatures)

    def compacted(self, replica: Replica) -> Replica | None:
        """The replica to go on with, if enough have signed."""
        proposal = self._proposal
        if proposal is None or not is_settled(replica, proposal.signers):
            return None
        self._proposal = None
        try:
            return replica.compacted(proposal.sealed)
        except CrdtError:  # Something came meanwhile that does not stand on it: there will be another.
            return None

    # -- asked --------------------------------------------------------------------------------------------

    def answer(self, replica: Replica, device: bytes, asked: Settled | Confirm | Fetch, now: int) -> Response | None:
        """The answer; None: not now."""
        if isinstance(asked, Fetch):
            return self._offer.page(asked)
        if isinstance(asked, Settled) or not (self._leads(replica, device) and self._leads(replica, self._key.public)):
            return self._offer.mark
        if asked.digest != self._confirmed:
            if now < self._confirm_at:
                return None
            self._confirm_at = now + CONFIRM_PAUSE_NS
            sealed = replica.snapshot_at(asked.frame)
            if sealed is None or digest_of(body_of(sealed.body, sealed.size)) != asked.digest:
                return self._offer.mark
            self._confirmed = asked.digest
        signature = sign_digest(self._key, replica.channel, asked.digest)
        return Mark(asked.digest, NO_FRAME, ((self._key.public, signature),))

    def _leads(self, replica: Replica, device: bytes) -> bool:
        return (replica.judge.role(device) or 0) >= Role.ADMIN

    # -- rejoining ----------------------------------------------------------------------------------------

    def rejoin(self, replica: Replica, device: bytes, now: int) -> Request | None:
        """Begin to fetch a member's snapshot, as it has let go of what we lack; None if we do so already."""
        if self._rejoining is not None and now - self._rejoining.began_at < REJOIN_NS:
            return None
        self._rejoining = Rejoining(replica.channel, device, now)
        return self._rejoining.request()

    def fetched(self, replica: Replica, call: int, response: Response) -> Request | Replica | None:
        """What to ask next, or the replica to go on with; None if this was given up before.

        Raises:
            CrdtError: as ``Rejoining.answer`` and ``rejoined``; it is given up.
        """
        rejoining = self._rejoining
        if rejoining is None or call != self.call:
            return None
        try:
            sealed = rejoining.answer(response, owners_of(replica))
            if sealed is None:
                return rejoining.request()
            return rejoined(replica, sealed, self._key.public)
        except CrdtError:
            self._rejoining = None
            raise

    def give_up(self, call: int) -> None:
        """A question is not answered: then others may be asked for their snapshot."""
        if call == self.call:
            self._rejoining = None

    # -- state --------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        proposal = None if self._proposal is None else self._proposal.to_bytes()
        rejoining = None if self._rejoining is None else self._rejoining.to_bytes()
        return msgspec.msgpack.encode(_State(proposal, rejoining, self.call, self._confirmed, self._confirm_at))

    @classmethod
    def from_bytes(cls, data: bytes, key: SigningKey, replica: Replica) -> Self:
        try:
            state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise LocalError(f"not the state of a replica's snapshots: {error}") from None
        settling = cls(key)
        settling.adopt(replica)
        if state.proposal is not None:
            settling._proposal = Proposal.from_bytes(state.proposal)
        if state.rejoining is not None:
            settling._rejoining = Rejoining.from_bytes(state.rejoining)
        settling.call, settling._confirmed, settling._confirm_at = state.call, state.confirmed, state.confirm_at
        return settling
