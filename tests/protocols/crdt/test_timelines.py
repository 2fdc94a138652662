"""Timelines, told in stories; every story is told in many orders of arrival."""

from protocols.crdt.changes import Append, Blob, Clear
from tests.protocols.crdt.documents import document_of
from tests.protocols.crdt.worlds import World

PATH = ("chat",)


def test_entries_are_in_the_order_of_their_clocks_whenever_they_came() -> None:
    world = World()
    for clock, author in ((30, 1), (10, 2), (20, 3)):
        world.write(author, Append(PATH, clock), after=[], clock=clock)
    assert document_of(world).value() == {"chat": [10, 20, 30]}


def test_an_answer_comes_after_what_it_answers() -> None:
    world = World()
    question = world.write(1, Append(PATH, "question"), clock=1000)
    world.write(2, Append(PATH, "answer"), after=[question])
    world.write(3, Append(PATH, "long before"), after=[])
    assert document_of(world).value() == {"chat": ["long before", "question", "answer"]}


def test_equal_clocks_are_in_the_order_of_authors() -> None:
    world = World()
    for author in (1, 2, 3):
        world.write(author, Append(PATH, author), after=[], clock=9)
    expected = sorted((1, 2, 3), key=world.public)
    assert document_of(world).value() == {"chat": expected}


def test_an_entry_says_who_wrote_it_and_when() -> None:
    world = World()
    written = world.write(1, Append(PATH, Blob(b"hello")), clock=77)
    (entry,) = document_of(world).entries(PATH)
    assert (entry.id, entry.author, entry.sequence, entry.clock) == (written.id, world.public(1), 1, 77)
    assert entry.value == Blob(b"hello")


def test_equal_entries_are_as_many_as_were_appended() -> None:
    world = World()
    world.write(1, Append(PATH, "hi"))
    world.write(2, Append(PATH, "hi"))
    assert document_of(world).value() == {"chat": ["hi", "hi"]}


def test_a_clear_drops_what_it_saw() -> None:
    world = World()
    seen = world.write(1, Append(PATH, "old"), after=[])
    world.write(2, Append(PATH, "beside"), after=[])
    world.write(3, Clear(PATH), after=[seen])
    world.write(3, Append(PATH, "new"), after=[])
    assert sorted(document_of(world).value()["chat"]) == ["beside", "new"]
