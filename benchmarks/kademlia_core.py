"""Kademlia without a network: finding the nearest contacts, building a table, answering a request, memory.

Beside it: sorting everybody at each question, which is the simplest thing and what the earlier implementation did, and
the ``kademlia`` package, whose walk over its buckets is not exact. Its ids have 160 bits, ours 256.

    python -m benchmarks.kademlia_core
"""

import asyncio
import random
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter_ns

from benchmarks.rows import Row, main
from protocols.contact import Contact, node_id
from protocols.kademlia.config import KademliaConfig
from protocols.kademlia.messages import REQUESTS, FindNode
from protocols.kademlia.node import KademliaNode
from protocols.kademlia.routing import RoutingTable

OWN = b"own".ljust(32)
K = 20
ROUNDS = 7

RNG = random.Random(1)
CONTACTS = [Contact(RNG.randbytes(32), number) for number in range(5_000)]
TARGETS = [RNG.getrandbits(256) for _ in range(200)]
IDS = {contact: node_id(contact.device) for contact in CONTACTS}


def run() -> Iterator[Row]:
    own = node_id(OWN)
    everybody = RoutingTable.from_contacts(own, CONTACTS, 0, k=len(CONTACTS))
    usual = RoutingTable.from_contacts(own, CONTACTS, 0, k=K)
    closest = f"the {K} closest of 5,000"
    yield {"case": closest, "who": "spacepanda", "us": _us(partial(_closest, everybody), len(TARGETS))}
    yield {"case": closest, "who": "sorting all", "us": _us(partial(_sort_all, TARGETS[:10]), 10)}
    usual_case = f"the {K} closest of a table that met 5,000"
    usual_us = _us(partial(_closest, usual), len(TARGETS))
    yield {"case": usual_case, "who": "spacepanda", "us": usual_us, "contacts": len(usual)}
    yield from _package(usual_case)

    few = CONTACTS[:400]
    table = RoutingTable.from_contacts(own, few, 0)
    us = _us(partial(RoutingTable.from_contacts, own, few, 0), 1)
    yield {"case": "a table from 400 contacts", "who": "spacepanda", "us": us, "contacts": len(table)}

    node = _warm_node(0)
    us = _us(partial(_answer, node), len(TARGETS))
    yield {"case": "FIND_NODE to NODES, bytes to bytes", "who": "spacepanda", "us": us}

    warm = _bytes(_warm_node)
    fresh = _bytes(lambda number: KademliaNode(CONTACTS[number].device, KademliaConfig()))
    contacts = len(_warm_node(0).table)
    yield {"case": "a node without contacts", "who": "spacepanda", "bytes": fresh}
    yield {"case": "a node with contacts", "who": "spacepanda", "bytes": warm, "contacts": contacts}


def _us(work: Callable[[], object], calls: int) -> float:
    """Microseconds per call in the best of several rounds."""

    def timed() -> int:
        start = perf_counter_ns()
        work()
        return perf_counter_ns() - start

    return round(min(timed() for _ in range(ROUNDS)) / calls / 1_000, 2)


def _bytes(make: Callable[[int], object], count: int = 200) -> int:
    """What one more of these costs beside the contacts, which are shared."""
    make(0)
    tracemalloc.start()
    try:
        kept = [make(number) for number in range(1, count + 1)]
        return tracemalloc.get_traced_memory()[0] // len(kept)
    finally:
        tracemalloc.stop()


def _warm_node(number: int) -> KademliaNode:
    node = KademliaNode(CONTACTS[number].device, KademliaConfig())
    node.adopt(CONTACTS, 0)
    return node


def _closest(table: RoutingTable) -> list[list[Contact]]:
    return [table.closest(target, K) for target in TARGETS]


def _sort_all(targets: list[int]) -> list[list[Contact]]:
    return [sorted(CONTACTS, key=lambda contact, t=target: IDS[contact] ^ t)[:K] for target in targets]  # type: ignore[misc]


def _answer(node: KademliaNode) -> None:
    asker = node.table.contacts()[0]
    for target in TARGETS:
        node.receive(asker.device, asker.endpoint, REQUESTS.encode(FindNode(target.to_bytes(32))), 1)


def _package(case: str) -> Iterator[Row]:
    try:
        from kademlia.node import Node  # noqa: PLC0415
        from kademlia.routing import RoutingTable as Buckets  # noqa: PLC0415
    except ImportError:
        return
    loop = asyncio.new_event_loop()

    class NobodyAnswers:
        def call_ping(self, node: object) -> object:
            return loop.create_future()

    buckets = Buckets(NobodyAnswers(), K, Node(OWN[:20], "127.0.0.1", 1))
    for contact in CONTACTS:
        buckets.add_contact(Node(contact.device[:20], "127.0.0.1", contact.endpoint))
    loop.close()
    held = sum(len(bucket.get_nodes()) for bucket in buckets.buckets)
    nodes = [Node(target.to_bytes(32)[:20]) for target in TARGETS]
    us = _us(lambda: [buckets.find_neighbors(node) for node in nodes], len(nodes))
    yield {"case": case, "who": "kademlia", "us": us, "contacts": held}


if __name__ == "__main__":
    main(run)
