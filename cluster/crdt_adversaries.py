"""Members of a channel who write what they should not: good keys, real sessions, and replicas that do their job.

    equivocator   two or more operations on one back-link, each shown to others; forks of forks; branches that are kept
                  back until everybody knows better; and on and on, beside the proof
    backdater     once it is revoked, operations that pretend not to have seen that, and puppets whom it lets in
    postdater     clocks far ahead, to pin registers
    flooder       as many operations as it can sign, within its quota and beyond, on as many branches as it likes

All of it is signed as it should be, so replicas have to judge it by what it says (``crdt_traitor`` is how they come to
it; ``crdt_liars`` has those who lie in other ways).
"""

from typing import Annotated, ClassVar, Final

import msgspec

from actors.context import Context
from actors.crdt_channel import ChannelReplica
from cluster.crdt_forgeries import WORDS, Seen, Tip, content
from cluster.crdt_traitor import TOLD_MAX, Traitor, TraitorOptions, keep, parts
from cluster.nonsense import Draw
from cluster.registry import ADVERSARIES
from cluster.sections import NS_PER_S
from protocols.crdt.bundles import BUNDLE_COUNT_MAX
from protocols.crdt.changes import Acknowledge, Add, Assign, Change, Clear, Grant, Increment, Remove, Revoke, Role
from protocols.crdt.clock import AHEAD_NS_MAX, CLOCK_MAX, clock_at
from protocols.identity import SigningKey

HONEST_MAX: Final = 3
"""Operations with which an equivocator makes itself believed."""


class Equivocator(Traitor):
    """Writes two operations on one back-link, for others to disagree about."""

    __slots__ = ()

    def strike(self, channel: ChannelReplica, ctx: Context) -> None:
        notes, draw = self._notes, ctx.rng.below
        if not notes.tips or notes.tips[-1].sequence < HONEST_MAX:
            self._go_on(channel, ctx)
            return
        match draw(4):
            case 0:
                self._go_on(channel, ctx)
            case 1 if notes.kept:
                ctx.count("crdt_attacks", 1, "late_branch")
                self._tell(channel, self._members(ctx, 2), [notes.kept.pop(draw(len(notes.kept)))], ctx)
            case _:
                self._fork(channel, ctx)

    def _go_on(self, channel: ChannelReplica, ctx: Context) -> None:
        """On one of the branches, if there are several."""
        tips = self._notes.tips
        tip = tips.pop(ctx.rng.below(len(tips))) if tips else Tip()
        ctx.count("crdt_attacks", 1, "branch")
        self._tell(channel, self._members(ctx), [self._branch(channel, tip, ctx)], ctx)

    def _fork(self, channel: ChannelReplica, ctx: Context) -> None:
        """Two or three branches where there was one, each shown to some others, or kept."""
        roots, draw = self._notes.roots, ctx.rng.below
        if draw(2):  # where it has been believed; else it may be anywhere, also on what nobody has
            held = channel.replica.history.operations
            roots = [root for root in roots if root.id in held] or roots
        root = roots[draw(len(roots))]
        members = self._members(ctx, 2 * TOLD_MAX)
        branches = 2 + draw(2)
        ctx.count("crdt_attacks", 1, "fork")
        for number in range(branches):
            unit = self._branch(channel, root, ctx)
            if draw(4):
                self._tell(channel, members[number::branches], [unit], ctx)
            else:
                keep(self._notes.kept, unit)

    def _branch(self, channel: ChannelReplica, tip: Tip, ctx: Context) -> bytes:
        draw, notes = ctx.rng.below, self._notes
        changes = [content(draw, ctx.entropy) for _ in range(1 + draw(3))]
        proofs = channel.replica.judge.authority.proofs.get(self._device, 0)
        seen = self._seen(channel, tip, proofs, ctx) if draw(2) else []
        if not notes.roots:
            notes.roots.append(tip)  # there can be two first operations, too
        unit, tip = self._sign(channel, tip, changes, seen, clock_at(ctx.now))
        keep(notes.tips, tip)
        keep(notes.roots, tip)
        return unit


class Backdater(Traitor):
    """An honest admin, until somebody revokes it."""

    __slots__ = ()

    def strike(self, channel: ChannelReplica, ctx: Context) -> None:
        judge, draw = channel.replica.judge, ctx.rng.below
        revocations = judge.authority.revoked.get(self._device, 0)
        tip = self._notes.tips[-1] if self._notes.tips else Tip()
        seen = self._seen(channel, tip, revocations, ctx)
        clock = clock_at(ctx.now) if not revocations or draw(2) else 0  # at its earliest
        if not revocations:
            units = [self._add(channel, tip, content(draw, ctx.entropy), seen, clock)]
        else:
            ctx.count("crdt_attacks", 1, "backdated")
            units = self._backdated(channel, tip, seen, clock, revocations, ctx)
        self._take(channel, units, self._device, ctx)  # its accomplices will ask for it
        self._tell(channel, self._members(ctx), units, ctx)

    def _backdated(
        self, channel: ChannelReplica, tip: Tip, seen: list[Seen], clock: int, revocations: int, ctx: Context
    ) -> list[bytes]:
        draw, puppets = ctx.rng.below, self._notes.puppets
        match draw(4):
            case 0:  # against who revoked it
                acts = channel.replica.judge.authority.acts
                revoker = acts[revocations.bit_length() - 1].author
                return [self._add(channel, tip, Revoke(revoker), seen, clock)]
            case 1:
                puppet = SigningKey(ctx.entropy(32))
                grant = self._add(channel, tip, Grant(puppet.public, (Role.MEMBER, Role.ADMIN)[draw(2)]), seen, clock)
                let_in = self._notes.tips[-1]
                keep(puppets, (puppet.seed, Tip(), (let_in.id, let_in.clock)))
                return [grant, self._puppet(channel, len(puppets) - 1, ctx)]
            case 2 if puppets:
                return [self._puppet(channel, draw(len(puppets)), ctx)]
            case _:
                return [self._add(channel, tip, content(draw, ctx.entropy), seen, clock)]

    def _puppet(self, channel: ChannelReplica, number: int, ctx: Context) -> bytes:
        """Have it write, or let in another one."""
        seed, tip, let_in = self._notes.puppets[number]
        draw = ctx.rng.below
        change = content(draw, ctx.entropy) if draw(3) else Grant(ctx.entropy(32), Role.MEMBER)
        unit, tip = self._sign(channel, tip, [change], [let_in], clock_at(ctx.now), SigningKey(seed))
        self._notes.puppets[number] = seed, tip, let_in
        return unit

    def _add(self, channel: ChannelReplica, tip: Tip, change: Change, seen: list[Seen], clock: int) -> bytes:
        unit, tip = self._sign(channel, tip, [change], seen, clock)
        self._notes.tips = [tip]
        return unit


class Postdater(Traitor):
    """Sets registers, from the future."""

    __slots__ = ()

    quiet_ns: ClassVar[int] = 90 * NS_PER_S
    """What it writes last is believed by then."""

    def strike(self, channel: ChannelReplica, ctx: Context) -> None:
        draw = ctx.rng.below
        tip = self._notes.tips[-1] if self._notes.tips else Tip()
        ahead_s = (240, 299, 360, 365 * 86_400, None)[draw(5)]
        clock = CLOCK_MAX if ahead_s is None else clock_at(ctx.now + ahead_s * NS_PER_S)
        change = Assign(("crew", WORDS[draw(len(WORDS))], "rank"), draw(1_000))
        unit, after = self._sign(channel, tip, [change], self._seen(channel, tip, 0, ctx), clock)
        if ahead_s is not None and ahead_s <= 360:  # that will be believed some time
            self._notes.tips = [after]
        ctx.count("crdt_attacks", 1, "postdated")
        self._tell(channel, self._members(ctx), [unit], ctx)


class FlooderOptions(TraitorOptions, frozen=True, kw_only=True):
    """How much of a flood."""

    bundles: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    """Of 64 operations each, at a time."""


class Flooder(Traitor):
    """Signs as fast as it can. Its own replica takes in what any would, so it always knows how far it may go."""

    __slots__ = ()

    options: ClassVar[type[TraitorOptions]] = FlooderOptions

    def strike(self, channel: ChannelReplica, ctx: Context) -> None:
        draw, roots = ctx.rng.below, self._notes.roots
        history = channel.replica.history
        lanes = history.lanes_of.get(self._device, ())
        kind = ("quota", "quota", "beyond", "fork")[draw(4)]
        tip = Tip()
        if lanes:
            last = history.lanes[lanes[draw(len(lanes))]].operations[-1]
            tip = Tip(last.sequence, last.id, last.operation.clock)
        if kind == "fork" and roots:
            tip = roots[draw(len(roots))]
        keep(roots, tip)
        assert isinstance(self._options, FlooderOptions)
        units: list[bytes] = []
        for _ in range(self._options.bundles):
            clock = clock_at(ctx.now + draw(AHEAD_NS_MAX))  # what comes back to it until then, it has now
            changes = [_litter(draw) for _ in range(BUNDLE_COUNT_MAX)]
            unit, tip = self._sign(channel, tip, changes, [], clock)
            units.append(unit)
            if kind == "fork":
                tip = roots[draw(len(roots))]
        ctx.count("crdt_attacks", 1, kind)
        self._tell(channel, self._members(ctx, 2), units, ctx)
        if kind != "beyond":
            self._take(channel, units, self._device, ctx)


def _litter(draw: Draw) -> Change:
    """Small, and much: tombstones, keys, and nothing at all."""
    number = draw(10_000)
    match draw(5):
        case 0:
            return Add(("tags",), number)
        case 1:
            return Remove(("tags",), number)
        case 2:
            return Clear((f"litter {number}",))
        case 3:
            return Increment((f"litter {number}",), 1)
        case _:
            return Acknowledge()


ADVERSARIES.register("equivocator", TraitorOptions)(parts(Equivocator))
ADVERSARIES.register("backdater", TraitorOptions)(parts(Backdater))
ADVERSARIES.register("postdater", TraitorOptions)(parts(Postdater))
ADVERSARIES.register("flooder", FlooderOptions)(parts(Flooder))
