"""Sealed rows, one at a time: their bytes, and what a row is bound to."""

import pytest

from protocols.crypto import SHA256, xchacha20_poly1305_open
from protocols.journal import JournalError, Row, Table
from protocols.journal.keys import EpochKeys
from protocols.journal.rows import ROW_OVERHEAD, Stored, check, open_group, open_snapshot, seal_group, seal_snapshot
from tests.pair import Entropy

SECRET = b"s" * 32
KEYS = EpochKeys(b"i" * 16, 5, SECRET)
CHAIN = b"c" * 32
STORED = [Stored(1, "kind", b"payload"), Stored(2**63 - 1, "k", b"")]


def group(number: int = 10, stored: list[Stored] = STORED) -> Row:
    data, _ = seal_group(KEYS, number, stored, CHAIN, Entropy("rows"))
    return Row(Table.GROUP, KEYS.stream, number, data)


def test_a_group_s_bytes_are_as_its_module_says() -> None:
    """Written down once more, by hand."""
    row = group()
    header, nonce, sealed, tag = row.data[:21], row.data[21:45], row.data[45:-32], row.data[-32:]
    assert header == b"\1" + (5).to_bytes(8, "big") + (10).to_bytes(8, "big") + (2).to_bytes(4, "big")
    sealing = SHA256.hkdf_expand(SECRET, b"spacepanda journal 1 sealing", 32)
    authenticating = SHA256.hkdf_expand(SECRET, b"spacepanda journal 1 authenticating", 32)
    domain = b"spacepanda journal 1 group\0"
    plaintext = xchacha20_poly1305_open(sealing, nonce, domain + header + nonce, sealed)
    assert plaintext == (
        b"\x92" + b"\x93\x01\xa4kind\xc4\x07payload" + b"\x93\xcf\x7f\xff\xff\xff\xff\xff\xff\xff\xa1k\xc4\x00"
    )
    assert tag == SHA256.hmac(authenticating, domain + b"i" * 16 + CHAIN + row.data[:-32])


def test_a_group_is_opened_as_it_was_sealed() -> None:
    row = group()
    count, tag = check(KEYS, row, CHAIN)
    assert (count, tag) == (2, row.data[-32:])
    found = [(each.sequence, each.time, each.kind, each.payload) for each in open_group(KEYS, row, count)]
    assert found == [(10, 1, "kind", b"payload"), (11, 2**63 - 1, "k", b"")]


def test_a_snapshot_is_opened_as_it_was_sealed_and_is_no_group() -> None:
    data, tag = seal_snapshot(KEYS, 10, b"state", CHAIN, Entropy("rows"))
    row = Row(Table.SNAPSHOT, KEYS.stream, 10, data)
    assert check(KEYS, row, CHAIN) == (0, tag)
    assert open_snapshot(KEYS, row) == b"state"
    with pytest.raises(JournalError, match="does not verify") as caught:
        check(KEYS, Row(Table.GROUP, KEYS.stream, 10, data), CHAIN)
    assert caught.value.reason == "bad_group"


def test_a_row_follows_one_chain_only() -> None:
    with pytest.raises(JournalError) as caught:
        check(KEYS, group(), bytes(32))
    assert caught.value.reason == "bad_group"


def test_two_seals_of_the_same_records_share_nothing_but_the_header() -> None:
    """A group that was lost in a crash, and the one in its place."""
    entropy = Entropy("rows")
    (one, _), (other, _) = (seal_group(KEYS, 10, STORED, CHAIN, entropy) for _ in range(2))
    assert one[:21] == other[:21]
    assert one[21:45] != other[21:45]
    assert one[45:-32] != other[45:-32]


@pytest.mark.parametrize("size", [0, ROW_OVERHEAD - 1, ROW_OVERHEAD + 4])
def test_a_row_of_a_size_that_none_has_is_refused_before_it_is_hashed(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocols.journal.rows.ROW_SIZE_MAX", ROW_OVERHEAD + 3)
    monkeypatch.delattr(EpochKeys, "tag")
    with pytest.raises(JournalError, match="none of ours has" if size else "version none"):
        check(KEYS, Row(Table.GROUP, KEYS.stream, 10, bytes([1]) * size), CHAIN)


def test_what_is_stored_does_not_print_its_payload() -> None:
    assert "payload" not in repr(STORED)


@pytest.mark.parametrize("plaintext", [b"", b"\x91", b"\x91\x01", b"\x91\x93\x01\xa0\xc4\x00", b"\x90"])
def test_what_is_sealed_and_no_group_is_refused(plaintext: bytes) -> None:
    data, _ = seal_snapshot(KEYS, 10, plaintext, CHAIN, Entropy("rows"))
    row = Row(Table.SNAPSHOT, KEYS.stream, 10, data)
    check(KEYS, row, CHAIN)
    with pytest.raises(JournalError):
        open_group(KEYS, row, 1)
