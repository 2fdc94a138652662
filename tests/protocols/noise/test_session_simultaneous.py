"""Both dial at once: every order in which things can happen ends in sessions that can talk."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from protocols.errors import ProtocolError
from protocols.noise.interface import DialFailed, SessionUp, Transmit
from tests.pair import LATENCY, SECOND, Entropy, Pair
from tests.protocols.noise.peers import A, B, Peer, can_talk, ordered_identities, peer

Flying = tuple[int, bytes]
"""A datagram by the endpoint that it goes to."""


class World:
    """Two peers and what is in flight; copied at every fork of the exploration."""

    def __init__(self, first: Peer, second: Peer, now: int = 0) -> None:
        self.peers = {A: first, B: second}
        self.now = now
        self.flying: list[Flying] = []
        self.to_dial = [A, B]
        self.ups: dict[int, set[int]] = {A: set(), B: set()}

    def copy(self) -> "World":
        twin = World(self.peers[A].restored(), self.peers[B].restored(), self.now)
        twin.flying, twin.to_dial, twin.ups = (
            list(self.flying),
            list(self.to_dial),
            {end: set(up) for end, up in self.ups.items()},
        )
        return twin

    def tell(self, endpoint: int, outputs: object) -> None:
        for output in outputs:  # type: ignore[attr-defined]
            if isinstance(output, Transmit):
                self.flying.append((output.endpoint, output.data))
            elif isinstance(output, SessionUp):
                self.ups[endpoint].add(output.session)
            assert not isinstance(output, DialFailed)

    def dial(self, endpoint: int) -> None:
        self.to_dial.remove(endpoint)
        other = A + B - endpoint
        self.tell(endpoint, self.peers[endpoint].dial(self.peers[other], other, self.now))

    def deliver(self, position: int) -> None:
        target, data = self.flying.pop(position)
        with suppress(ProtocolError):
            self.tell(target, self.peers[target].receive(A + B - target, data, self.now))

    def key(self) -> tuple[object, ...]:
        sessions = (self.peers[A].sessions.to_bytes(), self.peers[B].sessions.to_bytes())
        return sessions, tuple(sorted(self.flying)), tuple(self.to_dial)


def explore(start: World) -> Iterator[World]:
    """Every world in which nothing is left to happen, over all orders of dials and deliveries."""
    stack, seen = [start], set()
    while stack:
        world = stack.pop()
        if world.key() in seen:
            continue
        seen.add(world.key())
        if not world.flying and not world.to_dial:
            yield world
        for endpoint in world.to_dial:
            twin = world.copy()
            twin.dial(endpoint)
            stack.append(twin)
        for position in range(len(world.flying)):
            twin = world.copy()
            twin.deliver(position)
            stack.append(twin)


def peers(lower_first: bool) -> tuple[Peer, Peer]:
    lower, higher = ordered_identities()
    first, second = (lower, higher) if lower_first else (higher, lower)
    return Peer(first, Entropy("A")), Peer(second, Entropy("B"))


@pytest.mark.parametrize("lower_first", [True, False])
def test_every_interleaving_ends_in_talk(lower_first: bool) -> None:
    counts = set()
    for world in explore(World(*peers(lower_first))):
        first, second = world.peers.values()
        assert first.sessions.dialling == second.sessions.dialling == 0
        # Two where an INIT was held up until the rival handshake was half done.
        assert 1 <= len(first.sessions) == len(second.sessions) <= 2
        assert len(world.ups[A]) == len(world.ups[B]) == len(first.sessions)
        counts.add(len(first.sessions))
        assert can_talk(Pair(world.peers, now=world.now))
    assert 1 in counts


def test_every_interleaving_after_the_rule_is_dropped_ends_in_talk() -> None:
    # Both have dialled in vain for more than three seconds; then the network heals.
    first, second = peers(True)
    pair = Pair({A: first, B: second}, lambda flight: [])
    pair.tell(A, first.dial(second, B, 0))
    pair.tell(B, second.dial(first, A, 0))
    pair.run(4 * SECOND)
    start = World(first, second, pair.now)
    start.to_dial = []
    start.flying = [(flight.target, flight.data) for flight in pair.sent[:2]]
    crossed = 0
    for world in explore(start):
        crossed += len(world.peers[A].sessions) == 2
        for each in world.peers.values():
            assert 1 <= len(each.sessions) <= 2
            assert each.sessions.dialling == 0
        assert can_talk(Pair(world.peers, now=world.now))
    assert crossed, "no order led to two sessions, so the case was not met"


def test_lower_device_key_keeps_its_dial() -> None:
    lower, higher = peers(True)
    pair = Pair({A: lower, B: higher})
    pair.tell(A, lower.dial(higher, B, 0))
    pair.tell(B, higher.dial(lower, A, 0))
    pair.run(SECOND)
    assert pair.of(A, SessionUp)[0].initiator
    assert not pair.of(B, SessionUp)[0].initiator
    assert [error.reason for error in pair.errors[A]] == ["simultaneous_dial"]


def test_two_peers_that_wait_for_each_other_by_mistake_meet_all_the_same() -> None:
    # The lowest dials B's endpoint for a third device and so defers B; B dials A and, if lower than A, defers A.
    third = max((peer(number) for number in (1, 2, 3)), key=lambda each: each.device)
    second, first = sorted(
        (each for each in (peer(1), peer(2), peer(3)) if each.device != third.device), key=lambda p: p.device
    )
    pair = Pair({A: first, B: second}, lambda flight: [LATENCY])
    pair.tell(A, first.dial(third, B, 0))
    pair.tell(B, second.dial(first, A, 0))
    pair.run(10 * SECOND)
    assert [event.reason for event in pair.of(A, DialFailed)] == ["wrong_device"]
    assert pair.of(B, DialFailed) == []
    assert can_talk(pair)
