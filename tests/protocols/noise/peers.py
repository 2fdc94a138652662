"""Peers with sessions, for the tests of sessions and of their actor."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha512

import pytest

from protocols.errors import ProtocolError
from protocols.identity import DeviceIdentity
from protocols.messages import Message
from protocols.noise.contexts import AeadContexts
from protocols.noise.interface import Opened, SessionConfig
from protocols.noise.sessions import Sessions
from tests.pair import SECOND, Entropy, Link, Pair, perfect

NETWORK = b"test network"
DEFAULT = SessionConfig()


@cache
def identity(number: int, network_id: bytes = NETWORK) -> DeviceIdentity:
    return DeviceIdentity.generate(sha512(f"device {number}".encode()).digest(), network_id)


@cache
def ordered_identities() -> tuple[DeviceIdentity, DeviceIdentity]:
    """Two, the one with the lower device key first."""
    first, second = sorted((identity(1), identity(2)), key=lambda each: each.device_public)
    return first, second


@dataclass
class Peer:
    """``Sessions`` with its entropy: a machine for ``tests.pair``."""

    identity: DeviceIdentity
    entropy: Entropy
    config: SessionConfig = DEFAULT
    contexts: AeadContexts = field(default_factory=AeadContexts)
    sessions: Sessions = field(init=False)

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.identity, self.config, self.contexts)

    @property
    def device(self) -> bytes:
        return self.identity.device_public

    def dial(self, other: "Peer", endpoint: int, now: int) -> list[Message]:
        return self.sessions.dial(other.device, endpoint, now, self.entropy)

    def receive(self, source: int, data: bytes, now: int) -> Sequence[Message]:
        return self.sessions.receive(source, data, now, self.entropy)

    def expire(self, now: int) -> Sequence[Message]:
        return self.sessions.expire(now, self.entropy)

    def deadline(self) -> int | None:
        return self.sessions.deadline()

    def restored(self) -> "Peer":
        """What comes back from this peer's bytes."""
        twin = Peer(self.identity, Entropy(self.entropy.seed, self.entropy.position), self.config)
        twin.sessions = Sessions.from_bytes(self.sessions.to_bytes(), self.identity, self.config, twin.contexts)
        return twin


def peer(number: int, **config: int) -> Peer:
    return Peer(identity(number), Entropy(f"peer {number}"), SessionConfig(**config))


A, B = 1, 2
"""The endpoints of two peers in a ``Pair``."""


def two(link: Link = perfect, **config: int) -> tuple[Pair, Peer, Peer]:
    """Two peers that have not met, at A and B."""
    first, second = peer(1, **config), peer(2, **config)
    return Pair({A: first, B: second}, link), first, second


def met(link: Link = perfect, **config: int) -> tuple[Pair, Peer, Peer]:
    """Two peers with a session, dialled by the one at A."""
    pair, first, second = two(link, **config)
    pair.tell(A, first.dial(second, B, pair.now))
    pair.run(SECOND)
    return pair, first, second


def say(pair: Pair, endpoint: int, to: bytes, data: bytes) -> None:
    """Send on the newest session with a device."""
    sessions = pair.machines[endpoint].sessions
    pair.tell(endpoint, sessions.send(sessions.session_with(to), data, pair.now))


def heard(pair: Pair, endpoint: int) -> list[bytes]:
    return [opened.data for opened in pair.of(endpoint, Opened)]


def can_talk(pair: Pair) -> bool:
    """Does what each end says on its newest session reach the other? Lets a second pass, over a perfect link."""
    pair.link = perfect
    first, second = pair.machines[A], pair.machines[B]
    if first.sessions.session_with(second.device) is None or second.sessions.session_with(first.device) is None:
        return False
    say(pair, A, second.device, b"from A")
    say(pair, B, first.device, b"from B")
    pair.run(SECOND)
    return b"from A" in heard(pair, B) and b"from B" in heard(pair, A)


def refused(peer: Peer, source: int, data: bytes, now: int) -> str:
    """The reason for which a datagram is refused; it must have changed nothing that is kept."""
    before = state(peer)
    with pytest.raises(ProtocolError) as caught:
        peer.receive(source, data, now)
    assert state(peer) == before, "a refused datagram changed something"
    return caught.value.reason


def state(peer: Peer) -> bytes:
    """All of a peer's state but the account of work done."""
    exchanges, verifications = peer.sessions.exchanges, peer.sessions.verifications
    peer.sessions.exchanges = peer.sessions.verifications = 0
    data = peer.sessions.to_bytes()
    peer.sessions.exchanges, peer.sessions.verifications = exchanges, verifications
    return data


def init_of(initiator: Peer, endpoint: int, now: int = 0) -> bytes:
    """An INIT from a peer that does not mind how many dials it has."""
    fresh = Peer(initiator.identity, initiator.entropy)
    (transmit,) = fresh.sessions.dial(peer(99).device, endpoint, now, fresh.entropy)
    return transmit.data  # type: ignore[attr-defined,no-any-return]
