"""The calls that we make: queued until there is a session, repeated until answered, ended by their deadline."""

from typing import Any

from protocols.errors import LocalError
from protocols.messages import encode
from protocols.rpc.calls import MS, Completed, Connect, Failed, Output, RpcConfig, Send
from protocols.rpc.chunks import Budget, Outgoing, Partial
from protocols.rpc.frames import (
    CHUNK_SIZE,
    CHUNKS_STOP,
    Ack,
    Cancel,
    Chunk,
    Error,
    Happened,
    Request,
    Response,
    RpcError,
    check_first,
)
from protocols.rpc.link import RTO_MAX_NS, SILENCE_NS, Agenda, Link
from protocols.rpc.pending import Pending
from protocols.rpc.replay import WINDOW_IDS


class Client:
    """Our calls, waiting and sent. Methods append what follows to ``out``."""

    __slots__ = ("_agenda", "_answers", "_calls", "_config", "_questions", "_waiting", "_waiting_count")

    def __init__(self, config: RpcConfig, agenda: Agenda[Any]) -> None:
        self._config = config
        self._agenda = agenda
        self._calls: dict[tuple[str, int], Pending] = {}
        self._waiting: dict[bytes, list[Pending]] = {}
        self._waiting_count = 0
        self._questions: Budget | None = None
        """Room for large requests on their way out."""
        self._answers: Budget | None = None
        """Room for large answers on their way in."""

    # -- calling ------------------------------------------------------------------------------------------

    def call(
        self,
        link: Link | None,
        service: str,
        token: int,
        device: bytes,
        endpoint: int,
        body: bytes,
        timeout_ns: int,
        trace: bytes,
        now: int,
        out: list[Output],
    ) -> None:
        """Begin a call; over ``link`` if there is one.

        Raises:
            LocalError: the token is in use, or the timeout or body is none that can be sent.
        """
        config = self._config
        if (service, token) in self._calls:
            raise LocalError(f"{service!r} has an open call {token} already")
        if not MS <= timeout_ns <= config.timeout_ms_max * MS:
            raise LocalError(f"a call cannot wait {timeout_ns} ns; the limit is {config.timeout_ms_max} ms")
        call = Pending(service, token, device, body, trace, now, now + timeout_ns)
        if len(body) > config.body_size_max:
            out.append(self._failed(call, "too_large", "no"))
        elif len(self._calls) >= config.calls_max:
            out.append(self._failed(call, "overloaded", "no"))
        elif link is not None:
            self._send(call, link, now, out)
        else:
            self._wait(call, endpoint, out)

    def _wait(self, call: Pending, endpoint: int, out: list[Output]) -> None:
        queue = self._waiting.get(call.device, [])
        if self._waiting_count >= self._config.waiting_max or len(queue) >= self._config.waiting_per_device_max:
            out.append(self._failed(call, "overloaded", "no"))
            return
        if not queue:
            self._waiting[call.device] = queue
            out.append(Connect(call.device, endpoint))
        queue.append(call)
        self._waiting_count += 1
        self._calls[call.service, call.token] = call
        self._agenda.add(call)

    def _send(self, call: Pending, link: Link, now: int, out: list[Output]) -> None:
        """Send a new or waiting call. Only here is an id used."""
        calls = link.calls
        if calls is None:
            calls = link.calls = {}
        # The callee remembers WINDOW_IDS ids: a younger request must not push our oldest one out.
        crowded = len(calls) >= self._config.calls_per_session_max or (
            calls and link.next_id - next(iter(calls)) >= WINDOW_IDS
        )
        size = len(call.body)
        if crowded or (size > CHUNK_SIZE and not self._question_budget().reserve(link.session, size)):
            if (call.service, call.token) in self._calls:
                self._forget(call)
            out.append(self._failed(call, "overloaded", "no"))
            return
        call.id = link.next_id
        link.next_id += 1
        call.link = link
        call.sent_at = now
        call.rto = link.rto
        timeout_ms = max(1, (call.deadline - now) // MS)
        if size > CHUNK_SIZE:
            call.outgoing = Outgoing(call.body, call.rto, now)
            call.frame = encode(Request(call.id, timeout_ms, call.trace, size, call.outgoing.chunk(0)))
        else:
            call.frame = encode(Request(call.id, timeout_ms, call.trace, size, call.body))
        call.body = b""
        calls[call.id] = call
        due = min(now + call.rto, call.deadline)
        if (call.service, call.token) in self._calls:
            self._agenda.move(call, due)
        else:
            self._calls[call.service, call.token] = call
            call.due = due
            self._agenda.add(call)
        out.append(Send(link.session, call.frame))

    def cancel(self, service: str, token: int, out: list[Output]) -> None:
        """The service no longer cares; nothing happens if the call is over."""
        call = self._calls.get((service, token))
        if call is not None:
            if call.link is not None:
                out.append(Send(call.link.session, encode(Cancel(call.id))))
            self._forget(call)

    # -- sessions -----------------------------------------------------------------------------------------

    def session_up(self, link: Link, now: int, out: list[Output]) -> None:
        """Send what waited for this device."""
        for call in self._waiting.pop(link.device, ()):
            self._waiting_count -= 1
            self._send(call, link, now, out)

    def dial_failed(self, device: bytes, reason: str, out: list[Output]) -> None:
        """Nothing that waited was ever sent."""
        for call in list(self._waiting.get(device, ())):
            self._forget(call)
            out.append(self._failed(call, reason, "no"))

    def session_down(self, link: Link, out: list[Output]) -> None:
        """At most once per id: what was sent is not sent again elsewhere."""
        for call in list((link.calls or {}).values()):
            self._forget(call)
            out.append(self._failed(call, "session_down", "perhaps"))

    # -- frames -------------------------------------------------------------------------------------------

    def response(self, link: Link, frame: Response, now: int, out: list[Output]) -> None:
        """An answer, or the first chunk of one."""
        check_first(frame.size, frame.body)
        call = self._find(link, frame.id)
        large = frame.size > CHUNK_SIZE
        if call is None:
            if large:
                out.append(Send(link.session, encode(Ack(frame.id, True, CHUNKS_STOP, 0))))
            return
        if call.partial is not None:
            self._acknowledge(call, link, out)  # its first chunk came twice
            return
        # A large request was answered long after its first frame went out: no round trip to measure.
        if not call.repeated and call.outgoing is None:
            link.measured(now - call.sent_at)
        if not large:
            self._complete(call, link, frame.body, now, out)
        elif frame.size > self._config.body_size_max:
            self._give_up(call, link, "too_large", out)
        elif not self._answer_budget().reserve(link.session, frame.size):
            self._give_up(call, link, "overloaded", out)
        else:
            self._end_question(call, link)
            call.partial = Partial(frame.size, frame.body)
            self._agenda.move(call, call.deadline)  # from now on its sender repeats
            self._acknowledge(call, link, out)

    def chunk(self, link: Link, frame: Chunk, now: int, out: list[Output]) -> None:
        """A later chunk of a large answer."""
        call = self._find(link, frame.id)
        if call is None:
            out.append(Send(link.session, encode(Ack(frame.id, True, CHUNKS_STOP, 0))))
        elif call.partial is None:
            raise RpcError("unsolicited", f"chunk {frame.index} of an answer that has not begun")
        else:
            call.partial.add(frame.index, frame.data)
            self._acknowledge(call, link, out)
            if call.partial.complete:
                self._complete(call, link, call.partial.body(), now, out)

    def ack(self, link: Link, frame: Ack, now: int, out: list[Output]) -> None:
        """The callee has these chunks of a large request."""
        call = self._find(link, frame.id)
        if call is None or call.outgoing is None:
            return
        transfer = call.outgoing
        indices = transfer.acknowledge(frame.received, frame.beyond, link.rto)
        if indices is None:
            return
        if transfer.measurable:
            link.measured(now - transfer.sent_at)
            transfer.rto = link.rto
        self._send_chunks(call, link, indices, False, out)
        if transfer.done:
            # Silence now means that the callee thinks, or that its answer was lost: ask again with the first frame.
            self._end_question(call, link)
            call.repeated = True
            call.rto = link.rto
        self._agenda.move(call, min(now + (call.rto if transfer.done else transfer.rto), call.deadline))

    def error(self, link: Link, frame: Error, out: list[Output]) -> None:
        """The callee says why there is no answer."""
        call = self._find(link, frame.id)
        if call is not None:
            self._forget(call)
            out.append(Failed(call.token, call.device, frame.code, frame.happened, call.service, True, frame.message))

    def _find(self, link: Link, identifier: int) -> Pending | None:
        if identifier >= link.next_id:
            raise RpcError("unsolicited", f"an answer to request {identifier}, which was never sent")
        return None if link.calls is None else link.calls.get(identifier)

    # -- time ---------------------------------------------------------------------------------------------

    def expire(self, call: Pending, now: int, out: list[Output]) -> Link | None:
        """The call's time has come: repeat it or end it.

        Returns:
            the link, if the call ended without a sound from its other end.
        """
        link = call.link
        if now >= call.deadline:
            self._forget(call)
            out.append(self._failed(call, "timeout", "no" if link is None else "perhaps"))
            silent = link is not None and link.heard <= call.sent_at <= call.deadline - SILENCE_NS
            return link if silent else None
        assert link is not None  # a call that waits for its session is due at its deadline only
        call.repeated = True
        if call.outgoing is not None:
            indices = call.outgoing.time_out(RTO_MAX_NS)
            self._send_chunks(call, link, indices, True, out)
            rto = call.outgoing.rto
        else:
            rto = call.rto = min(call.rto * 2, RTO_MAX_NS)
            out.append(Send(link.session, call.frame, True))
        link.timed_out(rto)
        self._agenda.move(call, min(now + rto, call.deadline))
        return None

    # -- ends ---------------------------------------------------------------------------------------------

    def _complete(self, call: Pending, link: Link, body: bytes, now: int, out: list[Output]) -> None:
        self._forget(call)
        elapsed = now - call.started_at
        out.append(Completed(call.token, call.device, body, link.endpoint, link.binding, call.service, elapsed))

    def _give_up(self, call: Pending, link: Link, reason: str, out: list[Output]) -> None:
        self._forget(call)
        out.append(Send(link.session, encode(Cancel(call.id))))
        out.append(self._failed(call, reason, "perhaps"))

    def _failed(self, call: Pending, reason: str, happened: Happened) -> Failed:
        return Failed(call.token, call.device, reason, happened, call.service)

    def _forget(self, call: Pending) -> None:
        self._agenda.drop(call)
        del self._calls[call.service, call.token]
        link = call.link
        if link is None:
            queue = self._waiting.get(call.device)
            if queue is not None:
                queue.remove(call)  # bounded by waiting_per_device_max
                self._waiting_count -= 1
                if not queue:
                    del self._waiting[call.device]
            return
        if link.calls is not None:
            del link.calls[call.id]
        self._end_question(call, link)
        if call.partial is not None:
            self._answer_budget().release(link.session, call.partial.size)
            call.partial = None

    def _end_question(self, call: Pending, link: Link) -> None:
        if call.outgoing is not None:
            self._question_budget().release(link.session, len(call.outgoing.body))
            call.outgoing = None

    def _acknowledge(self, call: Pending, link: Link, out: list[Output]) -> None:
        if call.partial is not None:
            out.append(Send(link.session, encode(Ack(call.id, True, *call.partial.acknowledgement()))))

    def _send_chunks(self, call: Pending, link: Link, indices: list[int], repeated: bool, out: list[Output]) -> None:
        transfer = call.outgoing
        if transfer is not None:
            for index in indices:
                data = encode(Chunk(call.id, False, index, transfer.chunk(index))) if index else call.frame
                out.append(Send(link.session, data, repeated))

    def _question_budget(self) -> Budget:
        if self._questions is None:
            self._questions = Budget(self._config)
        return self._questions

    def _answer_budget(self) -> Budget:
        if self._answers is None:
            self._answers = Budget(self._config)
        return self._answers

    # -- state --------------------------------------------------------------------------------------------

    def restore(self, number: int, due: int, state: list[Any], links: dict[int, Link]) -> None:
        """Take back the call whose ``state`` this is; calls come in the order of their numbers."""
        call = Pending.from_state(state, links)
        call.number, call.due = number, due
        self._calls[call.service, call.token] = call
        self._agenda.restore(call)
        link = call.link
        if link is None:
            self._waiting.setdefault(call.device, []).append(call)
            self._waiting_count += 1
            return
        if link.calls is None:
            link.calls = {}
        link.calls[call.id] = call
        if call.outgoing is not None:
            self._question_budget().reserve(link.session, len(call.outgoing.body))
        if call.partial is not None:
            self._answer_budget().reserve(link.session, call.partial.size)
