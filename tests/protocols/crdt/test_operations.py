from collections.abc import Sequence

import pytest
from hypothesis import given

from protocols.crdt.changes import Acknowledge, Assign, Change
from protocols.crdt.operations import NOTHING, Operation, OperationIds, encode_change, hash_of_change
from tests.protocols.crdt.forgeries import changes

CHANNEL, AUTHOR, PREVIOUS = b"c" * 32, b"a" * 32, b"p" * 32
CHANGE = Assign(("a",), 1)


def written(
    channel: bytes = CHANNEL,
    author: bytes = AUTHOR,
    sequence: int = 2,
    previous: bytes = PREVIOUS,
    dependencies: Sequence[bytes] = (b"d" * 32,),
    clock: int = 7,
    change: Change = CHANGE,
) -> Operation:
    ids = OperationIds(channel, author)
    return ids.operation(sequence, previous, tuple(dependencies), clock, change, encode_change(change))


def test_an_id_depends_on_all_that_was_written() -> None:
    different = [
        written(),
        written(channel=NOTHING),
        written(author=b"b" * 32),
        written(sequence=3),
        written(previous=NOTHING),
        written(dependencies=()),
        written(dependencies=(PREVIOUS,)),
        written(dependencies=(b"d" * 32, b"e" * 32)),
        written(clock=8),
        written(change=Assign(("a",), True)),
        written(change=Acknowledge()),
    ]
    assert len({each.id for each in different}) == len(different)


def test_neighbouring_fields_do_not_run_into_each_other() -> None:
    one = written(previous=b"x" * 32, dependencies=(b"y" * 32,))
    assert one.id != written(previous=b"y" * 32, dependencies=(b"x" * 32,)).id
    assert one.id != written(previous=b"x" * 32, dependencies=(b"y" * 32, hash_of_change(CHANGE))).id


@given(changes())
def test_the_hash_of_a_change_is_all_that_an_id_needs_of_it(change: Change) -> None:
    header = OperationIds(CHANNEL, AUTHOR).id_of(2, PREVIOUS, [b"d" * 32], 7, hash_of_change(change))
    assert header == written(change=change).id


def test_the_id_of_an_operation_is_what_it_was_in_the_first_release() -> None:
    assert written().id.hex() == "a58fc6b2d7e6d3fda74a0a93c7c9f3f02a326e6f1cd8882167510614cfe1f0ef"


def test_operations_are_equal_if_their_ids_are() -> None:
    assert written() == written()
    assert len({written(), written(), written(clock=8)}) == 2
    assert written() != written(clock=8)
    assert written() != written().id


def test_an_operation_does_not_change() -> None:
    with pytest.raises(AttributeError):
        written().clock = 8  # type: ignore[misc]
