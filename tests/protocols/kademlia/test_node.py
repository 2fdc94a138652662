"""What one node does, told by hand what others say."""

import pytest

from protocols.contact import Contact, node_id
from protocols.errors import LocalError, ProtocolError
from protocols.kademlia.config import KademliaConfig
from protocols.kademlia.messages import (
    REQUESTS,
    RESPONSES,
    FindDone,
    FindNode,
    Found,
    GetDone,
    Misbehaved,
    Nodes,
    Ping,
    Pong,
    Query,
    Reply,
    Store,
)
from protocols.kademlia.node import KademliaNode
from protocols.kademlia.records import Record
from protocols.messages import Message
from tests.protocols.kademlia.world import HOUR, QUIET, SECOND, World

OWN = b"own".ljust(32)
EVERYBODY = [Contact(number.to_bytes(32), number) for number in range(1, 400)]
FAR = sorted(
    (contact for contact in EVERYBODY if (node_id(contact.device) ^ node_id(OWN)) >> 255),
    key=lambda contact: node_id(contact.device) ^ node_id(OWN),
)
"""All in one bucket, nearest first."""
PING, PONG = REQUESTS.encode(Ping()), RESPONSES.encode(Pong())
STALE = 16 * 60 * SECOND


def queries(outputs: list[Message]) -> list[Query]:
    return [output for output in outputs if isinstance(output, Query)]


def call(node: KademliaNode, contact: Contact, now: int = 0) -> list[Query]:
    """A ping from ``contact``, and what the node asks because of it."""
    body, outputs = node.receive(contact.device, contact.endpoint, PING, now)
    assert body == PONG
    return queries(outputs)


def full(now: int = 0) -> KademliaNode:
    node = KademliaNode(OWN, QUIET)
    node.adopt(FAR[:20], now)
    return node


def test_a_stranger_who_calls_enters_only_after_it_answered_our_ping() -> None:
    """Attack D3."""
    node = KademliaNode(OWN, QUIET)
    stranger = FAR[0]
    (ping,) = call(node, stranger)
    assert (ping.device, ping.endpoint, ping.body) == (stranger.device, stranger.endpoint, PING)
    assert len(node.table) == 0
    node.completed(ping.token, stranger.endpoint, PONG, 1)
    assert node.table.contacts() == [stranger]


def test_no_answer_however_crafted_puts_hearsay_into_the_table() -> None:
    """Attack D3: gossip."""
    node = KademliaNode(OWN, QUIET)
    node.adopt([FAR[0]], 0)
    (query,) = queries(node.find("test", 1, bytes(32), 0))
    follow_up = queries(node.completed(query.token, query.endpoint, RESPONSES.encode(Nodes(tuple(FAR[1:21]))), 1))
    assert len(follow_up) == 3
    assert node.table.contacts() == [FAR[0]]


def test_a_call_from_another_endpoint_moves_nobody_until_it_answers_there() -> None:
    node = full()
    moved = Contact(FAR[0].device, 4_000)
    (ping,) = call(node, moved)
    assert node.table.find(moved.device) == FAR[0]
    node.failed(ping.token, 1, unanswered=True)
    assert node.table.find(moved.device) == FAR[0]
    (ping,) = call(node, moved, 2)
    node.completed(ping.token, moved.endpoint, PONG, 3)
    assert node.table.find(moved.device) == moved


def test_a_newcomer_to_a_full_bucket_takes_the_place_of_who_does_not_answer() -> None:
    node = full()
    newcomer = FAR[20]
    (ping,) = call(node, newcomer, STALE)
    assert ping.device in [contact.device for contact in FAR[:20]]
    oldest = ping.device
    (again,) = queries(node.failed(ping.token, STALE + 1, unanswered=True))
    assert again.device == oldest
    assert call(node, next(contact for contact in FAR[:20] if contact.device != oldest), STALE + 1) == []
    (promotion,) = queries(node.failed(again.token, STALE + 2, unanswered=True))
    assert node.table.find(oldest) is None
    assert promotion.device == newcomer.device
    node.completed(promotion.token, newcomer.endpoint, PONG, STALE + 3)
    assert node.table.find(newcomer.device) == newcomer


def test_an_old_contact_that_answers_stays_and_the_newcomer_waits() -> None:
    node = full()
    (ping,) = call(node, FAR[20], STALE)
    assert queries(node.completed(ping.token, ping.endpoint, PONG, STALE + 1)) == []
    assert node.table.find(FAR[20].device) is None
    (next_oldest,) = call(node, FAR[21], STALE + 2)
    assert next_oldest.device != ping.device


def test_newcomers_do_not_make_us_ping_contacts_heard_of_lately() -> None:
    assert all(call(full(), stranger, SECOND) == [] for stranger in FAR[20:40])


def test_a_crowd_of_strangers_gets_as_many_pings_as_there_is_room() -> None:
    node = KademliaNode(OWN, KademliaConfig(k=5, alpha=3, pings_max=100))
    assert sum(len(call(node, stranger)) for stranger in FAR[:50]) == 5
    bounded = KademliaNode(OWN, KademliaConfig(pings_max=3))
    assert sum(len(call(bounded, stranger)) for stranger in EVERYBODY[:50]) == 3


def test_refusals_and_closed_sessions_do_not_empty_the_table() -> None:
    """Attack D8."""
    node = full()
    for round_number in range(10):
        for query in queries(node.find("test", round_number, bytes(32), 0)):
            call(node, FAR[0])
            node.failed(query.token, 1, unanswered=False)
    assert len(node.table) == 20


def test_an_outage_of_our_own_does_not_empty_the_table() -> None:
    node = full()
    for round_number in range(10):
        pending = queries(node.find("test", round_number, bytes(32), round_number * SECOND))
        while pending:
            pending = [
                q for p in pending for q in queries(node.failed(p.token, round_number * SECOND + 1, unanswered=True))
            ]
    assert len(node.table) == 20


def test_dead_contacts_go_when_others_answer() -> None:
    node = full()
    dead = {contact.device for contact in FAR[:5]}
    for round_number in range(3):
        pending = queries(node.find("test", round_number, bytes(32), round_number * SECOND))
        while pending:
            query = pending.pop()
            if query.device in dead:
                call(node, FAR[10], round_number * SECOND + 1)
                pending += queries(node.failed(query.token, round_number * SECOND + 1, unanswered=True))
            else:
                answer = RESPONSES.encode(Nodes(()))
                pending += queries(node.completed(query.token, query.endpoint, answer, round_number * SECOND))
    assert {contact.device for contact in node.table.contacts()} == {contact.device for contact in FAR[5:20]}


def test_the_asker_is_not_told_of_itself() -> None:
    node = full()
    body, _ = node.receive(FAR[0].device, FAR[0].endpoint, REQUESTS.encode(FindNode(bytes(32))), 0)
    response = RESPONSES.decode(body)
    assert isinstance(response, Nodes)
    assert len(response.contacts) == 19
    assert FAR[0] not in response.contacts


@pytest.mark.parametrize(
    "body",
    [b"", b"garbage", PONG, REQUESTS.encode(Store(Record(OWN, b"", 1, b"", 60, bytes(64)), 60))],
    ids=["empty", "garbage", "response", "forged"],
)
def test_a_bad_request_is_refused_and_changes_nothing(body: bytes) -> None:
    node = full()
    before = node.to_bytes()
    verifications = node.store.verifications
    with pytest.raises(ProtocolError):
        node.receive(FAR[30].device, 30, body, STALE)
    node.store.verifications = verifications
    assert node.to_bytes() == before


@pytest.mark.parametrize("body", [b"", b"garbage", PONG, PING, RESPONSES.encode(Nodes(tuple(EVERYBODY[:21])))])
def test_a_bad_answer_blames_its_sender_and_the_lookup_goes_on(body: bytes) -> None:
    node = full()
    first, *others = queries(node.find("test", 1, bytes(32), 0))
    outputs = node.completed(first.token, first.endpoint, body, 1)
    assert [output.device for output in outputs if isinstance(output, Misbehaved)] == [first.device]
    assert len(queries(outputs)) == 1
    assert len(others) == 2


def test_a_genuine_record_of_another_key_is_not_an_answer() -> None:
    world = World(5)
    world.add()
    other = world.record(0, name=b"other")
    node = full()
    first, *_ = queries(node.get("test", 1, world.record(0).key, 0))
    outputs = node.completed(first.token, first.endpoint, RESPONSES.encode(Found(other, 60, ())), 1)
    assert Misbehaved(first.device, "wrong_key") in outputs
    (reply,) = [output for output in node.leave() if isinstance(output, Reply)]
    assert isinstance(reply.result, GetDone)
    assert not reply.result.found


def test_an_answer_to_no_call_of_ours_is_nothing() -> None:
    node = full()
    before = node.to_bytes()
    assert node.completed(999, 1, PONG, 5) == []
    assert node.failed(999, 5, unanswered=True) == []
    assert node.to_bytes() == before


def test_who_broke_the_protocol_is_out_of_the_table_at_once() -> None:
    node = full()
    first, *_ = queries(node.find("test", 1, bytes(32), 0))
    node.completed(first.token, first.endpoint, b"garbage", 1)
    assert node.table.find(first.device) is None


def test_a_flood_of_short_lived_records_leaves_no_trace_on_the_agenda() -> None:
    world = World(4)
    for _ in range(2):
        world.add()
    node = KademliaNode(world.nodes[0].device, KademliaConfig())
    for sequence in range(50):
        record = world.record(1, name=b"%d" % sequence, ttl_s=1)
        node.receive(world.nodes[1].device, 1, REQUESTS.encode(Store(record, 1)), sequence * 2 * SECOND)
    assert len(node._agenda) == 1
    assert len(node.store) == 1


def test_another_node_is_asked_beside_a_slow_one() -> None:
    node = full()
    assert len(queries(node.find("test", 1, bytes(32), 0))) == 3
    assert node.deadline() == SECOND
    assert len(queries(node.expire(SECOND))) == 3


def test_whoever_waits_gets_an_answer_when_the_node_leaves() -> None:
    node = full()
    node.find("a", 1, bytes(32), 0)
    node.get("b", 2, bytes(32), 0)
    replies = [output for output in node.leave() if isinstance(output, Reply)]
    assert [(reply.service, type(reply.result)) for reply in replies] == [("a", FindDone), ("b", GetDone)]
    assert node.deadline() is None
    (late,) = node.get("b", 3, bytes(32), 0)
    assert isinstance(late, Reply)
    assert not call(node, FAR[40])


def test_a_lookup_beyond_the_limit_fails_at_once() -> None:
    node = KademliaNode(OWN, KademliaConfig(lookups_max=2))
    node.adopt(FAR[:20], 0)
    assert len(queries(node.find("test", 1, bytes(32), 0))) == 3
    assert len(queries(node.find("test", 2, bytes(32), 0))) == 3
    (refused,) = node.find("test", 3, bytes(32), 0)
    assert refused == Reply("test", FindDone(3, bytes(32), (), 0, 0), 0)


def test_buckets_nobody_looked_into_are_refreshed() -> None:
    world = World(1, config=KademliaConfig(settle_ms=0, republish_ms=0, replicate_ms=0))
    world.warm(50)
    world.run(3 * HOUR)
    refreshes = [number for number, ended in world.ended if ended.purpose == "refresh"]
    assert set(refreshes) == set(range(50))
    assert len(refreshes) <= 50 * 3 * 5


def test_sequences_rise_over_republication_and_restart() -> None:
    world = World(2)
    world.warm(3)
    node = world.nodes[0]
    first = node.next_sequence(world.record(0).key, 5_000_000_000)
    record = world.record(0, sequence=first + 10)
    world.put(0, record)
    assert node.next_sequence(record.key, 5_000_000_000) == first + 11
    restarted = KademliaNode(node.device, QUIET)
    assert restarted.next_sequence(record.key, 6_000_000_000) > first


def test_a_restored_node_goes_on_as_the_saved_one_at_every_step() -> None:
    """Saved and restored after every event, a world runs exactly as one that never was."""
    config = KademliaConfig(
        k=4, alpha=2, quorum=2, refresh_ms=60_000, republish_ms=50_000, replicate_ms=40_000, settle_ms=9_000
    )

    def run(restoring: bool) -> list[bytes]:
        world = World(3, config=config, loss=0.05)
        first = world.contact(world.add())
        for _ in range(11):
            world.add([first])

        def restore() -> None:
            for number, node in enumerate(world.nodes):
                bootstrap = [first] if number else []
                world.nodes[number] = KademliaNode.from_bytes(node.to_bytes(), config, bootstrap)

        if restoring:
            world.after_each = restore
        for number in range(12):
            world.join(number)
        world.run(10 * SECOND)
        for number in (3, 5):
            record = world.record(number, ttl_s=100)
            world.put(number, record)
            world.run(SECOND // 4)
            world.get(number + 1, record.key)
            world.run(SECOND // 4)
        world.run(100 * SECOND)
        assert len(world.results) == 4
        return [node.to_bytes() for node in world.nodes] + [str(world.calls).encode(), str(world.results).encode()]

    assert run(restoring=True) == run(restoring=False)


@pytest.mark.parametrize("data", [b"", b"\x90", KademliaNode(OWN, QUIET).to_bytes().replace(b"\x02", b"\x07", 1)])
def test_what_is_not_a_state_is_refused(data: bytes) -> None:
    with pytest.raises(LocalError):
        KademliaNode.from_bytes(data, QUIET)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(LocalError, match="alpha=9"):
        KademliaConfig(k=5, alpha=9)
