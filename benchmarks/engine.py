"""The engine beside a bare heap loop of the same events (PHOLD).

PHOLD is the usual yardstick of discrete-event simulators: every actor starts with one message, and whoever
gets a message sends it on to a random actor after a random delay, so as many events as actors are pending at
any time. The bare loop is what one writes by hand for it: a heap, a list of actors, a method call. The engine
does the same with bounds, timers, counters, incarnations and the digest over every message.

A second table is the window: what a round between shards costs, next to the same round as Ray calls.

``ratio`` of PHOLD is our rate over the bare loop's: 0.5 is the bound. That of a window is our time over that of the
Ray calls: below 1, ours is the faster.
"""

import gc
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from heapq import heappop, heappush
from multiprocessing import Process, Queue
from typing import Any, ClassVar, Final

from actors.actor import Actor, handles
from actors.context import Context
from actors.host import Host
from benchmarks.rows import OURS, Row, interleaved, main, row, time_us
from cluster.exchange import Exchange
from protocols.messages import Packet

EVENTS: Final = 200_000
ROUNDS: Final = 11
PAYLOAD: Final = bytes(100)
DELAY_MIN_NS, DELAY_MAX_NS = 1_000_000, 20_000_000


class Delays:
    """A network that delays at random."""

    def __init__(self) -> None:
        self._random = random.Random(1)

    def transit(self, source: int, destination: int, size: int, sent_at: int, ordinal: int) -> tuple[int, ...]:
        return (sent_at + self._random.randrange(DELAY_MIN_NS, DELAY_MAX_NS),)


class Phold(Actor):
    """Sends on what it gets."""

    __slots__ = ("_actors", "_own", "_random", "count")

    service: ClassVar[str] = "limiter"

    def __init__(self, setup: tuple[int, int, random.Random]) -> None:
        self._own, self._actors, self._random = setup
        self.count = 0

    def start(self, ctx: Context) -> None:
        ctx.transmit(self._other(), PAYLOAD)

    @handles(Packet)
    def receive(self, packet: Packet, ctx: Context) -> None:
        self.count += 1
        ctx.transmit(self._other(), packet.data)

    def _other(self) -> int:
        """A host carries no packets from a peer to itself: they would be lost, and the load with them."""
        other = self._random.randrange(self._actors - 1)
        return other + (other >= self._own)


class BareActor:
    """The same, by hand."""

    __slots__ = ("_actors", "_delays", "_random", "count")

    def __init__(self, actors: int, choices: random.Random, delays: random.Random) -> None:
        self._actors = actors
        self._random = choices
        self._delays = delays
        self.count = 0

    def receive(self, data: bytes, now: int) -> tuple[int, int, bytes]:
        self.count += 1
        return now + self._delays.randrange(DELAY_MIN_NS, DELAY_MAX_NS), self._random.randrange(self._actors), data


def settle() -> None:
    """Have the collector leave alone what lives as long as the run, as a shard does, too."""
    gc.collect()
    gc.freeze()


def bare(actors: int, events: int = EVENTS) -> float:
    """Events per second of the loop by hand."""
    choices, delays = random.Random(2), random.Random(1)
    population = [BareActor(actors, choices, delays) for _ in range(actors)]
    heap: list[tuple[int, int, int, int, bytes]] = []
    sequence = 0
    for number, actor in enumerate(population):
        sequence += 1
        at, destination, data = actor.receive(PAYLOAD, 0)
        heappush(heap, (at, destination, number, sequence, data))
    started = time.perf_counter()
    for _ in range(events):
        now, number, _, _, data = heappop(heap)
        sequence += 1
        at, destination, data = population[number].receive(data, now)
        heappush(heap, (at, destination, number, sequence, data))
    return events / (time.perf_counter() - started)


def engine(actors: int, events: int = EVENTS) -> float:
    """Events per second of the host."""
    choices = random.Random(2)
    host = Host(lambda peer, incarnation: ((peer, actors, choices), (Phold,)), network=Delays())
    for peer in range(actors):
        host.schedule(peer, 0)
    host.run(1)
    until = 1
    before = host.handled
    settle()
    started = time.perf_counter()
    while host.handled - before < events:
        until += DELAY_MIN_NS
        host.run(until)
    return (host.handled - before) / (time.perf_counter() - started)


def _rounds(number: int, shards: int, inbox: Any, outbox: Any, rounds: int) -> None:
    exchange = Exchange(number, shards, b"benchmark")
    outbox.put((number, exchange.address))
    exchange.connect(inbox.get())
    started = time.perf_counter()
    for _ in range(rounds):
        exchange.round(0, [bytes(200)] * shards)
    if number == 0:
        outbox.put((time.perf_counter() - started) / rounds)
    exchange.close()


def window(shards: int, rounds: int = 2_000) -> float:
    """Seconds that one round between shards takes, 200 bytes each way."""
    outbox: Queue[Any] = Queue()
    inboxes: list[Queue[Any]] = [Queue() for _ in range(shards)]
    workers = [
        Process(target=_rounds, args=(number, shards, inboxes[number], outbox, rounds)) for number in range(shards)
    ]
    for worker in workers:
        worker.start()
    addresses = dict(outbox.get() for _ in workers)
    for inbox in inboxes:
        inbox.put([addresses[number] for number in range(shards)])
    seconds: float = outbox.get()
    for worker in workers:
        worker.join()
    return seconds


def ray_window(shards: int, rounds: int = 200) -> float:
    """Seconds of the same round as Ray calls: the driver calls every shard and forwards the batches."""
    import ray  # noqa: PLC0415 - only this row needs it

    from cluster.ray_shards import start_ray  # noqa: PLC0415

    start_ray(None, shards)

    class Echo:
        def round(self, batches: list[bytes]) -> list[bytes]:
            return [bytes(200)] * shards

    echo: Any = ray.remote(num_cpus=1)(Echo)
    actors = [echo.remote() for _ in range(shards)]
    batches: list[list[bytes]] = [[b""] * shards for _ in range(shards)]
    try:
        for count in (10, rounds):
            started = time.perf_counter()
            for _ in range(count):
                out = ray.get([actor.round.remote(batches[number]) for number, actor in enumerate(actors)])
                batches = [[out[source][number] for source in range(shards)] for number in range(shards)]
        return (time.perf_counter() - started) / rounds
    finally:
        ray.shutdown()


def span_ns(calls: int) -> float:
    """What telemetry adds to an event outside of any trace: a handler that asks for a span and gets none."""
    host = Host(lambda peer, incarnation: ((peer, 2, random.Random(2)), (Phold,)), network=Delays())
    for peer in range(2):
        host.schedule(peer, 0)
    host.run(1)
    context = host.peers[0].contexts["limiter"]  # type: ignore[union-attr]

    def handler() -> None:
        context.finish(context.local_span("nothing"))

    return 1_000 * time_us(handler, calls)


def alone(measure: Callable[[], float]) -> float:
    """A measurement in a process of its own: a heap that earlier rounds have littered is a third slower."""
    outcome: Queue[float] = Queue()
    process = Process(target=lambda: outcome.put(measure()))
    process.start()
    figure = outcome.get()
    process.join()
    return figure


def run(quick: bool) -> Iterator[Row]:
    """PHOLD at two sizes, then the window."""
    rounds, events = (1, 1_000) if quick else (ROUNDS, EVENTS)
    for actors in (100,) if quick else (1_000, 10_000):
        measures = {
            OURS: partial(alone, partial(engine, actors, events)),
            "bare loop": partial(alone, partial(bare, actors, events)),
        }
        yield row("engine", f"PHOLD, {actors} actors", "events_per_s", interleaved(measures, rounds))
    yield row("engine", "a span that is not recorded", "ns", {OURS: [span_ns(calls=events) for _ in range(rounds)]})
    if quick:
        return
    direct, through_ray = [1e6 * window(2) for _ in range(3)], 1e6 * ray_window(2)
    yield row("engine", "window, 2 shards", "us", {OURS: direct, "ray calls": [through_ray] * 3}, cores=2)


if __name__ == "__main__":
    main(run)
