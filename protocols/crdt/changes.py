"""What an operation changes: the payloads, and how large they may be.

A document is a tree of names. At a path, such as ``("members", "ada", "nickname")``, there is a container of each
type that somebody used there: nothing is created, so nothing can be created twice. Maps are what paths are made of;
a key is there as long as something below it is.

Payloads carry no dots, clocks or tombstones. What a change observed is what lies in the past of its operation (pure
operation-based CRDTs, Baquero, Almeida & Shoker 2017), and that is signed already. Text is the exception: the place of
a character is a reference to another one.
"""

from enum import IntEnum
from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct

from protocols.messages import Key32, Uint64

KEY_SIZE_MAX: Final = 128
"""Characters of a name in a path."""
DEPTH_MAX: Final = 8
VALUE_SIZE_MAX: Final = 16 * 1024
"""Bytes or characters of a value; larger things are stored elsewhere and named here."""
EDITS_MAX: Final = 64
"""Of one operation on a text."""
RUN_SIZE_MAX: Final = 8 * 1024
"""Characters that are inserted in one piece."""
MEMBERS_MAX: Final = 1024
"""Devices that a channel begins with."""
EVIDENCE_SIZE_MAX: Final = 2 * 1024
"""One side of an equivocation: header, path and signature."""

Key = Annotated[str, Meta(min_length=1, max_length=KEY_SIZE_MAX)]
Path = Annotated[tuple[Key, ...], Meta(min_length=1, max_length=DEPTH_MAX)]
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class Blob(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A value that is bytes."""

    data: Annotated[bytes, Meta(max_length=VALUE_SIZE_MAX)]


Value: TypeAlias = bool | Integer | Annotated[str, Meta(max_length=VALUE_SIZE_MAX)] | Blob | None
"""No floats and no maps: neither has one natural encoding. ``True`` and ``1`` are two values."""

Reference: TypeAlias = Uint64 | Key32
"""Another operation: how many earlier in its author's own chain (0 is the operation itself), or the id of one of
somebody else's. It has to lie in the past."""


class Role(IntEnum):
    """What a device may do in a channel; each may what those below it may."""

    READER = 1
    """Acknowledge, and accuse equivocators."""
    MEMBER = 2
    """Write."""
    ADMIN = 3
    """Grant and revoke; never the owners."""
    OWNER = 4
    """Given by the first operation only, and never taken away."""


class _Change(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What every change is."""


# -- documents ------------------------------------------------------------------------------------------------


class Assign(_Change, frozen=True, tag=1):
    """Set a last-writer-wins register: that with the highest clock, of those that nobody overwrote knowingly."""

    path: Path
    value: Value


class AssignMulti(_Change, frozen=True, tag=2):
    """Set a multi-value register, which shows all values that nobody overwrote knowingly."""

    path: Path
    value: Value


class Increment(_Change, frozen=True, tag=3):
    """Add to a counter, or take away."""

    path: Path
    by: Integer


class Add(_Change, frozen=True, tag=4):
    """Add an element to a set."""

    path: Path
    element: Value


class Remove(_Change, frozen=True, tag=5):
    """Remove an element from a set, as far as it was seen: a concurrent ``Add`` wins."""

    path: Path
    element: Value


class Append(_Change, frozen=True, tag=6):
    """Append an entry to a timeline, which is in the order of clocks."""

    path: Path
    value: Value


class Insert(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=0):
    """A run of characters in the tree of Fugue (Weidner & Kleppmann 2023): the first is a child of character
    ``offset`` of ``parent``, on its left or right side; each further one is the right child of the one before."""

    parent: Reference | None
    """The operation that inserted the parent; None for the root, which has a right side only."""
    offset: Uint64
    """Which of the characters that ``parent`` inserted, counted over all its edits."""
    left: bool
    text: Annotated[str, Meta(min_length=1, max_length=RUN_SIZE_MAX)]


class Delete(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=1):
    """Delete characters ``offset`` to ``offset + count - 1`` of those that ``target`` inserted."""

    target: Reference
    offset: Uint64
    count: Annotated[int, Meta(ge=1, le=2**31)]


class Edit(_Change, frozen=True, tag=7):
    """Edit a text, in this order."""

    path: Path
    edits: Annotated[tuple[Insert | Delete, ...], Meta(min_length=1, max_length=EDITS_MAX)]


class Clear(_Change, frozen=True, tag=8):
    """Remove a key with all that is at it and below it, as far as it was seen: what is concurrent stays."""

    path: Path


# -- the channel ----------------------------------------------------------------------------------------------


class Genesis(_Change, frozen=True, tag=9):
    """A channel's first operation, whose id is the channel's."""

    roles: Annotated[tuple[tuple[Key32, Role], ...], Meta(min_length=1, max_length=MEMBERS_MAX)]
    """Sorted by device; its author is one of the owners."""
    nonce: Key32
    burst: Annotated[int, Meta(ge=64, le=2**32)]
    """Operations that an author may write at once,"""
    rate_per_s: Annotated[int, Meta(ge=1, le=2**20)]
    """and how fast the allowance comes back."""


class Grant(_Change, frozen=True, tag=10):
    """A device may come in, or may do more than before. It does not undo revocations that its author had not seen."""

    device: Key32
    role: Role


class Revoke(_Change, frozen=True, tag=11):
    """A device is in no more. What it wrote without having seen this counts as far as this operation had seen it."""

    device: Key32


class Accuse(_Change, frozen=True, tag=12):
    """Two operations of one author on one back-link (``evidence.Evidence``): whoever reads this needs nobody's word."""

    first: Annotated[bytes, Meta(max_length=EVIDENCE_SIZE_MAX)]
    second: Annotated[bytes, Meta(max_length=EVIDENCE_SIZE_MAX)]


class Acknowledge(_Change, frozen=True, tag=13):
    """Nothing but: I have seen all this."""


Content: TypeAlias = Assign | AssignMulti | Increment | Add | Remove | Append | Edit | Clear
"""Changes of the document."""
Authority: TypeAlias = Genesis | Grant | Revoke | Accuse
"""Changes of who may change it."""
Change: TypeAlias = Content | Authority | Acknowledge

AUTHORITY: Final = (Genesis, Grant, Revoke, Accuse)
