"""The journal of a peer: its streams over one store.

A journal is told what to record and returns batches; whoever drives it writes them, in order, and only when a batch
is durable does anybody rely on what is in it. Everything that was told to any stream since the last flush goes into
one batch, so a hundred callers who wait for a disk wait for it once, and what two streams were told together is
there together.

    journal = Journal.open(JournalKeys(root), store)
    stream, recovery = journal.open_stream(b"dht")
    stream.append([Entry("stored", record)], now)
    store.write(journal.flush(entropy), now)

A journal has no bytes of its own to go to and come back from: it is what is in the store, and what it was told since.
A batch that was not written leaves memory ahead of the store. Then this journal is over (``failed``), and the store
is opened anew, to see what is there.
"""

from typing import Final

from protocols.errors import LocalError
from protocols.journal.changes import Changes
from protocols.journal.errors import JournalError
from protocols.journal.heads import BEGINNING, Head, Position
from protocols.journal.keys import Entropy, JournalKeys
from protocols.journal.messages import STREAM_NAME_SIZE_MAX
from protocols.journal.recovery import Recovery, check_absent, recover
from protocols.journal.roll import STREAMS_MAX, read_roll, roll_row
from protocols.journal.store import OF_A_STREAM, Batch, Store, Table
from protocols.journal.stream import END, Intake, Stream


class Journal:
    """See above; made by ``open``."""

    def __init__(self, keys: JournalKeys, store: Store, names: list[bytes]) -> None:
        self._keys: Final = keys
        self._store: Final = store
        self._names: dict[bytes, None] = dict.fromkeys(names)
        self._opened: dict[bytes, Stream] = {}
        self._removed: list[bytes] = []
        self._roll_changed = False
        self._intake: Final = Intake()

    def __repr__(self) -> str:
        return f"<Journal: {len(self._names)} streams, {len(self._opened)} of them open>"

    @classmethod
    def open(cls, keys: JournalKeys, store: Store) -> "Journal":
        """The journal in a store, or a new one in an empty store. Nothing is written before the first flush.

        Streams are looked at when they are opened, so one that is damaged leaves the others, and can be removed.

        Raises:
            JournalError: ``version`` or ``bad_roll``, also if there are streams that it does not name.
        """
        names = read_roll(keys, store)
        named = {keys.stream(name) for name in names}
        if not all(stream in named for stream in store.streams(Table.HEAD)):
            raise JournalError("bad_roll", "there are streams that the roll does not name: it was removed or put back")
        return cls(keys, store, names)

    @property
    def streams(self) -> tuple[bytes, ...]:
        """The names of all, oldest first."""
        return tuple(self._names)

    @property
    def pending_size(self) -> int:
        """Bytes that wait for a flush; up to ``PENDING_SIZE_MAX``."""
        return self._intake.size

    def open_stream(self, name: bytes, anchor: Head | None = None) -> tuple[Stream, Recovery]:
        """A stream and what it holds; it is made if there is none.

        Args:
            anchor: a place that it must contain, as somebody else remembers it: the keystore, or a witness.

        Raises:
            JournalError: it is not what was written; the reason and the sentence say what is wrong and where.
            LocalError: it is open already, the name breaks a limit, or there are too many.
            StoreError: ``closed``.
        """
        self._intake.check_open()
        if not 0 < len(name) <= STREAM_NAME_SIZE_MAX:
            raise LocalError(f"a stream's name is 1 to {STREAM_NAME_SIZE_MAX} bytes, not {name!r}")
        if name in self._opened:
            raise LocalError(f"the stream {name!r} is open already")
        stream_id = self._keys.stream(name)
        if anchor is not None and anchor.stream != stream_id:
            raise LocalError(f"the anchor is not one of the stream {name!r}")
        if name not in self._names:
            return self._make(name, stream_id, anchor)
        try:
            epoch_keys, position, base, recovery = recover(self._keys, self._store, stream_id, anchor)
        except JournalError as error:
            raise _in_stream(name, error) from None
        stream = Stream(self._intake, name, stream_id, epoch_keys, position, base, recovery.clean)
        self._opened[name] = stream
        return stream, recovery

    def remove_stream(self, name: bytes) -> None:
        """Destroy a stream, with the key that it is sealed with; open or not.

        Raises:
            LocalError: there is none of this name.
            StoreError: ``closed``.
        """
        self._intake.check_open()
        if name not in self._names:
            raise LocalError(f"there is no stream {name!r}")
        if name in self._opened:
            self._opened.pop(name).end()
        del self._names[name]
        self._removed.append(self._keys.stream(name))
        self._roll_changed = True

    def flush(self, entropy: Entropy) -> Batch | None:
        """Everything that was told to the streams since the last one, to be written after what came before; or
        nothing, if there was nothing.

        Raises:
            StoreError: ``closed``.
        """
        self._intake.check_open()
        return self._written(entropy, closing=False)

    def close(self, entropy: Entropy) -> Batch | None:
        """The last flush: it says that the streams were closed in order, and nothing is taken in any more.

        Raises:
            StoreError: ``closed``.
        """
        self._intake.check_open()
        batch = self._written(entropy, closing=True)
        self._intake.closed = "the journal was closed"
        return batch

    def failed(self) -> None:
        """A batch could not be written: from now on every call raises ``StoreError``."""
        self._intake.closed = "the journal could not be written: open it anew to see what is there"

    def _make(self, name: bytes, stream_id: bytes, anchor: Head | None) -> tuple[Stream, Recovery]:
        if len(self._names) >= STREAMS_MAX:
            raise LocalError(f"a journal has at most {STREAMS_MAX} streams")
        if anchor is not None:
            raise JournalError("missing", f"there is no stream {name!r}, and its anchor says that there was")
        if stream_id not in self._removed:
            check_absent(self._store, name, stream_id)
        stream = Stream(self._intake, name, stream_id, None, Position(epoch=0), BEGINNING, clean=True)
        stream.begin()
        self._names[name] = None
        self._opened[name] = stream
        self._roll_changed = True
        return stream, Recovery()

    def _written(self, entropy: Entropy, *, closing: bool) -> Batch | None:
        # Streams move on as their rows are made. If that does not come to its end, the rows are lost and this is over.
        self._intake.closed = "a flush was not finished"
        changes = Changes()
        for stream_id in self._removed:
            for table in OF_A_STREAM:
                changes.remove(table, stream_id, END)
            changes.erase = True
        for stream in self._intake.touched.values():
            stream.write(self._keys, changes, entropy)
        if closing:
            for stream in self._opened.values():
                stream.close(changes)
        if self._roll_changed:
            changes.put(Table.ROLL, b"", 0, roll_row(self._keys, list(self._names), entropy))
        self._removed, self._roll_changed = [], False
        self._intake.touched, self._intake.size = {}, 0
        self._intake.closed = ""
        return changes.batch()


def _in_stream(name: bytes, error: JournalError) -> JournalError:
    return JournalError(error.reason, f"the stream {name!r} is not what was written: {error.detail}")
