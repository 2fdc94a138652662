"""The state of a document as plain data: what replicas compare by its hash, and what a snapshot gives back.

All of it follows from which operations count: ids and authors, never lanes or other numbers of our own, and everything
in an order that no arrival chose. Of a container that is no text the state is the operations that are live in it, and
that is all there is: none overwrites another, so applying them again gives it back.
"""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from hashlib import sha256
from typing import Annotated, Any, Final

import msgspec

from protocols.crdt.changes import Add, Append, Assign, AssignMulti, Change, Increment, Path, Value
from protocols.crdt.clock import CLOCK_MAX
from protocols.crdt.history import Held
from protocols.messages import Key32, Uint64

_TAG: Final = b"SpacePanda crdt state 1\0"
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_VALUES: Final = {Assign: "value", AssignMulti: "value", Increment: "by", Add: "element", Append: "value"}


class Kind(IntEnum):
    """The types of containers; a path can have one of each."""

    REGISTER = 1
    MULTI = 2
    COUNTER = 3
    SET = 4
    TIMELINE = 5
    TEXT = 6
    MAP = 7
    """What is below; there because something is."""


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A live operation, as far as its container needs it."""

    id: Key32
    author: Key32
    sequence: Uint64
    clock: Annotated[int, msgspec.Meta(ge=1, le=CLOCK_MAX)]
    value: Value
    """What was assigned, counted, added or appended."""


class Live(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Everything live in one container that is not a text."""

    path: Path
    kind: Kind
    entries: Annotated[tuple[Entry, ...], msgspec.Meta(min_length=1)]

    def changes(self) -> Iterator[tuple[Entry, Change]]:
        """What to apply to an empty container to have this one."""
        for entry in self.entries:
            match self.kind, entry.value:
                case Kind.REGISTER, value:
                    yield entry, Assign(self.path, value)
                case Kind.MULTI, value:
                    yield entry, AssignMulti(self.path, value)
                case Kind.COUNTER, int(by):
                    yield entry, Increment(self.path, by)
                case Kind.SET, element:
                    yield entry, Add(self.path, element)
                case Kind.TIMELINE, value:
                    yield entry, Append(self.path, value)


def entry_of(held: Held) -> Entry:
    operation = held.operation
    value: Value = getattr(operation.change, _VALUES[type(operation.change)])
    return Entry(operation.id, operation.author, operation.sequence, operation.clock, value)


def entries_of(live: Iterable[Held]) -> tuple[Entry, ...]:
    """The operations that are live in a container."""
    return tuple(map(entry_of, live))


def encode_state(containers: Iterable[tuple[Path, Kind, Any]]) -> bytes:
    """The canonical bytes of what is shown of all containers, sorted by path and kind."""
    return _ENCODE(tuple(containers))


def digest_of(state: bytes) -> bytes:
    """32 bytes, by which replicas compare."""
    return sha256(_TAG + state).digest()
