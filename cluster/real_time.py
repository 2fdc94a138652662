"""A run in real time: the same hosts and actors, driven by asyncio and the machine's clock.

A placement says how many actors share a host, and so a Ray actor: all of a core's peers (``packed``), those of
one peer (``peer``), or a single one (``subsystem``), so that every rate limiter, session manager, RPC and DHT
node is a Ray actor of its own. Which it is shows nowhere in the actors.

Between Ray actors travel batches: once a turn of the event loop everything for one destination goes in one
call. Ray orders nothing between calls of an async actor, so batches carry sequence numbers and the receiver puts
them in order; and a sender has so many credits per destination, so a slow receiver fills the sender's outbox,
whose packets are shed when it is full, and never Ray's queues.

All hosts count from one instant of the wall clock that the driver chose, so spans and packets of different hosts
have comparable times: exactly on one machine, as well as its clocks are set on several. From then on each
follows its monotonic clock.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from actors.actor import Actor
from actors.host import ENTRY_SERVICE, Host
from cluster.disk import Disks
from cluster.memory import family_memory
from cluster.network import Network
from cluster.options import ScenarioError
from cluster.population import Population, SimulatedSetup
from cluster.registry import WORKLOADS
from cluster.scenario import Scenario
from cluster.sections import NS_PER_S
from cluster.shard import TICK_NS, Report, kept, totals
from cluster.simulation import Outcome, Progress, Sample
from cluster.world import World

if TYPE_CHECKING:
    from cluster.sqlite_disks import SqliteDisks

CREDITS: Final = 4
"""Batches under way to one destination: enough to hide a call's millisecond, few enough to bound its queue."""

STATUS_S: Final = 0.5
"""How often the driver asks how far everybody is."""

LEAD_NS: Final = 50_000_000
"""How long before time begins the driver tells the hosts when it does; a call to a Ray actor takes a millisecond."""

SERVICES: Final = ("identity", "limiter", "sessions", "rpc", "dht", "workload")
"""The actors that placement ``subsystem`` gives a host of their own; where peers have disks, the journal too."""

ONCE_PER_PEER: Final = ("peers_started", "peers_stopped")
"""What a host counts for every peer, so that only one of a peer's hosts may."""

Deliver = Callable[[int, int, bytes], Awaitable[None]]
"""``(destination, sequence, batch)``: have the destination's host accept a batch."""


class Layout:
    """Which host runs which actor."""

    def __init__(self, scenario: Scenario, hosts: int) -> None:
        self._placement: Final = scenario.placement
        self._services: Final = SERVICES if scenario.disk.kind == "none" else (*SERVICES, "journal")
        self._peers: Final = scenario.peers
        if scenario.placement == "subsystem":
            self.hosts = scenario.peers * len(self._services)
        elif scenario.placement == "peer":
            self.hosts = scenario.peers
        else:
            self.hosts = max(1, min(hosts, scenario.peers))

    def home(self, peer: int, service: str) -> int:
        """The host of an actor; negative for peers that do not exist."""
        if not 0 <= peer < self._peers:
            return -1
        if self._placement == "subsystem":
            return peer * len(self._services) + self._services.index(service)
        return peer if self._placement == "peer" else peer % self.hosts

    def peers(self, host: int) -> Sequence[int]:
        """The peers that have an actor on a host."""
        if self._placement == "subsystem":
            return (host // len(self._services),)
        return range(host, self._peers, self.hosts)

    def service(self, host: int) -> str | None:
        """The one service that a host runs, ``None`` if it runs whole peers."""
        return self._services[host % len(self._services)] if self._placement == "subsystem" else None

    def counts_peers(self, host: int) -> bool:
        """Whether a host is the one of its peers' hosts that counts them: where their packets arrive."""
        return self.service(host) in (None, ENTRY_SERVICE)

    def name(self, host: int) -> str:
        """What to call a host in a message."""
        if self._placement == "subsystem":
            return f"the {self.service(host)} of peer {host // len(self._services)}"
        return f"peer {host}" if self._placement == "peer" else f"host {host}"


class RealTimeShard:
    """One host of a real-time run, and the loop that drives it."""

    def __init__(self, scenario: str, number: int, hosts: int) -> None:
        self._scenario: Final = Scenario.from_toml(scenario)
        self._number: Final = number
        self._layout: Final = Layout(self._scenario, hosts)
        self._wake = asyncio.Event()
        self._sent: dict[int, int] = {}
        self._credits: dict[int, int] = {}
        self._expected: dict[int, int] = {}
        self._early: dict[int, dict[int, bytes]] = {}
        self._flights: set[asyncio.Task[None]] = set()
        self._began: int | None = None
        self._failure: Exception | None = None
        self._disks: Disks | SqliteDisks | None = None  # of the peers that ``_prepare`` makes
        self._prepare()

    def _prepare(self) -> None:
        scenario = self._scenario
        world = World(scenario)
        population = Population(world, WORKLOADS.find(scenario.workload.kind).make.plan(scenario, world))
        only = self._layout.service(self._number)

        def build(peer: int, incarnation: int) -> tuple[SimulatedSetup, Sequence[type[Actor]]]:
            setup, actors = population.build(peer, incarnation)
            return setup, [actor for actor in actors if only is None or actor.service == only]

        self._disks = population.disks
        self._network = Network(scenario, scenario.seed, world) if scenario.network.model != "none" else None
        self._host = Host(
            build,
            seed=scenario.seed,
            network=self._network,
            disks=population.disks,
            number=self._number,
            route=self._layout.home if self._layout.hosts > 1 else None,
            real_time=True,
            sample=scenario.telemetry.sample,
        )
        population.schedule(self._host, self._layout.peers(self._number))

    def accept(self, sender: int, sequence: int, batch: bytes) -> None:
        """Take a batch of another host, in the order in which it was sent."""
        early = self._early.setdefault(sender, {})  # never more than a sender has credits for
        early[sequence] = batch
        self._host.now = self._clock()
        while (following := early.pop(self._expected.get(sender, 0), None)) is not None:
            self._expected[sender] = self._expected.get(sender, 0) + 1
            try:
                self._host.accept(following)
            except Exception as error:
                self._failure = error  # of an actor of ours, not of the host that waits for this call
        self._wake.set()

    async def drive(self, deliver: Deliver, begin: int) -> None:
        """Run the host from the wall clock's ``begin`` (ns since 1970) until the scenario's time is over.

        Raises:
            HandlerError: an actor failed by a bug.
        """
        try:
            await self._drive(deliver, begin)
        finally:
            if self._disks is not None:
                self._disks.close()

    async def _drive(self, deliver: Deliver, begin: int) -> None:
        self._began = time.monotonic_ns() + begin - time.time_ns()
        if (wait := self._began - time.monotonic_ns()) > 0:
            await asyncio.sleep(wait / NS_PER_S)
        end = self._scenario.duration_ns
        host = self._host
        while (now := self._clock()) < end:
            self._wake.clear()
            host.run(now + 1)
            if self._failure is not None:
                raise self._failure
            self._flush(deliver)
            pause = min(host.next_time(), end) - self._clock()
            if pause > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause / NS_PER_S)
            else:
                await asyncio.sleep(0)
        for flight in tuple(self._flights):
            flight.cancel()

    def report(self) -> Report:
        """What happened since the last report."""
        host = self._host
        counts_peers = self._layout.counts_peers(self._number)
        counters = [each for each in totals(host, self._network) if counts_peers or each[0] not in ONCE_PER_PEER]
        now = min(self._clock(), self._scenario.duration_ns)
        report = Report(
            self._number,
            now,
            host.handled,
            host.running if counts_peers else 0,
            counters,
            host.histograms,
            kept(host.events, self._scenario.telemetry.events),
            host.spans,
            0,
            0,
            0,
            0,
        )
        host.events, host.spans = [], []
        return report

    def _clock(self) -> int:
        """Nanoseconds since the run began; 0 before."""
        return 0 if self._began is None else max(0, time.monotonic_ns() - self._began)

    def _flush(self, deliver: Deliver) -> None:
        """Send what waits for every destination that has a credit left."""
        for destination in tuple(self._host.outboxes):
            if self._credits.get(destination, CREDITS) <= 0:
                continue
            batch = self._host.take_outbox(destination)
            sequence = self._sent.get(destination, 0)
            self._sent[destination] = sequence + 1
            self._credits[destination] = self._credits.get(destination, CREDITS) - 1
            flight = asyncio.ensure_future(self._fly(deliver, destination, sequence, batch))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)

    async def _fly(self, deliver: Deliver, destination: int, sequence: int, batch: bytes) -> None:
        try:
            await deliver(destination, sequence, batch)
        finally:
            self._credits[destination] += 1
            self._wake.set()


class RealTimeShards(Protocol):
    """The hosts of a real-time run, wherever they are."""

    @property
    def hosts(self) -> int:
        """How many there are."""
        ...

    async def start(self) -> None:
        """Build all peers, and let time begin."""
        ...

    async def reports(self) -> list[Report]:
        """What happened at every host since the last time."""
        ...

    async def finish(self) -> None:
        """Wait for the end of the run; raises what a host raised."""
        ...

    def close(self) -> None:
        """Let go of everything, also after a failure."""
        ...


class InlineRealTime:
    """One host, in this process."""

    hosts = 1

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario

    async def start(self) -> None:
        self._shard = RealTimeShard(self._scenario.to_toml(), 0, 1)
        self._run = asyncio.ensure_future(self._shard.drive(self._nowhere, time.time_ns()))

    async def reports(self) -> list[Report]:
        return [self._shard.report()]

    async def finish(self) -> None:
        await self._run

    def close(self) -> None:
        return

    async def _nowhere(self, destination: int, sequence: int, batch: bytes) -> None:
        raise AssertionError("a single host has nobody to send to")


def simulate_real(
    scenario: Scenario,
    *,
    inline: bool = False,
    address: str | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Run a real-time scenario to its end; the arguments are those of ``simulation.simulate``.

    Raises:
        ShardLostError: a Ray actor died.
        HandlerError: an actor failed by a bug.
        LocalError: the cluster cannot run this.
    """
    if inline and scenario.placement != "packed":
        raise ScenarioError("placement", f"{scenario.placement!r} needs Ray; an inline run is 'packed'")
    started = time.perf_counter()
    shards = _shards(scenario, inline, address)
    outcome = Outcome(scenario, shards.hosts)
    with closing(shards):
        try:
            asyncio.run(_drive(shards, outcome, started, watch))
        except KeyboardInterrupt:
            outcome.interrupted = True
    return outcome


def _shards(scenario: Scenario, inline: bool, address: str | None) -> RealTimeShards:
    if inline:
        return InlineRealTime(scenario)
    from cluster.ray_real_time import RayRealTime  # noqa: PLC0415 - an inline run needs no Ray

    return RayRealTime(scenario, address)


async def _drive(
    shards: RealTimeShards, outcome: Outcome, started: float, watch: Callable[[Progress], None] | None
) -> None:
    await shards.start()
    outcome.ready_s = time.perf_counter() - started
    duration = outcome.scenario.duration_ns
    began = time.perf_counter()
    end = asyncio.ensure_future(shards.finish())
    try:
        next_sample = TICK_NS
        while not end.done():
            await asyncio.wait([end], timeout=STATUS_S)
            reports = await _unless(end, shards.reports())
            if reports is None:
                break
            outcome.reports = reports
            outcome.wall_s = time.perf_counter() - began
            for report in reports:
                outcome.events += report.events
                outcome.spans += report.spans
            if outcome.now >= next_sample or end.done():
                outcome.series += [
                    Sample(outcome.now, name, label, n) for (name, label), n in outcome.counters().items()
                ]
                outcome.peak_memory = max(outcome.peak_memory, family_memory())
                next_sample += TICK_NS
            if watch is not None:
                up = sum(report.up for report in reports)
                watch(Progress(outcome.now, duration, outcome.handled, outcome.wall_s, up))
        await end
    finally:
        await _discard(end)


async def _unless(end: asyncio.Future[None], question: Awaitable[list[Report]]) -> list[Report] | None:
    """The answer, unless the run fails first: then it is the run's failure that says why, and there is none."""
    answer = asyncio.ensure_future(question)
    waiting: tuple[asyncio.Future[Any], ...] = (answer, end)
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if end.done() and (end.cancelled() or end.exception() is not None):
        await _discard(answer)
        return None
    return await answer


async def _discard(future: asyncio.Future[Any]) -> None:
    """Nobody wants to know any more, not even of its failure."""
    future.cancel()
    await asyncio.wait([future])
    if not future.cancelled():
        future.exception()
