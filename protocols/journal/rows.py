"""Groups and snapshots: sealed rows in a chain.

    VERSION(1) | EPOCH(8) | NUMBER(8) | COUNT(4) | NONCE(24) | SEALED | TAG(32)

``SEALED`` is XChaCha20-Poly1305, with all before it as associated data. ``TAG`` is an HMAC over the whole row, its
stream, and the tag of the group before: a group in another place, in another stream, or after another history has
another tag. Poly1305 alone could not say that, as whoever has two keys can make bytes that open under both.

Records that are committed together share a row: one seal and one HMAC for 64 of them is what makes a record cost a
microsecond. A snapshot's row has the same form, with a count of 0. It carries on from the last group's tag but is no
link of the chain, so that a damaged one leaves the way past it open.
"""

from hmac import compare_digest
from struct import Struct
from typing import Final

import msgspec

from protocols.crypto import AEAD_TAG_SIZE, XCHACHA_NONCE_SIZE, CryptoError
from protocols.journal.errors import JournalError
from protocols.journal.keys import TAG_SIZE, VERSION, Entropy, EpochKeys, check_version
from protocols.journal.messages import STATE_SIZE_MAX, Kind, Payload, Record
from protocols.journal.store import Row, Table
from protocols.messages import Uint64

_HEADER: Final = Struct(">BQQI")
_HEAD_SIZE: Final = _HEADER.size + XCHACHA_NONCE_SIZE
ROW_OVERHEAD: Final = _HEAD_SIZE + AEAD_TAG_SIZE + TAG_SIZE
ROW_SIZE_MAX: Final = ROW_OVERHEAD + STATE_SIZE_MAX
"""A snapshot's; no group is as large. To verify a row takes its size several times over."""

_DOMAINS: Final = {Table.SNAPSHOT: b"spacepanda journal 1 snapshot\0", Table.GROUP: b"spacepanda journal 1 group\0"}


class Stored(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """A record inside its group, where its number follows from the place."""

    time: Uint64
    kind: Kind
    payload: Payload

    def __repr__(self) -> str:
        return f"Stored({self.kind}, {len(self.payload)} bytes)"


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(list[Stored])


def seal_group(
    keys: EpochKeys, first: int, stored: list[Stored], chain: bytes, entropy: Entropy
) -> tuple[bytes, bytes]:
    """``(row, tag)`` of the records numbered from ``first`` that follow the group with the tag ``chain``."""
    return _seal(keys, Table.GROUP, first, len(stored), chain, _ENCODER.encode(stored), entropy)


def seal_snapshot(keys: EpochKeys, sequence: int, state: bytes, chain: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
    """``(row, tag)`` of the state after record ``sequence``, which is in the group with the tag ``chain``."""
    return _seal(keys, Table.SNAPSHOT, sequence, 0, chain, state, entropy)


def _seal(
    keys: EpochKeys, table: Table, number: int, count: int, chain: bytes, plaintext: bytes, entropy: Entropy
) -> tuple[bytes, bytes]:
    nonce = entropy(XCHACHA_NONCE_SIZE)
    head = _HEADER.pack(VERSION, keys.epoch, number, count) + nonce
    domain = _DOMAINS[table]
    unauthenticated = head + keys.seal(nonce, domain + head, plaintext)
    tag = keys.tag(domain, chain, unauthenticated)
    return unauthenticated + tag, tag


def check(keys: EpochKeys, row: Row, chain: bytes) -> tuple[int, bytes]:
    """``(count, tag)`` of a row that is what we wrote in this place after ``chain``.

    Raises:
        JournalError: ``version``, ``spliced``, ``bad_group`` or ``bad_snapshot``.
    """
    what = describe(row)
    check_version(row.data, what)
    if not ROW_OVERHEAD <= len(row.data) <= ROW_SIZE_MAX:
        raise _bad(row, f"{what} has {len(row.data)} bytes, and none of ours has")
    _, epoch, number, count = _HEADER.unpack_from(row.data)
    if epoch != keys.epoch:
        raise JournalError("spliced", f"{what} is from epoch {epoch}, and this is epoch {keys.epoch}")
    if number != row.number:
        raise JournalError("spliced", f"{what} was written as number {number}")
    tag = row.data[-TAG_SIZE:]
    if not compare_digest(tag, keys.tag(_DOMAINS[row.table], chain, row.data[:-TAG_SIZE])):
        raise _bad(row, f"{what} does not verify: it was altered, or follows something else")
    return count, tag


def open_group(keys: EpochKeys, row: Row, count: int) -> list[Record]:
    """The records of a group that was checked.

    Raises:
        JournalError: ``bad_group``: it holds something else, which only our own bug can do.
    """
    try:
        stored = _DECODER.decode(_open(keys, row))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _bad(row, f"{describe(row)} holds no records: {error}") from None
    if len(stored) != count:
        raise _bad(row, f"{describe(row)} holds {len(stored)} records and says {count}")
    kinds: dict[str, str] = {}  # one string for all of a kind: 60 MB less for a million records
    return [
        Record(row.number + place, each.time, kinds.setdefault(each.kind, each.kind), each.payload)
        for place, each in enumerate(stored)
    ]


def open_snapshot(keys: EpochKeys, row: Row) -> bytes:
    """The state in a snapshot that was checked.

    Raises:
        JournalError: ``bad_snapshot``: as ``open_group``.
    """
    return _open(keys, row)


def _open(keys: EpochKeys, row: Row) -> bytes:
    head = row.data[:_HEAD_SIZE]
    try:
        return keys.open(head[_HEADER.size :], _DOMAINS[row.table] + head, row.data[_HEAD_SIZE:-TAG_SIZE])
    except CryptoError:
        raise _bad(row, f"{describe(row)} does not open") from None


def describe(row: Row) -> str:
    return f"the group of records from {row.number}" if row.table is Table.GROUP else f"the snapshot at {row.number}"


def _bad(row: Row, detail: str) -> JournalError:
    return JournalError("bad_group" if row.table is Table.GROUP else "bad_snapshot", detail)
