"""What the other services of a peer say to its replicas, and are told.

They hold no reference to a document: the replica's actor may be on another host. A service names what it wants changed,
and hears when that is signed, taken in and durable, so that nothing of it can be lost any more.
"""

from typing import Annotated, Final

from msgspec import Meta

from protocols.crdt.bundles import BUNDLE_COUNT_MAX
from protocols.crdt.changes import RUN_SIZE_MAX, Change, Path
from protocols.messages import Key32, Message, Uint64

AUTHORS_MAX: Final = 65_536
"""Of a channel, listed in one answer."""
DELETED_MAX: Final = 64 * 1024
"""Characters that one revision deletes: others may have typed every second one of them, and then each is an edit,"""
OPERATIONS_MAX: Final = 2048
"""and there are 64 of these in an operation; some more bring evidence, or join branches."""


class Write(Message, frozen=True, tag="crdt.write"):
    """Sign these changes and take them in, all or none; answered by ``Written`` or ``WriteRefused``."""

    token: Uint64
    """Chosen by the service; it comes back with the answer."""
    channel: Key32
    changes: Annotated[tuple[Change, ...], Meta(min_length=1, max_length=BUNDLE_COUNT_MAX)]


class Revise(Message, frozen=True, tag="crdt.revise"):
    """Replace a stretch of a text, as it stands here when this is handled; answered as ``Write`` is.

    A place beyond the end is the end: the text may have become shorter since the service read it.
    """

    token: Uint64
    channel: Key32
    path: Path
    at: Uint64
    delete: Annotated[int, Meta(ge=0, le=DELETED_MAX)]
    insert: Annotated[str, Meta(max_length=RUN_SIZE_MAX)]


class Written(Message, frozen=True, tag="crdt.written"):
    """It is durable, and on its way to the others."""

    token: Uint64
    channel: Key32
    operations: Annotated[tuple[Key32, ...], Meta(max_length=OPERATIONS_MAX)]


class WriteRefused(Message, frozen=True, tag="crdt.write_refused"):
    """Nothing was written.

    ``unknown_channel``; ``refused``: this device may not, or it is too much; ``overloaded``: too much waits for the
    disk, or to be confirmed; ``unavailable``: the journal is lost. ``unwritten``: it was lost before this was durable,
    and nobody else has heard of it.
    """

    token: Uint64
    channel: Key32
    reason: str
    detail: str = ""


class Describe(Message, frozen=True, tag="crdt.describe"):
    """Say how a replica stands; answered by ``Described``."""

    token: Uint64
    channel: Key32


class Author(Message, frozen=True, tag="crdt.author"):
    """What one device has written, as it is held."""

    device: Key32
    sequence: Uint64
    """Of its last operation; of an equivocator's, on the branch that was met first."""
    tip: Key32
    counting: Uint64
    inert: Uint64
    fenced: bool
    role: int
    """0 for none."""


class Described(Message, frozen=True, tag="crdt.described"):
    """How a replica stands: digests to compare with others, and who wrote what."""

    token: Uint64
    channel: Key32
    digest: Key32
    """Of the document, the roles and the fenced."""
    set_digest: bytes
    """Of the set of operations."""
    operations: Uint64
    parked: Uint64
    confirmed: bool
    """Whether this device knows how far it was, and so may write."""
    authors: Annotated[tuple[Author, ...], Meta(max_length=AUTHORS_MAX)]
    """Sorted by device."""


class WatchChannel(Message, frozen=True, gc=False, tag="crdt.watch"):
    """Tell the sender with a ``Changed`` whenever operations came in."""

    channel: Key32


class Changed(Message, frozen=True, gc=False, tag="crdt.changed"):
    """Operations came in, from here or elsewhere."""

    channel: Key32
    added: Uint64
    held: Uint64
    """How many there are now."""
