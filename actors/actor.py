"""What an actor is, and what its context gives it.

An actor is one subsystem of one peer: a plain class that holds one protocol machine and says, method by
method, which messages it handles. It shares no state with other actors, returns nothing to them, and
knows neither where it runs nor what time "really" is. Everything it can do to the world goes through the
``Context`` that its handlers are given, so the same class runs in virtual time, in real time, alone in a
Ray actor or beside ten thousand others on one thread, and in a test of three lines.
"""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar

from protocols.errors import LocalError
from protocols.messages import Codec, Message

if TYPE_CHECKING:
    from actors.context import Context

LOCAL_SIZE_MAX: Final = 32 * 1024 * 1024
"""The largest message between two actors of a peer: a reassembled body, with room for its envelope."""

Handler = Callable[[Any, Any, "Context"], None]
HandlerT = TypeVar("HandlerT", bound=Callable[..., None])


def handles(*types: type[Message]) -> Callable[[HandlerT], HandlerT]:
    """Mark a method ``(self, message, ctx)`` as the handler of these message types."""

    def mark(method: HandlerT) -> HandlerT:
        method.__handles__ = types  # type: ignore[attr-defined]
        return method

    return mark


class Actor:
    """The base of every actor. Subclasses set ``service`` and mark handlers with ``@handles``."""

    __slots__ = ()

    service: ClassVar[str]
    """The name under which the other actors of the same peer reach this one."""

    handlers: ClassVar[dict[type[Message], Handler]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        table = dict(cls.handlers)
        for method in vars(cls).values():
            for message_type in getattr(method, "__handles__", ()):
                if table.get(message_type, method).__qualname__.startswith(f"{cls.__qualname__}.") and (
                    message_type in table and table[message_type] is not method
                ):
                    raise LocalError(f"{cls.__name__} handles {message_type.__name__} twice")
                table[message_type] = method
        cls.handlers = table

    @classmethod
    @cache
    def codec(cls) -> Codec[Message]:
        """Encodes and decodes the messages this actor handles: for timers in a checkpoint, and between hosts."""
        return Codec(*cls.handlers, size_max=LOCAL_SIZE_MAX)

    def __init__(self, setup: Any) -> None:
        raise NotImplementedError

    def start(self, ctx: "Context") -> None:
        """The peer comes up; called once, before any message, in the order in which the peer lists its actors."""

    def to_bytes(self) -> bytes:
        """The actor's whole state, versioned, without library objects."""
        raise NotImplementedError

    @classmethod
    def from_bytes(cls, data: bytes, setup: Any) -> Self:
        """The actor whose ``to_bytes`` gave ``data``, in a peer of the same ``setup``."""
        raise NotImplementedError
