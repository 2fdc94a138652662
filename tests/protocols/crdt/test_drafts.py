from collections.abc import Callable, Sequence
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.bundles import OPERATION_SIZE_MAX
from protocols.crdt.changes import EDITS_MAX, RUN_SIZE_MAX, Delete, Edit, Insert
from protocols.crdt.drafts import Draft
from protocols.crdt.history import Held
from protocols.crdt.operations import encode_change
from protocols.crdt.text import Text, check_edits
from protocols.errors import LocalError
from tests.protocols.crdt.worlds import World, Written

PATH: Final = ("t",)


class Writer:
    """A device with a text of its own."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.history = world.history([world.genesis])
        self.text = Text(self.history)
        self.heard = [world.genesis]

    def seal(self, draft: Draft) -> list[Written]:
        """Sign what was typed."""
        tip = self.world.tip(self.number)
        lane, sequence = -1, 1
        if tip is not None:
            lane, sequence = self.history.operations[tip.id].lane, tip.operation.sequence + 1
        after = [each for each in self.heard if each.id in self.history.heads]
        written = []
        for change in draft.changes(lane, sequence):
            written.append(self.world.write(self.number, change, after))
            after = [written[-1]]
        draft.signed([self.take(each) for each in written])
        return written

    def hear(self, written: Sequence[Written]) -> None:
        for each in written:
            if each.id not in self.history:
                held = self.take(each)
                if isinstance(each.operation.change, Edit):
                    self.text.apply(held)

    def take(self, written: Written) -> Held:
        held = self.history.place(written.operation, written.seal, None)
        if isinstance(written.operation.change, Edit):
            check_edits(self.history, held)
        self.history.add(held)
        self.heard.append(written)
        return held

    def typed(self, keystrokes: Callable[[Draft], None]) -> list[Edit]:
        """The changes that these keystrokes came to, after they were sealed."""
        draft = Draft(self.text, PATH)
        keystrokes(draft)
        expected = str(draft)
        changes = [each.operation.change for each in self.seal(draft)]
        assert str(self.text) == expected
        reader = Writer(self.world, 3)
        reader.hear(self.heard)
        assert list(reader.text.parts()) == list(self.text.parts())
        return [each for each in changes if isinstance(each, Edit)]


@pytest.fixture
def writer() -> Writer:
    return Writer(World(), 1)


def kinds(changes: Sequence[Edit]) -> list[str]:
    """``+text`` and ``-count``, in order."""
    edits = [each for change in changes for each in change.edits]
    return [f"+{each.text}" if isinstance(each, Insert) else f"-{each.count}" for each in edits]


keystrokes = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 99), st.sampled_from(("a", "b", "cde", "ä", "🐼"))),
        st.tuples(st.integers(0, 99), st.integers(1, 4)),
        st.tuples(st.just(None), st.sampled_from(("x", "yz", "-"))),  # goes on where the last one was
    ),
    min_size=1,
    max_size=8,
)
steps = st.lists(st.tuples(st.integers(0, 2), st.booleans(), keystrokes), max_size=8)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_a_draft_is_edited_as_a_string_is_and_all_read_the_same(
    steps: list[tuple[int, bool, list[tuple[int | None, str | int]]]],
) -> None:
    world = World()
    writers = [Writer(world, number) for number in range(3)]
    everything: list[Written] = []
    for who, hears, keys in steps:
        writer = writers[who]
        if hears:
            writer.hear(everything)
        draft, model, cursor = Draft(writer.text, PATH), str(writer.text), 0
        for place, key in keys:
            position = cursor if place is None else place % (len(model) + 1)
            what = 1 if key == "-" else key
            if key == "-":
                position = max(position - 1, 0)
            if isinstance(what, str):
                draft.insert(position, what)
                model, cursor = model[:position] + what + model[position:], position + len(what)
            elif position < len(model):
                count = min(what, len(model) - position)
                draft.delete(position, count)
                model, cursor = model[:position] + model[position + count :], position
            assert (str(draft), len(draft)) == (model, len(model))
        everything += writer.seal(draft)
        assert str(writer.text) == model
    for writer in writers:
        writer.hear(everything)
        assert list(writer.text.parts()) == list(writers[0].text.parts())


# -- keystrokes in a row are one edit -----------------------------------------------------------------------------


def type_word(draft: Draft, position: int, word: str) -> None:
    for number, letter in enumerate(word):
        draft.insert(position + number, letter)


def test_typing_is_one_insertion(writer: Writer) -> None:
    assert kinds(writer.typed(lambda draft: type_word(draft, 0, "panda"))) == ["+panda"]


def test_deleting_forwards_or_backwards_is_one_deletion(writer: Writer) -> None:
    writer.typed(lambda draft: draft.insert(0, "a red panda"))

    def delete(draft: Draft) -> None:
        for _ in range(3):
            draft.delete(2)
        for position in (7, 6, 5):
            draft.delete(position)

    assert kinds(writer.typed(delete)) == ["-3", "-3"]
    assert str(writer.text) == "a  pa"


def test_a_selection_is_replaced_by_one_deletion_and_one_insertion(writer: Writer) -> None:
    writer.typed(lambda draft: draft.insert(0, "a red panda"))

    def replace(draft: Draft) -> None:
        draft.delete(2, 3)
        type_word(draft, 2, "giant")

    assert kinds(writer.typed(replace)) == ["-3", "+giant"]


def test_a_deletion_over_several_insertions_is_one_for_each(writer: Writer) -> None:
    writer.typed(lambda draft: draft.insert(0, "ad"))
    writer.typed(lambda draft: draft.insert(1, "bc"))
    assert kinds(writer.typed(lambda draft: draft.delete(0, 4))) == ["-1", "-2", "-1"]


def test_what_is_taken_back_was_written(writer: Writer) -> None:
    def mistype(draft: Draft) -> None:
        type_word(draft, 0, "pabda")
        for position in (4, 3, 2):
            draft.delete(position)
        type_word(draft, 2, "nda")

    changes = writer.typed(mistype)
    assert kinds(changes) == ["+pabda", "-3", "+nda"]
    assert changes[0].edits[1] == Delete(0, 2, 3)
    assert str(writer.text) == "panda"


def test_what_comes_to_nothing_is_signed_all_the_same(writer: Writer) -> None:
    def nothing(draft: Draft) -> None:
        draft.insert(0, "x")
        draft.delete(0)

    assert kinds(writer.typed(nothing)) == ["+x", "-1"]
    assert writer.typed(lambda _: None) == []


# -- references ---------------------------------------------------------------------------------------------------


def test_own_operations_are_named_by_distance_and_others_by_id(writer: Writer) -> None:
    other = Writer(writer.world, 2)
    other.typed(lambda draft: draft.insert(0, "ac"))
    writer.hear(other.heard)
    theirs = other.heard[-1].id
    assert writer.typed(lambda draft: draft.insert(1, "b"))[0].edits == (Insert(theirs, 1, True, "b"),)
    writer.typed(lambda draft: draft.insert(0, "_"))
    assert writer.typed(lambda draft: draft.delete(2, 1))[0].edits == (Delete(2, 0, 1),)
    assert writer.typed(lambda draft: draft.delete(2, 1))[0].edits == (Delete(theirs, 1, 1),)


def test_many_edits_are_several_operations_that_refer_to_each_other(writer: Writer) -> None:
    def scatter(draft: Draft) -> None:
        for _ in range(100):
            draft.insert(len(draft), ".")
            draft.insert(len(draft) // 2, "x")

    changes = writer.typed(scatter)
    assert [len(each.edits) for each in changes[:-1]] == [EDITS_MAX] * 3
    references = {each.parent for change in changes for each in change.edits if isinstance(each, Insert)}
    assert references == {None, 0, 1}


@pytest.mark.parametrize("letter", ["a", "é", "語", "🐼"])
def test_a_long_paste_is_cut_to_what_an_operation_may_have(writer: Writer, letter: str) -> None:
    text = letter * (5 * RUN_SIZE_MAX + 1)
    changes = writer.typed(lambda draft: draft.insert(0, text))
    assert str(writer.text) == text
    assert all(len(encode_change(each)) <= OPERATION_SIZE_MAX for each in changes)


def test_long_typing_is_cut_too(writer: Writer) -> None:
    def type_on(draft: Draft) -> None:
        for number in range(7):
            draft.insert(number * 8000, "🐼" * 8000)

    changes = writer.typed(type_on)
    assert all(len(encode_change(each)) <= OPERATION_SIZE_MAX for each in changes)
    assert all(len(run) <= RUN_SIZE_MAX + 1 for run in kinds(changes))


# -- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keystroke",
    [
        lambda draft: draft.insert(4, "x"),
        lambda draft: draft.insert(-1, "x"),
        lambda draft: draft.insert(0, "\ud800"),
        lambda draft: draft.delete(3),
        lambda draft: draft.delete(-1),
        lambda draft: draft.delete(0, 4),
        lambda draft: draft.delete(0, 0),
    ],
)
def test_a_keystroke_that_cannot_be_is_refused_and_leaves_no_trace(
    writer: Writer, keystroke: Callable[[Draft], None]
) -> None:
    def misuse(draft: Draft) -> None:
        draft.insert(0, "abc")
        with pytest.raises(LocalError):
            keystroke(draft)

    assert kinds(writer.typed(misuse)) == ["+abc"]


def test_a_draft_that_is_left_takes_no_more_keystrokes(writer: Writer) -> None:
    with Draft(writer.text, PATH) as draft:
        draft.insert(0, "abc")
    with pytest.raises(LocalError):
        draft.insert(3, "d")
    with pytest.raises(LocalError):
        draft.delete(0)
    writer.seal(draft)
    assert str(writer.text) == "abc"
