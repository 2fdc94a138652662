"""Registers, told in stories; every story is told in many orders of arrival."""

from protocols.crdt.changes import Assign, AssignMulti, Blob, Clear, Value
from tests.protocols.crdt.documents import document_of
from tests.protocols.crdt.worlds import World

PATH = ("title",)


def test_the_highest_clock_wins() -> None:
    world = World()
    world.write(1, Assign(PATH, "early"), after=[], clock=50)
    world.write(2, Assign(PATH, "late"), after=[], clock=51)
    world.write(3, Assign(PATH, "earlier"), after=[], clock=49)
    assert document_of(world).register(PATH) == "late"


def test_who_saw_a_write_wins_over_it() -> None:
    world = World()
    world.write(1, Assign(PATH, "first"), clock=1000)
    world.write(2, Assign(PATH, "second"))
    document = document_of(world)
    assert document.register(PATH) == "second"
    assert len(next(document.live()).entries) == 1


def test_equal_clocks_are_decided_by_author() -> None:
    world = World()
    for author in (1, 2, 3):
        world.write(author, Assign(PATH, author), after=[], clock=7)
    greatest = max((1, 2, 3), key=world.public)
    assert document_of(world).register(PATH) == greatest


def test_equal_clocks_of_one_equivocator_are_decided_by_id() -> None:
    world = World()
    one = world.write(1, Assign(PATH, "one"), after=[], clock=7)
    other = world.write(1, Assign(PATH, "other"), after=[world.genesis], beside=one, clock=7)
    assert document_of(world).register(PATH) == ("one" if one.id > other.id else "other")


def test_a_clear_that_saw_the_winner_alone_uncovers_what_it_won_over() -> None:
    world = World()
    world.write(1, Assign(PATH, "below"), after=[], clock=7)
    winner = world.write(2, Assign(PATH, "above"), after=[], clock=8)
    world.write(3, Clear(PATH), after=[winner])
    assert document_of(world).register(PATH) == "below"


def test_none_is_a_value_and_not_absence() -> None:
    world = World()
    world.write(1, Assign(PATH, None))
    document = document_of(world)
    assert PATH in document
    assert document.register(PATH, default="absent") is None
    assert document.register(("other",), default="absent") == "absent"


def test_a_multi_value_register_shows_concurrent_writes_until_somebody_who_saw_them_decides() -> None:
    world = World()
    world.write(1, AssignMulti(PATH, "one"), after=[], clock=7)
    world.write(2, AssignMulti(PATH, "two"), after=[], clock=8)
    assert document_of(world).values(PATH) == ["one", "two"]
    world.write(3, AssignMulti(PATH, "both"))
    assert document_of(world).values(PATH) == ["both"]


def test_true_and_one_are_two_values() -> None:
    world = World()
    world.write(1, AssignMulti(PATH, True), after=[], clock=7)
    world.write(2, AssignMulti(PATH, 1), after=[], clock=8)
    world.write(3, AssignMulti(PATH, "1"), after=[], clock=9)
    assert list(map(type, document_of(world).values(PATH))) == [bool, int, str]


def test_values_of_different_types_make_different_states() -> None:
    values: tuple[Value, ...] = (True, 1, "1", Blob(b"1"), None, False, 0)
    states = []
    for value in values:
        world = World()
        world.write(1, Assign(PATH, value))
        states.append(document_of(world).digest())
    assert len(set(states)) == len(values)


def test_the_two_registers_of_one_path_do_not_touch_each_other() -> None:
    world = World()
    world.write(1, Assign(PATH, "last"))
    world.write(2, AssignMulti(PATH, "multi"))
    document = document_of(world)
    assert document.register(PATH) == "last"
    assert document.values(PATH) == ["multi"]
