"""A history that begins at a frontier: where most operations were, there is nothing.

So it takes in only what has seen the whole frontier. That is what every active member writes from now on; the rest is
of devices that were removed, or equivocated, and could have no effect. It is ``behind_frontier``, and its sender no
liar: where the history is kept, it is held.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from protocols.crdt.bundles import Seal
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Blocks, Fork, Held, History, MissingError, Past, meet
from protocols.crdt.operations import Operation
from protocols.crdt.snapshot import Stretch


class Compacted(History):
    """A history that begins at a frontier."""

    def __init__(self, channel: bytes, lanes: Sequence[Stretch], authors: Sequence[bytes]) -> None:
        super().__init__(channel)
        self.stretches: Final = tuple(lanes)
        self.floor: Final[Past] = tuple(each.last for each in lanes)
        """The frontier, behind which only stubs are."""
        self.stubs = 0
        """How many of the operations are stubs: the first ones."""
        self.is_open = True
        """Whether operations are taken in that have seen less than the frontier: those that were in front of it."""
        self._kept: Final[dict[tuple[int, int], Held]] = {}
        self._first_heads: Final[dict[bytes, Held]] = {}
        self._authors: Final = tuple(authors)
        self._covered: Blocks | None = None

    def keep(self, held: Held, is_head: bool) -> None:
        """Put in a stub or an act, causes before effects."""
        self.operations[held.id] = held
        self.stubs += 1
        self._kept[held.lane, held.sequence] = held
        if held.mark:
            self.authority.append(held)
        if is_head:
            self._first_heads[held.id] = held
            self._heads[held.id] = None

    def author_of(self, lane: int) -> bytes:
        """Of a stretch."""
        return self._authors[self.stretches[lane].author]

    def begin(self) -> None:
        """All stubs are there: begin a lane at the end of each stretch."""
        for number, stretch in enumerate(self.stretches):
            tip = self._kept.get((number, stretch.last))
            if tip is None:
                raise CrdtError("bad_snapshot", f"stretch {number} ends with an operation that is not there")
            author = self.author_of(number)
            self.begin_lane(author, stretch.last, -1).operations.append(tip)
            lanes = self.lanes_of[author]
            if len(lanes) == 2:
                self.forks[author] = Fork(self.lanes[lanes[0]].operations[0], tip)

    def __iter__(self) -> Iterator[Held]:
        """What is held whole in front of the frontier, after the heads of what is behind it."""
        yield from self._first_heads.values()
        yield from islice(self.operations.values(), self.stubs, None)

    def at(self, lane: int, sequence: int) -> Held | None:
        found = super().at(lane, sequence)
        if found is not None:
            return found
        lane = self.lane_with(lane, sequence)
        if lane >= len(self.stretches):
            return None
        while lane >= 0:
            stretch = self.stretches[lane]
            if sequence >= stretch.first:
                return self._kept.get((lane, sequence))
            lane = stretch.parent - 1
        return None

    def place(
        self, operation: Operation, seal: Seal, path: tuple[bytes, ...] | None, after: Held | None = None
    ) -> Held:
        """As ``History.place``.

        Raises:
            CrdtError: ``behind_frontier``, too.
        """
        try:
            held = super().place(operation, seal, path, after)
        except MissingError:
            if operation.previous not in self.operations and operation.sequence <= 1 + self._last(operation.author):
                raise CrdtError("behind_frontier", "what it goes on from is settled, and was dropped") from None
            raise
        if self.is_open or after is not None:
            return held
        previous = self.operations.get(operation.previous)
        if self._last(operation.author) > 0 if previous is None else held.sequence <= self.lanes[previous.lane].first:
            raise CrdtError("behind_frontier", "it contradicts what is settled")
        if held.base is not self._covered:
            past = held.past()
            if len(past) < len(self.floor) or any(a < b for a, b in zip(past, self.floor, strict=False)):
                raise CrdtError("behind_frontier", "its author had not seen all that is settled")
            self._covered = held.base
        return held

    def add(self, held: Held) -> None:
        author = held.operation.author
        if held.lane == len(self.lanes) and author in self.lanes_of and author not in self.forks:
            first = self.lanes[self.lanes_of[author][0]]
            if held.sequence <= first.first:  # It forks from what was dropped; the proof is held.
                self.forks[author] = Fork(first.operations[0], held)
        super().add(held)

    @property
    def floor_heads(self) -> tuple[bytes, ...]:
        return tuple(sorted(self._first_heads))

    def lets_go_of(self, past: Past) -> bool:
        return meet([past, self.floor]) != self.floor

    def dropped(self, operations: Sequence[Operation]) -> int:
        for index in range(len(operations) - 1, -1, -1):
            held = self.operations.get(operations[index].id)
            if held is not None and held.order < self.stubs:
                return index + 1
        return 0

    def _last(self, author: bytes) -> int:
        """The last sequence of an author's behind the frontier."""
        return max((self.floor[lane] for lane in self.lanes_of.get(author, ()) if lane < len(self.floor)), default=-1)
