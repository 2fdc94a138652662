"""Kademlia without a network: finding the nearest contacts, building a table, answering a request, memory.

Beside it: sorting everybody at each question, which is the simplest thing and what the earlier implementation did, and
the ``kademlia`` package, whose walk over its buckets is not exact. Its ids have 160 bits, ours 256. ``ratio`` is
our time over the peer's: below 1, ours is the faster.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

from benchmarks.rows import OURS, Row, interleaved, main, package, row, skipped, time_us, traced_bytes
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


Works = dict[str, tuple[Callable[[], object], int]]
"""What to measure, and how many calls are in it."""


def run(quick: bool) -> Iterator[Row]:
    """Questions to tables, then what a node costs."""
    rounds = 1 if quick else ROUNDS
    own = node_id(OWN)
    everybody = RoutingTable.from_contacts(own, CONTACTS, 0, k=len(CONTACTS))
    usual = RoutingTable.from_contacts(own, CONTACTS, 0, k=K)

    works: Works = {
        OURS: (partial(_closest, everybody), len(TARGETS)),
        "sorting all": (partial(_sort_all, TARGETS[:10]), 10),
    }
    yield _row(f"the {K} closest of 5,000", works, rounds)

    works = {OURS: (partial(_closest, usual), len(TARGETS))}
    more = {"contacts": len(usual)}
    case = f"the {K} closest of a table that met 5,000"
    if isinstance(missing := package("kademlia"), str):
        yield skipped("kademlia_core", case, "kademlia", missing)
    else:
        works["kademlia"], more["kademlia_contacts"] = _package()
    yield _row(case, works, rounds, **more)

    few = CONTACTS[:400]
    works = {OURS: (partial(RoutingTable.from_contacts, own, few, 0), 1)}
    yield _row("a table from 400 contacts", works, rounds, contacts=len(RoutingTable.from_contacts(own, few, 0)))

    node = _warm_node(0)
    yield _row("FIND_NODE to NODES, bytes to bytes", {OURS: (partial(_answer, node), len(TARGETS))}, rounds)

    count = 2 if quick else 200
    fresh = traced_bytes(lambda number: KademliaNode(CONTACTS[number].device, KademliaConfig()), count)
    yield row("kademlia_core", "a node without contacts", "bytes", {OURS: [fresh]})
    warm = traced_bytes(_warm_node, count)  # beside the contacts, which are shared
    yield row("kademlia_core", "a node with contacts", "bytes", {OURS: [warm]}, contacts=len(node.table))


def _row(case: str, works: Works, rounds: int, **more: Any) -> Row:
    measures = {who: partial(_time_us, work, calls) for who, (work, calls) in works.items()}
    return row("kademlia_core", case, "us", interleaved(measures, rounds), **more)


def _time_us(work: Callable[[], object], calls: int) -> float:
    return time_us(work, 1) / calls


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


def _package() -> tuple[tuple[Callable[[], object], int], int]:
    node, buckets_type = import_module("kademlia.node").Node, import_module("kademlia.routing").RoutingTable
    loop = asyncio.new_event_loop()

    class NobodyAnswers:
        def call_ping(self, node: object) -> object:
            return loop.create_future()

    buckets = buckets_type(NobodyAnswers(), K, node(OWN[:20], "127.0.0.1", 1))
    for contact in CONTACTS:
        buckets.add_contact(node(contact.device[:20], "127.0.0.1", contact.endpoint))
    loop.close()
    targets = [node(target.to_bytes(32)[:20]) for target in TARGETS]
    held = sum(len(bucket.get_nodes()) for bucket in buckets.buckets)
    return (lambda: [buckets.find_neighbors(target) for target in targets], len(targets)), held


if __name__ == "__main__":
    main(run)
