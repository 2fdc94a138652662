"""What is stable is in the past of all that may still come."""

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.changes import Acknowledge, Grant, Increment, Revoke, Role
from protocols.crdt.clock import clock_at
from protocols.crdt.history import History, Past, covers
from protocols.crdt.stability import SILENT_NS_MAX, silent, stable_past
from tests.protocols.crdt.test_history import ancestors, tangles
from tests.protocols.crdt.worlds import World, Written, worlds

DAY_NS = 24 * 3600 * 10**9


def members(history: History, past: Past) -> set[bytes]:
    return {held.id for held in history if covers(past, held)}


def part(world: World, picks: list[int]) -> History:
    """What somebody holds to whom these operations came, and what they depend on."""
    found = ancestors(world.written)
    known = {world.genesis.id}.union(*(found[world.written[pick % len(world.written)].id] for pick in picks))
    return world.history([each for each in world.written if each.id in known])


PICKS = st.lists(st.integers(0, 63), max_size=4)


@given(worlds(size_max=20, forks=False), PICKS)
@settings(max_examples=60)
def test_what_members_write_later_has_all_that_is_stable_in_its_past(world: World, picks: list[int]) -> None:
    found, history = ancestors(world.written), part(world, picks)
    active = [world.public(author) for author in range(len(world.keys))]
    stable = members(history, stable_past(history, active, ()))
    for later in world.written:
        assert later.id in history or stable <= found[later.id]


@given(tangles(), PICKS, st.integers(1, 3))
@settings(max_examples=60)
def test_what_is_stable_is_what_all_branches_of_all_members_have_seen(
    world: World, picks: list[int], count: int
) -> None:
    found, history = ancestors(world.written), part(world, picks)
    active = [world.public(author) for author in range(count)]
    ends = [found[tip.id] for device in active for tip in history.tips(device)]
    everybody = all(history.tips(device) for device in active)
    expected = frozenset.intersection(*ends) if everybody else frozenset()
    assert members(history, stable_past(history, active, ())) == expected


@given(worlds(size_max=16, forks=False))
@settings(max_examples=20)
def test_a_frontier_only_advances(world: World) -> None:
    history, before = History(world.channel), set[bytes]()
    active = [world.public(author) for author in range(2)]
    for written in world.written:
        history.add(history.place(written.operation, written.seal, None))
        now = members(history, stable_past(history, active, ()))
        assert before <= now
        before = now


def acknowledged(*authors: int) -> tuple[World, list[Written]]:
    """A channel in which these have written something, and then seen all of it."""
    world = World(Role.OWNER, Role.ADMIN, Role.MEMBER)
    written = [world.write(author, Increment(("n",), author), [world.genesis]) for author in authors]
    for author in authors:
        world.write(author, Acknowledge())
    return world, written


def test_who_has_written_nothing_holds_everything_up() -> None:
    world, _ = acknowledged(0, 1)
    active = [world.public(author) for author in range(3)]
    assert stable_past(world.history(), active, ()) == ()
    assert stable_past(world.history(), active[:2], ()) != ()


def test_what_one_branch_of_a_member_has_not_seen_is_not_stable() -> None:
    world, written = acknowledged(0, 1)
    active = [world.public(author) for author in range(2)]
    history = world.history()
    assert members(history, stable_past(history, active, ())) == {each.id for each in world.written[:4]}
    world.write(1, Increment(("n",), 5), [world.genesis], beside=written[1])
    history = world.history()
    assert members(history, stable_past(history, active, ())) == {world.channel}


def test_without_members_nothing_is_stable() -> None:
    world, _ = acknowledged(0)
    assert stable_past(world.history(), (), ()) == ()


def test_a_removed_member_is_not_waited_for_once_all_others_know() -> None:
    world, _ = acknowledged(0, 1, 2)
    revoke = world.write(0, Revoke(world.public(2)))
    history = world.history()
    active = [world.public(0), world.public(1)]
    removal = history.operations[revoke.id]
    assert stable_past(history, active, [removal]) == (), "member 1 has not seen it"
    world.write(1, Acknowledge())
    history = world.history()
    removal = history.operations[revoke.id]
    assert members(history, stable_past(history, active, [removal])) >= {removal.id, world.written[1].id}


def test_what_a_removed_member_still_sends_is_beside_its_removal() -> None:
    world, _ = acknowledged(0, 1, 2)
    before = world.tip(2)
    revoke = world.write(0, Revoke(world.public(2)))
    world.write(1, Acknowledge())
    history = world.history()
    active = [world.public(0), world.public(1)]
    stable = stable_past(history, active, [history.operations[revoke.id]])
    late = world.write(2, Increment(("n",), 9), [], previous=before)
    held = history.place(late.operation, late.seal, None)
    assert not members(history, stable) <= {each.id for each in history if held.sees(each)}
    assert not held.sees(history.operations[revoke.id])
    assert not history.operations[revoke.id].sees(held)


def test_silence_is_counted_from_what_was_written_last() -> None:
    world = World(Role.OWNER, Role.MEMBER, Role.MEMBER, clock=clock_at(DAY_NS))
    world.write(1, Acknowledge(), clock=clock_at(10 * DAY_NS))
    world.write(0, Acknowledge(), clock=clock_at(11 * DAY_NS))
    active = [world.public(author) for author in range(3)]
    history = world.history()
    assert silent(history, active, DAY_NS + SILENT_NS_MAX) == ()
    assert silent(history, active, DAY_NS + SILENT_NS_MAX + 1) == (active[2],)
    assert silent(history, active, 10 * DAY_NS + SILENT_NS_MAX + 1) == (active[1], active[2])
    assert silent(history, active, 11 * DAY_NS + 1, DAY_NS) == (active[1], active[2])
    assert silent(history, active[:1], 11 * DAY_NS + 1, DAY_NS) == ()


def test_who_was_just_let_in_is_not_silent_yet() -> None:
    world = World(Role.OWNER, clock=clock_at(DAY_NS))
    device = bytes(32)
    world.write(0, Grant(device, Role.MEMBER), clock=clock_at(30 * DAY_NS))
    assert silent(world.history(), [device], 30 * DAY_NS + SILENT_NS_MAX) == ()
    assert silent(world.history(), [device], 30 * DAY_NS + SILENT_NS_MAX + 1) == (device,)
