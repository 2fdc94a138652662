"""What the other actors of a peer tell its rate limiter."""

from typing import Annotated

import msgspec

from protocols.messages import Key32, Message


class Fault(Message, frozen=True, tag="admission.fault"):
    """``device`` itself broke the protocol, inside its own authenticated session.

    Never sent for what we did wrong, for what the network did, or for content that somebody else signed.
    """

    device: Key32
    reason: Annotated[str, msgspec.Meta(max_length=64)]


class Success(Message, frozen=True, tag="admission.success"):
    """A request of ``device`` was carried out; half-open breakers close on it."""

    device: Key32
