"""The words between RPC and the rest of a peer: what services ask and are told, and what RPC needs done.

RPC knows neither sockets nor sessions: it says ``Connect``, ``Send`` and ``Disconnect``, and is told what
became of it. A service says ``Call`` and is told ``Completed`` or ``Failed``, exactly once; or is told
``Incoming`` and says ``Respond`` or ``Refuse``.

Every failure answers the question that matters to whoever called: did it *definitely not* happen, or
*perhaps*? Repeating a call that perhaps happened is the caller's decision; RPC executes an id at most once.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from protocols.messages import Key32, Message, Uint64
from protocols.rpc.frames import BODY_SIZE_LIMIT, TIMEOUT_MS_LIMIT, Code, Frame, Happened, Trace

MS: Final = 10**6
"""Nanoseconds in a millisecond."""


class RpcConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much RPC holds at most. The defaults bound a peer under attack to about 20 MB."""

    body_size_max: Annotated[int, Meta(ge=1024, le=BODY_SIZE_LIMIT)] = 1024 * 1024
    """Larger bodies are refused, in both directions."""
    calls_per_session_max: Annotated[int, Meta(ge=1, le=64)] = 64
    """Our calls open on one session; never more than a callee's share below, or honest calls are refused."""
    calls_max: Annotated[int, Meta(ge=1)] = 1024
    """Our calls open in all, waiting ones included."""
    waiting_per_device_max: Annotated[int, Meta(ge=1, le=64)] = 16
    """Calls that wait for a session with one device: what a burst asks while a handshake takes a second."""
    waiting_max: Annotated[int, Meta(ge=1)] = 256
    serving_per_session_max: Annotated[int, Meta(ge=1)] = 64
    """Requests of one session in progress here."""
    serving_max: Annotated[int, Meta(ge=1)] = 1024
    large_per_session_max: Annotated[int, Meta(ge=1)] = 4
    """Large bodies in transfer per session and direction; their bytes are bounded by twice ``body_size_max``."""
    large_max: Annotated[int, Meta(ge=1)] = 32
    """Large bodies in transfer in all, per direction; their bytes by eight times ``body_size_max``."""
    timeout_ms_max: Annotated[int, Meta(ge=1, le=TIMEOUT_MS_LIMIT)] = TIMEOUT_MS_LIMIT
    """The longest timeout a service may ask for."""


# -- services and RPC -----------------------------------------------------------------------------------------


class Call(Message, frozen=True, tag="rpc.call"):
    """Have ``device`` do what ``body`` says; answered by ``Completed`` or ``Failed`` with the same ``token``."""

    token: Uint64
    """Chosen by the service; unique among its open calls."""
    device: Key32
    endpoint: Uint64
    """Where to dial it if there is no session."""
    body: bytes
    """An encoded message, whose tag says which service answers. A body without one would be our own fault there."""
    timeout_ns: Uint64
    service: str = ""
    """Who is told the outcome; empty: the sender."""


class Abandon(Message, frozen=True, tag="rpc.abandon"):
    """The service wants no outcome any more; it is told nothing about that call again."""

    token: Uint64
    service: str = ""


class Completed(Message, frozen=True, tag="rpc.completed"):
    """The answer to a ``Call``, from the device that was called and nobody else."""

    token: Uint64
    device: Key32
    body: bytes
    endpoint: Uint64
    """Where the answer came from."""
    binding: Key32
    """Names the session on which it was asked and answered, on both sides."""
    service: str = ""
    elapsed: int = 0
    """Nanoseconds since the ``Call``."""


class Failed(Message, frozen=True, tag="rpc.failed"):
    """A ``Call`` without an answer.

    Our reasons: ``timeout``, ``session_down``, ``overloaded``, ``too_large``, and those of a failed dial. A
    reason can also be the remote's own code, so it is data, never a metric's label.
    """

    token: Uint64
    device: Key32
    reason: str
    happened: Happened
    service: str = ""
    refused: bool = False
    """Whether ``reason`` is the remote's code."""
    detail: str = ""


class Incoming(Message, frozen=True, tag="rpc.incoming"):
    """A request for the service that owns the namespace of ``kind``; delivered at most once."""

    call: Uint64
    """Names the request in ``Respond`` and ``Refuse``."""
    device: Key32
    endpoint: Uint64
    binding: Key32
    """Names the session that it came over, on both sides."""
    kind: str
    body: bytes
    trace: Trace
    deadline: int
    """After it nobody waits for the answer."""


class Respond(Message, frozen=True, tag="rpc.respond"):
    """The answer to an ``Incoming``. Too late is no mistake: it is dropped."""

    call: Uint64
    body: bytes


class Refuse(Message, frozen=True, tag="rpc.refuse"):
    """No answer to an ``Incoming``, and why."""

    call: Uint64
    code: Code
    message: str = ""
    happened: Happened = "no"


class Inbound(Message, frozen=True, tag="rpc.inbound"):
    """A frame that came over a session, decoded and admitted."""

    session: Uint64
    device: Key32
    endpoint: Uint64
    frame: Frame
    probe: bool = False
    """Whether its device is on probation: then whoever admitted it wants to hear if the request is carried out."""


# -- what RPC needs done --------------------------------------------------------------------------------------


class Connect(Message, frozen=True, tag="rpc.connect"):
    """A call waits for a session with this device."""

    device: Key32
    endpoint: Uint64


class Send(Message, frozen=True, tag="rpc.send"):
    """Carry these bytes over the session, with no promise that they arrive."""

    session: Uint64
    data: bytes
    repeated: bool = False
    """Whether a timer ran out for them."""


class Disconnect(Message, frozen=True, tag="rpc.disconnect"):
    """Close the session: its other end has fallen silent, perhaps restarted and forgotten it."""

    session: Uint64
    reason: str


class Replayed(Message, frozen=True, tag="rpc.replayed"):
    """A request id came again; honest peers do that when an answer was lost."""

    session: Uint64
    outcome: str
    """``answered`` from the cache, ``in_progress``, ``forgotten`` or ``too_old``."""


Output = Completed | Failed | Incoming | Connect | Send | Disconnect | Replayed
