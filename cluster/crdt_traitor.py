"""What all liars among the members of a channel have in common (``crdt_adversaries``, ``crdt_liars``).

Each runs all that an honest peer does, with a replica that takes in, passes on and answers as any other, so that it is
believed and knows what there is to be misused. From time to time it strikes, from the run's own randomness. Whoever is
revoked is heard by nobody honest any more, so liars take each other in; and they accuse nobody.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import msgspec

from actors.actor import Actor, handles
from actors.context import Context
from actors.crdt_channel import ChannelReplica
from actors.crdt_replica import CrdtReplica, Purpose
from actors.peer import SUBSYSTEMS
from cluster.crdt_forgeries import Seen, Tip, written
from cluster.sections import NS_PER_S, PositiveSeconds, Seconds, nanoseconds
from protocols.contact import Contact
from protocols.crdt.changes import Change
from protocols.crdt.history import Held
from protocols.crdt.messages import REQUESTS, Push, Request
from protocols.errors import ProtocolError
from protocols.identity import SigningKey
from protocols.messages import Message

if TYPE_CHECKING:
    from cluster.population import SimulatedSetup

KEPT_MAX: Final = 16
"""Of ends of chains, kept units and puppets each; the oldest gives way."""
RECENT_MAX: Final = 64
"""Operations among which it looks for something to depend on."""
TOLD_MAX: Final = 8
"""Members that are told something at once; they tell the others."""


class TraitorOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often it strikes."""

    pause_s: PositiveSeconds = 4.0
    """Between two times, on average,"""
    from_s: Seconds = 5.0
    """after this."""


class Strike(Message, frozen=True, tag="adversary.crdt_strike"):
    """Time for the next."""


class Notes(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What it remembers besides its replica."""

    tips: list[Tip] = []
    """Where its chain ends, or its branches do,"""
    roots: list[Tip] = []
    """and where others can begin."""
    kept: list[bytes] = []
    """What it has signed and shown to nobody."""
    puppets: list[tuple[bytes, Tip, Seen]] = []
    """Seeds of keys, the ends of their chains, and what let them in."""


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    replica: bytes
    notes: Notes


class Traitor(CrdtReplica):
    """A replica like any other, until it strikes. Subclasses say how."""

    __slots__ = ("_end_ns", "_notes", "_options")

    options: ClassVar[type[TraitorOptions]] = TraitorOptions
    quiet_ns: ClassVar[int] = 30 * NS_PER_S
    """Before the run ends it strikes no more: else nobody could tell who disagrees from who has not heard yet."""

    def __init__(self, setup: "SimulatedSetup") -> None:
        super().__init__(setup)
        self._notes = Notes()
        self._know(setup)

    def _know(self, setup: "SimulatedSetup") -> None:
        self._options = msgspec.convert(dict(setup.options), self.options)
        self._end_ns = setup.duration_ns - self.quiet_ns

    def strike(self, channel: ChannelReplica, ctx: Context) -> None:
        """Do something bad."""
        raise NotImplementedError

    def start(self, ctx: Context) -> None:
        super().start(ctx)
        ctx.after(nanoseconds(self._options.from_s) + self._pause(ctx), Strike())

    @handles(Strike)
    def strike_due(self, strike: Strike, ctx: Context) -> None:
        if ctx.now >= self._end_ns:
            return
        for channel in self._channels.values():
            self.strike(channel, ctx)
        self._rearm(ctx)
        ctx.after(self._pause(ctx), strike)

    # -- what it does not do as others do -----------------------------------------------------------------

    def _refusal(self, request: Request, device: bytes) -> str:
        return "" if request.channel in self._channels else "unknown_channel"

    def _speak(self, channel: ChannelReplica, ctx: Context, *, acknowledge: bool) -> None:
        """It says nothing that it does not have to."""

    def _blame(self, device: bytes, error: ProtocolError, ctx: Context) -> None:
        """It should talk."""

    # -- for subclasses -----------------------------------------------------------------------------------

    @property
    def _device(self) -> bytes:
        return self._setup.identity.device_public

    def _members(self, ctx: Context, count: int = TOLD_MAX) -> list[Contact]:
        """Some of the others, liars too, in random order."""
        others = [each for each in self._setup.channels[0].members if each.device != self._device]
        return [others.pop(ctx.rng.below(len(others))) for _ in range(min(count, len(others)))]

    def _sign(
        self,
        channel: ChannelReplica,
        tip: Tip,
        changes: Sequence[Change],
        seen: Sequence[Seen],
        clock: int,
        key: SigningKey | None = None,
    ) -> tuple[bytes, Tip]:
        """Sign a bundle, whatever it says; a first one needs something to depend on."""
        replica = channel.replica
        if not tip.sequence and not seen:
            seen = [(replica.channel, replica.history.operations[replica.channel].operation.clock)]
        return written(key or self._setup.identity.signing, replica.channel, tip, changes, seen, clock)

    def _tell(self, channel: ChannelReplica, to: Iterable[Contact], units: Iterable[bytes], ctx: Context) -> None:
        body = REQUESTS.encode(Push(channel.replica.channel, tuple(units)))
        for each in to:
            self._call(channel, each.device, each.endpoint, body, Purpose.NEWS, ctx)

    def _seen(self, channel: ChannelReplica, tip: Tip, unknown: int, ctx: Context) -> list[Seen]:
        """Something recent of others, new to who wrote ``tip``, that knows none of these acts, and none of its branches
        but the first."""
        history = channel.replica.history
        last = history.operations.get(tip.id)
        branches = [history.lanes[each].operations[0] for each in history.lanes_of.get(self._device, ())[1:]]
        recent: list[Held] = [
            held
            for held in islice(reversed(history.operations.values()), RECENT_MAX)
            if not held.knows() & unknown
            and held.operation.author != self._device
            and (not last.sees(held) if last is not None else held.operation.clock > tip.clock)
            and not any(held.sees(branch) for branch in branches)
        ]
        if not recent:
            return []
        held = recent[ctx.rng.below(len(recent))]
        return [(held.id, held.operation.clock)]

    def _pause(self, ctx: Context) -> int:
        pause = nanoseconds(self._options.pause_s)
        return 1 + pause // 2 + ctx.rng.below(1 + pause)

    # -- state --------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode(_State(super().to_bytes(), self._notes))

    @classmethod
    def from_bytes(cls, data: bytes, setup: Any) -> Self:
        state = msgspec.msgpack.decode(data, type=_State)
        actor = super().from_bytes(state.replica, setup)
        actor._notes = state.notes
        actor._know(setup)
        return actor


def keep(some: list[Any], one: Any) -> None:
    """Remember one more, and forget the oldest if they are too many."""
    if len(some) >= KEPT_MAX:
        del some[0]
    some.append(one)


def parts(kind: type[CrdtReplica]) -> tuple[type[Actor], ...]:
    """A peer that is as any other but for its replica."""
    return tuple(kind if each is CrdtReplica else each for each in SUBSYSTEMS)
