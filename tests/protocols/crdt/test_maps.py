"""Maps of maps and of everything else, told in stories; every story is told in many orders of arrival."""

from protocols.crdt.changes import Add, Append, Assign, AssignMulti, Clear, Edit, Increment, Insert, Remove
from protocols.crdt.state import Kind
from tests.protocols.crdt.documents import document_of
from tests.protocols.crdt.worlds import World


def text(path: tuple[str, ...], characters: str) -> Edit:
    return Edit(path, (Insert(None, 0, False, characters),))


def test_two_who_begin_one_map_at_the_same_time_fill_the_same_map() -> None:
    world = World()
    world.write(1, Assign(("members", "ada", "name"), "Ada"), after=[])
    world.write(2, Assign(("members", "bob", "name"), "Bob"), after=[])
    assert document_of(world).value() == {"members": {"ada": {"name": "Ada"}, "bob": {"name": "Bob"}}}


def test_a_clear_removes_a_key_with_all_below() -> None:
    world = World()
    world.write(1, Assign(("members", "ada", "name"), "Ada"))
    world.write(1, Add(("members", "ada", "tags"), "x"))
    world.write(1, Assign(("members", "bob"), "Bob"))
    world.write(2, Clear(("members", "ada")))
    document = document_of(world)
    assert document.value() == {"members": {"bob": "Bob"}}
    assert document.keys(("members",)) == ["bob"]
    assert ("members", "ada") not in document


def test_what_is_written_deep_down_beside_a_clear_keeps_its_names() -> None:
    world = World()
    seen = world.write(1, Assign(("a", "b", "old"), 1), after=[])
    world.write(2, Clear(("a",)), after=[seen])
    world.write(3, Assign(("a", "b", "new"), 2), after=[seen])
    assert document_of(world).value() == {"a": {"b": {"new": 2}}}


def test_a_cleared_key_comes_back_without_what_it_had() -> None:
    world = World()
    world.write(1, Assign(("a", "old"), 1))
    world.write(2, Clear(("a",)))
    world.write(3, Assign(("a", "new"), 2))
    assert document_of(world).value() == {"a": {"new": 2}}


def test_clears_at_several_heights_do_what_each_saw() -> None:
    world = World()
    one = world.write(1, Assign(("a", "b", "one"), 1), after=[])
    two = world.write(2, Assign(("a", "b", "two"), 2), after=[])
    world.write(1, Clear(("a", "b")), after=[])
    world.write(2, Clear(("a",)), after=[])
    world.write(3, Assign(("a", "b", "three"), 3), after=[one, two])
    assert document_of(world).value() == {"a": {"b": {"three": 3}}}


def test_a_clear_of_what_is_not_there_leaves_nothing_behind() -> None:
    world = World()
    world.write(1, Clear(("a",)), after=[])
    world.write(2, Assign(("a",), 1), after=[])
    assert document_of(world).value() == {"a": 1}


def test_a_clear_empties_every_type_at_its_path() -> None:
    world = World()
    path = ("everything",)
    for change in (Assign(path, 1), AssignMulti(path, 2), Increment(path, 3), Add(path, 4), Append(path, 5)):
        world.write(1, change)
    world.write(1, text(path, "text"))
    world.write(1, Assign(("everything", "below"), 6))
    assert document_of(world).value(path) == {
        Kind.REGISTER: 1, Kind.MULTI: [2], Kind.COUNTER: 3, Kind.SET: [4], Kind.TIMELINE: [5], Kind.TEXT: "text",
        Kind.MAP: {"below": 6},
    }  # fmt: skip
    world.write(2, Clear(path))
    document = document_of(world)
    assert document.value() == {}
    assert document.state_bytes() == document_of(World()).state_bytes()


def test_containers_of_two_types_at_one_key_do_not_touch_each_other() -> None:
    world = World()
    path = ("x",)
    world.write(1, Increment(path, 3), after=[])
    world.write(2, Add(path, "element"), after=[])
    world.write(1, Remove(path, "element"))
    document = document_of(world)
    assert document.value() == {"x": 3}
    assert document.elements(path) == []


def test_keys_are_those_that_something_is_below_of() -> None:
    world = World()
    world.write(1, Add(("b", "set"), 1))
    world.write(1, Assign(("a",), 1))
    world.write(1, Assign(("c",), 1))
    world.write(2, Remove(("b", "set"), 1))
    document = document_of(world)
    assert document.keys() == ["a", "c"]
    assert document.keys(("b",)) == []
    assert document.value(("b",)) is None


def test_a_name_is_told_from_the_same_name_elsewhere() -> None:
    world = World()
    world.write(1, Assign(("a", "b"), 1))
    world.write(1, Assign(("b",), 2))
    world.write(1, Assign(("ab",), 3))
    world.write(2, Clear(("a",)))
    assert document_of(world).value() == {"ab": 3, "b": 2}


def test_what_is_typed_beside_a_clear_stays() -> None:
    world = World()
    path = ("note",)
    seen = world.write(1, text(path, "seen"), after=[])
    world.write(2, text(path, "beside"), after=[])
    world.write(3, Clear(path), after=[seen])
    assert document_of(world).value() == {"note": "beside"}


def test_an_emptied_text_is_no_key() -> None:
    world = World()
    world.write(1, text(("note",), "x"))
    world.write(2, Clear(("note",)))
    assert document_of(world).keys() == []
