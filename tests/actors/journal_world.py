"""One peer with a disk, a journal, and two actors that write what the test says."""

from functools import partial
from typing import Any, ClassVar, Self

import msgspec

from actors.actor import Actor, handles
from actors.context import Context
from actors.host import Host
from actors.journal import JournalActor
from cluster.charges import Costs
from cluster.disk import DiskModel, Disks
from protocols.journal import Head
from protocols.journal.messages import (
    Append,
    Close,
    Closed,
    Durable,
    Entry,
    Forget,
    JournalLost,
    OpenStream,
    Recovered,
    Settle,
    Snapshot,
)
from protocols.journal.store import Table
from protocols.messages import Message
from tests.actors.worlds import MS

Told = OpenStream | Append | Snapshot | Forget | Settle | Close

SYNC: int = 10 * MS


class Setup(msgspec.Struct, frozen=True):
    """As much of a peer's as a journal looks at."""

    store: Any
    journal_key: bytes = bytes(32)
    journal_anchors: dict[bytes, Head] = {}
    imported: bool = False


class Write(Message, frozen=True, tag="test.write"):
    """From the test to a writer: tell the journal this."""

    message: Told


class Writer(Actor):
    """Opens its stream, passes on what it is told to write, and remembers what it hears."""

    __slots__ = ("answers", "ends", "recovered")
    service: ClassVar[str] = "a"

    def __init__(self, setup: Setup) -> None:
        self.recovered: Recovered | None = None
        self.answers: list[tuple[int, Durable]] = []
        self.ends: list[Message] = []

    def start(self, ctx: Context) -> None:
        ctx.send("journal", OpenStream(self.service.encode()))

    @handles(Write)
    def write(self, write: Write, ctx: Context) -> None:
        ctx.send("journal", write.message)

    @handles(Recovered)
    def take(self, recovered: Recovered, ctx: Context) -> None:
        self.recovered = recovered

    @handles(Durable)
    def durable(self, durable: Durable, ctx: Context) -> None:
        self.answers.append((ctx.now, durable))

    @handles(Closed, JournalLost)
    def end(self, end: Message, ctx: Context) -> None:
        self.ends.append(end)

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode((self.recovered, self.answers, len(self.ends)))

    @classmethod
    def from_bytes(cls, data: bytes, setup: Setup) -> Self:
        actor = cls(setup)
        recovered, answers, ends = msgspec.msgpack.decode(
            data, type=tuple[Recovered | None, list[tuple[int, Durable]], int]
        )
        actor.recovered, actor.answers, actor.ends = recovered, answers, [Closed()] * ends
        return actor


class OtherWriter(Writer):
    service: ClassVar[str] = "b"


class World:
    """One peer with a disk."""

    def __init__(
        self,
        *,
        sync_ns: int = SYNC,
        torn: int = 0,
        sync_failure: int = 0,
        size_max: int = 10**7,
        costs: Costs | None = None,
        down_at: int | None = None,
        **options: Any,
    ) -> None:
        """``options`` are the host's."""
        self.options = options
        self.model = DiskModel(sync_ns, size_max, torn, sync_failure)
        self.costs = costs
        self.host = self.new_host()
        self.host.schedule(0, 0, down_at)
        self.run(0)

    def new_host(self) -> Host:
        self.disks = Disks(self.model, seed=1)
        return Host(self.build, seed=1, disks=self.disks, costs=self.costs, **self.options)

    def build(self, peer: int, incarnation: int) -> tuple[Setup, list[type[Actor]]]:
        return Setup(partial(self.disks.open, peer)), [JournalActor, Writer, OtherWriter]

    def run(self, until: int) -> None:
        """Everything up to and at this time."""
        self.host.run(until + 1)
        self.host.now = max(self.host.now, until)  # which is no more than the last event's, and a dead one's counts

    def tell(self, service: str, message: Told) -> None:
        self.host.tell(0, service, Write(message))

    def append(self, token: int, *payloads: bytes, service: str = "a") -> None:
        entries = tuple(Entry("test", payload) for payload in payloads or (b"%d" % token,))
        self.tell(service, Append(token, service.encode(), entries))

    def recovery(self, service: str = "a") -> Recovered:
        recovered = self.writer(service).recovered
        assert recovered is not None
        return recovered

    def writer(self, service: str = "a") -> Writer:
        actor = self.host.actor(0, service)
        assert isinstance(actor, Writer)
        return actor

    def told(self, service: str = "a") -> list[tuple[int, int, int]]:
        """When, which token, up to which record."""
        return [(at, durable.token, durable.sequence) for at, durable in self.writer(service).answers]

    def count(self, name: str, label: str = "") -> int:
        return self.host.counters.get((name, label), 0)

    def crash(self) -> None:
        self.host.down(0)
        self.host.up(0)

    def recovered(self, service: str = "a") -> list[bytes]:
        recovered = self.recovery(service)
        assert [record.sequence for record in recovered.records] == list(
            range(recovered.records[0].sequence, recovered.records[-1].sequence + 1) if recovered.records else ()
        )
        return [record.payload for record in recovered.records]


def damage(world: World, table: Table, number: int) -> None:
    """The only row of this number, in a stream of whatever name."""
    [rows] = [rows for (each, _), rows in world.disks._disks[0]._rows.items() if each == table and number in rows]
    rows[number] = rows[number][:-1] + bytes([rows[number][-1] ^ 1])
