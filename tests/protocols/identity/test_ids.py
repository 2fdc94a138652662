"""A name says what sort of thing it names."""

import hashlib
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.contact import node_id
from protocols.errors import LocalError
from protocols.identity import DeviceId, NodeId, UserId
from protocols.identity.ids import ID_SIZE, Id

SORTS = (UserId, DeviceId, NodeId)
KEY = bytes(range(32))


def test_one_key_has_unrelated_names_as_user_device_and_node() -> None:
    names = [sort.of(KEY) for sort in SORTS]
    for first, second in combinations(names, 2):
        assert bytes(first) != bytes(second)


def test_names_of_two_sorts_are_never_equal() -> None:
    names: list[Id] = [sort(bytes(ID_SIZE)) for sort in SORTS]
    for first, second in combinations(names, 2):
        assert first != second
    assert {name: name for name in names} == {name: name for name in reversed(names)}
    assert len(dict.fromkeys(names)) == 3
    assert all(name == type(name)(bytes(ID_SIZE)) for name in names)


@settings(max_examples=50)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_another_key_has_another_name(first: bytes, second: bytes) -> None:
    for sort in SORTS:
        assert (sort.of(first) == sort.of(second)) == (first == second)


def test_a_name_is_the_personalised_hash_of_the_key() -> None:
    digest = hashlib.blake2b(KEY, digest_size=32, person=b"spacepanda user").digest()
    assert bytes(UserId.of(KEY)) == digest
    assert str(UserId.of(KEY)) == digest.hex()[:16]
    assert repr(UserId.of(KEY)) == f"UserId({digest.hex()[:16]})"


def test_the_number_of_a_node_is_its_name() -> None:
    assert int(NodeId.of(KEY)) == node_id(KEY) == int.from_bytes(bytes(NodeId.of(KEY)))


def test_names_are_made_of_keys() -> None:
    for sort in SORTS:
        for size in (0, 31, 33):
            with pytest.raises(LocalError):
                sort.of(bytes(size))
            with pytest.raises(ValueError, match="32 bytes"):
                sort(bytes(size))
