"""The DHT node among the real actors of its peer, in a small network of such peers."""

from hashlib import sha512
from typing import ClassVar, Self

import pytest

from actors.actor import Actor, handles
from actors.context import Context
from actors.dht_node import DhtNode
from actors.host import Host
from actors.peer import SUBSYSTEMS
from actors.setup import PeerSetup
from protocols.contact import Contact
from protocols.errors import LocalError
from protocols.identity import DeviceIdentity
from protocols.kademlia.config import KademliaConfig
from protocols.kademlia.messages import (
    REQUESTS,
    Find,
    FindDone,
    Get,
    GetDone,
    Joined,
    Leave,
    Put,
    PutDone,
    Store,
    Watch,
)
from protocols.kademlia.records import Record, record_key
from protocols.messages import Message
from protocols.rpc.calls import Call, Completed, Failed
from tests.actors.worlds import MS, Steady

SIZE = 8
SECOND = 1_000 * MS
IDENTITIES = [DeviceIdentity.generate(sha512(b"peer %d" % number).digest(), b"test") for number in range(SIZE)]
CONTACTS = tuple(Contact(identity.device_public, number) for number, identity in enumerate(IDENTITIES))


class Command(Message, frozen=True, tag="test.command"):
    """From the test to the application."""

    to: str
    message: Put | Get | Find | Watch | Leave | Call
    traced: bool = False


class Application(Actor):
    """Passes commands on and remembers the results."""

    __slots__ = ("results",)
    service: ClassVar[str] = "app"

    def __init__(self, setup: PeerSetup) -> None:
        self.results: list[Message] = []

    @handles(Command)
    def command(self, command: Command, ctx: Context) -> None:
        with ctx.traced(ctx.root_span("test").trace if command.traced else ctx.trace):
            ctx.send(command.to, command.message)

    @handles(PutDone, GetDone, FindDone, Joined, Completed, Failed)
    def result(self, result: Message, ctx: Context) -> None:
        self.results.append(result)

    def to_bytes(self) -> bytes:
        return b""

    @classmethod
    def from_bytes(cls, data: bytes, setup: PeerSetup) -> Self:
        return cls(setup)


class World:
    def __init__(self, *, warm: bool = False, config: KademliaConfig | None = None) -> None:
        self.config = config or KademliaConfig()
        self.warm = warm
        self.host = Host(self.build, network=Steady())
        for number in range(SIZE):
            self.host.schedule(number, number * 100 * MS)
        self.run(30)

    def build(self, number: int, incarnation: int) -> tuple[PeerSetup, list[type[Actor]]]:
        return self.setup(number), [*SUBSYSTEMS, Application]

    def setup(self, number: int) -> PeerSetup:
        contacts = CONTACTS if self.warm else ()
        bootstrap = CONTACTS[:1] if number else ()
        return PeerSetup(IDENTITIES[number], number, bootstrap=bootstrap, kademlia=self.config, contacts=contacts)

    def tell(self, number: int, message: Put | Get | Find | Watch | Leave, traced: bool = False) -> None:
        self.host.tell(number, "app", Command("dht", message, traced))

    def run(self, seconds: int = 30) -> None:
        self.host.run(self.host.now + seconds * SECOND)

    def results(self, number: int) -> list[Message]:
        actor = self.host.actor(number, "app")
        assert isinstance(actor, Application)
        results, actor.results = actor.results, []
        return results

    def dht(self, number: int) -> DhtNode:
        actor = self.host.actor(number, "dht")
        assert isinstance(actor, DhtNode)
        return actor

    def count(self, name: str, label: str = "") -> int:
        return self.host.counters.get((name, label), 0)


def test_what_one_peer_puts_every_other_peer_gets() -> None:
    world = World()
    world.tell(3, Put("app", 1, b"name", b"value", 3600))
    world.run()
    key = record_key(IDENTITIES[3].device_public, b"name")
    (done,) = world.results(3)
    assert isinstance(done, PutDone)
    assert (done.token, done.key, done.stored) == (1, key, SIZE)
    for number in range(SIZE):
        world.tell(number, Get("app", number, key))
    world.run()
    for number in range(SIZE):
        (got,) = world.results(number)
        assert isinstance(got, GetDone)
        assert got.token == number
        assert got.record is not None
        assert got.record.value == b"value"
    assert world.count("kad_lookups", "put") == 1
    assert world.count("kad_lookups", "get") == SIZE - 1, "the owner need not look"
    assert world.count("kad_records_stored") == SIZE - 1
    assert world.count("security_events") == 0


def test_peers_join_and_say_so_once_to_whoever_watches() -> None:
    world = World()
    for number in (0, 5):
        world.tell(number, Watch("app"))
    world.run()
    (first,), (other,) = world.results(0), world.results(5)
    assert first == Joined(0, 0)
    assert isinstance(other, Joined)
    assert other.contacts >= 4
    assert all(len(world.dht(number).node.table) == SIZE - 1 for number in range(SIZE))
    assert world.count("kad_contacts_added") >= SIZE * (SIZE - 1)


def test_a_watcher_who_came_before_the_join_is_told_of_it() -> None:
    world = World()
    world.host.down(0)
    world.host.down(5)
    world.host.up(5)
    world.tell(5, Watch("app"))
    world.run(60)
    assert world.results(5) == []
    world.host.up(0)
    world.run(120)
    (joined,) = world.results(5)
    assert isinstance(joined, Joined)


def test_a_warm_peer_begins_with_its_contacts_and_asks_nobody() -> None:
    world = World(warm=True)
    assert world.host.packets_sent == 0
    world.tell(2, Find("app", 1, bytes(32)))
    world.run()
    (found,) = world.results(2)
    assert isinstance(found, FindDone)
    assert len(found.contacts) == SIZE - 1


def test_a_newer_value_replaces_the_older_everywhere() -> None:
    world = World(warm=True)
    for value in (b"old", b"new"):
        world.tell(3, Put("app", 1, b"", value, 3600))
        world.run()
    world.tell(6, Get("app", 2, record_key(IDENTITIES[3].device_public, b"")))
    world.run()
    (got,) = world.results(6)
    assert isinstance(got, GetDone)
    assert got.record is not None
    assert got.record.value == b"new"


def test_a_forged_record_is_refused_and_counts_against_who_sent_it() -> None:
    world = World(warm=True)
    forged = Record(IDENTITIES[3].device_public, b"", 1, b"forged", 60, bytes(64))
    for token, body in enumerate([REQUESTS.encode(Store(forged, 60)), b"\x91\xa8kad.what"]):
        call = Call(token, IDENTITIES[1].device_public, 1, body, SECOND, "app")
        world.host.tell(2, "app", Command("rpc", call))
        world.run()
    failures = world.results(2)
    assert [isinstance(failed, Failed) and failed.refused for failed in failures] == [True, True]
    assert world.count("kad_records_rejected", "bad_signature") == 1
    assert world.count("security_events", "bad_signature") == 1
    assert world.count("security_events", "unknown_tag") == 1
    blamed = [row.fields["device"] for row in world.host.events if row.name == "security"]
    assert blamed == [IDENTITIES[2].device_public.hex()] * 2
    assert len(world.dht(1).node.store) == 0


def test_a_peer_that_died_leaves_the_tables_of_those_who_call_it() -> None:
    world = World(warm=True, config=KademliaConfig(k=8))
    world.host.down(7)
    for token in range(3):
        world.tell(2, Find("app", token, bytes(32)))
        world.run()
    last = world.results(2)[-1]
    assert isinstance(last, FindDone)
    assert CONTACTS[7] not in last.contacts
    assert len(last.contacts) == SIZE - 2
    assert world.dht(2).node.table.find(CONTACTS[7].device) is None
    assert world.count("kad_contacts_removed") >= 1


def test_a_sampled_lookup_is_one_span_with_its_calls_as_children() -> None:
    world = World(warm=True)
    world.tell(2, Find("app", 1, bytes(32)), traced=True)
    world.run()
    (found,) = world.results(2)
    assert isinstance(found, FindDone)
    (lookup,) = [row for row in world.host.spans if row.span.name == "kad.lookup"]
    calls = [row for row in world.host.spans if row.span.name == "rpc.call"]
    children = [row for row in calls if row.span.parent_id == lookup.span.span_id]
    assert len(children) == found.rpcs
    assert lookup.attributes == {"purpose": "find", "hops": found.hops, "rpcs": found.rpcs}
    assert not world.dht(2)._spans


def test_tracing_changes_no_packet_and_no_decision() -> None:
    runs = []
    for traced in (False, True):
        world = World(warm=True)
        world.tell(3, Put("app", 1, b"", b"value", 60), traced)
        world.run()
        runs.append((world.results(3), world.host.packets_sent, world.host.bytes_sent, world.dht(3).node.to_bytes()))
    assert runs[0] == runs[1]


def test_whoever_waits_is_answered_when_the_node_leaves() -> None:
    world = World(warm=True)
    world.tell(2, Find("app", 1, bytes(32)))
    world.tell(2, Leave())
    (found,) = world.results(2)
    assert isinstance(found, FindDone)
    assert found.contacts == ()


def test_a_restored_actor_is_the_saved_one() -> None:
    world = World()
    world.tell(3, Put("app", 1, b"", b"value", 60))
    world.tell(3, Find("app", 1, bytes(32)), traced=True)
    saved = world.dht(3).to_bytes()
    assert DhtNode.from_bytes(saved, world.setup(3)).to_bytes() == saved
    with pytest.raises(LocalError):
        DhtNode.from_bytes(saved[:1] + b"\x63" + saved[2:], world.setup(3))


def test_a_node_arms_one_timer() -> None:
    world = World()
    peer = world.host._peer(3)
    before = len(peer.timers)
    for token in range(5):
        world.tell(3, Find("app", token, bytes(32)))
    assert len(peer.timers) <= before + 2
