"""The group in an actor, over its peer's journal and a simulated disk, in a host that takes peers down at any time.

``Chatter`` is as little of an actor as the three duties leave: hand on the writes, do what is released, bring back each
``Durable``. What left it, and what its reader took, is written down outside, where no crash reaches.
"""

from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Final, Self
from unittest.mock import patch

import msgspec
import pytest

from actors.actor import Actor, handles
from actors.context import Context
from actors.group_mail import Entered, Heard, Invite, Post, Seen, Taken, group_stream, ledger_stream
from actors.host import Host
from actors.journal import JournalActor
from actors.journaled_group import JournaledGroup
from cluster.disk import DiskModel, Disks, SimulatedDisk
from protocols.journal import Head, outbox
from protocols.journal.messages import Durable, OpenStream, Recovered
from protocols.journal.outbox import BusyError
from protocols.messages import Codec, Message, Packet
from protocols.mls.errors import MlsError
from protocols.mls.group import Group
from protocols.mls.joining import stage_welcome
from protocols.mls.leaf_node import LeafIndex
from protocols.mls.proposals import Add
from protocols.mls.send_ledger import SendLedger
from tests.actors.group_world import World
from tests.actors.worlds import MS, Steady
from tests.protocols.mls.room import NOW_NS, SERVICES, person

ADA, BOB = 0, 1
GROUP: Final = b"chat"
STREAMS: Final = group_stream(GROUP), ledger_stream(GROUP)
CLIENTS: Final = [person("ada"), person("bob")]


class Acked(Message, frozen=True, tag="test.acked"):
    number: int


class Sent(Message, frozen=True, tag="test.sent"):
    number: int
    message: bytes


class Where(Message, frozen=True, tag="test.where"):
    """How far have you seen me?"""


class There(Message, frozen=True, tag="test.there"):
    seen: tuple[Seen, ...]


class Tick(Message, frozen=True, tag="test.tick"):
    """Send again what may be lost."""


class Say(Message, frozen=True, tag="test.say"):
    text: bytes


class Outside:
    """What no crash reaches."""

    def __init__(self) -> None:
        self.world: Final = World()
        """Watches the keys."""
        self.left: Final[dict[bytes, int]] = {}
        """Texts that left their author."""
        self.taken: Final[dict[int, dict[int, bytes]]] = {ADA: {}, BOB: {}}
        """Texts that a reader was given, by the number of the mail."""
        self.entered: Final[dict[int, int]] = {ADA: 0, BOB: 0}
        self.shed: Final[dict[int, int]] = {ADA: 0, BOB: 0}
        """Messages of the other that came when too much waited for the disk."""


WIRE: Final[Codec[Message]] = Codec(Acked, Sent, Invite, Where, There)


class Setup(msgspec.Struct, frozen=True):
    number: int
    store: Any
    outside: Any
    journal_key: bytes = bytes(32)
    journal_anchors: dict[bytes, Head] = {}
    imported: bool = False


class Chatter(Actor):
    service: ClassVar[str] = "limiter"
    """Where packets go."""

    def __init__(self, setup: Setup) -> None:
        self.number: Final = setup.number
        self.other: Final = BOB if setup.number == ADA else ADA
        self.client: Final = CLIENTS[setup.number]
        self.outside: Final[Outside] = setup.outside
        self.recovered: Final[dict[bytes, Recovered]] = {}
        self.group: JournaledGroup | None = None

    def start(self, ctx: Context) -> None:
        for stream in STREAMS:
            ctx.send("journal", OpenStream(stream))
        ctx.after(50 * MS, Tick())

    @handles(Recovered)
    def take(self, recovered: Recovered, ctx: Context) -> None:
        self.recovered[recovered.stream] = recovered
        if len(self.recovered) < len(STREAMS):
            return
        self.group = JournaledGroup.recover(*(self.recovered[each] for each in STREAMS), services=SERVICES)
        if self.group is None and self.number == ADA:
            made = Group.create(self.client.bundle, GROUP, entropy=ctx.entropy, now_ns=NOW_NS, services=SERVICES)
            self.group = JournaledGroup.begin(made)
            added = self.group.commit((Add(CLIENTS[BOB].key_package),), entropy=ctx.entropy, now_ns=NOW_NS)
            self.group.adopt(added, now_ns=NOW_NS)
        self.go_on(ctx)

    @handles(Durable)
    def durable(self, durable: Durable, ctx: Context) -> None:
        assert self.group is not None
        self.group.durable(durable)
        self.go_on(ctx)

    @handles(Tick)
    def tick(self, tick: Tick, ctx: Context) -> None:
        ctx.after(50 * MS, tick)
        if self.group is not None:
            if not self.group.confirmed:
                ctx.transmit(self.other, WIRE.encode(Where()))
            self.group.resend()
            self.go_on(ctx)

    @handles(Say)
    def say(self, say: Say, ctx: Context) -> None:
        if self.group is not None and self.group.confirmed and self.group.current.number == 1:
            with suppress(BusyError):  # not said, and whoever wanted to can see that
                self.outside.world.speak(self.group, say.text)
            self.go_on(ctx)

    @handles(Packet)
    def packet(self, packet: Packet, ctx: Context) -> None:
        message = WIRE.decode(packet.data)
        if isinstance(message, Invite):
            self.join(message, ctx)
        elif self.group is not None:
            self.told(self.group, message, ctx)
        self.go_on(ctx)

    def join(self, invite: Invite, ctx: Context) -> None:
        if self.group is None and len(self.recovered) == len(STREAMS):
            [(_, welcome)] = invite.sealed()
            joined = stage_welcome(welcome, [self.client.bundle], psks=SERVICES.psks)
            made = Group.join(joined, now_ns=NOW_NS, ledger=SendLedger(), services=SERVICES)
            self.group = JournaledGroup.begin(made)
        if self.outside.entered[self.number]:
            ctx.transmit(self.other, WIRE.encode(Acked(invite.number)))

    def told(self, group: JournaledGroup, message: Message, ctx: Context) -> None:
        match message:
            case Acked(number):
                group.settle(number)
            case Sent(number, data):
                receipt = b"%d" % number
                try:
                    try:
                        group.receive(data, receipt)
                    except MlsError as error:
                        if error.reason == "9.2/generation-used":
                            group.acknowledge(receipt)
                except BusyError:
                    self.outside.shed[self.number] += 1
            case Where():
                ctx.transmit(self.other, WIRE.encode(There(group.seen_of(LeafIndex(self.other)))))
            case There(seen):
                if not group.confirmed:
                    group.confirm(seen)

    def go_on(self, ctx: Context) -> None:
        group = self.group
        if group is None:
            return
        for effect in group.released():
            match effect:
                case Post(number, message):
                    if message in self.outside.world.texts:
                        self.outside.left[self.outside.world.texts[message]] = self.number
                    self.outside.world.send(self.client.name, message)
                    ctx.transmit(self.other, WIRE.encode(Sent(number, message)))
                case Invite():
                    ctx.transmit(self.other, WIRE.encode(effect))
                case Heard(number, data=data):
                    assert self.outside.taken[self.number].setdefault(number, data) == data
                    group.settle(number)
                case Taken(receipt):
                    ctx.transmit(self.other, WIRE.encode(Acked(int(receipt))))
                case Entered():
                    self.outside.entered[self.number] += 1
        for write in group.writes():
            ctx.send("journal", write)

    def to_bytes(self) -> bytes:
        raise NotImplementedError

    @classmethod
    def from_bytes(cls, data: bytes, setup: Setup) -> Self:
        raise NotImplementedError


def run(down: int, at: int, *, slower: int = 1) -> Outside:
    """Both say six texts, and one of them is taken down once, at any time; in the end all has arrived.

    Args:
        slower: how many times as slow as usual Ada's disk is, and as long all takes; but for how fast they speak.
    """
    outside, disks = Outside(), Disks(DiskModel(10 * MS, 10**7, 0, 0), seed=1)
    disks._disks[ADA] = SimulatedDisk(DiskModel(slower * 10 * MS, 10**7, 0, 0), b"Ada")

    def build(peer: int, incarnation: int) -> tuple[Setup, list[type[Actor]]]:
        return Setup(peer, partial(disks.open, peer), outside), [JournalActor, Chatter]

    host = Host(build, seed=1, disks=disks, network=Steady(7 * MS))
    for peer in (ADA, BOB):
        host.schedule(peer, 0, None)
    with patch("protocols.mls.group.seal_plaintext", outside.world.sealed):
        for step in range(slower * 150):
            host.run(step * 5 * MS + 1)
            if step * 5 == at:
                host.down(down)
                host.up(down)
            if 0 <= step - slower * 30 < 30 and step % 5 == 0:
                for peer in (ADA, BOB):
                    host.tell(peer, "limiter", Say(b"%d says %d" % (peer, step)))
    return outside


def test_whoever_goes_down_at_any_time_loses_nothing_that_was_seen() -> None:
    """Every 5 ms, which is half a sync: all that left its author arrives, once, and no key is used for two texts."""
    whole = run(ADA, -1)
    assert len(whole.left) == 12
    accepted = 0
    for down in (ADA, BOB):
        for at in range(0, 400, 5):
            outside = run(down, at)
            assert outside.entered[BOB]
            for reader in (ADA, BOB):
                texts = sorted(outside.taken[reader].values())
                assert texts == sorted(text for text, author in outside.left.items() if author != reader), (down, at)
            accepted += len(outside.left)
    print(f"160 crashes, {accepted} texts left their author, all of them arrived")


def test_what_comes_again_before_it_is_durable_is_not_acknowledged_before() -> None:
    """A disk on which a write takes as long as four repetitions."""
    for at in range(3_000, 3_700, 25):
        outside = run(ADA, at, slower=20)
        texts = sorted(outside.taken[ADA].values())
        assert texts == sorted(text for text, author in outside.left.items() if author == BOB), at
        assert len(texts) == 6


def test_what_comes_faster_than_the_disk_is_shed_and_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "HELD_MAX", 4)
    outside = run(ADA, -1, slower=20)
    assert outside.shed[ADA] > 0
    assert len(outside.taken[ADA]) == 6, "all that Bob said"
    assert sorted(outside.taken[BOB].values()) == sorted(text for text, author in outside.left.items() if author == ADA)
