"""What replicas have taken in, on its way to the journal, and what is not said before it has arrived there.

Everything that a replica says to other peers leaves through here, in order: answers and questions too, as they tell
what is held. So nobody ever saw an operation of ours that a crash could take from us, and nobody counts on us for one
that we may not have. Where nothing waits for the disk, nothing waits here.

A stream is the replica's operations as they came, in units that go through ``Replica.receive`` again when it is read;
now and then the whole replica is written anew, compressed, which is a tenth of that.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Self

import msgspec

from actors.context import Context
from protocols.crdt.history import Held
from protocols.crdt.outgoing import pack
from protocols.crdt.replica import FOREVER, Replica
from protocols.crdt.requests import OPERATIONS_MAX
from protocols.errors import LocalError
from protocols.journal.messages import ENTRIES_MAX, Durable, Entry, Recovered
from protocols.journal.outbox import Outbox
from protocols.messages import Codec, Key32, Message, Uint64
from protocols.rpc.calls import Call, Respond

PURPOSE: Final = b"crdt/"
UNIT: Final = "crdt.unit"

COMPACT_SIZE_MIN: Final = 1024 * 1024
"""Bytes appended before the replica is written anew; and no fewer than that took last time. So a stream holds at most
a few times what its replica does, and is written twice."""

HELD_MAX: Final = 1024
"""What waits for the disk: as many as RPC has requests in progress."""


class Publish(Message, frozen=True, tag="crdt.publish"):
    """Operations of our own that wait to be durable, and who asked for them, if a service did."""

    channel: Key32
    service: str
    token: Uint64
    operations: Annotated[tuple[Key32, ...], msgspec.Meta(max_length=OPERATIONS_MAX)]


Output = Respond | Call | Publish

OUTPUTS: Final[Codec[Output]] = Codec(Respond, Call, Publish, size_max=2 * 1024 * 1024)


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    outbox: bytes
    sizes: list[tuple[bytes, int, int]]
    is_lost: bool


def stream_of(channel: bytes) -> bytes:
    return PURPOSE + channel


def channel_of(stream: bytes) -> bytes:
    return stream.removeprefix(PURPOSE)


class CrdtJournal:
    """The way of all of a peer's replicas to its journal. After whatever they did, their actor calls ``exchange``."""

    __slots__ = ("_outbox", "_sizes", "is_lost")

    def __init__(self) -> None:
        self._outbox: Outbox[Output] = Outbox(OUTPUTS)
        self._sizes: Final[dict[bytes, tuple[int, int]]] = {}
        """By channel: bytes appended since the last snapshot, and of that."""
        self.is_lost = False

    @property
    def refusal(self) -> str:
        """Why nothing is taken in: what had to wait for a disk could not be. Empty if that is not so."""
        if self.is_lost:
            return "unavailable"
        return "overloaded" if len(self._outbox) >= HELD_MAX else ""

    def recover(self, recovered: Recovered, replica: Replica) -> tuple[Replica, int]:
        """What a stream holds, and how much in it is not what was written once: units, or all of a snapshot.

        Every operation is checked, as if it came from a stranger. Clocks are not: what was taken in once does not wait.

        Args:
            replica: a new one, for what the stream has no other beginning.
        """
        channel, state, bad = replica.channel, recovered.snapshot or b"", 0
        if state:
            try:
                replica = Replica.from_bytes(state, channel)
            except LocalError:
                bad += 1
        replica.is_open = True
        parked = []
        for record in recovered.records:
            receipt = replica.receive(record.payload, b"", FOREVER)
            bad += receipt.refused is not None
            if receipt.parked:
                parked.append(record.payload)
        bad += sum(replica.receive(each, b"", FOREVER).parked for each in parked)
        self._sizes[channel] = (sum(len(record.payload) for record in recovered.records), len(state))
        return replica, bad

    def write_down(self, replica: Replica, added: Iterable[Held]) -> None:
        """What has just been added to ``replica``; and now and then all of it."""
        wanted, entries, channel = tuple(added), list[Entry](), replica.channel
        while wanted:
            batch = pack(replica.history, wanted)
            entries += (Entry(UNIT, unit) for unit in batch.units)
            wanted = batch.rest
        if not entries or self.is_lost:
            return
        for start in range(0, len(entries), ENTRIES_MAX):
            self._outbox.append(stream_of(channel), *entries[start : start + ENTRIES_MAX])
        appended, stored = self._sizes.get(channel, (0, 0))
        appended += sum(len(each.payload) for each in entries)
        self._sizes[channel] = (appended, stored)
        if appended >= max(COMPACT_SIZE_MIN, stored):
            self.write_anew(replica)

    def write_anew(self, replica: Replica, *, erase: bool = False) -> None:
        """All of a replica, instead of what its stream has, which is destroyed then if that is wanted."""
        if self.is_lost:
            return
        state = replica.to_bytes()
        self._outbox.snapshot(stream_of(replica.channel), state, erase=erase)
        self._sizes[replica.channel] = (0, len(state))

    def hold(self, output: Output) -> None:
        """To be said when all that was written down until now is durable."""
        self._outbox.hold(output)

    def settle(self, channel: bytes) -> None:
        """Others have agreed with what the stream holds."""
        self._outbox.settle(stream_of(channel))

    def durable(self, durable: Durable) -> None:
        self._outbox.durable(durable)

    def lost(self) -> list[Output]:
        """The journal has failed; returns what will never be said."""
        self.is_lost = True
        return self._outbox.abandon()

    def exchange(self, ctx: Context) -> list[Output]:
        """Tell the journal what is new; returns what need not wait any more."""
        for write in self._outbox.writes():
            ctx.send("journal", write)
        return self._outbox.released()

    def to_bytes(self) -> bytes:
        sizes = [(channel, *both) for channel, both in self._sizes.items()]
        return msgspec.msgpack.encode(_State(self._outbox.to_bytes(), sizes, self.is_lost))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        try:
            state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise LocalError(f"not the state of a way to the journal: {error}") from None
        journal = cls()
        journal._outbox = Outbox.from_bytes(state.outbox, OUTPUTS)
        journal._sizes.update((channel, (appended, stored)) for channel, appended, stored in state.sizes)
        journal.is_lost = state.is_lost
        return journal
