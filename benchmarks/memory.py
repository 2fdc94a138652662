"""What a peer costs in memory while nothing happens, a session, and what they consist of.

A peer is whole: its five actors, their contexts, keys, admission, an RPC machine, a DHT node with a table of some
200 contacts, its timers in the host's heap. The tables are those of a network of 10,000, of which so many peers live
in the measured process; contacts are shared between tables, as in any host, and paid for here. Sessions are counted
at both ends, a minute after their handshakes: 128 peers that all have one with all others, with what limiter and RPC
keep for each. The AEAD contexts of sessions that talk are not counted: they are in one cache of 10 MB a host.

Each figure is taken in a process of its own, twice: as Python's allocations (``bytes``), and as what the operating
system gave (``pss_bytes``), which has the libraries' own memory, and what allocators waste between the handshakes'
short-lived objects. The parts are allocations. ``ratio`` is allocations over the bound, 50 kB a peer, 1 kB a session:
above 1, it is missed.
"""

import gc
import os
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any, Final

from actors.actor import Actor
from actors.context import Context
from actors.dht_node import DhtNode
from actors.host import Host, Peer
from actors.peer import SUBSYSTEMS
from actors.setup import PeerSetup
from benchmarks.rows import OURS, Row, main, row, traced_bytes
from cluster.memory import proportional_set_size
from cluster.population import Population
from cluster.scenario import Scenario
from cluster.sections import NS_PER_S
from cluster.world import World
from protocols.contact import Contact
from protocols.noise.contexts import AeadContexts
from protocols.noise.interface import Dial

PEER_BOUND: Final = 50_000
SESSION_BOUND: Final = 1_000

Figures = dict[str, float]


def population(peers: int) -> Population:
    """A network whose peers have joined long ago, and are asked nothing."""
    table = {
        "name": "idle",
        "peers": peers,
        "duration_s": 60,
        "start": "warm",
        "network": {"model": "constant", "loss": 0.0, "duplicate": 0.0, "reorder": 0.0},
        "workload": {"kind": "none"},
    }
    return Population(World(Scenario.from_table(table)), {})


def idle_peers(network: int, count: int, traced: bool) -> Figures:
    """Bytes of each of ``count`` peers, and how many contacts they have."""
    crowd = population(network)
    crowd.build(count, 1)  # whatever is made at the first use
    host = Host(crowd.build)

    def start() -> None:
        for peer in range(count):
            host.schedule(peer, 0)
        host.run(1)

    size = grown(start, traced)
    return {"bytes": size / count, "contacts": _mean_contacts(host, count)}


def sessions(count: int, traced: bool) -> Figures:
    """Bytes of each end of each session, when so many peers all have one with each other."""
    crowd = population(count)
    few = AeadContexts(16)

    def build(peer: int, incarnation: int) -> tuple[PeerSetup, Sequence[type[Actor]]]:
        setup, actors = crowd.build(peer, incarnation)
        return replace(setup, aead=few), actors

    host = Host(build)
    for peer in range(count):
        host.schedule(peer, 0)
    host.run(1)

    def meet() -> None:
        connect_all(host, crowd, count)
        host.run(60 * NS_PER_S)

    size = grown(meet, traced)
    ends = host.counters["sessions_up", "initiator"] + host.counters["sessions_up", "responder"]
    return {"bytes": size / ends, "ends": ends}


def connect_all(host: Host, crowd: Population, peers: int, now: Callable[[], int] = lambda: 1) -> None:
    """Have every peer dial every other one, as many at a time as a peer may."""
    for peer in range(peers):
        for first in range(0, peer, 32):
            for other in range(first, min(first + 32, peer)):
                contact = crowd.contact(other)
                host.now = now()
                host.tell(peer, "sessions", Dial(contact.device, contact.endpoint))
            # Each run hands on what the one before sent: three messages of a handshake, and its confirmation.
            for _ in range(8):
                host.run(now() + 1)


def grown(work: Callable[[], object], traced: bool) -> float:
    """By how many bytes memory grows over ``work``."""
    gc.collect()
    if traced:
        tracemalloc.start()
        work()
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size
    before = proportional_set_size([os.getpid()])
    work()
    gc.collect()
    return proportional_set_size([os.getpid()]) - before


def _mean_contacts(host: Host, count: int) -> float:
    nodes = [host.actor(peer, "dht") for peer in range(count)]
    return sum(len(node.node.table) for node in nodes if isinstance(node, DhtNode)) / count


def alone(measure: Callable[..., Figures], *arguments: Any) -> Figures:
    """What ``measure`` says in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        figures: Figures = pool.apply(measure, arguments)
    return figures


def run(quick: bool) -> Iterator[Row]:
    """Peers, sessions, and the parts of a peer."""
    network, count, mesh = (200, 20, 6) if quick else (10_000, 1_000, 128)
    once = (lambda measure, *arguments: measure(*arguments)) if quick else alone
    by_python, by_system = (once(idle_peers, network, count, traced) for traced in (True, False))
    yield _row("an idle peer without sessions", by_python, by_system, PEER_BOUND, contacts=by_python["contacts"])
    by_python, by_system = (once(sessions, mesh, traced) for traced in (True, False))
    yield _row("an end of a session", by_python, by_system, SESSION_BOUND)
    yield from _parts(network, 10 if quick else 200)


def _row(case: str, by_python: Figures, by_system: Figures, bound: int, **more: float) -> Row:
    result = row("memory", case, "bytes", {OURS: [by_python["bytes"]]}) | more
    ratio = by_python["bytes"] / bound
    return result | {"pss_bytes": round(by_system["bytes"]), "bound_bytes": bound, "ratio": round(ratio, 3)}


def _parts(network: int, count: int) -> Iterator[Row]:
    """What one more of each costs; the parts of an idle peer, but for its timers and its keys."""
    crowd = population(network)
    setups = [crowd.build(peer, 1)[0] for peer in range(count + 1)]
    parts: dict[str, Callable[[int], object]] = {
        "a peer's setup and keys": lambda number: crowd.build(count + number, 1)[0],
        "a contact that nobody knows yet": lambda number: Contact(number.to_bytes(32), 2**40 + number),
    }
    for kind in SUBSYSTEMS:
        parts[f"{kind.__name__}, idle"] = partial(lambda kind, number: kind(setups[number]), kind)
    host = Host(crowd.build)
    actor = SUBSYSTEMS[0](setups[0])
    parts["a context"] = lambda number: Context(host, Peer(number), actor)
    for name, make in parts.items():
        yield row("memory", f"part: {name}", "bytes", {OURS: [traced_bytes(make, count)]})


if __name__ == "__main__":
    main(run)
