from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.cells import Cell, plain, rank
from protocols.crdt.changes import Acknowledge, Blob
from tests.protocols.crdt.worlds import World, causal_orders, worlds


def test_a_put_replaces_what_it_sees_and_stands_beside_the_rest() -> None:
    world = World()
    first = world.write(1, Acknowledge())
    beside = world.write(2, Acknowledge(), after=[])
    later = world.write(3, Acknowledge(), after=[first])
    history, cell = world.history(), Cell()
    for each in (first, beside, later):
        cell.put(history.operations[each.id])
    assert {each.id for each in cell.live()} == {beside.id, later.id}


def test_a_clear_takes_out_what_it_sees() -> None:
    world = World()
    first = world.write(1, Acknowledge())
    beside = world.write(2, Acknowledge(), after=[])
    clear = world.write(3, Acknowledge(), after=[first])
    history = world.history()
    cell = Cell(history.operations[each.id] for each in (first, beside))
    cell.clear(history.operations[clear.id])
    assert [each.id for each in cell.live()] == [beside.id]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_cell_has_what_nobody_sees_in_whatever_order_it_came(data: st.DataObject) -> None:
    world = data.draw(worlds())
    history, cell = world.history(data.draw(causal_orders(world.written))), Cell()
    for each in history:
        cell.put(each)
    assert sorted(each.id for each in cell.live()) == list(history.heads)


@settings(max_examples=20, deadline=None)
@given(worlds())
def test_rank_agrees_with_causality(world: World) -> None:
    history = world.history()
    for one in history:
        assert all(rank(one) <= rank(other) for other in history if other.sees(one))


def test_a_blob_is_plainly_its_bytes() -> None:
    assert plain(Blob(b"x")) == b"x"
    assert plain(True) is True
