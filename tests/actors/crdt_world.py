"""Peers with replicas of one channel, with a disk each if wanted, and one alone among fakes."""

from collections.abc import Sequence
from functools import partial
from hashlib import sha512
from typing import ClassVar, Final, Self

from actors.actor import Actor, handles
from actors.context import Context
from actors.crdt_replica import CrdtReplica
from actors.host import Host
from actors.peer import DURABLE_SUBSYSTEMS, SUBSYSTEMS
from actors.setup import Channel, PeerSetup
from cluster.disk import DiskModel, Disks
from protocols.admission import Fault
from protocols.contact import Contact
from protocols.crdt.bundles import encode_bundle, seal_bundle
from protocols.crdt.changes import Assign, Change, Role
from protocols.crdt.config import CrdtConfig
from protocols.crdt.operations import NOTHING
from protocols.crdt.replica import Replica
from protocols.crdt.requests import (
    Changed,
    Describe,
    Described,
    Revise,
    WatchChannel,
    Write,
    WriteRefused,
    Written,
)
from protocols.identity import DeviceIdentity
from protocols.journal.messages import (
    Append,
    Close,
    Closed,
    Durable,
    JournalLost,
    OpenStream,
    Recovered,
    Settle,
    Snapshot,
)
from protocols.messages import Message
from protocols.rpc.calls import Call, Completed, Failed, Incoming, Refuse, Respond
from tests.actors.worlds import MS, Steady

SIZE: Final = 4
SECOND: Final = 1_000 * MS
SYNC: Final = 20 * MS
IDENTITIES: Final = [
    DeviceIdentity.generate(sha512(b"peer %d" % number).digest(), b"test") for number in range(SIZE + 1)
]
DEVICES: Final = [each.device_public for each in IDENTITIES]
CONTACTS: Final = tuple(Contact(device, number) for number, device in enumerate(DEVICES))
ROLES: Final = {DEVICES[1]: Role.ADMIN, DEVICES[2]: Role.MEMBER, DEVICES[3]: Role.READER}
"""Peer 0 is the owner; one identity more than there are peers is a stranger."""
GENESIS: Final = Replica.found(IDENTITIES[0].signing, ROLES, nonce=bytes(32), now_ns=0).genesis
CHANNEL: Final = Replica(GENESIS).channel
SETUP: Final = Channel(GENESIS, CONTACTS[:SIZE])
KEY: Final = ("key",)

Word = Write | Revise | Describe | WatchChannel | Close


class Command(Message, frozen=True, tag="test.command"):
    """From the test to the application."""

    to: str
    message: Word | Recovered | Durable | Incoming | Completed | Failed | JournalLost


class Application(Actor):
    """Passes commands on and remembers what it is told, and when."""

    __slots__ = ("results",)
    service: ClassVar[str] = "app"

    def __init__(self, setup: PeerSetup) -> None:
        self.results: list[tuple[int, Message]] = []

    @handles(Command)
    def command(self, command: Command, ctx: Context) -> None:
        ctx.send(command.to, command.message)

    @handles(Written, WriteRefused, Described, Changed, Closed)
    def result(self, result: Message, ctx: Context) -> None:
        self.results.append((ctx.now, result))

    def to_bytes(self) -> bytes:
        return b""

    @classmethod
    def from_bytes(cls, data: bytes, setup: PeerSetup) -> Self:
        return cls(setup)


class World:
    """A few peers with a replica each."""

    def __init__(self, sync_ns: int | None = None, up: Sequence[int] = range(SIZE), **config: int) -> None:
        """``sync_ns``: of their disks; without it they have none."""
        self.model = None if sync_ns is None else DiskModel(sync_ns, 10**7, 0, 0)
        self.config = CrdtConfig(**config)
        self.host = self.new_host()
        for number in range(SIZE):
            self.host.add(number)
        for number in up:
            self.host.schedule(number, 0)
        self.run(30)

    def new_host(self) -> Host:
        self.disks = None if self.model is None else Disks(self.model, seed=1)
        return Host(self.build, network=Steady(), disks=self.disks)

    def build(self, number: int, incarnation: int) -> tuple[PeerSetup, Sequence[type[Actor]]]:
        setup = PeerSetup(
            IDENTITIES[number],
            number,
            contacts=CONTACTS,
            channels=(SETUP,),
            crdt=self.config,
            store=None if self.disks is None else partial(self.disks.open, number),
            journal_key=bytes(32),
        )
        return setup, [*(SUBSYSTEMS if self.disks is None else DURABLE_SUBSYSTEMS), Application]

    def run(self, seconds: int = 60) -> None:
        self.host.run(self.host.now + seconds * SECOND)

    def tell(self, number: int, message: Word, to: str = "crdt") -> None:
        self.host.tell(number, "app", Command(to, message))

    def write(self, number: int, *changes: Change, token: int = 1) -> None:
        self.tell(number, Write(token, CHANNEL, changes or (Assign(KEY, number),)))

    def results(self, number: int) -> list[tuple[int, Message]]:
        actor = self.host.actor(number, "app")
        assert isinstance(actor, Application)
        results, actor.results = actor.results, []
        return results

    def actor(self, number: int) -> CrdtReplica:
        actor = self.host.actor(number, "crdt")
        assert isinstance(actor, CrdtReplica)
        return actor

    def replica(self, number: int) -> Replica:
        return self.actor(number).replica(CHANNEL)

    def digests(self, *numbers: int) -> set[bytes]:
        return {self.replica(each).digest() for each in numbers or range(SIZE)}

    def crash(self, *numbers: int, seconds: int = 30) -> None:
        for number in numbers:
            self.host.down(number)
        for number in numbers:
            self.host.up(number)
        self.run(seconds)

    def count(self, name: str, label: str = "") -> int:
        return self.host.counters.get((name, label), 0)


class Fake(Actor):
    """Remembers what it is told."""

    __slots__ = ("told",)
    service: ClassVar[str] = "limiter"

    def __init__(self, setup: PeerSetup) -> None:
        self.told: list[Message] = []

    @handles(Fault)
    def fault(self, message: Message, ctx: Context) -> None:
        self.told.append(message)


class FakeJournal(Fake):
    service: ClassVar[str] = "journal"

    @handles(OpenStream, Append, Snapshot, Settle)
    def take(self, message: Message, ctx: Context) -> None:
        self.told.append(message)


class FakeRpc(Fake):
    service: ClassVar[str] = "rpc"

    @handles(Call, Respond, Refuse)
    def take(self, message: Message, ctx: Context) -> None:
        self.told.append(message)


class Alone:
    """The replica of one peer, 1 by default; the test says what comes in, and sees what goes out."""

    def __init__(self, number: int = 1, *, journal: bool = False, **config: int) -> None:
        store = partial(Disks(DiskModel(0, 1, 0, 0), 1).open, 0) if journal else None
        crdt = CrdtConfig(**{"confirmations": 0, **config})
        setup = PeerSetup(IDENTITIES[number], number, channels=(SETUP,), crdt=crdt, store=store)
        self.host = Host(lambda peer, incarnation: (setup, [Fake, FakeRpc, FakeJournal, CrdtReplica, Application]))
        self.host.up(0)
        self.calls = 0

    @property
    def actor(self) -> CrdtReplica:
        actor = self.host.actor(0, "crdt")
        assert isinstance(actor, CrdtReplica)
        return actor

    @property
    def replica(self) -> Replica:
        return self.actor.replica(CHANNEL)

    def tell(self, message: Word | Recovered | Durable | Completed | Failed | JournalLost) -> None:
        self.host.tell(0, "app", Command("crdt", message))

    def ask(self, body: bytes, sender: int = 2) -> None:
        """A request of another peer; its number is ``calls``."""
        self.calls += 1
        call = Incoming(self.calls, DEVICES[sender], sender, bytes(32), "crdt", body, bytes(25), 10**18)
        self.host.tell(0, "app", Command("crdt", call))

    def run(self, seconds: int) -> None:
        self.host.run(self.host.now + seconds * SECOND)

    def told(self, service: str) -> list[Message]:
        actor = self.host.actor(0, service)
        assert isinstance(actor, Fake)
        told, actor.told = actor.told, []
        return told

    def results(self) -> list[Message]:
        actor = self.host.actor(0, "app")
        assert isinstance(actor, Application)
        results, actor.results = actor.results, []
        return [result for _, result in results]


class Author:
    """Writes what a device could write, without a replica that would hinder it."""

    def __init__(self, number: int) -> None:
        self.key = IDENTITIES[number].signing
        self.previous = NOTHING
        self.sequence = 0
        self.clock = 1 << 20
        self._before = (1, NOTHING)

    def write(self, *changes: Change, after: Sequence[bytes] = (), aside: bool = False) -> bytes:
        """A bundle, whose first operation depends on these; ``aside``: on the back-link of the one before."""
        changes = changes or (Assign(KEY, self.sequence),)
        first, previous = self.sequence + 1, self.previous
        if aside:
            first, previous = self._before
        self._before = first, previous
        if previous == NOTHING and not after:
            after = (CHANNEL,)
        dated = [
            (change, self.clock + number, tuple(after) if number == 1 else ())
            for number, change in enumerate(changes, 1)
        ]
        parcel = seal_bundle(self.key, CHANNEL, dated, first, previous)
        self.clock += len(changes)
        self.sequence, self.previous = parcel.operations[-1].sequence, parcel.operations[-1].id
        return encode_bundle(parcel.seal, parcel.operations)
