"""Sets, told in stories; every story is told in many orders of arrival."""

from typing import Final

import pytest

from protocols.crdt.changes import Add, Blob, Clear, Remove, Value
from tests.protocols.crdt.documents import document_of
from tests.protocols.crdt.worlds import World

PATH = ("tags",)


def test_a_removal_removes_what_it_saw() -> None:
    world = World()
    world.write(1, Add(PATH, "x"))
    world.write(2, Remove(PATH, "x"))
    assert document_of(world).elements(PATH) == []


def test_an_addition_wins_over_a_concurrent_removal() -> None:
    world = World()
    first = world.write(1, Add(PATH, "x"))
    world.write(2, Remove(PATH, "x"), after=[first])
    world.write(3, Add(PATH, "x"), after=[first])
    assert document_of(world).elements(PATH) == ["x"]


def test_removing_what_is_not_there_yet_removes_nothing() -> None:
    world = World()
    world.write(1, Remove(PATH, "x"), after=[])
    world.write(2, Add(PATH, "x"), after=[])
    assert document_of(world).elements(PATH) == ["x"]


def test_an_old_addition_that_arrives_late_resurrects_nothing() -> None:
    world = World()
    first = world.write(1, Add(PATH, "x"), after=[])
    second = world.write(2, Add(PATH, "x"), after=[first])
    world.write(3, Remove(PATH, "x"), after=[second])
    assert document_of(world).elements(PATH) == []


def test_who_adds_again_is_removed_by_who_saw_that_alone() -> None:
    world = World()
    world.write(1, Add(PATH, "x"), after=[])
    again = world.write(1, Add(PATH, "x"), after=[])
    other = world.write(2, Add(PATH, "x"), after=[])
    world.write(3, Remove(PATH, "x"), after=[again])
    document = document_of(world)
    assert [each.id for each in next(document.live()).entries] == [other.id]


def test_what_was_removed_can_be_added_again() -> None:
    world = World()
    world.write(1, Add(PATH, "x"))
    world.write(2, Remove(PATH, "x"))
    world.write(3, Add(PATH, "x"))
    assert document_of(world).elements(PATH) == ["x"]


ALIKE: Final[tuple[Value, ...]] = (True, 1, "1", Blob(b"1"))


@pytest.mark.parametrize("removed", range(len(ALIKE)))
def test_elements_that_python_takes_for_equal_are_different(removed: int) -> None:
    world = World()
    for element in ALIKE:
        world.write(1, Add(PATH, element))
    world.write(2, Remove(PATH, ALIKE[removed]))
    left = document_of(world).elements(PATH)
    assert sorted(map(repr, left)) == sorted(repr(each) for i, each in enumerate(ALIKE) if i != removed)


def test_elements_come_in_an_order_that_no_arrival_chose() -> None:
    world = World()
    elements: tuple[Value, ...] = ("b", 3, None, True, -1, "a", 200)
    for number, element in enumerate(elements):
        world.write(1 + number % 3, Add(PATH, element), after=[])
    assert document_of(world).value() == {"tags": [3, "a", "b", None, True, 200, -1]}


def test_a_clear_leaves_what_was_added_beside_it() -> None:
    world = World()
    seen = world.write(1, Add(PATH, "seen"), after=[])
    world.write(1, Add(PATH, "after"), after=[])
    world.write(2, Add(PATH, "beside"), after=[])
    world.write(3, Clear(PATH), after=[seen])
    assert document_of(world).elements(PATH) == ["after", "beside"]


def test_membership_tells_elements_apart_too() -> None:
    world = World()
    world.write(1, Add(PATH, 1))
    document = document_of(world)
    assert document.contains(PATH, 1)
    assert not document.contains(PATH, True)
    assert not document.contains(("nowhere",), 1)
