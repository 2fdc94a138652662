"""The one timer of an actor whose machine says when it next has something to do.

Deadlines move with nearly every message, mostly to later. So an alarm is only moved when it would ring too late; when
it rings too early the machine finds nothing due, and it is set anew. That costs less than a timer cancelled and
armed with every message.
"""

import msgspec

from actors.context import Context
from protocols.messages import Message


class Alarm(msgspec.Struct, array_like=True):
    """At most one armed timer; plain data, part of its actor's state."""

    timer: int = 0
    """0 if none is armed."""
    rings_at: int = 0

    def set(self, deadline: int | None, message: Message, ctx: Context) -> None:
        """Have ``message`` delivered no later than ``deadline``; ``None`` asks for nothing."""
        if deadline is None or (self.timer and self.rings_at <= deadline):
            return
        if self.timer:
            ctx.cancel(self.timer)
        self.rings_at = deadline
        self.timer = ctx.after(max(0, deadline - ctx.now), message)

    def rang(self) -> None:
        """The message has been delivered."""
        self.timer = 0
