"""Stories of many nodes: what the network as a whole promises."""

from functools import partial
from typing import TypeVar

import pytest

from protocols.contact import node_id
from protocols.errors import LocalError
from protocols.kademlia.config import KademliaConfig
from protocols.kademlia.messages import (
    REQUESTS,
    RESPONSES,
    FindDone,
    FindValue,
    Found,
    GetDone,
    Nodes,
    Ping,
    Pong,
    PutDone,
    Store,
    Stored,
)
from protocols.kademlia.records import Record
from tests.protocols.kademlia.world import HOUR, MS, QUIET, SECOND, World

ResultT = TypeVar("ResultT", PutDone, GetDone, FindDone)


@pytest.fixture(scope="module")
def thousand() -> World:
    world = World(1)
    world.warm(1_000)
    return world


def cold(size: int, *, apart: int = 20 * MS, config: KademliaConfig = QUIET, loss: float = 0.0) -> World:
    """``size`` nodes join one after the other through the first."""
    world = World(2, config=config, loss=loss)
    first = world.contact(world.add())
    for _ in range(size - 1):
        world.add([first])
    for number in range(size):
        world.at(number * apart, partial(world.join, number))
    return world


def put(world: World, number: int, record: Record) -> PutDone:
    world.put(number, record)
    return await_result(world, PutDone)


def get(world: World, number: int, key: bytes) -> GetDone:
    world.get(number, key)
    return await_result(world, GetDone)


def await_result(world: World, kind: type[ResultT]) -> ResultT:
    world.run(60 * SECOND)
    result = world.results.pop()
    assert isinstance(result, kind)
    return result


def test_among_a_thousand_every_lookup_succeeds_in_at_most_three_hops_on_average(thousand: World) -> None:
    finders: dict[int, int] = {}
    for token in range(100):
        finder = finders[token] = thousand.rng.randrange(1_000)
        target = thousand.rng.randbytes(32)
        thousand.find(finder, target, token)
    thousand.run(60 * SECOND)
    found = [result for result in thousand.results if isinstance(result, FindDone)]
    thousand.results.clear()
    assert len(found) == 100
    for result in found:
        nearest = thousand.nearest(result.target, 20, but=finders[result.token])
        assert result.contacts == tuple(nearest)
    assert sum(result.hops for result in found) / 100 <= 3
    assert sum(result.rpcs for result in found) / 100 <= 40


def test_among_a_thousand_every_record_is_found(thousand: World) -> None:
    for number in range(0, 1_000, 50):
        record = thousand.record(number, value=b"%d" % number)
        done = put(thousand, number, record)
        assert done.stored == 20
        got = get(thousand, (number * 7 + 13) % 1_000, record.key)
        assert (got.found, got.record) == (True, record)
        assert not got.local
        assert got.hops <= 4


def test_lookups_survive_loss_and_dead_nodes() -> None:
    world = World(3, loss=0.02)
    world.warm(300)
    world.dead.update(range(0, 60))
    found = 0
    for number in range(60, 80):
        record = world.record(number)
        put(world, number, record)
        found += get(world, number + 100, record.key).found
    assert found == 20


def test_everybody_who_joins_cold_is_known_to_his_neighbours() -> None:
    world = cold(80, apart=SECOND)
    world.run(120 * SECOND)
    assert len(world.joined) == 80
    for number, node in enumerate(world.nodes):
        own = node_id(node.device).to_bytes(32)
        assert [contact in node.table.contacts() for contact in world.nearest(own, 10, but=number)] == [True] * 10
    for number in (5, 50):
        world.find(number, bytes(32))
        assert await_result(world, FindDone).contacts == tuple(world.nearest(bytes(32), 20, but=number))


def test_a_join_is_frugal_and_says_what_it_cost() -> None:
    world = cold(80)
    world.run(60 * SECOND)
    costs = [joined.rpcs for number, joined in world.joined.items() if number]
    assert max(costs) <= 2 * 40
    assert world.calls / 80 <= 100


def test_those_who_join_at_once_find_each_other_when_they_look_again() -> None:
    config = KademliaConfig(refresh_ms=0, settle_ms=10_000)
    world = cold(60, apart=0, config=config)
    world.run(60 * SECOND)
    for target in (bytes(32), b"\xff" * 32, b"\x5a" * 32):
        world.find(7, target)
        assert await_result(world, FindDone).contacts == tuple(world.nearest(target, 20, but=7))


def test_a_node_whose_bootstrap_is_down_tries_again_until_it_is_up() -> None:
    world = World(4)
    first = world.contact(world.add())
    world.add([first])
    world.dead.add(0)
    world.join(1)
    world.run(100 * SECOND)
    assert world.joined == {}
    assert 3 <= world.calls <= 12, "it backs off"
    world.dead.clear()
    world.run(100 * SECOND)
    assert world.joined[1].contacts == 1


def test_records_outlive_churn_because_holders_replicate_them() -> None:
    config = KademliaConfig(refresh_ms=600_000, republish_ms=0, replicate_ms=600_000, k=8, settle_ms=0)
    world = World(5, config=config)
    world.warm(60)
    record = world.record(0, ttl_s=6 * 3600)
    put(world, 0, record)
    for round_number in range(4):
        world.dead.update([c.endpoint for c in world.nearest(record.key, 4)])
        world.run(HOUR // 2)
        reader = world.nearest(record.key, 60)[-1 - round_number].endpoint
        assert get(world, reader, record.key).found


def test_one_holder_replicates_for_all_who_heard_of_it() -> None:
    config = KademliaConfig(refresh_ms=0, republish_ms=0, replicate_ms=600_000)
    world = World(6, config=config)
    world.warm(40)
    put(world, 0, world.record(0))
    world.ended.clear()
    world.run(1_000 * SECOND)
    assert 1 <= len([ended for _, ended in world.ended if ended.purpose == "replicate"]) <= 4


def test_replication_does_not_prolong_a_life() -> None:
    config = KademliaConfig(refresh_ms=0, republish_ms=300_000, replicate_ms=300_000)
    world = World(6, config=config)
    world.warm(40)
    record = world.record(0, ttl_s=1_800)
    put(world, 0, record)
    world.run(1_810 * SECOND)
    assert all(node.store.find(record.key, world.now) is None for node in world.nodes)
    assert not get(world, 9, record.key).found


def test_a_stale_or_lying_first_holder_does_not_decide_and_is_corrected() -> None:
    """Attack D4, and the paper's lagging holders."""
    world = World(7)
    world.warm(100)
    old, new = world.record(0, value=b"old"), world.record(0, value=b"new", sequence=2)
    put(world, 0, old)
    lagging = world.nearest(old.key, 1)[0].endpoint
    for holder in world.nearest(old.key, 20)[1:]:
        world.nodes[holder.endpoint].store.offer(new, 3600, world.now)
    assert get(world, 50, old.key).record == new
    held = world.nodes[lagging].store.find(old.key, world.now)
    assert held is not None
    assert held.record == new


def test_a_forged_record_is_not_believed_and_blames_who_sent_it() -> None:
    world = World(8)
    world.warm(60)
    record = world.record(0)
    put(world, 0, record)
    forger = world.nearest(record.key, 1)[0]
    forged = Record(record.owner, record.name, 9, b"forged", 60, record.signature)

    def lie(asker: bytes, request: bytes) -> bytes:
        match REQUESTS.decode(request):
            case FindValue():
                return RESPONSES.encode(Found(forged, 60, ()))
            case Ping():
                return RESPONSES.encode(Pong())
            case _:
                return RESPONSES.encode(Nodes(()))

    world.impostors[forger.endpoint] = lie
    asker = world.nearest(record.key, 60)[40].endpoint
    got = get(world, asker, record.key)
    assert got.record == record
    blamed = {(misbehaved.device, misbehaved.reason) for _, misbehaved in world.misbehaved}
    assert (forger.device, "bad_signature") in blamed
    assert {device for device, _ in blamed} == {forger.device}


def test_a_fifth_of_liars_who_name_each_other_hide_no_record() -> None:
    world = World(9)
    world.warm(200)
    records = [world.record(number) for number in range(150, 180)]
    liars = [world.contact(number) for number in range(40)]
    for number, record in zip(range(150, 180), records, strict=True):
        put(world, number, record)

    def lie(asker: bytes, request: bytes) -> bytes:
        match REQUESTS.decode(request):
            case Ping():
                return RESPONSES.encode(Pong())
            case _:
                named = [c for c in world.rng.sample(liars, 20) if c.device != asker]
                return RESPONSES.encode(Nodes(tuple(named[:15])))

    def lie_as(number: int) -> None:
        own = world.nodes[number].device

        def without_itself(asker: bytes, request: bytes) -> bytes:
            response = RESPONSES.decode(lie(asker, request))
            if isinstance(response, Nodes):
                response = Nodes(tuple(c for c in response.contacts if c.device != own))
            return RESPONSES.encode(response)

        world.impostors[number] = without_itself

    for liar in liars:
        lie_as(liar.endpoint)
    found = sum(get(world, 60 + index, record.key).found for index, record in enumerate(records))
    assert found == len(records)


def test_an_owner_answers_for_its_own_record_without_asking() -> None:
    world = World(10)
    world.warm(30)
    record = world.record(0)
    put(world, 0, record)
    calls = world.calls
    got = get(world, 0, record.key)
    assert (got.record, got.local, got.rpcs) == (record, True, 0)
    assert world.calls == calls


def test_a_lonely_node_keeps_and_finds_its_own_record() -> None:
    world = World(11)
    world.add()
    world.join(0)
    assert world.joined[0].contacts == 0
    record = world.record(0)
    assert put(world, 0, record).stored == 1
    assert get(world, 0, record.key).found


def test_only_its_own_valid_records_are_published_by_a_node() -> None:
    world = World(12)
    world.warm(3)
    foreign = world.record(1)
    forged = Record(world.nodes[0].device, b"", 1, b"", 60, bytes(64))
    for record in (foreign, forged):
        with pytest.raises(LocalError):
            world.nodes[0].put("test", 0, record, 0)
    assert world.calls == 0


def test_a_stored_answer_says_why_not() -> None:
    world = World(13)
    world.warm(2)
    node = world.nodes[0]

    def answer(record: Record) -> object:
        body, _ = node.receive(world.nodes[1].device, 1, REQUESTS.encode(Store(record, 60)), 0)
        return RESPONSES.decode(body)

    assert answer(world.record(1, sequence=2)) == Stored("stored")
    assert answer(world.record(1, sequence=1)) == Stored("stale")
