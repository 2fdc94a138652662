"""Where peers live and how far apart that is.

A geography is a list of regions, how many of the peers live in each, and the one-way latency between any
two. ``regions`` is the world of the libp2p interoperability tests: eight regions weighted by a crawl of
nodes. Weights, Europe's own 2 ms, and its 70 ms to eastern North America and 125 ms to East Asia, and
Australia's 220 ms to South Africa are theirs; the other figures are ours, chosen to fit these from the
lengths of the cables that exist (light in fibre takes 5 ms for 1,000 km, and detours are the rule), so
the triangle inequality is violated here and there, as it is on the Internet.

A matrix by pairs of regions is exact at ten thousand peers and costs nothing, where one by pairs of peers
would have 10**8 entries. What distinguishes two peers of a region is their access delay.
"""

from typing import Final, NamedTuple

from cluster.registry import NETWORKS
from cluster.scenario import Scenario
from cluster.sections import NS_PER_MS


class Geography(NamedTuple):
    """What a network model says of the world."""

    names: tuple[str, ...]
    weights: tuple[int, ...]
    """How many of the peers live where; only the ratios matter."""
    one_way_ns: tuple[tuple[int, ...], ...]
    """``one_way_ns[source][destination]``, without access delays and jitter."""


REGION_NAMES: Final = (
    "europe",
    "na_east",
    "na_west",
    "east_asia",
    "australia",
    "west_asia",
    "south_africa",
    "south_america",
)

_WEIGHTS: Final = (5_599, 2_894, 1_240, 1_059, 290, 161, 47, 36)

# One way, in ms; the lower triangle, in the order of the names, the region itself last.
_ONE_WAY_MS: Final = (
    (2,),
    (70, 2),
    (110, 60, 2),
    (125, 140, 95, 4),
    (160, 145, 105, 105, 2),
    (60, 110, 145, 105, 175, 5),
    (90, 125, 155, 170, 220, 105, 7),
    (140, 95, 105, 175, 190, 150, 190, 4),
)


@NETWORKS.register("regions")
def world_regions(scenario: Scenario) -> Geography:
    """Eight regions of the world."""
    size = len(REGION_NAMES)
    return Geography(
        REGION_NAMES,
        _WEIGHTS,
        tuple(
            tuple(_ONE_WAY_MS[max(row, column)][min(row, column)] * NS_PER_MS for column in range(size))
            for row in range(size)
        ),
    )


@NETWORKS.register("constant")
def constant(scenario: Scenario) -> Geography:
    """One region, and the same ``network.latency_s`` between any two peers."""
    return Geography(("everywhere",), (1,), ((scenario.network.latency_ns,),))


@NETWORKS.register("none")
def nowhere(scenario: Scenario) -> Geography:
    """No delay and no loss: what real-time hosts do between themselves is all there is. Nothing is drawn."""
    return Geography(("everywhere",), (1,), ((0,),))
