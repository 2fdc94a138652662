"""How far a stream goes: once for itself, in a row that every batch replaces, and once for others, who keep it.

A chain shows that nothing in it was changed, and not that it went on. The head row says where the end is, so whoever
cuts the end off has to have an older head row: from a copy, or from the store's own leavings, as a database's log has
all states since it was begun. To find that out takes somebody whose memory is not in the same file: the keystore, and
peers who were sent a signed ``Head``. A journal that does not contain the place that they remember is refused. If all
of them were put back together with it, nobody can tell: that is what an unclean start is careful about.
"""

from hmac import compare_digest
from struct import Struct
from typing import Annotated, Final

import msgspec

from protocols.identity.signing import Domain, Signature, SigningKey, sign, verify
from protocols.journal.errors import JournalError
from protocols.journal.keys import TAG_SIZE, VERSION, EpochKeys, check_version
from protocols.journal.store import STREAM_SIZE
from protocols.messages import Key32, Message, Uint64

_NOTHING: Final = bytes(TAG_SIZE)


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A place from which a stream can be recovered: a snapshot, or its very beginning."""

    sequence: int = 0
    """Of the last record before it."""
    chain: bytes = _NOTHING
    """The tag of that record's group."""
    snapshot: bytes = _NOTHING
    """The tag of the snapshot; of the beginning there is none."""

    @property
    def is_beginning(self) -> bool:
        return self.snapshot == _NOTHING


BEGINNING: Final = Mark()

_HEAD: Final = Struct(f">BBQQ{TAG_SIZE}s" + 2 * f"Q{TAG_SIZE}s{TAG_SIZE}s")
_HEAD_DOMAIN: Final = b"spacepanda journal 1 head\0"
_SIZE: Final = _HEAD.size + TAG_SIZE


class Position(msgspec.Struct, frozen=True, gc=False):
    """What a stream's head row says:

    VERSION(1) | CLEAN(1) | EPOCH(8) | SEQUENCE(8) | CHAIN(32) | NEWEST(72) | OLDER(72) | TAG(32)
    """

    epoch: int
    sequence: int = 0
    """Of the last record."""
    chain: bytes = _NOTHING
    """The tag of the last group."""
    newest: Mark = BEGINNING
    """Where recovery begins,"""
    older: Mark = BEGINNING
    """and where it does if that snapshot is damaged. Nothing from before it is kept."""
    clean: bool = False

    def encode(self, keys: EpochKeys) -> bytes:
        newest, older = self.newest, self.older
        fields = _HEAD.pack(
            *(VERSION, self.clean, self.epoch, self.sequence, self.chain),
            *(newest.sequence, newest.chain, newest.snapshot),
            *(older.sequence, older.chain, older.snapshot),
        )
        return fields + keys.tag(_HEAD_DOMAIN, fields)

    @classmethod
    def decode(cls, keys: EpochKeys, data: bytes) -> "Position":
        """Raises:
        JournalError: ``version``, ``spliced`` or ``bad_head``.
        """
        check_version(data, "the head")
        if len(data) != _SIZE:
            raise JournalError("bad_head", f"the head has {len(data)} bytes, not {_SIZE}")
        _, clean, epoch, sequence, chain, *marks = _HEAD.unpack_from(data)
        if epoch != keys.epoch:
            raise JournalError("spliced", f"the head is from epoch {epoch}, and this is epoch {keys.epoch}")
        if not compare_digest(data[-TAG_SIZE:], keys.tag(_HEAD_DOMAIN, data[:-TAG_SIZE])):
            raise JournalError("bad_head", "the head does not verify: it was altered")
        return cls(epoch, sequence, chain, Mark(*marks[:3]), Mark(*marks[3:]), clean == 1)


class Head(Message, frozen=True, gc=False, tag="journal.head"):
    """A place in a stream, for whoever is to remember it. It says nothing about the stream's name or contents."""

    stream: Annotated[bytes, msgspec.Meta(min_length=STREAM_SIZE, max_length=STREAM_SIZE)]
    sequence: Uint64
    tag: Key32


class SignedHead(Message, frozen=True, gc=False, tag="journal.signed_head"):
    """What a witness is sent: it keeps the newest that it has seen of each stream, and sends it back when asked."""

    head: Head
    device: Key32
    signature: Signature

    def verify(self) -> bool:
        """Whether ``device`` signed it."""
        return verify(self.device, Domain.JOURNAL_HEAD, *_fields(self.head), signature=self.signature)

    def contradicts(self, other: "SignedHead") -> bool:
        """Whether no one history has both. If both ``verify``, the device, or who has its key, forked its journal; or
        removed the stream and made it anew, which is not to be done with one that witnesses know."""
        mine, theirs = self.head, other.head
        same_place = (mine.stream, mine.sequence, self.device) == (theirs.stream, theirs.sequence, other.device)
        return same_place and mine.tag != theirs.tag


def sign_head(head: Head, key: SigningKey) -> SignedHead:
    return SignedHead(head, key.public, sign(key, Domain.JOURNAL_HEAD, *_fields(head)))


def _fields(head: Head) -> tuple[bytes, ...]:
    return head.stream, head.sequence.to_bytes(8, "big"), head.tag
