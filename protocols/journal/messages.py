"""What the journal is told by the actors of its peer, and what it answers.

An actor names a stream, is told once what the stream holds, and from then on appends to it. ``Durable`` is the
answer that matters: nothing that depends on a record is said to anybody before it.

Whoever takes a peer down in order has its actors stop, and tells the journal to ``Close``. Everything else is a crash:
then the streams are unclean, and stay so until they are settled and closed in order.
"""

from typing import Annotated, Final, TypeAlias

import msgspec

from protocols.messages import Message, Uint64

STREAM_NAME_SIZE_MAX: Final = 96
"""A purpose and the id of a group or a document."""
KIND_SIZE_MAX: Final = 31
"""As long as a message's tag, which it usually is."""
PAYLOAD_SIZE_MAX: Final = 16 * 1024 * 1024
"""Of a record. The commit that adds 10,000 members has 8 MB."""
STATE_SIZE_MAX: Final = 256 * 1024 * 1024
"""Of a snapshot: a hundred times the state of a group of 10,000 members."""
ENTRIES_MAX: Final = 4096
"""Records that go together."""

Name = Annotated[bytes, msgspec.Meta(min_length=1, max_length=STREAM_NAME_SIZE_MAX)]
Kind = Annotated[str, msgspec.Meta(min_length=1, max_length=KIND_SIZE_MAX)]
Payload = Annotated[bytes, msgspec.Meta(max_length=PAYLOAD_SIZE_MAX)]


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What there is to record."""

    kind: Kind
    payload: Payload

    def __repr__(self) -> str:
        return f"Entry({self.kind}, {len(self.payload)} bytes)"


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What was recorded."""

    sequence: Uint64
    """1 is a stream's first; there are no gaps."""
    time: Uint64
    """Nanoseconds on the clock of whoever recorded it. Nothing depends on it."""
    kind: Kind
    payload: Payload

    def __repr__(self) -> str:
        return f"Record({self.sequence}, {self.kind}, {len(self.payload)} bytes)"


class OpenStream(Message, frozen=True, tag="journal.open"):
    """Begin with a stream, which is created if there is none; answered by ``Recovered``."""

    stream: Name


class Recovered(Message, frozen=True, tag="journal.recovered"):
    """All that a stream holds: the newest snapshot and the records since."""

    stream: Name
    snapshot: Annotated[bytes, msgspec.Meta(max_length=STATE_SIZE_MAX)] | None
    records: tuple[Record, ...]
    clean: bool
    """Whether the stream was closed in order. If not, what was sent last may be more than what is here: nothing that
    could repeat itself is sent until others have confirmed how far we were, or under a fresh key."""
    torn: Uint64 = 0
    """Bytes that were being written when the power went, in the whole store, and were dropped. Nobody was told that
    they are there."""
    damaged: tuple[Uint64, ...] = ()
    """The snapshots that do not verify, by sequence, and were not needed."""

    def __repr__(self) -> str:
        return f"Recovered({self.stream!r}, {len(self.records)} records, clean={self.clean})"


class Append(Message, frozen=True, tag="journal.append"):
    """Record these, all or none; answered by ``Durable`` with the same ``token``, or by nothing: then the peer is
    going down."""

    token: Uint64
    stream: Name
    entries: Annotated[tuple[Entry, ...], msgspec.Meta(min_length=1, max_length=ENTRIES_MAX)]


class Snapshot(Message, frozen=True, tag="journal.snapshot"):
    """The state after everything appended so far, to recover from instead; answered by ``Durable``.

    With ``erase`` what the stream held until now is destroyed: the records, older snapshots, and the key that they
    were sealed with. An empty state is none.
    """

    token: Uint64
    stream: Name
    state: Annotated[bytes, msgspec.Meta(max_length=STATE_SIZE_MAX)]
    erase: bool = False

    def __repr__(self) -> str:
        return f"Snapshot({self.stream!r}, {len(self.state)} bytes, erase={self.erase})"


class Forget(Message, frozen=True, tag="journal.forget"):
    """Destroy a stream, open or not, with the key that it is sealed with; answered by ``Durable``, and not to be opened
    before that. One that is not there is no mistake: a crash came between the answer and whoever waited for it."""

    token: Uint64
    stream: Name


class Settle(Message, frozen=True, tag="journal.settle"):
    """What an unclean end left in doubt about a stream is in doubt no more: others have confirmed how far we were, or
    what could repeat itself has a fresh key. Not answered, as nothing waits for it: after the next crash the stream is
    unclean all the same, and without this also when it was closed in order."""

    stream: Name


Write: TypeAlias = Append | Snapshot | Forget | Settle
"""What the owner of a stream has to say about it."""


class Durable(Message, frozen=True, tag="journal.durable"):
    """It is there after a crash."""

    token: Uint64
    stream: Name
    sequence: Uint64
    """Of the last record."""


class Close(Message, frozen=True, tag="journal.close"):
    """The peer goes down in order: write what was told, mark what is not in doubt as clean, and let go of the store.
    Answered by ``Closed``. Whoever sends this has seen to it that nobody tells the journal anything afterwards: to do
    so is a mistake, as it could not be kept."""


class Closed(Message, frozen=True, tag="journal.closed"):
    """All of it is durable, and the store is free."""


class JournalLost(Message, frozen=True, tag="journal.lost"):
    """The store has failed, and what was not answered by ``Durable`` never will be. To every actor that has a stream
    open and outlives the journal, because another host runs it: all others have gone down with it."""
