"""A shard: a host with a core's share of the peers, and the part of the run that happens there.

``Shard`` is a plain class. ``--inline`` runs one of it in this process; on Ray it is made an actor, one a
core, in one place (``simulation``). What it is given are a scenario's text and its own number; what it gives
back are reports as bytes, so nothing of it depends on how Ray pickles things.
"""

import gc
from collections.abc import Sequence
from typing import Final

import msgspec

from actors.host import EventRow, Host, SpanRow
from cluster.charges import TABLES
from cluster.exchange import Exchange
from cluster.network import Network
from cluster.population import Population
from cluster.registry import WORKLOADS
from cluster.scenario import Scenario
from cluster.scheduler import Scheduler
from cluster.world import World
from protocols.messages import encode

TICK_NS: Final = 10_000_000_000
"""Between two rows of the series: ten seconds of virtual time."""

PHI: Final = 0.6180339887498949
"""Multiples of the golden ratio spread evenly over the unit interval, so any share of the peers is a fair one."""


class Report(msgspec.Struct, array_like=True):
    """What a shard says after each stretch of virtual time. Counters are running totals; rows are new."""

    shard: int
    now: int
    handled: int
    up: int
    counters: list[tuple[str, str, int]]
    histograms: dict[str, dict[int, int]]
    events: list[EventRow]
    spans: list[SpanRow]
    windows: int
    handlers_ns: int
    packing_ns: int
    waiting_ns: int


_decode: Final = msgspec.msgpack.Decoder(Report).decode


class Shard:
    """One host of a virtual-time run."""

    def __init__(self, scenario: str, number: int, shards: int) -> None:
        self._scenario: Final = Scenario.from_toml(scenario)
        self._number: Final = number
        self._shards: Final = shards
        self._exchange: Exchange | None = None

    def listen(self, hosts: Sequence[str], key: bytes) -> tuple[str, int]:
        """Wait for the other shards at this shard's host; returns the address.

        Args:
            hosts: of every shard, an address of the machine it is on.
            key: what all shards of a run know, and nobody else.
        """
        self._exchange = Exchange(self._number, self._shards, key, hosts[self._number])
        return self._exchange.address

    def prepare(self, addresses: list[tuple[str, int]]) -> int:
        """Build the peers, meet the other shards.

        Returns:
            the number of peers here.
        """
        scenario = self._scenario
        world = World(scenario)
        homes = world.assign(self._shards)
        network = Network(scenario, scenario.seed, world)
        population = Population(world, WORKLOADS.find(scenario.workload.kind).make.plan(scenario, world))
        last = len(homes)
        self._network = network
        self._host = Host(
            population.build,
            seed=scenario.seed,
            network=network,
            disks=population.disks,
            costs=TABLES[scenario.charge],
            sample=scenario.telemetry.sample,
            number=self._number,
            route=(lambda peer, _: homes[peer] if 0 <= peer < last else -1) if self._shards > 1 else None,
        )
        mine = [peer for peer, home in enumerate(homes) if home == self._number]
        population.schedule(self._host, mine)
        self._scheduler = Scheduler(self._host, world.lookahead(homes), self._exchange, self._shards)
        if self._exchange is not None:
            self._exchange.connect(addresses)
        # What exists now lives as long as the run: the collector need not walk over it again and again.
        gc.collect()
        gc.freeze()
        return len(mine)

    def advance(self, until: int) -> bytes:
        """Run to ``until`` together with the other shards; the report of what happened since the last one."""
        self._scheduler.advance(until)
        return encode_report(self.report(until))

    def report(self, now: int) -> Report:
        host = self._host
        share = self._scheduler.share
        report = Report(
            self._number,
            now,
            host.handled,
            host.running,
            totals(host, self._network),
            host.histograms,
            kept(host.events, self._scenario.telemetry.events),
            host.spans,
            share.windows,
            share.handlers,
            share.packing,
            share.waiting,
        )
        host.events, host.spans = [], []
        return report

    def digests(self) -> dict[int, bytes]:
        """Per peer of this shard, the hash over every message it handled."""
        return self._host.digests()

    def close(self) -> None:
        """Leave the run."""
        if self._exchange is not None:
            self._exchange.close()


def totals(host: Host, network: Network | None) -> list[tuple[str, str, int]]:
    """Every counter of a host and of its copy of the network: name, label, running total."""
    counters = [(name, label, n) for (name, label), n in sorted(host.counters.items())]
    counters += [("packets_sent", "", host.packets_sent), ("bytes_sent", "", host.bytes_sent)]
    drops = {} if network is None else network.drops
    return counters + [("packets_dropped", reason, n) for reason, n in drops.items() if n]


def kept(events: list[EventRow], share: float) -> list[EventRow]:
    """The events of this share of the peers; what the workload notes is kept whole, as results come from it."""
    if share >= 1:
        return events
    return [row for row in events if row.service == "workload" or row.peer * PHI % 1.0 < share]


def encode_report(report: Report) -> bytes:
    return encode(report)


def decode_report(data: bytes) -> Report:
    return _decode(data)
