"""What follows from a root key, and for which place."""

import pytest

from protocols.crypto import CryptoError, Secret
from protocols.errors import LocalError
from protocols.journal import JournalError, JournalKeys, Table
from protocols.journal.keys import EpochKeys
from tests.pair import Entropy
from tests.protocols.journal.kit import KEYS, OTHER_KEYS


def test_a_stream_s_id_is_its_name_s_under_this_root_key_alone() -> None:
    ids = [keys.stream(name) for keys in (KEYS, OTHER_KEYS) for name in (b"a", b"b", b"ab")]
    assert len({*ids}) == 6
    assert {len(each) for each in ids} == {16}
    assert JournalKeys(Secret(bytes(range(32)))).stream(b"a") == ids[0]


def test_a_root_key_has_its_size() -> None:
    for size in (0, 31, 33):
        with pytest.raises(LocalError):
            JournalKeys(Secret(bytes(size)))


def test_a_wrapped_row_opens_in_its_place_and_nowhere_else() -> None:
    row = KEYS.wrap(Table.KEY, bytes(16), 1, b"plaintext", Entropy("keys"))
    assert KEYS.unwrap(Table.KEY, bytes(16), 1, row) == b"plaintext"
    for keys, table, stream, number in (
        (OTHER_KEYS, Table.KEY, bytes(16), 1),
        (KEYS, Table.ROLL, bytes(16), 1),
        (KEYS, Table.KEY, b"\1" * 16, 1),
        (KEYS, Table.KEY, bytes(16), 2),
    ):
        with pytest.raises(JournalError) as caught:
            keys.unwrap(table, stream, number, row)
        assert caught.value.reason == f"bad_{table.name.lower()}"
    with pytest.raises(JournalError) as caught:
        KEYS.unwrap(Table.KEY, bytes(16), 1, b"\2" + row[1:])
    assert caught.value.reason == "version"


def test_an_epoch_s_keys_are_its_secret_s_alone() -> None:
    one, other = EpochKeys(bytes(16), 1, bytes(32)), EpochKeys(bytes(16), 1, b"\1" * 32)
    sealed = one.seal(bytes(24), b"ad", b"plaintext")
    assert one.open(bytes(24), b"ad", sealed) == b"plaintext"
    for keys, associated_data in ((other, b"ad"), (one, b"da")):
        with pytest.raises(CryptoError):
            keys.open(bytes(24), associated_data, sealed)
    assert one.tag(b"domain\0", b"field") != other.tag(b"domain\0", b"field")


def test_keys_print_nothing() -> None:
    printed = repr((KEYS, EpochKeys(bytes(16), 1, bytes(32))))
    assert "bytes" not in printed
    assert "\\x" not in printed
