"""DHT nodes with a disk each, and one alone whose journal answers when the test says so."""

from functools import partial
from hashlib import sha512
from typing import ClassVar, Self

from actors.actor import Actor, handles
from actors.context import Context
from actors.dht_node import DhtNode
from actors.host import Host
from actors.peer import DURABLE_SUBSYSTEMS
from actors.setup import PeerSetup
from cluster.disk import DiskModel, Disks
from protocols.contact import Contact
from protocols.identity import DeviceIdentity
from protocols.journal.messages import Append, Close, Closed, Durable, JournalLost, OpenStream, Recovered, Snapshot
from protocols.kademlia.config import KademliaConfig
from protocols.kademlia.messages import (
    REQUESTS,
    Find,
    FindDone,
    FindNode,
    Get,
    GetDone,
    Joined,
    Leave,
    Put,
    PutDone,
    Store,
)
from protocols.kademlia.records import Record, record_key
from protocols.messages import Message, Packet
from protocols.rpc.calls import Call, Completed, Failed, Incoming, Refuse, Respond
from tests.actors.worlds import MS, Steady

SIZE = 4
SECOND = 1_000 * MS
SYNC = 20 * MS
IDENTITIES = [DeviceIdentity.generate(sha512(b"peer %d" % number).digest(), b"test") for number in range(SIZE)]
CONTACTS = tuple(Contact(identity.device_public, number) for number, identity in enumerate(IDENTITIES))
KEY = record_key(IDENTITIES[3].device_public, b"name")


class Command(Message, frozen=True, tag="test.command"):
    """From the test to the application."""

    to: str
    message: Put | Get | Find | Leave | Call | Recovered | Durable | Incoming | JournalLost | Close


class Application(Actor):
    """Passes commands on and remembers the results, and when they came."""

    __slots__ = ("results",)
    service: ClassVar[str] = "app"

    def __init__(self, setup: PeerSetup) -> None:
        self.results: list[tuple[int, Message]] = []

    @handles(Command)
    def command(self, command: Command, ctx: Context) -> None:
        ctx.send(command.to, command.message)

    @handles(PutDone, GetDone, FindDone, Joined, Completed, Failed, Closed)
    def result(self, result: Message, ctx: Context) -> None:
        self.results.append((ctx.now, result))

    def to_bytes(self) -> bytes:
        return b""

    @classmethod
    def from_bytes(cls, data: bytes, setup: PeerSetup) -> Self:
        return cls(setup)


class World:
    """A few peers who know each other, each with a disk."""

    def __init__(self, sync_ns: int = SYNC) -> None:
        self.model = DiskModel(sync_ns, 10**7, 0, 0)
        self.host = self.new_host()
        for number in range(SIZE):
            self.host.schedule(number, 0)
        self.run(SECOND)

    def new_host(self) -> Host:
        self.disks = Disks(self.model, seed=1)
        return Host(self.build, network=Steady(), disks=self.disks)

    def build(self, number: int, incarnation: int) -> tuple[PeerSetup, list[type[Actor]]]:
        store = partial(self.disks.open, number)
        setup = PeerSetup(IDENTITIES[number], number, contacts=CONTACTS, store=store, journal_key=bytes(32))
        return setup, [*DURABLE_SUBSYSTEMS, Application]

    def run(self, duration: int = 30 * SECOND) -> None:
        self.host.run(self.host.now + duration)

    def tell(self, number: int, message: Put | Get | Find | Call | Leave | Close, to: str = "dht") -> None:
        self.host.tell(number, "app", Command(to, message))

    def put(self, value: bytes = b"value") -> None:
        self.tell(3, Put("app", 1, b"name", value, 3_600))

    def get(self, number: int) -> GetDone:
        self.tell(number, Get("app", 2, KEY))
        self.run()
        [(_, got)] = self.results(number)
        assert isinstance(got, GetDone)
        return got

    def results(self, number: int) -> list[tuple[int, Message]]:
        actor = self.host.actor(number, "app")
        assert isinstance(actor, Application)
        results, actor.results = actor.results, []
        return results

    def crash(self, *numbers: int) -> None:
        for number in numbers:
            self.host.down(number)
        for number in numbers:
            self.host.up(number)
        self.run(SECOND)

    def dht(self, number: int) -> DhtNode:
        actor = self.host.actor(number, "dht")
        assert isinstance(actor, DhtNode)
        return actor

    def count(self, name: str, label: str = "") -> int:
        return self.host.counters.get((name, label), 0)


class LateJournal(Actor):
    """A journal that answers when the test says so."""

    __slots__ = ("told",)
    service: ClassVar[str] = "journal"

    def __init__(self, setup: PeerSetup) -> None:
        self.told: list[Message] = []

    @handles(OpenStream, Append, Snapshot)
    def take(self, message: Message, ctx: Context) -> None:
        self.told.append(message)


class FakeRpc(LateJournal):
    service: ClassVar[str] = "rpc"

    @handles(Call, Respond, Refuse, Packet)
    def take(self, message: Message, ctx: Context) -> None:
        self.told.append(message)


class Early:
    """A node whose journal has not been read."""

    def __init__(self, config: KademliaConfig | None = None) -> None:
        store = partial(Disks(DiskModel(0, 1, 0, 0), 1).open, 0)
        config = config or KademliaConfig()
        setup = PeerSetup(IDENTITIES[0], 0, contacts=CONTACTS, kademlia=config, store=store)
        self.host = Host(lambda peer, incarnation: (setup, [FakeRpc, LateJournal, DhtNode, Application]))
        self.host.up(0)

    def tell(self, message: Put | Get | Find | Leave | Recovered | Durable | Incoming | JournalLost) -> None:
        self.host.tell(0, "app", Command("dht", message))

    def told(self, service: str) -> list[Message]:
        actor = self.host.actor(0, service)
        assert isinstance(actor, LateJournal)
        told, actor.told = actor.told, []
        return told

    def results(self) -> list[Message]:
        actor = self.host.actor(0, "app")
        assert isinstance(actor, Application)
        results, actor.results = actor.results, []
        return [result for _, result in results]


def incoming(call: int) -> Incoming:
    body = REQUESTS.encode(FindNode(bytes(32)))
    return Incoming(call, CONTACTS[1].device, 1, bytes(32), "kad.find_node", body, bytes(25), SECOND)


def store(call: int) -> Incoming:
    record = Record.sign(IDENTITIES[1].signing, b"%d" % call, 1, b"value", 60)
    body = REQUESTS.encode(Store(record, 60))
    return Incoming(call, CONTACTS[1].device, 1, bytes(32), "kad.store", body, bytes(25), SECOND)
