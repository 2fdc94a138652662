"""Durable before use, as an object: what depends on a write comes out of it when the write is durable, not before.

The rule is easy to state and easy to forget, once, in the one handler that nobody tests by pulling the plug. So an
actor does not send what its step gave. It puts the step's records and the step's outputs into its outbox in one
call, hands on the ``writes`` to the journal, tells it each ``Durable``, and sends what is ``released``. Forgetting
any of these sends nothing, which is noticed at once; there is no way to send too early.

Outputs leave in the order in which they were put in, each after *all* that was written before it. Writes to
different streams may become durable in any order, and a step may depend on what an earlier one wrote elsewhere. To
wait for all of it costs nothing: a journal commits together whatever it was given together.
"""

from collections import deque
from typing import Annotated, Final, Generic

import msgspec

from protocols.errors import LocalError, ProtocolError
from protocols.journal.messages import Append, Durable, Entry, Forget, Settle, Snapshot, Write
from protocols.messages import Codec, Message, MessageT, Uint64

HELD_MAX: Final = 4096
"""Outputs that wait, and as many writes. A disk takes milliseconds: who is so far ahead of it waits, or will be
further ahead yet."""
UNDER_WAY_SIZE_MAX: Final = 64 * 1024 * 1024
"""Bytes of writes that are not durable; the last of them may exceed it. Half a second of a disk's time."""

STATE_SIZE_MAX: Final = 64 * 1024 * 1024

VERSION: Final = 1


class BusyError(LocalError):
    """So much waits for the journal that nothing more is to be begun. What a remote asks for is shed; it asks again."""


class _State(Message, frozen=True, tag="journal.outbox"):
    version: int
    token: Uint64
    waiting: Annotated[tuple[tuple[Uint64, Uint64], ...], msgspec.Meta(max_length=2**20)]
    held: Annotated[tuple[tuple[Uint64, bytes], ...], msgspec.Meta(max_length=2**20)]


_STATES: Final[Codec[_State]] = Codec(_State, size_max=STATE_SIZE_MAX)


class Outbox(Generic[MessageT]):
    """One for each owner of streams, who drains ``writes`` and ``released`` after whatever it did.

    Args:
        codec: of the outputs, to store those that wait.
    """

    def __init__(self, codec: Codec[MessageT]) -> None:
        self._codec: Final = codec
        self._token = 0
        """Of the newest write."""
        self._waiting: dict[int, int] = {}
        """Writes that are not durable yet, oldest first, and their bytes."""
        self._size = 0
        """Of all of them."""
        self._writes: list[Write] = []
        self._held: deque[tuple[int, MessageT]] = deque()
        """Outputs, each with the newest write before it."""

    def __repr__(self) -> str:
        return f"<Outbox: {len(self._held)} outputs, {len(self._waiting)} writes under way>"

    def __len__(self) -> int:
        return len(self._held)

    # -- told ---------------------------------------------------------------------------------------

    def append(self, stream: bytes, *entries: Entry) -> None:
        """Records of a step: all or none of them will be there."""
        if entries:
            size = sum(len(entry.payload) for entry in entries)
            self._writes.append(Append(self._next(size), stream, entries))

    def snapshot(self, stream: bytes, state: bytes, *, erase: bool = False) -> None:
        """A stream's state as of all that was appended to it, to stand for it from now on."""
        self._writes.append(Snapshot(self._next(len(state)), stream, state, erase))

    def forget(self, stream: bytes) -> None:
        """A stream is to be destroyed."""
        self._writes.append(Forget(self._next(0), stream))

    def settle(self, stream: bytes) -> None:
        """Nothing about a stream is in doubt any more."""
        self._writes.append(Settle(stream))

    def hold(self, *outputs: MessageT) -> None:
        """What may be done when all that was written up to now is durable: at once, if it is."""
        self._held.extend((self._token, output) for output in outputs)

    def durable(self, answer: Durable) -> None:
        """Raises:
        LocalError: no such write is under way here.
        """
        if answer.token not in self._waiting:
            raise LocalError(f"write {answer.token} of {answer.stream!r} is not under way")
        self._size -= self._waiting.pop(answer.token)

    def abandon(self) -> list[MessageT]:
        """The journal was lost; returns what was held, as none of it may be done any more."""
        held = [output for _, output in self._held]
        self._held.clear()
        self._waiting.clear()
        self._writes.clear()
        self._size = 0
        return held

    def check_room(self) -> None:
        """Before a step.

        Raises:
            BusyError: too much waits.
        """
        if max(len(self._held), len(self._waiting)) >= HELD_MAX or self._size >= UNDER_WAY_SIZE_MAX:
            raise BusyError(
                f"{len(self._held)} outputs and {len(self._waiting)} writes of {self._size} bytes wait for the journal"
            )

    # -- asked --------------------------------------------------------------------------------------

    def writes(self) -> list[Write]:
        """What to tell the journal, in this order; each once."""
        writes, self._writes = self._writes, []
        return writes

    def released(self) -> list[MessageT]:
        """What may be done now; each once."""
        durable = next(iter(self._waiting), self._token + 1)
        released = []
        while self._held and self._held[0][0] < durable:
            released.append(self._held.popleft()[1])
        return released

    def _next(self, size: int) -> int:
        self._token += 1
        self._waiting[self._token] = size
        self._size += size
        return self._token

    # -- to bytes and back --------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Between two turns, for a checkpoint that has the journal in it too.

        Raises:
            LocalError: there are writes of which the journal was not told.
        """
        if self._writes:
            raise LocalError(f"{len(self._writes)} writes were not handed on")
        held = tuple((token, self._codec.encode(output)) for token, output in self._held)
        return _STATES.encode(_State(VERSION, self._token, tuple(self._waiting.items()), held))

    @classmethod
    def from_bytes(cls, data: bytes, codec: Codec[MessageT]) -> "Outbox[MessageT]":
        """Raises:
        LocalError: these are not the bytes of an outbox.
        """
        outbox = cls(codec)
        try:
            state = _STATES.decode(data)
            if state.version != VERSION:
                raise LocalError(f"an outbox stored as version {state.version}; this code reads {VERSION}")
            outbox._held.extend((token, codec.decode(output)) for token, output in state.held)
        except ProtocolError as error:
            raise LocalError(f"this is no stored outbox: {error}") from None
        outbox._token, outbox._waiting = state.token, dict(state.waiting)
        outbox._size = sum(outbox._waiting.values())
        return outbox
