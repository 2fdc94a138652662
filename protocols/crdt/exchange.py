"""Anti-entropy between two replicas: after an exchange both hold what either held, if it did not take too long.

Equal sets have equal heads, and cost one question of 63 bytes. Else the asker names its heads and samples of what it
held before, ever further back, and the answerer sends what is in the past of none that it knows. That may be too much,
if the two wrote for long without each other: then keyed ranges (``reconciliation``) tell exactly what each lacks. If
most ranges differ, what little is in common costs less sent twice than found by ranges: the samples are refined until
they meet the last that both hold, and the rest is sent, however much it is.

What is received is checked elsewhere, as if it had been pushed. So a liar can withhold, send what nobody asked for,
and waste an exchange, which is bounded in rounds and bytes; what no honest replica says is blamed. An exchange that
ends early has lost nothing: each unit stands for itself, and the next exchange goes on from what is held.

Rejected: version vectors. They name sequences, and two replicas that hold different branches of an equivocator have
equal ones.
"""

from collections.abc import Sequence
from enum import IntEnum
from itertools import islice, pairwise
from typing import Final, Self

import msgspec

from protocols.crdt.answering import NEAR_MAX, latest_heads, written_by
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import History
from protocols.crdt.messages import (
    HEADS_MAX,
    REQUESTS,
    RESPONSES,
    SAMPLES_MAX,
    UNTIL_MAX,
    WANTED_MAX,
    Compare,
    Delta,
    Dropped,
    Far,
    Fingerprints,
    Heads,
    Listed,
    Push,
    Pushed,
    Request,
    Response,
    Same,
    Since,
)
from protocols.crdt.narrowing import SURPLUS_MAX, Narrowing
from protocols.crdt.outgoing import pack
from protocols.crdt.reconciliation import KeyedSets, pack_shorts
from protocols.errors import LocalError

ROUNDS_MAX: Final = 48
SIZE_MAX: Final = 1024 * 1024
"""Bytes asked and answered, after which nothing more is asked: some seconds of a slow line."""

STATE_VERSION: Final = 1


class Stage(IntEnum):
    """What is asked next."""

    COMPARE = 0
    SINCE = 1
    PLAN = 2
    """Nothing: what the other lacks follows from what was answered."""
    RANGES = 3
    PUSH = 4
    OVER = 5


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int = STATE_VERSION
    stage: Stage = Stage.COMPARE
    rounds: int = 0
    size: int = 0
    binding: bytes = b""
    until: tuple[bytes, ...] = ()
    """What this exchange is to fetch, and nothing else."""
    is_equal: bool = False
    is_cut: bool = False
    """Whether something that differs was left for another time."""

    heads: tuple[bytes, ...] = ()
    """Theirs,"""
    has_more_heads: bool = False
    written: int = 0
    """How much of the asker's own they hold."""
    forced: bool = False
    floor: tuple[bytes, ...] = ()
    """What they said is the last that they let go of, and is held here."""
    is_behind: bool = False
    """Whether it is not."""
    named: tuple[bytes, ...] = ()
    """What the last question of ``Since`` named,"""
    samples: tuple[int, ...] = ()
    """of which the last ones are at these places in the order of arrival."""
    low: int = 0
    """The last sample that they hold,"""
    high: int = -1
    """and the first after it that they do not; -1: none was named yet."""
    common: tuple[bytes, ...] = ()
    """What of ours they hold, of the last question."""
    progress: tuple[int, int, int] = (0, 0, 0)
    is_paged: bool = False

    ranges: Narrowing = msgspec.field(default_factory=Narrowing)
    surplus: list[bytes] = []
    """What is to be pushed, causes before effects."""
    rest: list[bytes] = []
    """What is left of it when the push is answered."""
    wanted: list[int] = []
    """Keys of what is to be sent in return."""


class Exchange:
    """The asking side of one exchange: ``request`` gives what to ask, ``answer`` takes what was answered and gives
    units for ``Replica.receive``, until there is nothing to ask."""

    __slots__ = ("_history", "_sets", "_state")

    def __init__(self, history: History, sets: KeyedSets, until: Sequence[bytes] = ()) -> None:
        """Args:
        until: operations that are missing here; only they and their past are fetched then. At most 64.
        """
        self._history: Final = history
        self._sets: Final = sets
        self._state = _State(until=tuple(until))
        if len(until) > UNTIL_MAX:
            raise LocalError(f"{len(until)} operations to fetch at once; the limit is {UNTIL_MAX}")
        if until:
            self._state.stage, self._state.forced = Stage.SINCE, True

    @property
    def is_equal(self) -> bool:
        """Whether the two were equal from the beginning."""
        return self._state.is_equal

    @property
    def is_complete(self) -> bool:
        """Whether all that the answerer named as its own is here now, and all that it was found to lack was pushed. Of
        what was only fetched nobody knows that."""
        state, history = self._state, self._history
        found = not state.is_cut and not state.until and all(each in history for each in state.heads)
        return state.stage is Stage.OVER and found

    @property
    def is_behind(self) -> bool:
        """Whether the answerer has let go of something that was never here: only its snapshot helps."""
        return self._state.is_behind

    def has_own(self, device: bytes) -> bool:
        """Whether all that ``device``, which asks, wrote itself and the answerer holds is here now. For that the two
        need not be equal, and may never be: of an equivocator's operations each holds its own choice."""
        state = self._state
        return state.stage is Stage.OVER and not state.until and state.written <= written_by(self._history, device)

    @property
    def rounds(self) -> int:
        return self._state.rounds

    @property
    def size(self) -> int:
        """Bytes asked and answered."""
        return self._state.size

    def request(self) -> bytes | None:
        """The next question, once the units of the last answer were received; None: the exchange is over."""
        state = self._state
        question = None
        if state.rounds < ROUNDS_MAX and state.size < SIZE_MAX:
            question = self._question()
        elif state.stage is not Stage.OVER:
            state.is_cut = True
        if question is None:
            state.stage = Stage.OVER
            return None
        body = REQUESTS.encode(question)
        state.rounds += 1
        state.size += len(body)
        return body

    def answer(self, body: bytes, binding: bytes) -> tuple[bytes, ...]:
        """What came in the answer, on the session with this binding, to be received before the next request.

        Raises:
            ProtocolError: no honest replica answers so; the exchange is as it was, and has to be dropped.
        """
        response, state = RESPONSES.decode(body), self._state
        if binding != state.binding and (state.stage is Stage.RANGES or state.wanted):
            state.stage, state.is_cut = Stage.OVER, True  # Its keys are other ones: the session was renewed.
            return ()
        units = self._take(response, binding)
        state.size += len(body)
        state.binding = binding
        return units

    # -- questions ----------------------------------------------------------------------------------------

    def _question(self) -> Request | None:
        state, channel = self._state, self._history.channel
        if state.stage is Stage.COMPARE:
            return Compare(channel, self._history.set_digest)
        if state.stage is Stage.SINCE:
            progress = (len(self._history), state.low, state.high)
            if not state.is_paged or progress != state.progress:
                state.progress = progress
                return self._since()
            # What came was known, or has to wait: more of it does not help.
            if state.until:
                state.is_cut = True
                return None
            state.stage = Stage.RANGES
        if state.stage is Stage.PLAN:
            self._plan()
        if state.stage is Stage.RANGES:
            found = state.ranges
            question = found.question(channel, len(self._history))
            if question is not None:
                return question
            held = self._history.operations
            state.surplus = sorted(found.surplus, key=lambda each: held[each].order)
            state.wanted, state.is_cut = found.wanted, found.is_cut
            state.ranges, state.is_paged, state.stage = Narrowing(), False, Stage.PUSH
        return self._push() if state.stage is Stage.PUSH else None

    def _since(self) -> Since:
        state, history = self._state, self._history
        arrived = list(history.operations)
        if state.high < 0:
            last = len(arrived) - 1
            places = [last - (1 << power) for power in range(min(last.bit_length(), SAMPLES_MAX))]
            places = [each for each in places if each >= 0]
        else:
            width = state.high - state.low
            places = sorted({state.low + width * step // SAMPLES_MAX for step in range(SAMPLES_MAX)})
        heads, _ = latest_heads(history)
        if history.floor_heads:
            state.forced = True  # Ranges are for sets that are mostly equal.
        first = tuple(dict.fromkeys((*state.floor, *history.floor_heads, *heads)))[:HEADS_MAX]
        state.samples = tuple(places)
        state.named = (*first, *(arrived[each] for each in places))
        return Since(history.channel, state.named, state.until, state.forced)

    def _plan(self) -> None:
        """What the other lacks, if its heads or its answers say it well enough."""
        state, history = self._state, self._history
        if state.until:
            state.stage = Stage.OVER
            return
        known = [each for each in state.heads if each in history]
        past = history.past_of((history.channel, *known, *state.common))
        if history.lets_go_of(past):  # They have to ask for a snapshot: what is here is of no use to them.
            state.is_cut, state.stage = True, Stage.OVER
            return
        lacking = history.after(past)
        surplus = [each.id for each in islice(lacking, SURPLUS_MAX + 1)]
        exact = len(known) == len(state.heads) and not state.has_more_heads
        if not exact and len(surplus) > NEAR_MAX:
            state.stage = Stage.RANGES
            return
        state.is_cut |= len(surplus) > SURPLUS_MAX
        state.surplus, state.is_paged, state.stage = surplus[:SURPLUS_MAX], False, Stage.PUSH

    def _push(self) -> Push | None:
        state, history = self._state, self._history
        if state.wanted:
            keyed, progress = self._sets.of(state.binding), (len(history), 0, 0)
            state.wanted = [each for each in state.wanted if keyed.find(each) is None]
            if state.is_paged and progress == state.progress:
                state.is_cut, state.wanted = True, []
            state.progress = progress
        batch = pack(history, [history.operations[each] for each in state.surplus])
        state.rest = [each.id for each in batch.rest]
        if not batch.units and not state.wanted:
            return None
        return Push(history.channel, batch.units, pack_shorts(state.wanted[:WANTED_MAX]))

    # -- answers ------------------------------------------------------------------------------------------

    def _take(self, response: Response, binding: bytes) -> tuple[bytes, ...]:
        state = self._state
        match state.stage, response:
            case Stage.COMPARE, Same():
                state.is_equal, state.stage = True, Stage.OVER
            case Stage.COMPARE, Heads(heads=heads, more=more, written=written):
                if any(a >= b for a, b in pairwise(heads)) or not heads:
                    raise CrdtError("bad_answer", "heads are sorted, and there is always one")
                state.heads, state.has_more_heads, state.written = heads, more, written
                known = not more and all(each in self._history for each in heads)
                state.stage = Stage.PLAN if known else Stage.SINCE
            case Stage.SINCE, Delta(held=mask, units=units, more=more):
                self._note(mask)
                state.is_paged = more
                state.stage = Stage.SINCE if more else Stage.PLAN
                return units
            case Stage.SINCE, Dropped(held=mask, heads=heads):
                self._note(mask)
                state.is_behind = not all(each in self._history for each in heads)
                if state.is_behind or heads == state.floor:
                    state.is_cut, state.stage = True, Stage.OVER
                state.floor, state.is_paged = heads, False
            case Stage.SINCE, Far() as far if not state.forced:
                self._far(far, binding)
            case Stage.RANGES, Fingerprints(fingerprints=prints) if state.ranges.asked[1]:
                state.ranges.narrow(state.ranges.differing(prints, self._sets.of(binding)))
            case Stage.RANGES, Listed(ranges=done, keys=keys) if not state.ranges.asked[1]:
                state.ranges.listed(done, keys, self._sets.of(binding))
            case Stage.PUSH, Pushed(units=units, more=more):
                state.surplus, state.rest = state.rest, []
                state.is_paged = more
                if not more:
                    state.wanted = []
                return units
            case _:
                raise CrdtError("bad_answer", f"{type(response).__name__} to another question")
        return ()

    def _note(self, mask: bytes) -> None:
        """Which of the operations that were named they hold."""
        state, named = self._state, self._state.named
        bits = int.from_bytes(mask, "little")
        if len(mask) != (len(named) + 7) // 8 or bits >> len(named):
            raise CrdtError("bad_answer", f"{len(mask)} bytes about {len(named)} operations")
        held = [bool(bits >> index & 1) for index in range(len(named))]
        state.common = tuple(each for each, there in zip(named, held, strict=True) if there)
        samples = sorted(zip(state.samples, held[len(named) - len(state.samples) :], strict=True))
        high = len(self._history) if state.high < 0 else state.high
        low = max((place for place, there in samples if there), default=state.low)
        state.high = min((place for place, there in samples if not there and place > low), default=high)
        state.low = low

    def _far(self, far: Far, binding: bytes) -> None:
        """Go on by ranges, or by samples if most ranges differ."""
        state, ranges = self._state, Narrowing.of(far.count, far.bits)
        differing = ranges.differing(far.fingerprints, self._sets.of(binding))
        self._note(far.held)
        if 2 * len(differing) > 1 << far.bits:
            state.forced, state.ranges.count = True, far.count
        else:
            ranges.narrow(differing)
            state.ranges, state.stage = ranges, Stage.RANGES

    # -- state --------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    @classmethod
    def from_bytes(cls, history: History, sets: KeyedSets, data: bytes) -> Self:
        """``history`` is the one that it was about, in its order of arrival.

        Raises:
            LocalError: these bytes are of no exchange, or of another version.
        """
        exchange = cls(history, sets)
        try:
            exchange._state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.DecodeError as error:
            raise LocalError(f"no exchange: {error}") from None
        if exchange._state.version != STATE_VERSION:
            raise LocalError(f"an exchange of version {exchange._state.version}")
        return exchange
