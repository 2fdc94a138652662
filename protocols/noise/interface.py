"""What the sessions of a peer are told, what they answer with, and how they are configured."""

from typing import Annotated, Final

import msgspec

from protocols.errors import LocalError
from protocols.messages import DATAGRAM_SIZE_MAX, Key32, Message, Uint64

NS_PER_MS: Final = 1_000_000
REASON_SIZE_MAX: Final = 64

Index = Annotated[int, msgspec.Meta(gt=0, lt=2**32)]
"""The local name of a session. It is drawn at random and never means another session that is alive."""

Bytes = Annotated[bytes, msgspec.Meta(max_length=DATAGRAM_SIZE_MAX)]
Reason = Annotated[str, msgspec.Meta(max_length=REASON_SIZE_MAX)]


# -- told -------------------------------------------------------------------------------------------


class Datagram(Message, frozen=True, tag="session.datagram"):
    """Bytes from the network, admitted by the endpoint that they claim to come from."""

    source: Uint64
    data: Bytes


class Dial(Message, frozen=True, tag="session.dial"):
    """Have a session with ``device``, which is said to be at ``endpoint``.

    The answer is one ``SessionUp`` (at once, if there is a session) or one ``DialFailed``, also when it was asked
    several times meanwhile.
    """

    device: Key32
    endpoint: Uint64


class SendFrame(Message, frozen=True, tag="session.send"):
    """Send these bytes; they may be lost. Nothing happens if the session has ended, as ``SessionDown`` tells.

    No bytes are a sign of life: the peer hands nothing on, and its session does not idle out.
    """

    session: Index
    data: Bytes


class CloseSession(Message, frozen=True, tag="session.close"):
    """End a session on this side. The peer is not told: it learns from silence, as it would from a crash."""

    session: Index
    reason: Reason


# -- answered ---------------------------------------------------------------------------------------


class Transmit(Message, frozen=True, tag="session.transmit"):
    """Send this datagram to ``endpoint``."""

    endpoint: Uint64
    data: Bytes


class Opened(Message, frozen=True, tag="session.opened"):
    """``device`` sent these bytes, once; they came from ``endpoint``."""

    session: Index
    device: Key32
    endpoint: Uint64
    data: Bytes


class SessionUp(Message, frozen=True, tag="session.up"):
    """There is a session with ``device``. Of several, the one that came up last is the one to send on."""

    session: Index
    device: Key32
    endpoint: Uint64
    initiator: bool
    binding: Key32
    """What names this session, the same on both sides and of no other: the handshake hash (Noise §11.2)."""


class SessionDown(Message, frozen=True, tag="session.down"):
    """A session ended; what was sent on it without an answer perhaps arrived.

    Reasons: ``idle``, ``expired``, ``unconfirmed`` (the responder may not have it), ``superseded``, ``evicted``,
    ``exhausted``, and those of ``CloseSession``.
    """

    session: Index
    device: Key32
    reason: Reason


class DialFailed(Message, frozen=True, tag="session.dial_failed"):
    """No session came of a ``Dial``: ``timeout``, ``wrong_device``, ``own_device`` or ``too_many_dials``."""

    device: Key32
    endpoint: Uint64
    reason: Reason


# -- configured -------------------------------------------------------------------------------------


class SessionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The limits and times of one peer's sessions."""

    handshake_timeout_ms: int = 10_000
    """For both roles, and for the initiator's wait until the responder proves to have the session."""
    retransmit_first_ms: int = 1_000
    """The first wait for an answer, doubled each time: RFC 6298's initial value, as no round trip is known yet."""
    half_open_max: int = 64
    """Handshakes being answered: 6 new peers a second, if all of them leave us waiting."""
    dials_max: int = 64
    sessions_max: int = 512
    """At 1 kB each. A Kademlia node with 200 contacts talks to fewer."""
    idle_timeout_ms: int = 600_000
    """Without any datagram from the peer; sending does not count, as the peer may be gone. Keeping a session
    costs 1 kB, making it anew half a millisecond of both peers and one and a half round trips."""
    rekey_after_ms: int = 3_600_000
    """Then the session's initiator makes a fresh one, with fresh Diffie-Hellman secrets."""
    reject_after_ms: int = 7_200_000
    """Then the session ends, whoever failed to renew it."""
    cookie_lifetime_ms: int = 120_000
    """WireGuard's."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) <= 0:
                raise LocalError(f"{name} = {getattr(self, name)} is not positive")
        if not self.retransmit_first_ms < self.handshake_timeout_ms < self.rekey_after_ms < self.reject_after_ms:
            raise LocalError("needs retransmit_first < handshake_timeout < rekey_after < reject_after")
