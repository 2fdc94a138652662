"""The rate limiter: the door through which everything comes in, twice.

A packet comes from an endpoint that anybody can forge, so it costs that endpoint's budget of packets and
bytes and nothing else. Once a session has opened it, its frame is known to come from a device: it costs
that device's budget of requests, by kind, and a frame that makes no sense is that device's own fault.
What the door refuses is dropped without an answer: whoever floods us learns nothing and gets nothing.

Only requests are refused at the second door. Answers, acknowledgements and cancellations belong to what was
asked or admitted before, RPC knows what that was, and one that belongs to nothing is a fault. To charge
them would let our own questions use up what another may ask of us; to drop them while a device is cut off
would have us believe that it is dead.
"""

from typing import ClassVar, Self

from actors.actor import Actor, handles
from actors.context import Context
from actors.setup import PeerSetup
from protocols.admission import Admission, BreakerState, Fault, Success, Verdict
from protocols.errors import ProtocolError
from protocols.messages import Packet, peek_tag
from protocols.noise.interface import Datagram, Opened
from protocols.rpc.calls import Inbound
from protocols.rpc.frames import FRAMES, Request


class RateLimiter(Actor):
    """Admits packets by endpoint, then frames by device and kind."""

    __slots__ = ("_admission", "_policy")

    service: ClassVar[str] = "limiter"

    def __init__(self, setup: PeerSetup) -> None:
        self._policy = setup.admission
        self._admission = Admission(setup.admission)

    @property
    def admission(self) -> Admission:
        """For whoever inspects a run."""
        return self._admission

    @handles(Packet)
    def packet(self, packet: Packet, ctx: Context) -> None:
        """Anything from the network, before anybody has looked at it."""
        span = ctx.local_span("admission.packet")
        verdict = self._admission.admit_packet(packet.source, len(packet.data), ctx.now)
        if span is not None:
            ctx.finish(span, verdict=verdict.value, bytes=len(packet.data))
        if verdict is Verdict.ADMITTED:
            ctx.send("sessions", Datagram(packet.source, packet.data))
        else:
            ctx.count("admission_rejected", 1, f"packet_{verdict.value}")

    @handles(Opened)
    def opened(self, opened: Opened, ctx: Context) -> None:
        """A frame of an authenticated device."""
        device = opened.device
        try:
            frame = FRAMES.decode(opened.data)
            kind = peek_tag(frame.body) if isinstance(frame, Request) else ""
        except ProtocolError as error:
            ctx.security(error.reason, error.detail, device)
            self._blame(device, ctx)
            return
        if not isinstance(frame, Request):
            ctx.send("rpc", Inbound(opened.session, device, opened.endpoint, frame))
            return
        span = None
        if frame.trace[24]:  # a child of the call, also when the packet is a repetition and belongs to no trace
            with ctx.traced(frame.trace):
                span = ctx.local_span("admission.request")
        verdict = self._admission.admit_request(device, kind, ctx.now)
        if span is not None:
            ctx.finish(span, verdict=verdict.value, kind=kind)
        if verdict is Verdict.ADMITTED:
            probe = self._admission.on_probation(device)
            ctx.send("rpc", Inbound(opened.session, device, opened.endpoint, frame, probe))
        else:
            ctx.count("admission_rejected", 1, f"request_{verdict.value}")

    @handles(Fault)
    def fault(self, fault: Fault, ctx: Context) -> None:
        """Another actor caught a device breaking its protocol."""
        self._blame(fault.device, ctx)

    @handles(Success)
    def success(self, success: Success, ctx: Context) -> None:
        """A probe was carried out."""
        self._admission.record_success(success.device, ctx.now)

    def _blame(self, device: bytes, ctx: Context) -> None:
        was = self._admission.breaker_state(device, ctx.now)
        if self._admission.record_fault(device, ctx.now) is BreakerState.OPEN and was is not BreakerState.OPEN:
            ctx.count("breakers_opened")
            ctx.event("breaker_opened", device=device)

    def to_bytes(self) -> bytes:
        return self._admission.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes, setup: PeerSetup) -> Self:
        actor = cls(setup)
        actor._admission = Admission.from_bytes(data, setup.admission)
        return actor
