"""RPC between devices: requests and answers over sessions that lose, double and reorder datagrams.

One machine holds both roles: it makes calls (``client``) and answers them (``server``), over the sessions
that it is told of (``link``). Retransmission, replay and large bodies are decided here, per session; a stream
transport underneath was rejected, because one lost datagram would then delay every call behind it.

At most once: an id is executed at most once, whatever the network repeats. A call whose session ended is not
moved to another session; its service is told "perhaps" and knows whether asking again is safe.
"""

from collections.abc import Collection
from typing import Final

import msgspec

from protocols.errors import LocalError
from protocols.rpc.calls import Disconnect, Output, RpcConfig
from protocols.rpc.client import Client
from protocols.rpc.frames import (
    TRACE_NONE,
    Cancel,
    Chunk,
    Error,
    Frame,
    Happened,
    Request,
    Response,
    RpcError,
)
from protocols.rpc.link import Agenda, Link
from protocols.rpc.pending import Pending
from protocols.rpc.server import Server, Serving

STATE_VERSION: Final = 2


class Rpc:
    """Both ends of RPC in one peer. Every method returns what has to be done, in order."""

    __slots__ = ("_agenda", "_client", "_config", "_links", "_newest", "_server")

    def __init__(self, config: RpcConfig, namespaces: Collection[str]) -> None:
        self._config = config
        self._links: dict[int, Link] = {}
        self._newest: dict[bytes, Link] = {}
        """The session to use for each device: the one reported last."""
        self._agenda: Agenda[Pending | Serving] = Agenda()
        self._client = Client(config, self._agenda)
        self._server = Server(config, namespaces, self._agenda)

    # -- our calls ----------------------------------------------------------------------------------------

    def call(
        self,
        service: str,
        token: int,
        device: bytes,
        endpoint: int,
        body: bytes,
        timeout_ns: int,
        now: int,
        trace: bytes = TRACE_NONE,
    ) -> list[Output]:
        """Begin a call, which ends in exactly one ``Completed`` or ``Failed`` unless it is cancelled.

        Raises:
            LocalError: the token is in use, or the timeout is out of bounds.
        """
        out: list[Output] = []
        link = self._newest.get(device)
        self._client.call(link, service, token, device, endpoint, body, timeout_ns, trace, now, out)
        return out

    def cancel(self, service: str, token: int) -> list[Output]:
        """Nobody waits for this call any more."""
        out: list[Output] = []
        self._client.cancel(service, token, out)
        return out

    # -- calls of others ----------------------------------------------------------------------------------

    def respond(self, call: int, body: bytes, now: int) -> list[Output]:
        """A service answers an ``Incoming``."""
        out: list[Output] = []
        self._server.respond(call, body, now, out)
        return out

    def refuse(self, call: int, code: str, message: str, now: int, happened: Happened = "no") -> list[Output]:
        """A service gives no answer to an ``Incoming``."""
        out: list[Output] = []
        self._server.refuse(call, code, message, happened, now, out)
        return out

    def caller(self, call: int) -> bytes | None:
        """The device that waits for the answer to an ``Incoming``; ``None`` if nobody does any more."""
        return self._server.caller(call)

    # -- sessions -----------------------------------------------------------------------------------------

    def session_up(self, session: int, device: bytes, endpoint: int, binding: bytes, now: int) -> list[Output]:
        """There is a session with ``device``, and it is the one to use; also if it is known already."""
        out: list[Output] = []
        link = self._links.get(session)
        if link is None:
            link = self._links[session] = Link(session, device, endpoint, binding, now)
        elif link.device != device:
            raise LocalError(f"session {session} cannot change its device")
        self._newest[device] = link
        self._client.session_up(link, now, out)
        return out

    def session_down(self, session: int) -> list[Output]:
        """The session is gone. Another one with the same device is found by the next ``Connect``."""
        out: list[Output] = []
        link = self._links.get(session)
        if link is not None:
            self._drop(link, out)
        return out

    def dial_failed(self, device: bytes, reason: str) -> list[Output]:
        """There will be no session with ``device`` for the calls that wait."""
        out: list[Output] = []
        self._client.dial_failed(device, reason, out)
        return out

    def receive(self, session: int, device: bytes, endpoint: int, frame: Frame, now: int) -> list[Output]:
        """A frame came over a session. After ``session_down`` its stragglers are dropped.

        Raises:
            RpcError: no honest peer sends this frame; nothing was changed.
        """
        out: list[Output] = []
        link = self._links.get(session)
        if link is None:
            return out
        if link.device != device:
            raise LocalError(f"session {session} belongs to another device")
        before = link.endpoint, link.heard
        link.endpoint, link.heard = endpoint, now
        try:
            self._dispatch(link, frame, now, out)
        except RpcError:
            link.endpoint, link.heard = before
            raise
        return out

    def _dispatch(self, link: Link, frame: Frame, now: int, out: list[Output]) -> None:
        if isinstance(frame, Request):
            self._server.request(link, frame, now, out)
        elif isinstance(frame, Response):
            self._client.response(link, frame, now, out)
        elif isinstance(frame, Error):
            self._client.error(link, frame, out)
        elif isinstance(frame, Cancel):
            self._server.cancel(link, frame)
        elif isinstance(frame, Chunk):
            (self._client if frame.answer else self._server).chunk(link, frame, now, out)
        else:
            (self._server if frame.answer else self._client).ack(link, frame, now, out)

    def _drop(self, link: Link, out: list[Output]) -> None:
        del self._links[link.session]
        if self._newest.get(link.device) is link:
            del self._newest[link.device]
        self._client.session_down(link, out)
        self._server.session_down(link)

    # -- time ---------------------------------------------------------------------------------------------

    def deadline(self) -> int | None:
        """When to call ``expire`` next."""
        return self._agenda.next_due()

    def expire(self, now: int) -> list[Output]:
        """Do everything that is due."""
        out: list[Output] = []
        while (task := self._agenda.take_due(now)) is not None:
            if isinstance(task, Serving):
                self._server.expire(task, now, out)
            else:
                silent = self._client.expire(task, now, out)
                if silent is not None:
                    out.append(Disconnect(silent.session, "silent"))
                    self._drop(silent, out)
        return out

    # -- state --------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The whole state; ``from_bytes`` continues exactly here."""
        links = [link.state() for link in self._links.values()]
        newest = [(device, link.session) for device, link in self._newest.items()]
        tasks = [
            (number, task.due, True, task.state())
            if isinstance(task, Serving)
            else (number, task.due, False, task.state())
            for number, task in self._agenda.tasks.items()
        ]
        state = (STATE_VERSION, self._agenda.next_number, links, newest, tasks, self._server.replies())
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes, config: RpcConfig, namespaces: Collection[str]) -> "Rpc":
        """The machine whose ``to_bytes`` gave ``data``.

        Raises:
            LocalError: ``data`` was written by another version.
        """
        version, next_number, links, newest, tasks, replies = msgspec.msgpack.decode(data)
        if version != STATE_VERSION:
            raise LocalError(f"this is version {version} of RPC's state; {STATE_VERSION} is known")
        rpc = cls(config, namespaces)
        rpc._agenda.start_at(next_number)
        for state in links:
            link = Link.from_state(state)
            rpc._links[link.session] = link
        for device, session in newest:
            rpc._newest[device] = rpc._links[session]
        for number, due, serves, state in tasks:
            role = rpc._server if serves else rpc._client
            role.restore(number, due, state, rpc._links)
        rpc._server.restore_replies(replies)
        return rpc
