"""The context: everything that an actor can see of the world, and everything it can do to it.

One context belongs to one actor of one incarnation of a peer; the host makes it and keeps what it
counts. Handlers never learn which host that is, nor whether its time is virtual.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heappush
from typing import TYPE_CHECKING, Any, Final

import msgspec
from xxhash import xxh3_128_digest

from actors.actor import Actor
from actors.randomness import Randomness
from protocols.errors import LocalError
from protocols.messages import Message, Packet, encode

if TYPE_CHECKING:
    from actors.host import Host, Peer

TRACE_SIZE: Final = 25
"""A W3C trace context as it travels: 16 bytes of trace id, 8 of span id, one of flags."""

TRACE_NONE: Final = bytes(TRACE_SIZE)
"""The context of what belongs to no trace; it has the same size as any other."""

UNSHED: Final = "journal"
"""The actor whose messages, both ways, are not shed when a mailbox is full. A write that was lost, or its answer, would
have its owner wait for ever; and who writes has a bound of its own on what it has under way."""

TRACE_RANDOM: Final = b"\x02"
"""The flags of W3C Trace Context (level 2): the id is random, so whoever reads it can sample by it."""


class Span(msgspec.Struct, frozen=True, array_like=True):
    """A piece of work with a beginning; plain data, so an actor may keep one in its state until it ends."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    start: int
    """Nanoseconds on the run's clock."""

    @property
    def trace(self) -> bytes:
        """The trace context to send with, so that what follows becomes a child of this span."""
        return self.trace_id + self.span_id + TRACE_RANDOM


class Context:
    """What a handler is given; see the design's table of what each verb means."""

    __slots__ = ("_choices", "_entropy", "_host", "_local_spans", "_peer", "_spans", "actor", "handlers", "service")

    def __init__(self, host: "Host", peer: "Peer", actor: Actor) -> None:
        self._host = host
        self._peer = peer
        self._entropy: Randomness | None = None
        self._choices: Randomness | None = None
        self._spans = 0
        self._local_spans = 0  # apart, as how many there are depends on the sampling
        self.actor = actor
        self.handlers = actor.handlers
        self.service = actor.service

    # -- the clock, and randomness ------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """The time, in nanoseconds."""
        return self._host.now

    def entropy(self, size: int) -> bytes:
        """``size`` bytes fit for keys; the only source of key material."""
        if self._entropy is None:
            self._entropy = self._host.randomness(self._peer, self.service, "entropy")
        return self._entropy.entropy(size)

    @property
    def rng(self) -> Randomness:
        """The only randomness for choices; apart from ``entropy``, so that neither moves the other."""
        if self._choices is None:
            self._choices = self._host.randomness(self._peer, self.service, "choices")
        return self._choices

    @property
    def sender(self) -> str:
        """The service whose message is being handled; empty for packets and timers."""
        return self._host.sender

    # -- telling others -----------------------------------------------------------------------------------

    def send(self, service: str, message: Message) -> None:
        """Tell another actor of this peer; delivered in order, after this handler."""
        host = self._host
        target = self._peer.contexts.get(service)
        if target is None:
            host.send_away(self._peer, service, message, self.service)
        elif len(host.queue) < host.mailbox_size_max or UNSHED in (service, self.service):
            host.queue.append((target, message, host.trace, self.service))
        else:
            host.count("mailbox_shed", 1, service)

    def reply(self, message: Message) -> None:
        """Tell the actor whose message is being handled."""
        self.send(self._host.sender, message)

    def transmit(self, endpoint: int, data: bytes) -> None:
        """Send a datagram to another peer; it may be lost, doubled, late or out of order."""
        host = self._host
        peer = self._peer
        source = peer.number
        if not host.alone or endpoint == source or not 0 <= endpoint < len(host.peers):
            host.emit(peer, endpoint, Packet(source, data), host.trace)
            return
        # What emit does where no other host and no cost of time matters; its call would be a twentieth of an event.
        size = len(data)
        host.packets_sent += 1
        host.bytes_sent += size
        now = host.now
        ordinal = host.ordinal
        host.ordinal = ordinal + 1
        packet = Packet(source, data)
        for arrival in host.transit(source, endpoint, size, now, ordinal):
            peer.sequence = sequence = peer.sequence + 1
            heappush(host.heap, (arrival, endpoint, source, sequence, now, host.trace, packet))

    def forge(self, source: int, endpoint: int, data: bytes) -> None:
        """Send a datagram that claims to come from ``source``: for adversaries only."""
        self._host.emit(self._peer, endpoint, Packet(source, data), self._host.trace)

    # -- timers -------------------------------------------------------------------------------------------

    def after(self, delay: int, message: Message) -> int:
        """Have ``message`` delivered to oneself ``delay`` ns from now (from the end of this handler, if it charges).

        It carries no trace: an actor keeps one timer for everything it waits for, which is of many traces. An actor
        that goes on with something traced has kept its span.

        Returns:
            the timer's id, for ``cancel``; a plain integer that an actor may keep in its state.
        """
        if delay < 0:
            raise LocalError(f"a timer cannot fire {-delay} ns ago")
        host = self._host
        peer = self._peer
        peer.sequence += 1
        identifier = peer.sequence
        peer.timers[identifier] = None
        if host.deferred is None:
            host.arm(peer, identifier, delay, self.service, message, TRACE_NONE)
        else:
            host.deferred.append((host.arm, (identifier, delay, self.service, message, TRACE_NONE)))
        return identifier

    def cancel(self, timer: int) -> None:
        """Forget a timer; nothing happens if it has fired."""
        self._peer.timers.pop(timer, None)

    # -- virtual CPU time ---------------------------------------------------------------------------------

    def charge(self, operation: str, n: int = 1) -> None:
        """Occupy the peer's one virtual core for ``n`` units of ``operation``, as the run's cost table says."""
        host = self._host
        if host.costs is not None:
            fixed, each = host.costs[operation]
            host.charged += fixed + each * n

    # -- telemetry: what it does never changes what a run does ---------------------------------------------

    def count(self, name: str, n: int = 1, label: str = "") -> None:
        """Add to the counter ``spacepanda_<name>_total``; ``label`` is one value out of a small, fixed set."""
        self._host.count(name, n, label)

    def record(self, name: str, value: int) -> None:
        """Add one value to the histogram ``spacepanda_<name>``."""
        self._host.record(name, value)

    def security(self, reason: str, detail: str = "", device: bytes = b"") -> None:
        """Count a security event: something a remote did that an honest one would not."""
        self._host.security(self._peer.number, self.service, reason, detail, device)

    def event(self, name: str, **fields: int | str | bytes) -> None:
        """Note that something happened, for the table of events of the run folder."""
        self._host.note(self._peer.number, self.service, name, fields)

    @property
    def trace(self) -> bytes:
        """The trace context of the message being handled, ``TRACE_NONE`` if it belongs to no trace."""
        return self._host.trace

    @contextmanager
    def traced(self, trace: bytes) -> Iterator[None]:
        """Within the block, what is sent carries ``trace``."""
        before, self._host.trace = self._host.trace, trace
        try:
            yield
        finally:
            self._host.trace = before

    def span(self, name: str, parent: bytes | None = None) -> Span | None:
        """Begin a span under ``parent`` (default: the current trace context); ``None`` outside of any trace.

        Whether it will be kept is decided when it ends, as its context may travel in bytes, which must be the
        same in a run that keeps all and in one that keeps none.
        """
        trace = self._host.trace if parent is None else parent
        if not trace[24]:
            return None
        self._spans += 1
        return Span(trace[:16], self._identifier(8, "span", self._spans), trace[16:24], name, self._host.now)

    def local_span(self, name: str) -> Span | None:
        """Begin a span whose own context goes nowhere; ``None`` if it would not be kept."""
        host = self._host
        trace = host.trace
        if not trace[24] or not host.sampled(trace):
            return None
        self._local_spans += 1
        return Span(trace[:16], self._identifier(8, "local", self._local_spans), trace[16:24], name, host.now)

    def root_span(self, name: str) -> Span:
        """Begin a trace of its own."""
        self._spans += 1
        trace_id = self._identifier(16, "trace", self._spans)
        return Span(trace_id, self._identifier(8, "span", self._spans), bytes(8), name, self._host.now)

    def finish(self, span: Span | None, **attributes: Any) -> None:
        """End a span, and keep it if its trace is sampled; a ``None`` is welcome."""
        if span is not None:
            self._host.finished(self._peer.number, self.service, span, attributes)

    def _identifier(self, size: int, sort: str, number: int) -> bytes:
        """Identifiers are hashes of seed, caller and call number: no draw, so tracing moves no randomness."""
        peer = self._peer
        caller = encode((self._host.seed, peer.number, peer.incarnation, self.service, sort, number))
        return xxh3_128_digest(caller)[:size]

    # -- state --------------------------------------------------------------------------------------------

    def positions(self) -> tuple[int, int, int, int]:
        """How far the two streams and the span numbers have gone; zeros for real time."""
        return (
            getattr(self._entropy, "position", 0),
            getattr(self._choices, "position", 0),
            self._spans,
            self._local_spans,
        )

    def restore(self, entropy: int, choices: int, spans: int, local_spans: int) -> None:
        """Continue the streams where ``positions`` found them."""
        if entropy:
            self._entropy = self._host.randomness(self._peer, self.service, "entropy", entropy)
        if choices:
            self._choices = self._host.randomness(self._peer, self.service, "choices", choices)
        self._spans = spans
        self._local_spans = local_spans
