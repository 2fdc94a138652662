"""The state of a host as bytes: everything that decides what happens next, and the counts of what has.

What is collected from a host between windows (rows of events, spans) is not part of it.
"""

from typing import Any, Final

import msgspec

from protocols.errors import LocalError
from protocols.messages import DATAGRAM_SIZE_MAX, Codec, Message, Packet, encode

VERSION: Final = 2

Entry = tuple[int, int, int, int, Any, bytes, Any]
"""``(time, destination, source, sequence, extra, trace, item)``: a packet (extra: when it was sent), a
timer (source is the destination; extra: the service), or a lifecycle event."""

PACKET: Final = Codec(Packet, size_max=2 * DATAGRAM_SIZE_MAX)


class ActorState(msgspec.Struct, array_like=True):
    """One actor, and how far its context's streams have gone."""

    service: str
    positions: tuple[int, int, int, int]
    state: bytes


class PeerState(msgspec.Struct, array_like=True):
    """One peer, up or down."""

    number: int
    incarnation: int
    up_since: int
    sequence: int
    chain: bytes
    timers: list[int]
    busy_until: int
    backlog: list[Entry] | None
    actors: list[ActorState]
    disk: bytes
    """Empty if it has none."""


class HostState(msgspec.Struct, array_like=True):
    """A whole host."""

    version: int
    now: int
    handled: int
    packets_sent: int
    bytes_sent: int
    counters: list[tuple[str, str, int]]
    histograms: dict[str, dict[int, int]]
    peers: list[PeerState]
    heap: list[Entry]
    """In order."""


_decode: Final = msgspec.msgpack.Decoder(HostState).decode


def decode(data: bytes) -> HostState:
    """The state that ``data`` holds.

    Raises:
        LocalError: it is none, or of another version.
    """
    try:
        state = _decode(data)
    except msgspec.MsgspecError as error:
        raise LocalError(f"this is no state of a host: {error}") from error
    if state.version != VERSION:
        raise LocalError(f"a host's state of version {state.version}; this code reads version {VERSION}")
    return state


def pack(entry: Entry) -> Entry:
    """An entry of the heap with its message as bytes."""
    item = entry[6]
    return (*entry[:6], encode(item) if isinstance(item, Message) else item)
