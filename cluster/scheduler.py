"""Virtual time on several hosts: windows as long as the lookahead, and never empty.

What a host does before ``earliest + lookahead`` cannot depend on what another host has yet to do, since
no packet between two hosts is faster than the lookahead and no host has an event before ``earliest``. So
all hosts run that window at once, exchange what crosses, and find the next ``earliest`` in the same round.
Idle time costs nothing: the next window starts at the next event, wherever it is.

This is the conservative scheme of Chandy, Misra and Bryant with a barrier in place of null messages: in
a DHT everybody talks to everybody. Optimistic schemes would have to roll back keys and counters.
"""

from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final

from actors.host import Host
from cluster.exchange import Exchange


@dataclass(slots=True)
class TimeShare:
    """Where a shard's wall time went, in ns, and how many windows it took."""

    handlers: int = 0
    packing: int = 0
    waiting: int = 0
    windows: int = 0


class Scheduler:
    """Drives one host through virtual time, in step with the hosts that ``exchange`` reaches."""

    def __init__(self, host: Host, lookahead: int, exchange: Exchange | None = None, shards: int = 1) -> None:
        self._host: Final = host
        self._lookahead: Final = lookahead
        self._exchange: Final = exchange
        self._shards: Final = shards
        self.share: Final = TimeShare()

    def advance(self, until: int) -> None:
        """Handle every event before ``until``; every shard of a run must be given the same ``until``."""
        share = self.share
        host = self._host
        if self._exchange is None:
            started = perf_counter_ns()
            host.run(until)
            share.handlers += perf_counter_ns() - started
            share.windows += 1
            return
        while True:
            started = perf_counter_ns()
            earliest = min(host.next_time(), host.earliest_departure())
            batches = [host.take_outbox(number) for number in range(self._shards)]
            packed = perf_counter_ns()
            earliest, received = self._exchange.round(earliest, batches)
            arrived = perf_counter_ns()
            for batch in received:
                host.accept(batch)
            unpacked = perf_counter_ns()
            share.packing += packed - started + unpacked - arrived
            share.waiting += arrived - packed
            if earliest >= until:
                return
            host.run(min(earliest + self._lookahead, until))
            share.handlers += perf_counter_ns() - unpacked
            share.windows += 1
