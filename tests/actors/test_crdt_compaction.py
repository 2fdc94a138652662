"""A channel whose members let go of what all have seen, and how one that was away for too long comes back."""

from collections.abc import Sequence
from random import Random
from typing import Final

import pytest

from protocols.crdt.changes import Assign, Grant, Increment, Role
from protocols.crdt.messages import (
    REQUESTS,
    RESPONSES,
    Confirm,
    Dropped,
    Fetch,
    Heads,
    Mark,
    Page,
    Response,
    Settled,
    Since,
)
from protocols.crdt.requests import WatchChannel, Written
from protocols.crdt.settling import NOTHING_SETTLED
from protocols.crdt.snapshot import Frame
from protocols.rpc.calls import Call, Completed, Refuse, Respond
from tests.actors.crdt_world import CHANNEL, DEVICES, IDENTITIES, KEY, SECOND, SIZE, SYNC, Alone, World

OTHERS: Final = (0, 1, 3)


def compacting(sync_ns: int | None = None) -> World:
    return World(sync_ns, acknowledge_after_s=20, compact_after=20, silent_after_s=600)


def busy(world: World, rounds: int = 12, among: Sequence[int] = (0, 1, 2)) -> None:
    for number in range(rounds):
        for each in among:
            world.write(each, Assign((f"{number}",), each), token=number)
        world.run(5)


def compacted(world: World, *numbers: int) -> list[int]:
    return [each for each in numbers or range(SIZE) if world.replica(each).settled is not None]


def away(world: World) -> None:
    """Peer 2 is not heard of until the others have gone on without it."""
    busy(world)
    world.run(120)
    world.host.down(2)
    for _ in range(20):
        busy(world, 4, among=(0, 1))
        world.run(40)


def is_member(world: World, number: int) -> bool:
    return DEVICES[number] in world.replica(0).judge.members


# -- letting go -------------------------------------------------------------------------------------------------


def test_all_let_go_of_what_all_have_seen_and_go_on() -> None:
    world = compacting()
    busy(world)
    world.run(300)
    assert compacted(world) == [0, 1, 2, 3]
    assert max(world.replica(each).unsettled for each in range(SIZE)) < 30
    busy(world)
    world.run(60)
    assert len(world.digests()) == 1
    assert {world.replica(each).document.register(("11",)) for each in range(SIZE)} != {None}


def test_histories_are_kept_unless_something_else_is_wanted() -> None:
    world = World(acknowledge_after_s=20)
    busy(world)
    world.run(300)
    assert compacted(world) == []
    assert len(world.replica(0).history) > 36


def test_what_was_let_go_of_is_gone_from_the_disk_and_the_rest_comes_back() -> None:
    world = compacting(SYNC)
    world.write(1, Assign(KEY, "a secret"))
    busy(world)
    world.write(1, Assign(KEY, "none"))
    world.run(300)
    digests = world.digests()
    assert compacted(world) == [0, 1, 2, 3]
    world.crash(*range(SIZE))
    assert world.digests() == digests
    assert compacted(world) == [0, 1, 2, 3]
    assert b"a secret" not in world.replica(1).to_bytes()
    busy(world)
    world.run(60)
    assert len(world.digests()) == 1


def test_a_restored_host_goes_on_where_the_saved_one_was() -> None:
    def play(restoring: bool) -> tuple[dict[int, bytes], set[bytes], int, int]:
        world = compacting()
        busy(world)
        world.run(60)
        world.host.down(3)
        world.host.up(3)  # It has no disk, and needs the snapshot.
        began = world.host.now
        for number in range(30):
            world.write(number % 3, Increment((f"{number}",), number))
        for window in range(50):
            world.host.run(began + (window + 1) * 1_211 * 1_000_000)
            if restoring:
                data = world.host.to_bytes()
                world.host = world.new_host()
                world.host.restore(data)
                assert world.host.to_bytes() == data
        world.host.run(began + 180 * SECOND)
        return world.host.digests(), world.digests(), world.count("crdt_rejoined"), world.count("crdt_compactions")

    digests, states, rejoined, compactions = play(True)
    assert (digests, states, rejoined, compactions) == play(False)
    assert rejoined
    assert compactions > SIZE
    assert len(states) == 1


# -- who was away -----------------------------------------------------------------------------------------------


def test_who_was_away_for_too_long_comes_back_by_a_snapshot_and_writes() -> None:
    world = compacting(SYNC)
    away(world)
    assert not is_member(world, 2)
    assert world.count("crdt_silent_removed") <= 2
    assert compacted(world, *OTHERS) == list(OTHERS)
    world.host.up(2)
    world.run(60)
    assert world.replica(2).digest() != world.replica(0).digest()
    world.write(1, Grant(DEVICES[2], Role.MEMBER))
    world.run(120)
    assert 1 <= world.count("crdt_rejoined") <= 2, "the others may let go of the grant, too"
    assert len(world.digests()) == 1
    world.results(2)
    world.write(2, Assign(KEY, "back"))
    world.run(60)
    assert [type(each) for _, each in world.results(2)] == [Written]
    assert {world.replica(each).document.register(KEY) for each in range(SIZE)} == {"back"}
    assert len(world.digests()) == 1


def test_what_nobody_took_is_lost_and_said_to_be() -> None:
    world = compacting(SYNC)
    away(world)
    world.host.up(2)
    world.run(30)
    world.tell(2, WatchChannel(CHANNEL))
    world.replica(2).write(IDENTITIES[2].signing, (Assign(KEY, "alone"),), world.host.now)
    world.write(1, Grant(DEVICES[2], Role.MEMBER))
    world.run(120)
    assert len(world.digests()) == 1
    assert not world.replica(0).judge.fenced, "its chain goes on from what the others have of it"
    assert KEY not in world.replica(2).document
    [lost] = [each.fields["lost"] for each in world.host.events if each.name == "crdt_rejoined"][:1]
    assert lost == 1


@pytest.mark.parametrize("seed", range(3))
def test_crashes_at_any_moment_change_nothing(seed: int) -> None:
    draws, world = Random(seed), compacting(SYNC)
    away(world)
    world.host.up(2)
    world.run(10)
    world.write(1, Grant(DEVICES[2], Role.MEMBER))
    for number in range(30):
        world.write(0, Assign((f"{number}",), seed), token=number)
        world.host.run(world.host.now + draws.choice((1, 50, 400, 1_500, 9_000)) * SECOND // 1_000)
        world.crash(draws.randrange(SIZE), seconds=0)
    world.run(400)
    assert world.count("crdt_rejoined")
    assert compacted(world) == [0, 1, 2, 3]
    assert len(world.digests()) == 1
    world.write(2, Assign(KEY, "back"))
    world.run(30)
    assert {world.replica(each).document.register(KEY) for each in range(SIZE)} == {"back"}


def test_where_nothing_is_said_nobody_is_removed() -> None:
    world = compacting()
    busy(world, 2)
    world.run(60)
    world.run(2_000)
    assert [is_member(world, each) for each in range(SIZE)] == [True] * SIZE


# -- who lies ---------------------------------------------------------------------------------------------------


def test_snapshot_that_nobody_signed_is_not_fetched_and_others_are_asked() -> None:
    alone = Alone()
    alone.run(30)
    answers: list[Response] = [
        Heads((bytes(32),), False),
        Dropped(b"\x01", (bytes(32),)),
        Mark(bytes(32), Frame((bytes(32),), ()), ()),
    ]
    for answer in answers:
        call = alone.told("rpc")[-1]
        assert isinstance(call, Call)
        question = REQUESTS.decode(call.body)
        if isinstance(answer, Dropped):
            assert isinstance(question, Since)
            said: Response = Dropped(bytes((len(question.known) + 7) // 8), answer.heads)
        else:
            said = answer
        alone.tell(Completed(call.token, call.device, RESPONSES.encode(said), 0, bytes(32)))
    assert [each for each in alone.told("rpc") if isinstance(each, Call)] == [], "it has no more questions"
    assert alone.host.counters["crdt_snapshots_unused", "untrusted_snapshot"] == 1
    assert len(alone.replica.history) == 1
    alone.run(60)
    assert [each for each in alone.told("rpc") if isinstance(each, Call)]


def test_who_is_no_admin_gets_no_signature_and_who_is_none_for_nonsense() -> None:
    alone, nonsense = Alone(), REQUESTS.encode(Confirm(CHANNEL, bytes(32), Frame((bytes(32),), ())))
    alone.ask(nonsense, 2)
    alone.ask(nonsense, 0)
    alone.ask(nonsense, 0)
    alone.ask(REQUESTS.encode(Fetch(CHANNEL, bytes(32), 0)), 2)
    alone.ask(REQUESTS.encode(Settled(CHANNEL)), SIZE)
    first, second, third, fourth, fifth = alone.told("rpc")
    for each in (first, second):
        assert isinstance(each, Respond)
        assert RESPONSES.decode(each.body) == NOTHING_SETTLED
    assert third == Refuse(3, "overloaded"), "what is worked out for others is not worked out again at once"
    assert isinstance(fourth, Respond)
    assert RESPONSES.decode(fourth.body) == Page(0, b"")
    assert fifth == Refuse(5, "not_member")
