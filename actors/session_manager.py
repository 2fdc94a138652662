"""The session manager: turns datagrams into frames of known devices, and frames into datagrams.

It holds ``Sessions`` and moves what that answers to whom it concerns: opened frames go back to the limiter,
which now knows whose budget they cost; the news of sessions goes to RPC. What fails here is blamed on no
device, as nobody has proved to be one: a forgery is a security event, and what an honest network repeats or
delays is merely counted.
"""

from collections.abc import Sequence
from typing import ClassVar, Final, Self

import msgspec

from actors.actor import Actor, handles
from actors.alarm import Alarm
from actors.context import Context, Span
from actors.setup import PeerSetup
from protocols.errors import LocalError
from protocols.messages import Message
from protocols.noise.datagrams import StaleDatagramError
from protocols.noise.interface import (
    CloseSession,
    Datagram,
    Dial,
    DialFailed,
    Opened,
    SendFrame,
    SessionDown,
    SessionUp,
    Transmit,
)
from protocols.noise.sessions import Sessions

STATE_VERSION: Final = 1


class Tick(Message, frozen=True, tag="session.tick"):
    """The deadline of the sessions has come, or would have if nothing had happened since."""


TICK: Final = Tick()


class SessionManager(Actor):
    """Hosts the ``Sessions`` of a peer."""

    __slots__ = ("_alarm", "_dials", "_sessions")

    service: ClassVar[str] = "sessions"

    def __init__(self, setup: PeerSetup) -> None:
        self._sessions = Sessions(setup.identity, setup.sessions, setup.aead)
        self._alarm = Alarm()
        self._dials: dict[bytes, Span] = {}  # of sampled dials, by device, until they end

    @property
    def sessions(self) -> Sessions:
        """For whoever inspects a run."""
        return self._sessions

    @handles(Datagram)
    def datagram(self, datagram: Datagram, ctx: Context) -> None:
        """Bytes from anybody."""
        span = ctx.local_span("session.open")
        work = self._work()
        try:
            outputs = self._sessions.receive(datagram.source, datagram.data, ctx.now, ctx.entropy)
        except StaleDatagramError as error:
            ctx.count("stale_datagrams", 1, error.reason)
            ctx.finish(span, outcome=error.reason)
            return
        finally:
            # Also what was done in vain was done.
            ctx.charge("aead", len(datagram.data))
            self._charge(work, ctx)
        if span is not None:
            ctx.finish(span, outcome="ok")
        self._act(outputs, ctx)

    @handles(Dial)
    def dial(self, dial: Dial, ctx: Context) -> None:
        work = self._work()
        outputs = self._sessions.dial(dial.device, dial.endpoint, ctx.now, ctx.entropy)
        span = ctx.local_span("session.handshake")
        if span is not None:
            self._dials.setdefault(dial.device, span)
        self._charge(work, ctx)
        self._act(outputs, ctx)

    @handles(SendFrame)
    def send_frame(self, frame: SendFrame, ctx: Context) -> None:
        ctx.charge("aead", len(frame.data))
        span = ctx.local_span("session.seal")
        if span is not None:
            ctx.finish(span, bytes=len(frame.data))
        self._act(self._sessions.send(frame.session, frame.data, ctx.now), ctx)

    @handles(CloseSession)
    def close_session(self, close: CloseSession, ctx: Context) -> None:
        self._act(self._sessions.close(close.session, close.reason), ctx)

    @handles(Tick)
    def tick(self, _: Tick, ctx: Context) -> None:
        self._alarm.rang()
        work = self._work()
        outputs = self._sessions.expire(ctx.now, ctx.entropy)
        self._charge(work, ctx)
        self._act(outputs, ctx)

    def _act(self, outputs: Sequence[Message], ctx: Context) -> None:
        for output in outputs:
            if isinstance(output, Transmit):
                ctx.transmit(output.endpoint, output.data)
            elif isinstance(output, Opened):
                ctx.send("limiter", output)
            else:
                if isinstance(output, SessionUp):
                    ctx.count("sessions_up", 1, "initiator" if output.initiator else "responder")
                elif isinstance(output, SessionDown):
                    ctx.count("sessions_down", 1, output.reason)
                elif isinstance(output, DialFailed):
                    ctx.count("dials_failed", 1, output.reason)
                if self._dials and isinstance(output, SessionUp | DialFailed):
                    outcome = "ok" if isinstance(output, SessionUp) else output.reason
                    ctx.finish(self._dials.pop(output.device, None), outcome=outcome)
                ctx.send("rpc", output)
        self._alarm.set(self._sessions.deadline(), TICK, ctx)

    def _work(self) -> tuple[int, int]:
        return self._sessions.exchanges, self._sessions.verifications

    def _charge(self, before: tuple[int, int], ctx: Context) -> None:
        after = self._work()
        if after != before:
            ctx.charge("x25519", after[0] - before[0])
            if after[1] != before[1]:
                ctx.charge("ed25519_verify", after[1] - before[1])

    def to_bytes(self) -> bytes:
        saved = (STATE_VERSION, self._alarm, self._sessions.to_bytes(), self._dials)
        return msgspec.msgpack.encode(saved)

    @classmethod
    def from_bytes(cls, data: bytes, setup: PeerSetup) -> Self:
        state = msgspec.msgpack.decode(data, type=tuple[int, Alarm, bytes, dict[bytes, Span]])
        version, alarm, sessions, dials = state
        if version != STATE_VERSION:
            raise LocalError(f"a session manager's state of version {version}, not {STATE_VERSION}")
        actor = cls(setup)
        actor._sessions = Sessions.from_bytes(sessions, setup.identity, setup.sessions, setup.aead)
        actor._alarm, actor._dials = alarm, dials
        return actor
