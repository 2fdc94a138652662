"""Many peers on a host beside one Ray actor per peer with one Ray call per message.

The same work on both: every peer starts with so many messages of 100 bytes, and whoever gets a message sends it on to a
random peer. ``naive`` is an async Ray actor a peer, which calls the next one and does not wait. Ours is ``packed``: two
hosts on Ray, in a process each, with mailboxes' bounds, counters and digest, as every run has them. Once they run in
virtual time, in windows and with sockets between the hosts, where a message takes 20 to 100 ms, as it does between
distant regions; and once in real time, where it takes none, as on the other side, and batches are Ray calls. All
take turns on one Ray and two cores.

Memory is PSS, divided by peers. A naive peer is an empty actor. Ours are whole peers (keys, sessions, RPC, DHT node)
of a network of 10,000, with tables of some 200 contacts, on two hosts; the hosts' interpreters and libraries are
counted as well. ``ratio`` is ours over the naive one's: 50 in messages and 300 in peers per GiB are the bounds.
"""

import asyncio
import os
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Final

import ray

from actors.context import Context
from actors.host import Host
from benchmarks.engine import PAYLOAD, Phold
from benchmarks.memory import population
from benchmarks.rows import OURS, Row, interleaved, main, row
from cluster.exchange import Exchange
from cluster.memory import proportional_set_size
from cluster.ray_shards import start_ray
from cluster.real_time import LEAD_NS, RealTimeShard
from cluster.scenario import Scenario
from cluster.scheduler import Scheduler

HOSTS: Final = 2
GIB: Final = 2**30
ROUNDS: Final = 3
LOADS: Final = ((20, 20), (50, 1), (50, 20))
"""Peers, and how many messages of each are under way; the naive ones do best with the last."""

CROWD: Final = 10_000
MEASURE_S: Final = 5.0
WARM_S: Final = 1.0
LATENCY_MIN_NS, LATENCY_MAX_NS = 20_000_000, 100_000_000


class NaivePeer:
    """A peer as a Ray actor of its own."""

    def __init__(self) -> None:
        self._others: list[Any] = []
        self._random = random.Random(os.getpid())
        self._running = False
        self._received = 0

    async def process(self) -> int:
        return os.getpid()

    async def begin(self, others: list[Any], messages: int) -> None:
        self._others = others
        self._running = True
        for _ in range(messages):
            self._pass_on(PAYLOAD)

    async def receive(self, data: bytes) -> None:
        self._received += 1
        if self._running:
            self._pass_on(data)

    async def received(self) -> int:
        return self._received

    async def end(self) -> None:
        self._running = False

    def _pass_on(self, data: bytes) -> None:
        self._others[self._random.randrange(len(self._others))].receive.remote(data)


class Far:
    """A network in which packets take their time."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def transit(self, source: int, destination: int, size: int, sent_at: int, ordinal: int) -> tuple[int, ...]:
        return (sent_at + self._random.randrange(LATENCY_MIN_NS, LATENCY_MAX_NS),)


class Sender(Phold):
    """Sends so many messages when it starts."""

    def __init__(self, setup: tuple[int, int, random.Random, int]) -> None:
        super().__init__(setup[:3])
        self._messages = setup[3]

    def start(self, ctx: Context) -> None:
        for _ in range(self._messages):
            super().start(ctx)


def build(peers: int, seed: int, messages: int) -> Any:
    """What a host makes its peers of."""
    choices = random.Random(seed)
    return lambda peer, incarnation: ((peer, peers, choices, messages), (Sender,))


class VirtualTimeHost:
    """One of our hosts in virtual time, as ``cluster.shard`` makes them."""

    def __init__(self, number: int, peers: int, messages: int) -> None:
        self._number = number
        self._host = Host(
            build(peers, number, messages),
            network=Far(number),
            number=number,
            route=lambda peer, service: peer % HOSTS,
        )
        for peer in range(number, peers, HOSTS):
            self._host.schedule(peer, 0)

    def listen(self, key: bytes) -> tuple[str, int]:
        self._exchange = Exchange(self._number, HOSTS, key)
        return self._exchange.address

    def connect(self, addresses: list[tuple[str, int]]) -> None:
        self._exchange.connect(addresses)
        self._scheduler = Scheduler(self._host, LATENCY_MIN_NS, self._exchange, HOSTS)

    def advance(self, until: int) -> int:
        """Run to a virtual time; tells how many messages were handled so far."""
        self._scheduler.advance(until)
        return self._host.handled


class RealTimePhold(RealTimeShard):
    """One of our hosts in real time with this work."""

    def __init__(self, scenario: str, number: int, messages: int) -> None:
        self._messages = messages
        super().__init__(scenario, number, HOSTS)

    def _prepare(self) -> None:
        peers = self._scenario.peers
        self._network = None
        self._host = Host(
            build(peers, self._number, self._messages), number=self._number, route=self._layout.home, real_time=True
        )
        for peer in self._layout.peers(self._number):
            self._host.schedule(peer, 0)


class RealTimeHost:
    """It, as a Ray actor, as ``cluster.ray_real_time`` makes them."""

    def __init__(self, scenario: str, number: int, messages: int) -> None:
        self._number = number
        self._shard = RealTimePhold(scenario, number, messages)
        self._others: list[Any] = []

    async def meet(self, others: list[Any]) -> None:
        self._others = others

    async def drive(self, begin: int) -> None:
        await self._shard.drive(self._deliver, begin)

    async def accept(self, sender: int, sequence: int, batch: bytes) -> None:
        self._shard.accept(sender, sequence, batch)

    async def handled(self) -> int:
        return self._shard.report().handled

    async def _deliver(self, destination: int, sequence: int, batch: bytes) -> None:
        await self._others[destination].accept.remote(self._number, sequence, batch)


class WholePeers:
    """A host with its half of a network of whole peers."""

    def __init__(self, number: int, peers: int) -> None:
        self._host = Host(population(peers).build)
        for peer in range(number, peers, HOSTS):
            self._host.schedule(peer, 0)
        self._host.run(1)

    def process(self) -> int:
        return os.getpid()


class Naive:
    """All naive peers."""

    def __init__(self, peers: int) -> None:
        kind: Any = ray.remote(num_cpus=0)(NaivePeer)
        self.actors = [kind.remote() for _ in range(peers)]
        self.processes: list[int] = ray.get([each.process.remote() for each in self.actors])

    def messages_per_s(self, peers: int, messages: int, measure_s: float) -> float:
        """What the first so many of them exchange."""
        some = self.actors[:peers]
        ray.get([each.begin.remote(some, messages) for each in some])
        time.sleep(WARM_S)
        start, before = time.perf_counter(), self._received(some)
        time.sleep(measure_s)
        end, after = time.perf_counter(), self._received(some)
        ray.get([each.end.remote() for each in some])
        last = -1
        while (received := self._received(some)) != last:  # something is still under way
            last = received
        return (after - before) / (end - start)

    def close(self) -> None:
        for each in self.actors:
            ray.kill(each)

    def _received(self, some: Sequence[Any]) -> int:
        return sum(ray.get([each.received.remote() for each in some]))


def in_virtual_time(peers: int, messages: int, measure_s: float) -> float:
    """Messages per second of wall time."""
    kind: Any = ray.remote(num_cpus=0)(VirtualTimeHost)
    hosts = [kind.remote(number, peers, messages) for number in range(HOSTS)]
    try:
        key = secrets.token_bytes(32)
        addresses = ray.get([each.listen.remote(key) for each in hosts])
        ray.get([each.connect.remote(addresses) for each in hosts])
        until = LATENCY_MAX_NS

        def advance() -> int:
            return sum(ray.get([each.advance.remote(until) for each in hosts]))

        stretch = LATENCY_MAX_NS
        before, start = advance(), time.perf_counter()
        handled = before
        while (wall_s := time.perf_counter() - start) < measure_s:
            until += stretch
            began = time.perf_counter()
            handled = advance()
            if time.perf_counter() - began < 0.2:  # as a run does
                stretch *= 2
        return (handled - before) / wall_s
    finally:
        for each in hosts:
            ray.kill(each)


def in_real_time(peers: int, messages: int, measure_s: float) -> float:
    """Messages per second, while hosts follow the clock."""
    scenario = Scenario.from_table(
        {"name": "phold", "peers": peers, "duration_s": WARM_S + measure_s + 2, "time": "real", "join_window_s": 0}
        | {"bootstraps": 1, "workload": {"kind": "none"}}
    )
    kind: Any = ray.remote(num_cpus=0)(RealTimeHost)
    hosts = [kind.remote(scenario.to_toml(), number, messages) for number in range(HOSTS)]

    async def handled() -> int:
        return sum(await asyncio.gather(*[each.handled.remote() for each in hosts]))

    async def measure() -> float:
        await asyncio.gather(*[each.meet.remote(hosts) for each in hosts])
        begin = time.time_ns() + LEAD_NS
        ends = [each.drive.remote(begin) for each in hosts]
        await asyncio.sleep(WARM_S)
        start, before = time.perf_counter(), await handled()
        await asyncio.sleep(measure_s)
        end, after = time.perf_counter(), await handled()
        await asyncio.gather(*ends)
        return (after - before) / (end - start)

    try:
        return asyncio.run(measure())
    finally:
        for each in hosts:
            ray.kill(each)


def whole_peers_bytes(peers: int) -> float:
    """PSS of two hosts with a network of whole peers, by peers."""
    kind: Any = ray.remote(num_cpus=0)(WholePeers)
    hosts = [kind.remote(number, peers) for number in range(HOSTS)]
    try:
        return proportional_set_size(ray.get([each.process.remote() for each in hosts])) / peers
    finally:
        for each in hosts:
            ray.kill(each)


def run(quick: bool) -> Iterator[Row]:
    """Messages among a few peers, and among 10,000 of ours; then memory."""
    loads, measure_s, rounds, crowd = (((2, 20),), 0.5, 1, 200) if quick else (LOADS, MEASURE_S, ROUNDS, CROWD)
    start_ray(None, HOSTS)
    try:
        most = max(peers for peers, _ in loads)
        with closing(Naive(most)) as naive:
            for peers, messages in loads:
                measures = {
                    OURS: partial(in_virtual_time, peers, messages, measure_s),
                    "naive": partial(naive.messages_per_s, peers, messages, measure_s),
                    "real time": partial(in_real_time, peers, messages, measure_s),
                }
                if (peers, messages) == loads[-1]:
                    measures["crowd"] = partial(in_virtual_time, crowd, 1, measure_s)
                    measures["crowd in real time"] = partial(in_real_time, crowd, 1, measure_s)
                figures = interleaved(measures, rounds)
                few = {who: figures[who] for who in (OURS, "naive", "real time")}
                yield _row(f"{peers} peers, {messages} messages of each under way", "messages_per_s", few)
            many = {OURS: figures["crowd"], "naive": figures["naive"], "real time": figures["crowd in real time"]}
            yield _row(f"{crowd} peers, 1 message of each under way, beside the former", "messages_per_s", many)
            naive_bytes = proportional_set_size(naive.processes) / len(naive.processes)
        sizes = {OURS: [GIB / whole_peers_bytes(crowd)], "naive": [GIB / naive_bytes]}
        yield _row(f"{crowd} whole peers beside {most} empty actors", "peers_per_gib", sizes)
    finally:
        ray.shutdown()


def _row(case: str, unit: str, figures: dict[str, list[float]]) -> Row:
    return row("actors", case, unit, figures, cores=HOSTS)


if __name__ == "__main__":
    main(run)
