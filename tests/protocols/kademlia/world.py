"""Kademlia machines joined by a small event loop: no sessions, no RPC, only what those promise.

A call reaches its node after a random delay and its answer comes back after another; a call to a dead node, or one
that is lost for good, fails after its time-out.
"""

import random
from collections.abc import Callable, Iterable
from functools import partial
from heapq import heappop, heappush

from protocols.contact import Contact, node_id
from protocols.errors import ProtocolError
from protocols.identity import SigningKey
from protocols.kademlia.config import KademliaConfig
from protocols.kademlia.messages import FindDone, GetDone, Joined, LookupEnded, Misbehaved, PutDone, Query, Reply
from protocols.kademlia.node import KademliaNode
from protocols.kademlia.records import Record
from protocols.messages import Message

MS = 1_000_000
SECOND = 1_000 * MS
HOUR = 3_600 * SECOND

QUIET = KademliaConfig(refresh_ms=0, republish_ms=0, replicate_ms=0, settle_ms=0)
"""Without upkeep, so that a test sees only what it caused."""

Impostor = Callable[[bytes, bytes], bytes]
"""``(asker's device, request)`` to the response's body: a node that says what it likes."""


class World:
    """Nodes, whose endpoints are their numbers."""

    def __init__(self, seed: int = 0, *, config: KademliaConfig = QUIET, loss: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.config = config
        self.loss = loss
        self.now = 0
        self.nodes: list[KademliaNode] = []
        self.keys: list[SigningKey] = []
        self.dead: set[int] = set()
        self.impostors: dict[int, Impostor] = {}
        self.results: list[FindDone | PutDone | GetDone] = []
        self.joined: dict[int, Joined] = {}
        self.ended: list[tuple[int, LookupEnded]] = []
        self.misbehaved: list[tuple[int, Misbehaved]] = []
        self.calls = 0
        self.after_each: Callable[[], None] = lambda: None
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0

    def add(self, bootstrap: Iterable[Contact] = (), config: KademliaConfig | None = None) -> int:
        key = SigningKey(self.rng.randbytes(32))
        self.keys.append(key)
        self.nodes.append(KademliaNode(key.public, config or self.config, bootstrap))
        return len(self.nodes) - 1

    def contact(self, number: int) -> Contact:
        return Contact(self.nodes[number].device, number)

    def warm(self, size: int) -> None:
        """``size`` nodes whose tables were filled from all of them, in random order."""
        for _ in range(size):
            self.add()
        everybody = [self.contact(number) for number in range(size)]
        for number, node in enumerate(self.nodes):
            self.rng.shuffle(everybody)
            near = sorted(everybody, key=lambda contact: node_id(contact.device) ^ node_id(node.device))[1:21]
            node.adopt([*near, *everybody], self.now)
            self._arm(number)

    def record(
        self, number: int, name: bytes = b"name", value: bytes = b"", sequence: int = 1, ttl_s: int = 3600
    ) -> Record:
        return Record.sign(self.keys[number], name, sequence, value, ttl_s)

    def join(self, number: int) -> None:
        self.route(number, self.nodes[number].join(self.now))

    def find(self, number: int, target: bytes, token: int = 0) -> None:
        self.route(number, self.nodes[number].find("test", token, target, self.now))

    def put(self, number: int, record: Record) -> None:
        self.route(number, self.nodes[number].put("test", 0, record, self.now))

    def get(self, number: int, key: bytes) -> None:
        self.route(number, self.nodes[number].get("test", 0, key, self.now))

    def run(self, duration: int) -> None:
        until = self.now + duration
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heappop(self._events)
            event()
            self.after_each()
        self.now = until

    def nearest(self, target: bytes, n: int, but: int = -1) -> list[Contact]:
        live = [self.contact(i) for i in range(len(self.nodes)) if i not in self.dead and i != but]
        return sorted(live, key=lambda contact: node_id(contact.device) ^ int.from_bytes(target))[:n]

    def at(self, time: int, event: Callable[[], None]) -> None:
        self._number += 1
        heappush(self._events, (time, self._number, event))

    def route(self, number: int, outputs: list[Message]) -> None:
        for output in outputs:
            match output:
                case Query():
                    self.calls += 1
                    self.at(self.now + self.rng.randint(5 * MS, 100 * MS), partial(self._deliver, number, output))
                case Reply(_, result, _):
                    self.results.append(result)
                case Joined():
                    self.joined[number] = output
                case LookupEnded():
                    self.ended.append((number, output))
                case Misbehaved():
                    self.misbehaved.append((number, output))
        self._arm(number)

    def _arm(self, number: int) -> None:
        deadline = self.nodes[number].deadline()
        if deadline is not None:
            self.at(max(deadline, self.now), lambda: self._tick(number))

    def _tick(self, number: int) -> None:
        deadline = self.nodes[number].deadline()
        if number not in self.dead and deadline is not None and deadline <= self.now:
            self.route(number, self.nodes[number].expire(self.now))

    def _deliver(self, caller: int, query: Query) -> None:
        callee = query.endpoint
        there = callee < len(self.nodes) and self.nodes[callee].device == query.device
        if not there or callee in self.dead or self.rng.random() < self.loss:
            self.at(self.now + query.timeout_ns, lambda: self._fail(caller, query, unanswered=True))
            return
        if callee in self.impostors:
            body = self.impostors[callee](self.nodes[caller].device, query.body)
        else:
            try:
                body, outputs = self.nodes[callee].receive(self.nodes[caller].device, caller, query.body, self.now)
            except ProtocolError:
                self.at(self.now + 50 * MS, lambda: self._fail(caller, query, unanswered=False))
                return
            self.route(callee, outputs)
        self.at(self.now + self.rng.randint(5 * MS, 100 * MS), lambda: self._answer(caller, query, body))

    def _answer(self, caller: int, query: Query, body: bytes) -> None:
        if caller not in self.dead:
            self.route(caller, self.nodes[caller].completed(query.token, query.endpoint, body, self.now))

    def _fail(self, caller: int, query: Query, *, unanswered: bool) -> None:
        if caller not in self.dead:
            self.route(caller, self.nodes[caller].failed(query.token, self.now, unanswered=unanswered))
