"""What happens to a datagram between two peers.

It takes the one-way latency of their regions, the delay of both lines, and a jitter that only adds; or it
is lost, doubled, held back, or stopped by a partition. All of it hangs on one hash over the key, the
link, the time and the packet's number within its event: no state, so what one link draws moves no other,
and any shard can say what happened to any packet.

What a partition stops is decided when the packet leaves. A packet under way when the cut begins arrives.

This is called once per packet, hence the prefix hash (BLAKE2b with the key before the message; its keyed
mode costs a block more and a hash function without length extension needs none), the flat table of region
pairs, and probabilities as thresholds of 32-bit integers.
"""

from hashlib import blake2b
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from actors.randomness import derive_key
from cluster.sampling import log_normal
from cluster.sections import Partition, exact, nanoseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.scenario import Scenario
    from cluster.world import World

JITTERS: Final = 4_096
"""Equally likely jitters, a power of two; the largest belongs to one packet in so many."""

_pack: Final = Struct("<32sQQQQ").pack
_unpack: Final = Struct("<IIIII44x").unpack


class _Cut(NamedTuple):
    """A partition, with every pair of regions that it separates marked at ``source * regions + destination``."""

    from_ns: int
    until_ns: int
    severed: bytes


class Network:
    """The wire between all peers; any number of copies agree with each other."""

    __slots__ = (
        "_access",
        "_base",
        "_cuts",
        "_duplicate",
        "_jitter",
        "_key",
        "_loss",
        "_regions",
        "_reorder",
        "_reorder_delay",
        "_rows",
        "_world",
        "drops",
    )

    def __init__(self, scenario: "Scenario", seed: int, world: "World") -> None:
        network = scenario.network
        size = len(world.geography.names)
        self.drops: Final[dict[str, int]] = {"lost": 0, "partitioned": 0, "unreachable": 0}
        """Packets that did not arrive, by reason; "unreachable" is an endpoint that nobody has."""
        self._world = world
        self._key = derive_key(seed, "links")
        self._regions = world.regions
        self._rows = [region * size for region in world.regions]
        self._access = world.access_ns
        self._base = tuple(each for row in world.geography.one_way_ns for each in row)
        self._loss = _threshold(network.loss)
        self._duplicate = _threshold(network.duplicate)
        self._reorder = _threshold(network.reorder)
        self._reorder_delay = nanoseconds(network.reorder_delay_s)
        median_ns = nanoseconds(network.jitter_median_s)
        self._jitter = (
            log_normal(median_ns, exact(network.jitter_sigma)).equally_likely(JITTERS) if median_ns else (0,) * JITTERS
        )
        self._cuts = tuple(_cut(each, world.geography.names) for each in network.partitions)

    def transit(self, source: int, destination: int, size: int, sent_at: int, ordinal: int) -> tuple[int, ...]:
        """When the copies of a datagram arrive, in ns; nothing if it is lost.

        ``ordinal`` is its number among those that the event at ``sent_at`` sends. ``size`` is for models of
        bandwidth; this network has none.
        """
        loss, draw, held_back, doubled, more = _unpack(
            blake2b(_pack(self._key, source, destination, sent_at, ordinal)).digest()
        )
        if loss < self._loss:
            self.drops["lost"] += 1
            return ()
        try:
            pair = self._rows[source] + self._regions[destination]
        except IndexError:
            self.drops["unreachable"] += 1
            return ()
        if self._cuts:
            for from_ns, until_ns, severed in self._cuts:
                if from_ns <= sent_at < until_ns and severed[pair]:
                    self.drops["partitioned"] += 1
                    return ()
        access = self._access
        arrival = sent_at + self._base[pair] + access[source] + access[destination] + self._jitter[draw & 4_095]
        if held_back < self._reorder:
            arrival += 1 + (self._reorder_delay * (draw >> 12) >> 20)
        if doubled < self._duplicate:
            return arrival, arrival + 1 + self._jitter[more & 4_095]
        return (arrival,)

    def floor(self, source_region: int, destination_region: int) -> int:
        """The least latency between peers of two regions, in ns, before their lines."""
        return self._world.geography.one_way_ns[source_region][destination_region]

    def lookahead(self, assignment: "Sequence[int]") -> int:
        """The least time a packet between two shards can take; see ``World.lookahead``."""
        return self._world.lookahead(assignment)


def _threshold(probability: float) -> int:
    """What a uniform 32-bit integer is below with this probability."""
    return int((exact(probability) * (1 << 32)).to_integral_value())


def _cut(partition: Partition, names: "Sequence[str]") -> _Cut:
    groups = partition.groups or (
        partition.regions,
        tuple(name for name in names if name not in partition.regions),
    )
    group_of = {name: index for index, group in enumerate(groups) for name in group}
    severed = bytearray()
    for source in names:
        for destination in names:
            here, there = group_of.get(source, -1), group_of.get(destination, -1)
            apart = here != there and min(here, there) >= 0
            severed.append(apart and (here < there or not partition.one_way))
    return _Cut(nanoseconds(partition.from_s), nanoseconds(partition.until_s), bytes(severed))
