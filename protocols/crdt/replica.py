"""One device's copy of a channel's document: what is held, who may do what, and what it all comes to.

There is one way in, for everything: ``receive``. What this device writes itself, what a peer pushes, what
reconciliation finds and what a disk gives back pass the same checks, in this order: size and count before anything is
decoded, the signature, that everything it depends on is here, back-link, sequence and clock, the author's quota, and
whether the author may do this by what the operation itself has seen. All of that follows from the operation and its
past, so all replicas take the same operations, in whatever order they come. Which of those *count* follows from the
whole set (``judgement``), and may change as the set grows; then the document is made again.

What cannot be decided yet (something is missing, or the clock is ahead of ours) is parked and can be fetched again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Final, Self

import msgspec

from protocols.crdt.archive import archive, unarchive
from protocols.crdt.bundles import BUNDLE_COUNT_MAX, BUNDLE_SIZE_MAX, Parcel, encode_bundle, parse, path_of, seal_bundle
from protocols.crdt.changes import Accuse, Acknowledge, Authority, Change, Edit, Genesis, Path, Role
from protocols.crdt.clock import is_ahead, next_clock
from protocols.crdt.compaction import document_at, frontier, tail_of, take, units_of, within
from protocols.crdt.document import Document
from protocols.crdt.drafts import Draft
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Held, History, MissingError, Past
from protocols.crdt.judgement import Judge
from protocols.crdt.operations import DEPENDENCIES_MAX, NOTHING, Operation, encode_change
from protocols.crdt.pending import Pending
from protocols.crdt.quota import Quota
from protocols.crdt.restoring import Base, restored
from protocols.crdt.snapshot import (
    ACT,
    Frame,
    Sealed,
    Snapshot,
    body_of,
    decode_sealed,
    decode_snapshot,
    encode_sealed,
    encode_snapshot,
    frame_of,
    seal,
)
from protocols.crdt.text import check_edits
from protocols.errors import LocalError
from protocols.identity.signing import SigningKey

BURST: Final = 65_536
RATE_PER_S: Final = 100
UNVOUCHED_MAX: Final = 4096
"""Operations without effect of one equivocator. It can sign as many in a second or so; honest ones had not that many
under way when it was found out."""
FOREVER: Final = 2**62
"""A time at which no clock is ahead: what is stored was believed once."""
VERSION: Final = 1


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What became of a unit, and of others that had waited for it."""

    added: tuple[Held, ...] = ()
    duplicates: int = 0
    parked: bool = False
    refused: CrdtError | None = None
    """Why the rest of it is not taken; whoever sent it could have seen that."""


class _State(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    history: bytes
    """An archive, or a snapshot."""
    pending: bytes
    genesis: bytes
    """Of a replica that begins with a snapshot; else the archive has it."""


class Replica:
    """A document and all that it is made of."""

    def __init__(self, genesis: bytes, base: Base | None = None) -> None:
        """Args:
            genesis: the channel's first bundle, which has the genesis alone.
            base: what came after it, if that was compacted.

        Raises:
            CrdtError: it is no genesis, or not signed by one of its owners.
        """
        parcel = parse(NOTHING, genesis)
        parcel.seal.verify(NOTHING)
        first = parcel.operations[0]
        change = first.change
        if not isinstance(change, Genesis) or parcel.seal.count != 1:
            raise CrdtError("bad_genesis", "a channel begins with a bundle of one operation, its genesis")
        devices = [device for device, _ in change.roles]
        if devices != sorted(set(devices)) or (first.author, Role.OWNER) not in change.roles:
            raise CrdtError("bad_genesis", "a genesis has its devices sorted, each once, and its author is an owner")
        self.genesis: Final = genesis
        self.channel: Final = first.id
        self._base: Final = base
        self.history: Final = History(self.channel) if base is None else base.history
        self.judge: Final = Judge(self.history) if base is None else base.judge
        self.pending = Pending()
        self._quota: Final = Quota(change.burst, change.rate_per_s) if base is None else base.quota
        self._rejudge = False
        self._draft: Draft | None = None
        self._document: Document | None = None
        if base is not None:
            return
        self._document = Document(self.history)
        held = self.history.place(first, parcel.seal, None)
        self._admit(held)
        self._add(held)
        self._document.apply(held)

    @classmethod
    def found(
        cls,
        key: SigningKey,
        roles: Mapping[bytes, Role],
        *,
        nonce: bytes,
        now_ns: int,
        burst: int = BURST,
        rate_per_s: int = RATE_PER_S,
    ) -> Self:
        """A new channel of ``key``'s device as owner, and whom it names; ``nonce`` is 32 fresh bytes."""
        genesis = Genesis(tuple(sorted({**roles, key.public: Role.OWNER}.items())), nonce, burst, rate_per_s)
        parcel = seal_bundle(key, NOTHING, [(genesis, next_clock(now_ns, ()), ())], 1, NOTHING)
        return cls(encode_bundle(parcel.seal, parcel.operations))

    def __repr__(self) -> str:
        return f"<Replica of {self.channel.hex()[:16]}: {len(self.history)} operations, {len(self.pending)} parked>"

    # -- ways in ------------------------------------------------------------------------------------------

    def receive(self, data: bytes, sender: bytes, now_ns: int) -> Receipt:
        """A bundle or a single operation, from whoever ``sender`` is. Never raises for what is in ``data``."""
        self._closed()
        try:
            parcel = parse(self.channel, data)
            duplicates = sum(each.id in self.history for each in parcel.operations)
            if duplicates == len(parcel.operations):
                return Receipt(duplicates=duplicates)
            parcel.seal.verify(self.channel)
        except CrdtError as error:
            return Receipt(refused=error)
        added: list[Held] = []
        parked, refused = self._take(parcel, data, sender, now_ns, added)
        self._release(added, now_ns)
        self._judged(added)
        return Receipt(tuple(added), duplicates, parked, refused)

    def expire(self, now_ns: int) -> tuple[Held, ...]:
        """Take in what was parked because its clock was ahead, and forget what has waited for too long."""
        self._closed()
        added: list[Held] = []
        for unit in self.pending.due(now_ns):
            self._take(parse(self.channel, unit.data), unit.data, unit.sender, now_ns, added)
        self._release(added, now_ns)
        self._judged(added)
        return tuple(added)

    # -- asked --------------------------------------------------------------------------------------------

    @property
    def document(self) -> Document:
        """The state that the operations which count come to."""
        if self._document is None:
            base, history = self._base, self.history
            self._document = Document(history) if base is None else base.document()
            for held in history if base is None else history.after(base.history.floor):
                self._document.apply(held)
        return self._document

    @property
    def heads(self) -> tuple[bytes, ...]:
        return self.history.heads

    @property
    def set_digest(self) -> bytes:
        """Of the set of operations: who has the same holds the same."""
        return self.history.set_digest

    def digest(self) -> bytes:
        """Of the document, the roles and the fenced, as they are read; 32 bytes, the same at all that hold the same."""
        roles = sorted((device, int(role)) for device, role in self.judge.members.items())
        fenced = sorted(self.judge.fenced_members)
        return sha256(self.document.digest() + msgspec.msgpack.encode((roles, fenced))).digest()

    @property
    def missing(self) -> tuple[bytes, ...]:
        """What parked operations wait for."""
        return self.pending.missing

    def tip(self, author: bytes) -> Held | None:
        """An author's last operation; of an equivocator's, that of its first lane."""
        lanes = self.history.lanes_of.get(author)
        return self.history.lanes[lanes[0]].operations[-1] if lanes else None

    # -- taking in ----------------------------------------------------------------------------------------

    def _take(
        self, parcel: Parcel, data: bytes, sender: bytes, now_ns: int, added: list[Held]
    ) -> tuple[bool, CrdtError | None]:
        """Take in of a verified parcel what can be; returns whether the rest is parked, or why it is refused."""
        history, before = self.history, len(added)
        parked, refused = False, None
        dropped = history.dropped(parcel.operations)
        for operation in parcel.operations[dropped:]:
            if operation.id in history:
                continue
            try:
                self._check_patience(operation)
                if is_ahead(operation.clock, now_ns):
                    self._park(parcel, data, sender, now_ns, until_clock=operation.clock)
                    parked = True
                    break
                held = history.place(operation, parcel.seal, parcel.path)
                self._admit(held)
            except MissingError as error:
                self._learn(operation)
                self._park(parcel, data, sender, now_ns, missing=error.missing)
                parked = True
                break
            except CrdtError as error:
                if error.reason == "behind_frontier":
                    self._learn(operation)
                refused = error
                break
            self._add(held)
            added.append(held)
        if (parked or refused or dropped) and parcel.path is None:
            for held in added[before:]:  # the rest of the bundle, which would show that they are of it, is not here
                held.path = path_of(parcel.operations, held.sequence - parcel.seal.first)
        return parked, refused

    def _learn(self, operation: Operation) -> None:
        """What an accusation proves that may never be taken in: it may depend on what is settled, and was dropped."""
        if self._base is not None and isinstance(operation.change, Accuse):
            self.judge.learn(operation.change)

    def _check_patience(self, operation: Operation) -> None:
        """A quota is of a chain, and an equivocator makes as many as it likes. Once it is fenced, what has no effect is
        held up to a number. But while a member waits for anything, all is taken: it may have seen these before it knew,
        and how many of them come first cannot be told."""
        author, judge = operation.author, self.judge
        if judge.unvouched(author) < UNVOUCHED_MAX:
            return
        if any(judge.role(each) and each not in judge.authority.proofs for each in self.pending.waiting):
            return
        raise CrdtError("enough", f"{UNVOUCHED_MAX} operations of the equivocator {author.hex()[:16]} have no effect")

    def _park(
        self, parcel: Parcel, data: bytes, sender: bytes, now_ns: int, *, missing: tuple[bytes, ...] = (),
        until_clock: int = 0,
    ) -> None:  # fmt: skip
        """Until the first operation that is not here can be taken in. What those after it miss is of no account yet:
        two bundles may depend on each other's parts, and would wait for each other."""
        ids = [each.id for each in parcel.operations if each.id not in self.history]
        self.pending.park(data, sender, now_ns, missing=missing, until_clock=until_clock, ids=ids)

    def _admit(self, held: Held) -> None:
        """Every rule that needs more than the operation and its place."""
        self._quota.check(self.history, held)
        self._check(held)

    def _check(self, held: Held) -> None:
        """All of these but the quota."""
        self.judge.admit(held)
        if isinstance(held.operation.change, Edit):
            check_edits(self.history, held)

    def _add(self, held: Held) -> None:
        self.history.add(held)
        self._quota.added(held)
        if self.judge.added(held):
            self._rejudge = True

    def _release(self, added: list[Held], now_ns: int) -> None:
        """What waited for the operations that were added, and what waited for that, and so on."""
        done = 0
        while done < len(added):
            for unit in self.pending.released(added[done].id):
                self._take(parse(self.channel, unit.data), unit.data, unit.sender, now_ns, added)
            done += 1

    def _judged(self, added: Sequence[Held]) -> None:
        """Bring the document up to date."""
        if self._rejudge:
            self._rejudge = False
            if self.judge.rejudge():
                self._document = None
        if self._document is not None:
            for held in added:
                self._document.apply(held)

    def _closed(self) -> None:
        if self._draft is not None:
            raise LocalError("a draft is open: seal it first, as what arrives would move what it refers to")

    # -- writing ------------------------------------------------------------------------------------------

    def accuse(self, key: SigningKey, now_ns: int) -> bytes | None:
        """Say who is an equivocator, if that is known here and what this device writes next would not have seen it;
        None if there is nothing to say. There may be more to say after it.

        It depends on nothing but what this device wrote before and what gave it its role, so it vouches for nothing
        of the accused.

        Raises:
            LocalError: this device may not accuse, or not any more. Nothing has changed.
        """
        self._closed()
        due = self.judge.accusations_by(key.public)[:BUNDLE_COUNT_MAX]
        changes = [self.judge.accusation_of(device) for device in due]
        role = self._beside(key, self.judge.standing(key.public)[:1])
        return self._write(key, changes, role, now_ns) if changes else None

    def write(self, key: SigningKey, changes: Sequence[Change], now_ns: int) -> bytes:
        """Sign a bundle of changes and take it in; returns it for the others.

        Changes of who may do what, and edits that are no draft's, are written one at a time. There may be 64 in all,
        and one less for each further 32 branches that they are the first to join.

        Raises:
            LocalError: this device may not do that, or it is too much, or ``accuse`` comes first. Nothing has changed.
        """
        self._closed()
        if len(changes) > 1 and any(isinstance(each, Authority | Edit) for each in changes):
            raise LocalError("a change of who may do what, or an edit that is no draft's, is written alone")
        if self.judge.accusations_by(key.public):
            raise LocalError("an equivocator is known here: accuse it before anything else is written")
        return self._write(key, changes, self._beside(key, self.judge.front), now_ns)

    def draft(self, path: Path) -> Draft:
        """Begin to type into a text; ``seal`` ends it. Nothing else may happen meanwhile.

        Raises:
            LocalError: there is a draft already, or ``accuse`` comes first.
        """
        self._closed()
        if self.judge.accusations_due:
            raise LocalError("an equivocator is known here: accuse it before anything else is written")
        past = self.history.past_of(self.judge.front)
        unseen = self.history.after(past)
        document = self.document
        if any(isinstance(each.operation.change, Edit) and each.operation.change.path == path for each in unseen):
            # What does not count is in the text, hidden, and must not be referred to: type into one without it.
            document, self._document = document_at(self.history, past, self._base), None
        self._draft = Draft(document.text(path), path)
        return self._draft

    def seal(self, key: SigningKey, now_ns: int) -> tuple[bytes, ...]:
        """Sign what was typed, in as many bundles as it takes: none, if nothing was.

        Raises:
            LocalError: no draft is open, or this device may not write that: then what was typed is gone.
        """
        draft, self._draft = self._draft, None
        if draft is None:
            raise LocalError("no draft is open")
        tip = self.tip(key.public)
        lane, sequence = (-1, 1) if tip is None else (tip.lane, tip.sequence + 1)
        front = self._beside(key, self.judge.front)
        joins = _joins(front)
        edits = draft.changes(lane, sequence + joins)
        bundles: list[bytes] = []
        signed: list[Held] = []
        try:
            for part in _parts(edits, BUNDLE_COUNT_MAX - joins):
                data, added = self._sign(key, part, front, now_ns, len(edits) - len(signed))
                bundles.append(data)
                signed += added[len(added) - len(part) :]
                front = []
        except LocalError:
            self._document = None
            raise
        if self._rejudge or not all(held.counts for held in signed):
            self._document = None
            self._judged(())
        elif self._document is not None:
            draft.signed(signed)
        return tuple(bundles)

    def _beside(self, key: SigningKey, front: Iterable[bytes]) -> list[bytes]:
        """What an operation of this device depends on besides its back-link, to have seen all of ``front``, of which
        none sees another."""
        operations, previous = self.history.operations, self.tip(key.public)
        return [each for each in front if previous is None or not previous.sees(operations[each])]

    def _write(self, key: SigningKey, changes: Sequence[Change], front: list[bytes], now_ns: int) -> bytes:
        data, added = self._sign(key, changes, front, now_ns, len(changes))
        self._judged(added)
        return data

    def _sign(
        self, key: SigningKey, changes: Sequence[Change], front: list[bytes], now_ns: int, room: int
    ) -> tuple[bytes, list[Held]]:
        """Sign changes that have seen all of ``front``. If that is too much for one operation to depend on, others that
        do nothing else come before. There has to be room for ``room`` changes by the author's quota."""
        history, previous = self.history, self.tip(key.public)
        if previous is None:
            first, back_link = 1, NOTHING
        else:
            first, back_link = previous.sequence + 1, previous.id
        seen = front if previous is None else (*front, back_link)
        clock = next_clock(now_ns, [history.operations[each].operation.clock for each in seen])
        dated: list[tuple[Change, int, tuple[bytes, ...]]] = []
        for number, change in enumerate((*[Acknowledge()] * _joins(front), *changes)):
            dated.append((change, clock + number, tuple(front[:DEPENDENCIES_MAX])))
            front = front[DEPENDENCIES_MAX:]
        parcel = seal_bundle(key, self.channel, dated, first, back_link)
        data = encode_bundle(parcel.seal, parcel.operations)
        try:
            held = history.place(parcel.operations[0], parcel.seal, None)
            self._admit(held)
            self._quota.check_room(history, held, room + len(dated) - len(changes))
            for before, operation in pairwise(parcel.operations):
                held = history.place(operation, parcel.seal, None, held)
                if operation.dependencies or type(operation.change) is not type(before.change):
                    self._check(held)  # else it may what the one before may
        except CrdtError as error:
            raise LocalError(f"this device cannot write that: {error}") from error
        added: list[Held] = []
        for operation in parcel.operations:
            held = history.place(operation, parcel.seal, None)
            self._add(held)
            added.append(held)
        return data, added

    # -- compaction ---------------------------------------------------------------------------------------

    def snapshot(self) -> Sealed | None:
        """The state at the stable frontier and what is held in front of it, to be signed; None if there is no frontier
        other than the one that this replica begins at.

        Raises:
            LocalError: a draft is open.
        """
        self._closed()
        past = frontier(self.history, self.judge)
        if not past or (self._base is not None and past == self._base.history.floor):
            return None
        return self._snapshot_at(past)

    def confirms(self, sealed: Sealed) -> bool:
        """Whether a snapshot of somebody else's is at a frontier that is stable for all that is known here, and says
        what the operations held here say: then it may be signed.

        Raises:
            LocalError: a draft is open.
        """
        self._closed()
        try:
            body = body_of(sealed.body, sealed.size)
            snapshot = decode_snapshot(body)
            past = self.history.past_of(stub.id for stub in snapshot.stubs)
            if not within(past, frontier(self.history, self.judge)):
                return False
            return encode_snapshot(self._taken(past, snapshot)) == body
        except (CrdtError, AssertionError, LookupError):
            return False

    def snapshot_at(self, frame: Frame) -> Sealed | None:
        """The snapshot that somebody else has made, made from the operations that are held here, without a tail; None
        if that cannot be, or its frontier is not stable for all that is known here, or is our own.

        Raises:
            LocalError: a draft is open.
        """
        self._closed()
        history, base = self.history, self._base
        if not frame.ends or not all(each in history for each in (*frame.ends, *frame.named)):
            return None
        past = history.past_of(frame.ends)
        is_ours = base is not None and past == base.history.floor
        if is_ours or history.lets_go_of(past) or not within(past, frontier(history, self.judge)):
            return None
        try:
            snapshot = take(history, self.judge, self._quota, past, base, frame)
        except (AssertionError, LookupError):  # it names as ends what are none, or what was dropped here
            return None
        acts = [history.operations[stub.id] for stub in snapshot.stubs if stub.flags & ACT]
        return seal(encode_snapshot(snapshot), units_of(history, acts), ())

    def compacted(self, sealed: Sealed | None = None) -> Self | None:
        """The same replica without what is behind the stable frontier, or behind that of a snapshot that was made
        here; None if that is nothing new, or not stable any more.

        Raises:
            CrdtError: what came since names something that the snapshot has not.
        """
        if sealed is None:
            sealed = self.snapshot()
            if sealed is None:
                return None
        else:
            past = self.history.past_of(frame_of(decode_snapshot(body_of(sealed.body, sealed.size))).ends)
            if not within(past, frontier(self.history, self.judge)):
                return None
            sealed = msgspec.structs.replace(sealed, tail=tail_of(self.history, past))
        replica = self.restored(self.genesis, sealed)
        replica.pending = self.pending
        return replica

    @property
    def settled(self) -> Sealed | None:
        """The snapshot that this begins with, without a tail."""
        return None if self._base is None else self._base.sealed

    @property
    def settled_sequences(self) -> dict[bytes, int]:
        """By author, how far its chain goes behind that."""
        if self._base is None:
            return {}
        history = self._base.history
        last: dict[bytes, int] = {}
        for lane, sequence in enumerate(history.floor):
            author = history.author_of(lane)
            last[author] = max(sequence, last.get(author, 0))
        return last

    @property
    def unsettled(self) -> int:
        """How many operations are held whole."""
        return len(self.history) - (0 if self._base is None else self._base.history.stubs)

    def is_stranded(self, device: bytes) -> bool:
        """Whether what a device wrote last has not seen all that is settled. Those who settled that take it no more,
        nor what goes on from it, unless they had it before."""
        tip, base = self.tip(device), self._base
        if tip is None or base is None or tip.order < base.history.stubs:
            return False
        return base.history.lets_go_of(tip.past())

    def settleable(self) -> int:
        """How many operations more could be let go of now."""
        floor = () if self._base is None else self._base.history.floor
        return max(sum(frontier(self.history, self.judge)) - sum(floor), 0)

    @property
    def is_open(self) -> bool:
        """Whether this begins with a snapshot, and takes in what has not seen all that is behind it too: what others
        hold in front of it. That is for who was given the snapshot, until it has asked around."""
        return self._base is not None and self._base.history.is_open

    @is_open.setter
    def is_open(self, is_open: bool) -> None:
        if self._base is not None:
            self._base.history.is_open = is_open

    @classmethod
    def restored(cls, genesis: bytes, sealed: Sealed) -> Self:
        """A replica that begins with a snapshot. Its signatures are not looked at (``snapshot.signers``).

        Raises:
            CrdtError: ``bad_snapshot``, or what is wrong with an operation that is in it.
        """
        base = restored(genesis, sealed)
        replica, snapshot = cls(genesis, base), base.snapshot()
        try:
            again = replica._taken(base.history.floor, snapshot)
        except (AssertionError, LookupError) as error:
            raise CrdtError("bad_snapshot", f"it names what is not there: {error!r}") from None
        if encode_snapshot(again) != encode_snapshot(snapshot):
            raise CrdtError("bad_snapshot", "what it comes to is not what it says")
        for unit in sealed.tail:
            receipt = replica.receive(unit, b"", FOREVER)
            if receipt.refused is not None:
                raise receipt.refused
        if replica.pending:
            raise CrdtError("bad_snapshot", "an operation of the tail has no cause")
        base.history.is_open = False
        return replica

    def _snapshot_at(self, past: Past) -> Sealed:
        snapshot = self._taken(past, None)
        acts = [self.history.operations[stub.id] for stub in snapshot.stubs if stub.flags & ACT]
        return seal(encode_snapshot(snapshot), units_of(self.history, acts), tail_of(self.history, past))

    def _taken(self, past: Past, like: Snapshot | None) -> Snapshot:
        return take(self.history, self.judge, self._quota, past, self._base, None if like is None else frame_of(like))

    # -- to bytes and back --------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Everything that is held, and what is parked; the whole history, from which all else follows.

        Raises:
            LocalError: a draft is open.
        """
        self._closed()
        base, pending = self._base, self.pending.to_bytes()
        if base is None:
            return msgspec.msgpack.encode(_State(VERSION, archive(self.history), pending, b""))
        sealed = msgspec.structs.replace(base.sealed, tail=tail_of(self.history, base.history.floor))
        return msgspec.msgpack.encode(_State(VERSION, encode_sealed(sealed), pending, self.genesis))

    @classmethod
    def from_bytes(cls, data: bytes, channel: bytes) -> Self:
        """A replica from what was stored. Every operation is checked as if it came from a stranger.

        Raises:
            LocalError: these are not the bytes of a replica of this channel, or some of them have changed.
        """
        try:
            state = msgspec.msgpack.decode(data, type=_State)
            if state.version != VERSION:
                raise LocalError(f"a replica stored as version {state.version}; this code reads {VERSION}")
            if state.genesis:
                replica = cls.restored(state.genesis, decode_sealed(state.history))
            else:
                replica = cls._unarchived(channel, state.history)
        except (msgspec.MsgspecError, CrdtError, StopIteration) as error:
            raise LocalError(f"this is no stored replica: {error}") from None
        replica.pending = Pending.from_bytes(state.pending)
        if replica.channel != channel:
            raise LocalError("this is a stored replica of another channel")
        return replica

    @classmethod
    def _unarchived(cls, channel: bytes, data: bytes) -> Self:
        units = unarchive(channel, data)
        replica = cls(next(units))
        for unit in units:
            receipt = replica.receive(unit, b"", FOREVER)
            if receipt.refused is not None or receipt.parked:
                raise LocalError(f"a stored operation is not as it was: {receipt.refused or 'its cause is gone'}")
        return replica


def _joins(front: Sequence[bytes]) -> int:
    """How many operations it takes besides one to depend on all of it."""
    return max(0, len(front) - 1) // DEPENDENCIES_MAX


def _parts(edits: Sequence[Edit], count_max: int) -> Iterator[Sequence[Edit]]:
    """As many at a time as go into a bundle."""
    part: list[Edit] = []
    size = 0
    for edit in edits:
        cost = len(encode_change(edit))
        if part and (len(part) == count_max or size + cost > BUNDLE_SIZE_MAX // 2):
            yield part
            part, size = [], 0
        part.append(edit)
        size += cost
    if part:
        yield part
