"""What a node finds again after a crash: the records it holds, those it published, and the sequences that were used.

Without it a network forgets at the pace at which its nodes restart, and forgets two things that no neighbour gives
back: which old sequences were left behind (attack D6, a rollback, works again after every crash), and that a record
is to be published again. The table of contacts is not kept: joining finds it anew, and it ages fast.

A node writes down each record when it takes it in, in that order, and says so to nobody before it is durable. To
read that again is to take the same records in at the same times, by the same rules: expired ones and those that
lost their place leave the floors that they left then. So neither expiry nor eviction is written down. Every so often
all of it is replaced by the state that it leads to.

The times are those of a clock that goes on while the node is away. Sequences follow that clock as well: if what was
kept is put back to an older state, it still gives higher ones, as long as it was not put back too.

The journal proves that the bytes are ours, and still every signature is checked again. A record that is passed on is
answered for by who passes it on, and a rule may have become stricter since the record was let in; at a start, that
costs less than a handshake for each.
"""

from typing import Final, NamedTuple, TypeVar

import msgspec

from protocols.errors import LocalError
from protocols.kademlia.records import Held, StoreState

StructT = TypeVar("StructT", bound=msgspec.Struct)

KEPT_VERSION: Final = 1

HELD: Final = "kad.held"
"""A change: this node holds a record for its owner."""
OWN: Final = "kad.own"
"""A change: this node publishes a record of its own."""


class Change(NamedTuple):
    """A record that was taken in."""

    kind: str
    payload: bytes

    @classmethod
    def of(cls, kind: str, held: Held) -> "Change":
        return cls(kind, msgspec.msgpack.encode(held))

    def held(self) -> Held:
        """The record, with its times."""
        return _decode(self.payload, Held)


class Kept(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What all changes until now have led to."""

    version: int
    store: StoreState
    published: list[Held]
    sequence_floor: int
    """Above every sequence under which we have published."""

    @classmethod
    def from_bytes(cls, data: bytes) -> "Kept":
        kept = _decode(data, Kept)
        if kept.version != KEPT_VERSION:
            raise LocalError(f"kept records of version {kept.version}, not {KEPT_VERSION}")
        return kept

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode(self)


def _decode(data: bytes, what: type[StructT]) -> StructT:
    """The journal vouches for the bytes, so what is wrong with them was ours."""
    try:
        return msgspec.msgpack.decode(data, type=what)
    except msgspec.MsgspecError as error:
        raise LocalError(f"a {what.__name__} that was kept cannot be read: {error}") from None
