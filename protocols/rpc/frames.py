"""The frames of RPC: what travels inside a session's ciphertext.

A request names its message by the tag at the head of its body (``peek_tag``), so a frame repeats no method
name. Ids count up from zero per session and direction; a frame's type says which direction its id belongs
to, so the two directions never meet.

A body larger than a chunk goes in chunks of one size. The request (or the response) itself carries the first
of them and declares the whole ``size``: the receiver sees the kind and the cost before it buffers anything,
and the rest is sent only when it has acknowledged the first. A separate type for large bodies was rejected:
every reader would have to handle two of everything, and ``size`` costs three bytes.

``trace`` is always there and always 25 bytes (zeros: not traced), so tracing changes no frame's size.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta

from protocols.errors import ProtocolError
from protocols.messages import Codec, Message, Uint64

CHUNK_SIZE: Final = 16 * 1024
"""What one frame carries at most: four fit a datagram's limit, so one lost datagram costs little to repeat."""

BODY_SIZE_LIMIT: Final = 16 * 1024 * 1024
"""No configuration accepts more: a Welcome into a group of 40,000 fits, and 1,024 chunks fit one index."""

TIMEOUT_MS_LIMIT: Final = 60_000
"""No call waits longer, so nothing about it (reply, partial body, timer) has to be kept longer."""

FRAME_SIZE_MAX: Final = CHUNK_SIZE + 128
"""A full chunk, its tag, its numbers and the trace."""

WINDOW_CHUNKS: Final = 16
"""Chunks that may be sent beyond the first missing one: 256 KiB, a full pipe at 20 Mbit/s and 100 ms."""

CHUNKS_STOP: Final = 65_535
"""An ``Ack`` with this count asks for nothing more: the body was complete, or is no longer wanted."""

TRACE_SIZE: Final = 25
TRACE_NONE: Final = bytes(TRACE_SIZE)

Body = Annotated[bytes, Meta(max_length=CHUNK_SIZE)]
BodySize = Annotated[int, Meta(ge=0, le=BODY_SIZE_LIMIT)]
Code = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,30}\Z")]
"""Why a call failed, for machines. A remote chooses it: never a metric's label."""
Happened = Literal["no", "perhaps"]
"""Whether a failed call had an effect: definitely not, or nobody here can tell."""
Trace = Annotated[bytes, Meta(min_length=TRACE_SIZE, max_length=TRACE_SIZE)]

MESSAGE_SIZE_MAX: Final = 100
"""Bytes of an error's sentence: it is read by people, and must not crowd out the datagram."""


class RpcError(ProtocolError):
    """A peer's frame that no honest peer sends; nothing was changed.

    Reasons: ``bad_size`` (a body, chunk or index contradicts the declared size), ``bad_ack`` (it acknowledges
    what was never sent), ``unsolicited`` (an answer to a question that was never asked).
    """


class Request(Message, frozen=True, tag="rpc.request"):
    """Do this, and answer within ``timeout_ms``. Retransmitted byte for byte."""

    id: Uint64
    timeout_ms: Annotated[int, Meta(ge=1, le=TIMEOUT_MS_LIMIT)]
    trace: Trace
    size: BodySize
    """Bytes of the whole body."""
    body: Body
    """The body, or its first chunk if ``size`` is larger than a chunk."""


class Response(Message, frozen=True, tag="rpc.response"):
    """The answer to the request ``id``."""

    id: Uint64
    size: BodySize
    body: Body


class Error(Message, frozen=True, tag="rpc.error"):
    """The request ``id`` was not answered, and why."""

    id: Uint64
    code: Code
    happened: Happened
    message: Annotated[str, Meta(max_length=MESSAGE_SIZE_MAX)]


class Cancel(Message, frozen=True, tag="rpc.cancel"):
    """Nobody waits for the answer to the request ``id`` any more."""

    id: Uint64


class Chunk(Message, frozen=True, tag="rpc.chunk"):
    """A later piece of a large body; the first travelled in the request or response itself."""

    id: Uint64
    answer: bool
    """Whether the body is a response's; else it is a request's."""
    index: Annotated[int, Meta(ge=1, lt=BODY_SIZE_LIMIT // CHUNK_SIZE)]
    data: Body


class Ack(Message, frozen=True, tag="rpc.ack"):
    """Which chunks of a large body have arrived (a selective acknowledgement, as RFC 2018's)."""

    id: Uint64
    answer: bool
    received: Annotated[int, Meta(ge=0, le=CHUNKS_STOP)]
    """Every chunk below this index; or ``CHUNKS_STOP``."""
    beyond: Annotated[int, Meta(ge=0, lt=1 << WINDOW_CHUNKS)]
    """Bit ``i``: chunk ``received + 1 + i`` has arrived as well."""


Frame = Request | Response | Error | Cancel | Chunk | Ack

FRAMES: Final[Codec[Frame]] = Codec(Request, Response, Error, Cancel, Chunk, Ack, size_max=FRAME_SIZE_MAX)


def check_first(size: int, body: bytes) -> None:
    """The first frame of a body carries all of it, or exactly one full chunk of a larger one.

    Raises:
        RpcError: ``bad_size``.
    """
    if len(body) != min(size, CHUNK_SIZE):
        raise RpcError("bad_size", f"{len(body)} bytes at the head of a body of {size}")
