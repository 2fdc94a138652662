"""Texts against the tree of Fugue as the paper draws it: recursive, with a node a character, from a set."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.changes import Change, Clear, Delete, Edit, Insert, Reference
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Held, History
from protocols.crdt.text import Part, Text, check_edits
from tests.protocols.crdt.worlds import World, Written, causal, deliver

PATH: Final = ("t",)

Character = tuple[bytes, int]
"""An operation, and a number in what it inserted."""


class Tree:
    """The naive text."""

    def __init__(self, history: History) -> None:
        self.children: dict[tuple[Character | None, bool], list[tuple[Character, str]]] = {}
        self.hidden: set[Character] = set()
        everything = list(history)
        for held in everything:
            change = held.operation.change
            if isinstance(change, Edit):
                self.edit(history, held, change)
        for clear in everything:
            if isinstance(clear.operation.change, Clear) and clear.counts:
                seen = {each.id for each in everything if clear.sees(each)}
                self.hidden.update(
                    character for kids in self.children.values() for character, _ in kids if character[0] in seen
                )

    def edit(self, history: History, held: Held, change: Edit) -> None:
        def name(reference: Reference) -> bytes:
            target = held
            for _ in range(reference if isinstance(reference, int) else 0):
                target = history.operations[target.operation.previous]
            return target.id if isinstance(reference, int) else reference

        size = 0
        for edit in change.edits:
            if isinstance(edit, Insert):
                parent = None if edit.parent is None else (name(edit.parent), edit.offset)
                left = edit.left
                for letter in edit.text:
                    character = (held.id, size)
                    self.children.setdefault((parent, left), []).append((character, letter))
                    if not held.counts:
                        self.hidden.add(character)
                    parent, left, size = character, False, size + 1
            elif held.counts:
                self.hidden.update((name(edit.target), edit.offset + i) for i in range(edit.count))

    def walk(self, node: Character | None = None, letter: str = "") -> str:
        left, right = (
            "".join(self.walk(*child) for child in sorted(self.children.get((node, side), [])))
            for side in (True, False)
        )
        return left + ("" if node in self.hidden else letter) + right


class Choice(NamedTuple):
    """An edit, as numbers to choose by."""

    target: int
    offset: int
    left: bool
    size: int
    """0 for a deletion."""


choices = st.lists(
    st.builds(Choice, st.integers(0, 9), st.integers(0, 9), st.booleans(), st.integers(0, 3)), min_size=1, max_size=4
)
steps = st.lists(
    st.tuples(st.integers(0, 3), choices, st.lists(st.integers(0, 9), max_size=2), st.integers(0, 9)), max_size=9
)


def past(world: World, tips: Iterable[Written]) -> list[Written]:
    """What an operation after these has seen."""
    by_id = {each.id: each for each in world.written}
    names = [each.id for each in tips]
    for name in names:
        names += [
            each for each in (by_id[name].operation.previous, *by_id[name].operation.dependencies) if each in by_id
        ]
    return [each for each in world.written if each.id in names]


def edit_of(world: World, author: int, seen: Sequence[Written], chosen: Sequence[Choice]) -> Edit:
    """Any edit that ``check_edits`` passes, honest or not."""
    tip = world.tip(author)
    there: list[tuple[Reference, int]] = []
    for each in past(world, [*seen, *([tip] if tip else [])]):
        change = each.operation.change
        size = (
            sum(len(edit.text) for edit in change.edits if isinstance(edit, Insert)) if isinstance(change, Edit) else 0
        )
        if size and tip and each.operation.author == world.public(author):
            there.append((tip.operation.sequence + 1 - each.operation.sequence, size))
        elif size:
            there.append((each.id, size))
    edits: list[Insert | Delete] = []
    own = 0
    for choice in chosen:
        targets: list[tuple[Reference | None, int]] = [*there, (0, own)] if own else [*there]
        if choice.size == 0 and targets:
            reference, size = targets[choice.target % len(targets)]
            offset = choice.offset % size
            assert reference is not None
            edits.append(Delete(reference, offset, min(size - offset, 1 + choice.left)))
        else:
            targets.append((None, 1))
            reference, size = targets[-1 - choice.target % len(targets)]
            text = "abcdefghijkl"[len(edits) : len(edits) + max(choice.size, 1)]
            edits.append(Insert(reference, choice.offset % size, choice.left and reference is not None, text))
            own += len(text)
    return Edit(PATH, tuple(edits))


def text_of(world: World, order: Sequence[Written], inert: Iterable[bytes] = ()) -> tuple[History, Text]:
    history = History(world.channel)
    text = Text(history)
    for written in order:
        held = history.place(written.operation, written.seal, None)
        change = written.operation.change
        if isinstance(change, Edit):
            check_edits(history, held)
        history.add(held)
        held.counts = held.id not in inert
        if isinstance(change, Edit):
            text.apply(held)
        elif isinstance(change, Clear) and held.counts:
            text.clear(held)
    return history, text


@settings(max_examples=150, deadline=None)
@given(steps, st.randoms(use_true_random=False))
def test_the_order_of_arrival_is_of_no_account_whatever_was_written(
    steps: list[tuple[int, list[Choice], list[int], int]], random: Random
) -> None:
    world = World()
    inert = []
    for author, chosen, seen, special in steps:
        after = [world.written[-1 - each % len(world.written)] for each in seen]
        change: Change = Clear(PATH) if special == 9 else edit_of(world, author, after, chosen)
        written = world.write(author, change, after)
        if special >= 8:
            inert.append(written.id)
    history, text = text_of(world, world.written, inert)
    expected = Tree(history).walk()
    assert str(text) == expected
    assert len(text) == len(expected)
    ranks = list(range(len(world.written)))
    random.shuffle(ranks)
    _, other = text_of(world, causal(world.written, ranks), inert)
    assert str(other) == expected
    assert list(other.parts()) == list(text.parts())


# -- stories ------------------------------------------------------------------------------------------------------


def insert(parent: Reference | None, offset: int, text: str, *, left: bool = False) -> Insert:
    return Insert(parent, offset, left, text)


def edit(*edits: Insert | Delete) -> Edit:
    return Edit(PATH, edits)


def orders(world: World) -> list[str]:
    """The text, in the order of writing and in the opposite one as far as causes come before effects."""
    backwards = causal(world.written, list(range(len(world.written)))[::-1])
    return [str(text_of(world, order)[1]) for order in (world.written, backwards)]


def test_runs_typed_at_one_place_are_not_mixed() -> None:
    """Weidner & Kleppmann 2023, figure 1: milk and eggs are bought whole."""
    world = World()
    base = world.write(0, edit(insert(None, 0, "shop:.")))
    for author, word in ((1, "milk"), (2, "eggs")):
        for number, letter in enumerate(word):
            parent: Reference = 1 if number else base.id
            world.write(author, edit(insert(parent, 0 if number else 5, letter, left=not number)), [base])
    first, second = orders(world)
    assert first == second
    assert first in ("shop:milkeggs.", "shop:eggsmilk.")


def test_nor_are_runs_typed_backwards() -> None:
    world = World()
    base = world.write(0, edit(insert(None, 0, "<>")))
    for author, word in ((1, "klim"), (2, "sgge")):
        for number, letter in enumerate(word):
            parent: Reference = 1 if number else base.id
            world.write(author, edit(insert(parent, 0 if number else 1, letter, left=True)), [base])
    first, second = orders(world)
    assert first == second
    assert first in ("<milkeggs>", "<eggsmilk>")


def test_a_deletion_may_reach_over_what_others_typed_between() -> None:
    world = World()
    base = world.write(0, edit(insert(None, 0, "abcdef")))
    world.write(1, edit(insert(base.id, 3, "XY", left=True)), [base])
    world.write(2, edit(Delete(base.id, 1, 4)), [base])
    assert orders(world) == ["aXYf", "aXYf"]


def test_what_two_delete_is_deleted_once() -> None:
    world = World()
    base = world.write(0, edit(insert(None, 0, "abcdef")))
    world.write(1, edit(Delete(base.id, 1, 3)), [base])
    world.write(2, edit(Delete(base.id, 2, 3)), [base])
    _, text = text_of(world, world.written)
    assert (str(text), len(text)) == ("af", 2)


def test_an_operation_deletes_what_it_inserted_after_deleting_what_is_before_it() -> None:
    world = World()
    gone = (Delete(0, 0, 1), Delete(0, 1, 1), Delete(0, 0, 2))
    world.write(1, edit(insert(None, 0, "ab"), *gone, insert(None, 0, "cd"), Delete(0, 0, 3)))
    assert orders(world) == ["d", "d"]


def test_a_character_may_be_typed_next_to_a_deleted_one() -> None:
    world = World()
    base = world.write(0, edit(insert(None, 0, "ab")))
    world.write(1, edit(Delete(base.id, 0, 2)), [base])
    world.write(2, edit(insert(base.id, 1, "x", left=True)), [base])
    assert orders(world) == ["x", "x"]


def test_what_does_not_count_is_not_shown_and_others_hang_on_it() -> None:
    world = World()
    inert = world.write(1, edit(insert(None, 0, "ab")))
    world.write(2, edit(insert(inert.id, 1, "x", left=True)))
    _, text = text_of(world, world.written, [inert.id])
    assert str(text) == "x"


def test_what_does_not_count_deletes_nothing() -> None:
    world = World()
    base = world.write(0, edit(insert(None, 0, "ab")))
    inert = world.write(1, edit(Delete(base.id, 0, 2)))
    _, text = text_of(world, world.written, [inert.id])
    assert str(text) == "ab"


def test_clear_deletes_what_it_saw() -> None:
    world = World()
    base = world.write(0, edit(insert(None, 0, "abc")))
    world.write(1, edit(insert(base.id, 1, "X", left=True)), [base])
    clear = world.write(2, Clear(PATH), [base])
    world.write(3, edit(insert(base.id, 2, "Y")), [clear])
    assert orders(world) == ["XY", "XY"]


def test_clears_may_be_carried_out_late_and_in_any_order() -> None:
    world = World()
    clears = []
    for author in (1, 2, 1):
        world.write(author, edit(insert(None, 0, "abc")))
        clears.append(world.write(3, Clear(PATH)))
    world.write(1, edit(insert(1, 1, "X", left=True)))
    history = History(world.channel)
    text = Text(history)
    for written in world.written:
        held = deliver(history, written)
        if isinstance(written.operation.change, Edit):
            text.apply(held)
    for clear in (clears[1], clears[2], clears[0]):
        text.clear(history.operations[clear.id])
    assert str(text) == "X"


def test_parts_of_a_run_that_meet_again_are_one_part() -> None:
    world = World()
    base = world.write(0, edit(insert(None, 0, "abcd")))
    between = world.write(1, edit(insert(base.id, 2, "XY", left=True)))
    _, text = text_of(world, world.written)
    assert list(text.parts()) == [Part(base.id, 0, "ab"), Part(between.id, 0, "XY"), Part(base.id, 2, "cd")]
    world.write(2, edit(Delete(between.id, 0, 2)))
    _, text = text_of(world, world.written)
    assert list(text.parts()) == [Part(base.id, 0, "abcd")]


def test_deep_and_wide_trees_are_trees_like_others() -> None:
    world = World()
    size = 3000
    deep = edit(insert(None, 0, "."), *[insert(0, number, "l", left=True) for number in range(63)])
    world.write(1, deep)
    for _ in range(size // 64):
        chain = [insert(0, number, "l", left=number % 2 == 0) for number in range(63)]
        world.write(1, edit(insert(1, 63, "l", left=True), *chain))
        world.write(2, edit(*[insert(None, 0, "w")] * 64), [world.genesis])
    first, second = orders(world)
    assert first == second
    assert len(first) == 64 + size // 64 * 128


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        edit(insert(None, 0, "a", left=True)),
        edit(insert(None, 1, "a")),
        edit(insert(0, 0, "a")),
        edit(insert(None, 0, "a"), insert(0, 1, "b")),
        edit(insert(bytes(32), 0, "a")),
        edit(insert(3, 0, "a")),
        edit(insert(9, 0, "a")),
        edit(insert(2**63 - 1, 0, "a")),
        edit(insert(1, 3, "a")),
        edit(insert(1, 2**63 - 1, "a")),
        edit(Delete(1, 2, 2)),
        edit(Delete(1, 0, 2**31)),
        edit(Delete(0, 0, 1)),
        edit(Delete(bytes(32), 0, 1)),
        Edit(("other",), (Delete(1, 0, 1),)),
        edit(Delete(2, 0, 1)),
    ],
    ids=repr,
)
def test_a_reference_that_leads_nowhere_is_refused(change: Edit) -> None:
    world = World()
    world.write(1, Clear(PATH))
    world.write(1, edit(insert(None, 0, "abc")))
    bad = world.write(1, change)
    history = world.history(world.written[:-1])
    with pytest.raises(CrdtError, match="bad_reference"):
        check_edits(history, history.place(bad.operation, bad.seal, None))


def test_a_reference_to_what_the_author_has_not_seen_is_refused() -> None:
    world = World()
    base = world.write(1, edit(insert(None, 0, "abc")))
    bad = world.write(2, edit(insert(base.id, 0, "x")), [world.genesis])
    history = world.history(world.written[:-1])
    with pytest.raises(CrdtError, match="bad_reference"):
        check_edits(history, history.place(bad.operation, bad.seal, None))


def test_a_reference_back_along_a_fork_is_to_its_own_branch() -> None:
    world = World()
    world.write(1, edit(insert(None, 0, "abc")))
    tip = world.write(1, edit(insert(None, 0, "def")))
    fork = world.write(1, edit(insert(1, 2, "x")), [world.genesis], beside=tip)
    world.write(1, edit(insert(1, 0, "y")), [world.genesis], previous=fork)
    _, text = text_of(world, world.written)
    assert "abcxy" in str(text)
