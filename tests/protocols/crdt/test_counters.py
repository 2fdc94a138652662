"""Counters, told in stories; every story is told in many orders of arrival."""

from protocols.crdt.changes import Clear, Increment
from protocols.crdt.counters import Counter
from tests.protocols.crdt.documents import document_of
from tests.protocols.crdt.worlds import World

PATH = ("votes",)


def test_increments_add_up_whoever_saw_what() -> None:
    world = World()
    world.write(1, Increment(PATH, 5))
    world.write(2, Increment(PATH, -7), after=[])
    world.write(1, Increment(PATH, 1))
    assert document_of(world).counter(PATH) == -1


def test_a_clear_takes_away_what_it_saw_and_nothing_else() -> None:
    world = World()
    seen = world.write(1, Increment(PATH, 5), after=[])
    world.write(1, Increment(PATH, 10), after=[])
    world.write(2, Increment(PATH, 100), after=[])
    world.write(3, Clear(PATH), after=[seen])
    assert document_of(world).counter(PATH) == 110


def test_two_clears_take_away_an_increment_once() -> None:
    world = World()
    seen = world.write(1, Increment(PATH, 5), after=[])
    world.write(2, Clear(PATH), after=[seen])
    world.write(3, Clear(PATH), after=[seen])
    world.write(1, Increment(PATH, 1), after=[])
    assert document_of(world).counter(PATH) == 1


def test_a_counter_at_zero_is_there_and_a_cleared_one_is_not() -> None:
    world = World()
    world.write(1, Increment(PATH, 1))
    world.write(2, Increment(PATH, -1))
    assert document_of(world).value() == {"votes": 0}
    world.write(3, Clear(PATH))
    assert document_of(world).value() == {}


def test_a_clear_sees_both_branches_of_an_equivocator_or_one() -> None:
    world = World()
    one = world.write(1, Increment(PATH, 1), after=[])
    world.write(1, Increment(PATH, 10), after=[])
    other = world.write(1, Increment(PATH, 100), after=[world.genesis], beside=one)
    world.write(1, Increment(PATH, 1000), after=[])
    world.write(2, Clear(PATH), after=[other])
    assert document_of(world).counter(PATH) == 1011


def test_a_sum_may_have_more_than_64_bits() -> None:
    world = World()
    for author in (1, 2, 3):
        world.write(author, Increment(PATH, 2**63 - 1), after=[])
    document = document_of(world)
    assert document.counter(PATH) == 3 * (2**63 - 1)
    assert len(document.digest()) == 32


def test_an_empty_counter_says_so() -> None:
    counter = Counter()
    assert not counter
    assert (len(counter), counter.value(), counter.live(), counter.sums()) == (0, 0, [], ())


def test_sums_are_by_author() -> None:
    world = World()
    written = [world.write(author, Increment(PATH, by), after=[]) for author, by in ((1, 3), (2, 4), (1, -2))]
    history, counter = world.history(), Counter()
    for each in written:
        change = each.operation.change
        assert isinstance(change, Increment)
        counter.increment(history.operations[each.id], change.by)
    assert counter.sums() == tuple(sorted([(world.public(1), "1"), (world.public(2), "4")]))
    assert len(counter) == 3
