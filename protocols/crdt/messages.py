"""What replicas say to each other.

    asker                                      answerer
    Compare   digest of my heads           --> Same, or Heads
    Since     what of mine you may hold    --> Delta: what I lack; or Far: too much to send it unasked
    Split     ranges of keyed hashes       --> Fingerprints of their parts
    List      ranges that differ           --> Listed: the keys in them
    Push      what you lack, what I want   --> Pushed: what became of it, and what was wanted

Who has compacted answers Since with Dropped if what it let go of may be lacked; then it is about snapshots:

    Settled   which snapshot do you begin with   --> Mark
    Confirm   a snapshot that I have made        --> Mark: it is signed, or another one is settled here
    Fetch     from an offset                     --> Page

Every request is answered from itself and the set that the answerer holds, so an answerer keeps nothing between two of
them. Units are bundles and single operations as ``bundles`` has them, still to be checked: the only way from here into
a document is ``Replica.receive``.

Bytes in bytes (keys, fingerprints, ranges) are packed by hand: as MessagePack arrays they would be half as long again.
"""

from typing import Annotated, Final

from msgspec import Meta

from protocols.crdt.bundles import BUNDLE_SIZE_MAX, HEADER
from protocols.crdt.snapshot import SNAPSHOT_SIZE_MAX, Frame, Signatures
from protocols.messages import Codec, Key32, Message, Uint64

HEADS_MAX: Final = 128
"""Named in a question or an answer. A channel has more when hundreds write at once, or equivocators did, whose
branches nobody joins."""
SAMPLES_MAX: Final = 64
"""Named in a question, of what came before the heads."""
KNOWN_MAX: Final = HEADS_MAX + SAMPLES_MAX
UNTIL_MAX: Final = 64
WANTED_MAX: Final = 8192
"""Operations asked for at once, by key: 48 KiB."""
LISTED_MAX: Final = 8192
RANGES_MAX: Final = 2048
DEPTH_MAX: Final = 32
"""Bits of a key that select a range. With more, no two keys of honest replicas are left in one."""
SPLIT_BITS_MAX: Final = 13
FINGERPRINTS_MAX: Final = 1 << SPLIT_BITS_MAX
SHORT_SIZE: Final = 6
"""Bytes of a key or a fingerprint on the wire: of a million operations, one in 10**8 is taken for another."""
RANGE_SIZE: Final = 4

UNIT_SIZE_MAX: Final = HEADER.size + BUNDLE_SIZE_MAX
UNITS_MAX: Final = 1024
MESSAGE_SIZE_MAX: Final = 384 * 1024
"""One unit of the largest kind beside what else there is. A message of many units is filled up to a fifth of this."""
PAGE_SIZE: Final = 128 * 1024
"""Of a snapshot: some seconds of a slow line."""
TRANSFER_SIZE_MAX: Final = 2 * SNAPSHOT_SIZE_MAX
"""Of a sealed snapshot: compressed, with as much again for signatures and acts."""

Digest = Annotated[bytes, Meta(min_length=16, max_length=16)]
Known = Annotated[tuple[Key32, ...], Meta(max_length=KNOWN_MAX)]
Mask = Annotated[bytes, Meta(max_length=KNOWN_MAX // 8)]
Unit = Annotated[bytes, Meta(min_length=1, max_length=UNIT_SIZE_MAX)]
Units = Annotated[tuple[Unit, ...], Meta(max_length=UNITS_MAX)]
Depth = Annotated[int, Meta(ge=0, le=DEPTH_MAX)]
Ranges = Annotated[bytes, Meta(min_length=RANGE_SIZE, max_length=RANGES_MAX * RANGE_SIZE)]


# -- requests -------------------------------------------------------------------------------------------------


class Compare(Message, frozen=True, gc=False, tag="crdt.sync"):
    """Do you hold what I hold? 63 bytes."""

    channel: Key32
    digest: Digest
    """Over the sorted heads."""


class Since(Message, frozen=True, tag="crdt.since"):
    """Send me what is not in the past of these operations, as far as you hold them, which I all do."""

    channel: Key32
    known: Known
    until: Annotated[tuple[Key32, ...], Meta(max_length=UNTIL_MAX)] = ()
    """Only what is in the past of these; without any, everything."""
    forced: bool = False
    """However much it is."""


class Split(Message, frozen=True, gc=False, tag="crdt.split"):
    """Cut each of these ranges in ``2 ** bits`` equal parts, and tell their fingerprints."""

    channel: Key32
    depth: Depth
    bits: Annotated[int, Meta(ge=1, le=SPLIT_BITS_MAX)]
    ranges: Ranges


class List(Message, frozen=True, gc=False, tag="crdt.list"):
    """Which keys are in these ranges?"""

    channel: Key32
    depth: Depth
    ranges: Ranges


class Push(Message, frozen=True, tag="crdt.push"):
    """Take these, and give me those."""

    channel: Key32
    units: Units
    wanted: Annotated[bytes, Meta(max_length=WANTED_MAX * SHORT_SIZE)] = b""
    """Keys, under the session that this comes over."""


class Settled(Message, frozen=True, gc=False, tag="crdt.settled"):
    """Which snapshot do you begin with?"""

    channel: Key32


class Confirm(Message, frozen=True, tag="crdt.confirm"):
    """Sign this snapshot, if you hold the operations and they come to the same."""

    channel: Key32
    digest: Key32
    frame: Frame


class Fetch(Message, frozen=True, gc=False, tag="crdt.fetch"):
    """Send me the snapshot with this digest, from this byte on."""

    channel: Key32
    digest: Key32
    offset: Annotated[int, Meta(ge=0, lt=TRANSFER_SIZE_MAX)]


# -- responses ------------------------------------------------------------------------------------------------


class Same(Message, frozen=True, gc=False, tag="crdt.same"):
    """I do."""


class Heads(Message, frozen=True, tag="crdt.heads"):
    """I do not; these determine what I hold."""

    heads: Annotated[tuple[Key32, ...], Meta(max_length=HEADS_MAX)]
    more: bool
    """Whether these are not all."""
    written: Uint64 = 0
    """The last sequence of the asker's own operations that the answerer holds."""


class Delta(Message, frozen=True, tag="crdt.delta"):
    """What you lack, causes before effects."""

    held: Mask
    """Which of the operations in the question the answerer holds; the first is the lowest bit of the first byte."""
    units: Units
    more: bool


class Dropped(Message, frozen=True, tag="crdt.dropped"):
    """You may lack what I have let go of. You do not if you hold these: then name them. Else take my snapshot."""

    held: Mask
    heads: Annotated[tuple[Key32, ...], Meta(min_length=1, max_length=HEADS_MAX)]
    """The last operations behind the frontier, sorted."""


class Far(Message, frozen=True, gc=False, tag="crdt.far"):
    """Too much to send it unasked: find out what exactly, beginning with this."""

    held: Mask
    count: Uint64
    """How many operations the answerer holds."""
    bits: Annotated[int, Meta(ge=1, le=SPLIT_BITS_MAX)]
    fingerprints: Annotated[bytes, Meta(max_length=FINGERPRINTS_MAX * SHORT_SIZE)]


class Fingerprints(Message, frozen=True, gc=False, tag="crdt.fingerprints"):
    """Of each part of each range, in order."""

    fingerprints: Annotated[bytes, Meta(max_length=FINGERPRINTS_MAX * SHORT_SIZE)]


class Listed(Message, frozen=True, gc=False, tag="crdt.listed"):
    """The keys in the first ranges that were asked for, ascending."""

    ranges: Annotated[int, Meta(ge=0, le=RANGES_MAX)]
    """How many of them; those after would have been too much."""
    keys: Annotated[bytes, Meta(max_length=LISTED_MAX * SHORT_SIZE)]


class Pushed(Message, frozen=True, tag="crdt.pushed"):
    """What became of the units that were pushed; said when what was taken is durable."""

    taken: Uint64
    """Operations."""
    parked: Uint64
    """Units, as all that follows."""
    refused: Uint64
    units: Units = ()
    """What was wanted, causes before effects,"""
    more: bool = False
    """and whether there is more of it."""


class Mark(Message, frozen=True, tag="crdt.mark"):
    """A snapshot, and who signed it."""

    digest: Key32
    frame: Frame
    """Without any ends: there is none, or it is the one that was asked about."""
    signatures: Signatures


class Page(Message, frozen=True, gc=False, tag="crdt.page"):
    """A part of a snapshot, sealed."""

    size: Annotated[int, Meta(ge=0, le=TRANSFER_SIZE_MAX)]
    """Of all of it; 0: that snapshot is not to be had here any more."""
    data: Annotated[bytes, Meta(max_length=PAGE_SIZE)]


Request = Compare | Since | Split | List | Push | Settled | Confirm | Fetch
Response = Same | Heads | Delta | Dropped | Far | Fingerprints | Listed | Pushed | Mark | Page

REQUESTS: Final[Codec[Request]] = Codec(
    Compare, Since, Split, List, Push, Settled, Confirm, Fetch, size_max=MESSAGE_SIZE_MAX
)
RESPONSES: Final[Codec[Response]] = Codec(
    Same, Heads, Delta, Dropped, Far, Fingerprints, Listed, Pushed, Mark, Page, size_max=MESSAGE_SIZE_MAX
)
