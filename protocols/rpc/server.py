"""The requests that we answer: each id delivered at most once, each answer remembered for its repetitions."""

from collections.abc import Collection
from typing import Any, Final

from protocols.messages import CodecError, encode, peek_tag
from protocols.rpc.calls import MS, Incoming, Output, Replayed, RpcConfig, Send
from protocols.rpc.chunks import Budget, Outgoing, Partial
from protocols.rpc.frames import (
    CHUNK_SIZE,
    CHUNKS_STOP,
    MESSAGE_SIZE_MAX,
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
from protocols.rpc.link import RTO_MAX_NS, Agenda, Link
from protocols.rpc.replay import IdWindow, ReplyCache

STALLED_NS: Final = 10 * 10**9
"""A large request of which nothing comes for so long gives its room to others: at least three repetitions in a
row were lost, or its sender is gone."""


class Serving:
    """One request in progress."""

    __slots__ = ("deadline", "due", "id", "link", "number", "outgoing", "partial", "trace")

    def __init__(self, link: Link, identifier: int, trace: bytes, deadline: int) -> None:
        self.number = 0
        self.due = deadline
        self.link = link
        self.id = identifier
        self.trace = trace
        self.deadline = deadline
        self.partial: Partial | None = None
        """What has come of a large request."""
        self.outgoing: Outgoing | None = None
        """The rest of a large answer; it is kept here, not in the reply cache, until it has arrived."""

    def state(self) -> list[Any]:
        """Plain data for ``from_state``."""
        partial = None if self.partial is None else self.partial.state()
        outgoing = None if self.outgoing is None else self.outgoing.state()
        return [self.link.session, self.id, self.trace, self.deadline, partial, outgoing]

    @classmethod
    def from_state(cls, state: list[Any], links: dict[int, Link]) -> "Serving":
        """The request whose ``state`` this is, on its link."""
        session, identifier, trace, deadline, partial, outgoing = state
        serving = cls(links[session], identifier, trace, deadline)
        serving.partial = None if partial is None else Partial.from_state(partial)
        serving.outgoing = None if outgoing is None else Outgoing.from_state(outgoing)
        return serving


class Server:
    """The other ends' requests. Methods append what follows to ``out``."""

    __slots__ = ("_agenda", "_answers", "_config", "_count", "_namespaces", "_questions", "_replies")

    def __init__(self, config: RpcConfig, namespaces: Collection[str], agenda: Agenda[Any]) -> None:
        self._config = config
        self._namespaces = namespaces
        self._agenda = agenda
        self._count = 0
        self._replies: ReplyCache | None = None
        self._questions: Budget | None = None
        """Room for large requests on their way in."""
        self._answers: Budget | None = None
        """Room for large answers on their way out."""

    # -- frames -------------------------------------------------------------------------------------------

    def request(self, link: Link, frame: Request, now: int, out: list[Output]) -> None:
        """A request, or the first chunk of one; new or again."""
        check_first(frame.size, frame.body)
        try:
            kind = peek_tag(frame.body)
        except CodecError as error:
            raise RpcError("no_kind", error.detail) from None
        window = link.window
        if window is None:
            window = link.window = IdWindow()
        match window.check(frame.id):
            case "seen":
                self._repeated(link, frame.id, now, out)
                return
            case "old":
                out.append(Replayed(link.session, "too_old"))
                return
        window.mark(frame.id)
        deadline = now + frame.timeout_ms * MS
        if kind.partition(".")[0] not in self._namespaces:
            self._answer_error(link, frame.id, "unknown_kind", "no", kind, deadline, now, out)
        elif frame.size > self._config.body_size_max:
            self._answer_error(link, frame.id, "too_large", "no", f"{frame.size} bytes", deadline, now, out)
        elif (
            self._count >= self._config.serving_max
            or len(link.serving or ()) >= self._config.serving_per_session_max
            or (frame.size > CHUNK_SIZE and not self._question_budget().reserve(link.session, frame.size))
        ):
            self._answer_error(link, frame.id, "overloaded", "no", "", deadline, now, out)
        else:
            if link.serving is None:
                link.serving = {}
            serving = link.serving[frame.id] = Serving(link, frame.id, frame.trace, deadline)
            self._count += 1
            if frame.size > CHUNK_SIZE:
                serving.partial = Partial(frame.size, frame.body)
                serving.due = min(serving.deadline, now + STALLED_NS)
                self._agenda.add(serving)
                self._acknowledge(serving, out)
            else:
                self._agenda.add(serving)
                self._deliver(serving, kind, frame.body, out)

    def _repeated(self, link: Link, identifier: int, now: int, out: list[Output]) -> None:
        serving = link.serving.get(identifier) if link.serving else None
        if serving is not None:
            if serving.partial is not None:
                self._agenda.move(serving, min(serving.deadline, now + STALLED_NS))  # its sender is alive
                self._acknowledge(serving, out)
            out.append(Replayed(link.session, "in_progress"))
        elif not self._answer_again(link, identifier, now, out):
            out.append(Replayed(link.session, "forgotten"))

    def _answer_again(self, link: Link, identifier: int, now: int, out: list[Output]) -> bool:
        reply = self._replies.find(link.session, identifier, now) if self._replies is not None else None
        if reply is None:
            return False
        out.append(Send(link.session, reply))
        out.append(Replayed(link.session, "answered"))
        return True

    def chunk(self, link: Link, frame: Chunk, now: int, out: list[Output]) -> None:
        """A later chunk of a large request."""
        serving = link.serving.get(frame.id) if link.serving else None
        if serving is not None and serving.partial is not None:
            partial = serving.partial
            if partial.add(frame.index, frame.data):
                self._agenda.move(serving, min(serving.deadline, now + STALLED_NS))
            self._acknowledge(serving, out)
            if partial.complete and now < serving.deadline:
                self._end_question(serving)
                self._agenda.move(serving, serving.deadline)
                body = partial.body()
                self._deliver(serving, peek_tag(body), body, out)
        elif link.window is None or link.window.check(frame.id) == "new":
            raise RpcError("unsolicited", f"chunk {frame.index} of a request that has not begun")
        elif serving is not None or not self._answer_again(link, frame.id, now, out):
            out.append(Send(link.session, encode(Ack(frame.id, False, CHUNKS_STOP, 0))))

    def ack(self, link: Link, frame: Ack, now: int, out: list[Output]) -> None:
        """The caller has these chunks of a large answer."""
        serving = link.serving.get(frame.id) if link.serving else None
        if serving is None or serving.outgoing is None:
            if link.window is None or link.window.check(frame.id) == "new":
                raise RpcError("unsolicited", f"acknowledges the answer to {frame.id}, which was never asked")
            return
        transfer = serving.outgoing
        indices = transfer.acknowledge(frame.received, frame.beyond, link.rto)
        if indices is None:
            return
        if transfer.measurable:
            link.measured(now - transfer.sent_at)
            transfer.rto = link.rto
        if transfer.done:
            self._forget(serving)
        else:
            self._send_chunks(serving, transfer, indices, False, out)
            self._agenda.move(serving, min(now + transfer.rto, serving.deadline))

    def cancel(self, link: Link, frame: Cancel) -> None:
        """The caller is gone. Overtaking its request, this keeps the request from being delivered."""
        serving = link.serving.get(frame.id) if link.serving else None
        if serving is not None:
            self._forget(serving)
            return
        if link.window is None:
            link.window = IdWindow()
        if link.window.check(frame.id) == "new":
            link.window.mark(frame.id)

    # -- services -----------------------------------------------------------------------------------------

    def _awaited(self, number: int) -> Serving | None:
        """The request, if it was delivered and has no answer yet."""
        task = self._agenda.tasks.get(number)
        if isinstance(task, Serving) and task.partial is None and task.outgoing is None:
            return task
        return None

    def caller(self, number: int) -> bytes | None:
        """Who waits for a service's answer."""
        serving = self._awaited(number)
        return None if serving is None else serving.link.device

    def respond(self, number: int, body: bytes, now: int, out: list[Output]) -> None:
        """A service's answer; dropped if nobody waits for it any more."""
        serving = self._awaited(number)
        if serving is None:
            return
        link = serving.link
        if len(body) <= CHUNK_SIZE:
            self._forget(serving)
            self._reply(link, serving.id, encode(Response(serving.id, len(body), body)), serving.deadline, now, out)
        elif len(body) > self._config.body_size_max:
            self.refuse(number, "too_large", f"the answer has {len(body)} bytes", "perhaps", now, out)
        elif not self._answer_budget().reserve(link.session, len(body)):
            self.refuse(number, "overloaded", "no room for a large answer", "perhaps", now, out)
        else:
            serving.outgoing = Outgoing(body, link.rto, now)
            self._send_chunks(serving, serving.outgoing, [0], False, out)
            self._agenda.move(serving, min(now + link.rto, serving.deadline))

    def refuse(self, number: int, code: str, message: str, happened: Happened, now: int, out: list[Output]) -> None:
        """A service gives no answer."""
        serving = self._awaited(number)
        if serving is not None:
            self._forget(serving)
            self._answer_error(serving.link, serving.id, code, happened, message, serving.deadline, now, out)

    # -- time and sessions --------------------------------------------------------------------------------

    def expire(self, serving: Serving, now: int, out: list[Output]) -> None:
        """The request's time has come: repeat what is missing of its answer, or forget it."""
        transfer = serving.outgoing
        if transfer is not None and now < serving.deadline:
            self._send_chunks(serving, transfer, transfer.time_out(RTO_MAX_NS), True, out)
            self._agenda.move(serving, min(now + transfer.rto, serving.deadline))
            return
        self._forget(serving)
        if now < serving.deadline:
            self._answer_error(serving.link, serving.id, "stalled", "no", "", serving.deadline, now, out)

    def session_down(self, link: Link) -> None:
        """Nobody can be answered on this session any more."""
        for serving in list((link.serving or {}).values()):
            self._forget(serving)
        if self._replies is not None:
            self._replies.forget_session(link.session)

    # -- ends ---------------------------------------------------------------------------------------------

    def _deliver(self, serving: Serving, kind: str, body: bytes, out: list[Output]) -> None:
        link = serving.link
        sender = link.device, link.endpoint, link.binding
        out.append(Incoming(serving.number, *sender, kind, body, serving.trace, serving.deadline))

    def _answer_error(
        self,
        link: Link,
        identifier: int,
        code: str,
        happened: Happened,
        message: str,
        deadline: int,
        now: int,
        out: list[Output],
    ) -> None:
        frame = Error(identifier, code, happened, message[:MESSAGE_SIZE_MAX])
        self._reply(link, identifier, encode(frame), deadline, now, out)

    def _reply(self, link: Link, identifier: int, frame: bytes, deadline: int, now: int, out: list[Output]) -> None:
        if self._replies is None:
            self._replies = ReplyCache()
        self._replies.put(link.session, identifier, frame, deadline, now)
        out.append(Send(link.session, frame))

    def _acknowledge(self, serving: Serving, out: list[Output]) -> None:
        if serving.partial is not None:
            ack = Ack(serving.id, False, *serving.partial.acknowledgement())
            out.append(Send(serving.link.session, encode(ack)))

    def _send_chunks(
        self, serving: Serving, transfer: Outgoing, indices: list[int], repeated: bool, out: list[Output]
    ) -> None:
        for index in indices:
            data = transfer.chunk(index)
            frame = Chunk(serving.id, True, index, data)
            first = Response(serving.id, len(transfer.body), data)
            out.append(Send(serving.link.session, encode(frame if index else first), repeated))

    def _forget(self, serving: Serving) -> None:
        self._agenda.drop(serving)
        self._count -= 1
        if serving.link.serving is not None:
            del serving.link.serving[serving.id]
        self._end_question(serving)
        if serving.outgoing is not None:
            self._answer_budget().release(serving.link.session, len(serving.outgoing.body))
            serving.outgoing = None

    def _end_question(self, serving: Serving) -> None:
        if serving.partial is not None:
            self._question_budget().release(serving.link.session, serving.partial.size)
            serving.partial = None

    def _question_budget(self) -> Budget:
        if self._questions is None:
            self._questions = Budget(self._config)
        return self._questions

    def _answer_budget(self) -> Budget:
        if self._answers is None:
            self._answers = Budget(self._config)
        return self._answers

    # -- state --------------------------------------------------------------------------------------------

    def replies(self) -> list[Any]:
        """Plain data for ``restore_replies``."""
        return [] if self._replies is None else self._replies.state()

    def restore_replies(self, state: list[Any]) -> None:
        """Take back what ``replies`` told."""
        self._replies = ReplyCache.from_state(state) if state else None

    def restore(self, number: int, due: int, state: list[Any], links: dict[int, Link]) -> None:
        """Take back the request whose ``state`` this is; requests come in the order of their numbers."""
        serving = Serving.from_state(state, links)
        serving.number, serving.due = number, due
        self._agenda.restore(serving)
        self._count += 1
        link = serving.link
        if link.serving is None:
            link.serving = {}
        link.serving[serving.id] = serving
        if serving.partial is not None:
            self._question_budget().reserve(link.session, serving.partial.size)
        if serving.outgoing is not None:
            self._answer_budget().reserve(link.session, len(serving.outgoing.body))
