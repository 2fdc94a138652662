"""The workload ``convergence``: the members of one channel write into its document, all over the world.

Who writes what, and when, is planned from scenario and seed alone, as in ``put_get``; what it changes follows from its
number. Registers, sets, counters, timelines and one text are changed at few enough places that concurrent changes meet.
Admins make members of some readers, and revoke some members: these go on to write for a while, as they cannot know.

Nothing is asked back while the run lasts. A second before its end every replica is described, at all peers at the same
moment, as an event; ``agreement`` has the promises about them.
"""

from typing import TYPE_CHECKING, Annotated, Final, Self

import msgspec

from actors.actor import handles
from actors.context import Context
from actors.randomness import Stream, derive_key
from actors.setup import Channel
from cluster.operations import Operation, OperationKind, Plan
from cluster.options import ScenarioError
from cluster.planning import DRAWS_MAX, by_peer, stays_up
from cluster.registry import WORKLOADS
from cluster.scenario import Scenario
from cluster.sections import NS_PER_S, Count, Positive, PositiveSeconds, Seconds, nanoseconds
from cluster.workload import Workload, WorkloadKind
from cluster.world import World
from protocols.contact import Contact, shared
from protocols.crdt.changes import (
    Add,
    Append,
    Assign,
    AssignMulti,
    Blob,
    Change,
    Clear,
    Grant,
    Increment,
    Path,
    Remove,
    Revoke,
    Role,
)
from protocols.crdt.replica import Replica
from protocols.crdt.requests import Author, Describe, Described, Revise, Write, WriteRefused, Written
from protocols.identity import SigningKey
from protocols.messages import Message

if TYPE_CHECKING:
    from cluster.population import SimulatedSetup

DESCRIBED_BEFORE_END_NS: Final = NS_PER_S
LINGER_NS: Final = 20 * NS_PER_S
"""For so long a member may go on to write after it was revoked, in the plan: some of it is concurrent."""
CHANGES_MAX: Final = 3
"""Of one write."""
SHOWN: Final = 16
"""Hexadecimal digits of a device or an operation in an event."""

TEXT: Final[Path] = ("minutes",)
WORDS: Final = ("panda", "bamboo", "orbit", "airlock", "nap", "telemetry", "moss", "comet")


class ConvergenceOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much is written, by whom, and for how long."""

    writes: Positive
    until_s: PositiveSeconds
    """When the last is written; after it there is time to converge."""
    from_s: Seconds = 5.0
    timeout_s: PositiveSeconds = 60.0
    admins: Count = 4
    """Besides the owner, who is the first peer; the next ones."""
    readers: Count = 0
    """Honest ones, the last, who may not write to begin with."""
    grants: Count = 0
    """Readers that an admin makes members of."""
    revokes: Count = 0
    """Honest members, from the middle, that an admin revokes."""
    traitors: Count = 0
    """Liars, the first of them, that are admins to begin with, and that an admin revokes."""
    burst: Annotated[int, msgspec.Meta(ge=64, le=2**32)] = 1_024
    """What an author may write at once,"""
    rate_per_s: Annotated[int, msgspec.Meta(ge=1, le=2**20)] = 16
    """and how fast that comes back."""

    @classmethod
    def of(cls, scenario: Scenario) -> Self:
        return msgspec.convert(dict(scenario.workload.options), cls)


class Cast:
    """Who plays which part."""

    def __init__(self, scenario: Scenario, world: World) -> None:
        options = ConvergenceOptions.of(scenario)
        honest = len(world.honest)
        self.admins: Final = range(1, 1 + options.admins)
        self.readers: Final = range(honest - options.readers, honest)
        first = self.admins.stop + (self.readers.start - self.admins.stop - options.revokes) // 2
        self.revoked: Final = range(first, first + options.revokes)
        """Who will be."""
        self.traitors: Final = range(honest, honest + options.traitors)
        if self.traitors.stop > scenario.peers:
            raise ScenarioError("workload.options.traitors", f"{options.traitors} of {scenario.peers - honest} liars")
        if self.revoked.start < self.admins.stop or self.revoked.stop > self.readers.start:
            raise ScenarioError("workload.options", f"{honest} honest peers are too few for so many parts")
        if options.grants > options.readers:
            raise ScenarioError("workload.options.grants", f"{options.grants} of {options.readers} readers")
        if (options.grants or options.revokes or options.traitors) and not options.admins:
            raise ScenarioError("workload.options.admins", "there is none to grant or revoke")

    def role(self, peer: int) -> Role:
        """In the genesis."""
        if peer == 0:
            return Role.OWNER
        if peer in self.admins or peer in self.traitors:
            return Role.ADMIN
        return Role.READER if peer in self.readers else Role.MEMBER


def channels(scenario: Scenario, world: World) -> tuple[Channel, ...]:
    """The one channel, founded before the run by the first peer, with everybody in it."""
    options, cast = ConvergenceOptions.of(scenario), Cast(scenario, world)
    replica = Replica.found(
        SigningKey(world.identity_seed(0)[:32]),
        {world.device(peer): cast.role(peer) for peer in range(scenario.peers)},
        nonce=derive_key(scenario.seed, "channel"),
        now_ns=0,
        burst=options.burst,
        rate_per_s=options.rate_per_s,
    )
    members = tuple(shared(Contact(world.device(peer), peer)) for peer in range(scenario.peers))
    return (Channel(replica.genesis, members),)


# -- the plan ---------------------------------------------------------------------------------------------


def plan_writes(scenario: Scenario, world: World) -> Plan:
    """Each at a uniform time, by a uniform honest peer that may write then, as far as everybody will have heard.

    Raises:
        ScenarioError: there is no time, or nobody to write.
    """
    return _Planner(scenario, world).plan()


class _Planner:
    def __init__(self, scenario: Scenario, world: World) -> None:
        self._scenario, self._world = scenario, world
        self._options, self._cast = ConvergenceOptions.of(scenario), Cast(scenario, world)
        self._timeout = nanoseconds(self._options.timeout_s)
        self._start = scenario.settled_ns + nanoseconds(self._options.from_s)
        self._end = nanoseconds(self._options.until_s)
        self._planned: list[tuple[int, Operation]] = []
        if self._start >= self._end:
            raise ScenarioError("workload.options.until_s", "leaves no time to write")
        if self._end + self._timeout > scenario.duration_ns - DESCRIBED_BEFORE_END_NS:
            raise ScenarioError("duration_s", f"leaves no time to converge after {self._options.until_s:g} s")

    def plan(self) -> Plan:
        cast, options = self._cast, self._options
        granted = {
            peer: self._order("grant", number, peer) for number, peer in enumerate(cast.readers[: options.grants])
        }
        revoked = {peer: self._order("revoke", number, peer) for number, peer in enumerate(cast.revoked)}
        for number, peer in enumerate(cast.traitors):
            self._order("revoke", options.revokes + number, peer)
        writers = [peer for peer in self._world.honest if peer not in cast.readers or peer in granted]
        for number in range(options.writes):
            draws = self._stream("write", number)
            for _ in range(DRAWS_MAX):
                peer, at = writers[draws.below(len(writers))], self._time(draws)
                may_from = granted[peer] + self._timeout if peer in granted else 0
                may_until = revoked[peer] + LINGER_NS if peer in revoked else self._end
                if may_from <= at < may_until and self._stays(peer, at):
                    break
            else:
                raise ScenarioError("workload.options.writes", "hardly anybody is up for long enough to write")
            self._add(peer, "write", at, number, b"")
        return by_peer(self._planned)

    def _order(self, kind: OperationKind, number: int, target: int) -> int:
        """A grant or a revocation by one of the admins; returns when."""
        draws, admins = self._stream(kind, number), self._cast.admins
        for _ in range(DRAWS_MAX):
            peer, at = admins[draws.below(len(admins))], self._time(draws)
            if self._stays(peer, at):
                self._add(peer, kind, at, target, self._world.device(target))
                return at
        raise ScenarioError(f"workload.options.{kind}s", "hardly any admin is up for long enough")

    def _add(self, peer: int, kind: OperationKind, at: int, about: int, key: bytes) -> None:
        self._planned.append((peer, Operation(len(self._planned), kind, at, at + self._timeout, about, key)))

    def _time(self, draws: Stream) -> int:
        return self._start + draws.below(self._end - self._start)

    def _stays(self, peer: int, at: int) -> bool:
        schedule, least = self._world.schedule(peer), nanoseconds(self._options.from_s)
        return stays_up(schedule, at, at + self._timeout, least)

    def _stream(self, purpose: str, number: int) -> Stream:
        return Stream(derive_key(self._scenario.seed, "workload", purpose, number))


# -- what is written --------------------------------------------------------------------------------------


def request(seed: int, operation: Operation, channel: bytes) -> Write | Revise:
    """What an operation asks of its replica."""
    if operation.kind == "grant":
        return Write(operation.number, channel, (Grant(operation.key, Role.MEMBER),))
    if operation.kind == "revoke":
        return Write(operation.number, channel, (Revoke(operation.key),))
    draws = Stream(derive_key(seed, "written", operation.record))
    if draws.below(4) == 0:
        word = WORDS[draws.below(len(WORDS))]
        return Revise(operation.number, channel, TEXT, draws.below(400), draws.below(3) * 4, f"{word} ")
    changes = tuple(_change(draws) for _ in range(1 + draws.below(CHANGES_MAX)))
    return Write(operation.number, channel, changes)


def _change(draws: Stream) -> Change:
    word, number = WORDS[draws.below(len(WORDS))], draws.below(1_000)
    match draws.below(8):
        case 0:
            return Assign(("crew", word, "rank"), number)
        case 1:
            return Assign(("crew", word, "nickname"), WORDS[number % len(WORDS)])
        case 2:
            return AssignMulti(("topic",), word)
        case 3:
            return Increment(("votes", word), number - 400)
        case 4:
            return Add(("tags",), word)
        case 5:
            return Remove(("tags",), word)
        case 6:
            return Append(("log",), Blob(draws.entropy(24)))
        case _:
            return Clear(("crew", word)) if number < 250 else Add(("crew", word, "badges"), number % 7)


# -- the actor --------------------------------------------------------------------------------------------


class DescribeDue(Message, frozen=True, tag="workload.describe"):
    """The run is about to end."""


class Convergence(Workload):
    """One peer's writes of one uptime, and its replica's state at the end."""

    __slots__ = ("_channel", "_end_ns")

    def __init__(self, setup: "SimulatedSetup") -> None:
        super().__init__(setup)
        self._know(setup)

    def _know(self, setup: "SimulatedSetup") -> None:
        self._channel = Replica(setup.channels[0].genesis).channel
        self._end_ns = setup.duration_ns - DESCRIBED_BEFORE_END_NS

    def start(self, ctx: Context) -> None:
        super().start(ctx)
        ctx.after(max(0, self._end_ns - ctx.now), DescribeDue())

    def _request(self, operation: Operation) -> tuple[str, Message]:
        return "crdt", request(self._content.seed, operation, self._channel)

    @handles(Written)
    def written(self, written: Written, ctx: Context) -> None:
        asked = self._asked.get(written.token)
        if asked is not None:
            self._end(asked, "ok", 0, 0, ctx)

    @handles(WriteRefused)
    def refused(self, refused: WriteRefused, ctx: Context) -> None:
        asked = self._asked.get(refused.token)
        if asked is not None:
            self._end(asked, "refused", 0, 0, ctx, refused.reason)

    @handles(DescribeDue)
    def describe(self, _: DescribeDue, ctx: Context) -> None:
        ctx.send("crdt", Describe(0, self._channel))

    @handles(Described)
    def described(self, replica: Described, ctx: Context) -> None:
        ctx.event(
            "replica",
            channel=replica.channel,
            digest=replica.digest,
            set=replica.set_digest,
            operations=replica.operations,
            inert=sum(each.inert for each in replica.authors),
            parked=replica.parked,
            members=sum(each.role > 0 for each in replica.authors),
            authors=" ".join(map(_line, replica.authors)),
        )

    @classmethod
    def from_bytes(cls, data: bytes, setup: "SimulatedSetup") -> Self:
        actor = super().from_bytes(data, setup)
        actor._know(setup)
        return actor


def _line(author: Author) -> str:
    """``device:sequence:tip:counting:inert:fenced:role``."""
    device, tip = author.device.hex()[:SHOWN], author.tip.hex()[:SHOWN]
    return f"{device}:{author.sequence}:{tip}:{author.counting}:{author.inert}:{author.fenced:d}:{author.role}"


WORKLOADS.register("convergence", ConvergenceOptions)(WorkloadKind(plan_writes, Convergence, channels=channels))
