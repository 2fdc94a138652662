"""What has arrived and cannot be decided yet: something that it depends on is not here, or its clock is ahead of ours.

It is not refused, as others have taken it, so all that is bounded is how much of it stays here: what is dropped can be
fetched again. Whoever sends much that waits is what others must not suffer from, so the limits are by sender first, and
where everybody's together are reached, who holds most gives way. What was dropped is reported, for the sender to be
charged with it.

A unit waits for *all* that its next operation misses, so it is looked at again at most once for each operation, and a
bundle that an honest device signed, once. What nobody ever sends is given up after a while, and nobody is charged with
that: who sent the unit may have been cut off from us since.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec

from protocols.crdt.bundles import BUNDLE_COUNT_MAX, BUNDLE_SIZE_MAX, HEADER, author_of
from protocols.crdt.clock import AHEAD_NS_MAX, COUNTER_BITS, NS_PER_MS, is_ahead
from protocols.crdt.operations import DEPENDENCIES_MAX
from protocols.errors import LocalError, ProtocolError
from protocols.messages import Codec, Key32, Message, Uint64

PENDING_COUNT_MAX: Final = 4096
"""Units: what a hundred members push in some seconds."""
PENDING_SIZE_MAX: Final = 16 * 1024 * 1024
SENDER_COUNT_MAX: Final = 512
"""An eighth of everything, so no sender alone pushes others out."""
SENDER_SIZE_MAX: Final = 2 * 1024 * 1024
PENDING_NS_MAX: Final = 10 * 60 * 10**9
"""Twice the skew of clocks that is believed; reconciliation has brought what is missing many times over by then."""
WANTED_MAX: Final = 1024
"""Ids to ask for at once,"""
SENDER_WANTED_MAX: Final = 128
"""and how many of them may be what one sender's units want: it can name what does not exist."""

_UNIT_SIZE_MAX: Final = HEADER.size + BUNDLE_SIZE_MAX
_MISSING_MAX: Final = BUNDLE_COUNT_MAX * DEPENDENCIES_MAX + 1
"""All that a bundle depends on."""
_ID_SIZE: Final = 128
"""What an id that a unit has or misses takes in the tables here; counted, or small units would be free."""

STATE_SIZE_MAX: Final = 32 * 1024 * 1024
VERSION: Final = 1


class Unit(NamedTuple):
    """A bundle or a single operation, as it came."""

    data: bytes
    sender: bytes


class Evicted(msgspec.Struct, frozen=True, gc=False):
    """So many units of a sender were dropped."""

    sender: bytes
    count: int


class _Parked:
    """A unit, and what it waits for."""

    __slots__ = ("ids", "missing", "since_ns", "size", "unit", "until_clock")

    def __init__(
        self, unit: Unit, missing: Iterable[bytes], until_clock: int, ids: tuple[bytes, ...], since_ns: int
    ) -> None:
        self.unit: Final = unit
        self.missing: Final = dict.fromkeys(missing)
        self.until_clock: Final = until_clock
        self.ids: Final = ids
        self.since_ns: Final = since_ns
        self.size: Final = len(unit.data) + _ID_SIZE * (len(self.missing) + len(ids))


class _Share:
    """What one sender holds."""

    __slots__ = ("size", "units")

    def __init__(self) -> None:
        self.units: Final[dict[bytes, _Parked]] = {}
        """By data, oldest first."""
        self.size = 0


_Sender = Annotated[bytes, msgspec.Meta(max_length=64)]


class _Row(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    data: Annotated[bytes, msgspec.Meta(max_length=_UNIT_SIZE_MAX)]
    sender: _Sender
    missing: Annotated[tuple[Key32, ...], msgspec.Meta(max_length=_MISSING_MAX)]
    until_clock: Uint64
    ids: Annotated[tuple[Key32, ...], msgspec.Meta(max_length=BUNDLE_COUNT_MAX)]
    since_ns: Uint64


class _State(Message, frozen=True, tag="crdt.pending"):
    version: int
    rows: Annotated[tuple[_Row, ...], msgspec.Meta(max_length=PENDING_COUNT_MAX)]
    evicted: Annotated[tuple[tuple[_Sender, Uint64], ...], msgspec.Meta(max_length=2**20)]
    deadline_ns: Uint64


_STATES: Final[Codec[_State]] = Codec(_State, size_max=STATE_SIZE_MAX)


class Pending:
    """The units that wait, each once, however often it comes."""

    def __init__(self) -> None:
        self._units: Final[dict[bytes, _Parked]] = {}
        """By data, oldest first."""
        self._shares: Final[dict[bytes, _Share]] = {}
        """By sender; of those who hold anything."""
        self._size = 0
        self._waiting: Final[dict[bytes, dict[bytes, _Parked]]] = {}
        """By the id that they miss, and their data."""
        self._carried: Final[dict[bytes, int]] = {}
        """Ids of operations in units that are here, and in how many: nobody has to be asked for them."""
        self._evicted: dict[bytes, int] = {}
        self._deadline_ns = 0
        """No unit's time comes before."""

    def __repr__(self) -> str:
        return f"<Pending: {len(self._units)} units of {len(self._shares)} senders, {self._size} bytes>"

    def __len__(self) -> int:
        return len(self._units)

    # -- told ---------------------------------------------------------------------------------------------

    def park(
        self,
        data: bytes,
        sender: bytes,
        now_ns: int,
        *,
        missing: Collection[bytes] = (),
        until_clock: int = 0,
        ids: Sequence[bytes] = (),
    ) -> None:
        """Keep a unit until all that is ``missing`` has come, and the time of ``until_clock``.

        Args:
            ids: of the operations in it.

        Raises:
            LocalError: it waits for nothing, or is larger than any unit.
        """
        if not missing and not until_clock:
            raise LocalError("a unit waits for operations or for a clock")
        if len(missing) > _MISSING_MAX or len(ids) > BUNDLE_COUNT_MAX or len(data) > _UNIT_SIZE_MAX:
            raise LocalError(f"no unit has {len(data)} bytes, {len(ids)} operations and {len(missing)} missing ones")
        if data in self._units:
            return
        self._insert(_Parked(Unit(data, sender), missing, until_clock, tuple(ids), now_ns))
        share = self._shares[sender]
        while len(share.units) > SENDER_COUNT_MAX or share.size > SENDER_SIZE_MAX:
            self._evict(share)
        while len(self._units) > PENDING_COUNT_MAX:
            self._evict(max(self._shares.items(), key=lambda item: (len(item[1].units), item[0]))[1])
        while self._size > PENDING_SIZE_MAX:
            self._evict(max(self._shares.items(), key=lambda item: (item[1].size, item[0]))[1])

    def released(self, identifier: bytes) -> list[Unit]:
        """An operation is here now: the units that have waited for it and wait for nothing more, oldest first."""
        ready = []
        for parked in self._waiting.pop(identifier, {}).values():
            del parked.missing[identifier]
            if not parked.missing and not parked.until_clock:
                self._remove(parked)
                ready.append(parked.unit)
            elif not parked.missing:
                self._deadline_ns = min(self._deadline_ns, _deadline(parked))
        return ready

    def due(self, now_ns: int) -> list[Unit]:
        """The units whose clock is not ahead of ours any more; what has waited for too long is given up."""
        ready, late = [], []
        for parked in self._units.values():
            if not parked.missing and not is_ahead(parked.until_clock, now_ns):
                ready.append(parked)
            elif now_ns - parked.since_ns >= PENDING_NS_MAX:
                late.append(parked)
        for parked in ready:
            self._remove(parked)
        for parked in late:
            self._remove(parked)
        self._deadline_ns = min((_deadline(each) for each in self._units.values()), default=0)
        return [parked.unit for parked in ready]

    # -- asked --------------------------------------------------------------------------------------------

    @property
    def missing(self) -> tuple[bytes, ...]:
        """Ids to ask for: what units wait for and no unit has, as long waited for as possible."""
        wanted: dict[bytes, None] = {}
        shares: dict[bytes, int] = {}
        for parked in self._units.values():
            sender = parked.unit.sender
            for identifier in parked.missing:
                if len(wanted) == WANTED_MAX or shares.get(sender, 0) == SENDER_WANTED_MAX:
                    break
                if identifier not in self._carried and identifier not in wanted:
                    wanted[identifier] = None
                    shares[sender] = shares.get(sender, 0) + 1
        return tuple(wanted)

    @property
    def waiting(self) -> tuple[bytes, ...]:
        """The authors of units that miss operations, as they say: whether they may write is known when all is here."""
        parked = (each for each in self._units.values() if each.missing)
        return tuple(dict.fromkeys(author_of(each.unit.data) for each in parked))

    def missing_of(self, sender: bytes) -> tuple[bytes, ...]:
        """The same for the units of one sender, who must have what they depend on."""
        wanted: dict[bytes, None] = {}
        share = self._shares.get(sender)
        for parked in share.units.values() if share else ():
            wanted.update((each, None) for each in parked.missing if each not in self._carried)
            if len(wanted) >= SENDER_WANTED_MAX:
                break
        return tuple(wanted)[:SENDER_WANTED_MAX]

    @property
    def deadline(self) -> int | None:
        """When ``due`` may have something to do; None for never. It is asked for after every message, so it costs
        nothing: what is taken away does not move it, and ``due`` looks at all units anyway."""
        return self._deadline_ns if self._units else None

    def evicted(self) -> list[Evicted]:
        """How much of whose was dropped since this was asked last."""
        evicted, self._evicted = self._evicted, {}
        return [Evicted(sender, count) for sender, count in evicted.items()]

    # -- tables -------------------------------------------------------------------------------------------

    def _insert(self, parked: _Parked) -> None:
        data, sender = parked.unit
        deadline_ns = _deadline(parked)
        self._deadline_ns = min(self._deadline_ns, deadline_ns) if self._units else deadline_ns
        self._units[data] = parked
        share = self._shares.setdefault(sender, _Share())
        share.units[data] = parked
        share.size += parked.size
        self._size += parked.size
        for identifier in parked.missing:
            self._waiting.setdefault(identifier, {})[data] = parked
        for identifier in parked.ids:
            self._carried[identifier] = self._carried.get(identifier, 0) + 1

    def _remove(self, parked: _Parked) -> None:
        data, sender = parked.unit
        del self._units[data]
        share = self._shares[sender]
        del share.units[data]
        share.size -= parked.size
        self._size -= parked.size
        if not share.units:
            del self._shares[sender]
        for identifier in parked.missing:
            waiting = self._waiting[identifier]
            del waiting[data]
            if not waiting:
                del self._waiting[identifier]
        for identifier in parked.ids:
            if self._carried[identifier] == 1:
                del self._carried[identifier]
            else:
                self._carried[identifier] -= 1

    def _evict(self, share: _Share) -> None:
        self._drop(next(iter(share.units.values())))

    def _drop(self, parked: _Parked) -> None:
        self._remove(parked)
        sender = parked.unit.sender
        self._evicted[sender] = self._evicted.get(sender, 0) + 1

    # -- to bytes and back --------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        rows = tuple(
            _Row(*each.unit, tuple(each.missing), each.until_clock, each.ids, each.since_ns)
            for each in self._units.values()
        )
        return _STATES.encode(_State(VERSION, rows, tuple(self._evicted.items()), self._deadline_ns))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Pending":
        """Raises:
        LocalError: these are not the bytes of what was pending.
        """
        try:
            state = _STATES.decode(data)
        except ProtocolError as error:
            raise LocalError(f"these are no stored pending units: {error}") from None
        if state.version != VERSION:
            raise LocalError(f"pending units stored as version {state.version}; this code reads {VERSION}")
        pending = cls()
        for row in state.rows:
            pending._insert(_Parked(Unit(row.data, row.sender), row.missing, row.until_clock, row.ids, row.since_ns))
        pending._evicted, pending._deadline_ns = dict(state.evicted), state.deadline_ns
        return pending


def _deadline(parked: _Parked) -> int:
    late_ns = parked.since_ns + PENDING_NS_MAX
    if parked.missing:
        return late_ns
    believed_ms = -(-parked.until_clock >> COUNTER_BITS)
    return max(0, min(late_ns, believed_ms * NS_PER_MS - AHEAD_NS_MAX))
