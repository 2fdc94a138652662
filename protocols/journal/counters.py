"""What may never be used twice: author sequences, sequences of DHT records, generations of a keystore.

A number is *reserved* before it is used: the entry that ``reserve`` returns is durable first. A block of numbers costs
one entry, and what a crash leaves of a block is skipped. So every number is used at most once, as long as the stream
that the entries are in was not put back to an older state. If it may have been, after an unclean end or an import,
the counters are in *doubt*: nothing is reserved under a name before others have said how far they saw it go
(``confirm``), or before what it numbers has a fresh key, under which it may start where it likes (``renew``). A name
that nobody remembers is in doubt too: it may have been forgotten with the rest.

Everything here is a maximum, so entries can be applied in any order and again: nothing is ever lowered.
"""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from protocols.errors import LocalError
from protocols.journal.errors import JournalError
from protocols.journal.messages import STREAM_NAME_SIZE_MAX, Entry, Recovered
from protocols.journal.recovery import Recovery
from protocols.messages import Uint64

COUNTERS_MAX: Final = 65_536
"""Names. One for each device, key or group that something of ours is numbered under; 8 MB."""
KIND: Final = "counter"
NUMBER_MAX: Final = 2**63 - 1

_VERSION: Final = 1


class Reservation(msgspec.Struct, frozen=True, gc=False):
    """The numbers ``first`` to ``end - 1``, given out for good once ``entry`` is durable."""

    first: int
    end: int
    entry: Entry

    @property
    def numbers(self) -> range:
        return range(self.first, self.end)


class _Counter(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """A row of the state, and an entry: all of its numbers are maxima."""

    name: Annotated[bytes, msgspec.Meta(max_length=STREAM_NAME_SIZE_MAX)]
    """Empty in an entry that is about the doubts alone."""
    following: Uint64
    """The first number that was not given out."""
    settled: Uint64
    """The doubt that was settled for this name: the last one, or it is in doubt."""


class _State(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    version: int
    doubts: Uint64
    counters: Annotated[list[_Counter], msgspec.Meta(max_length=COUNTERS_MAX)]


_ENCODER: Final = msgspec.msgpack.Encoder()
_ENTRY: Final = msgspec.msgpack.Decoder(_Counter)
_STATE: Final = msgspec.msgpack.Decoder(_State)


class Counters:
    """Named counters that only go up, from 0."""

    def __init__(self) -> None:
        self._counters: dict[bytes, _Counter] = {}
        self._doubts = 0

    def __repr__(self) -> str:
        return f"<Counters: {len(self._counters)} names>"

    def __eq__(self, other: object) -> bool:
        return self.to_bytes() == other.to_bytes() if isinstance(other, Counters) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def recover(cls, recovery: Recovery | Recovered) -> tuple["Counters", list[Entry]]:
        """From a stream that has nothing else; if it was not closed in order, they are in doubt. The entries say so,
        and once they are appended, the stream is settled: from there on the counters know better what is not.

        Raises:
            JournalError: ``version`` or ``bad_counter``.
        """
        counters = cls() if recovery.snapshot is None else cls.from_bytes(recovery.snapshot)
        for record in recovery.records:
            if record.kind != KIND:
                raise JournalError("bad_counter", f"record {record.sequence} is a {record.kind}, not a {KIND}")
            counters.apply(record.payload)
        return counters, [] if recovery.clean else [counters.doubt()]

    def following(self, name: bytes) -> int:
        """The first number that was not given out."""
        found = self._counters.get(name)
        return 0 if found is None else found.following

    def in_doubt(self, name: bytes) -> bool:
        found = self._counters.get(name)
        return (0 if found is None else found.settled) < self._doubts

    def reserve(self, name: bytes, count: int = 1) -> Reservation:
        """The next ``count`` numbers under a name.

        Raises:
            LocalError: the name is in doubt, or a limit is broken.
        """
        first = self.following(name)
        if self.in_doubt(name):
            raise LocalError(f"how far {name!r} went is in doubt: it has to be confirmed, or renewed")
        if not 0 < count <= NUMBER_MAX - first:
            raise LocalError(f"{count} numbers wanted after {first}")
        counter = _Counter(name, first + count, self._doubts)
        self._check([counter])
        return Reservation(first, first + count, self._raise(counter))

    def doubt(self) -> Entry:
        """Numbers may have been used that are not known here; every name has to be settled again."""
        return self._raise(_Counter(b"", 0, self._doubts + 1))

    def confirm(self, witnessed: Mapping[bytes, int]) -> list[Entry]:
        """Others say how far they saw these names go: the first number that they have not seen, or 0.

        Raises:
            LocalError: a limit is broken.
        """
        settled = [_Counter(name, end, self._doubts) for name, end in witnessed.items()]
        self._check(settled)
        return [self._raise(each) for each in settled]

    def renew(self, name: bytes) -> Entry:
        """What this numbers has a fresh key. The numbers go on all the same."""
        return self.confirm({name: 0})[0]

    def apply(self, payload: bytes) -> None:
        """What the journal has: the payload of an entry, in any order, and again.

        Raises:
            JournalError: ``bad_counter``.
        """
        try:
            counter = _ENTRY.decode(payload)
            self._check([counter] if counter.name else [])
        except (msgspec.DecodeError, LocalError) as error:
            raise JournalError("bad_counter", f"this is no entry of a counter: {error}") from None
        self._raise(counter)

    # -- to bytes and back ------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        return _ENCODER.encode(
            _State(_VERSION, self._doubts, [self._counters[name] for name in sorted(self._counters)])
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Counters":
        """Raises:
        JournalError: ``version`` or ``bad_counter``.
        """
        try:
            state = _STATE.decode(data)
        except msgspec.DecodeError as error:
            raise JournalError("bad_counter", f"these are no counters: {error}") from None
        if state.version != _VERSION:
            raise JournalError("version", f"the counters have version {state.version}, and this reads {_VERSION}")
        counters = cls()
        counters._doubts = state.doubts
        for each in state.counters:
            counters._raise(each)
        if counters.to_bytes() != data:  # a name is there twice, or one is settled of more doubts than there were
            raise JournalError("bad_counter", "these are no counters: they contradict one another")
        return counters

    def _check(self, counters: list[_Counter]) -> None:
        for each in counters:
            if not 0 < len(each.name) <= STREAM_NAME_SIZE_MAX or not 0 <= each.following <= NUMBER_MAX:
                raise LocalError(f"no counter: {each.name!r} at {each.following}")
        if len(self._counters) + sum(each.name not in self._counters for each in counters) > COUNTERS_MAX:
            raise LocalError(f"at most {COUNTERS_MAX} counters")

    def _raise(self, counter: _Counter) -> Entry:
        self._doubts = max(self._doubts, counter.settled)
        old = self._counters.get(counter.name)
        if old is not None:
            following, settled = max(old.following, counter.following), max(old.settled, counter.settled)
            counter = _Counter(counter.name, following, settled)
        if counter.name:
            self._counters[counter.name] = counter
        return Entry(KIND, _ENCODER.encode(counter))
