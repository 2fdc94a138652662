"""Large bodies, in chunks, over datagrams that get lost, doubled and reordered.

A small reliable transfer: the receiver acknowledges every chunk selectively; the sender keeps a window that
grows by one for each chunk that arrived and halves when a timer runs out (slow start and multiplicative
decrease, RFC 5681), and repeats a chunk early once three later ones have arrived (its fast retransmit).
Nothing but the first chunk, which travels in the request or response itself, is sent before the receiver has
acknowledged that one: it has then seen the size and reserved the room.
"""

from typing import Any, Final

from protocols.rpc.calls import RpcConfig
from protocols.rpc.frames import CHUNK_SIZE, CHUNKS_STOP, WINDOW_CHUNKS, RpcError

REORDERING_CHUNKS: Final = 3
"""Later arrivals that prove a loss rather than a reordering (RFC 5681 §3.2, RFC 9002 §6.1.1)."""

BODIES_PER_SESSION: Final = 2
BODIES_IN_ALL: Final = 8
"""How many bodies of the largest size find room, per session and in all; no session can take it all."""


def chunk_count(size: int) -> int:
    """How many chunks a body of ``size`` bytes takes."""
    return -(-size // CHUNK_SIZE)


class Outgoing:
    """A large body on its way out. Methods return the indices of the chunks to send now."""

    __slots__ = ("base", "beyond", "body", "repeated", "rto", "sent", "sent_at", "timed_out", "window")

    def __init__(self, body: bytes, rto: int, now: int) -> None:
        self.body = body
        self.sent_at = now
        self.base = 0
        """The first chunk not acknowledged."""
        self.beyond = 0
        """Bit ``i``: chunk ``base + 1 + i`` is acknowledged."""
        self.sent = 1
        """Chunks below this were sent at least once; the first goes with the frame that opens the transfer."""
        self.window = 1
        self.repeated = -1
        """The chunk repeated early last; the timer looks after it from then on."""
        self.rto = rto
        self.timed_out = False
        """Whether anything was repeated: then no round trip can be measured (Karn)."""

    @property
    def done(self) -> bool:
        """Whether the receiver has everything, or wants nothing more."""
        return self.base >= chunk_count(len(self.body))

    def chunk(self, index: int) -> bytes:
        """The bytes of one chunk."""
        return self.body[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE]

    @property
    def measurable(self) -> bool:
        """Whether the first chunk, sent once, was just acknowledged: that is a round trip without anybody's work."""
        return self.base == 1 and self.beyond == 0 and not self.timed_out

    def acknowledge(self, received: int, beyond: int, rto: int) -> list[int] | None:
        """The receiver has everything below ``received``, and what ``beyond`` says.

        Returns:
            what to send now; ``None`` when the acknowledgement says nothing new.

        Raises:
            RpcError: ``bad_ack``, it has what was never sent.
        """
        count = chunk_count(len(self.body))
        if received == CHUNKS_STOP:
            self.base, self.beyond = count, 0
            return []
        if received + (beyond.bit_length() + 1 if beyond else 0) > self.sent:
            raise RpcError("bad_ack", f"chunk {received}+{beyond:b}; {self.sent} were sent")
        if received < self.base:
            return None  # overtaken by a later one
        before = self.base + self.beyond.bit_count()
        self.beyond = self.beyond >> (received - self.base) | beyond
        self.base = received
        gained = self.base + self.beyond.bit_count() - before
        if gained <= 0:
            return None
        self.window = min(WINDOW_CHUNKS, self.window + gained)
        self.rto = rto
        indices = []
        if self.beyond.bit_length() >= REORDERING_CHUNKS and self.repeated != self.base:
            self.repeated = self.base
            self.timed_out = True
            indices.append(self.base)
        outstanding = self.sent - self.base - self.beyond.bit_count()
        while self.sent < min(count, self.base + 1 + WINDOW_CHUNKS) and outstanding < self.window:
            indices.append(self.sent)
            self.sent += 1
            outstanding += 1
        return indices

    def time_out(self, rto_max: int) -> list[int]:
        """Nothing new was acknowledged for ``rto``: repeat what is missing, with half the window."""
        self.timed_out = True
        self.window = max(1, self.window // 2)
        self.rto = min(self.rto * 2, rto_max)
        missing = [
            index
            for index in range(self.base, self.sent)
            if index == self.base or not self.beyond >> (index - self.base - 1) & 1
        ]
        return missing[: self.window]

    def state(self) -> list[Any]:
        """Plain data for ``from_state``."""
        fields = [self.base, self.beyond, self.sent, self.window, self.repeated, self.timed_out]
        return [self.body, self.rto, self.sent_at, *fields]

    @classmethod
    def from_state(cls, state: list[Any]) -> "Outgoing":
        """The transfer whose ``state`` this is."""
        body, rto, sent_at, *fields = state
        transfer = cls(body, rto, sent_at)
        (
            transfer.base,
            transfer.beyond,
            transfer.sent,
            transfer.window,
            transfer.repeated,
            transfer.timed_out,
        ) = fields
        return transfer


class Partial:
    """A large body on its way in; its room was reserved, and is filled chunk by chunk."""

    __slots__ = ("_base", "_beyond", "_chunks", "size")

    def __init__(self, size: int, first: bytes) -> None:
        self.size = size
        self._base = 1
        self._beyond = 0
        self._chunks: dict[int, bytes] = {0: first}

    @property
    def complete(self) -> bool:
        """Whether every chunk is here."""
        return self._base == chunk_count(self.size)

    def add(self, index: int, data: bytes) -> bool:
        """Take one chunk.

        Returns:
            whether it was new.

        Raises:
            RpcError: ``bad_size``, the declared size and the window leave no place for it.
        """
        expected = min(CHUNK_SIZE, self.size - index * CHUNK_SIZE)
        if index > self._base + WINDOW_CHUNKS or len(data) != expected:
            raise RpcError("bad_size", f"chunk {index} of {len(data)} bytes in a body of {self.size}")
        if index in self._chunks:
            return False
        self._chunks[index] = data
        if index > self._base:
            self._beyond |= 1 << (index - self._base - 1)
        while self._base in self._chunks:
            self._base += 1
            self._beyond >>= 1
        return True

    def acknowledgement(self) -> tuple[int, int]:
        """``received`` and ``beyond`` of an ``Ack``."""
        return self._base, self._beyond

    def body(self) -> bytes:
        """The whole body, once complete."""
        return b"".join(self._chunks[index] for index in range(chunk_count(self.size)))

    def state(self) -> list[Any]:
        """Plain data for ``from_state``."""
        return [self.size, list(self._chunks.items())]

    @classmethod
    def from_state(cls, state: list[Any]) -> "Partial":
        """The partial body whose ``state`` this is."""
        size, (first, *others) = state
        partial = cls(size, first[1])
        for index, data in others:
            partial.add(index, data)
        return partial


class Budget:
    """Room for large bodies: bodies and bytes, per session and in all."""

    __slots__ = ("_config", "_shares", "bodies", "size")

    def __init__(self, config: RpcConfig) -> None:
        self._config = config
        self._shares: dict[int, tuple[int, int]] = {}
        self.bodies = 0
        self.size = 0

    def reserve(self, session: int, size: int) -> bool:
        """Whether there is room; if so it is taken."""
        config = self._config
        bodies, held = self._shares.get(session, (0, 0))
        if (
            self.bodies >= config.large_max
            or self.size + size > config.body_size_max * BODIES_IN_ALL
            or bodies >= config.large_per_session_max
            or held + size > config.body_size_max * BODIES_PER_SESSION
        ):
            return False
        self._shares[session] = (bodies + 1, held + size)
        self.bodies += 1
        self.size += size
        return True

    def release(self, session: int, size: int) -> None:
        """Give back what ``reserve`` took."""
        bodies, held = self._shares.pop(session)
        if bodies > 1:
            self._shares[session] = (bodies - 1, held - size)
        self.bodies -= 1
        self.size -= size
