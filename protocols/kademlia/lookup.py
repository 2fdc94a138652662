"""One iterative lookup: which live nodes are nearest to a target?

The lookup asks ``alpha`` nodes at a time for the nodes they know nearest to the target, nearest first, and
ends when the ``k`` nearest of all it has heard of, leaving out those that failed, have answered. Two
things that look like shortcuts end it early and are left out: forgetting nodes that are being asked when the
list is cut to k, and stopping when a round brings nothing nearer.

A node that is slow keeps its place and may still answer, but not its share of ``alpha``: another is
asked beside it, or one dead node would stall the lookup for a whole time-out.

A liar can name a true node at a false endpoint. So the first few endpoints heard of a node are kept, and tried in
turn until it answers.

Bounds: every node is asked at ``ENDPOINTS_MAX`` endpoints at most, and no more than ``CANDIDATES_MAX`` are known
at a time. When the list is full the farthest of those not asked yet gives way to a nearer one. So liars who invent
nodes without end cost at most that many calls.
"""

from bisect import insort
from collections.abc import Iterable, Sequence
from enum import IntEnum
from operator import attrgetter
from typing import Final, Self

import msgspec

from protocols.contact import ID_SIZE, Contact, node_id
from protocols.kademlia.messages import KademliaError
from protocols.kademlia.records import Record

CANDIDATES_MAX: Final = 256  # a dozen times k: an honest lookup among a million nodes hears of about 200
ENDPOINTS_MAX: Final = 3


class Status(IntEnum):
    PENDING = 0
    WAITING = 1
    SLOW = 2  # asked, and given up for the count of alpha, not for its answer
    RESPONDED = 3
    FAILED = 4


class Candidate:
    """A node that the lookup has heard of."""

    __slots__ = ("alternates", "contact", "depth", "distance", "record", "status", "tries")

    def __init__(self, contact: Contact, distance: int, depth: int) -> None:
        self.contact = contact
        self.distance = distance
        self.depth = depth
        """Hops from here: 1 from our own table, one more than the nearest node that named it."""
        self.status = Status.PENDING
        self.record: Record | None = None
        self.tries = 1
        self.alternates: list[int] = []  # other endpoints at which it is said to be

    def hear_of(self, contact: Contact, depth: int) -> None:
        self.depth = min(self.depth, depth)
        if contact.endpoint == self.contact.endpoint or contact.endpoint in self.alternates:
            return
        if self.tries + len(self.alternates) < ENDPOINTS_MAX:
            self.alternates.append(contact.endpoint)
            if self.status is Status.FAILED:
                self.try_next()

    def try_next(self) -> None:
        """Give up the endpoint."""
        self.status = Status.FAILED
        if self.alternates:
            self.contact = Contact(self.contact.device, self.alternates.pop(0))
            self.tries += 1
            self.status = Status.PENDING

    def expel(self) -> None:
        """It lied: it is not asked again, wherever it is."""
        self.status, self.alternates, self.tries = Status.FAILED, [], ENDPOINTS_MAX


class LookupState(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    target: bytes
    quorum: int
    candidates: list[tuple[Contact, int, Status, Record | None, int, list[int]]]
    best: Record | None
    remaining_s: int
    local: bool


_distance = attrgetter("distance")


class Lookup:
    """Told who answered what, it says whom to ask next. With a ``quorum`` it is a search for a record."""

    __slots__ = (
        "_alpha",
        "_by_device",
        "_candidates",
        "_k",
        "_own",
        "_waiting",
        "best",
        "local",
        "quorum",
        "remaining_s",
        "target",
    )

    def __init__(
        self,
        own: bytes,
        target: int,
        seeds: Iterable[Contact],
        *,
        k: int,
        alpha: int,
        quorum: int = 0,
    ) -> None:
        self._own = own
        self._k = k
        self._alpha = alpha
        self.target = target
        self.quorum = quorum
        """How many holders must have given a verified record; 0 if it is nodes that are looked for."""
        self.best: Record | None = None
        """The newest verified record so far."""
        self.remaining_s = 0
        """The shortest life that a holder gave that record: nobody can make it live longer by claiming so."""
        self.local = False
        """Whether we hold one ourselves, which counts as one holder's."""
        self._waiting = 0  # candidates that count against alpha
        self._candidates: list[Candidate] = []  # nearest first
        self._by_device: dict[bytes, Candidate] = {}
        for contact in seeds:
            self._hear_of(contact, 1)

    def begin_with(self, record: Record, remaining_s: int) -> None:
        """We hold this one ourselves."""
        self.best, self.remaining_s, self.local = record, remaining_s, True

    def next(self) -> list[Contact]:
        """Whom to ask now; they count as asked from here on."""
        chosen: list[Contact] = []
        live = 0
        if self._has_quorum():
            return chosen
        for candidate in self._candidates:
            if self._waiting >= self._alpha or live == self._k:
                break
            live += candidate.status is not Status.FAILED
            if candidate.status is Status.PENDING:
                candidate.status = Status.WAITING
                self._waiting += 1
                chosen.append(candidate.contact)
        return chosen

    def responded(
        self, device: bytes, contacts: Sequence[Contact], record: Record | None = None, remaining_s: int = 0
    ) -> None:
        """A node answered. ``record`` was verified by the caller.

        Raises:
            KademliaError: no honest node answers so. It counts as failed.
        """
        candidate = self._settle(device)
        if candidate is None:
            return
        devices = [contact.device for contact in contacts]
        reason = ""
        if len(contacts) > self._k:
            reason = "too_many_contacts"
        elif self._own in devices or device in devices:
            reason = "self_in_answer"
        elif len(set(devices)) < len(devices):
            reason = "duplicate_contacts"
        if reason:
            candidate.expel()
            raise KademliaError(reason, f"{len(contacts)} contacts from {device.hex()[:8]}")
        candidate.status = Status.RESPONDED
        candidate.record = record
        if record is not None:
            if record == self.best:
                self.remaining_s = min(self.remaining_s, remaining_s)
            elif self.best is None or record.rank > self.best.rank:
                self.best, self.remaining_s = record, remaining_s
        for contact in contacts:
            self._hear_of(contact, candidate.depth + 1)

    def failed(self, device: bytes) -> None:
        candidate = self._settle(device)
        if candidate is not None:
            candidate.try_next()

    def expel(self, device: bytes) -> None:
        """Its answer was refused elsewhere: not a response, a forged record."""
        candidate = self._settle(device)
        if candidate is not None:
            candidate.expel()

    def slow(self, device: bytes) -> None:
        candidate = self._settle(device)
        if candidate is not None:
            candidate.status = Status.SLOW

    @property
    def done(self) -> bool:
        if self._has_quorum():
            return True
        live = 0
        for candidate in self._candidates:
            if candidate.status is not Status.FAILED:
                if candidate.status is not Status.RESPONDED:
                    return False
                live += 1
                if live == self._k:
                    break
        return True

    def closest(self) -> list[Contact]:
        """The nearest nodes that answered, at most k, nearest first."""
        return [candidate.contact for candidate in self._answered()[: self._k]]

    @property
    def hops(self) -> int:
        """The length of the path to the first holder, or to the nearest node."""
        found = [candidate.depth for candidate in self._candidates if candidate.record is not None]
        nearest = [candidate.depth for candidate in self._answered()[:1]]
        return min(found) if found else sum(nearest)

    def holders(self) -> list[Contact]:
        return [candidate.contact for candidate in self._candidates if candidate.record is not None]

    def lagging(self) -> list[Contact]:
        """Who should hold the best record and does not: holders of an older one, and nodes with none that are
        nearer than a holder is. Nearest first."""
        answered = self._answered()[: self._k]
        last = max((i for i, candidate in enumerate(answered) if candidate.record is not None), default=-1)
        return [c.contact for c in answered[: last + 1] if c.record is None or c.record != self.best]

    def _answered(self) -> list[Candidate]:
        return [candidate for candidate in self._candidates if candidate.status is Status.RESPONDED]

    def _has_quorum(self) -> bool:
        return self.quorum > 0 and len(self.holders()) + self.local >= self.quorum

    def _settle(self, device: bytes) -> Candidate | None:
        """The candidate, if it was asked and had not answered yet."""
        candidate = self._by_device.get(device)
        if candidate is not None and candidate.status is Status.WAITING:
            self._waiting -= 1
            return candidate
        return candidate if candidate is not None and candidate.status is Status.SLOW else None

    def _hear_of(self, contact: Contact, depth: int) -> None:
        if contact.device == self._own:
            return
        known = self._by_device.get(contact.device)
        if known is not None:
            known.hear_of(contact, depth)
            return
        candidate = Candidate(contact, node_id(contact.device) ^ self.target, depth)
        if len(self._candidates) >= CANDIDATES_MAX and not self._make_room(candidate.distance):
            return
        self._by_device[contact.device] = candidate
        insort(self._candidates, candidate, key=_distance)

    def _make_room(self, distance: int) -> bool:
        for index in range(len(self._candidates) - 1, -1, -1):
            candidate = self._candidates[index]
            if candidate.distance <= distance:
                return False
            if candidate.status is Status.PENDING:
                del self._candidates[index]
                del self._by_device[candidate.contact.device]
                return True
        return False

    def to_state(self) -> LookupState:
        candidates = [(c.contact, c.depth, c.status, c.record, c.tries, c.alternates) for c in self._candidates]
        return LookupState(
            self.target.to_bytes(ID_SIZE), self.quorum, candidates, self.best, self.remaining_s, self.local
        )

    @classmethod
    def from_state(cls, own: bytes, state: LookupState, *, k: int, alpha: int) -> Self:
        lookup = cls(own, int.from_bytes(state.target), (), k=k, alpha=alpha, quorum=state.quorum)
        lookup.best, lookup.remaining_s, lookup.local = state.best, state.remaining_s, state.local
        for contact, depth, status, record, tries, alternates in state.candidates:
            lookup._hear_of(contact, depth)
            candidate = lookup._by_device[contact.device]
            candidate.status, candidate.record = status, record
            candidate.tries, candidate.alternates = tries, alternates
            lookup._waiting += status is Status.WAITING
        return lookup
