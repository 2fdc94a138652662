"""Put and get per second beside the ``kademlia`` package: as many nodes, k = 20, alpha = 3, values of 100 bytes.

Theirs are its servers, each with its UDP socket on loopback, on one asyncio loop; what they say is plain text, and
records are not signed. Ours are whole peers of one host (placement ``packed``) in real time without injected delay:
every datagram is encrypted in a session, admitted and authenticated, every record signed and verified. Within a
host packets do not pass the kernel; so that nobody gains by that, ours are measured a second time with each packet sent
through a UDP socket and received again (``through_udp_per_s``).

Both are one process on one core, so of twenty operations at once none is faster than one by one, unless
somebody waits. Gets are asked by nodes that do not hold the record, and only answers with the right value count.

``warm``: every peer has sessions with all others. ``cold``: the first thing that fresh peers do is to put, the second
to get, so an operation makes a session for nearly every call: ``handshakes`` says how many. ``ratio`` is our rate over
theirs: above 1, ours is the faster.
"""

import asyncio
import gc
import hashlib
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Protocol

from actors.actor import Actor, handles
from actors.context import Context
from actors.dht_node import DhtNode
from actors.host import Host
from actors.setup import PeerSetup
from benchmarks.memory import connect_all, population
from benchmarks.rows import OURS, Row, interleaved, main, package, row, skipped
from protocols.kademlia.messages import Get, GetDone, Put, PutDone
from protocols.kademlia.records import record_key

K: Final = 20
ROUNDS: Final = 5
OPERATIONS: Final = 40
AT_ONCE: Final = 20
VALUE_SIZE: Final = 100
PATIENCE_S: Final = 30.0

Key = tuple[int, bytes]
"""A record: who put it, under which name."""


class Swarm(Protocol):
    """A network of nodes that put and get."""

    def put(self, keys: Sequence[Key], at_once: int) -> int:
        """Put records; returns how many of them somebody holds."""
        ...

    def get(self, keys: Sequence[Key], at_once: int) -> int:
        """Get records by nodes that do not hold them; returns how many came back as they were put."""
        ...

    def close(self) -> None:
        """Let go of sockets."""
        ...


def value(key: Key) -> bytes:
    """What is stored under a key."""
    return random.Random(key[1]).randbytes(VALUE_SIZE)


class Wire:
    """No delay at all; through a UDP socket on loopback, if told so."""

    def __init__(self) -> None:
        self.kernel = False
        self._to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._to.bind(("127.0.0.1", 0))
        self._from = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._from.connect(self._to.getsockname())

    def transit(self, source: int, destination: int, size: int, sent_at: int, ordinal: int) -> tuple[int, ...]:
        if self.kernel:
            self._from.send(bytes(size))
            self._to.recv(65_536)
        return (sent_at,)

    def close(self) -> None:
        self._from.close()
        self._to.close()


class Client(Actor):
    """Whoever asked, and takes the answers."""

    __slots__ = ("answers",)

    service: ClassVar[str] = "client"

    def __init__(self, setup: PeerSetup) -> None:
        self.answers: list[PutDone | GetDone] = []

    @handles(PutDone, GetDone)
    def take(self, answer: PutDone | GetDone, ctx: Context) -> None:
        self.answers.append(answer)


class Packed:
    """Our peers, all on one host in real time."""

    def __init__(self, nodes: int, *, warm: bool) -> None:
        crowd = population(nodes)

        def build(peer: int, incarnation: int) -> tuple[PeerSetup, Sequence[type[Actor]]]:
            setup, actors = crowd.build(peer, incarnation)
            return setup, (*actors, Client)

        self.wire = Wire()
        self._random = random.Random(nodes)
        self._nodes = nodes
        self._token = 0
        self._began = time.monotonic_ns()
        self._host = Host(build, network=self.wire, real_time=True, sample=0.0)
        for peer in range(nodes):
            self._host.schedule(peer, 0)
        self._host.run(self._clock())
        self._devices = [crowd.contact(peer).device for peer in range(nodes)]
        if warm:
            connect_all(self._host, crowd, nodes, self._clock)
        gc.collect()
        gc.freeze()

    @property
    def handshakes(self) -> int:
        return self._host.counters.get(("sessions_up", "initiator"), 0)

    def put(self, keys: Sequence[Key], at_once: int) -> int:
        return self._all(
            [(owner, Put("client", self._next_token(), name, value((owner, name)), 3_600)) for owner, name in keys],
            at_once,
        )

    def get(self, keys: Sequence[Key], at_once: int) -> int:
        asked: list[tuple[int, Put | Get]] = []
        self._expected = {}
        for owner, name in keys:
            key = record_key(self._devices[owner], name)
            token = self._next_token()
            self._expected[token] = value((owner, name))
            asked.append((self._stranger(key), Get("client", token, key)))
        return self._all(asked, at_once)

    def close(self) -> None:
        self.wire.close()
        gc.unfreeze()

    def _all(self, asked: list[tuple[int, Put | Get]], at_once: int) -> int:
        host = self._host
        deadline = time.monotonic() + PATIENCE_S
        waiting: list[Client] = []
        good = 0
        asked = asked[::-1]
        while (asked or waiting) and time.monotonic() < deadline:
            while asked and len(waiting) < at_once:
                peer, message = asked.pop()
                host.now = self._clock()
                host.tell(peer, "dht", message)
                waiting.append(self._client(peer))
            host.run(self._clock())
            for client in [each for each in waiting if each.answers]:
                if client.answers:
                    good += self._is_good(client.answers.pop())
                    waiting.remove(client)
        return good

    def _is_good(self, answer: PutDone | GetDone) -> bool:
        if isinstance(answer, PutDone):
            return answer.stored > 0
        return answer.record is not None and answer.record.value == self._expected[answer.token]

    def _stranger(self, key: bytes) -> int:
        """A node that does not hold the record."""
        while True:
            peer = self._random.randrange(self._nodes)
            actor = self._host.actor(peer, "dht")
            if isinstance(actor, DhtNode) and actor.node.store.find(key, self._clock()) is None:
                return peer

    def _client(self, peer: int) -> Client:
        actor = self._host.actor(peer, "client")
        if not isinstance(actor, Client):
            raise RuntimeError(f"peer {peer} is not up")
        return actor

    def _next_token(self) -> int:
        self._token += 1
        return self._token

    def _clock(self) -> int:
        return 1 + time.monotonic_ns() - self._began


class Package:
    """The nodes of the ``kademlia`` package, all on one loop."""

    def __init__(self, nodes: int, server: Callable[..., Any]) -> None:
        self._random = random.Random(nodes)
        self._loop = asyncio.new_event_loop()
        self._servers: list[Any] = self._loop.run_until_complete(self._start(nodes, server))

    async def _start(self, nodes: int, server: Callable[..., Any]) -> list[Any]:
        servers: list[Any] = []
        addresses: list[tuple[str, int]] = []
        for _ in range(nodes):
            each = server(ksize=K, alpha=3)
            await each.listen(0, "127.0.0.1")
            # Three to begin with: with one, some of them never know more than a few others.
            known = self._random.sample(addresses, min(3, len(addresses)))
            addresses.append(each.transport.get_extra_info("sockname"))
            if known:
                await each.bootstrap(known)
            servers.append(each)
        for each in servers:  # once more, when all are there
            await each.bootstrap(self._random.sample(addresses, min(3, len(addresses))))
        return servers

    def put(self, keys: Sequence[Key], at_once: int) -> int:
        return self._loop.run_until_complete(self._all([partial(self._put, key) for key in keys], at_once))

    def get(self, keys: Sequence[Key], at_once: int) -> int:
        return self._loop.run_until_complete(self._all([partial(self._get, key) for key in keys], at_once))

    def close(self) -> None:
        for each in self._servers:
            each.stop()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _put(self, key: Key) -> bool:
        return bool(await self._servers[key[0]].set(self._name(key), value(key)))

    async def _get(self, key: Key) -> bool:
        digest = self._digest(key)
        strangers = [each for each in self._servers if each.storage.get(digest) is None]
        return bool(await self._random.choice(strangers).get(self._name(key)) == value(key))

    async def _all(self, calls: list[Callable[[], Any]], at_once: int) -> int:
        waiting = iter(calls)

        async def work() -> int:
            return sum([await call() for call in waiting])

        return sum(await asyncio.gather(*[work() for _ in range(at_once)]))

    def _name(self, key: Key) -> str:
        return f"{key[0]}/{key[1].hex()}"

    def _digest(self, key: Key) -> bytes:
        return hashlib.sha1(self._name(key).encode()).digest()


def rate(work: Callable[[Sequence[Key], int], int], keys: Sequence[Key], at_once: int) -> float:
    """Operations that succeeded, per second."""
    start = time.perf_counter()
    good = work(keys, at_once)
    return good / (time.perf_counter() - start)


def run(quick: bool) -> Iterator[Row]:
    """Put, and get one by one and many at once, with warm sessions and with none."""
    module = package("kademlia.network")
    if isinstance(module, str):
        yield skipped("dht", "all", "kademlia", module)
    for nodes in (25,) if quick else (50, 200):
        server = None if isinstance(module, str) else module.Server
        yield from _warm(nodes, server, 1 if quick else ROUNDS, 5 if quick else OPERATIONS)
        yield from _cold(nodes, server, 1 if quick else ROUNDS)


def _warm(nodes: int, server: Callable[..., Any] | None, rounds: int, operations: int) -> Iterator[Row]:
    ours = Packed(nodes, warm=True)
    theirs = None if server is None else Package(nodes, server)
    draws = random.Random(1)
    batches: dict[str, list[Key]] = {}

    def measure(who: str, swarm: Swarm, verb: str, at_once: int, kernel: bool) -> float:
        ours.wire.kernel = kernel
        if verb == "put":
            batches[who] = [(draws.randrange(nodes), draws.randbytes(8)) for _ in range(operations)]
        return rate(getattr(swarm, verb), batches[who], at_once)

    swarms: dict[str, tuple[Swarm, bool]] = {OURS: (ours, False)}
    if theirs is not None:
        swarms["kademlia"] = theirs, False
    swarms["through udp"] = ours, True
    for verb, at_once in (("put", 1), ("get", 1), ("get", AT_ONCE)):
        before = ours.handshakes
        figures = interleaved(
            {who: partial(measure, who, swarm, verb, at_once, kernel) for who, (swarm, kernel) in swarms.items()},
            rounds,
        )
        made = (ours.handshakes - before) / rounds / operations / 2
        yield _row(f"{verb}, {nodes} nodes, warm, {at_once} at once", figures, made)
    ours.close()
    if theirs is not None:
        theirs.close()


def _cold(nodes: int, server: Callable[..., Any] | None, rounds: int) -> Iterator[Row]:
    """Fresh peers every round; each of the few that ask does so once."""
    operations = max(1, nodes // 10)
    figures: dict[str, dict[str, list[float]]] = {"put": {}, "get": {}}
    made = {"put": 0, "get": 0}
    for _ in range(rounds):
        ours = Packed(nodes, warm=False)
        swarms: dict[str, Swarm] = {OURS: ours}
        if server is not None:
            swarms["kademlia"] = Package(nodes, server)
        for who, swarm in swarms.items():
            keys = [(owner, b"cold") for owner in range(operations)]
            for verb in ("put", "get"):
                before = ours.handshakes
                figures[verb].setdefault(who, []).append(rate(getattr(swarm, verb), keys, 1))
                made[verb] += ours.handshakes - before
            swarm.close()
    for verb, measured in figures.items():
        yield _row(f"{verb}, {nodes} nodes, cold, 1 at once", measured, made[verb] / rounds / operations)


def _row(case: str, figures: dict[str, list[float]], handshakes: float) -> Row:
    return row("dht", case, "per_s", figures, handshakes=round(handshakes, 2))


if __name__ == "__main__":
    main(run)
