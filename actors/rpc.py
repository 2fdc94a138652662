"""The RPC actor: hosts the RPC machine between the sessions and the services of a peer.

A service sends ``Call`` and is told ``Completed`` or ``Failed``; it is sent ``Incoming`` and answers
``Respond`` or ``Refuse``. Which service owns a namespace of requests is said by the peer's ``routes``.

Tracing changes nothing but what is recorded: a call within a trace has a span, whose context travels in the
request's trace field and becomes the parent of the callee's span. Others carry as many zeros.
"""

from collections.abc import Iterable
from typing import ClassVar, Final, Self

import msgspec

from actors.actor import Actor, handles
from actors.alarm import Alarm
from actors.context import TRACE_NONE, Context, Span
from actors.setup import PeerSetup
from protocols.admission import Fault, Success
from protocols.errors import LocalError
from protocols.messages import Message
from protocols.noise.interface import CloseSession, Dial, DialFailed, SendFrame, SessionDown, SessionUp
from protocols.rpc.calls import (
    Abandon,
    Call,
    Completed,
    Connect,
    Disconnect,
    Failed,
    Inbound,
    Incoming,
    Output,
    Refuse,
    Replayed,
    Respond,
    Send,
)
from protocols.rpc.frames import RpcError
from protocols.rpc.machine import Rpc

STATE_VERSION: Final = 1

REMOTE_REASONS: Final = frozenset({"overloaded", "unknown_kind", "too_large", "stalled"})
"""What RPC itself answers. Any other code of a remote is counted as ``refused``: it must not name our metrics."""


class Tick(Message, frozen=True, tag="rpc.tick"):
    """The machine's deadline has come."""


TICK: Final = Tick()


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    machine: bytes
    alarm: Alarm
    calls: list[tuple[str, int, Span]]
    serving: list[tuple[int, Span]]
    probes: list[tuple[int, bytes]]


class RpcActor(Actor):
    """One peer's RPC: our calls and those of others."""

    __slots__ = ("_alarm", "_calls", "_probes", "_routes", "_serving", "rpc")

    service: ClassVar[str] = "rpc"

    def __init__(self, setup: PeerSetup) -> None:
        self.rpc = Rpc(setup.rpc, setup.routes)
        self._routes = setup.routes
        self._alarm = Alarm()
        # Spans of calls within a trace only: most are upkeep, and have none.
        self._calls: dict[tuple[str, int], Span] = {}
        self._serving: dict[int, Span] = {}
        # Requests in progress of devices on probation, the only ones of which the limiter wants to hear.
        self._probes: dict[int, bytes] = {}

    # -- services -----------------------------------------------------------------------------------------

    @handles(Call)
    def call(self, call: Call, ctx: Context) -> None:
        """A service of ours asks another peer."""
        ctx.count("rpc_calls")
        service = call.service or ctx.sender
        span = ctx.span("rpc.call")
        trace = TRACE_NONE if span is None else span.trace
        outputs = self.rpc.call(
            service, call.token, call.device, call.endpoint, call.body, call.timeout_ns, ctx.now, trace
        )
        if span is not None:
            self._calls[service, call.token] = span
        self._route(outputs, ctx)

    @handles(Abandon)
    def abandon(self, abandon: Abandon, ctx: Context) -> None:
        """A service of ours waits no longer."""
        service = abandon.service or ctx.sender
        ctx.finish(self._calls.pop((service, abandon.token), None), outcome="abandoned")
        self._route(self.rpc.cancel(service, abandon.token), ctx)

    @handles(Respond)
    def respond(self, response: Respond, ctx: Context) -> None:
        """A service of ours answers another peer: that peer's request was a good one."""
        if self._probes:
            device = self._probes.pop(response.call, None)
            if device is not None:
                ctx.send("limiter", Success(device))
        self._served(response.call, "ok", ctx)
        self._route(self.rpc.respond(response.call, response.body, ctx.now), ctx)

    @handles(Refuse)
    def refuse(self, refusal: Refuse, ctx: Context) -> None:
        """A service of ours does not answer another peer."""
        self._served(refusal.call, refusal.code, ctx)
        self._probes.pop(refusal.call, None)
        outputs = self.rpc.refuse(refusal.call, refusal.code, refusal.message, ctx.now, refusal.happened)
        self._route(outputs, ctx)

    # -- sessions -----------------------------------------------------------------------------------------

    @handles(Inbound)
    def inbound(self, inbound: Inbound, ctx: Context) -> None:
        """A frame of an authenticated device; what is wrong with it is that device's fault."""
        device = inbound.device
        try:
            outputs = self.rpc.receive(inbound.session, device, inbound.endpoint, inbound.frame, ctx.now)
        except RpcError as error:
            ctx.security(error.reason, error.detail, device)
            ctx.send("limiter", Fault(device, error.reason))
            return
        if inbound.probe:  # a large one is not delivered yet: it proves nothing, and its lease runs out
            self._probes.update((each.call, device) for each in outputs if isinstance(each, Incoming))
        self._route(outputs, ctx)

    @handles(SessionUp)
    def session_up(self, up: SessionUp, ctx: Context) -> None:
        self._route(self.rpc.session_up(up.session, up.device, up.endpoint, up.binding, ctx.now), ctx)

    @handles(SessionDown)
    def session_down(self, down: SessionDown, ctx: Context) -> None:
        self._route(self.rpc.session_down(down.session), ctx)
        self._forget_dropped(ctx)

    @handles(DialFailed)
    def dial_failed(self, failure: DialFailed, ctx: Context) -> None:
        self._route(self.rpc.dial_failed(failure.device, failure.reason), ctx)

    @handles(Tick)
    def tick(self, _: Tick, ctx: Context) -> None:
        self._alarm.rang()
        self._route(self.rpc.expire(ctx.now), ctx)
        self._forget_dropped(ctx)

    # -- inside -------------------------------------------------------------------------------------------

    def _route(self, outputs: Iterable[Output], ctx: Context) -> None:
        """Hand on what the machine put out."""
        for output in outputs:
            match output:
                case Send(session, data, repeated):
                    if repeated:
                        ctx.count("rpc_retransmissions")
                    ctx.send("sessions", SendFrame(session, data))
                case Incoming():
                    self._serve(output, ctx)
                case Completed():
                    ctx.record("rpc_seconds", output.elapsed)
                    self._ended(output, "ok", ctx)
                case Failed(reason=reason, refused=refused):
                    label = "refused" if refused and reason not in REMOTE_REASONS else reason
                    ctx.count("rpc_failures", 1, label)
                    self._ended(output, label, ctx)
                case Connect(device, endpoint):
                    ctx.send("sessions", Dial(device, endpoint))
                case Disconnect(session, reason):
                    ctx.send("sessions", CloseSession(session, reason))
                case Replayed(outcome=outcome):
                    ctx.count("rpc_replays", 1, outcome)
        self._alarm.set(self.rpc.deadline(), TICK, ctx)

    def _serve(self, incoming: Incoming, ctx: Context) -> None:
        """The request's own trace continues here, whatever the packet that brought it carried."""
        ctx.count("rpc_requests")
        span = ctx.span("rpc.serve", incoming.trace)
        if span is not None:
            self._serving[incoming.call] = span
        service = self._routes[incoming.kind.partition(".")[0]]
        self._tell(service, incoming, TRACE_NONE if span is None else span.trace, ctx)

    def _served(self, call: int, outcome: str, ctx: Context) -> None:
        if self._serving:
            ctx.finish(self._serving.pop(call, None), outcome=outcome)

    def _ended(self, result: Completed | Failed, outcome: str, ctx: Context) -> None:
        """Back to the service, in the trace in which it called."""
        span = self._calls.pop((result.service, result.token), None) if self._calls else None
        ctx.finish(span, outcome=outcome)
        trace = TRACE_NONE if span is None else span.trace_id + span.parent_id + span.trace[24:]
        self._tell(result.service, result, trace, ctx)

    def _tell(self, service: str, message: Message, trace: bytes, ctx: Context) -> None:
        if ctx.trace == trace:
            ctx.send(service, message)
        else:
            with ctx.traced(trace):
                ctx.send(service, message)

    def _forget_dropped(self, ctx: Context) -> None:
        """Requests that ended without our service's answer: late, cancelled, or their session is gone."""
        for call in [call for call in self._serving if self.rpc.caller(call) is None]:
            ctx.finish(self._serving.pop(call), outcome="unanswered")
        for call in [call for call in self._probes if self.rpc.caller(call) is None]:
            del self._probes[call]

    # -- state --------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        calls = [(service, token, span) for (service, token), span in self._calls.items()]
        serving, probes = list(self._serving.items()), list(self._probes.items())
        state = _State(STATE_VERSION, self.rpc.to_bytes(), self._alarm, calls, serving, probes)
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes, setup: PeerSetup) -> Self:
        state = msgspec.msgpack.decode(data, type=_State)
        if state.version != STATE_VERSION:
            raise LocalError(f"state version {state.version}, not {STATE_VERSION}")
        actor = cls(setup)
        actor.rpc = Rpc.from_bytes(state.machine, setup.rpc, setup.routes)
        actor._alarm = state.alarm
        actor._calls = {(service, token): span for service, token, span in state.calls}
        actor._serving, actor._probes = dict(state.serving), dict(state.probes)
        return actor
