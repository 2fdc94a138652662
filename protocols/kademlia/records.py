"""Signed records, and the bounded store in which a node holds those of others.

A record's key is a hash of its owner's device key and a name, and the owner signs all of it: nobody can
squat on a key or put words into it (as BEP 44 does). Three things a signature does not prevent:

* Rollback: an old record verifies for ever. The higher sequence wins, ties fall to the higher digest, and a
  store remembers the lowest sequence it would still take after the record itself has expired.
* Immortality: if each STORE began a record's life anew, anybody could keep it alive against its owner.
  The receiver stamps the latest possible expiry with its own clock, at first receipt; nothing but a new
  sequence, which its owner signs, gets beyond it. Up to there what counts is the longest rest of the life that
  anybody passed on: the shortest would let a liar end a record by passing it on first, with a second to live.
* Exhaustion: keys are free to make. A full store prefers what lies near its own identifier, which it
  will be asked for; filling it means making keys for that one place. One owner holds few places.

A bad signature blames the device that sent it, not the owner it names: every honest node checks a record
before it stores or passes it on, so no honest node ever sends one.
"""

import hashlib
from bisect import bisect_left, insort
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Annotated, Final, Literal, Self

import msgspec
from msgspec import Meta

from protocols.contact import ID_SIZE
from protocols.errors import LocalError, ProtocolError
from protocols.identity.signing import SIGNATURE_SIZE, Domain, Signature, SigningKey, sign, verify
from protocols.messages import Key32, Message, Uint64
from protocols.transcript import transcript

NAME_SIZE_MAX: Final = 64  # as BEP 44 bounds its salt
VALUE_SIZE_MAX: Final = 1024  # with its envelope a record still fits an unfragmented datagram
TTL_MAX_S: Final = 7 * 24 * 3600
SECOND_NS: Final = 1_000_000_000

_PERSON: Final = b"spacepanda rec"

Name = Annotated[bytes, Meta(max_length=NAME_SIZE_MAX)]
Value = Annotated[bytes, Meta(max_length=VALUE_SIZE_MAX)]
Outcome = Literal["stored", "stale", "quota", "full"]


class RecordError(ProtocolError):
    """This record was not signed by the owner it names."""


def record_key(owner: bytes, name: bytes) -> bytes:
    """Where the records of ``owner`` named ``name`` live; the owner has a fixed size, so the map is injective."""
    return hashlib.blake2b(owner + name, digest_size=ID_SIZE, person=_PERSON).digest()


class Record(Message, frozen=True, gc=False, tag="kad.record"):
    """A value that its owner signed. It is verified before it is stored, returned or passed on."""

    owner: Key32
    name: Name
    sequence: Uint64
    value: Value
    ttl_s: Annotated[int, Meta(ge=1, le=TTL_MAX_S)]
    signature: Signature

    @classmethod
    def sign(cls, key: SigningKey, name: bytes, sequence: int, value: bytes, ttl_s: int) -> Self:
        if len(name) > NAME_SIZE_MAX or len(value) > VALUE_SIZE_MAX or not 0 < ttl_s <= TTL_MAX_S:
            raise LocalError(f"no record of a {len(name)}-byte name, a {len(value)}-byte value and {ttl_s} s")
        unsigned = cls(key.public, name, sequence, value, ttl_s, bytes(SIGNATURE_SIZE))
        return cls(key.public, name, sequence, value, ttl_s, sign(key, Domain.RECORD, *unsigned.fields()))

    @property
    def key(self) -> bytes:
        return record_key(self.owner, self.name)

    @property
    def rank(self) -> tuple[int, bytes]:
        """Orders the records of one key; equal only if they say the same."""
        return self.sequence, hashlib.blake2b(transcript(Domain.RECORD, *self.fields()), digest_size=32).digest()

    def fields(self) -> tuple[bytes, ...]:
        """What the signature covers."""
        return self.owner, self.name, self.sequence.to_bytes(8), self.value, self.ttl_s.to_bytes(4)

    def verify(self) -> None:
        """Raises ``RecordError`` unless the owner signed this."""
        if not verify(self.owner, Domain.RECORD, *self.fields(), signature=self.signature):
            raise RecordError("bad_signature", f"record of owner {self.owner.hex()[:8]}")


class Held(msgspec.Struct, array_like=True, frozen=True):
    """A record in a store."""

    record: Record
    expires_at: int
    ends_at: int
    """What ``expires_at`` can never exceed: a whole life after the first receipt."""
    stored_at: int
    """When somebody last asked to store it: while others do, this node need not replicate it."""

    def remaining_s(self, now: int) -> int:
        return max(1, (self.expires_at - now) // SECOND_NS)


class StoreState(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    held: list[Held]
    floors: list[tuple[bytes, tuple[int, int]]]
    verifications: int


class RecordStore:
    """The records that a node holds for others, by key."""

    __slots__ = ("_distances", "_expiries", "_floors", "_held", "_own", "_owned", "_owner_max", "_records_max",
                 "_ttl_max_s", "taken", "verifications")  # fmt: skip

    def __init__(self, own: int, *, records_max: int, owner_max: int, ttl_max_s: int) -> None:
        self._own = own
        self._records_max = records_max
        self._owner_max = owner_max
        self._ttl_max_s = ttl_max_s
        self._held: dict[bytes, Held] = {}
        self._distances: list[int] = []  # of all that is held, ascending: the last is the first to go
        self._owned: dict[bytes, int] = {}  # records held, by owner
        self._expiries: list[tuple[int, bytes]] = []  # a heap; entries of replaced records are skipped
        # Of records no longer held: the lowest sequence still taken, and until when that very one.
        self._floors: dict[bytes, tuple[int, int]] = {}
        self.verifications = 0
        """Signatures checked so far, for whoever charges for them."""
        self.taken: list[Held] | None = None
        """What was taken in, for whoever writes it down and then empties this; None if nobody does."""

    def __len__(self) -> int:
        return len(self._held)

    def find(self, key: bytes, now: int) -> Held | None:
        held = self._held.get(key)
        return held if held is not None and held.expires_at > now else None

    def offer(self, record: Record, remaining_s: int, now: int) -> Outcome:
        """Take a record if it is genuine, newer than what is held, and there is room.

        Raises:
            RecordError: it is not genuine. What would be refused anyway is not even checked.
        """
        self.expire(now)
        key = record.key
        held = self._held.get(key)
        ends_at = now + min(record.ttl_s, self._ttl_max_s) * SECOND_NS
        if held is not None:
            if record == held.record:
                expires_at = max(held.expires_at, min(held.ends_at, now + remaining_s * SECOND_NS))
                longer = Held(record, expires_at, held.ends_at, now)
                self._hold(key, longer)
                if self.taken is not None and expires_at > held.expires_at:
                    self.taken.append(longer)
                return "stored"
            if record.rank <= held.record.rank:
                return "stale"
        else:
            floor, until = self._floors.get(key, (0, 0))
            if record.sequence < floor or (record.sequence == floor and now >= until > 0):
                return "stale"
            if record.sequence == floor and until:
                ends_at = min(ends_at, until)
            if self._owned.get(record.owner, 0) >= self._owner_max:
                return "quota"
            if len(self._held) >= self._records_max and self._distance(key) >= self._distances[-1]:
                return "full"
        self.verifications += 1
        record.verify()
        if held is None and len(self._held) >= self._records_max:
            self._drop((self._distances[-1] ^ self._own).to_bytes(ID_SIZE))
        self._floors.pop(key, None)
        new = Held(record, min(ends_at, now + remaining_s * SECOND_NS), ends_at, now)
        self._hold(key, new)
        if self.taken is not None:
            self.taken.append(new)
        return "stored"

    def take_again(self, held: Held) -> None:
        """Take in what was taken in before, in the order of then: that leaves what it left then."""
        self.expire(held.stored_at)
        key = held.record.key
        if key not in self._held and len(self._held) >= self._records_max:
            self._drop((self._distances[-1] ^ self._own).to_bytes(ID_SIZE))
        self._floors.pop(key, None)
        self._hold(key, held)

    def check_again(self) -> int:
        """Check every signature, and drop what does not verify; returns how many those were."""
        bad = []
        for key, held in self._held.items():
            self.verifications += 1
            try:
                held.record.verify()
            except RecordError:
                bad.append(key)
        for key in bad:
            self._drop(key)
        return len(bad)

    def due(self, before: int, limit: int) -> list[Held]:
        """Records that nobody has stored since ``before``: the first ``limit`` of them."""
        waiting = (held for held in self._held.values() if held.stored_at < before)
        return list(islice(waiting, limit))

    def replicated(self, key: bytes, now: int) -> None:
        """This node itself passes the record on, which counts as well as if somebody else had."""
        held = self._held[key]
        self._held[key] = Held(held.record, held.expires_at, held.ends_at, now)

    def deadline(self) -> int | None:
        """When the first record expires."""
        while self._expiries:
            expires_at, key = self._expiries[0]
            held = self._held.get(key)
            if held is not None and held.expires_at == expires_at:
                return expires_at
            heappop(self._expiries)
        return None

    def expire(self, now: int) -> None:
        while (due := self.deadline()) is not None and due <= now:
            self._drop(heappop(self._expiries)[1])

    def _distance(self, key: bytes) -> int:
        return int.from_bytes(key) ^ self._own

    def _hold(self, key: bytes, held: Held) -> None:
        before = self._held.get(key)
        self._held[key] = held
        if before is None:
            insort(self._distances, self._distance(key))
            self._owned[held.record.owner] = self._owned.get(held.record.owner, 0) + 1
        elif before.expires_at == held.expires_at:
            return
        heappush(self._expiries, (held.expires_at, key))
        if len(self._expiries) > 2 * len(self._held) + 16:
            self._expiries = [(held.expires_at, key) for key, held in self._held.items()]
            heapify(self._expiries)

    def _drop(self, key: bytes) -> None:
        held = self._held.pop(key)
        owner = held.record.owner
        del self._distances[bisect_left(self._distances, self._distance(key))]
        left = self._owned.pop(owner) - 1
        if left:
            self._owned[owner] = left
        # Two remembered sequences per place in the store; the oldest is forgotten first.
        self._floors[key] = held.record.sequence, held.ends_at
        if len(self._floors) > 2 * self._records_max:
            del self._floors[next(iter(self._floors))]

    def to_state(self) -> StoreState:
        return StoreState(list(self._held.values()), list(self._floors.items()), self.verifications)

    def restore(self, state: StoreState) -> None:
        for held in state.held:
            self._hold(held.record.key, held)
        self._floors.update(state.floors)
        self.verifications = state.verifications
