"""Small worlds for tests of the host: actors whose whole behaviour is in sight, and a network that is a function."""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import msgspec

from actors.actor import Actor, handles
from actors.context import Context
from actors.host import Host
from protocols.errors import ProtocolError
from protocols.messages import Message, Packet

MS = 1_000_000


class Poke(Message, frozen=True, tag="test.poke"):
    """Do your thing."""

    number: int = 0


class Steady:
    """A network in which every packet takes as long, unless told otherwise."""

    def __init__(self, latency: int = 10 * MS, rule: Callable[[int, int, int], tuple[int, ...]] | None = None) -> None:
        self._latency = latency
        self._rule = rule

    def transit(self, source: int, destination: int, size: int, sent_at: int, ordinal: int) -> tuple[int, ...]:
        if self._rule is not None:
            return self._rule(source, destination, sent_at)
        return (sent_at + self._latency,)


class Recorder(Actor):
    """Writes down what it is told, and does what the test's ``script`` says."""

    service: ClassVar[str] = "limiter"

    def __init__(self, setup: Any) -> None:
        self.seen: list[tuple[int, Any]] = []
        self.script: Callable[[Recorder, Message, Context], None] | None = setup

    def start(self, ctx: Context) -> None:
        self.seen.append((ctx.now, "start"))

    @handles(Packet, Poke)
    def take(self, message: Message, ctx: Context) -> None:
        what = message.data if isinstance(message, Packet) else message
        self.seen.append((ctx.now, what))
        if self.script is not None:
            self.script(self, message, ctx)

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode([(time, str(what)) for time, what in self.seen])

    @classmethod
    def from_bytes(cls, data: bytes, setup: Any) -> Self:
        actor = cls(setup)
        actor.seen = [(time, what) for time, what in msgspec.msgpack.decode(data)]
        return actor


class Gossip(Actor):
    """Forwards what it gets to a random peer after a random time: work whose order would show any difference."""

    service: ClassVar[str] = "limiter"

    def __init__(self, setup: int) -> None:
        self.population = setup
        self.heard = 0

    def start(self, ctx: Context) -> None:
        ctx.after(ctx.rng.below(20 * MS), Poke(0))

    @handles(Poke)
    def poke(self, poke: Poke, ctx: Context) -> None:
        ctx.charge("hash", 1_000)
        ctx.transmit(ctx.rng.below(self.population), ctx.entropy(8) + poke.number.to_bytes(4, "big"))
        ctx.after(1 + ctx.rng.below(30 * MS), Poke(poke.number + 1))

    @handles(Packet)
    def packet(self, packet: Packet, ctx: Context) -> None:
        self.heard += 1
        if packet.data[0] < 8:
            raise ProtocolError("unlucky", "the first byte is small")
        if packet.data[0] < 128:
            ctx.transmit(packet.data[1] % self.population, packet.data[::-1])

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode(self.heard)

    @classmethod
    def from_bytes(cls, data: bytes, setup: int) -> Self:
        actor = cls(setup)
        actor.heard = msgspec.msgpack.decode(data)
        return actor


def recorders(count: int, script: Any = None, **options: Any) -> Host:
    """A host with ``count`` recorders, up from the start."""
    host = Host(lambda peer, incarnation: (script, [Recorder]), network=options.pop("network", Steady()), **options)
    for peer in range(count):
        host.schedule(peer, 0)
    return host


def recorder(host: Host, peer: int) -> Recorder:
    """The recorder of a running peer."""
    actor = host.actor(peer, "limiter")
    assert isinstance(actor, Recorder)
    return actor
