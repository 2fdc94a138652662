"""Members of a channel who lie about what others wrote, or about what they hold.

    forger        units with one thing wrong (``crdt_forgeries``), and others' good ones again and again
    withholder    operations that rest on what it never hands out, or on what there is not; asked, it gives other things
    poisoner      a lie in every message of anti-entropy, asked or answering

What is parked, asked for or compared in vain is all that these can cost, so that is what has to be bounded.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Annotated, ClassVar, Final

import msgspec

from actors.context import Context
from actors.crdt_channel import ChannelReplica
from actors.crdt_replica import Purpose
from cluster.crdt_forgeries import FORGERIES, Material, Tip, content
from cluster.crdt_traitor import RECENT_MAX, Traitor, TraitorOptions, parts
from cluster.registry import ADVERSARIES
from protocols.crdt.changes import Role
from protocols.crdt.clock import clock_at
from protocols.crdt.history import Held
from protocols.crdt.messages import (
    DEPTH_MAX,
    HEADS_MAX,
    KNOWN_MAX,
    LISTED_MAX,
    RANGE_SIZE,
    SHORT_SIZE,
    UNTIL_MAX,
    Compare,
    Delta,
    Far,
    Fingerprints,
    Heads,
    List,
    Listed,
    Push,
    Pushed,
    Request,
    Same,
    Since,
    Split,
)
from protocols.crdt.operations import DEPENDENCIES_MAX
from protocols.crdt.outgoing import pack
from protocols.messages import Message, encode
from protocols.rpc.calls import Incoming, Respond

CHAIN_MAX: Final = 24
"""Units of one chain that is shown without its beginning."""
DIGEST_SIZE: Final = 16
REPEATED_MAX: Final = 8
"""Others' units in one replay."""

Ids = tuple[bytes, ...]


class ForgerOptions(TraitorOptions, frozen=True, kw_only=True):
    """How much is forged."""

    forgeries: Annotated[int, msgspec.Meta(ge=1, le=64)] = 3
    """At a time, each told to somebody else."""


class Forger(Traitor):
    """Hands on what nobody wrote, or not so."""

    __slots__ = ()

    options: ClassVar[type[TraitorOptions]] = ForgerOptions

    def strike(self, channel: ChannelReplica, ctx: Context) -> None:
        draw = ctx.rng.below
        made = self._material(channel, ctx)
        if made is None:
            return
        assert isinstance(self._options, ForgerOptions)
        for member in self._members(ctx, self._options.forgeries):
            choice = draw(len(FORGERIES) + 1)
            if choice == len(FORGERIES):
                units, name = list(made.units), "replay"
            else:
                units, name = [FORGERIES[choice](made, draw, ctx.entropy)], FORGERIES[choice].__name__
            ctx.count("crdt_attacks", 1, name)
            self._tell(channel, [member], units, ctx)

    def _material(self, channel: ChannelReplica, ctx: Context) -> Material | None:
        held = [each for each in _recent(channel) if each.operation.author != self._device]
        units = (
            pack(channel.replica.history, [held[ctx.rng.below(len(held))] for _ in range(REPEATED_MAX)]).units
            if held
            else ()
        )
        if not units:
            return None
        last, members = channel.replica.tip(self._device), channel.replica.judge.members
        return Material(
            channel.replica.channel,
            self._setup.identity.signing,
            Tip() if last is None else Tip(last.sequence, last.id, last.operation.clock),
            held,
            units,
            next(device for device, role in members.items() if role == Role.OWNER),
            clock_at(ctx.now),
        )


class Withholder(Traitor):
    """Shows the ends of chains, and never their beginnings."""

    __slots__ = ()

    def strike(self, channel: ChannelReplica, ctx: Context) -> None:
        draw, units = ctx.rng.below, list[bytes]()
        tip = Tip(1 + draw(1_000), ctx.entropy(32), 1)  # whose id nothing has
        made_up = draw(DEPENDENCIES_MAX) if draw(2) else 0
        for number in range(CHAIN_MAX):
            seen = [(ctx.entropy(32), 1) for _ in range(made_up if number % 2 else 0)]
            unit, tip = self._sign(channel, tip, [content(draw, ctx.entropy)], seen, clock_at(ctx.now))
            units.append(unit)
        if draw(2):
            units.reverse()
        ctx.count("crdt_attacks", 1, "withheld")
        self._tell(channel, self._members(ctx), units, ctx)

    def _answer(self, channel: ChannelReplica, request: Request, incoming: Incoming, ctx: Context) -> None:
        if not isinstance(request, Since) or not request.until:
            super()._answer(channel, request, incoming, ctx)
            return
        ctx.count("crdt_attacks", 1, "asked_in_vain")
        mask = bytes((len(request.known) + 7) // 8)
        units = pack(channel.replica.history, list(_recent(channel))[:REPEATED_MAX]).units if ctx.rng.below(2) else ()
        self._say(Respond(incoming.call, encode(Delta(mask, units, bool(ctx.rng.below(2))))), ctx)


class Poisoner(Traitor):
    """Says of itself and of others whatever is not so."""

    __slots__ = ()

    def strike(self, channel: ChannelReplica, ctx: Context) -> None:
        identifier = channel.replica.channel
        for member in self._members(ctx, 2):
            question = QUESTIONS[ctx.rng.below(len(QUESTIONS))](identifier, _Lies(channel, ctx))
            ctx.count("crdt_attacks", 1, "bad_question")
            self._call(channel, member.device, member.endpoint, encode(question), Purpose.NEWS, ctx)

    def _answer(self, channel: ChannelReplica, request: Request, incoming: Incoming, ctx: Context) -> None:
        if not ctx.rng.below(3):  # now and then, what it should, or nobody would come as far as the other lies
            super()._answer(channel, request, incoming, ctx)
            return
        ctx.count("crdt_attacks", 1, "bad_answer")
        lies = _Lies(channel, ctx)
        answers = ANSWERS[type(request)] if ctx.rng.below(4) else ANSWERS[Compare]
        self._say(Respond(incoming.call, encode(answers[ctx.rng.below(len(answers))](request, lies))), ctx)


class _Lies:
    """What a poisoner's messages are made of."""

    def __init__(self, channel: ChannelReplica, ctx: Context) -> None:
        self.draw = ctx.rng.below
        self.entropy = ctx.entropy
        self._channel = channel

    def ids(self, count_max: int) -> Ids:
        """Of operations that there are not, sorted."""
        return tuple(sorted(self.entropy(32) for _ in range(1 + self.draw(count_max))))

    def units(self) -> tuple[bytes, ...]:
        """That nobody asked for: known, or no units at all."""
        if self.draw(2):
            return pack(self._channel.replica.history, islice(_recent(self._channel), REPEATED_MAX)).units
        return tuple(self.entropy(1 + self.draw(200)) for _ in range(1 + self.draw(4)))

    def shorts(self, count: int) -> bytes:
        """Keys or fingerprints, of nothing."""
        return self.entropy(SHORT_SIZE * count) if count else b""

    def ascending(self, count: int) -> bytes:
        return b"".join(sorted(self.entropy(SHORT_SIZE) for _ in range(count)))

    def ranges(self, depth: int, count: int) -> bytes:
        ranges = sorted(self.draw(1 << depth) for _ in range(count))
        return b"".join(each.to_bytes(RANGE_SIZE, "big") for each in ranges)


Question = Callable[[bytes, _Lies], Message]
Answer = Callable[[Request, _Lies], Message]

QUESTIONS: Final[tuple[Question, ...]] = (
    lambda channel, lies: Compare(channel, lies.entropy(DIGEST_SIZE)),
    lambda channel, lies: Since(channel, lies.ids(KNOWN_MAX), (), bool(lies.draw(2))),
    lambda channel, lies: Since(channel, (), lies.ids(UNTIL_MAX), True),
    lambda channel, lies: Since(channel, lies.ids(KNOWN_MAX) * 2),
    lambda channel, lies: Split(channel, 0, 13, bytes(RANGE_SIZE)),
    lambda channel, lies: Split(channel, DEPTH_MAX, 13, lies.ranges(DEPTH_MAX, 900)),
    lambda channel, lies: Split(channel, 8, 3, lies.ranges(8, 40)[::-1]),
    lambda channel, lies: Split(channel, 2, 2, lies.entropy(RANGE_SIZE - 1)),
    lambda channel, lies: List(channel, 0, bytes(RANGE_SIZE)),
    lambda channel, lies: List(channel, 3, (1 << 31).to_bytes(RANGE_SIZE, "big")),
    lambda channel, lies: List(channel, DEPTH_MAX + 1, bytes(RANGE_SIZE)),
    lambda channel, lies: Push(channel, (), lies.shorts(2_000)),
    lambda channel, lies: Push(channel, lies.units(), lies.entropy(SHORT_SIZE + 1)),
    lambda channel, lies: Push(channel, lies.units()),
)
"""Some are good questions, and nobody but a liar would ask them."""

_ANYWHERE: Final[tuple[Answer, ...]] = (
    lambda request, lies: Same(),
    lambda request, lies: Heads(lies.ids(HEADS_MAX), bool(lies.draw(2))),
    lambda request, lies: Heads((), True),
    lambda request, lies: Heads(lies.ids(HEADS_MAX)[::-1], False),
)
_SINCE: Final[tuple[Answer, ...]] = (
    lambda request, lies: Delta(_mask(request, 0), lies.units(), True),  # and never an end of it
    lambda request, lies: Delta(_mask(request, 255), (), False),
    lambda request, lies: Delta(lies.entropy(1 + lies.draw(30)), (), False),
    lambda request, lies: Far(_mask(request, 0), 2**63, 13, lies.shorts(1 << 13)),
    lambda request, lies: Far(_mask(request, 0), 3, 3, lies.shorts(1 << 3)),
    lambda request, lies: Far(_mask(request, 0), 10**6, 8, lies.shorts(9)),
)
_RANGES: Final[tuple[Answer, ...]] = (
    lambda request, lies: Fingerprints(lies.shorts(_parts(request))),  # so they all differ, for ever
    lambda request, lies: Fingerprints(lies.shorts(lies.draw(5))),
    lambda request, lies: Fingerprints(bytes(lies.draw(100))),
    lambda request, lies: Listed(0, b""),
    lambda request, lies: Listed(1, lies.ascending(LISTED_MAX)),
    lambda request, lies: Listed(2_000, lies.shorts(10)),
)
_PUSH: Final[tuple[Answer, ...]] = (
    lambda request, lies: Pushed(2**63, 0, 0, (), True),
    lambda request, lies: Pushed(0, 0, 0, lies.units(), True),
    lambda request, lies: Pushed(0, 0, len(lies.entropy(1)), (), False),
)

ANSWERS: Final[dict[type[Request], Sequence[Answer]]] = {
    Compare: _ANYWHERE,
    Since: _SINCE,
    Split: _RANGES,
    List: _RANGES,
    Push: _PUSH,
}
"""To each sort of question."""


def _recent(channel: ChannelReplica) -> Sequence[Held]:
    """The last operations that it holds."""
    history = channel.replica.history
    return [each for each in islice(reversed(history.operations.values()), RECENT_MAX) if each.id != history.channel]


def _mask(request: Request, byte: int) -> bytes:
    """As long as it should be, and perhaps with bits beyond the last."""
    return bytes([byte]) * ((len(request.known) + 7) // 8) if isinstance(request, Since) else b""


def _parts(request: Request) -> int:
    return len(request.ranges) // RANGE_SIZE << request.bits if isinstance(request, Split) else 1


def _register(name: str, kind: type[Traitor]) -> None:
    ADVERSARIES.register(name, kind.options)(parts(kind))


_register("forger", Forger)
_register("withholder", Withholder)
_register("poisoner", Poisoner)
