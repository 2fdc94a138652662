import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.mls import key_index
from protocols.mls.key_index import KeyIndex

_places = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(0, 5)), max_size=6, unique=True)


@given(_places, st.lists(_places, max_size=6))
@settings(max_examples=150)
def test_index_says_who_has_a_key_after_any_changes(
    start: list[tuple[bytes, int]], steps: list[list[tuple[bytes, int]]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_index, "CHANGES_MAX", 2)
        index, held = KeyIndex.of(start), set(start)
        older = [(index, set(held))]
        for toggled in steps:
            gone = [place for place in toggled if place in held]
            come = [place for place in toggled if place not in held]
            index = index.changed(gone, come)
            held = held.symmetric_difference(toggled)
            older.append((index, set(held)))
        for version, then in older:
            shared = []
            for key in (b"a", b"b", b"c", b"d", b"e"):
                nodes = tuple(sorted(node for each, node in then if each == key))
                assert version.places(key) == nodes
                if len(nodes) > 1:
                    shared.append(nodes)
            assert version.duplicate() in shared if shared else version.duplicate() == ()


def test_key_that_moves_within_one_change_is_where_it_went() -> None:
    index = KeyIndex.of([(b"a", 0), (b"b", 2)]).changed([(b"a", 0), (b"b", 2)], [(b"a", 2), (b"c", 0)])
    assert [index.places(key) for key in (b"a", b"b", b"c")] == [(2,), (), (0,)]


def test_old_table_is_shared_until_many_keys_have_changed() -> None:
    many = key_index.CHANGES_MAX + 1
    old = [(b"old %d" % number, number) for number in range(many)]
    new = [(b"new %d" % number, number) for number in range(many)]
    index = KeyIndex.of(old)
    near = index.changed([], new[:1])
    assert near._base is index._base
    far = near.changed([], new[1:])
    assert (len(far._base), len(far._changes)) == (2 * many, 0)
    emptied = far.changed(old + new, [])
    assert (emptied._base, emptied._changes) == ({}, {})
