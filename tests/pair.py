"""Two machines (or more), a link and a clock: a story about a protocol in twenty lines.

A machine is told datagrams and the time and returns outputs. An output that has ``endpoint`` and ``data`` and
is named ``Transmit`` goes to the link; every other is kept in ``events``. What the link does to a datagram
is a function from the datagram to its delays, one for each copy that arrives: ``[]`` loses it, ``[5, 5]``
doubles it, and different delays reorder. Nothing here draws or sleeps: equal times run in the order in
which they came to be.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

from protocols.errors import ProtocolError

MS = 1_000_000
SECOND = 1_000 * MS
LATENCY = 10 * MS


class Entropy:
    """A repeatable stream of bytes; ``position`` is all of its state."""

    def __init__(self, seed: str, position: int = 0) -> None:
        self.seed = seed
        self.position = position

    def __call__(self, size: int) -> bytes:
        self.position += 1
        block = sha256(f"{self.seed}/{self.position}".encode()).digest()
        return (block * (size // 32 + 1))[:size]


class Machine(Protocol):
    def receive(self, source: int, data: bytes, now: int) -> Sequence[Any]: ...

    def expire(self, now: int) -> Sequence[Any]: ...

    def deadline(self) -> int | None: ...


@dataclass(frozen=True)
class Flight:
    """A datagram on the link; ``number`` counts all that were sent."""

    number: int
    source: int
    target: int
    data: bytes
    sent_at: int


Link = Callable[[Flight], Sequence[int]]


def perfect(flight: Flight) -> Sequence[int]:
    return [LATENCY]


@dataclass
class Pair:
    """Machines by endpoint. ``tell`` takes what a command to a machine returned."""

    machines: dict[int, Any]
    link: Link = perfect
    now: int = 0
    events: dict[int, list[Any]] = field(default_factory=dict)
    errors: dict[int, list[ProtocolError]] = field(default_factory=dict)
    sent: list[Flight] = field(default_factory=list)
    before: Callable[["Pair"], None] | None = None
    """Called before each step: to look, or to exchange a machine for its restored copy."""
    _arrivals: list[tuple[int, int, Flight]] = field(default_factory=list)
    _copies: int = 0

    def __post_init__(self) -> None:
        for endpoint in self.machines:
            self.events.setdefault(endpoint, [])
            self.errors.setdefault(endpoint, [])

    def tell(self, endpoint: int, outputs: Sequence[Any]) -> None:
        for output in outputs:
            if type(output).__name__ == "Transmit":
                flight = Flight(len(self.sent), endpoint, output.endpoint, output.data, self.now)
                self.sent.append(flight)
                for delay in self.link(flight):
                    self.inject(flight, delay)
            else:
                self.events[endpoint].append(output)

    def inject(self, flight: Flight, delay: int = 0) -> None:
        """Put a datagram on the link past its rule, forged or held back."""
        self._copies += 1
        heapq.heappush(self._arrivals, (self.now + delay, self._copies, flight))

    def step(self, until: int) -> bool:
        """Do the earliest thing that is due by ``until``; an arrival before a deadline of the same time."""
        deadlines = [
            (deadline, endpoint)
            for endpoint, machine in self.machines.items()
            if (deadline := machine.deadline()) is not None
        ]
        deadline, endpoint = min(deadlines, default=(until + 1, 0))
        arrival = self._arrivals[0][0] if self._arrivals else until + 1
        if min(arrival, deadline) > until:
            self.now = max(self.now, until)
            return False
        if self.before is not None:
            self.before(self)
        if arrival <= deadline:
            self.now, _, flight = heapq.heappop(self._arrivals)
            machine = self.machines.get(flight.target)
            if machine is not None:
                try:
                    self.tell(flight.target, machine.receive(flight.source, flight.data, self.now))
                except ProtocolError as error:
                    self.errors[flight.target].append(error)
        else:
            self.now = max(self.now, deadline)
            self.tell(endpoint, self.machines[endpoint].expire(self.now))
            again = self.machines[endpoint].deadline()
            assert again is None or again > self.now, "a machine that is due forever"
        return True

    def run(self, duration: int = 60 * SECOND) -> None:
        """Let time pass."""
        until = self.now + duration
        while self.step(until):
            pass

    def of(self, endpoint: int, kind: type) -> list[Any]:
        """The events of one type at one endpoint."""
        return [event for event in self.events[endpoint] if isinstance(event, kind)]
