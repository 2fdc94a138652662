"""The journal of a peer: writes down what its actors must not lose, and tells each of them when it is safe.

A disk is slow to promise and cheap to fill: a sync takes as long for one record as for a thousand. So nothing is
written when it is told. The first of a turn arms a timer of no delay; all that is told until it fires, by whichever
actors, is one batch. While that is on its way to being durable the next one gathers, and goes when it is: two batches
are all there ever are, and the slower the disk, the larger they get. Nobody is answered before the store's own time.

What is told waits here until then. So what is more than a journal takes at once becomes two batches, in order, and no
error. How much can wait is up to those who write: each has only so much under way (``protocols.journal.outbox``), and
sheds what remotes want of it beyond that.

A store that fails is over, and so is this incarnation of its peer: nobody knows what the failed sync has left, so
whoever went on would go on from a guess. The host takes the peer down, and the next incarnation reads what is there.
Actors of the peer on other hosts (placement ``subsystem``) are told, and refuse from then on what they cannot keep.

Rows that are not those that were written are no accident. No disk of a simulation does that, so there it is a bug and
stops the run; in real time it stops the peer. Either way the error names the peer, the stream, and the record.

A peer that is closed in order starts clean. Peers of a simulation always crash: that is the end from which there is
something to learn.

A checkpoint holds nothing that is in the store: a restored actor reads its streams again, as they were written but
perhaps not yet durable.
"""

from typing import ClassVar, Final, Self

import msgspec

from actors.actor import Actor, handles
from actors.context import Context
from actors.setup import PeerSetup
from protocols.crypto import Secret
from protocols.errors import LocalError
from protocols.journal import Batch, FullError, Journal, JournalKeys, Recovery, Store, StoreError, Stream, Table
from protocols.journal.messages import (
    Append,
    Close,
    Closed,
    Durable,
    Forget,
    JournalLost,
    OpenStream,
    Recovered,
    Settle,
    Snapshot,
)
from protocols.messages import Message

STATE_VERSION: Final = 2

SEALED: Final = (Table.ROLL, Table.KEY, Table.SNAPSHOT, Table.GROUP)
"""The tables whose rows cost an AEAD; all of them cost a MAC."""

EMPTIED: Final = b""
"""The state of a stream that was forgotten and has to stay. Whoever opens it finds none."""


class Flush(Message, frozen=True, tag="journal.flush"):
    """The turn is over."""


class Synced(Message, frozen=True, tag="journal.synced"):
    """The batch under way is durable."""


class _Waiting(msgspec.Struct, array_like=True, frozen=True):
    """Something that was told and not written yet."""

    service: str
    """Who is told when it is durable."""
    time: int
    write: Append | Snapshot | Forget | Close


Answer = tuple[str, Durable | Closed]
"""Whom to tell what."""


class _Opened(msgspec.Struct, array_like=True):
    """A stream that is open."""

    name: bytes
    service: str
    """Whose it is."""
    settled: bool
    """Nothing about it is in doubt: it was found clean, or settled since. The first record that is written after that
    makes it unclean on the disk."""


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    opened: list[_Opened]
    waiting: list[_Waiting]
    under_way: list[Answer] | None
    armed: bool
    closed: bool


class JournalActor(Actor):
    """The streams of one peer."""

    __slots__ = ("_armed", "_closed", "_journal", "_opened", "_setup", "_store", "_streams", "_under_way", "_waiting")

    service: ClassVar[str] = "journal"

    _store: Store
    _journal: Journal

    def __init__(self, setup: PeerSetup) -> None:
        self._setup = setup
        self._streams: dict[bytes, Stream] = {}
        self._opened: dict[bytes, _Opened] = {}
        self._waiting: list[_Waiting] = []
        """What is told from now on is in the batch after the one under way. Bounded by those who write."""
        self._under_way: list[Answer] | None = None
        """Whom to tell what when the batch under way is durable; None if none is."""
        self._armed = False
        self._closed = False
        """The last batch is under way, or durable."""

    def start(self, ctx: Context) -> None:
        self._open()
        if self._store.torn:
            ctx.count("journal_torn")
            ctx.count("journal_torn_bytes", self._store.torn)
            ctx.event("journal_torn", bytes=self._store.torn)

    def _open(self) -> None:
        if self._setup.store is None:
            raise LocalError("a journal needs a store")
        self._store = self._setup.store()
        self._journal = Journal.open(JournalKeys(Secret(self._setup.journal_key)), self._store)

    # -- told by the other actors -------------------------------------------------------------------

    @handles(OpenStream)
    def open_stream(self, message: OpenStream, ctx: Context) -> None:
        self._check_open()
        name = message.stream
        known = name in self._journal.streams
        recovery = self._open_stream(name)
        self._opened[name] = _Opened(name, ctx.sender, recovery.clean)
        _charge(_size(recovery), ctx)
        ctx.count("journal_streams", 1, ("clean" if recovery.clean else "unclean") if known else "new")
        ctx.count("journal_records_recovered", len(recovery.records))
        if recovery.damaged:
            ctx.count("journal_snapshots_damaged", len(recovery.damaged))
            ctx.event("journal_damaged", stream=name, sequence=recovery.damaged[0])
        ctx.reply(Recovered(name, recovery.snapshot, recovery.records, recovery.clean, recovery.torn, recovery.damaged))

    @handles(Append, Snapshot)
    def write(self, message: Append | Snapshot, ctx: Context) -> None:
        self._stream(message.stream)
        self._wait(message, ctx)

    @handles(Forget)
    def forget(self, message: Forget, ctx: Context) -> None:
        self._wait(message, ctx)

    @handles(Close)
    def close(self, message: Close, ctx: Context) -> None:
        self._wait(message, ctx)
        self._closed = True

    @handles(Settle)
    def settle(self, message: Settle, ctx: Context) -> None:
        self._check_open()
        self._stream(message.stream).settle()
        self._opened[message.stream].settled = True

    # -- the disk -----------------------------------------------------------------------------------

    @handles(Flush)
    def flush(self, message: Flush, ctx: Context) -> None:
        self._armed = False
        self._commit(ctx)

    @handles(Synced)
    def synced(self, message: Synced, ctx: Context) -> None:
        answers, self._under_way = self._under_way, None
        self._tell(answers or [], ctx)
        if self._waiting:
            self._commit(ctx)

    def _wait(self, write: Append | Snapshot | Forget | Close, ctx: Context) -> None:
        self._check_open()
        self._waiting.append(_Waiting(ctx.sender, ctx.now, write))
        if self._under_way is None and not self._armed:
            self._arm(ctx)

    def _arm(self, ctx: Context) -> None:
        self._armed = True
        ctx.after(0, Flush())

    def _commit(self, ctx: Context) -> None:
        """Write what waits, as one batch; if it is more than a journal takes at once, the rest goes into the next."""
        taken: list[_Waiting] = []
        answers: list[Answer] = []
        for each in self._waiting:
            try:
                answers.append((each.service, self._take(each)))
            except FullError:
                if not taken:
                    raise
                break
            taken.append(each)
        del self._waiting[: len(taken)]
        closing = isinstance(answers[-1][1], Closed)
        batch = (self._journal.close if closing else self._journal.flush)(ctx.entropy) or Batch()
        durable_at = self._store_batch(batch, ctx)
        records = sum(len(each.write.entries) for each in taken if isinstance(each.write, Append))
        ctx.count("journal_batches")
        ctx.count("journal_records", records)
        ctx.count("journal_bytes", sum(len(row.data) for row in batch.rows))
        ctx.record("journal_batch_records", records)
        if durable_at > ctx.now:
            self._under_way = answers
            ctx.after(durable_at - ctx.now, Synced())
        else:
            self._tell(answers, ctx)
            if self._waiting:
                self._arm(ctx)

    def _store_batch(self, batch: Batch, ctx: Context) -> int:
        """Returns when it will be durable."""
        try:
            durable_at = self._store.write(batch, ctx.now)
        except StoreError:
            self._journal.failed()
            for service in dict.fromkeys(each.service for each in self._opened.values()):
                ctx.send(service, JournalLost())
            raise
        for row in batch.rows:
            ctx.charge("hash", len(row.data))
            if row.table in SEALED:
                ctx.charge("aead", len(row.data))
        return durable_at

    def _take(self, waiting: _Waiting) -> Durable | Closed:
        """Into the journal, where it is part of the next batch; returns what is said when that is durable."""
        write = waiting.write
        if isinstance(write, Append):
            return Durable(write.token, write.stream, self._stream(write.stream).append(write.entries, waiting.time))
        if isinstance(write, Snapshot):
            sequence = self._stream(write.stream).snapshot(write.state, erase=write.erase)
            return Durable(write.token, write.stream, sequence)
        if isinstance(write, Forget):
            return Durable(write.token, write.stream, self._forget(write.stream))
        return Closed()

    def _tell(self, answers: list[Answer], ctx: Context) -> None:
        for service, answer in answers:
            if isinstance(answer, Closed):
                self._store.close()
            ctx.send(service, answer)

    # -- inside -------------------------------------------------------------------------------------

    def _open_stream(self, name: bytes) -> Recovery:
        if name in self._streams and name not in self._opened:  # it was emptied since
            recovery = Recovery()
        else:
            self._streams[name], recovery = self._journal.open_stream(name, self._setup.journal_anchors.get(name))
        snapshot = None if recovery.snapshot == EMPTIED else recovery.snapshot
        clean = recovery.clean and not self._setup.imported
        return msgspec.structs.replace(recovery, snapshot=snapshot, clean=clean)

    def _stream(self, name: bytes) -> Stream:
        if name not in self._opened:
            raise LocalError(f"the stream {name!r} is not open")
        return self._streams[name]

    def _forget(self, name: bytes) -> int:
        """Returns the number of its last record, as far as that is known."""
        if name in self._journal.streams and name in self._setup.journal_anchors:
            return self._empty(name)
        if name in self._journal.streams:
            self._journal.remove_stream(name)
        self._opened.pop(name, None)
        stream = self._streams.pop(name, None)
        return 0 if stream is None else stream.sequence

    def _empty(self, name: bytes) -> int:
        """What it holds is destroyed, and it goes on from there: the keystore would miss it, now or made anew."""
        if name not in self._streams:
            self._open_stream(name)
        self._opened.pop(name, None)
        stream = self._streams[name]
        stream.settle()
        return stream.snapshot(EMPTIED, erase=True)

    def _check_open(self) -> None:
        if self._closed:
            raise LocalError("the journal was told to close; nothing that it is told after that could be kept")

    # -- state --------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        state = _State(
            STATE_VERSION, list(self._opened.values()), self._waiting, self._under_way, self._armed, self._closed
        )
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes, setup: PeerSetup) -> Self:
        try:
            state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise LocalError(f"not the state of a journal: {error}") from None
        if state.version != STATE_VERSION:
            raise LocalError(f"state version {state.version}, not {STATE_VERSION}")
        actor = cls(setup)
        actor._open()
        for each in state.opened:
            actor._open_stream(each.name)
            actor._opened[each.name] = each
            if each.settled:
                actor._streams[each.name].settle()
        actor._waiting, actor._under_way = state.waiting, state.under_way
        actor._armed, actor._closed = state.armed, state.closed
        return actor


def _size(recovery: Recovery) -> int:
    return len(recovery.snapshot or b"") + sum(len(record.payload) for record in recovery.records)


def _charge(size: int, ctx: Context) -> None:
    ctx.charge("aead", size)
    ctx.charge("hash", size)
