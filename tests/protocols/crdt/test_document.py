"""The laws of documents, for each type and for all together: a document follows from a set."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.changes import Add, Assign, Clear, Delete, Edit, Increment, Insert, Remove
from protocols.crdt.document import Document
from protocols.crdt.history import History
from tests.protocols.crdt.documents import document_of, live_by_definition, replay
from tests.protocols.crdt.strategies import TYPES, clears, content
from tests.protocols.crdt.worlds import World, causal_orders, deliver, worlds

ALL = TYPES | {"everything": content()}


@pytest.mark.parametrize("name", ALL)
def test_one_set_is_one_state_in_every_order_and_whenever_somebody_looks(name: str) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.data())
    def law(data: st.DataObject) -> None:
        world = data.draw(worlds(ALL[name] | clears))
        inert = [each for each in world.written if data.draw(st.integers(0, 5)) == 5]
        looks = data.draw(st.sets(st.integers(0, 12)))
        one = replay(world, data.draw(causal_orders(world.written)), inert, looks)
        other = replay(world, world.written, inert)
        assert one.state_bytes() == other.state_bytes()
        assert one.value() == other.value()

    law()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_live_is_what_nothing_that_counts_takes_away(data: st.DataObject) -> None:
    world = data.draw(worlds(content(texts=False)))
    history = History(world.channel)
    document = Document(history)
    for written in data.draw(causal_orders(world.written)):
        held = deliver(history, written)
        held.counts = data.draw(st.integers(0, 5)) < 5
        document.apply(held)
    live = [(each.path, each.kind, {entry.id for entry in each.entries}) for each in document.live()]
    assert live == live_by_definition(history)


def test_what_does_not_count_has_no_effect() -> None:
    world = World()
    kept = world.write(1, Assign(("a",), "kept"))
    world.write(1, Add(("set",), "kept"))
    inert = [
        world.write(2, Assign(("a",), "inert")),
        world.write(2, Remove(("set",), "kept")),
        world.write(2, Clear(("a",))),
        world.write(2, Increment(("n",), 1)),
    ]
    document = document_of(world, inert)
    assert document.value() == {"a": "kept", "set": ["kept"]}
    assert next(document.live()).entries[0].id == kept.id


def test_what_is_typed_on_an_insertion_that_does_not_count_stays() -> None:
    world = World()
    path = ("note",)
    inert = world.write(2, Edit(path, (Insert(None, 0, False, "lie"),)))
    world.write(1, Edit(path, (Insert(inert.id, 2, False, "truth"),)))
    deletes = world.write(2, Edit(path, (Delete(1, 0, 1),)))
    assert str(document_of(world, [inert, deletes]).text(path)) == "truth"


def test_operations_about_the_channel_change_no_document() -> None:
    document = document_of(World())
    assert document.value() == {}
    assert document.state_bytes() == Document(History(bytes(32))).state_bytes()


def test_what_is_absent_reads_as_empty() -> None:
    document = document_of(World())
    path = ("nowhere",)
    assert document.value(path) is None
    assert document.register(path) is None
    assert (document.values(path), document.elements(path), document.entries(path), document.keys(path)) == (
        [], [], [], [],
    )  # fmt: skip
    assert document.counter(path) == 0
    assert str(document.text(path)) == ""
    assert document.state_bytes() == document_of(World()).state_bytes()


def test_many_clears_beside_a_large_map_are_carried_out_as_one() -> None:
    world = World()
    for number in range(50):
        world.write(1, Assign(("map", str(number)), number), after=[])
    for _ in range(200):
        world.write(2, Clear(("map",)), after=[])
    document = replay(world, world.written)
    assert [len(node.clears) for node in document._cleared.values() if node.clears] == [1]
    assert len(document.keys(("map",))) == 50
    assert not document._cleared


def test_names_of_which_nothing_is_left_are_forgotten() -> None:
    world = World()
    for number in range(20):
        world.write(1, Assign(("map", str(number), "deep"), number))
    for number in range(20):
        world.write(2, Clear(("map", str(number))))
    document = replay(world, world.written)
    assert document.keys() == []
    assert list(document._nodes) == [()]


def test_texts_are_listed_even_if_nothing_of_them_shows() -> None:
    world = World()
    world.write(1, Edit(("note",), (Insert(None, 0, False, "x"),)))
    world.write(2, Clear(("note",)))
    document = document_of(world)
    assert [(path, len(text)) for path, text in document.texts()] == [(("note",), 0)]
    assert document.state_bytes() == document_of(World()).state_bytes()
