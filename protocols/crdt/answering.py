"""The answering side of anti-entropy: every question of ``messages`` is answered from itself and what is held.

Nothing is kept between two questions but keyed sets, which can be made again. What a question can cost is bounded by
its own size and the answer's, but for two things that grow with the history: the keys of a session that asks for the
first time, and the search for what lies in the past of something; 1 us an operation each.
"""

from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Final

from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Held, History, covers
from protocols.crdt.messages import (
    DEPTH_MAX,
    FINGERPRINTS_MAX,
    HEADS_MAX,
    LISTED_MAX,
    RANGE_SIZE,
    SHORT_SIZE,
    Compare,
    Confirm,
    Delta,
    Dropped,
    Far,
    Fetch,
    Fingerprints,
    Heads,
    List,
    Listed,
    Push,
    Pushed,
    Request,
    Response,
    Same,
    Settled,
    Since,
    Split,
)
from protocols.crdt.outgoing import Batch, pack
from protocols.crdt.reconciliation import KeyedSets, first_bits, pack_shorts, unpack_ranges, unpack_shorts

NEAR_MAX: Final = 128
"""Operations that are sent although some of them may be there already: they cost about what ranges would."""
PAGE_MAX: Final = 4096
"""Operations looked at for one answer; with 16 bytes each they fill it."""


class Answerer:
    """Answers questions about one history."""

    __slots__ = ("_history", "_sets")

    def __init__(self, history: History, sets: KeyedSets) -> None:
        self._history: Final = history
        self._sets: Final = sets

    def answer(self, question: Request, binding: bytes, device: bytes = b"") -> Response:
        """The answer to any question of ``device`` about the set, on the session with this binding.

        Raises:
            CrdtError: ``wrong_channel`` or ``bad_ranges``.
        """
        history = self._history
        if question.channel != history.channel:
            raise CrdtError("wrong_channel", question.channel.hex()[:16])
        match question:
            case Compare(digest=digest):
                if digest == history.set_digest:
                    return Same()
                return Heads(*latest_heads(history), written_by(history, device))
            case Since():
                return self._since(question, binding)
            case Split(depth=depth, bits=bits):
                ranges = _ranges(question.ranges, depth)
                if depth + bits > DEPTH_MAX or len(ranges) << bits > FINGERPRINTS_MAX:
                    raise CrdtError("bad_ranges", f"{len(ranges)} ranges of depth {depth} in 2**{bits} parts each")
                return Fingerprints(pack_shorts(self._sets.of(binding).fingerprints(depth, bits, ranges)))
            case List(depth=depth):
                return self._list(depth, _ranges(question.ranges, depth), binding)
            case Push() | Settled() | Confirm() | Fetch():
                raise CrdtError("unexpected_question", "the history alone has no answer to that")

    def wanted(self, push: Push, binding: bytes) -> Batch:
        """What a push wants in return.

        Raises:
            CrdtError: ``bad_ranges``.
        """
        if not push.wanted:
            return Batch((), ())
        if len(push.wanted) % SHORT_SIZE:
            raise CrdtError("bad_ranges", f"{len(push.wanted)} bytes of keys")
        keyed = self._sets.of(binding)
        found = [held for each in unpack_shorts(push.wanted) if (held := keyed.find(each)) is not None]
        return pack(self._history, sorted(found, key=_order))

    def pushed(self, push: Push, binding: bytes, *, taken: int, parked: int, refused: int) -> Pushed:
        """The answer to a push of which this became."""
        batch = self.wanted(push, binding)
        return Pushed(taken, parked, refused, batch.units, bool(batch.rest))

    def _since(self, question: Since, binding: bytes) -> Delta | Dropped | Far:
        history = self._history
        held = [each in history for each in question.known]
        mask = sum(1 << index for index, there in enumerate(held) if there)
        packed = mask.to_bytes((len(held) + 7) // 8, "little")
        past = history.past_of((history.channel, *(each for each in question.known if each in history)))
        if history.lets_go_of(past):
            return Dropped(packed, history.floor_heads[:HEADS_MAX])
        lacking = history.after(past)
        if question.until:
            target = history.past_of(each for each in question.until if each in history)
            lacking = (each for each in lacking if covers(target, each))
        page = list(islice(lacking, PAGE_MAX))
        is_exact = all(held) or history.floor_heads  # whoever has compacted is unlike others in most ranges
        if len(page) > NEAR_MAX and not (is_exact or question.forced or question.until):
            bits = first_bits(len(history))
            prints = self._sets.of(binding).fingerprints(0, bits, (0,))
            return Far(packed, len(history), bits, pack_shorts(prints))
        batch = pack(history, page)
        return Delta(packed, batch.units, bool(batch.rest) or len(page) == PAGE_MAX)

    def _list(self, depth: int, ranges: Sequence[int], binding: bytes) -> Listed:
        keyed = self._sets.of(binding)
        keys: list[int] = []
        for done, each in enumerate(ranges):
            if len(keys) + keyed.count(depth, each) > LISTED_MAX:
                return Listed(done, pack_shorts(keys))
            keys += keyed.within(depth, each)
        return Listed(len(ranges), pack_shorts(keys))


def latest_heads(history: History) -> tuple[tuple[bytes, ...], bool]:
    """The heads that came last, sorted, and whether there are more."""
    heads = history.heads
    if len(heads) <= HEADS_MAX:
        return heads, False
    held = sorted((history.operations[each] for each in heads), key=_order)
    return tuple(sorted(each.id for each in held[-HEADS_MAX:])), True


def written_by(history: History, device: bytes) -> int:
    """The last sequence of a device's operations; 0 if there are none."""
    return max((tip.sequence for tip in history.tips(device)), default=0)


def _ranges(data: bytes, depth: int) -> tuple[int, ...]:
    if len(data) % RANGE_SIZE:
        raise CrdtError("bad_ranges", f"{len(data)} bytes of ranges")
    ranges = unpack_ranges(data)
    if any(a >= b for a, b in pairwise(ranges)) or ranges[-1] >> depth:
        raise CrdtError("bad_ranges", f"not ascending, or not ranges of depth {depth}")
    return ranges


def _order(held: Held) -> int:
    return held.order
