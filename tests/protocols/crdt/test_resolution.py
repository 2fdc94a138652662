"""Acts that exclude each other; ``test_judgement`` holds this against its definition."""

import time
from itertools import permutations

from protocols.crdt.authority import GENESIS, Authority
from protocols.crdt.changes import Change, Grant, Revoke, Role
from protocols.crdt.resolution import Resolution
from tests.protocols.crdt.worlds import World, Written, causal, deliver

OWNER, ADMIN = Role.OWNER, Role.ADMIN


def effective(world: World, order: list[Written], without: Written | None = None, *views: list[Written]) -> list[bytes]:
    """Which acts are effective, but for the genesis, if all arrive in this order, and owners had seen these of them."""
    history, authority = world.history([]), Authority()
    candidates = 0
    for each in order:
        held = deliver(history, each)
        authority.add(held)
        candidates |= 0 if each is without else held.mark
    marks = [sum(history.operations[each.id].mark for each in view) for view in views]
    view = Resolution(authority, candidates, lambda acts, first: [acts & each for each in marks]).effective
    assert view & GENESIS
    return sorted(act.held.id for act in authority.acts[1:] if act.mark & view)


def everywhere(world: World, *expected: Written, without: Written | None = None) -> None:
    """These are the effective ones, in every order of arrival."""
    for ranks in permutations(range(len(world.written))):
        order = causal(world.written, ranks)
        assert effective(world, order, without) == sorted(each.id for each in expected)


def revoke(world: World, author: int, device: int, *after: Written) -> Written:
    return world.write(author, Revoke(world.public(device)), after)


def test_without_contradiction_all_are() -> None:
    world = World(OWNER, ADMIN, None)
    grant = world.write(1, Grant(world.public(2), ADMIN))
    removal = revoke(world, 0, 1, grant)
    everywhere(world, grant, removal, revoke(world, 2, 0, removal))


def test_what_is_no_candidate_has_no_effect_and_what_rests_on_it_neither() -> None:
    world = World(OWNER, ADMIN, None)
    grant = world.write(1, Grant(world.public(2), ADMIN), [world.genesis])
    revoke(world, 2, 1, grant)
    everywhere(world, without=grant)


def test_a_revocation_defeats_one_that_defeats_another() -> None:
    world = World(OWNER, ADMIN, ADMIN, ADMIN)
    genesis = world.genesis
    last = revoke(world, 2, 3, genesis)
    revoke(world, 1, 2, genesis)
    first = revoke(world, 0, 1)
    everywhere(world, first, last)


def test_equals_in_circles_of_two_and_three_remove_each_other() -> None:
    for size in (2, 3):
        world = World(OWNER, *[ADMIN] * size)
        circle = [revoke(world, 1 + i, 1 + (i + 1) % size, world.genesis) for i in range(size)]
        everywhere(world, *circle)


def test_the_nearer_one_wins_and_what_hangs_on_the_circle_follows() -> None:
    world = World(OWNER, ADMIN, None, ADMIN)
    grant = world.write(1, Grant(world.public(2), ADMIN), [world.genesis])
    near = revoke(world, 1, 2)
    revoke(world, 2, 1, grant)
    revoke(world, 2, 3)
    everywhere(world, grant, near)


def test_what_came_too_late_for_an_owner_defeats_nothing_that_it_knew() -> None:
    world = World(OWNER, ADMIN, ADMIN, ADMIN)
    genesis = world.genesis
    circle = [revoke(world, 1 + i, 1 + (i + 1) % 3, genesis) for i in range(3)]
    ids = [each.id for each in circle]
    assert effective(world, world.written, None, circle[:1]) == sorted([ids[0], ids[2]])
    assert effective(world, world.written, None, circle[:2]) == sorted([ids[0], ids[2]])
    assert effective(world, world.written, None, circle[:1], circle[1:2]) == sorted([ids[0], ids[2]]), (
        "of the first two, owners contradict each other; of the last, they do not"
    )
    assert effective(world, world.written, None, circle, []) == sorted(ids), "all at once, or nothing"


def test_a_puppet_does_not_save_who_made_it() -> None:
    world = World(OWNER, ADMIN, ADMIN, None)
    removal = revoke(world, 1, 2, world.genesis)
    grant = world.write(2, Grant(world.public(3), ADMIN), [world.genesis])
    revoke(world, 3, 1, grant)
    everywhere(world, removal)


def test_two_who_flood_the_channel_with_revocations_of_each_other_are_soon_dealt_with() -> None:
    world = World(OWNER, ADMIN, ADMIN)
    changes: list[Change] = [Revoke(world.public(2)), Revoke(world.public(1))]
    flood = [world.write(1 + number % 2, changes[number % 2], [world.genesis]) for number in range(600)]
    before = time.process_time()
    assert len(effective(world, world.written)) == len(flood)
    assert time.process_time() - before < 5
