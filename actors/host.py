"""The host: any number of actors of any number of peers, on one thread.

One heap holds what is to come, ordered by ``(time, destination peer, source peer, source sequence)``, so
equal times run in an order that no scheduler, no number of hosts and no hash chose. One queue holds what
the actors of a peer tell each other because of the event at hand; it is run dry before the next event.
A packet for a peer of another host goes to that host's outbox, which somebody else empties.

The host is plain Python and knows nothing of Ray. In virtual time somebody calls ``run(until)`` window by
window; in real time the same method is called with the clock's reading. Which of the two it is shows only
in ``now``: the event's own time, or the reading.

Every message that a peer handles goes into its digest (time, source, sequence, tag and body):
``chain = XXH3-128(chain, message)``. Trace contexts and placement stay out. The chain finds differences
between runs and has no enemy to resist, so it does without a cryptographic hash, which would cost three
times as much and be a fifth of an event's time.

What a peer keeps when it goes down is on its disk, if it has one: its actors open it, and the host only says when the
power goes and takes it into the state. A disk that fails takes its peer down, and nobody else.

With a cost table, every peer has one virtual core. A handler occupies it for what it charges: what it
sends leaves when the core is done, and events that arrive before that wait in the peer's backlog.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from xxhash import xxh3_128_digest

from actors.actor import Actor, Handler
from actors.checkpoint import PACKET, VERSION, ActorState, Entry, HostState, PeerState, decode, pack
from actors.context import TRACE_NONE, UNSHED, Context, Span
from actors.randomness import Randomness, Stream, SystemRandomness, derive_key
from protocols.errors import LocalError, ProtocolError, SpacePandaError
from protocols.journal.store import StoreError
from protocols.messages import Message, Packet, encode

MAILBOX_SIZE_MAX: Final = 4_096
"""Messages waiting inside one peer, all its mailboxes together. A handler sends a handful; a hundred times
that is a flood, and what does not fit is shed and counted."""

BACKLOG_SIZE_MAX: Final = 1_024
"""Packets waiting for a peer's busy core. At 100 µs each they are 0.1 s of work; the newest are shed."""

OUTBOX_SIZE_MAX: Final = 16_384
"""Packets waiting for a slow host in real time; as a router would, the newest are shed. In virtual time windows
bound what a host can send."""

EVENTS_SIZE_MAX: Final = 1_000_000
"""Rows of the table of events between two collections; what exceeds it is counted, not kept."""

NEVER: Final = 2**63 - 1
"""Later than every event."""

LIFECYCLE: Final = -2
WAKE: Final = -1
"""Sources that are no peers. They sort before all peers: a peer is up before its first packet, and what
waits for its core goes before what arrives."""

ENTRY_SERVICE: Final = "limiter"
"""The actor that sees a packet first."""


Parcel = tuple[int, int, int, int, int | str, bytes, int | str, bytes]
"""An entry on its way to another host. A packet: ``(arrives at, destination, source, sequence, sent at, trace,
claimed source, data)``. A message to an actor of the same peer (placement ``subsystem``): ``(-1, peer, 0,
incarnation, service, trace, sender, encoded message)``."""

_encode_into: Final = msgspec.msgpack.Encoder().encode_into
_decode_parcels = msgspec.msgpack.Decoder(list[Parcel]).decode


class Network(Protocol):
    """The world between peers, as a host asks it."""

    def transit(self, source: int, destination: int, size: int, sent_at: int, ordinal: int) -> tuple[int, ...]:
        """When copies of a datagram arrive: none if it is lost, several if it is duplicated.

        ``ordinal`` numbers the packets that one event sends, and makes the draw unique.
        """
        ...


class Disks(Protocol):
    """What peers keep when they go down, as a host asks it."""

    def crash(self, peer: int, now: int) -> None:
        """A peer goes down: its disk loses what is not durable by now, and is free for the next incarnation."""
        ...

    def to_bytes(self, peer: int) -> bytes:
        """The state of a peer's disk; nothing if it has none."""
        ...

    def restore(self, peer: int, data: bytes) -> None:
        """Take up what ``to_bytes`` gave, before the peer's actors are restored."""
        ...


def _instant(source: int, destination: int, size: int, sent_at: int, ordinal: int) -> tuple[int, ...]:
    """No network at all: what is sent is there."""
    return (sent_at,)


def _unexpected(actor: Actor, packet: Packet, context: Context) -> None:
    raise LocalError(f"{type(actor).__name__} takes no packets")


class HandlerError(SpacePandaError):
    """A handler failed by a bug of ours. It says at which peer, in which event, and under which seed."""


class EventRow(NamedTuple):
    """One row of the table of events."""

    time: int
    peer: int
    service: str
    name: str
    fields: Mapping[str, int | str]


class SpanRow(NamedTuple):
    """A finished span."""

    span: Span
    end: int
    peer: int
    service: str
    attributes: Mapping[str, Any]


class Peer:
    """What a host keeps of a peer, up or down. Sequence and digest go on from incarnation to incarnation."""

    __slots__ = (
        "backlog",
        "busy_until",
        "chain",
        "contexts",
        "entry",
        "incarnation",
        "number",
        "receive",
        "sequence",
        "timers",
        "up_since",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.incarnation = 0
        self.up_since = NEVER
        self.sequence = 0
        self.chain = bytes(16)
        self.timers: dict[int, None] = {}  # a set, but an empty one of these takes 64 bytes instead of 216
        self.contexts: dict[str, Context] = {}
        self.entry: Context
        self.receive: Handler
        self.backlog: deque[Entry] | None = None
        self.busy_until = 0


Build = Callable[[int, int], tuple[Any, Sequence[type[Actor]]]]
"""``(peer, incarnation)`` to that peer's setup and the classes of its actors on this host, in starting order."""

Route = Callable[[int, str], int]
"""``(peer, service)`` to the number of the host that runs it, or a negative number if nobody does."""


Observer = Callable[[int, int, str, int, int, Message], None]
"""Told of every message before it is handled: ``(time, peer, service, source, sequence, message)``. For messages
between the actors of a peer, source is the peer and sequence is -1."""


class Host:
    """Runs actors; see the module's text."""

    __slots__ = (
        "_build",
        "_route",
        "_scratch",
        "alone",
        "bytes_sent",
        "charged",
        "costs",
        "counters",
        "deferred",
        "disks",
        "early",
        "events",
        "handled",
        "heap",
        "histograms",
        "mailbox_size_max",
        "now",
        "number",
        "observer",
        "ordinal",
        "outboxes",
        "packets_sent",
        "peers",
        "queue",
        "real_time",
        "sampled_below",
        "seed",
        "sender",
        "spans",
        "trace",
        "transit",
    )

    def __init__(
        self,
        build: Build,
        *,
        seed: int = 0,
        network: Network | None = None,
        disks: Disks | None = None,
        costs: Mapping[str, tuple[int, int]] | None = None,
        number: int = 0,
        route: Route | None = None,
        real_time: bool = False,
        mailbox_size_max: int = MAILBOX_SIZE_MAX,
        sample: float = 1.0,
    ) -> None:
        self._build = build
        self.transit = _instant if network is None else network.transit
        self._route = route
        self.disks = disks
        self.alone = route is None and costs is None
        self.heap: list[Entry] = []
        self._scratch = bytearray()  # where what the digest takes is put together, event after event
        self.peers: list[Peer | None] = []  # by number; None where another host has the peer
        self.ordinal = 0
        self.seed = seed
        self.costs = costs
        self.number = number
        self.real_time = real_time
        self.mailbox_size_max = mailbox_size_max
        self.sampled_below = int(sample * 2**64)
        self.now = 0
        self.trace = TRACE_NONE
        self.sender = ""
        self.charged = 0
        self.deferred: list[tuple[Callable[..., None], tuple[Any, ...]]] | None = None if costs is None else []
        self.queue: deque[tuple[Context, Message, bytes, str]] = deque()
        self.outboxes: dict[int, list[Parcel]] = {}
        self.early: list[Parcel] = []
        self.counters: dict[tuple[str, str], int] = {}
        self.histograms: dict[str, dict[int, int]] = {}
        self.events: list[EventRow] = []
        self.spans: list[SpanRow] = []
        self.observer: Observer | None = None
        self.handled = 0
        self.packets_sent = 0
        self.bytes_sent = 0

    # -- peers come and go --------------------------------------------------------------------------------

    def add(self, number: int) -> None:
        """Peer ``number`` belongs here, whether it ever comes up or not: until then, what it is sent is dropped."""
        self._peer(number)

    def schedule(self, number: int, up_at: int, down_at: int | None = None) -> None:
        """Have peer ``number`` come up at ``up_at`` and, if told, crash at ``down_at``."""
        peer = self._peer(number)
        for time, verb in ((up_at, "up"), (down_at, "down")):
            if time is not None:
                peer.sequence += 1
                heappush(self.heap, (time, number, LIFECYCLE, peer.sequence, None, TRACE_NONE, verb))

    def up(self, number: int) -> None:
        """Bring peer ``number`` up now, as its next incarnation."""
        peer = self._peer(number)
        if peer.contexts:
            raise LocalError(f"peer {number} is up already")
        peer.incarnation += 1
        peer.up_since = self.now
        setup, actors = self._build(number, peer.incarnation)
        peer.contexts = {actor.service: Context(self, peer, actor(setup)) for actor in actors}
        self._enter(peer)
        self.count("peers_started")
        for context in tuple(peer.contexts.values()):
            if not peer.contexts:
                return  # one of them failed, and the peer is down
            try:
                context.actor.start(context)
            except Exception as error:
                self._failed(peer, context, None, error)
            if self.deferred is not None:
                self._settle(peer)
            self._drain(peer)
        if self.early:
            early, self.early = self.early, []
            for parcel in early:
                self._take(parcel)

    def _enter(self, peer: Peer) -> None:
        """Find the actor that packets go to: the limiter, or the first of a peer that has none."""
        if not peer.contexts:
            return  # the one that this host is for is not part of this incarnation
        peer.entry = peer.contexts.get(ENTRY_SERVICE) or next(iter(peer.contexts.values()))
        peer.receive = peer.entry.handlers.get(Packet, _unexpected)

    def down(self, number: int) -> None:
        """Crash peer ``number``: its actors, timers and whatever was on its way to it are gone."""
        peer = self._peer(number)
        if self.disks is not None:
            self.disks.crash(number, self.now)
        peer.contexts = {}
        peer.timers.clear()
        peer.backlog = None
        peer.busy_until = 0
        peer.up_since = NEVER
        self.count("peers_stopped")

    def actor(self, number: int, service: str) -> Actor | None:
        """An actor of a running peer, for whoever inspects a run."""
        peer = self.peers[number] if number < len(self.peers) else None
        context = peer.contexts.get(service) if peer else None
        return context.actor if context else None

    def tell(self, number: int, service: str, message: Message) -> None:
        """Hand a running peer's actor a message from outside, now."""
        peer = self._peer(number)
        self.queue.append((peer.contexts[service], message, self.trace, ""))
        self._drain(peer)

    def _peer(self, number: int) -> Peer:
        peers = self.peers
        peers.extend([None] * (number + 1 - len(peers)))
        peer = peers[number]
        if peer is None:
            peer = peers[number] = Peer(number)
        return peer

    # -- the loop -----------------------------------------------------------------------------------------

    def next_time(self) -> int:
        """The time of the earliest pending event, ``NEVER`` if there is none."""
        return self.heap[0][0] if self.heap else NEVER

    def run(self, until: int) -> int:
        """Handle every event before ``until``.

        Returns:
            how many messages were handled.

        Raises:
            HandlerError: a handler failed by a bug, not by what a remote sent.
        """
        heap = self.heap
        peers: list[Any] = self.peers  # whoever an event is for is here
        queue = self.queue
        scratch = self._scratch
        observer = self.observer
        real_time = self.real_time
        charging = self.deferred is not None
        before = self.handled
        handled = 0
        while heap and heap[0][0] < until:
            time, number, source, sequence, extra, trace, message = heappop(heap)
            peer = peers[number]
            self.now = until if real_time else time
            if source == number:
                if sequence not in peer.timers:
                    continue
            elif source < 0:
                self._special(peer, source, message)
                continue
            elif extra < peer.up_since:
                self.count("packets_dropped", 1, "peer_down")
                continue
            if charging:
                self._occupy(peer, (time, number, source, sequence, extra, trace, message))
                continue
            if source == number:
                del peer.timers[sequence]
                context = peer.contexts[extra]
                handler = context.handlers[type(message)]
            else:
                context = peer.entry
                handler = peer.receive
            if observer is not None:
                observer(time, number, context.service, source, sequence, message)
            handled += 1
            _encode_into((peer.chain, time, source, sequence, message), scratch)
            peer.chain = xxh3_128_digest(scratch)
            self.trace = trace
            self.ordinal = 0
            try:
                handler(context.actor, message, context)
            except Exception as error:
                self._failed(peer, context, message, error)
            if queue:
                self._drain(peer)
        self.handled += handled
        return self.handled - before

    def _drain(self, peer: Peer) -> None:
        """Run the peer's mailboxes dry."""
        queue = self.queue
        scratch = self._scratch
        while queue:
            context, message, trace, sender = queue.popleft()
            self.trace = trace
            self.handled += 1
            _encode_into((peer.chain, context.service, message), scratch)
            peer.chain = xxh3_128_digest(scratch)
            self.sender = sender
            if self.observer is not None:
                self.observer(self.now, peer.number, context.service, peer.number, -1, message)
            try:
                context.handlers[type(message)](context.actor, message, context)
            except Exception as error:
                self._failed(peer, context, message, error)
            if self.deferred is not None:
                self._settle(peer)
        self.sender = ""

    def _special(self, peer: Peer, source: int, verb: str) -> None:
        """A peer comes up or goes down, or its core is free for what waits."""
        self.ordinal = 0
        self.trace = TRACE_NONE
        if source == WAKE:
            woken_at = self.now
            while peer.backlog and peer.busy_until <= woken_at:
                self._handle(peer, peer.backlog.popleft())
            if peer.backlog:
                self._wake(peer)
            return
        peer.chain = xxh3_128_digest(encode((peer.chain, self.now, verb)))
        if verb == "up":
            self.up(peer.number)
        elif peer.up_since != NEVER:  # else it failed before its time
            self.down(peer.number)

    def _failed(self, peer: Peer, context: Context, message: Message | None, error: Exception) -> None:
        """A remote's fault is counted. A disk's stops its peer, which finds out when it comes up again what is left.
        Ours stops a run in virtual time, and in real time the peer that it hit."""
        if isinstance(error, ProtocolError):
            self.security(peer.number, context.service, error.reason, error.detail, b"")
            return
        if isinstance(error, StoreError):
            self.count("disks_failed", 1, error.reason)
            self.note(peer.number, context.service, "disk_failed", {"reason": error.reason, "detail": error.detail})
            self._stop(peer)
            return
        what = "start" if message is None else f"{type(message).__name__} from {self.sender or 'outside'}"
        where = (
            f"{type(context.actor).__name__} of peer {peer.number} (incarnation {peer.incarnation}) failed on {what} "
            f"at {self.now} ns, seed {self.seed}: {type(error).__name__}: {error}"
        )
        if not self.real_time:
            raise HandlerError(where) from error
        self.count("peers_quarantined")
        self.note(peer.number, context.service, "quarantined", {"detail": where})
        self._stop(peer)

    def _stop(self, peer: Peer) -> None:
        """The peer goes down in the middle of an event."""
        self.queue.clear()  # it holds nothing but this peer's messages
        self.down(peer.number)

    # -- virtual CPU time ---------------------------------------------------------------------------------

    def _occupy(self, peer: Peer, entry: Entry) -> None:
        """Handle an event if the peer's core is free, else queue for it; the newest packets are shed."""
        if peer.busy_until <= self.now and not peer.backlog:
            self._handle(peer, entry)
            return
        if peer.backlog is None:
            peer.backlog = deque()
        if not peer.backlog:
            self._wake(peer)
        if len(peer.backlog) < BACKLOG_SIZE_MAX or entry[2] == entry[1]:
            peer.backlog.append(entry)
        else:
            self.count("packets_dropped", 1, "backlog_full")

    def _wake(self, peer: Peer) -> None:
        peer.sequence += 1
        heappush(self.heap, (peer.busy_until, peer.number, WAKE, peer.sequence, None, TRACE_NONE, "wake"))

    def _handle(self, peer: Peer, entry: Entry) -> None:
        """Handle an event on a core that is free."""
        _, number, source, sequence, extra, trace, message = entry
        if source != number:
            context = peer.entry
        elif sequence in peer.timers:
            del peer.timers[sequence]
            context = peer.contexts[extra]
        else:
            return
        self.ordinal = 0
        self.queue.append((context, message, trace, ""))
        self._drain(peer)

    def _settle(self, peer: Peer) -> None:
        """The core is busy for what the handler charged; then what it sent leaves, and its timers start."""
        self.now += self.charged
        self.charged = 0
        peer.busy_until = self.now
        deferred, self.deferred = self.deferred, []
        for effect, arguments in deferred or ():
            effect(peer, *arguments)

    # -- what actors do to the world (called by their contexts) -------------------------------------------

    def emit(self, peer: Peer, endpoint: int, packet: Packet, trace: bytes) -> None:
        """A datagram leaves ``peer`` as soon as its core is done."""
        if self.deferred is not None:
            self.deferred.append((self._emit, (endpoint, packet, trace)))
        else:
            self._emit(peer, endpoint, packet, trace)

    def _emit(self, peer: Peer, endpoint: int, packet: Packet, trace: bytes) -> None:
        """The network says which copies arrive, and when."""
        source = peer.number
        route = self._route
        if route is None:
            home = self.number if 0 <= endpoint < len(self.peers) else -1
        else:
            home = route(endpoint, ENTRY_SERVICE)
        if home < 0 or endpoint == source:
            self.count("packets_dropped", 1, "no_such_endpoint")
            return
        size = len(packet.data)
        self.packets_sent += 1
        self.bytes_sent += size
        now = self.now
        ordinal = self.ordinal
        self.ordinal = ordinal + 1
        for arrival in self.transit(source, endpoint, size, now, ordinal):
            peer.sequence = sequence = peer.sequence + 1
            if home == self.number:
                heappush(self.heap, (arrival, endpoint, source, sequence, now, trace, packet))
            else:
                outbox = self.outboxes.setdefault(home, [])
                if self.real_time and len(outbox) >= OUTBOX_SIZE_MAX:
                    self.count("packets_dropped", 1, "outbox_full")
                else:
                    outbox.append((arrival, endpoint, source, sequence, now, trace, packet.source, packet.data))

    def arm(self, peer: Peer, timer: int, delay: int, service: str, message: Message, trace: bytes) -> None:
        """A timer starts to run, unless it was cancelled before its handler ended."""
        if timer in peer.timers:
            heappush(self.heap, (self.now + delay, peer.number, peer.number, timer, service, trace, message))

    def send_away(self, peer: Peer, service: str, message: Message, sender: str) -> None:
        """A message for an actor of the same peer that another host runs."""
        home = self._home(peer.number, service)
        if home < 0 or home == self.number:
            raise LocalError(f"peer {peer.number} has no actor {service!r} to send {type(message).__name__} to")
        outbox = self.outboxes.setdefault(home, [])
        if len(outbox) >= OUTBOX_SIZE_MAX and UNSHED not in (service, sender):
            self.count("mailbox_shed", 1, service)
            return
        outbox.append((-1, peer.number, 0, peer.incarnation, service, self.trace, sender, encode(message)))

    def randomness(self, peer: Peer, service: str, purpose: str, position: int = 0) -> Randomness:
        """The stream of one actor of this incarnation; the system's randomness in real time."""
        if self.real_time:
            return SystemRandomness()
        return Stream(derive_key(self.seed, peer.number, peer.incarnation, service, purpose), position)

    def _home(self, number: int, service: str) -> int:
        if self._route is not None:
            return self._route(number, service)
        return self.number if 0 <= number < len(self.peers) else -1

    # -- between hosts ------------------------------------------------------------------------------------

    def take_outbox(self, host: int) -> bytes:
        """Everything that waits for another host, as one blob; empty bytes if nothing does."""
        parcels = self.outboxes.pop(host, None)
        return encode(parcels) if parcels else b""

    def earliest_departure(self) -> int:
        """The earliest arrival among what waits in the outboxes, ``NEVER`` if nothing does."""
        return min((parcel[0] for outbox in self.outboxes.values() for parcel in outbox), default=NEVER)

    def accept(self, blob: bytes) -> None:
        """Take what another host packed with ``take_outbox``. Hosts of a run trust each other."""
        if not blob:
            return
        for parcel in _decode_parcels(blob):
            arrival, number, source, sequence, extra, trace, origin, data = parcel
            if arrival < 0:
                self._take(parcel)
            else:
                self._peer(number)
                entry = (arrival, number, source, sequence, extra, trace, Packet(origin, data))  # type: ignore[arg-type]
                heappush(self.heap, entry)

    def _take(self, parcel: Parcel) -> None:
        """A message from an actor of the same peer on another host. Hosts do not bring a peer up at one instant."""
        _, number, _, incarnation, service, trace, sender, data = parcel
        peer = self._peer(number)
        unshed = UNSHED in (service, sender)
        if incarnation > peer.incarnation and (len(self.early) < self.mailbox_size_max or unshed):
            self.early.append(parcel)
        elif incarnation != peer.incarnation or service not in peer.contexts:
            self.count("messages_dropped", 1, "peer_down")
        elif len(self.queue) >= self.mailbox_size_max and not unshed:
            self.count("mailbox_shed", 1, str(service))
        else:
            context = peer.contexts[str(service)]
            self.queue.append((context, context.actor.codec().decode(data), trace, str(sender)))
            self._drain(peer)

    # -- telemetry ----------------------------------------------------------------------------------------

    def count(self, name: str, n: int = 1, label: str = "") -> None:
        key = (name, label)
        self.counters[key] = self.counters.get(key, 0) + n

    def record(self, name: str, value: int) -> None:
        """Histograms have buckets of powers of two: bucket ``b`` holds values below ``2**b``."""
        buckets = self.histograms.setdefault(name, {})
        bucket = max(value, 0).bit_length()
        buckets[bucket] = buckets.get(bucket, 0) + 1

    def security(self, number: int, service: str, reason: str, detail: str, device: bytes) -> None:
        self.count("security_events", 1, reason)
        self.note(number, service, "security", {"reason": reason, "detail": detail[:200], "device": device})

    def note(self, number: int, service: str, name: str, fields: Mapping[str, int | str | bytes]) -> None:
        if len(self.events) < EVENTS_SIZE_MAX:
            readable = {key: value.hex() if isinstance(value, bytes) else value for key, value in fields.items()}
            self.events.append(EventRow(self.now, number, service, name, readable))
        else:
            self.count("events_discarded")

    def finished(self, number: int, service: str, span: Span, attributes: Mapping[str, Any]) -> None:
        if self.sampled(span.trace_id):
            self.spans.append(SpanRow(span, self.now, number, service, attributes))

    def sampled(self, trace: bytes) -> bool:
        """Whether spans of a trace (its id, or its context) are kept.

        The decision is a function of the id, which is as good as random, and of the run's ratio, so every host makes
        the same one and no packet says it: ciphertexts, and so the digest, are the same at every ratio.
        """
        return int.from_bytes(trace[8:16], "big") < self.sampled_below

    @property
    def running(self) -> int:
        """How many of its peers are up."""
        return sum(1 for peer in self.peers if peer is not None and peer.contexts)

    def digests(self) -> dict[int, bytes]:
        """Per peer of this host that has ever been up, the hash over every event it handled."""
        return {peer.number: peer.chain for peer in self.peers if peer is not None and peer.incarnation}

    # -- state --------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The host's whole state between two calls of ``run``: peers, actors, streams, and all that is to come."""
        if self.queue or any(self.outboxes.values()):
            raise LocalError("a host has a state only between windows, with its outboxes taken")
        state = HostState(
            VERSION,
            self.now,
            self.handled,
            self.packets_sent,
            self.bytes_sent,
            [(name, label, n) for (name, label), n in self.counters.items()],
            self.histograms,
            [self._peer_state(peer) for peer in self.peers if peer is not None],
            [pack(entry) for entry in sorted(self.heap) if self._alive(entry)],
        )
        return encode(state)

    def restore(self, data: bytes) -> None:
        """Become the host whose ``to_bytes`` gave ``data``; this one must be new and built with the same arguments."""
        if self.peers:
            raise LocalError("only a new host can be restored")
        state = decode(data)
        self.now, self.handled = state.now, state.handled
        self.packets_sent, self.bytes_sent = state.packets_sent, state.bytes_sent
        self.counters = {(name, label): n for name, label, n in state.counters}
        self.histograms = state.histograms
        for each in state.peers:
            self._restore_peer(each)
        self.heap = [self._unpack(entry) for entry in state.heap]  # sorted, hence a heap

    def _peer_state(self, peer: Peer) -> PeerState:
        return PeerState(
            peer.number,
            peer.incarnation,
            peer.up_since,
            peer.sequence,
            peer.chain,
            sorted(peer.timers),
            peer.busy_until,
            None if peer.backlog is None else [pack(entry) for entry in peer.backlog if self._alive(entry)],
            [
                ActorState(service, context.positions(), context.actor.to_bytes())
                for service, context in peer.contexts.items()
            ],
            b"" if self.disks is None else self.disks.to_bytes(peer.number),
        )

    def _restore_peer(self, state: PeerState) -> None:
        peer = self._peer(state.number)
        peer.incarnation, peer.up_since, peer.sequence = state.incarnation, state.up_since, state.sequence
        peer.chain, peer.timers, peer.busy_until = state.chain, dict.fromkeys(state.timers), state.busy_until
        if self.disks is not None:
            self.disks.restore(state.number, state.disk)
        if state.actors:
            setup, classes = self._build(state.number, state.incarnation)
            by_service = {actor.service: actor for actor in classes}
            for each in state.actors:
                context = Context(self, peer, by_service[each.service].from_bytes(each.state, setup))
                context.restore(*each.positions)
                peer.contexts[each.service] = context
            self._enter(peer)
        if state.backlog is not None:
            peer.backlog = deque(self._unpack(entry) for entry in state.backlog)

    def _alive(self, entry: Entry) -> bool:
        """Whether an entry is no timer that was cancelled or belongs to a dead incarnation."""
        return entry[1] != entry[2] or entry[3] in self._peer(entry[1]).timers

    def _unpack(self, packed: Entry) -> Entry:
        time, number, source, sequence, extra, trace, item = packed
        if source == number:
            item = self._peer(number).contexts[extra].actor.codec().decode(item)
        elif source >= 0:
            item = PACKET.decode(item)
        return time, number, source, sequence, extra, trace, item
