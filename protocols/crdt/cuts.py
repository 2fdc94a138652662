"""What is behind a frontier, numbered as no arrival chose, so that all replicas say it in the same bytes.

Lanes, and the numbers of acts, are those in which a replica met them. And which branch of an equivocator goes on in the
lane of what came before depends on which one arrived first. So chains are cut where branches begin, put together again
where only one goes on, and sorted.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from protocols.crdt.authority import bits
from protocols.crdt.cells import rank
from protocols.crdt.compacted import Compacted
from protocols.crdt.history import Held, History, Past, covers, trimmed
from protocols.crdt.snapshot import Stretch


class Piece(NamedTuple):
    """Operations of one lane that follow each other, behind a frontier."""

    lane: int
    first: int
    last: int


class Cut:
    """A history at a past: what is behind it, with lanes and acts numbered as no arrival chose.

    A stretch of a chain ends where several branches go on, whichever of them arrived first. If a stretch has to end
    elsewhere, as somebody's snapshot has it so, ``ends`` says where; if None, branches in front count as well.
    """

    def __init__(self, history: History, past: Past, ends: Collection[bytes] | None) -> None:
        self.history: Final = history
        self.past: Final = past
        self.acts: Final = sorted((held for held in history.authority if covers(past, held)), key=rank)
        self._numbers: Final = {held.mark: number for number, held in enumerate(self.acts)}
        self._masks: Final[dict[int, bytes]] = {}
        found = _stretches(history, past, ends)
        tips = [_held_at(history, pieces[-1].lane, pieces[-1].last) for pieces in found]
        authors = [held.operation.author for held in tips]
        order = sorted(range(len(found)), key=lambda n: (authors[n], found[n][0].first, tips[n].id))
        self.tips: Final = [tips[number] for number in order]
        """By stretch, the last operation."""
        self.authors: Final = tuple(sorted(set(authors)))
        self._stretches: Final = [found[number] for number in order]
        self._of: Final[dict[int, list[tuple[Piece, int]]]] = {}
        """By lane, what is behind the frontier, and in which stretch."""
        for number, pieces in enumerate(self._stretches):
            for piece in pieces:
                self._of.setdefault(piece.lane, []).append((piece, number))

    def lane(self, lane: int, sequence: int) -> int:
        """The stretch in which an operation is."""
        for piece, number in self._of[lane]:
            if piece.first <= sequence <= piece.last:
                return number
        raise LookupError(f"operation {sequence} of lane {lane} is not behind the frontier")

    def stretches(self) -> tuple[Stretch, ...]:
        authors = {author: number for number, author in enumerate(self.authors)}
        rows = []
        for pieces, tip in zip(self._stretches, self.tips, strict=True):
            place = _before(self.history, pieces[0])
            parent = 0 if place is None else 1 + self.lane(*place)
            rows.append(Stretch(authors[tip.operation.author], pieces[0].first, pieces[-1].last, parent))
        return tuple(rows)

    def past_of(self, held: Held) -> Past:
        """The past of an operation, with itself, by stretch."""
        new = [0] * len(self._stretches)
        for lane, sequence in enumerate(held.past()):
            for piece, number in self._of.get(lane, ()):
                if sequence >= piece.first:
                    new[number] = max(new[number], min(sequence, piece.last))
        return trimmed(tuple(new))

    def known(self, held: Held) -> bytes:
        """The acts that it knows, as a mask of their numbers here."""
        mask = self._masks.get(held.known)
        if mask is None:
            new = 0
            for number in bits(held.known):
                new |= 1 << self._numbers[1 << number]
            mask = self._masks[held.known] = new.to_bytes((new.bit_length() + 7) // 8, "little")
        return mask


def _held_at(history: History, lane: int, sequence: int) -> Held:
    held = history.at(lane, sequence)
    assert held is not None, "the ends of stretches are kept"
    return held


def _origin(history: History, lane: int) -> tuple[int, int]:
    """The first sequence of a lane, and the lane that it goes on from, with what was dropped of it."""
    if isinstance(history, Compacted) and lane < len(history.stretches):
        stretch = history.stretches[lane]
        return stretch.first, stretch.parent - 1
    return history.lanes[lane].first, history.lanes[lane].parent


def _before(history: History, piece: Piece) -> tuple[int, int] | None:
    """Lane and sequence of the operation that a piece goes on from."""
    first, parent = _origin(history, piece.lane)
    if piece.first > first:
        return piece.lane, piece.first - 1
    return None if parent < 0 else (parent, piece.first - 1)


def _stretches(history: History, past: Past, ends: Collection[bytes] | None) -> list[list[Piece]]:
    """What is behind a past, cut at all places where branches begin, and put together again where only one goes on."""
    forks: dict[int, dict[int, int]] = {}
    for lane in range(len(history.lanes)):
        first, parent = _origin(history, lane)
        if parent >= 0:
            counts = forks.setdefault(parent, {})
            counts[first - 1] = counts.get(first - 1, 0) + (ends is None or (lane < len(past) and past[lane] >= first))
    stretches: list[list[Piece]] = []
    by_last: dict[tuple[int, int], list[Piece]] = {}
    for piece in sorted(_pieces(history, past, forks, ends or ()), key=lambda each: each.first):
        place = _before(history, piece)
        before = None if place is None else by_last[place]
        if place is not None and before is not None:
            lane, sequence = place
            goes_on = sequence < (history.lanes[lane].operations[-1].sequence if ends is None else past[lane])
            branches = forks.get(lane, {}).get(sequence, 0) + goes_on
            if branches == 1 and (ends is None or _held_at(history, lane, sequence).id not in ends):
                before.append(piece)
                by_last[piece.lane, piece.last] = before
                continue
        by_last[piece.lane, piece.last] = [piece]
        stretches.append(by_last[piece.lane, piece.last])
    return stretches


def _pieces(
    history: History, past: Past, forks: Mapping[int, Mapping[int, int]], ends: Iterable[bytes]
) -> Iterator[Piece]:
    cuts = {lane: dict.fromkeys(counts) for lane, counts in forks.items()}
    for identifier in ends:
        held = history.operations[identifier]
        cuts.setdefault(held.lane, {})[held.sequence] = None
    for lane, last in enumerate(past):
        first, _ = _origin(history, lane)
        if last >= first:
            for cut in sorted(cuts.get(lane, ())):
                if first <= cut < last:
                    yield Piece(lane, first, cut)
                    first = cut + 1
            yield Piece(lane, first, last)
