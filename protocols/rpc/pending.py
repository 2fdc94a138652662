"""One call that we made, from its beginning to its end."""

from typing import Any, Final

from protocols.rpc.chunks import Outgoing, Partial
from protocols.rpc.link import Link

UNSENT: Final = -1
"""The id of a call that waits for its session."""


class Pending:
    """One open call."""

    __slots__ = (
        "body",
        "deadline",
        "device",
        "due",
        "frame",
        "id",
        "link",
        "number",
        "outgoing",
        "partial",
        "repeated",
        "rto",
        "sent_at",
        "service",
        "started_at",
        "token",
        "trace",
    )

    def __init__(
        self, service: str, token: int, device: bytes, body: bytes, trace: bytes, now: int, deadline: int
    ) -> None:
        self.number = 0
        self.due = deadline
        """The next repetition, or the deadline."""
        self.service = service
        self.token = token
        self.device = device
        self.body = body
        """Until it is sent; then ``frame`` or ``outgoing`` holds it."""
        self.trace = trace
        self.started_at = now
        self.deadline = deadline
        self.link: Link | None = None
        self.id = UNSENT
        self.frame = b""
        """The request's bytes, which every repetition sends again."""
        self.sent_at = 0
        self.rto = 0
        self.repeated = False
        self.outgoing: Outgoing | None = None
        """The rest of a large request."""
        self.partial: Partial | None = None
        """What has come of a large answer."""

    def state(self) -> list[Any]:
        """Plain data for ``from_state``."""
        return [
            self.service,
            self.token,
            self.device,
            self.body,
            self.trace,
            self.started_at,
            self.deadline,
            None if self.link is None else self.link.session,
            self.id,
            self.frame,
            self.sent_at,
            self.rto,
            self.repeated,
            None if self.outgoing is None else self.outgoing.state(),
            None if self.partial is None else self.partial.state(),
        ]

    @classmethod
    def from_state(cls, state: list[Any], links: dict[int, Link]) -> "Pending":
        """The call whose ``state`` this is, on its link."""
        service, token, device, body, trace, started_at, deadline, session, *rest = state
        call = cls(service, token, device, body, trace, started_at, deadline)
        call.id, call.frame, call.sent_at, call.rto, call.repeated, outgoing, partial = rest
        call.link = None if session is None else links[session]
        call.outgoing = None if outgoing is None else Outgoing.from_state(outgoing)
        call.partial = None if partial is None else Partial.from_state(partial)
        return call
