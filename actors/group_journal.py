"""What a group's steps leave in its two streams, and what may be done about them once it is there.

The streams are what ``SendLedger`` and ``Group`` are: the one never goes back, whatever happens to the other. What a
turn writes to both is told to the journal together, which makes it one batch. Even so the ledger's comes first: of a
step that something cut in two, at most the reservation is there, and a key or the right to commit is not used, but
never used twice.

The group's has whole states, and the records and the mail (``group_mail``) since. A whole state is written when epochs
have to be erased, which destroys all that the stream held before, and when the records since have become larger than
it: so what is written is a constant times what happens.

*The price.* Between two erasures the stream holds an older state and the records since; whoever has the journal's
root key can go through the ratchets of all epochs in them again. A key that was used is gone from memory at once,
and from the journal with its epoch.
"""

from collections.abc import Iterable, Sequence
from typing import Final, TypeGuard

from actors.group_mail import (
    EFFECTS,
    MAIL,
    MAIL_MAX,
    MAIL_SIZE_MAX,
    RESERVED,
    STATE_VERSION,
    STATES,
    Effect,
    Heard,
    Invite,
    Mail,
    Post,
    Proven,
    Settled,
    State,
    group_stream,
    ledger_stream,
)
from protocols.errors import LocalError, ProtocolError, StorageError
from protocols.journal.messages import ENTRIES_MAX, PAYLOAD_SIZE_MAX, Entry, Record, Recovered
from protocols.journal.outbox import BusyError, Outbox
from protocols.messages import Codec, Message, Uint64, encode, peek_tag
from protocols.mls.group import Group
from protocols.mls.outcomes import Moved
from protocols.mls.records import RECORDS
from protocols.mls.send_ledger import SendLedger
from protocols.mls.services import Retention, Services

COMPACT_SIZE_MIN: Final = 64 * 1024
"""Records are not worth a snapshot before there are so many bytes of them."""
RESERVATIONS_MAX: Final = 1024
"""Since the ledger's last snapshot, which is at most a third as large."""


class Checkpoint(Message, frozen=True, tag="group.checkpoint"):
    """All of it but the journal itself."""

    state: bytes
    ledger: bytes
    outbox: bytes
    counts: tuple[Uint64, Uint64, Uint64]

    def __repr__(self) -> str:
        return f"Checkpoint({len(self.state)} bytes)"


CHECKPOINTS: Final[Codec[Checkpoint]] = Codec(Checkpoint, size_max=2**30)


class GroupJournal:
    """Writes for one group, whose steps its owner takes; each call here is one step, or a part of it."""

    def __init__(self, group: Group, before: "GroupJournal | None" = None) -> None:
        """``before``: whose streams these are until now, and whose last step this is."""
        self.group: Final = group
        self.outbox: Outbox[Effect] = Outbox(EFFECTS) if before is None else before.outbox
        self.mail: Final[dict[int, Mail]] = {}
        """What was not taken yet, by number."""
        self._mail_size = 0
        self._numbered: int = 0 if before is None else before._numbered
        self._appended = 0
        """Bytes in the group's stream since its last snapshot,"""
        self._stored = 0
        """and of that snapshot."""
        self._reserved = 0
        """Reservations since the ledger's last snapshot."""
        self._forgotten = False
        if before is not None:
            before._forgotten = True

    # -- writing --------------------------------------------------------------------------------------

    def begin(self, *effects: Effect) -> None:
        """The group is new here. What its stream held is destroyed: a place in it that we had before."""
        self._keep(effects)
        self._snapshot_ledger(erase=True)  # it may be from elsewhere
        self._snapshot(erase=True)
        self.trust()
        self.outbox.hold(*effects)

    def write(
        self, records: Sequence[bytes], effects: Sequence[Effect] = (), reservations: Sequence[bytes] = ()
    ) -> None:
        """A step, and what may be done when it is durable."""
        self._keep(effects)
        # First, and so durable no later: of the two halves of a step, this one may be there alone.
        self.reserve(reservations)
        mail = [_entry(each) for each in effects if _is_mail(each)]
        self._append([*(Entry(peek_tag(record), record) for record in records if record), *mail])
        self.outbox.hold(*effects)

    def move(self, moved: Moved, *effects: Effect) -> None:
        """A step after which epochs may have to be erased: then the whole state stands for its record too."""
        if moved.erase:
            self._keep(effects)
            self._snapshot(erase=True)
            self.outbox.hold(*effects)
        else:
            self.write((moved.record,), effects)

    def reserve(self, reservations: Sequence[bytes]) -> None:
        if reservations:
            self.outbox.append(ledger_stream(self.group.group_id), *(Entry(RESERVED, each) for each in reservations))
            self._reserved += len(reservations)
            if self._reserved >= RESERVATIONS_MAX:
                self._snapshot_ledger(erase=False)

    def settle(self, numbers: Iterable[int]) -> None:
        known = tuple(number for number in dict.fromkeys(numbers) if number in self.mail)
        if known:
            self._drop(known)
            self._append([_entry(Settled(known))])

    def trust(self) -> None:
        """Nothing in the streams is in doubt any more."""
        self.outbox.settle(group_stream(self.group.group_id))
        self.outbox.settle(ledger_stream(self.group.group_id))

    def forget(self) -> None:
        """The last step: see ``JournaledGroup.forget``."""
        self.outbox.forget(group_stream(self.group.group_id))
        self.mail.clear()
        self._mail_size = 0
        self._forgotten = True

    def number(self) -> int:
        """For the next piece of mail."""
        self._numbered += 1
        return self._numbered

    def check_room(self) -> None:
        """Before a step that may make mail.

        Raises:
            BusyError: too much waits to be written, or to be taken.
        """
        self._check_there()
        self.outbox.check_room()
        if len(self.mail) >= MAIL_MAX or self._mail_size >= MAIL_SIZE_MAX:
            raise BusyError(f"{len(self.mail)} pieces of mail, {self._mail_size} bytes, wait to be taken")

    def _check_there(self) -> None:
        if self._forgotten:
            raise LocalError("this group was forgotten, or another one has its streams: that was its last step")

    def _append(self, entries: Sequence[Entry]) -> None:
        self._check_there()
        self._appended += sum(len(entry.payload) for entry in entries)
        fits = len(entries) <= ENTRIES_MAX and all(len(entry.payload) <= PAYLOAD_SIZE_MAX for entry in entries)
        if fits:
            self.outbox.append(group_stream(self.group.group_id), *entries)
        if not fits or self._appended > max(self._stored, COMPACT_SIZE_MIN):
            self._snapshot(erase=not fits)

    def _snapshot(self, *, erase: bool) -> None:
        """Not to erase takes a state that follows from the records before it: a journal may fall back on those."""
        self._check_there()
        state = self._state()
        self.outbox.snapshot(group_stream(self.group.group_id), state, erase=erase)
        self._stored, self._appended = len(state), 0

    def _snapshot_ledger(self, *, erase: bool) -> None:
        self.outbox.snapshot(ledger_stream(self.group.group_id), self.group.ledger.to_bytes(), erase=erase)
        self._reserved = 0

    def _state(self) -> bytes:
        return STATES.encode(State(STATE_VERSION, self.group.to_bytes(), self._numbered, tuple(self.mail.values())))

    def _keep(self, effects: Iterable[Effect]) -> None:
        for each in effects:
            if _is_mail(each):
                self.mail[each.number] = each
                self._mail_size += len(encode(each))

    def _drop(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._mail_size -= len(encode(self.mail.pop(number)))

    # -- recovery -------------------------------------------------------------------------------------

    @classmethod
    def recover(
        cls, group: Recovered, ledger: Recovered, services: Services, retention: Retention
    ) -> "GroupJournal | None":
        """See ``JournaledGroup.recover``."""
        known = recovered_ledger(ledger)
        if group.snapshot is None:
            return None
        try:
            journal = cls._from_state(group.snapshot, known, services, retention)
        except LocalError as error:
            raise StorageError("bad_state", f"the state in {_named(group)}: {error}") from None
        journal._stored, journal._reserved = len(group.snapshot), len(ledger.records)
        for record in group.records:
            try:
                journal._replay(record)
            except (LocalError, ProtocolError) as error:
                where = f"record {record.sequence} ({record.kind}) in {_named(group)}"
                raise StorageError("bad_record", f"{where}: {error}") from None
        return journal

    def _replay(self, record: Record) -> None:
        self._appended += len(record.payload)
        if record.kind in RECORDS.tags:
            self.group.replay(record.payload)
            return
        match MAIL.decode(record.payload):
            case Settled(numbers):
                self._drop(numbers)
            case (Post() | Invite() | Heard() | Proven()) as mail:
                self._keep((mail,))
                self._numbered = max(self._numbered, mail.number)

    # -- to bytes and back ----------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        counts = self._appended, self._stored, self._reserved
        return CHECKPOINTS.encode(
            Checkpoint(self._state(), self.group.ledger.to_bytes(), self.outbox.to_bytes(), counts)
        )

    @classmethod
    def from_bytes(cls, data: bytes, services: Services, retention: Retention) -> "GroupJournal":
        """Raises:
        LocalError: these are not the bytes of a group's journal.
        """
        try:
            stored = CHECKPOINTS.decode(data)
        except ProtocolError as error:
            raise LocalError(f"this is no checkpoint of a group: {error}") from None
        journal = cls._from_state(stored.state, SendLedger.from_bytes(stored.ledger), services, retention)
        journal.outbox = Outbox.from_bytes(stored.outbox, EFFECTS)
        journal._appended, journal._stored, journal._reserved = stored.counts
        return journal

    @classmethod
    def _from_state(cls, data: bytes, ledger: SendLedger, services: Services, retention: Retention) -> "GroupJournal":
        try:
            state = STATES.decode(data)
        except ProtocolError as error:
            raise LocalError(f"this is no state of a group: {error}") from None
        if state.version != STATE_VERSION:
            raise LocalError(f"stored as version {state.version}; this code reads {STATE_VERSION}")
        journal = cls(Group.from_bytes(state.group, ledger, services=services, retention=retention))
        journal._numbered = state.numbered
        journal._keep(state.mail)
        return journal


def recovered_ledger(ledger: Recovered) -> SendLedger:
    """All that a ledger's stream knows, for a group that is recovered or joined again.

    Raises:
        StorageError: ``bad_record``: something else was written to it.
    """
    try:
        known = SendLedger() if ledger.snapshot is None else SendLedger.from_bytes(ledger.snapshot)
        for record in ledger.records:
            known.apply(record.payload)
    except LocalError as error:
        raise StorageError("bad_record", f"in {_named(ledger)}: {error}") from None
    return known


def _named(recovered: Recovered) -> str:
    purpose, _, name = recovered.stream.partition(b"/")
    return f"stream {purpose.decode('ascii', 'replace')}/{name.hex()[:16]}"


def _is_mail(effect: Effect) -> TypeGuard[Mail]:
    return isinstance(effect, Post | Invite | Heard | Proven) and effect.number > 0


def _entry(content: Mail | Settled) -> Entry:
    data = MAIL.encode(content)
    return Entry(peek_tag(data), data)
