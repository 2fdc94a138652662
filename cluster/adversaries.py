"""Peers that lie: what a scenario may let loose on honest ones.

An adversary runs one actor instead of a peer's subsystems. It has real sessions, because what an outsider can
send is the smaller half of what can go wrong: a device with good keys and bad manners passes every cryptographic
check, and only the limiter, the decoders and the rules of each protocol stand between it and the state of others.

    garbage   random and mangled datagrams to anybody; nonsense of every sort inside of sessions
    flood     first messages from forged sources, and more good requests than anybody grants
    impostor  proofs of keys that it does not have (``cluster.impostor``)

They are no fuzzers: Hypothesis looks for the odd input, these make it rain for a whole run, from the run's own
randomness, so that a digest covers them too. What they remember is bounded, as for any other actor.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Self

import msgspec

from actors.actor import Actor, handles
from actors.context import Context
from cluster.nonsense import NONSENSE, forged_init, mangle, request
from cluster.registry import ADVERSARIES
from cluster.sections import NS_PER_S
from protocols.contact import Contact
from protocols.errors import LocalError, ProtocolError
from protocols.kademlia.messages import RESPONSES, FindNode, Found, Nodes, Ping
from protocols.messages import Message, Packet, encode
from protocols.noise.interface import Opened, SessionDown, SessionUp, Transmit
from protocols.noise.sessions import Sessions
from protocols.rpc.frames import FRAMES, Frame, Response

if TYPE_CHECKING:
    from cluster.population import SimulatedSetup

STATE_VERSION: Final = 1

TICKS_PER_S_MAX: Final = 50
"""Above this rate, several things are sent at each tick: a timer for each would be half of the work."""

KNOWN_MAX: Final = 64
"""Peers remembered as partners for sessions; as many dials may be under way."""

HEARD_MAX: Final = 16
"""Real datagrams remembered for mangling and replaying: all sorts of them, from the last second or so."""

Rate = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every adversary can be told."""

    rate_per_s: Rate
    """How many bad things it does."""


class GarbageOptions(Options, frozen=True, kw_only=True):
    """How much garbage: half of it is datagrams for anybody, half goes into sessions."""

    rate_per_s: Rate = 20


class FloodOptions(Options, frozen=True, kw_only=True):
    """How much of a flood: half of it is forged first messages, half are requests inside of sessions."""

    rate_per_s: Rate = 1_000
    victims: Annotated[int, msgspec.Meta(ge=1, le=KNOWN_MAX)] = 2
    """So many of the bootstrap peers get all of it."""


class Tick(Message, frozen=True, tag="adversary.tick"):
    """Time for more."""


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    sessions: bytes
    next_ids: list[tuple[int, int]]
    known: list[Contact]
    heard: list[tuple[int, bytes]]


class Adversary(Actor):
    """A peer that has sessions, and nothing else that it should have. Subclasses say what it does with them."""

    __slots__ = ("_heard", "_known", "_next_ids", "_rate_per_s", "_sessions", "_setup")

    service: ClassVar[str] = "limiter"
    options: ClassVar[type[Options]]

    def __init__(self, setup: "SimulatedSetup") -> None:
        self._setup = setup
        self._rate_per_s = msgspec.convert(dict(setup.options), self.options).rate_per_s
        self._sessions = Sessions(setup.identity, setup.sessions, setup.aead)
        # Of every live session, the next id for a request.
        self._next_ids: dict[int, int] = {}
        self._known = list(setup.bootstrap[:KNOWN_MAX])
        # Datagrams, and who sent or got them.
        self._heard: list[tuple[int, bytes]] = []

    def strike(self, ctx: Context) -> None:
        """Do one bad thing; called ``rate_per_s`` times a second."""
        raise NotImplementedError

    def start(self, ctx: Context) -> None:
        ctx.after(self._pause, Tick())

    @handles(Tick)
    def tick(self, tick: Tick, ctx: Context) -> None:
        """A handful of bad things; and the sessions' own timers, which nobody minds to be a little late."""
        deadline = self._sessions.deadline()
        if deadline is not None and deadline <= ctx.now:
            self._act(self._sessions.expire(ctx.now, ctx.entropy), ctx)
        for _ in range(self._at_once):
            self.strike(ctx)
        ctx.after(self._pause, tick)

    @handles(Packet)
    def packet(self, packet: Packet, ctx: Context) -> None:
        """Sessions have to be kept up, and whatever comes is good to be mangled."""
        self._remember(packet.source, packet.data)
        try:
            outputs = self._sessions.receive(packet.source, packet.data, ctx.now, ctx.entropy)
        except ProtocolError:
            return
        self._act(outputs, ctx)

    # -- for subclasses -----------------------------------------------------------------------------------

    def session(self, contact: Contact, ctx: Context) -> int | None:
        """The session with a peer; if there is none, it is dialled."""
        session = self._sessions.session_with(contact.device)
        if session is None:
            self._act(self._sessions.dial(contact.device, contact.endpoint, ctx.now, ctx.entropy), ctx)
        return session

    def say(self, session: int, frame: bytes, ctx: Context) -> None:
        """Send something inside of a session."""
        self._act(self._sessions.send(session, frame, ctx.now), ctx)

    def heard(self, opened: Opened, frame: Frame, ctx: Context) -> None:
        """A frame came out of a session. Honest answers name further victims.

        Raises:
            ProtocolError: the frame is worth nothing; it is forgotten.
        """
        if isinstance(frame, Response):
            self._learn(frame.body, ctx)

    def next_id(self, session: int) -> int:
        """The id for one more request in a session."""
        identifier = self._next_ids[session]
        self._next_ids[session] = identifier + 1
        return identifier

    # -- inside -------------------------------------------------------------------------------------------

    @property
    def _at_once(self) -> int:
        return -(-self._rate_per_s // TICKS_PER_S_MAX)

    @property
    def _pause(self) -> int:
        return NS_PER_S * self._at_once // self._rate_per_s

    def _remember(self, endpoint: int, data: bytes) -> None:
        if len(self._heard) >= HEARD_MAX:
            del self._heard[0]
        self._heard.append((endpoint, data))

    def _act(self, outputs: list[Message], ctx: Context) -> None:
        for output in outputs:
            match output:
                case Transmit(endpoint, data):
                    self._remember(endpoint, data)
                    ctx.transmit(endpoint, data)
                case SessionUp(session):
                    self._next_ids.setdefault(session, 0)
                case SessionDown(session):
                    self._next_ids.pop(session, None)
                case Opened():
                    with suppress(ProtocolError):
                        self.heard(output, FRAMES.decode(output.data), ctx)

    def _learn(self, body: bytes, ctx: Context) -> None:
        response = RESPONSES.decode(body)
        if not isinstance(response, Nodes | Found):
            return
        for contact in response.contacts:
            if contact.device == self._setup.identity.device_public or contact in self._known:
                continue
            if len(self._known) < KNOWN_MAX:
                self._known.append(contact)
            else:
                self._known[ctx.rng.below(KNOWN_MAX)] = contact

    # -- state --------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        next_ids = list(self._next_ids.items())
        state = _State(STATE_VERSION, self._sessions.to_bytes(), next_ids, self._known, self._heard)
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes, setup: "SimulatedSetup") -> Self:
        state = msgspec.msgpack.decode(data, type=_State)
        if state.version != STATE_VERSION:
            raise LocalError(f"an adversary's state of version {state.version}, not {STATE_VERSION}")
        actor = cls(setup)
        actor._sessions = Sessions.from_bytes(state.sessions, setup.identity, setup.sessions, setup.aead)
        actor._next_ids, actor._known, actor._heard = dict(state.next_ids), state.known, state.heard
        return actor


class Garbage(Adversary):
    """Sends nonsense, outside of sessions and inside; and good questions, to learn whom else to bother."""

    __slots__ = ()

    options: ClassVar[type[Options]] = GarbageOptions

    def strike(self, ctx: Context) -> None:
        if self._known and ctx.rng.below(2):
            self._inside(self._known[ctx.rng.below(len(self._known))], ctx)
        else:
            self._outside(ctx)

    def _outside(self, ctx: Context) -> None:
        """Random bytes, or a real datagram: mangled or not, to where it was going or to anybody."""
        rng = ctx.rng
        endpoint, data = rng.below(self._setup.population), ctx.entropy(1 + rng.below(300))
        if self._heard and rng.below(4):
            partner, data = self._heard[rng.below(len(self._heard))]
            if rng.below(2):
                endpoint = partner
            if rng.below(8):
                data = mangle(data, rng.below, ctx.entropy)
        ctx.transmit(endpoint, data)

    def _inside(self, contact: Contact, ctx: Context) -> None:
        session = self.session(contact, ctx)
        if session is None:
            return
        identifier = self.next_id(session)
        choice = ctx.rng.below(len(NONSENSE) + 1)
        if choice < len(NONSENSE):
            frame = NONSENSE[choice](identifier, ctx.rng.below, ctx.entropy)
        else:
            frame = request(identifier, encode(FindNode(ctx.entropy(32))))
        self.say(session, frame, ctx)


class Flood(Adversary):
    """Sends what is good in itself, too much of it, to a few."""

    __slots__ = ("_victims",)

    options: ClassVar[type[Options]] = FloodOptions

    def __init__(self, setup: "SimulatedSetup") -> None:
        super().__init__(setup)
        self._victims = setup.bootstrap[: msgspec.convert(dict(setup.options), FloodOptions).victims]

    def strike(self, ctx: Context) -> None:
        if not self._victims:
            return
        victim = self._victims[ctx.rng.below(len(self._victims))]
        if ctx.rng.below(2):
            # Half of the sources exist, and are sent what they never asked for.
            ctx.forge(ctx.rng.below(2 * self._setup.population), victim.endpoint, forged_init(ctx.entropy))
            return
        session = self.session(victim, ctx)
        if session is not None:
            body = encode(FindNode(ctx.entropy(32)) if ctx.rng.below(2) else Ping())
            self.say(session, request(self.next_id(session), body), ctx)


ADVERSARIES.register("garbage", GarbageOptions)((Garbage,))
ADVERSARIES.register("flood", FloodOptions)((Flood,))
