"""What a DHT node has taken in, on its way to the journal, and what is not said before it has arrived there.

A node without a journal has none of this, and takes no more memory than it ever did.
"""

from typing import Final, Self

import msgspec

from actors.context import Context, Span
from protocols.errors import LocalError
from protocols.journal.messages import Durable, Entry
from protocols.journal.outbox import Outbox
from protocols.kademlia.kept import Change
from protocols.kademlia.node import KademliaNode
from protocols.kademlia.records import Record
from protocols.messages import Codec, Message, Uint64
from protocols.rpc.calls import Respond

STREAM: Final = b"dht"

CHANGES_MIN: Final = 256
"""Changes since the last snapshot before the next one, and no fewer than there are records. So a journal reads at most
a few times what its node keeps, and writes it twice."""

HELD_MAX: Final = 1024
"""Answers, and records of our own, that wait for the disk: as many as RPC has requests in progress. With a slower disk
callers have given up by then, and another node is asked."""


class Published(Message, frozen=True, tag="kad.published"):
    """A record of our own that waits to be durable, and who asked for it."""

    service: str
    token: Uint64
    record: Record
    span: Span | None


Held = Respond | Published

_HELD: Final[Codec[Held]] = Codec(Respond, Published)


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    outbox: bytes
    changes: int
    ended: bool


class DhtJournal:
    """One node's way to its journal. After whatever the node did, its actor calls ``exchange``."""

    __slots__ = ("_changes", "_ended", "_outbox")

    def __init__(self, changes: int = 0, outbox: Outbox[Held] | None = None, *, ended: bool = False) -> None:
        """``changes``: how many were found, that is, came after the last snapshot."""
        self._changes = changes
        self._outbox = Outbox(_HELD) if outbox is None else outbox
        self._ended = ended

    @property
    def refusal(self) -> str:
        """Why nothing is taken in: what had to wait for a disk could not be. Empty if that is not so."""
        if self._ended:
            return "unavailable"
        return "overloaded" if len(self._outbox) >= HELD_MAX else ""

    def hold(self, output: Held) -> None:
        """To be done when all that was written down until now is durable."""
        self._outbox.hold(output)

    def durable(self, durable: Durable) -> None:
        self._outbox.durable(durable)

    def end(self) -> None:
        """From now on nothing is written down. What was is still on its way."""
        self._ended = True

    def lost(self) -> list[Held]:
        """The journal has failed; returns what will never be durable."""
        self._ended = True
        return self._outbox.abandon()

    def write_down(self, changes: list[Change], node: KademliaNode) -> None:
        """What ``node`` has just taken in; and now and then all that it keeps."""
        if not changes or self._ended:
            return
        self._outbox.append(STREAM, *(Entry(kind, payload) for kind, payload in changes))
        self._changes += len(changes)
        if self._changes >= max(CHANGES_MIN, len(node.store)):
            self._outbox.snapshot(STREAM, node.kept())
            self._changes = 0

    def exchange(self, ctx: Context) -> list[Held]:
        """Tell the journal what is new; returns what need not wait any more."""
        for write in self._outbox.writes():
            ctx.send("journal", write)
        return self._outbox.released()

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode(_State(self._outbox.to_bytes(), self._changes, self._ended))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        try:
            state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise LocalError(f"not the state of a way to the journal: {error}") from None
        return cls(state.changes, Outbox.from_bytes(state.outbox, _HELD), ended=state.ended)
