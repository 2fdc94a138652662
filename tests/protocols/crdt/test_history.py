"""The past of operations, against sets of ancestors."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.changes import Acknowledge, Change, Genesis, Grant, Increment, Role
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import BLOCK, Held, History, Lane, MissingError, covers, join, meet
from protocols.crdt.operations import NOTHING, Operation, OperationIds, encode_change
from tests.protocols.crdt.worlds import World, Written, causal, deliver

AUTHORS = 4
GRANT = Grant(bytes(32), Role.MEMBER)


def ancestors(written: Iterable[Written]) -> dict[bytes, frozenset[bytes]]:
    """The definition: what can be reached, with itself."""
    found: dict[bytes, frozenset[bytes]] = {NOTHING: frozenset()}
    for each in written:
        operation = each.operation
        pasts = [found[other] for other in (operation.previous, *operation.dependencies)]
        found[each.id] = frozenset({each.id}).union(*pasts)
    return found


def equivocators(written: Iterable[Written]) -> set[bytes]:
    places = [(each.operation.author, each.operation.previous) for each in written]
    return {author for author, previous in places if places.count((author, previous)) > 1}


def members(history: History, past: tuple[int, ...]) -> set[bytes]:
    return {held.id for held in history if covers(past, held)}


@st.composite
def tangles(draw: st.DrawFn, size_max: int = 14) -> World:
    """Authors of whom each may go on from anything that it ever wrote, or begin again."""
    world = World(*[Role.OWNER] * AUTHORS)
    own: dict[int, list[Written]] = {0: [world.genesis]}
    changes: list[Change] = [*(Increment(("n",), by) for by in range(8)), GRANT]
    steps = st.tuples(
        st.integers(0, AUTHORS - 1),
        st.sampled_from(changes),
        st.lists(st.integers(0, 63), max_size=3),
        st.sampled_from((0, 0, 0, 1, 2, 3)),
        st.booleans(),
    )
    for author, change, seen, back, again in draw(st.lists(steps, max_size=size_max)):
        mine = own.setdefault(author, [])
        after = [world.written[-1 - index % len(world.written)] for index in seen]
        beside = mine[0] if again and back == 3 and mine and author else None
        previous = mine[-1 - back % len(mine)] if mine else None
        after = after or ([world.genesis] if beside else [])
        written = world.write(author, change, after, previous, beside)
        if written not in mine:
            mine.append(written)
    return world


@given(tangles(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_past_is_what_can_be_reached_whatever_the_order_of_arrival(world: World, random: Random) -> None:
    found = ancestors(world.written)
    ranks = list(range(len(world.written)))
    random.shuffle(ranks)
    for order in (world.written, causal(world.written, ranks)):
        history = world.history(order)
        assert [held.id for held in history] == [each.id for each in order]
        for held in history:
            assert {other.id for other in history if held.sees(other)} == found[held.id]
            assert members(history, held.past()) == found[held.id]
            authority = {each.id for number, each in enumerate(history.authority) if held.known >> number & 1}
            assert authority == {
                other.id for other in history if other.mark and other is not held and other.id in found[held.id]
            }


@given(tangles())
@settings(max_examples=30)
def test_heads_are_what_nothing_depends_on(world: World) -> None:
    found = ancestors(world.written)
    history = world.history()
    assert history.heads == tuple(
        sorted(each for each in found if each != NOTHING and sum(each in past for past in found.values()) == 1)
    )


@given(tangles(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_a_fork_is_found_wherever_two_operations_share_a_back_link(world: World, random: Random) -> None:
    ranks = list(range(len(world.written)))
    random.shuffle(ranks)
    history = world.history(causal(world.written, ranks))
    assert set(history.forks) == equivocators(world.written)
    for author, fork in history.forks.items():
        first, second = fork.first.operation, fork.second.operation
        assert first.author == second.author == author
        assert first.previous == second.previous
        assert first.id != second.id
    for author, lanes in history.lanes_of.items():
        tips = history.tips(author)
        assert [tip.lane for tip in tips] == lanes
        assert not [held for held in history for tip in tips if held.operation.previous == tip.id]


@given(tangles(), st.lists(st.integers(0, 63), max_size=3), st.integers(0, 20))
@settings(max_examples=60)
def test_what_is_after_a_past_comes_in_order_of_arrival(world: World, picks: list[int], length: int) -> None:
    found, history = ancestors(world.written), world.history()
    ids = [world.written[pick % len(world.written)].id for pick in picks]
    known = frozenset().union(*(found[each] for each in ids))
    past = history.past_of(ids)
    assert members(history, past) == known
    assert [held.id for held in history.after(past)] == [held.id for held in history if held.id not in known]
    assert [held.id for held in history.after(past[:length])] == [
        held.id for held in history if not covers(past[:length], held)
    ]


@given(tangles(), st.lists(st.integers(0, 63), min_size=1, max_size=4))
@settings(max_examples=60)
def test_pasts_join_and_meet_as_the_sets_that_they_are(world: World, picks: list[int]) -> None:
    found, history = ancestors(world.written), world.history()
    ids = [world.written[pick % len(world.written)].id for pick in picks]
    pasts = [history.operations[each].past() for each in ids]
    assert members(history, join(pasts)) == frozenset().union(*(found[each] for each in ids))
    assert members(history, meet(pasts)) == frozenset.intersection(*(found[each] for each in ids))
    assert join(pasts) == history.past_of(ids)


@given(tangles())
@settings(max_examples=30)
def test_an_operation_of_a_chain_is_found_by_its_sequence(world: World) -> None:
    history = world.history()
    for held in history:
        chain, each = [held], held
        while each.operation.previous != NOTHING:
            each = history.operations[each.operation.previous]
            chain.append(each)
        assert [history.at(held.lane, sequence) for sequence in range(held.sequence, 0, -1)] == chain
        assert history.at(held.lane, 0) is None
    assert history.at(0, 1000) is None


def test_hundreds_of_branches_of_branches_are_told_apart() -> None:
    world = World(Role.OWNER, Role.MEMBER, Role.MEMBER)
    branch = [world.write(1, Acknowledge(), [world.genesis])]
    for number in range(3 * BLOCK):
        branch.append(world.write(1, Increment(("n",), number), [], previous=branch[-1 - number % 2]))
        if number % 8 == 0:
            world.write(2, Acknowledge(), [branch[-1], branch[number // 2]])
    history, found = world.history(), ancestors(world.written)
    assert len(history.lanes) > BLOCK
    for held in history:
        assert {other.id for other in history if held.sees(other)} == found[held.id]
        assert members(history, held.past()) == found[held.id]


def test_operations_share_what_they_did_not_change() -> None:
    world = World(*[Role.MEMBER] * (3 * BLOCK))
    for author in range(1, 3 * BLOCK):
        world.write(author, GRANT, [world.genesis])
    joined = world.write(0, Acknowledge(), world.written[-BLOCK:])
    beside = world.write(1, Acknowledge(), world.written[BLOCK + 1 : 2 * BLOCK])
    both = world.write(2, Acknowledge(), [joined, beside])
    history = world.history()
    one, two, three = (history.operations[each.id] for each in (joined, beside, both))
    assert three.base[1] is two.base[1]
    assert three.base[2] is one.base[2]
    chained = deliver(history, world.write(2, Acknowledge(), []))
    assert chained.base is three.base
    assert chained.known is three.known
    following = deliver(history, world.write(0, Acknowledge(), [both]))
    assert following.base[1] is three.base[1]
    assert following.known is three.known


def _next(world: World, author: int, dependencies: Sequence[bytes], **other: object) -> Operation:
    tip = world.tip(author)
    fields = {
        "sequence": tip.operation.sequence + 1 if tip else 1,
        "previous": tip.id if tip else NOTHING,
        "clock": max(each.operation.clock for each in world.written) + 1,
        "change": Acknowledge(),
        **other,
    }
    change: Change = fields.pop("change")  # type: ignore[assignment]
    ids = OperationIds(world.channel, world.public(author))
    return ids.operation(**fields, dependencies=tuple(dependencies), change=change, encoded=encode_change(change))  # type: ignore[arg-type]


def _state(history: History) -> tuple[object, ...]:
    lanes = [(lane.author, lane.first, lane.parent, tuple(lane.operations)) for lane in history.lanes]
    heads, lanes_of = history.heads, {author: tuple(each) for author, each in history.lanes_of.items()}
    return lanes, heads, lanes_of, tuple(history), tuple(history.authority), dict(history.forks)


def _refused(world: World, operation: Operation, reason: str) -> None:
    history = world.history()
    before = _state(history)
    with pytest.raises(CrdtError) as refused:
        history.place(operation, world.genesis.seal, None)
    assert refused.value.reason == reason
    assert _state(history) == before


def test_what_breaks_the_rules_of_chains_is_refused_and_changes_nothing() -> None:
    world = World(Role.OWNER, Role.MEMBER, Role.MEMBER)
    mine, theirs = world.write(1, Acknowledge()), world.write(2, Acknowledge())
    founding = Genesis(((world.public(1), Role.OWNER),), bytes(32), 64, 1)
    _refused(world, _next(world, 1, (), sequence=3), "bad_sequence")
    _refused(world, _next(world, 1, (), sequence=1), "bad_sequence")
    _refused(world, _next(world, 1, (theirs.id,), sequence=2, previous=NOTHING), "bad_sequence")
    _refused(world, _next(world, 1, (), previous=theirs.id), "bad_back_link")
    _refused(world, _next(world, 1, (theirs.id,), clock=theirs.operation.clock), "bad_clock")
    _refused(world, _next(world, 1, (), clock=mine.operation.clock), "bad_clock")
    _refused(world, _next(world, 1, (), change=founding), "bad_genesis")
    _refused(world, _next(world, 1, (mine.id,), sequence=1, previous=NOTHING, change=founding), "bad_genesis")
    _refused(world, _next(world, 1, (), sequence=1, previous=NOTHING), "bad_genesis")


def test_the_founder_cannot_begin_beside_the_genesis() -> None:
    world = World()
    _refused(world, _next(world, 0, (world.genesis.id,), sequence=1, previous=NOTHING), "bad_back_link")


def test_everything_that_is_missing_is_named_at_once() -> None:
    world = World()
    first, second = world.write(1, Acknowledge()), world.write(2, Acknowledge(), [world.genesis])
    third = world.write(1, Acknowledge())
    history = world.history([world.genesis])
    with pytest.raises(MissingError) as missing:
        history.place(third.operation, third.seal, None)
    assert set(missing.value.missing) == {first.id, second.id}
    assert len(history) == 1


def test_placing_twice_gives_the_same_and_takes_nothing_in() -> None:
    world = World()
    world.write(1, Acknowledge())
    fork = world.write(1, Acknowledge(), [world.genesis], beside=world.written[1])
    history = world.history(world.written[:-1])
    before = _state(history)
    places = [history.place(fork.operation, fork.seal, None) for _ in range(2)]
    assert _state(history) == before
    assert _where(places[0]) == _where(places[1]) == _where(deliver(history, fork))


def _where(held: Held) -> tuple[object, ...]:
    return held.id, held.lane, held.base, held.known, held.mark, held.order


def test_who_forks_its_forks_makes_nothing_in_its_chain_hard_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    chain = [world.write(1, Increment(("a",), 0), after=[world.genesis])]
    for number in range(1, 300):
        aside = world.write(1, Increment(("a",), -number), after=[])
        chain.append(world.write(1, Increment(("a",), number), after=[], beside=aside))
    history = world.history()
    asked: list[int] = []

    class Asked(list[Lane]):
        def __getitem__(self, number: Any) -> Any:
            asked.append(number)
            return super().__getitem__(number)

    monkeypatch.setattr(history, "lanes", Asked(history.lanes))
    end = history.operations[chain[-1].id]
    for sequence, written in enumerate(chain, 1):
        asked.clear()
        found = history.at(end.lane, sequence)
        assert found is not None
        assert found.id == written.id
        assert len(asked) < 60
    assert history.at(end.lane, 0) is None
    assert history.at(end.lane, len(chain) + 1) is None
    assert history.at(-1, 1) is None
