"""The actor that makes a peer do its part of the plan, and the kinds of workload there are.

It asks the peer's DHT node, as any application would, and notes as an event what came back and when. It
knows the contents of all records (they follow from the seed), so a get that brings another value is
counted as wrong, not as found. What has not been answered when the peer goes down leaves no event:
``operations.outcomes`` sees that from the plan.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, Self

import msgspec

from actors.actor import Actor, handles
from actors.context import Context, Span
from actors.setup import Channel
from cluster.operations import Content, Operation, Outcome, Plan, during, record_name
from cluster.planning import plan_nothing, plan_puts_and_gets
from cluster.registry import WORKLOADS
from cluster.scenario import Scenario
from cluster.world import World
from protocols.errors import LocalError
from protocols.identity import Revocation
from protocols.kademlia.messages import Get, GetDone, Put, PutDone
from protocols.messages import Message

if TYPE_CHECKING:
    from cluster.population import SimulatedSetup

__all__ = ["Content", "Operation", "Plan", "Workload", "WorkloadKind", "during"]

STATE_VERSION: Final = 1

Revocations = Mapping[bytes, tuple[Revocation, ...]]
"""By user; known to everybody from the start."""


class WorkloadKind(NamedTuple):
    """What is registered as a kind of workload."""

    plan: Callable[[Scenario, World], Plan]
    actor: type[Actor]
    """Added to every peer that has operations; its setup says which."""
    users: Callable[[Scenario, World], Revocations] | None = None
    """For a workload in which peers have users: what these have revoked. Then every peer has its certificate, and the
    actor whether it has operations or not, since others turn to it."""
    channels: Callable[[Scenario, World], tuple[Channel, ...]] | None = None
    """For a workload about channels: those that every peer has. Then every honest peer has the actor."""


class Due(Message, frozen=True, tag="workload.due"):
    """Something is to be asked, or has taken too long."""


class _Asked(msgspec.Struct, array_like=True):
    """An operation that waits for its answer."""

    operation: Operation
    asked_at: int
    span: Span


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    peer: int
    content: Content
    waiting: list[Operation]
    asked: list[_Asked]


class Workload(Actor):
    """One peer's operations of one uptime. It keeps one timer, for whatever comes next."""

    __slots__ = ("_asked", "_content", "_peer", "_waiting")

    service: ClassVar[str] = "workload"

    def __init__(self, setup: "SimulatedSetup") -> None:
        if setup.content is None:
            raise LocalError("a workload needs the content of its records")
        self._peer = setup.endpoint
        self._content = setup.content
        self._waiting = sorted(setup.operations, key=lambda each: (-each.at, -each.number))  # the next one last
        self._asked: dict[int, _Asked] = {}

    def start(self, ctx: Context) -> None:
        self._arm(ctx)

    @handles(Due)
    def due(self, message: Due, ctx: Context) -> None:
        """Ask what is to be asked by now, and give up what has not been answered in time."""
        now = ctx.now
        for asked in [each for each in self._asked.values() if each.operation.deadline <= now]:
            self._end(asked, "timeout", 0, 0, ctx)
        while self._waiting and self._waiting[-1].at <= now:
            self._ask(self._waiting.pop(), ctx)
        self._arm(ctx)

    @handles(PutDone)
    def put_done(self, done: PutDone, ctx: Context) -> None:
        """A record is stored, or nobody took it."""
        asked = self._asked.get(done.token)
        if asked is not None:
            self._end(asked, "ok" if done.stored else "not_stored", done.hops, done.rpcs, ctx)

    @handles(GetDone)
    def get_done(self, done: GetDone, ctx: Context) -> None:
        """A lookup is over. An answer after the deadline finds nobody waiting."""
        asked = self._asked.get(done.token)
        if asked is None:
            return
        outcome: Outcome
        if done.record is None:
            outcome = "not_found"
        elif done.record.value != self._content.value(asked.operation.record):
            outcome = "wrong"
        else:
            outcome = "local" if done.local else "ok"
        self._end(asked, outcome, done.hops, done.rpcs, ctx)

    def _ask(self, operation: Operation, ctx: Context) -> None:
        span = ctx.root_span(operation.kind)
        self._asked[operation.number] = _Asked(operation, ctx.now, span)
        with ctx.traced(span.trace):
            ctx.send(*self._request(operation))

    def _request(self, operation: Operation) -> tuple[str, Message]:
        """Which service is asked, and for what."""
        if operation.kind == "put":
            content = self._content
            value = content.value(operation.record)
            name = record_name(operation.record)
            return "dht", Put(self.service, operation.number, name, value, content.ttl_s)
        return "dht", Get(self.service, operation.number, operation.key)

    def _end(self, asked: _Asked, outcome: Outcome, hops: int, rpcs: int, ctx: Context, reason: str = "") -> None:
        operation = asked.operation
        del self._asked[operation.number]
        ctx.event(
            operation.kind,
            number=operation.number,
            key=operation.key,
            asked_at=asked.asked_at,
            outcome=outcome,
            hops=hops,
            rpcs=rpcs,
            **({"reason": reason} if reason else {}),
        )
        ctx.count(f"{operation.kind}s", 1, outcome)
        if outcome == "ok":
            ctx.record(f"{operation.kind}_ns", ctx.now - asked.asked_at)
        ctx.finish(asked.span, outcome=outcome, hops=hops, rpcs=rpcs)

    def _arm(self, ctx: Context) -> None:
        """Called at the start and at every ``Due``, so one timer is under way while there is anything to wait for.

        What is asked later ends later than what comes next, so nothing ever needs an earlier timer.
        """
        times = [each.operation.deadline for each in self._asked.values()]
        if self._waiting:
            times.append(self._waiting[-1].at)
        if times:
            ctx.after(max(0, min(times) - ctx.now), Due())

    def to_bytes(self) -> bytes:
        asked = list(self._asked.values())
        return msgspec.msgpack.encode(_State(STATE_VERSION, self._peer, self._content, self._waiting, asked))

    @classmethod
    def from_bytes(cls, data: bytes, setup: "SimulatedSetup") -> Self:
        try:
            state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise LocalError(f"workload state: {error}") from error
        if state.version != STATE_VERSION:
            raise LocalError(f"workload state: version {state.version}, not {STATE_VERSION}")
        workload = cls.__new__(cls)
        workload._peer = state.peer
        workload._content = state.content
        workload._waiting = state.waiting
        workload._asked = {each.operation.number: each for each in state.asked}
        return workload


WORKLOADS.register("put_get")(WorkloadKind(plan_puts_and_gets, Workload))
WORKLOADS.register("none")(WorkloadKind(plan_nothing, Workload))
