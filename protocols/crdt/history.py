"""The operations that a replica holds, as the DAG that they are, and what lies in the past of what.

The past of an operation is a vector clock, computed here from verified operations; none ever comes over the wire. An
equivocator would make "author and sequence" ambiguous, so the clock is not by author but by **lane**: a lane is a
stretch of one author's operations in which each is the back-link of the next. An honest author has one lane for ever;
where somebody wrote two operations on one back-link, the second begins a lane of its own. Lanes are numbered in the
order in which this replica met them, and the relation that they give is the same at all replicas.

Whole clocks would be the most expensive thing here: an integer for each lane in each operation that joins others, and
whoever forks again and again makes lanes as fast as it signs. So they are kept in blocks that are shared with what the
operation depends on: a join makes new only what it changes.

Only closed sets are held: what an operation depends on came before it.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from heapq import merge
from itertools import chain
from operator import attrgetter
from typing import Final

from protocols.crdt.bundles import Seal
from protocols.crdt.changes import AUTHORITY, Genesis
from protocols.crdt.errors import CrdtError
from protocols.crdt.operations import NOTHING, Operation

Past = tuple[int, ...]
"""For each lane, the sequence of its last operation that is in the past; 0 for none, and for lanes beyond the end."""

Blocks = tuple[tuple[int, ...], ...]
"""A ``Past`` as operations keep it, in blocks of ``BLOCK`` lanes."""
BLOCK: Final = 32
"""With a hundred lanes that all move, operations then share half of it; with thousands, nearly all."""
_SHIFT: Final = BLOCK.bit_length() - 1
_EMPTY: Final = (0,) * BLOCK
SET_DIGEST_SIZE: Final = 16


class Held:
    """An operation that is held, and where it stands."""

    __slots__ = ("base", "counts", "id", "known", "lane", "mark", "operation", "order", "path", "seal", "sequence")

    def __init__(
        self, operation: Operation, lane: int, base: Blocks, known: int, mark: int, seal: Seal,
        path: tuple[bytes, ...] | None, order: int,
    ) -> None:  # fmt: skip
        self.operation: Final = operation
        self.id: Final = operation.id
        self.sequence: Final = operation.sequence
        self.lane: Final = lane
        self.base: Final = base
        """Its past; for its own lane, ``sequence`` says it better."""
        self.known: Final = known
        """The operations about authority in its past, as a mask of their numbers."""
        self.mark: Final = mark
        """Its own number in such masks, as ``1 << number``; 0 for all other operations."""
        self.seal: Final = seal
        self.path = path
        """Its Merkle path, if it came alone."""
        self.order: Final = order
        """Its place in the order of arrival, in which causes come before effects."""
        self.counts = True
        """Whether it has an effect (``judgement``)."""

    def __repr__(self) -> str:
        return f"<{type(self.operation.change).__name__} {self.sequence} in lane {self.lane}>"

    def sees(self, other: "Held") -> bool:
        """Whether ``other`` is in its past, or is itself."""
        lane = other.lane
        if lane == self.lane:
            return other.sequence <= self.sequence
        base, number = self.base, lane >> _SHIFT
        return number < len(base) and other.sequence <= base[number][lane % BLOCK]

    def knows(self) -> int:
        """``known`` with itself; the same integer where it can be, as such a mask has up to 4096 bits."""
        return self.known | self.mark if self.mark else self.known

    def past(self) -> Past:
        """Its past with itself."""
        return trimmed(tuple(chain.from_iterable(self.blocks())))

    def blocks(self) -> Blocks:
        """Its past with itself, as it is kept."""
        base, (number, place) = self.base, divmod(self.lane, BLOCK)
        block = base[number] if number < len(base) else _EMPTY
        block = (*block[:place], self.sequence, *block[place + 1 :])
        return (*base[:number], *(_EMPTY,) * (number - len(base)), block, *base[number + 1 :])


class Lane:
    """A stretch of one author's chain."""

    __slots__ = ("author", "depth", "first", "jump", "operations", "parent")

    def __init__(self, author: bytes, first: int, parent: int, jump: int, depth: int) -> None:
        self.author: Final = author
        self.first: Final = first
        """Sequence of its first operation."""
        self.parent: Final = parent
        """The lane in which the operation before that is; -1 if there is none."""
        self.jump: Final = jump
        """A lane further back, such that any one is found in logarithmic time (Myers 1983): whoever forks its forks
        would make every reference to something old a long walk. The first lane's is itself."""
        self.depth: Final = depth
        """How many lanes are before it."""
        self.operations: Final[list[Held]] = []


class Fork:
    """Two operations of one author on one back-link."""

    __slots__ = ("first", "second")

    def __init__(self, first: Held, second: Held) -> None:
        self.first: Final = first
        self.second: Final = second


class MissingError(CrdtError):
    """Operations that it depends on are not here yet."""

    def __init__(self, missing: tuple[bytes, ...]) -> None:
        super().__init__("missing_dependencies", f"{len(missing)} operations that it depends on are not here")
        self.missing = missing


class History:
    """A causally closed set of operations of one channel."""

    def __init__(self, channel: bytes) -> None:
        self.channel: Final = channel
        self.operations: Final[dict[bytes, Held]] = {}
        """By id, in order of arrival."""
        self.lanes: Final[list[Lane]] = []
        self.lanes_of: Final[dict[bytes, list[int]]] = {}
        """By author, in order of arrival."""
        self.authority: Final[list[Held]] = []
        """The operations about who may do what, by their number in ``Held.known``."""
        self.forks: Final[dict[bytes, Fork]] = {}
        """By equivocator: the first that was found."""
        self._heads: Final[dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self.operations)

    def __contains__(self, identifier: bytes) -> bool:
        return identifier in self.operations

    def __iter__(self) -> Iterator[Held]:
        """Causes before effects."""
        return iter(self.operations.values())

    @property
    def heads(self) -> tuple[bytes, ...]:
        """The operations that no other depends on, sorted. They determine the whole set, as hashes do."""
        return tuple(sorted(self._heads))

    @property
    def set_digest(self) -> bytes:
        """16 bytes: who has the same holds the same set."""
        return sha256(b"".join(self.heads)).digest()[:SET_DIGEST_SIZE]

    def place(
        self, operation: Operation, seal: Seal, path: tuple[bytes, ...] | None, after: Held | None = None
    ) -> Held:
        """Where an operation would stand; changes nothing.

        Args:
            after: its back-link, if that has been placed only, and not been added yet.

        Raises:
            MissingError: with what has to be fetched first.
            CrdtError: ``bad_sequence``, ``bad_back_link``, ``bad_clock``, ``redundant_dependency`` or ``bad_genesis``.
        """
        held = self.operations
        previous = after or held.get(operation.previous)
        missing = tuple(each for each in operation.dependencies if each not in held)
        if previous is None and operation.previous != NOTHING:
            missing = (operation.previous, *missing)
        if missing:
            raise MissingError(missing)
        dependencies = [held[each] for each in operation.dependencies]
        if previous is None:
            self._check_first(operation)
        else:
            if isinstance(operation.change, Genesis):
                raise CrdtError("bad_genesis", "a genesis comes first")
            if previous.operation.author != operation.author:
                raise CrdtError("bad_back_link", "the back-link is somebody else's operation")
            if operation.sequence != previous.sequence + 1:
                raise CrdtError("bad_sequence", f"{operation.sequence} follows {previous.sequence}")
            dependencies.append(previous)
        clock = operation.clock
        for each in dependencies:
            if each.operation.clock >= clock:
                raise CrdtError("bad_clock", "an operation is later than those that it depends on")
        for each in dependencies:
            if each is not previous and any(other.sees(each) for other in dependencies if other is not each):
                raise CrdtError(
                    "redundant_dependency", "an operation does not name what another that it names has seen"
                )
        if previous is not None and (previous is after or self.lanes[previous.lane].operations[-1] is previous):
            lane = previous.lane
        else:
            lane = len(self.lanes)
        if previous is not None and len(dependencies) == 1 and lane == previous.lane:
            base, known = previous.base, previous.knows()
        else:
            base, known = _join(dependencies)
        mark = 1 << len(self.authority) if isinstance(operation.change, AUTHORITY) else 0
        return Held(operation, lane, base, known, mark, seal, path, len(self.operations))

    def add(self, held: Held) -> None:
        """Take in what ``place`` has just placed."""
        operation, heads = held.operation, self._heads
        heads.pop(operation.previous, None)
        for each in operation.dependencies:
            heads.pop(each, None)
        heads[held.id] = None
        self.operations[held.id] = held
        if held.mark:
            self.authority.append(held)
        if held.lane == len(self.lanes):
            author, previous = operation.author, self.operations.get(operation.previous)
            self.begin_lane(author, held.sequence, -1 if previous is None else previous.lane)
            lanes = self.lanes_of[author]
            if len(lanes) > 1 and author not in self.forks:
                first = self.lanes[lanes[0]]
                self.forks[author] = Fork(first.operations[max(held.sequence - first.first, 0)], held)
        self.lanes[held.lane].operations.append(held)

    def begin_lane(self, author: bytes, first: int, parent: int) -> Lane:
        """The next lane, without operations yet."""
        lanes, number = self.lanes, len(self.lanes)
        if parent < 0:
            lane = Lane(author, first, parent, number, 0)
        else:
            before = lanes[parent]
            middle = lanes[before.jump]
            twice = before.depth - middle.depth == middle.depth - lanes[middle.jump].depth
            lane = Lane(author, first, parent, middle.jump if twice else parent, before.depth + 1)
        lanes.append(lane)
        self.lanes_of.setdefault(author, []).append(number)
        return lane

    def at(self, lane: int, sequence: int) -> Held | None:
        """The operation ``sequence`` of the chain that ``lane`` ends, which may be in one of the lanes before it."""
        if lane < 0:
            return None
        stretch = self.lanes[self.lane_with(lane, sequence)]
        index = sequence - stretch.first
        return stretch.operations[index] if 0 <= index < len(stretch.operations) else None

    def lane_with(self, lane: int, sequence: int) -> int:
        """Where on the way to ``lane`` an operation with this sequence is, if there is one; else the first."""
        lanes = self.lanes
        while sequence < (stretch := lanes[lane]).first and stretch.parent >= 0:
            lane = stretch.jump if lanes[stretch.jump].first > sequence else stretch.parent
        return lane

    def seen_lanes(self, held: Held, author: bytes) -> Iterator[int]:
        """The lanes of an author of which an operation may have seen something. Whoever forks again and again makes
        lanes as fast as it signs, and the past of most operations ends before most of them."""
        end = len(held.base) << _SHIFT
        for lane in self.lanes_of.get(author, ()):
            if lane >= end:
                break
            yield lane
        if held.lane >= end and held.operation.author == author and held.lane < len(self.lanes):
            yield held.lane

    def tips(self, author: bytes) -> list[Held]:
        """Where an author's chain ends: one operation, or none yet, and one for each branch if it equivocates."""
        return [self.lanes[lane].operations[-1] for lane in self.lanes_of.get(author, ())]

    def past_of(self, ids: Iterable[bytes]) -> Past:
        """What lies in the past of these operations, together with them."""
        base, _ = _join([self.operations[each] for each in ids])
        return trimmed(tuple(chain.from_iterable(base)))

    def after(self, past: Past) -> Iterator[Held]:
        """What is not in a past, in order of arrival; costs what is taken of it, and a little for each lane."""
        rests = []
        for number, lane in enumerate(self.lanes):
            start = max(past[number] - lane.first + 1, 0) if number < len(past) else 0
            if start < len(lane.operations):
                rests.append(map(lane.operations.__getitem__, range(start, len(lane.operations))))
        return merge(*rests, key=attrgetter("order"))

    @property
    def floor_heads(self) -> tuple[bytes, ...]:
        """The last operations behind the frontier that this begins at, sorted; none, where all is kept."""
        return ()

    def lets_go_of(self, past: Past) -> bool:
        """Whether what a past lacks was dropped here, in part: never, where all is kept."""
        return False

    def dropped(self, operations: Sequence[Operation]) -> int:
        """How many of the first of a chain were held once, and are behind a frontier: none, where all is kept."""
        return 0

    def _check_first(self, operation: Operation) -> None:
        """An operation without a back-link."""
        if operation.sequence != 1:
            raise CrdtError("bad_sequence", f"an author's first operation has sequence 1, not {operation.sequence}")
        if (operation.id == self.channel) != isinstance(operation.change, Genesis):
            raise CrdtError("bad_genesis", "a channel has one genesis, whose id is the channel's")
        if operation.id == self.channel:
            return
        if not operation.dependencies:
            raise CrdtError("bad_genesis", "every operation but the genesis depends on it")
        if operation.author == self.operations[self.channel].operation.author:
            raise CrdtError("bad_back_link", "the founder's first operation is the genesis, and it has seen that")


def covers(past: Past, held: Held) -> bool:
    """Whether an operation is in a past."""
    lane = held.lane
    return lane < len(past) and held.sequence <= past[lane]


def join(pasts: Sequence[Past]) -> Past:
    """The union of several pasts."""
    joined: Past = ()
    for past in pasts:
        rest = joined[len(past) :] or past[len(joined) :]
        joined = (*(a if a > b else b for a, b in zip(joined, past, strict=False)), *rest)
    return joined


def meet(pasts: Sequence[Past]) -> Past:
    """What is in all of these pasts; there is at least one."""
    return trimmed(tuple(map(min, *pasts)) if len(pasts) > 1 else pasts[0])


def trimmed(past: Past) -> Past:
    """Without zeros at the end: one way to say it."""
    last = len(past)
    while last and not past[last - 1]:
        last -= 1
    return past[:last]


def _join(dependencies: Sequence[Held]) -> tuple[Blocks, int]:
    """What several operations have in their pasts together with themselves, and the authority in it."""
    base: Blocks = ()
    known = 0
    # The newest first: it tends to have seen most of the others, so it is what most is shared with.
    for each in sorted(dependencies, key=attrgetter("order"), reverse=True):
        number, place = each.lane >> _SHIFT, each.lane % BLOCK
        if number < len(base) and each.sequence <= base[number][place]:
            continue
        base = _join_blocks(base, each.blocks())
        knows = each.knows()
        if known | knows != known:
            known = known | knows if known else knows
    return base, known


def _join_blocks(these: Blocks, those: Blocks) -> Blocks:
    joined = [a if a is b else _join_block(a, b) for a, b in zip(these, those, strict=False)]
    return (*joined, *these[len(joined) :], *those[len(joined) :])


def _join_block(this: tuple[int, ...], that: tuple[int, ...]) -> tuple[int, ...]:
    joined = tuple([a if a > b else b for a, b in zip(this, that, strict=True)])
    return this if joined == this else that if joined == that else joined
